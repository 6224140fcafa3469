"""VOC's XML and text, COCO's JSON and our own task's folders become the same records."""

import json

import pytest
from detection_toys import world

from whytransfer.diagnosis import detection_errors
from whytransfer.diagnosis.detection_files import found_by, ground_truth
from whytransfer.diagnosis.detection_measures import Measures
from whytransfer.errors import InputError
from whytransfer.tasks.coco_json import write

OBJECT = """<object><name>{name}</name><truncated>{truncated}</truncated><difficult>{difficult}</difficult>
<bndbox><xmin>{0}</xmin><ymin>{1}</ymin><xmax>{2}</xmax><ymax>{3}</ymax></bndbox></object>"""
PERSON = (11, 21, 60, 120)  # 50 x 100 pixels, both ends included


@pytest.fixture
def voc(tmp_path):
    """Two images: a person with a difficult dog, and a truncated dog; detections of all three and of nothing."""
    root = tmp_path / "VOC2007"
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    one = OBJECT.format(*PERSON, name="person", truncated=0, difficult=0)
    one += OBJECT.format(100, 100, 150, 150, name="dog", truncated=0, difficult=1)
    two = OBJECT.format(1, 1, 80, 80, name="dog", truncated=1, difficult=0)
    for stem, objects in (("000001", one), ("000002", two)):
        size = "<size><width>200</width><height>180</height></size>"
        (root / "Annotations" / f"{stem}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    (root / "ImageSets/Main/test.txt").write_text("000001\n")
    found = tmp_path / "comp4"
    found.mkdir()
    (found / "comp4_det_test_person.txt").write_text("000001 0.9 11 21 60 120\n000002 0.2 150 100 190 170\n\n")
    (found / "comp4_det_test_dog.txt").write_text("000002 0.8 1 1 80 80\n000001 0.7 100 100 150 150\n")
    return root, found


def test_voc_folders(voc):
    root, found = voc
    truth = ground_truth(root)
    assert [item["id"] for item in truth["images"]] == ["000001", "000002"] and len(truth["categories"]) == 20
    person, difficult, dog = truth["annotations"]
    assert person["bbox"] == [10, 20, 50, 100] and (difficult["difficult"], dog["truncated"]) == (1, 1)
    table = detection_errors(root, found)
    assert table.counts()["tide"] == {"Cls": 0, "Loc": 0, "Both": 0, "Dupe": 0, "Bkg": 1, "Miss": 0}
    assert table.same_iou.tolist().count(1.0) == 3 and table.counted.sum() == 2
    assert Measures(table).values["AP"] == 100
    assert ground_truth(root / "Annotations") == truth
    assert [item["id"] for item in ground_truth(root, "test")["images"]] == ["000001"]


def test_text_for_cocos_ground_truth_names_images_by_their_files(tmp_path):
    truth, found = world(2)
    for k, name in enumerate(("cat", "dog", "car")):
        rows = [d for d in found if d["category_id"] == 2 * k + 1]
        boxes = [(d, d["bbox"]) for d in rows]
        lines = [f"im{d['image_id'] // 10} {d['score']} {x + 1} {y + 1} {x + w} {y + h}" for d, (x, y, w, h) in boxes]
        (tmp_path / f"det_{name}.txt").write_text("\n".join(lines))
    key = lambda d: (d["image_id"], d["category_id"])  # noqa: E731
    assert sorted(found_by(tmp_path, truth), key=key) == sorted(found, key=key)


def test_results_of_our_own_task(tmp_path):
    truth, found = world(2)
    write(tmp_path / "results" / "detection-1", truth, found)
    for folder in (tmp_path / "results", tmp_path / "results" / "detection-1"):
        assert Measures(detection_errors(folder, folder)).values["AP50"] == pytest.approx(100)
    write(tmp_path / "results" / "detection-2", truth, found)
    with pytest.raises(InputError, match="holds 2 results of detection tasks: name one of them, .*detection-1, "):
        ground_truth(tmp_path / "results")


def test_other_classes_than_vocs(voc):
    root, _ = voc
    path = root / "Annotations" / "000002.xml"
    path.write_text(path.read_text().replace("<name>dog", "<name>zebra"))
    assert [item["name"] for item in ground_truth(root)["categories"]] == ["dog", "person", "zebra"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r, f: (f / "comp4_det_test_dog.txt").write_text("000009 0.5 1 1 2 2"), "image '000009', which the gro"),
        (lambda r, f: (f / "comp4_det_test_dog.txt").write_text("000001 0.5 1 1 2"), "line 1 of .*dog.txt is '000001"),
        (lambda r, f: (f / "comp4_det_test_dog.txt").write_text("000001 7 1 1 2 2"), "the score 7.0, outside"),
        (lambda r, f: (f / "comp4_det_test_fish.txt").write_text(""), "fish.txt: no class of the ground truth ends"),
        (lambda r, f: [p.unlink() for p in f.glob("*.txt")], "holds no detections: neither VOC's text files"),
        (lambda r, f: [p.unlink() for p in r.glob("Annotations/*")], "holds no ground truth: neither"),
        (lambda r, f: (r / "Annotations/000001.xml").write_text("<a>"), "000001.xml is no whole XML file"),
        (lambda r, f: (r / "Annotations/000001.xml").write_text("<a/>"), "000001.xml: a number among height, width is"),
    ],
)
def test_bad_folders_are_named(voc, change, message):
    root, found = voc
    change(root, found)
    with pytest.raises(InputError, match=message):
        detection_errors(root, found)


def test_splits_that_are_none(voc, tmp_path):
    root, _ = voc
    with pytest.raises(InputError, match="there is no split 'val'.*Splits there: test"):
        ground_truth(root, "val")
    (tmp_path / "truth.json").write_text(json.dumps(world(1)[0]))
    with pytest.raises(InputError, match="a split \\(test\\) is chosen of a folder of VOC XML files"):
        ground_truth(tmp_path / "truth.json", "test")


def test_real_voc_in_both_forms(real_data):
    folder = real_data / "voc100"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    table = detection_errors(folder / "VOCdevkit" / "VOC2012", folder / "detections" / "comp4")
    values = Measures(table).values
    assert len(table.table.det_source) == 452 and table.truth["images"][0]["id"] == "2007_000027"
    # the JSON counts no end pixels and has no difficult objects, so AP there is .347 and .610
    assert values["AP"] == pytest.approx(34.7, abs=1.5) and values["AP50"] == pytest.approx(61.0, abs=1.5)
    assert "truncation" in [c.name for c in Measures(table, least=3).characteristics]
