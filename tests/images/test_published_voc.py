"""PASCAL VOC: boxes as torchvision's XML gives them, masks from the two kinds of PNG, XML that cannot do harm."""

import json

import numpy as np
import pytest
import torch
from miniatures import SIZE, VOC_SEGMENTED, label_map, voc, write
from PIL import Image
from torchvision import datasets, tv_tensors

from whytransfer.errors import InputError
from whytransfer.images import open_images
from whytransfer.images.published.voc import CLASSES
from whytransfer.images.published.xml import parse
from whytransfer.tasks.detection_data import AnnotatedImages


def as_list(value):
    return value if isinstance(value, list) else [value]


@pytest.mark.parametrize("split", ["train", "val"])
def test_boxes_are_those_of_torchvision_in_pixel_edges(tmp_path, split):
    images = open_images(f"voc:{voc(tmp_path)}:2012:{split}")
    reference = datasets.VOCDetection(str(tmp_path), "2012", split)
    assert len(images) == len(reference) and images.name == f"voc2012/{split}"
    for i in range(len(images)):
        pixels, target = reference[i]
        sample, objects = images[i], as_list(target["annotation"]["object"])
        assert np.array_equal(sample.image.permute(1, 2, 0), np.asarray(pixels.convert("RGB")))
        assert [images.box_classes[label] for label in sample.box_labels] == [o["name"] for o in objects]
        theirs = [[float(o["bndbox"][side]) for side in ("xmin", "ymin", "xmax", "ymax")] for o in objects]
        assert np.allclose(sample.boxes, np.array(theirs) - [1, 1, 0, 0])
        assert sample.masks is None and sample.semantic is None


def test_difficult_objects_are_in_and_parts_of_persons_are_not(tmp_path):
    sample = open_images(f"voc:{voc(tmp_path)}")[1]
    assert sample.boxes.tolist() == [[1, 1, 3, 3]] + [[pytest.approx(3.6), 2, 8, 6]] * 2
    assert isinstance(sample.boxes, tv_tensors.BoundingBoxes) and sample.boxes.canvas_size == SIZE
    assert [CLASSES[label] for label in sample.box_labels] == ["aeroplane", "person", "person"]
    assert sample.box_labels.dtype == torch.int64 and sample.boxes.dtype == torch.float32


def test_years_are_joined_for_their_boxes(tmp_path):
    """VOC07+12 trainval: the images of both years in order, each with the boxes of its own file, as large as both."""
    voc(tmp_path, "2007")
    voc(tmp_path, "2012")
    xml = tmp_path / "VOCdevkit" / "VOC2012" / "Annotations" / "2007_000032.xml"
    xml.write_text(xml.read_text().replace("<xmin>2</xmin>", "<xmin>3</xmin>"))
    both = open_images(f"voc:{tmp_path}:2007+2012:train")
    years = [open_images(f"voc:{tmp_path}:{year}:train") for year in ("2007", "2012")]
    assert both.name == "voc2007+voc2012/train" and len(both) == sum(map(len, years)) > len(years[0]) > 0
    apart = [sample for year in years for sample in (year[i] for i in range(len(year)))]
    for i, theirs in enumerate(apart):
        ours = both[i]
        assert np.array_equal(ours.image, theirs.image) and ours.boxes.tolist() == theirs.boxes.tolist()
        assert ours.box_labels.tolist() == theirs.box_labels.tolist()
    assert [s.boxes.tolist() for s in apart[: len(years[0])]] != [s.boxes.tolist() for s in apart[len(years[0]) :]]
    difficult = [x for year in years for i in range(len(year)) for x in year.annotations.difficult(i).tolist()]
    assert [x for i in range(len(both)) for x in both.annotations.difficult(i).tolist()] == difficult
    before = both.fingerprint()
    xml.write_text(xml.read_text().replace("<xmin>3</xmin>", "<xmin>4</xmin>"))
    assert open_images(f"voc:{tmp_path}:2007+2012:train").fingerprint() != before
    assert len(AnnotatedImages(both, both.box_classes, False, "a test").survey().objects) == len(both)
    with pytest.raises(InputError, match="names a year twice"):
        open_images(f"voc:{tmp_path}:2007+2007:train")
    with pytest.raises(InputError, match="several years are joined for their boxes only; name one year"):
        open_images(f"voc:{tmp_path}:2007+2012:segmentation-train")
    with pytest.raises(InputError, match="unknown VOC year '2011'"):
        open_images(f"voc:{tmp_path}:2007+2011:train")


def test_segmentation_gives_map_masks_and_boxes_around_them(tmp_path):
    images = open_images(f"voc:{voc(tmp_path)}:2012:segmentation-train")
    sample = images[0]
    reference = datasets.VOCSegmentation(str(tmp_path), "2012", "train")
    assert np.array_equal(sample.semantic, np.asarray(reference[0][1])) and len(images) == len(reference)
    assert [CLASSES[label] for label in sample.box_labels] == ["aeroplane", "person"]
    assert np.array_equal(sample.masks[0], VOC_SEGMENTED == 1) and np.array_equal(sample.masks[1], VOC_SEGMENTED == 2)
    assert sample.boxes.tolist() == [[1, 1, 3, 3], [4, 2, 8, 6]] and set(np.unique(sample.semantic)) == {0, 1, 15, 255}
    assert images.semantic_classes == ("background", *CLASSES) and images.labelled_with == (
        "boxes",
        "masks",
        "semantic",
    )


@pytest.mark.parametrize("inner", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_root_may_be_any_of_the_three_folders(tmp_path, inner):
    voc(tmp_path)
    assert len(open_images(f"voc:{tmp_path / inner}")) == 2
    for spec in ("val", ":val", "2012:val"):
        assert open_images(f"voc:{tmp_path / inner}:{spec}").name == "voc2012/val"


def test_years_and_splits(tmp_path):
    voc(voc(tmp_path), "2007")
    with pytest.raises(InputError, match="VOCdevkit holds the years 2007, 2012: choose one, voc:.*:2012"):
        open_images(f"voc:{tmp_path}")
    assert open_images(f"voc:{tmp_path}:2007").name == "voc2007/train"
    with pytest.raises(InputError, match="unknown VOC year '2008'. Did you mean '2007'"):
        open_images(f"voc:{tmp_path}:2008")
    with pytest.raises(InputError, match="unknown voc split 'aeroplane_train'"):
        open_images(f"voc:{tmp_path}:2007:aeroplane_train")
    with pytest.raises(
        InputError, match="voc: ImageSets/Main/test.txt is missing in .*VOC2007, which holds Annotations, I"
    ):
        open_images(f"voc:{tmp_path}:2007:test")


def test_missing_files_are_counted_and_named(tmp_path):
    folder = voc(tmp_path) / "VOCdevkit" / "VOC2012"
    (folder / "Annotations" / "2008_000002.xml").unlink()
    with pytest.raises(
        InputError, match="1 of 2 .xml files of the split are missing in .*Annotations, first 2008_000002.xml"
    ):
        open_images(f"voc:{tmp_path}")
    (folder / "SegmentationObject" / "2007_000032.png").unlink()
    with pytest.raises(InputError, match="1 of 1 .png files of the split are missing in .*SegmentationObject"):
        open_images(f"voc:{tmp_path}:segmentation-train")
    (folder / "SegmentationObject").rmdir()
    with pytest.raises(InputError, match="voc: SegmentationObject is missing in .*VOC2012"):
        open_images(f"voc:{tmp_path}:segmentation-train")
    write(folder / "ImageSets" / "Main" / "train.txt", "../../x\n")
    with pytest.raises(InputError, match="train.txt is no list of image names"):
        open_images(f"voc:{tmp_path}")


WRONG = {  # what replaces what in an XML file -> what is said
    "class": ("aeroplane", "areoplane", "unknown VOC class 'areoplane'. Did you mean 'aeroplane'"),
    "number": ("<xmin>2</xmin>", "<xmin>two</xmin>", "object 1 lacks a number among xmin, ymin, xmax, ymax"),
    "NaN": ("<xmin>2</xmin>", "<xmin>nan</xmin>", "object 1 lacks a number"),
    "absent": ("<xmax>8</xmax>", "", "object 2 lacks a number"),
    "no box": ("bndbox", "box", "object 1 lacks a number"),
    "no size": ("size", "extent", "size lacks a number among height, width"),
    "backwards": ("<xmin>2</xmin>", "<xmin>7</xmin>", "a box ends before it begins"),
    "cut": ("</annotation>", "", "is no whole XML file .* copy or unpack it again"),
    "tags": ("<name>", "<nom>", "is no whole XML file"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_xml_is_named(tmp_path, case):
    old, new, message = WRONG[case]
    images = open_images(f"voc:{voc(tmp_path)}:val")
    path = tmp_path / "VOCdevkit/VOC2012/Annotations/2008_000001.xml"
    write(path, path.read_text().replace(old, new))
    with pytest.raises(InputError, match=f"{path}.*{message}"):
        images[0]


ENTITIES = '<!DOCTYPE a [<!ENTITY x "lol"><!ENTITY y "&x;&x;&x;">]><annotation>&y;</annotation>'


@pytest.mark.parametrize(
    "content",
    [
        ENTITIES.encode(),
        ENTITIES.encode("utf-16"),
        b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>',
        b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
        b"<!DOCTYPE a><a/>",
    ],
)
def test_types_and_entities_are_refused_unread(content):
    with pytest.raises(InputError, match="here.xml declares a document type or entities"):
        parse(content, "here.xml")


@pytest.mark.parametrize(
    "content", [b"", b"<a>", b"<a>&x;</a>", b"\xff\xfe", b'<?xml version="1.0" encoding="nonsense"?><a/>', b"<a/><b/>"]
)
def test_what_is_no_xml_is_refused(content):
    with pytest.raises(InputError, match="here.xml is no whole XML file"):
        parse(content, "here.xml")


def test_plain_xml_is_read():
    root = parse('<?xml version="1.0" encoding="utf-8"?><a k="v"><!-- note --><b>é</b><b/></a>'.encode(), "x")
    assert root.get("k") == "v" and [b.text for b in root.findall("b")] == ["é", None]


def test_wrong_label_maps_are_named(tmp_path):
    images = open_images(f"voc:{voc(tmp_path)}:segmentation-train")
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    classes, objects = (folder / f"Segmentation{kind}" / "2007_000032.png" for kind in ("Class", "Object"))
    whole = classes.read_bytes()
    for content, message in (
        (whole[:60], "is damaged or cut short .* copy or unpack it again"),
        (b"x" * 60, "is no PNG"),
        (b"", "is no PNG"),
    ):
        write(classes, content)
        with pytest.raises(InputError, match=f"{classes} {message}"):
            images[0]
    label_map(classes, np.full(SIZE, 21, np.uint8))
    with pytest.raises(InputError, match=f"{classes} has pixels of value 21, which are no class of this data set"):
        images[0]
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(classes)
    with pytest.raises(InputError, match=f"{classes} has colours .mode RGB., and values are needed"):
        images[0]
    label_map(classes, np.zeros(SIZE, np.uint8))
    with pytest.raises(InputError, match=f"{objects}: an object has no pixel with a class in SegmentationClass"):
        images[0]
    label_map(objects, np.zeros((3, 3), np.uint8))
    with pytest.raises(InputError, match=rf"{objects} is \(3, 3\), its SegmentationClass \(6, 8\)"):
        images[0]


def test_real_voc(real_data):
    images = open_images(f"voc:{real_data / 'voc100'}:trainval")
    truth = json.loads((real_data / "voc100" / "detections" / "gt_coco.json").read_text())
    names = {c["id"]: c["name"] for c in truth["categories"]}
    by_name: dict = {info["file_name"].rpartition("/")[2]: [] for info in truth["images"]}
    ids = {info["id"]: info["file_name"].rpartition("/")[2] for info in truth["images"]}
    for annotation in truth["annotations"]:
        by_name[ids[annotation["image_id"]]].append(names[annotation["category_id"]])
    known = [images.annotations.read(i) for i in range(len(images))]
    assert len(images) == 100 and sum(len(k.boxes) for k in known) == 273
    for i, k in enumerate(known):
        assert sorted(images.box_classes[label] for label in k.box_labels) == sorted(by_name[images.names[i]])
        assert (k.boxes[:, :2] >= 0).all() and (k.boxes[:, 2:] <= k.size[::-1]).all()
    assert images[0].boxes.shape[1] == 4
