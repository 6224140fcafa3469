"""The bank says what `extract` says, for members, fusions and parts of a set, and computes each thing once."""

import pytest
import torch

from whytransfer.backbones import load_backbone
from whytransfer.backbones.fused import Fused
from whytransfer.backbones.standardised import Standardised
from whytransfer.images import open_images, subset
from whytransfer.images.cache import PixelCache
from whytransfer.tasks.feature_bank import FeatureBank
from whytransfer.tasks.features import extract
from whytransfer.tasks.readout import Readout
from whytransfer.tasks.standardising import standardise

A, B = "random:resnet18-small:1", "random:resnet18:2"


@pytest.fixture(scope="module")
def cache():
    return PixelCache.open(open_images("scenes:30:0:24"), 48)


def test_fusions_and_parts_are_as_extracted(cache):
    one, two = load_backbone(A), load_backbone(B)
    both = Fused([one, two]).eval()
    bank, seen = FeatureBank(), []
    count = lambda done, total: seen.append(done)  # noqa: E731
    found = bank(both, cache, 24, 16, "vector", None, count)
    expected = extract(both, cache, 24, 16)
    torch.testing.assert_close(found.vectors, expected.vectors, rtol=1e-5, atol=1e-6)
    assert found.weights_sha256 == expected.weights_sha256 and torch.equal(found.labels, expected.labels)
    work = len(seen)
    part = subset(cache, [7, 3, 29])
    rows = bank(two, part, 24, 16, "vector", None, count)
    torch.testing.assert_close(rows.vectors, expected.vectors[[7, 3, 29]][:, 512:], rtol=1e-5, atol=1e-6)
    assert torch.equal(rows.labels, expected.labels[[7, 3, 29]])
    assert len(seen) == work  # nothing was computed for the part
    torch.testing.assert_close(bank(one, cache, 32, 16).vectors, extract(one, cache, 32, 16).vectors)  # another size


def test_a_standardised_fusion_is_as_extracted(cache):
    both = Standardised(Fused([load_backbone(A), load_backbone(B)])).eval()
    told = standardise(both, cache, 24, 16)
    assert told == {"fusion": {"standardised_on": "scenes:30:0:24", "images": 30, "size_px": 24}}
    assert standardise(load_backbone(A), cache, 24) == {}
    found, expected = FeatureBank()(both, cache, 24, 16), extract(both, cache, 24, 16)
    torch.testing.assert_close(found.vectors, expected.vectors, rtol=1e-4, atol=1e-5)
    assert found.weights_sha256 == expected.weights_sha256
    annotated = Standardised(both.fused).eval()
    standardise(annotated, open_images("scenes:30:0:24"), 24, 16)  # an image set gives the same statistics
    torch.testing.assert_close(annotated(torch.ones(1, 3, 24, 24)).vector, both(torch.ones(1, 3, 24, 24)).vector)


def test_a_linear_readout_says_the_same_of_both_fusions(cache):
    """It standardises every feature itself; a readout with the bank equals one without."""
    members = [load_backbone(A), load_backbone(B)]
    plain, scaled = Fused(members).eval(), Standardised(Fused(members)).eval()
    standardise(scaled, cache, 24)
    bank = FeatureBank()
    values = [
        [r.value for r in Readout(cache, cache, 24, taken_by=take).run(model)]
        for model, take in ((plain, extract), (plain, bank), (scaled, bank))
    ]
    assert values[0] == values[1] == values[2]
