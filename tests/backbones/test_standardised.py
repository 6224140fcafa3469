"""A standardised fusion gives every member the same say: equal variances, features otherwise as they are."""

import pytest
import torch
from torch import nn

from whytransfer.backbones import load_backbone
from whytransfer.backbones.backbone import Backbone
from whytransfer.backbones.dense import split, stages_of
from whytransfer.backbones.dilated import dilated
from whytransfer.backbones.fused import Fused
from whytransfer.backbones.load import members_of
from whytransfer.backbones.standardised import Standardised
from whytransfer.errors import InputError
from whytransfer.records import Features

A, B = "random:resnet18-small:1", "random:resnet18-small:2"


class Toy(Backbone):
    """`width` random projections of the mean colour, times `size`: features of any scale."""

    def __init__(self, width: int, size: float, seed: int):
        super().__init__("toy", width)
        weight = torch.randn(width, 3, generator=torch.Generator().manual_seed(seed)) * size
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.spec = f"toy:{seed}"

    def forward(self, images):
        maps = torch.einsum("dc,bchw->bdhw", self.weight, images)
        return Features(maps.mean((2, 3)), maps, {"layer1": maps, f"own{self.width}": maps})


def images(n=40, side=4):
    return torch.rand(n, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_members_have_equal_variance_and_features_one_on_average():
    members = [Toy(5, 100.0, 1), Toy(20, 0.01, 2)]
    both = Standardised(Fused(members)).measure(images().split(7))
    vectors = both(images()).vector.double()
    one, two = vectors.split([5, 20], dim=1)
    total = [float(part.var(0, correction=0).sum()) for part in (one, two)]
    assert total == pytest.approx([12.5, 12.5], rel=1e-4)
    assert float(vectors.var(0, correction=0).mean()) == pytest.approx(1, rel=1e-4)
    torch.testing.assert_close(vectors.mean(0), torch.zeros(25, dtype=torch.float64), atol=1e-4, rtol=0)
    assert set(both(images()).stages) == {"layer1"}  # what both have
    plain = members[1](images()).vector.double()
    ratio = (two - two.mean(0)) / (plain - plain.mean(0))
    torch.testing.assert_close(ratio, ratio.mean().expand_as(ratio), rtol=1e-3, atol=0)  # one number for the member


def test_maps_and_stages_have_statistics_of_their_own():
    both = Standardised(Fused([Toy(4, 3.0, 1), Toy(4, 0.2, 2)])).measure([images()])
    found = both(images())
    for maps in (found.map, found.stages["layer1"]):
        flat = maps.double().transpose(0, 1).flatten(1)
        totals = [float(part.var(1, correction=0).sum()) for part in flat.split(4)]
        assert totals == pytest.approx([4.0, 4.0], rel=1e-4)


def test_the_string_names_it_and_it_must_be_measured():
    both = load_backbone(f"standardised:{A}+{B}")
    assert isinstance(both, Standardised) and both.width == 1024 and both.spec == f"standardised:{A}+{B}"
    assert members_of(both.spec) == [A, B] and not both.is_measured
    with pytest.raises(InputError, match="needs the statistics of training images"):
        both(torch.rand(2, 3, 32, 32))
    x = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found, plain = both.measure([x])(x), load_backbone(f"{A}+{B}")(x)
    scaling = both.scalings["vector"]
    torch.testing.assert_close(scaling.undone(found.vector), plain.vector, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (f"standardised:{A}", "two backbones or more, got 1"),
        (f"standardised:{A}+", "a part of the sum is empty"),
        (f"standardized:{A}+{B}", "Did you mean 'standardised'"),
    ],
)
def test_refused_strings(spec, message):
    with pytest.raises(InputError, match=message):
        load_backbone(spec)


def test_features_without_spread_or_without_number_are_refused():
    flat, broken = Toy(3, 0.0, 1), Toy(3, 1.0, 2)
    broken.weight[0, 0] = float("nan")
    with pytest.raises(InputError, match=r"toy:1: its features \(vector\) are the same in all 40 images"):
        Standardised(Fused([flat, Toy(3, 1.0, 3)])).measure([images()])
    with pytest.raises(InputError, match="toy:2: features that are not finite"):
        Standardised(Fused([broken, Toy(3, 1.0, 3)])).measure([images()])
    with pytest.raises(InputError, match="need two images, got 0"):
        Standardised(Fused([Toy(3, 1.0, 1), Toy(3, 1.0, 3)])).measure([])


def test_dense_forms_keep_the_statistics():
    """Dilated, and in two parts for c4, it says what the whole says where they look at the same places."""
    x = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    both = load_backbone("standardised:random:resnet18:1+random:resnet18:2").measure([x])
    with torch.inference_mode():
        whole, fine = both(x), dilated(both, 16)(x)
        torch.testing.assert_close(fine.map[:, :, ::2, ::2], whole.map, rtol=1e-3, atol=1e-3)
        body, last = split(both)
        torch.testing.assert_close(body(x).stages["layer3"], whole.stages["layer3"])
        torch.testing.assert_close(last(body(x).stages["layer3"]), whole.map, rtol=1e-3, atol=1e-3)
    assert stages_of(both, ["layer3"])["layer3"].channels == 512
