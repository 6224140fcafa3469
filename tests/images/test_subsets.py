"""Parts of a set: the same images, the same split for the same seed, every class in both parts."""

import numpy as np
import pytest

from whytransfer.errors import InputError
from whytransfer.images import Folder, holdout, subset
from whytransfer.images.cache import PixelCache
from whytransfer.images.content import Encoded
from whytransfer.records import ImageSet


def test_a_subset_is_an_image_set_of_these_images(photos):
    images = Folder(photos)
    part = subset(images, [9, 0])
    assert isinstance(part, ImageSet) and isinstance(part, Encoded) and len(part) == 2
    assert part.labels.tolist() == [2, 0] and part.classes == images.classes
    assert part[0].name == images[9].name and part.encoded(1) == images.encoded(0)


def test_its_cache_holds_these_images_only(photos, tmp_path):
    images = Folder(photos)
    cache = PixelCache.open(subset(images, [9, 0]), None, tmp_path / "cache")
    assert len(cache) == 2 and np.array_equal(cache.pixels(0), images[9].image.permute(1, 2, 0).numpy())
    assert cache.fingerprint == subset(images, [9, 0]).fingerprint() != subset(images, [0, 9]).fingerprint()


def test_a_holdout_splits_every_class_and_loses_nothing(photos):
    images = Folder(photos)
    rest, held = holdout(images, 0.25, seed=3)
    assert np.bincount(rest.labels).tolist() == [3, 3, 3] and np.bincount(held.labels).tolist() == [1, 1, 1]
    assert sorted([*rest.names, *held.names]) == sorted(images.names)


def test_a_holdout_is_a_function_of_its_seed(photos):
    def names(seed):
        return list(holdout(Folder(photos), 0.5, seed)[1].names)

    assert names(0) == names(0) and len({tuple(names(seed)) for seed in range(6)}) > 1


def test_a_holdout_of_unlabelled_images_and_of_a_cache(photos, tmp_path):
    rest, held = holdout(Folder(photos / "cat"), 0.5, seed=0)
    assert len(rest) == len(held) == 2
    cache = PixelCache.open(Folder(photos), None, tmp_path / "cache")
    parts = [holdout(source, 0.25, seed=3)[1] for source in (cache, Folder(photos))]
    assert np.array_equal(parts[0].pixels(1), parts[1][1].image.permute(1, 2, 0).numpy())


def test_a_class_of_one_image_stays_in_training(photos):
    images = subset(Folder(photos), [0, 4, 5, 6])
    rest, held = holdout(images, 0.9, seed=0)
    assert np.bincount(rest.labels).tolist() == [1, 1] and held.labels.tolist() == [1, 1]
    with pytest.raises(InputError, match="none of 2 images can be put aside: photos has no class of two"):
        holdout(subset(images, [0, 1]), 0.5, seed=0)
