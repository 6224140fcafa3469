"""Label maps of classes: the sample's own, or painted from its objects."""

import numpy as np
import pytest
import torch

from whytransfer.errors import InputError
from whytransfer.images import open_images
from whytransfer.images.cache import PixelCache
from whytransfer.images.targets import pixel_classes
from whytransfer.masks import RegionStore, making, open_engine
from whytransfer.masks.semantic import Semantic, painted
from whytransfer.records import Sample


def sample(**fields):
    return Sample(image=torch.zeros(3, 5, 7, dtype=torch.uint8), name="a/b.jpg", **fields)


def test_a_pixel_has_the_class_of_the_smallest_object_there():
    rng = np.random.default_rng(0)
    for count in (0, 1, 6):
        masks, labels = rng.random((count, 5, 7)) < 0.4, rng.integers(0, 20, count)
        made = painted(masks, labels)
        for y in range(5):
            for x in range(7):
                there = [(masks[k].sum(), k) for k in range(count) if masks[k, y, x]]
                smallest = min((area for area, _ in there), default=None)
                expected = {int(labels[k]) + 1 for area, k in there if area == smallest} or {0}
                assert int(made[y, x]) in expected


def test_a_label_map_of_the_sample_stays_as_it_is():
    semantic = torch.tensor(np.random.default_rng(0).choice([0, 3, 254, 255], (5, 7)).astype(np.uint8))
    made = Semantic()(sample(semantic=semantic, masks=torch.ones(1, 5, 7, dtype=torch.bool)))
    assert np.array_equal(made.maps, semantic.numpy()) and made.labels is None


def test_what_has_no_classes_is_refused():
    with pytest.raises(InputError, match="a/b.jpg has no label map and no masks with classes.*scenes:COUNT"):
        Semantic()(sample(masks=torch.ones(1, 5, 7, dtype=torch.bool)))
    with pytest.raises(InputError, match="class 254: a label map holds 254 classes and the background"):
        painted(np.ones((1, 2, 2), bool), np.array([254]))
    with pytest.raises(InputError, match="semantic:5: this engine has no settings"):
        open_engine("semantic:5")


def test_of_scenes_it_is_in_the_store_at_the_size_of_the_pictures(tmp_path):
    images = open_images("scenes:5:0:32")
    pixels = PixelCache.open(images, max_side_px=16)
    recipe = making.full_recipe(open_engine("semantic"), images)
    assert recipe == f"semantic own content={images.fingerprint()}"
    store = RegionStore.create(tmp_path / "store", recipe, "semantic")
    making.make(images, open_engine("semantic"), store)
    regions = RegionStore.open(tmp_path / "store").for_pixels(pixels)
    for i in range(5):
        s = images[i]
        full = painted(s.masks.numpy(), s.box_labels.numpy())
        assert torch.equal(regions.regions(i), torch.from_numpy(full[1::2, 1::2]))  # nearest pixel centres
        seen = set(np.unique(full)) - {0}
        assert seen <= {int(k) + 1 for k in s.box_labels} and pixel_classes(pixels)[0] == "background"
        assert {pixel_classes(pixels)[k] for k in seen} <= set(images.box_classes)
