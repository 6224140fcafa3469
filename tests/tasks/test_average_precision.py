"""Average precision beside pycocotools, published values, and slow loops from the definition."""

import json

import numpy as np
import pytest

from whytransfer.errors import InputError
from whytransfer.tasks import average_precision
from whytransfer.tasks.average_precision import COCO_RECALLS, Coco, Voc
from whytransfer.tasks.coco_json import categories_of, coco_boxes, library, read_truth, run_lengths, write

SIDE = 120
IDS = (3, 7, 90)  # category ids with gaps


def problem(seed, images=6, masks=False, crowds=True):
    """Random objects, and detections near some of them, elsewhere, or twice."""
    rng = np.random.default_rng(seed)
    truth = {"images": [], "annotations": [], "categories": [{"id": i, "name": f"class {i}"} for i in IDS]}
    found = []
    for n in range(images):
        number = 10 * n + 3
        truth["images"].append({"id": number, "file_name": f"{n}.jpg", "height": SIDE, "width": SIDE})
        for _ in range(int(rng.integers(0, 6))):
            side = rng.choice([12, 30, 60, 110], size=2) * rng.uniform(0.7, 1, 2)
            corner = rng.uniform(0, SIDE - side)
            kind = int(rng.choice(IDS[:2] if n else IDS))
            item = annotation(len(truth["annotations"]) + 1, number, kind, [*corner, *side], masks)
            item["iscrowd"] = int(crowds and rng.random() < 0.2)
            truth["annotations"].append(item)
            for _ in range(int(rng.integers(0, 4))):
                moved = np.clip([*corner, *side] + rng.normal(0, 0.1 * side.mean(), 4), 1, SIDE - 1)
                found.append(
                    detection(number, int(rng.choice([kind, 7])), moved, rng.choice([0.3, rng.random()]), masks)
                )
        found.append(detection(number, 3, [*rng.uniform(0, 60, 2), *rng.uniform(1, 60, 2)], rng.random(), masks))
    return truth, found


def as_mask(box):
    x, y, w, h = box
    mask = np.zeros((1, SIDE, SIDE), np.uint8)
    mask[0, int(y) : int(y + h) + 1, int(x) : int(x + w) + 1] = 1
    mask[0, int(y) : int(y + h / 3), int(x) : int(x + w / 3)] = 0
    return mask


def annotation(number, image, kind, box, masks):
    item = {"id": number, "image_id": image, "category_id": kind, "bbox": [float(x) for x in box], "iscrowd": 0}
    item["area"] = float(box[2] * box[3])
    if masks:
        item["segmentation"] = run_lengths(as_mask(box))[0]
        item["area"] = float(as_mask(box).sum())
    return item


def detection(image, kind, box, score, masks):
    item = {"image_id": image, "category_id": kind, "score": float(score)}
    if masks:
        return {**item, "segmentation": run_lengths(as_mask(box))[0]}
    return {**item, "bbox": [float(x) for x in box]}


def pycocotools_values(truth, found, kind):
    coco = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    known = coco.COCO()
    known.dataset = json.loads(json.dumps(truth))
    known.createIndex()
    scored = COCOeval(known, known.loadRes(json.loads(json.dumps(found))), {"boxes": "bbox", "masks": "segm"}[kind])
    scored.evaluate()
    scored.accumulate()
    scored.summarize()
    names = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
    return {name: 100 * value for name, value in zip(names, scored.stats, strict=False) if value >= 0}


@pytest.mark.parametrize("kind", ["boxes", "masks"])
@pytest.mark.parametrize("seed", range(4))
def test_coco_equals_pycocotools_and_so_does_our_matching(seed, kind, capsys):
    truth, found = problem(seed, masks=kind == "masks")
    scores = Coco(truth, found, kind)
    assert scores.values == pytest.approx(pycocotools_values(truth, found, kind), abs=1e-9)
    _, curves = scores.matched()
    ours = average_precision._metrics(curves.average_precision(COCO_RECALLS))
    assert ours == pytest.approx(scores.values, abs=1e-9)


def test_a_weight_of_two_is_the_image_twice():
    truth, found = problem(11)
    weights = np.array([2.0, 0, 1, 3, 1, 0])
    again = {**truth, "images": [], "annotations": []}
    more = []
    for n, (image, weight) in enumerate(zip(truth["images"], weights, strict=True)):
        for copy in range(int(weight)):
            number = 100 * n + copy
            again["images"].append({**image, "id": number})
            for part, into in ((truth["annotations"], again["annotations"]), (found, more)):
                into += [{**item, "image_id": number} for item in part if item["image_id"] == image["id"]]
    again["annotations"] = [{**item, "id": k + 1} for k, item in enumerate(again["annotations"])]
    _, curves = Coco(truth, found).matched()
    weighted = average_precision._metrics(curves.average_precision(COCO_RECALLS, weights))
    assert weighted == pytest.approx(Coco(again, more).values, abs=1e-9)
    voc = Voc(truth, found)
    assert voc._metrics(weights) == pytest.approx(Voc(again, more).values, abs=1e-9)


def slow_voc(truth, found, threshold, eleven):
    """VOC's definition, one detection after the other."""
    precisions = []
    for kind in IDS:
        objects = [a for a in truth["annotations"] if a["category_id"] == kind]
        positives = sum(not a.get("difficult") for a in objects)
        if not positives:
            continue
        taken, right, wrong = set(), 0, 0
        curve = [(0.0, 0.0)]
        for item in sorted((d for d in found if d["category_id"] == kind), key=lambda d: -d["score"]):
            overlaps = [(iou(item["bbox"], a["bbox"]), a) for a in objects if a["image_id"] == item["image_id"]]
            best, thing = max(overlaps, key=lambda pair: pair[0], default=(0, None))
            if best > threshold and thing.get("difficult"):
                continue
            if best > threshold and thing["id"] not in taken:
                taken.add(thing["id"])
                right += 1
            else:
                wrong += 1
            curve.append((right / positives, right / (right + wrong)))
        best_from = lambda r, curve=curve: max((p for recall, p in curve if recall >= r), default=0.0)  # noqa: E731
        if eleven:
            precisions.append(np.mean([best_from(r) for r in np.arange(0, 1.1, 0.1)]))
        else:
            recalls = sorted({recall for recall, _ in curve})
            precisions.append(sum((b - a) * best_from(b) for a, b in zip(recalls, recalls[1:], strict=False)))
    return 100 * np.mean(precisions)


def iou(one, other):
    (x, y, w, h), (x1, y1, w1, h1) = one, other
    both = max(0, min(x + w, x1 + w1) - max(x, x1)) * max(0, min(y + h, y1 + h1) - max(y, y1))
    return both / (w * h + w1 * h1 - both)


@pytest.mark.parametrize("seed", range(4))
def test_voc_equals_the_loop_from_its_definition(seed):
    truth, found = problem(seed, images=8, crowds=False)
    for k, item in enumerate(truth["annotations"]):
        item["difficult"] = int(k % 4 == 0)
    for k, item in enumerate(found):
        item["score"] += 1e-6 * k  # ties have no order of their own in the definition
    values = Voc(truth, found).values
    assert values["voc07_AP50"] == pytest.approx(slow_voc(truth, found, 0.5, True))
    assert values["voc_AP50"] == pytest.approx(slow_voc(truth, found, 0.5, False))
    assert values["voc07_AP75"] == pytest.approx(slow_voc(truth, found, 0.75, True))
    every = [slow_voc(truth, found, t, True) for t in np.linspace(0.5, 0.95, 10)]
    assert values["voc07_AP"] == pytest.approx(np.mean(every))


def test_perfect_none_and_ignored():
    truth, _ = problem(1, crowds=False)
    perfect = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 1.0}
        for a in truth["annotations"]
    ]
    assert set(np.round(list(Coco(truth, perfect).values.values()), 9)) == {100.0}
    assert set(np.round(list(Voc(truth, perfect).values.values()), 9)) == {100.0}
    assert set(Coco(truth, []).values.values()) == set(Voc(truth, []).values.values()) == {0.0}
    assert Coco(truth, []).intervals(5)["AP"] == (0.0, 0.0)
    for item in truth["annotations"][1:]:
        item["ignore"] = 1
    assert Voc(truth, perfect).values["voc_AP50"] == 100  # finding what is ignored is no error
    assert Voc(truth, perfect[1:]).values["voc_AP50"] == 0


def test_intervals_hold_the_value_and_are_repeatable():
    truth, found = problem(5, images=40, crowds=False)
    for scores in (Coco(truth, found), Voc(truth, found)):
        intervals = scores.intervals(60, seed=3)
        assert intervals == scores.intervals(60, seed=3) != scores.intervals(60, seed=4)
        for name, (low, high) in intervals.items():
            assert 0 <= low <= scores.values[name] <= high <= 100


def test_published_values_of_cocos_own_example(real_data):
    folder = real_data / "coco_eval_fixtures" / "cocoapi"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    truth = folder / "instances_val2014_100.json"
    boxes = Coco(truth, folder / "instances_val2014_fakebbox100_results.json").values
    masks = Coco(truth, folder / "instances_val2014_fakesegm100_results.json", "masks").values
    in_text = [float(line.rsplit("=", 1)[1]) for line in (folder / "val2014_fake_eval_res.txt").read_text().splitlines()
               if "Average Precision" in line]  # fmt: skip
    assert [round(v / 100, 3) for v in masks.values()] == in_text[:6] and in_text[:3] == [0.320, 0.562, 0.299]
    assert [round(v / 100, 3) for v in boxes.values()] == in_text[6:12] and in_text[6:9] == [0.505, 0.697, 0.573]


def test_published_values_of_voc100(real_data):
    folder = real_data / "voc100" / "detections"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    values = Coco(folder / "gt_coco.json", folder / "dets_coco_results.json").values
    assert [round(v / 100, 3) for v in values.values()] == [0.347, 0.610, 0.354, 0.075, 0.339, 0.498]


def test_what_is_given_stays_as_it_is():
    for kind in ("boxes", "masks"):
        truth, found = problem(2, masks=kind == "masks")
        before = json.dumps([truth, found])
        Coco(truth, found, kind)
        assert json.dumps([truth, found]) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, f: t.pop("categories"), "no ground truth in COCO's form: it has no categories"),
        (lambda t, f: t["annotations"][0].update(image_id=999), "annotation 1 is of image_id 999, which"),
        (lambda t, f: t["annotations"][0].update(bbox=[0, 0, -1, 3]), r"has the bbox \[0, 0, -1, 3\]"),
        (lambda t, f: t["annotations"].clear(), "holds no object"),
        (lambda t, f: f[0].update(category_id=4), "detection 0 is of category_id 4, which the ground truth's cat"),
        (lambda t, f: f[1].update(score=float("nan")), "detection 1 has the score nan"),
        (lambda t, f: f[1].pop("bbox"), "detection 1 has neither bbox nor segmentation"),
        (lambda t, f: f.insert(0, "x"), "detection 0 is 'x', no record"),
    ],
)
def test_bad_files_are_named(change, message):
    truth, found = problem(3)
    change(truth, found)
    with pytest.raises(InputError, match=message):
        Coco(truth, found)


def test_other_refusals(tmp_path, monkeypatch):
    truth, found = problem(3)
    with pytest.raises(InputError, match="have no segmentation"):
        Coco(truth, found, "masks")
    with pytest.raises(InputError, match="unknown kind of average precision 'segm'"):
        Coco(truth, found, "segm")
    with pytest.raises(InputError, match=r"missing.json cannot be read"):
        Coco(tmp_path / "missing.json", found)
    (tmp_path / "half.json").write_text('{"images": [')
    with pytest.raises(InputError, match=r"half.json is no JSON file"):
        Coco(tmp_path / "half.json", found)
    with pytest.raises(InputError, match="a list of detections is needed"):
        Coco(truth, {"a": 1})
    monkeypatch.setitem(__import__("sys").modules, "faster_coco_eval", None)
    with pytest.raises(InputError, match=r"whytransfer\[detection\]"):
        library()


def test_written_and_read_again(tmp_path):
    truth, found = problem(4, masks=True)
    places = write(tmp_path / "fit", truth, found)
    assert places == {"predictions": "fit/detections.json", "truth": "fit/truth.json"}
    again = Coco(tmp_path / places["truth"], tmp_path / places["predictions"], "masks")
    assert again.values == Coco(truth, found, "masks").values
    assert write(None, truth, found) == {}
    assert [c["id"] for c in categories_of(["a", "b"])] == [1, 2] and len(read_truth(truth)["images"]) == 6
    assert coco_boxes(np.array([[1.0, 2, 4, 8]])) == [[1, 2, 3, 6]]
