"""Boxes of a whole set in one table, at the pictures' size; what a set is labelled with, asked and refused."""

import json

import numpy as np
import pytest
import torch
from miniatures import ALL, camvid, cityscapes, coco, coco_json, voc

from whytransfer.errors import InputError
from whytransfer.images import open_images, subset
from whytransfer.images.cache import PixelCache
from whytransfer.images.targets import BoxTable, box_classes, pixel_classes, require_targets


def same_as_samples(cache, images, rows=None):
    """Every box of the table is the sample's, scaled to the picture."""
    table, total = BoxTable.read(cache), 0
    assert len(table) == len(cache) and table.classes == images.box_classes
    for i, row in enumerate(range(len(images)) if rows is None else rows):
        sample, made = images[row], table.boxes(i)
        height, width = cache.pixels(i).shape[:2]
        assert cache.size(i) == (height, width) and made.dtype == torch.float32
        sides = torch.tensor([width / sample.image.shape[2], height / sample.image.shape[1]] * 2)
        torch.testing.assert_close(made[:, :4], sample.boxes.as_subclass(torch.Tensor) * sides)
        assert torch.equal(made[:, 4].long(), sample.box_labels)
        total += len(made)
    assert table.nbytes == 24 * total + 8 * len(cache)
    return total


@pytest.mark.parametrize("side", [None, 20])
def test_of_scenes_and_of_parts_of_them(side):
    images = open_images("scenes:9:3:40")
    cache, rows = PixelCache.open(images, max_side_px=side), np.array([7, 2, 2])
    assert same_as_samples(cache, images) > 9
    same_as_samples(cache.subset(rows), images, rows)
    same_as_samples(PixelCache.open(subset(images, rows), max_side_px=side), images, rows)


@pytest.mark.parametrize(("maker", "spec"), [(coco, "coco:"), (voc, "voc:"), (cityscapes, "cityscapes:")])
def test_of_published_sets_without_decoding(maker, spec, tmp_path, monkeypatch):
    images = open_images(f"{spec}{maker(tmp_path)}")
    cache = PixelCache.open(images, max_side_px=4)
    assert same_as_samples(cache, images) > 1
    monkeypatch.setattr(type(images), "__getitem__", lambda *_: pytest.fail("an image was decoded"))
    BoxTable.read(cache)


def test_unreadable_images_are_passed_over(tmp_path):
    root = coco(tmp_path)
    (root / "train2017" / f"{5:012d}.jpg").write_bytes(b"no picture")
    images = open_images(f"coco:{root}")
    cache = PixelCache.open(images, skip_unreadable=True)
    assert cache.positions.tolist() == [1, 2]
    same_as_samples(cache, images, [1, 2])


def test_a_damaged_record_is_named(tmp_path):
    root = voc(tmp_path)
    images = open_images(f"voc:{root}")
    cache = PixelCache.open(images)
    path = root / "VOCdevkit/VOC2012/Annotations/2008_000002.xml"
    path.write_text(path.read_text().replace("<xmin>2</xmin>", "<xmin>two</xmin>"))
    with pytest.raises(InputError, match=f"{path}: object 1 lacks a number"):
        BoxTable.read(cache)


def test_boxes_of_another_release_are_refused(tmp_path):
    content = coco_json()
    for image in content["images"]:
        image["width"] = 16
    cache = PixelCache.open(open_images(f"coco:{coco(tmp_path, content=content)}"))
    with pytest.raises(InputError, match="boxes of image 0 are for 16 x 6 px, .* its 8 x 6 px.*the same release"):
        BoxTable.read(cache)


def test_a_set_with_no_box_in_it_is_refused(tmp_path):
    content = json.loads(json.dumps(coco_json()))
    content["annotations"] = content["annotations"][3:4]  # a crowd
    cache = PixelCache.open(open_images(f"coco:{coco(tmp_path, content=content)}"))
    with pytest.raises(InputError, match="none of its 3 images has a box"):
        BoxTable.read(cache)


def test_classes_of_boxes_and_pixels(tmp_path):
    images = open_images(f"camvid:{camvid(tmp_path / 'camvid')}")
    assert pixel_classes(images) == images.semantic_classes and len(pixel_classes(images)) == 11
    assert box_classes(images) == ()
    images = open_images(f"coco:{coco(tmp_path / 'coco')}")
    assert pixel_classes(PixelCache.open(images)) == ("background", *images.box_classes)
    images = open_images(f"voc:{voc(tmp_path / 'voc')}:segmentation-train")
    assert pixel_classes(images) == ("background", *box_classes(images))
    images = open_images(f"voc:{tmp_path / 'voc'}")
    assert pixel_classes(images) == () and len(box_classes(subset(images, [1]))) == 20


@pytest.mark.parametrize("kind", ALL)
def test_what_is_asked_of_each_kind_of_set(kind, tmp_path):
    maker, labelled = ALL[kind]
    images = open_images(f"{kind}:{maker(tmp_path)}")
    for need, words, enough in (
        ("boxes", "boxes", {"boxes"}),
        ("semantic", "label maps or masks", {"masks", "semantic"}),
    ):
        if enough & set(labelled):
            require_targets(images, need, "--method x")
        else:
            found = " and ".join(labelled)
            with pytest.raises(InputError, match=f"--method x needs {words}, and .* is labelled with {found}: choose"):
                require_targets(images, need, "--method x")


def test_an_unlabelled_folder_is_refused(photos):
    images = open_images(str(photos / "cat"))
    with pytest.raises(InputError, match="a table of boxes needs boxes, and .* is not labelled: .*docs/images.md"):
        BoxTable.read(PixelCache.open(images))


@pytest.mark.parametrize("spec", ["coco:{}/coco128:val2017", "voc:{}/voc100:trainval"])
def test_of_real_sets(real_data, spec):
    images = open_images(spec.format(real_data))
    part = subset(images, range(0, len(images), 8))
    cache = PixelCache.open(part, max_side_px=64)
    assert same_as_samples(cache, images, range(0, len(images), 8)) > len(cache)
