"""Shares of labels: nested, stratified, seeded, and never without a class."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from whytransfer.errors import InputError
from whytransfer.tasks.labels import part_of, shares_of

STRATA = np.random.default_rng(0).permutation(np.repeat([-1, 0, 1, 2, 7], [30, 200, 100, 40, 3]))


def test_smaller_shares_lie_inside_larger_ones_and_every_class_has_its_own():
    shares = shares_of(STRATA, (1, 5, 10, 50, 100), seed=3)
    for small, large in zip(shares, shares[1:], strict=False):
        assert set(small.rows) < set(large.rows)
    assert shares[-1].rows.tolist() == list(range(len(STRATA)))
    for share in shares:
        assert (np.diff(share.rows) > 0).all()
        for stratum, n in zip(*np.unique(STRATA, return_counts=True), strict=True):
            assert (STRATA[share.rows] == stratum).sum() == max(round(share.percent * n / 100), 1)


def test_a_class_that_would_have_no_image_is_told(capsys):
    (share,) = shares_of(STRATA, (1,), seed=0)
    assert share.raised == 3 and share.provenance()["classes_raised_to_one_image"] == 3  # 30, 40 and 3 images
    said = capsys.readouterr().err
    assert "1 % of the labels: 3 of 5 classes would have no image and get one; 6 of 373 images in all" in said
    assert shares_of(STRATA, (50,), seed=0)[0].raised == 0 and capsys.readouterr().err == ""


def test_the_seed_decides_and_the_name_tells():
    one, same, other = (shares_of(STRATA, (10,), seed)[0] for seed in (1, 1, 2))
    assert (one.rows == same.rows).all() and set(one.rows) != set(other.rows)
    assert one.named("cats") == "cats (10 % of the labels)" and one.provenance()["labels_percent"] == 10
    (all_,) = shares_of(STRATA, (100,), 0)
    assert all_.named("cats") == "cats" and all_.provenance()["labels_percent"] == 100
    (unasked,) = shares_of(STRATA, None, 0)
    assert unasked.provenance() == {} and len(unasked.rows) == len(STRATA)
    vectors = torch.arange(373.0)[:, None]
    assert one.of(vectors).flatten().tolist() == one.rows.tolist() and unasked.of(vectors) is vectors


def test_a_part_that_leaves_one_of_every_class_out():
    held = part_of(np.array([0, 0, 0, 1, 1, 2]), 90, seed=0, but_one=True)
    assert [int(held[:3].sum()), int(held[3:5].sum()), int(held[5])] == [2, 1, 0]


@pytest.mark.parametrize("percent", [0, -1, 101])
def test_an_impossible_share_is_refused(percent):
    with pytest.raises(InputError, match=f"over 0 and at most 100: got {percent}"):
        shares_of(STRATA, (percent,), 0)
