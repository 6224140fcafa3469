"""Made-up detections: a world without errors in which single errors are planted, and random ones."""

import numpy as np

CLASSES = ("cat", "dog", "car")  # cat and dog are alike, by their supercategory
SIDE = 400


def world(images=6):
    """Ground truth with one object of each class in every image, and detections that find them all, scored .5 to .6."""
    truth = {
        "images": [{"id": 10 * n + 1, "file_name": f"im{n}.jpg", "height": SIDE, "width": SIDE} for n in range(images)],
        "annotations": [],
        "categories": [
            {"id": 2 * k + 1, "name": name, "supercategory": "vehicle" if name == "car" else "animal"}
            for k, name in enumerate(CLASSES)
        ],
    }
    found = []
    for n in range(images):
        for k in range(3):
            box = [20.0 + 120 * k, 30.0, 60.0, 40.0]
            item = {"image_id": 10 * n + 1, "category_id": 2 * k + 1, "bbox": box}
            truth["annotations"].append({**item, "id": 3 * n + k + 1, "iscrowd": 0})
            found.append({**item, "score": 0.5 + (3 * n + k) / 1000})
    return truth, found


def moved(item, right=0.0, **changes):
    """A copy of a detection, its box moved to the right by a share of its width."""
    x, y, w, h = item["bbox"]
    return {**item, "bbox": [x + right * w, y, w, h], **changes}


def problem(seed, images=12):
    """Random objects of three classes, some crowded together, with detections near them, elsewhere, or misnamed."""
    rng = np.random.default_rng(seed)
    truth, _ = world(images)
    truth["annotations"], found = [], []
    for image in truth["images"]:
        for _ in range(int(rng.integers(1, 6))):
            box = np.concatenate([rng.uniform(0, 120, 2), rng.uniform(30, 90, 2)])
            kind = int(rng.choice([1, 3, 5]))
            item = {"image_id": image["id"], "category_id": kind, "bbox": box.tolist()}
            truth["annotations"].append({**item, "id": len(truth["annotations"]) + 1, "iscrowd": 0})
            for _ in range(int(rng.integers(0, 5))):
                near = box + rng.normal(0, 0.18, 4) * box[2:].mean()
                near[2:] = np.maximum(near[2:], 3)
                named = kind if rng.random() < 0.75 else int(rng.choice([1, 3, 5]))
                found.append({"image_id": image["id"], "category_id": named, "bbox": near.tolist()})
        stray = [*rng.uniform(0, 300, 2), *rng.uniform(10, 80, 2)]
        found.append({"image_id": image["id"], "category_id": int(rng.choice([1, 3, 5])), "bbox": stray})
    scores = (1 + rng.permutation(len(found))) / (len(found) + 1)  # no two are equal
    return truth, [{**item, "score": float(score)} for item, score in zip(found, scores, strict=True)]
