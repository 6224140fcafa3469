"""COCO: boxes and masks as pycocotools reads them, one pass over the file, refusals that name the record."""

import json
import sys
import tracemalloc

import numpy as np
import pytest
import torch
from miniatures import SIZE, coco, coco_json
from torchvision import tv_tensors

from whytransfer.errors import InputError
from whytransfer.images import open_images
from whytransfer.images.published.instances import Instances
from whytransfer.images.published.jsonlists import elements


def opened(root, content=None, **changes):
    """The miniature; `changes` are made to the first annotation."""
    content = content or coco_json()
    content["annotations"][0].update(changes)
    return open_images(f"coco:{coco(root, content=content)}")


def reference_of(path):
    pycocotools = pytest.importorskip("pycocotools.coco")
    return pycocotools.COCO(path)


def assert_as_pycocotools(images, reference, indices):
    names = {info["file_name"]: number for number, info in reference.imgs.items()}
    categories = sorted(reference.cats)
    assert list(images.box_classes) == [reference.cats[c]["name"] for c in categories]
    for i in indices:
        sample = images[i]
        theirs = [a for a in reference.imgToAnns[names[sample.name]] if not a["iscrowd"]]
        boxes = np.array([a["bbox"] for a in theirs]).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        assert np.array_equal(sample.boxes, boxes.astype(np.float32))
        assert [categories[label] for label in sample.box_labels] == [a["category_id"] for a in theirs]
        assert sample.masks.shape == (len(theirs), *sample.image.shape[1:])
        for mask, annotation in zip(sample.masks, theirs, strict=True):
            assert np.array_equal(mask, reference.annToMask(annotation).astype(bool))


@pytest.mark.parametrize("inside", ["", "images"])
def test_boxes_and_masks_are_those_of_pycocotools(tmp_path, inside):
    root = coco(tmp_path, inside)
    images = open_images(f"coco:{root}")
    assert_as_pycocotools(images, reference_of(str(root / "annotations/instances_train2017.json")), range(3))
    sample = images[2]
    assert isinstance(sample.boxes, tv_tensors.BoundingBoxes) and sample.boxes.canvas_size == SIZE
    assert isinstance(sample.masks, tv_tensors.Mask) and sample.masks.dtype == torch.bool
    assert images.box_classes == ("person", "dög", "toothbrush") and images.semantic_classes == ()
    assert list(images.names) == ["000000000005.jpg", "000000000007.jpg", "000000000009.jpg"]
    assert images.notes == ("1 crowds left out: they are no single objects",)


def test_boxes_without_masks_read_no_mask(tmp_path):
    known = opened(tmp_path).annotations.read(2, ("boxes",))
    assert known.masks is None and known.boxes.tolist() == [[1, 1, 5, 4], [2, 0, 4, 6]] and known.size == SIZE


def test_an_image_without_objects_has_none(tmp_path):
    sample = opened(tmp_path)[0]
    assert sample.boxes.shape == (0, 4) and sample.box_labels.shape == (0,) and sample.masks.shape == (0, *SIZE)


def test_a_file_of_boxes_alone_gives_boxes(tmp_path):
    content = coco_json()
    for annotation in content["annotations"]:
        annotation.pop("segmentation")
    images = opened(tmp_path, content)
    assert images.labelled_with == ("boxes",) and images[2].masks is None and images[2].boxes.shape == (2, 4)


@pytest.mark.parametrize("order", [("annotations", "images", "categories"), ("categories", "annotations", "images")])
@pytest.mark.parametrize("indent", [None, 3])
def test_keys_may_come_in_any_order_and_spacing(tmp_path, order, indent):
    plain = opened(tmp_path / "a")
    content = coco_json()
    text = json.dumps({**{key: content[key] for key in order}, "info": {"x": [1, {"y": 2}]}}, indent=indent)
    images = open_images(f"coco:{coco(tmp_path / 'b', content=text)}")
    for i in range(3):
        assert all(np.array_equal(a, b) for a, b in zip(arrays(plain[i]), arrays(images[i]), strict=True))
    assert images.box_classes == plain.box_classes


def arrays(sample):
    return sample.boxes, sample.box_labels, sample.masks


def test_elements_longer_than_a_window_and_every_kind_of_value(tmp_path):
    path = tmp_path / "x.json"
    content = {
        "long": [{"polygon": list(range(k * 997))} for k in range(4)],
        "n": 12345,
        "s": 'é\u4e00\\"',
        "none": None,
        "empty": [],
        "numbers": list(range(3000)),
        "deep": {"a": [1, [2]]},
    }
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    found: dict = {key: [] for key in content}
    for key, begin, end, value in elements(path):
        assert json.loads(path.read_bytes()[begin:end]) == value
        found[key].append(value)
    assert found == {k: v if isinstance(v, list) else [v] for k, v in content.items()}


@pytest.mark.parametrize(
    "text",
    ["", "[1]", '{"a": [1, 2', '{"a": [1 2]}', '{"a" 1}', '{"a": [}', "x", '{"a": [1], }', "{1: 2}", "[" * 99999],
)
def test_a_file_that_is_no_whole_json_is_named_with_the_byte(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(
        InputError, match=f"{path} is (empty|no whole JSON file of lists: expected .* at byte [0-9,]+ of)"
    ):
        list(elements(path))


def test_deep_nesting_is_an_error_and_no_crash(tmp_path):
    path = tmp_path / "x.json"
    path.write_text('{"a": ' + "[" * 200_000)
    with pytest.raises(InputError, match="no whole JSON file"):
        list(elements(path))


def test_every_cut_of_the_file_is_refused(tmp_path):
    whole = json.dumps(coco_json())
    for cut in range(0, len(whole) - 1, 149):
        with pytest.raises(InputError, match="is empty|no whole JSON|has no .*: not an instances file"):
            open_images(f"coco:{coco(tmp_path, content=whole[:cut] or ' ')}")


BAD = {  # changes of the first annotation -> what is said
    "no class": ({"category_id": 4}, "annotation at byte .* is of category 4, which categories does not list"),
    "no image": ({"image_id": 4}, "annotation at byte .* is of image 4, which images does not list"),
    "image name": ({"image_id": "9"}, "an element of annotations has no whole number image_id: {'id': 31"),
    "short box": ({"bbox": [1, 2, 3]}, r"annotation 31 has the bbox \[1, 2, 3\], not \[x, y, w, h\]"),
    "inside out": ({"bbox": [1, 2, -3, 1]}, "annotation 31 has the bbox"),
    "NaN": ({"bbox": [1, 2, float("nan"), 1]}, "annotation 31 has the bbox"),
    "no box": ({"bbox": None}, "annotation 31 has the bbox None"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_wrong_record_is_named_when_the_set_is_opened(tmp_path, case):
    with pytest.raises(InputError, match=f"instances_train2017.json: .*{BAD[case][1]}"):
        opened(tmp_path, **BAD[case][0])


SEGMENTATIONS = {
    "pairs": ([[1, 1, 2, 2, 3]], "a polygon is no list of three or more pairs"),
    "a box": ([[1, 1, 2, 2]], "a polygon is no list of three or more pairs"),
    "far": ([[0, 0, 5, 5, 1e9, 1]], "a polygon leaves the image by far"),
    "text": ([["a"] * 6], "a polygon leaves the image by far"),
    "size": ({"size": [8, 6], "counts": "<<h0"}, r"it is of size \[8, 6\], the image of \[6, 8\]"),
    "short": ({"size": [6, 8], "counts": "<<"}, r"its runs \[12, 12\] are not the 48 pixels of the image"),
    "cut": ({"size": [6, 8], "counts": "<<h"}, "are not the 48 pixels of"),
    "long": ({"size": [6, 8], "counts": "<<h0<<h0<<h0"}, "cannot be read"),
    "list": ({"size": [6, 8], "counts": [0, 12]}, r"its runs \[0, 12\] are not the 48 pixels"),
    "negative": ({"size": [6, 8], "counts": [-5, 53]}, "cannot be read"),
    "no counts": ({"size": [6, 8]}, "cannot be read"),
    "number": (3, "cannot be read"),
    "unicode": ({"size": [6, 8], "counts": "é"}, "cannot be read"),
}


@pytest.mark.parametrize("case", SEGMENTATIONS)
def test_a_wrong_segmentation_is_named_when_it_is_read(tmp_path, case):
    segmentation, message = SEGMENTATIONS[case]
    images = opened(tmp_path, segmentation=segmentation)
    with pytest.raises(
        InputError, match=f"instances_train2017.json: annotation 31 has a segmentation that .*{message}"
    ):
        images[2]
    assert images.annotations.read(2, ("boxes",)).boxes.shape == (2, 4)


def test_what_is_missing_is_named(tmp_path):
    content = coco_json()
    del content["categories"]
    with pytest.raises(InputError, match="instances_train2017.json has no categories: not an instances file of COCO"):
        opened(tmp_path / "a", content)
    content = coco_json()
    content["images"].append({"id": 1, "file_name": "000000000001.jpg", "height": 6, "width": 8})
    with pytest.raises(
        InputError, match="1 of 4 images of instances_train2017.json are missing in .*train2017, first 0000"
    ):
        opened(tmp_path / "b", content)
    content["images"][-1]["file_name"] = "../../etc/passwd"
    with pytest.raises(InputError, match="image 1 has the file_name '../../etc/passwd', no name of a file"):
        opened(tmp_path / "c", content)
    content["images"][-1] = {"id": 1, "file_name": "000000000005.jpg"}
    with pytest.raises(InputError, match="an element of images has no whole number height"):
        opened(tmp_path / "d", content)


def test_a_file_that_changes_under_us_is_noticed(tmp_path):
    images = opened(tmp_path)
    images.annotations.path.write_bytes(b" " * 5000)
    with pytest.raises(InputError, match="has changed since it was opened"):
        images[2]


def test_masks_without_pycocotools_name_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    images = opened(tmp_path)
    with pytest.raises(InputError, match=r"masks of COCO need pycocotools: pip install 'whytransfer\[masks\]'"):
        images[2]
    assert images.annotations.read(2, ("boxes",)).boxes.shape == (2, 4)


def test_memory_does_not_grow_with_the_objects_of_the_file(tmp_path):
    content = coco_json()
    one = content["annotations"][0] | {"segmentation": [[float(x) / 7 for x in range(40)]] * 3}
    content["annotations"] = [{**one, "id": k, "bbox": [0.5, 0.5, 4.25, 3.125]} for k in range(1200)]
    path = coco(tmp_path, content=content) / "annotations" / "instances_train2017.json"
    assert path.stat().st_size > 2e6
    tracemalloc.start()
    instances = Instances.open(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e5 and instances.nbytes < 1200 * 12 + 200


@pytest.mark.parametrize("split", ["train2017", "val2017"])
def test_real_coco(real_data, split):
    images = open_images(f"coco:{real_data / 'coco128'}:{split}")
    assert len(images) == 100 and len(images.box_classes) == 80 and images.labelled_with == ("boxes", "masks")
    reference = reference_of(str(real_data / "coco128" / "annotations" / f"instances_{split}.json"))
    assert_as_pycocotools(images, reference, range(0, 100, 12))
    assert "28 images of" in images.notes[0] and "crowds left out" in images.notes[1]


def test_real_polygons(real_data):
    """The 100 images of val2014 with COCO's own polygons; their pictures are not at hand, so masks alone are read."""
    path = real_data / "coco_eval_fixtures" / "cocoapi" / "instances_val2014_100.json"
    instances, reference = Instances.open(path), reference_of(str(path))
    ids = {info["file_name"]: number for number, info in reference.imgs.items()}
    for i in range(0, len(instances.names), 9):
        theirs = [a for a in reference.imgToAnns[ids[instances.names[i]]] if not a["iscrowd"]]
        known = instances.read(i)
        assert len(theirs) == len(known.masks)
        assert all(np.array_equal(m, reference.annToMask(a)) for m, a in zip(known.masks, theirs, strict=True))
