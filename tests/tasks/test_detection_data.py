"""What detectors read: clean boxes, sizes of the papers, looks that follow (seed, epoch, image)."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from thin import Changed, with_boxes

from whytransfer.errors import InputError
from whytransfer.images import open_images
from whytransfer.images.scenes import Scenes
from whytransfer.images.subsets import subset
from whytransfer.tasks.detection import SCHEDULES
from whytransfer.tasks.detection_data import (
    AnnotatedImages,
    Objects,
    Sizes,
    as_target,
    augmented,
    cleaned,
    cropped,
    flipped,
    resized,
)

SHORT = SCHEDULES["voc07"].sizes
JITTER = SCHEDULES["detcon-12"].sizes


def some(height=40, width=60):
    torch.manual_seed(0)
    masks = torch.zeros(2, height, width, dtype=torch.uint8)
    masks[0, 4:20, 10:30], masks[1, 0:40, 50:60] = 1, 1
    boxes = torch.tensor([[10.0, 4, 30, 20], [50, 0, 60, 40]])
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    return Objects(image, "some", boxes, torch.tensor([1, 2]), masks)


def around(masks):
    rows = []
    for mask in masks.numpy():
        y, x = np.nonzero(mask)
        rows.append([x.min(), y.min(), x.max() + 1, y.max() + 1])
    return torch.tensor(rows).float()


def test_boxes_are_clipped_and_those_without_area_dropped():
    boxes = torch.tensor([[-5.0, 2, 20, 50], [10, 10, 10, 20], [70, 3, 90, 8], [1, 1, 5, 5]])
    found = cleaned(torch.zeros(3, 40, 60, dtype=torch.uint8), "x", boxes, torch.tensor([1, 2, 3, 4]), None)
    assert found.boxes.tolist() == [[0, 2, 20, 40], [1, 1, 5, 5]] and found.labels.tolist() == [1, 4]
    assert (found.clipped, found.dropped) == (1, 2)
    masks = torch.zeros(4, 40, 60, dtype=torch.bool)
    masks[0, 3:5, 3:5] = True
    found = cleaned(found.image, "x", boxes, torch.tensor([1, 2, 3, 4]), masks)
    assert found.labels.tolist() == [1] and found.masks.shape == (1, 40, 60) and found.dropped == 3


def test_sizes_are_the_papers_and_shrink_in_proportion():
    assert SHORT.train_px == (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800) and SHORT.test_px == 800
    assert SCHEDULES["coco-1x"].sizes.train_px[0] == 640
    assert SHORT.shown(375, 500) == (800, 1067) and SHORT.shown(300, 600) == (666, 1333)
    assert SHORT.shown(375, 500, 0.0) == (480, 640) and SHORT.shown(375, 500, 0.9999) == (800, 1067)
    assert JITTER.shown(480, 640) == (768, 1024)
    assert JITTER.shown(480, 640, 0.0) == (614, 819) and JITTER.shown(480, 640, 1.0) == (960, 1280)
    small = SHORT.scaled(200)
    assert (small.test_px, small.longest_px, small.train_px[0]) == (200, 333, 120)
    assert SHORT.scaled(800) == SHORT.scaled(2000) == SHORT
    assert JITTER.scaled(256) == Sizes((), 256, 256, (0.8, 1.25))


def test_masks_and_boxes_move_together():
    found = some()
    assert torch.equal(around(flipped(found).masks), flipped(found).boxes)
    assert torch.equal(flipped(flipped(found)).image, found.image)
    twice = resized(found, (80, 120))
    assert torch.equal(around(twice.masks), twice.boxes) and torch.equal(twice.boxes, 2 * found.boxes)
    part = cropped(found, 32, 0.5, 0.99)
    assert part.image.shape == (3, 32, 32) and torch.equal(around(part.masks), part.boxes)
    assert part.labels.tolist() == [1, 2] or part.labels.tolist() == [2]
    assert torch.equal(part.image, found.image[:, 4:36, 28:60])
    assert cropped(found, 100, 0.9, 0.9).image.shape == found.image.shape  # padding is the detector's


def test_looks_are_a_function_of_seed_epoch_and_image():
    found, sizes = some(), SHORT.scaled(48)
    looks = {(e, i): augmented(found, sizes, 0, e, i) for e in range(6) for i in range(6)}
    again = augmented(found, sizes, 0, 3, 2)
    assert torch.equal(again.image, looks[3, 2].image) and torch.equal(again.boxes, looks[3, 2].boxes)
    short = {min(x.image.shape[1:]) for x in looks.values()}
    assert len(short) > 6 and short <= set(sizes.train_px)
    sides = [float(x.boxes[1, 0]) < float(x.boxes[0, 0]) for x in looks.values()]
    assert 8 < sum(sides) < 28  # about half are flipped
    jittered = [augmented(found, JITTER.scaled(48), 0, 0, i) for i in range(30)]
    longest = {max(x.image.shape[1:]) for x in jittered}
    assert max(longest) == 48 and min(longest) < 42  # what is larger is cut
    for x in [*looks.values(), *jittered]:
        assert set(as_target(x)) == {"boxes", "labels", "masks"} and (x.boxes[:, 2:] > x.boxes[:, :2]).all()
        assert (around(x.masks) - x.boxes).abs().max() <= 1.01


def outside(sample, i):
    boxes = torch.as_tensor(sample.boxes).clone()
    if i == 0:
        boxes[0] = torch.tensor([-9.0, 5, 30, 99])
    if i == 1:
        boxes[0, 2] = boxes[0, 0]
    return with_boxes(sample, boxes)


def test_the_survey_counts_what_is_wrong():
    images = Changed(4, change=outside)
    clean = AnnotatedImages(Scenes(4, 0, 64), images.box_classes, False, "a test").survey()
    survey = AnnotatedImages(images, images.box_classes, False, "a test").survey()
    assert (survey.clipped, survey.dropped) == (1, 1) and (clean.clipped, clean.dropped) == (0, 0)
    assert survey.objects.tolist() == [clean.objects[0], clean.objects[1] - 1, *clean.objects[2:]]
    assert survey.notes("it") == [
        "it: 1 boxes reached outside their image and were clipped",
        "it: 1 objects without area inside their image were left out",
    ]
    assert clean.notes("it") == [] and survey.content() != clean.content()


def halved(sample, i):
    return with_boxes(sample, torch.as_tensor(sample.boxes) / 2)


def relabelled(sample, i):
    return with_boxes(sample, torch.as_tensor(sample.boxes), box_labels=1 - sample.box_labels.clamp(max=1))


def unmasked(sample, i):
    masks = sample.masks.clone()
    masks[0, :, ::2] = 0
    return with_boxes(sample, torch.as_tensor(sample.boxes), masks=masks)


@pytest.mark.parametrize("change", [halved, relabelled, unmasked])
def test_other_annotations_of_the_same_images_are_another_fit(change):
    """The folder of a fit is named by this: as many objects elsewhere, or of other classes, are not the same task."""
    names = Scenes(4, 0, 64).box_classes
    one, same, other = (
        AnnotatedImages(Changed(4, change=c), names, True, "a test").survey()
        for c in (lambda s, i: s, lambda s, i: s, change)
    )
    assert one.content() == same.content() != other.content()
    assert one.contents == other.contents and (one.objects == other.objects).all()
    renamed = AnnotatedImages(Changed(4), [*names, "one more"], True, "a test").survey()
    assert renamed.content() != one.content()


def test_masks_in_files_count_without_being_read(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "val2017" / "1.jpg")
    digests = []
    for counts in ([0, 64], [8, 56]):
        annotation = {"id": 1, "image_id": 1, "category_id": 7, "bbox": [0, 0, 8, 8], "iscrowd": 0, "area": 64}
        content = {
            "images": [{"id": 1, "file_name": "1.jpg", "height": 8, "width": 8}],
            "categories": [{"id": 7, "name": "thing"}],
            "annotations": [{**annotation, "segmentation": {"size": [8, 8], "counts": counts}}],
        }
        (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
        images = open_images(f"coco:{tmp_path}:val2017")
        digests.append(AnnotatedImages(images, ("thing",), True, "a test").survey().content())
    assert digests[0] != digests[1]


def test_an_image_that_cannot_be_read_is_found_by_a_survey_that_decodes(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").mkdir()
    path = tmp_path / "val2017" / "1.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:800])  # its header is whole
    item = {"id": 1, "image_id": 1, "category_id": 7, "bbox": [0, 0, 8, 8], "iscrowd": 0, "area": 64}
    content = {
        "images": [{"id": 1, "file_name": "1.jpg", "height": 40, "width": 40}],
        "categories": [{"id": 7, "name": "thing"}],
        "annotations": [item],
    }
    (tmp_path / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    images = AnnotatedImages(open_images(f"coco:{tmp_path}:val2017"), ("thing",), False, "a test")
    assert images.survey().objects.tolist() == [1]
    with pytest.raises(InputError, match="cannot read image 1.jpg"):
        images.survey(decode=True)


def test_images_of_both_sets_are_found_by_content():
    train, test = Scenes(6, 0, 64), subset(Scenes(20, 0, 64), [9, 2, 15, 5])
    surveys = [AnnotatedImages(x, train.box_classes, False, "a test").survey() for x in (train, test)]
    assert surveys[1].shared_with(surveys[0]) == [1, 3]


def test_real_annotations_are_read_without_decoding(real_data):
    if not (real_data / "voc100").is_dir():
        pytest.skip("no voc100")
    images = open_images(f"voc:{real_data / 'voc100'}:2012:val")
    known = AnnotatedImages(images, images.box_classes, False, "a test")
    survey = known.survey()
    assert survey.objects.tolist() == [len(known[i].boxes) for i in range(len(known))] and survey.dropped == 0


def coco_with_a_crowd(folder):
    (folder / "annotations").mkdir(parents=True)
    (folder / "val2017").mkdir()
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folder / "val2017" / "1.jpg")
    items = [
        {"id": 5, "image_id": 9, "category_id": 44, "bbox": [1, 2, 10, 8], "area": 80, "iscrowd": 0},
        {"id": 6, "image_id": 9, "category_id": 3, "bbox": [0, 0, 20, 20], "area": 300, "iscrowd": 1},
    ]
    content = {
        "images": [{"id": 9, "file_name": "1.jpg", "height": 20, "width": 30}],
        "annotations": items,
        "categories": [{"id": 3, "name": "cat"}, {"id": 44, "name": "dog"}],
    }
    (folder / "annotations" / "instances_val2017.json").write_text(json.dumps(content))
    return open_images(f"coco:{folder}:val2017")


def test_crowds_of_coco_and_difficult_objects_of_voc(tmp_path):
    images = coco_with_a_crowd(tmp_path / "coco")
    known = AnnotatedImages(subset(images, [0]), ("dog", "bird", "cat"), False, "a test")
    assert known[0].labels.tolist() == [1] and known.difficult(0) is None
    assert known.crowds(0) == [{"bbox": [0, 0, 20, 20], "area": 300, "category_id": 3}]
    assert AnnotatedImages(Scenes(1), Scenes(1).box_classes, False, "a test").crowds(0) == []
    root = tmp_path / "VOC2007"
    for inner in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / inner).mkdir(parents=True)
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(root / "JPEGImages" / "1.jpg")
    (root / "ImageSets" / "Main" / "test.txt").write_text("1\n")
    thing = (
        "<object><name>{}</name>{}<bndbox><xmin>{}</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
    )
    things = [("dog", "<difficult>1</difficult>", 1), ("cat", "<difficult>0</difficult>", 2), ("cat", "", 3)]
    size = "<size><width>30</width><height>20</height></size>"
    text = f"<annotation>{size}{''.join(thing.format(*t) for t in things)}</annotation>"
    (root / "Annotations" / "1.xml").write_text(text)
    voc = open_images(f"voc:{root}:2007:test")
    known = AnnotatedImages(voc, voc.box_classes, False, "a test")
    assert known.difficult(0).tolist() == [True, False, False] and known[0].source.tolist() == [0, 1, 2]
    assert known.crowds(0) == []


def test_classes_are_matched_by_name():
    class Reversed(Changed):
        def __init__(self):
            super().__init__(3)
            self.box_classes = tuple(reversed(self.scenes.box_classes))

    classes = Scenes(1).box_classes
    plain = AnnotatedImages(Scenes(3, 0, 64), classes, False, "a test")
    turned = AnnotatedImages(Reversed(), classes, False, "a test")
    assert [(len(classes) + 1 - turned[i].labels).tolist() for i in range(3)] == [
        plain[i].labels.tolist() for i in range(3)
    ]
    with pytest.raises(InputError, match="classes of objects that the training set lacks"):
        AnnotatedImages(Scenes(3), classes[:2], False, "a test")


def test_sets_without_what_is_needed_are_refused(photos):
    with pytest.raises(InputError, match="task detection needs boxes, and photos is labelled with class"):
        AnnotatedImages(open_images(str(photos)), (), False, "task detection")
    boxes_only = Changed(2)
    boxes_only.labelled_with = ("boxes",)
    with pytest.raises(InputError, match="task instances needs a mask of every object, and changed has boxes only"):
        AnnotatedImages(boxes_only, boxes_only.box_classes, True, "task instances")
    missing = Changed(2, change=lambda sample, i: dataclasses.replace(sample, boxes=None))
    with pytest.raises(InputError, match="changed: image 0000001 has no boxes .* annotation is missing"):
        AnnotatedImages(missing, missing.box_classes, False, "x")[1]
    strange = Changed(2, change=lambda sample, i: with_boxes(sample, sample.boxes, box_labels=sample.box_labels + 99))
    with pytest.raises(InputError, match="a box is of class"):
        AnnotatedImages(strange, strange.box_classes, False, "x")[0]
    uneven = Changed(2, change=lambda sample, i: with_boxes(sample, torch.as_tensor(sample.boxes)[:-1]))
    with pytest.raises(InputError, match="its annotation is damaged"):
        AnnotatedImages(uneven, uneven.box_classes, True, "x")[0]
