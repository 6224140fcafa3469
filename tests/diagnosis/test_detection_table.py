"""Planted errors are recovered exactly, tidecv's numbers and pycocotools' AP are met, bad input is named."""

import copy
import json

import numpy as np
import pytest
from detection_toys import moved, problem, world

from whytransfer.diagnosis import detection_errors, detection_measures
from whytransfer.diagnosis.detection_measures import Measures
from whytransfer.diagnosis.detection_table import HOIEM, TIDE, similar_classes
from whytransfer.errors import InputError

# What tidecv 1.0.1 says of problem(seed), its definitions and ours agreeing there: no crowds, no equal scores
TIDECV = (
    (25.821711, {"Cls": 5, "Loc": 23, "Both": 5, "Dupe": 18, "Bkg": 11, "Miss": 13},
     {"Cls": 6.516614, "Loc": 14.656082, "Both": 1.330136, "Dupe": 1.823635, "Bkg": 2.549948, "Miss": 11.240717,
      "FP": 28.303701, "FN": 23.839784}),
    (36.436152, {"Cls": 9, "Loc": 15, "Both": 3, "Dupe": 20, "Bkg": 11, "Miss": 12},
     {"Cls": 2.86088, "Loc": 10.583897, "Both": 0.174723, "Dupe": 1.788669, "Bkg": 4.217965, "Miss": 18.013839,
      "FP": 19.339426, "FN": 26.983387}),
    (30.01263, {"Cls": 8, "Loc": 43, "Both": 6, "Dupe": 18, "Bkg": 12, "Miss": 10},
     {"Cls": 5.483465, "Loc": 22.747146, "Both": 1.388836, "Dupe": 1.120931, "Bkg": 2.161915, "Miss": 7.737028,
      "FP": 28.403212, "FN": 20.998256}),
)  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_tide_equals_tidecv(seed, monkeypatch):
    monkeypatch.setattr(detection_measures, "COCO_RECALLS", np.arange(101) / 100)  # where it reads precision
    table = detection_errors(*problem(seed))
    measures = Measures(table).values
    ap, counts, costs = TIDECV[seed]
    assert table.counts()["tide"] == counts
    assert measures["AP50"] == pytest.approx(ap, abs=1e-5)
    assert {name: measures[f"TIDE dAP {name}"] for name in costs} == pytest.approx(costs, abs=1e-5)


# What is planted in each image but the first: (TIDE's error, Hoiem's, what becomes of the detection of its cat)
SHIFT = 0.45  # of the width: an overlap of .38
PLANTED = {
    "Loc": ({"Loc"}, {"Loc"}, lambda cat: [moved(cat, SHIFT)]),
    "Loc beside": ({"Loc"}, {"Loc"}, lambda cat: [cat, moved(cat, SHIFT, score=0.9)]),
    "Cls, alike": ({"Cls"}, {"Sim"}, lambda cat: [moved(cat, category_id=3, score=0.9)]),
    "Cls, unlike": ({"Cls"}, {"Oth"}, lambda cat: [moved(cat, category_id=5, score=0.9)]),
    "Both, alike": ({"Both"}, {"Sim"}, lambda cat: [cat, moved(cat, SHIFT, category_id=3, score=0.9)]),
    "Both, unlike": ({"Both"}, {"Oth"}, lambda cat: [cat, moved(cat, SHIFT, category_id=5, score=0.9)]),
    "Dupe": ({"Dupe"}, {"Loc"}, lambda cat: [cat, moved(cat, 0.1, score=cat["score"] - 0.0001)]),
    "Bkg": ({"Bkg"}, {"BG"}, lambda cat: [cat, {**cat, "bbox": [20.0, 300.0, 50.0, 50.0], "score": 0.9}]),
    "Miss": ({"Miss"}, set(), lambda cat: []),
}


@pytest.mark.parametrize("name", PLANTED)
def test_an_error_planted_alone_is_recovered_alone(name):
    tide, hoiem, planted = PLANTED[name]
    truth, found = world(6)
    found = [
        new
        for item in found
        for new in (planted(item) if item["category_id"] == 1 and item["image_id"] > 1 else [item])
    ]
    table = detection_errors(truth, found)
    assert table.counts() == {
        "tide": {error: 5 * (error in tide) for error in (*TIDE, "Miss")},
        "hoiem": {error: 5 * (error in hoiem) for error in HOIEM},
    }
    values = Measures(table).values
    assert values["AP50"] < 99
    for error in (*TIDE, "Miss"):  # only mending what was planted helps, and it mends everything
        assert values[f"TIDE dAP {error}"] == pytest.approx((100 - values["AP50"]) * (error in tide))
    if name in ("Loc beside", "Both, alike", "Both, unlike", "Dupe", "Bkg"):  # no object is lost
        for error in HOIEM:
            assert values[f"Hoiem dAP remove {error}"] == pytest.approx((100 - values["AP50"]) * (error in hoiem))
        assert values["TIDE dAP FP"] == pytest.approx(100 - values["AP50"]) and values["TIDE dAP FN"] == 0


def test_repairs():
    truth, found = world(4)
    shifted = [moved(d, SHIFT) if d["category_id"] == 1 else d for d in found]
    values = Measures(detection_errors(truth, shifted)).values
    assert values["Hoiem dAP fix Loc"] == pytest.approx(100 - values["AP50"]) == pytest.approx(100 / 3)
    assert values["Hoiem dAP remove Loc"] == 0  # the objects stay lost
    # two repairs of one object: the better one finds it, the other one goes
    worse = [moved(d, -SHIFT, score=0.1) for d in found if d["category_id"] == 1]
    table = detection_errors(truth, shifted + worse)
    assert table.repaired.sum() == 4 and (table.table.det_score[table.repaired] >= 0.5).all()
    assert Measures(table).values["TIDE dAP Loc"] == pytest.approx(100 / 3)


def test_a_cost_keeps_its_sign():
    """Asking for less overlap can cost AP: an early detection takes the object that a later one fits."""
    truth, _ = world(1)
    truth["annotations"] = [{**truth["annotations"][0], "bbox": [0, 0, 100, 10]}]
    truth["annotations"].append({**truth["annotations"][0], "id": 2, "bbox": [80, 0, 100, 10]})
    at = lambda x, w, score: {"image_id": 1, "category_id": 1, "bbox": [x, 0, w, 10], "score": score}  # noqa: E731
    table = detection_errors(truth, [at(45, 100, 0.9), at(80, 100, 0.8)])
    # at .5 the second object is found in rank 2; at .1 the first detection takes it, and the second one finds the first
    assert table.states.tolist()[1] == [0, 1] and Measures(table).values["Hoiem dAP fix Loc"] > 0
    table = detection_errors(truth, [at(0, 100, 0.9), at(62, 100, 0.8), at(60, 20, 0.7), at(90, 100, 0.6)])
    assert min(v for k, v in Measures(table).values.items() if "dAP" in k) >= -100


def test_difficult_objects_and_crowds_do_not_count():
    truth, found = world(3)
    truth["annotations"][0]["difficult"] = 1  # a cat
    truth["annotations"][1].update(iscrowd=1, bbox=[100.0, 0.0, 110.0, 200.0])  # a dog becomes many
    twice = [*found, *(moved(d, score=0.9) for d in found[:2])]
    table = detection_errors(truth, twice)
    assert sum(table.counts()["tide"].values()) == sum(table.counts()["hoiem"].values()) == 0
    assert (table.tide == -2).sum() == (table.hoiem == -2).sum() == 4 and table.counted.sum() == 7
    values = Measures(table).values
    assert values["AP"] == pytest.approx(100) and values["AP50"] == pytest.approx(100)
    near = detection_errors(truth, [*found, moved(found[0], SHIFT, score=0.9)])  # beside a difficult cat
    assert near.counts()["hoiem"]["Loc"] == 1 and near.counts()["tide"]["Bkg"] == 1


def pycocotools_values(truth, found):
    coco = pytest.importorskip("pycocotools.coco")
    from pycocotools.cocoeval import COCOeval

    known = coco.COCO()
    known.dataset = json.loads(json.dumps(truth))
    for item in known.dataset["annotations"]:
        item["area"] = item["bbox"][2] * item["bbox"][3]
    known.createIndex()
    scored = COCOeval(known, known.loadRes(json.loads(json.dumps(found))), "bbox")
    scored.evaluate()
    scored.accumulate()
    scored.summarize()
    return [100 * float(value) for value in scored.stats[:3]]


@pytest.mark.parametrize("seed", [3, 4])
def test_ap_equals_pycocotools(seed, capsys):
    truth, found = problem(seed)
    for item in truth["annotations"][::5]:
        item["iscrowd"] = 1
    found += [{**item, "score": 0.5} for item in found[::4]]  # equal scores
    before = copy.deepcopy((truth, found))
    values = Measures(detection_errors(truth, found)).values
    assert [values[name] for name in ("AP", "AP50", "AP75")] == pytest.approx(pycocotools_values(truth, found))
    assert (truth, found) == before  # what is given stays as it is


def test_only_the_best_hundred_of_a_class_and_image_count():
    truth, found = world(1)
    more = [{**found[0], "bbox": [300.0, 300.0, 10.0, 10.0], "score": 0.9 + k / 10000} for k in range(100)]
    table = detection_errors(truth, found + more)
    assert table.counts()["tide"]["Bkg"] == 100 and table.counts()["tide"]["Miss"] == 1


REAL = {
    "coco_eval_fixtures/cocoapi": ("instances_val2014_100.json", "instances_val2014_fakebbox100_results.json",
                                   [0.505, 0.697, 0.573]),
    "voc100/detections": ("gt_coco.json", "dets_coco_results.json", [0.347, 0.610, 0.354]),
}  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_published_ap_of_real_detections(real_data, name):
    folder = real_data / name
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    truth, found, published = REAL[name]
    table = detection_errors(folder / truth, folder / found)
    values = Measures(table).values
    assert [round(values[k] / 100, 3) for k in ("AP", "AP50", "AP75")] == published
    counts = table.counts()
    assert sum(counts["hoiem"].values()) == sum(counts["tide"].values()) - counts["tide"]["Miss"]
    assert table.similar.any()


def test_no_detection_misses_everything():
    truth, _ = world(2)
    table = detection_errors(truth, [])
    values = Measures(table).values
    assert table.counts()["tide"]["Miss"] == 6 and values["AP"] == values["TIDE dAP FP"] == values["TIDE dAP Bkg"] == 0
    assert np.isnan(values["Hoiem share Loc"]) and list(table.rows()) == []


def test_rows_name_every_detection():
    truth, found = world(2)
    found = [*found, moved(found[0], SHIFT, score=0.9), {**found[1], "bbox": [0.0, 300.0, 9.0, 9.0]}]
    rows = list(detection_errors(truth, found).rows())
    assert [row["detection"] for row in rows] == list(range(8))
    assert [row["tide"] for row in rows] == ["right"] * 6 + ["Loc", "Bkg"] and rows[7]["hoiem"] == "BG"
    assert rows[4]["object"] == 4 and rows[4]["image_id"] == 11 and rows[4]["class"] == "dog"
    assert rows[6]["object"] is None  # its object is found already
    assert rows[6]["same_iou"] == pytest.approx(0.55 / 1.45) and rows[7]["object"] is None


def test_similar_classes():
    voc = {"categories": [{"id": k, "name": name} for k, name in enumerate(("cat", "dog", "sofa", "chair", "bottle"))]}
    alike = similar_classes(voc)
    assert np.argwhere(alike).tolist() == [[0, 1], [1, 0], [2, 3], [3, 2]]
    coco = world(1)[0]
    assert np.argwhere(similar_classes(coco)).tolist() == [[0, 1], [1, 0]]
    assert np.argwhere(similar_classes(coco, [["cat", "car"]])).tolist() == [[0, 2], [2, 0]]
    assert not similar_classes({"categories": [{"id": 1, "name": "x"}, {"id": 2}]}).any()
    with pytest.raises(InputError, match="the ground truth has no tiger. It has cat, dog, car"):
        similar_classes(coco, [["cat", "tiger"]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, f: f[0].update(image_id=999), "detection 0 is of image_id 999, which the ground truth's images do"),
        (lambda t, f: f[2].update(category_id=2), "detection 2 is of category_id 2, which the ground truth's categ"),
        (lambda t, f: f[1].update(score=1.5), r"detection 1 has the score 1.5, outside \[0, 1\].*--any-scores"),
        (lambda t, f: f[1].update(score=-0.1), r"detection 1 has the score -0.1, outside \[0, 1\]"),
        (lambda t, f: f[1].update(score=float("nan")), "detection 1 has the score nan"),
        (lambda t, f: (f[1].pop("bbox"), f[1].update(segmentation={})), "detection 1 has no bbox"),
        (lambda t, f: t["images"].append(t["images"][0]), "images have the id 1 twice"),
        (lambda t, f: t["categories"].append({"id": 3, "name": "x"}), "categories have the id 3 twice"),
        (lambda t, f: t["annotations"].append(t["annotations"][0]), "annotations have the id 1 twice"),
        (lambda t, f: t["images"].append({"file_name": "x"}), "images hold .*no record with an id"),
        (lambda t, f: [a.update(iscrowd=1) for a in t["annotations"]], "holds no object that counts"),
    ],
)
def test_bad_input_is_named(change, message):
    truth, found = world(2)
    change(truth, found)
    with pytest.raises(InputError, match=message):
        detection_errors(truth, found)


def test_margins_are_allowed_when_they_are_said_to_be():
    truth, found = problem(0)
    margins = [{**item, "score": 40 * item["score"] - 25} for item in found]
    assert detection_errors(truth, margins, any_scores=True).counts() == detection_errors(truth, found).counts()
