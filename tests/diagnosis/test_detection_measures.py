"""Costs, shares and sensitivities in closed form, and as functions of how often each image counts."""

import numpy as np
import pytest
from detection_toys import moved, problem, world

from whytransfer.diagnosis.detection_measures import Measures
from whytransfer.diagnosis.detection_objects import characteristics
from whytransfer.diagnosis.detection_table import detection_errors


def stray(image, kind, score):
    return {"image_id": image, "category_id": kind, "bbox": [10.0, 300.0, 30.0, 30.0], "score": score}


def copies(truth, found, weights):
    """Image n weights[n] times, under other ids."""
    again, more = {**truth, "images": [], "annotations": []}, []
    for image, weight in zip(truth["images"], weights, strict=True):
        for copy in range(int(weight)):
            number = 1000 * image["id"] + copy
            again["images"].append({**image, "id": number})
            for part, into in ((truth["annotations"], again["annotations"]), (found, more)):
                into += [{**item, "image_id": number} for item in part if item["image_id"] == image["id"]]
    again["annotations"] = [{**item, "id": k + 1} for k, item in enumerate(again["annotations"])]
    return again, more


@pytest.mark.parametrize("seed", [5, 6])
def test_a_weight_of_two_is_the_image_twice(seed):
    truth, found = problem(seed)
    weights = np.array([2.0, 0, 1, 3, 1, 0, 1, 1, 0, 0, 2, 1])  # as many as there are images
    measures = Measures(detection_errors(truth, found), least=10**6)
    again = Measures(detection_errors(*copies(truth, found, weights)), least=10**6)
    assert measures.of(weights) == pytest.approx(np.array(list(again.values.values())), nan_ok=True, abs=1e-9)
    assert set(measures.left_out) == {"size", "aspect"} and not np.isnan(measures.values["normalised AP50"])


def test_normalised_ap_takes_every_class_for_equally_common():
    truth, found = world(40)  # N is 6, of 40 objects of each class
    wrong = [stray(1, 1, 0.99), *(stray(11, 1, 0.98),) * 3]  # four cats before all right ones
    values = Measures(detection_errors(truth, found + wrong)).values
    assert values["AP50"] == pytest.approx((200 + 100 * 40 / 44) / 3)
    assert values["normalised AP50"] == pytest.approx((200 + 100 * 6 / 10) / 3)


def test_shares_are_those_of_as_many_detections_as_objects():
    truth, found = world(4)
    found = [d for d in found if d["category_id"] != 1 or d["image_id"] == 1]  # one cat of four is found
    cats = [d for d in world(4)[1] if d["category_id"] == 1]
    found += [stray(11, 1, 0.9), moved(cats[1], 0.45, score=0.8), {**cats[2], "category_id": 1, "score": 0.7}]
    found += [stray(31, 1, 0.1), stray(31, 1, 0.05)]  # in ranks 5 and 6 of the cats
    found[0]["score"] = 0.95
    measures = Measures(detection_errors(truth, found))
    per_class, _ = measures.shares()
    assert per_class[0].tolist() == [2, 1, 0, 0, 1] and per_class[1].tolist() == [4, 0, 0, 0, 0]
    assert measures.values["Hoiem share Loc"] == measures.values["Hoiem share BG"] == 50
    doubled, _ = measures.shares(np.array([2.0, 0, 1, 0]))  # 3 objects: the first cat twice, then the third
    assert doubled[0].tolist() == [3, 0, 0, 0, 0]


def test_shares_along_the_ranking():
    truth, found = world(30)
    cats = [d for d in found if d["category_id"] == 1]
    found += [moved(d, 0.45, score=0.9 + k / 1000) for k, d in enumerate(cats[:10])]  # ten of Loc come first
    found += [stray(10 * k + 1, 1, 0.3 - k / 1000) for k in range(30)]
    found += [stray(10 * k + 1, 3, 0.3 - k / 1000) for k in range(20)]  # too few dogs for the first rank
    measures = Measures(detection_errors(truth, found))
    _, ranked = measures.shares()
    assert ranked[0, 0].tolist() == [10, 0, 0, 15] and not ranked[0, 1:].any() and not ranked[1:].any()
    assert measures.values["Hoiem share Loc of the first 25 FPs"] == 40
    assert np.isnan(measures.values["Hoiem share Loc of the first 50 FPs"])


def test_sensitivity_to_what_is_annotated():
    truth, found = world(12)
    for n, item in enumerate(truth["annotations"]):
        item["truncated"] = int(n % 2)
        item["attributes"] = {"occluded": bool(n % 4 == 3)}
    found = [d for d, a in zip(found, truth["annotations"], strict=True) if not a["truncated"]]
    measures = Measures(detection_errors(truth, found), least=1)
    values = measures.values
    assert values["normalised AP50 truncation no"] == pytest.approx(100)
    assert values["normalised AP50 truncation yes"] == 0 and values["sensitivity truncation"] == pytest.approx(100)
    every = values["normalised AP50 truncation all"]
    assert every == pytest.approx(values["AP50"]) and values["impact truncation"] == pytest.approx(100 - every)
    assert [c.name for c in measures.characteristics] == ["truncation", "occlusion"]
    assert measures.left_out == ["size", "aspect"]  # all boxes are alike: one group has them all


def test_only_classes_with_enough_objects_in_every_group_speak():
    truth, found = world(12)
    for n, item in enumerate(truth["annotations"]):
        item["truncated"] = int(item["category_id"] == 1 and n % 2)  # six cats, no dog, no car
    measures = Measures(detection_errors(truth, [d for d in found if d["category_id"] != 1]), least=6)
    assert measures.speaking == {"truncation": ["cat"]}
    assert measures.values["normalised AP50 truncation all"] == 0  # of cats, none of which is found
    assert measures.values["normalised AP50"] == pytest.approx(200 / 3)


def test_groups_of_size_and_aspect_are_those_of_the_class():
    boxes = np.array([[0, 0, 10.0 * (k + 1), 10] for k in range(10)] + [[0, 0, 1000.0, 1000]] * 2)
    kinds = np.repeat([0, 2], [10, 2])
    counted = np.ones(12, dtype=bool)
    counted[11] = False
    levels = [{"occluded": k % 4} for k in range(12)]
    size, aspect, occlusion = characteristics(levels, boxes, kinds, counted)
    assert size.group[:10].tolist() == aspect.group[:10].tolist() == [0, 1, 1, 2, 2, 2, 2, 3, 3, 4]
    assert size.group[11] == occlusion.group[11] == -1
    assert occlusion.groups == ("none", "low", "medium", "high") and occlusion.group[:5].tolist() == [0, 1, 2, 3, 0]
    assert len(characteristics([{}] * 12, boxes, kinds, counted)) == 2
