"""What a pretraining is worth for finding objects: Faster and Mask R-CNN on it, average precision with intervals.

Task "detection" finds boxes, "instances" boxes and masks. Architecture and schedule are a paper's, by name; a budget
scales the schedule down and says so, and images smaller than the paper's scale its sizes down in proportion.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from whytransfer import chance, progress
from whytransfer.backbones import fingerprint
from whytransfer.errors import InputError, RunError, unknown_name
from whytransfer.images.subsets import labelled_with
from whytransfer.images.targets import box_classes
from whytransfer.memory import usable_cores
from whytransfer.records import Result
from whytransfer.tasks import detectors, predictions
from whytransfer.tasks.average_precision import DRAWS, Coco, Voc
from whytransfer.tasks.coco_json import Detections, Truth, categories_of, coco_boxes, library, run_lengths, write
from whytransfer.tasks.detection_data import AnnotatedImages, Objects, Sizes, Survey, as_target, augmented, resized
from whytransfer.tasks.features import Progress
from whytransfer.tasks.fitting import Schedule, batch_of, fit
from whytransfer.tasks.readout import data_name, model_name

SAMPLING = 9  # the operation that draws which proposals are learnt from
COCO_IMAGES = 118_287  # of train2017
Batch = tuple[int, list[Tensor], list[dict[str, Tensor]]]  # iteration, images, targets


@dataclass(frozen=True)
class Recipe:
    """How a paper trains a detector: schedule, sizes of images, and on what it was used (the first is the default).

    `precise_norm` batches renew the statistics of batch norm after training [Wu & Johnson 2021; MoCo's configuration].
    """

    schedule: Schedule
    sizes: Sizes
    architectures: tuple[str, ...]
    precise_norm: int
    source: str


def _detectron2(iterations: int, drops: tuple[float, float], warmup: int, least_px: int, source: str) -> Recipe:
    """Batches of 16, learning rate .02, short sides from least_px to 800 and 800 in testing, as MoCo's detectors."""
    schedule = Schedule(iterations, 16, 0.02, "step", drops, warmup=warmup, weight_decay=1e-4)
    return Recipe(schedule, Sizes(tuple(range(least_px, 801, 32)), 800, 1333), ("c4", "fpn"), 200, source)


def _detcon(epochs: int) -> Recipe:
    """The Cloud TPU detector with DetCon's rates: squares of 1024 after large-scale jitter, batches of 64."""
    schedule = Schedule(
        22_500 * epochs // 12, 64, 0.3, "step", (2 / 3, 8 / 9), warmup=500, warmup_from=0.0067 / 0.3,
        weight_decay=4e-5, decay_biases_and_norms=False,
    )  # fmt: skip
    sizes = Sizes((), 1024, 1024, jitter=(0.8, 1.25))
    return Recipe(schedule, sizes, ("fpn",), 0, f"Henaff 2021, {epochs} epochs of COCO")


SCHEDULES = {
    "voc07": _detectron2(9_000, (6 / 9, 8 / 9), 100, 480, "Zhao 2021, section 2; He 2020: VOC07 trainval"),
    "voc0712": _detectron2(24_000, (18 / 24, 22 / 24), 100, 480, "He 2020: VOC07+12 trainval"),
    "coco-1x": _detectron2(90_000, (60 / 90, 80 / 90), 1000, 640, "Zhao 2021, section 2; He 2020: COCO 1x"),
    "coco-12ep": _detectron2(COCO_IMAGES * 12 // 16, (2 / 3, 8 / 9), 1000, 640, "12 epochs of COCO, shape of 1x"),
    "coco-24ep": _detectron2(COCO_IMAGES * 24 // 16, (2 / 3, 8 / 9), 1000, 640, "24 epochs of COCO, shape of 1x"),
    "detcon-12": _detcon(12),
    "detcon-24": _detcon(24),
}


@dataclass(frozen=True)
class Detection:
    """Object detection, with `masks` instance segmentation too; run(backbone) yields average precisions in %.

    train and test are image sets with boxes (and masks). size_px is the shorter side in testing (the longest one for
    DetCon's schedules), at most the paper's. Metrics: box_AP and its kin (COCO's), mask_AP and its kin, and for boxes
    VOC's own. What was found is kept as COCO's JSON beside the ground truth. InputError for sets that it cannot use.
    """

    annotated: ClassVar[bool] = True

    train: Any
    test: Any
    size_px: int
    masks: bool = False
    seed: int = 0
    batch: int = 1  # images are tested one by one, so that none depends on its neighbours' padding
    mode: str = "finetune"
    architecture: str | None = None
    schedule: str | None = None
    budget: float = 1.0
    fit_batch: int | None = None
    lr: float | None = None
    draws: int = DRAWS
    folder: Path | None = None
    progress: Progress | None = None

    def __post_init__(self) -> None:
        name = self.schedule or ("coco-1x" if self.masks else "voc07")
        if name not in SCHEDULES:
            raise unknown_name("schedule of a detector", name, SCHEDULES)
        object.__setattr__(self, "schedule", name)
        known = SCHEDULES[name].architectures
        architecture = self.architecture or known[0]
        if architecture not in detectors.BUILDERS:
            raise unknown_name("detector", architecture, detectors.BUILDERS)
        if architecture not in known:
            raise InputError(f"schedule {name} is one of {' and '.join(known)}, not of {architecture}.")
        object.__setattr__(self, "architecture", architecture)
        if self.mode not in detectors.MODES:
            raise unknown_name("mode", self.mode, detectors.MODES)
        if self.size_px < 32:
            raise InputError(f"a detector needs images of 32 px or more, --size is {self.size_px}")
        self._sets()
        library()  # what is missing for scoring is said before hours of training

    @property
    def task(self) -> str:
        """The task's name."""
        return "instances" if self.masks else "detection"

    def _sets(self) -> tuple[AnnotatedImages, AnnotatedImages]:
        """Training and test images; masks of the test set tell the size of objects even where only boxes are found."""
        classes = box_classes(self.train)
        test_masks = self.masks or "masks" in labelled_with(self.test)
        return (
            AnnotatedImages(self.train, classes, self.masks, f"task {self.task}"),
            AnnotatedImages(self.test, classes, test_masks, f"task {self.task}"),
        )

    def run(self, backbone: nn.Module, seed: int | None = None) -> Iterator[Result]:
        """Train, detect, score; the seed decides new weights, the order and look of images, proposals and draws."""
        seed = self.seed if seed is None else seed
        train, test = self._sets()
        surveys = train.survey(), test.survey(decode=True)
        for images, survey, purpose in ((train, surveys[0], "learnt"), (test, surveys[1], "found")):
            if not survey.objects.any():
                raise InputError(
                    f"{images.name}: none of its {len(images):,} images has an object, so nothing can be {purpose}"
                )
        plan = _Plan.of(self, backbone, surveys, seed)
        for note in plan.notes(self, surveys):
            progress.say(f"note: {note}")
        model = plan.model(self, backbone, len(box_classes(self.train)), seed)
        fitted = self._fitted(model, train, surveys[0], plan, seed)
        truth, found = self._found(model, test, plan.sizes)
        provenance = {**plan.provenance(self, surveys), **fitted, **write(plan.folder, truth, found)}
        yield from self._results(truth, found, model_name(backbone), seed, provenance)

    def _fitted(
        self, model: nn.Module, train: AnnotatedImages, survey: Survey, plan: _Plan, seed: int
    ) -> dict[str, Any]:
        """Train the model; returns what to say of it. RunError where a frozen backbone has changed."""
        shown = np.flatnonzero(survey.objects)
        batches = _Batches(train, shown, plan.sizes, plan.schedule.batch, seed)
        loss_of = _loss(model, seed, next(model.parameters()).device)
        before = fingerprint(detectors.backbone_of(model))
        said = fit(
            model, batches, loss_of, plan.schedule, folder=plan.folder, label=f"{self.task} {self.architecture}",
            optimizer=optimizer(model, plan.schedule),
        )  # fmt: skip
        if self.mode == "frozen" and fingerprint(detectors.backbone_of(model)) != before:
            raise RunError("the frozen backbone changed while its detector was trained")
        renewed = min(plan.recipe.precise_norm, plan.schedule.iterations)
        start = plan.schedule.iterations
        renew_norms(model, (loss_of, (batches(t) for t in range(start, start + renewed))))
        return {**said, "precise_norm_batches": renewed}

    def _found(self, model: Any, test: AnnotatedImages, sizes: Sizes) -> tuple[Truth, Detections]:
        """Ground truth and detections of all test images, in COCO's form; images are numbered from 1."""
        device = next(model.parameters()).device
        truth: Truth = {"images": [], "annotations": [], "categories": categories_of(box_classes(self.train))}
        found: Detections = []
        with progress.bar(f"{self.task}: test images", len(test)) as update:
            for i in range(len(test)):
                objects = test[i]
                size = int(objects.image.shape[1]), int(objects.image.shape[2])
                add_truth(truth, objects, i + 1, test.difficult(i), test.crowds(i))
                image = resized(objects, sizes.shown(*size)).image.to(device).float() / 255
                found += as_results(detectors.detect(model, image, size), i + 1)
                update(i + 1)
        if not found:
            progress.say("note: not one object was detected with a score over .05: train for longer (--budget)")
        return truth, found

    def _results(
        self, truth: Truth, found: Detections, model: str, seed: int, provenance: dict[str, Any]
    ) -> Iterator[Result]:
        scores: list[tuple[str, Coco | Voc]] = [("box_", Coco(truth, found))]
        scores.append(("mask_", Coco(truth, found, "masks")) if self.masks else ("", Voc(truth, found)))
        data = data_name(self.train, self.test)
        provenance = {**provenance, "bootstrap_draws": self.draws, "test_objects": len(truth["annotations"])}
        for prefix, score in scores:
            intervals = score.intervals(self.draws, seed)
            for name, value in score.values.items():
                yield Result(
                    model, data, self.task, prefix + name, value, "%", "higher", len(self.test), seed,
                    *intervals[name], provenance,
                )  # fmt: skip


@dataclass(frozen=True)
class _Plan:
    """What a run comes to: the recipe after its budget and at its size, and where it is kept."""

    recipe: Recipe
    schedule: Schedule
    sizes: Sizes
    weights_sha256: str
    bf16: bool
    folder: Path | None

    @classmethod
    def of(cls, task: Detection, backbone: nn.Module, surveys: tuple[Survey, Survey], seed: int) -> _Plan:
        recipe = SCHEDULES[task.schedule or ""]
        schedule = recipe.schedule.scaled(task.budget, task.fit_batch)
        if task.lr is not None:
            schedule = dataclasses.replace(schedule, lr=task.lr)
        weights = fingerprint(backbone)
        bf16 = detectors.bf16_pays(task.architecture or "", next(backbone.parameters()).device)
        settings = {
            "model": model_name(backbone), "weights": weights, "train": surveys[0].content(),
            "test": surveys[1].content(), "size_px": task.size_px, "seed": seed, "architecture": task.architecture,
            "mode": task.mode, "name": task.schedule, "schedule": dataclasses.asdict(schedule),
            "bf16": bf16,
        }  # fmt: skip
        folder = predictions.folder_of(task.folder, task.task, settings)
        return cls(recipe, schedule, recipe.sizes.scaled(task.size_px), weights, bf16, folder)

    @property
    def scale(self) -> float:
        """The side of images over that of the paper."""
        return self.sizes.test_px / self.recipe.sizes.test_px

    def model(self, task: Detection, backbone: nn.Module, classes: int, seed: int) -> Any:
        model = detectors.build(
            task.architecture or "", backbone, classes, masks=task.masks, mode=task.mode, scale=self.scale,
            bf16=self.bf16, seed=seed,
        )  # fmt: skip
        if self.sizes.jitter is not None:  # squares, padded with the mean colour
            model.transform.size_divisible = 32 * -(-self.sizes.test_px // 32)
        return model

    def notes(self, task: Detection, surveys: tuple[Survey, Survey]) -> Iterator[str]:
        """What a reader of the numbers must know."""
        if told := self.schedule.told(self.recipe.schedule):
            yield f"schedule {task.schedule}: {told}"
        if self.scale < 1:
            yield (
                f"images of {self.sizes.test_px} px where {task.schedule} has {self.recipe.sizes.test_px}: sizes in "
                f"training, anchors and numbers of regions are scaled by {self.scale:.3g}"
            )
        yield from surveys[0].notes(task.train.name)
        yield from surveys[1].notes(task.test.name)
        if bare := int((surveys[0].objects == 0).sum()):
            yield f"{bare:,} training images have no object and are not shown; test images without objects are"
        if shared := surveys[1].shared_with(surveys[0]):
            yield f"{len(shared):,} of {len(task.test):,} test images are training images too: the scores flatter"

    def provenance(self, task: Detection, surveys: tuple[Survey, Survey]) -> dict[str, Any]:
        train, test = surveys
        counts = detectors.COUNTS[task.architecture or ""].scaled(self.scale)
        return {
            "mode": task.mode, "frozen": task.mode == "frozen", "architecture": task.architecture,
            "schedule_name": task.schedule, "schedule_source": self.recipe.source,
            "schedule_in_full": dataclasses.asdict(self.recipe.schedule),
            "schedule_note": self.schedule.told(self.recipe.schedule), "sizes": dataclasses.asdict(self.sizes),
            "scale": self.scale, "anchors_px": detectors.anchors_px(self.scale), "counts": dataclasses.asdict(counts),
            "backbone_precision": "bfloat16" if self.bf16 else "float32",
            "weights_sha256": self.weights_sha256, "train_images": int((train.objects > 0).sum()),
            "train_images_without_objects": int((train.objects == 0).sum()),
            "epochs": round(self.schedule.iterations * self.schedule.batch / max(1, (train.objects > 0).sum()), 3),
            "boxes_clipped": [train.clipped, test.clipped], "objects_dropped": [train.dropped, test.dropped],
            "test_images_in_train": len(test.shared_with(train)), "torch": torch.__version__,
        }  # fmt: skip


class _Batches:
    """Batch t of training images: a function of (seed, t)."""

    def __init__(self, train: AnnotatedImages, shown: np.ndarray, sizes: Sizes, batch: int, seed: int) -> None:
        self.train, self.shown, self.sizes, self.batch, self.seed = train, shown, sizes, batch, seed

    def __call__(self, t: int) -> Batch:
        index, epochs = batch_of(self.seed, t, len(self.shown), self.batch)
        with ThreadPoolExecutor(min(usable_cores(), self.batch)) as pool:
            found = list(pool.map(self._one, self.shown[index].tolist(), epochs.tolist()))
        return t, [x.image.float() / 255 for x in found], [as_target(x) for x in found]

    def _one(self, i: int, epoch: int) -> Objects:
        return augmented(self.train[i], self.sizes, self.seed, epoch, i)


def _loss(model: Any, seed: int, device: torch.device) -> Callable[[Batch], Tensor]:
    """The sum of a detector's losses on a batch; which proposals it learns from is a function of (seed, t)."""
    devices = [device] if device.type == "cuda" else []

    def loss_of(batch: Batch) -> Tensor:
        t, images, targets = batch
        number = int(2**32 * chance.uniform(seed, t, np.array([0]), 0, SAMPLING, 1)[0, 0])
        moved = [{name: x.to(device) for name, x in target.items()} for target in targets]
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(number)
            losses = model([x.to(device) for x in images], moved)
        return sum(losses.values(), torch.zeros((), device=device))

    return loss_of


def optimizer(model: nn.Module, schedule: Schedule) -> torch.optim.SGD:
    """SGD without weight decay on norms, as detectron2 and the TPU code have it; on biases as the schedule says."""
    norms = {id(p) for m in model.modules() if isinstance(m, _BatchNorm) for p in m.parameters()}
    trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    free = [p for n, p in trained if id(p) in norms or (n.endswith("bias") and not schedule.decay_biases_and_norms)]
    spared = {id(p) for p in free}
    groups = [
        {"params": [p for _, p in trained if id(p) not in spared], "weight_decay": schedule.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]
    return torch.optim.SGD([g for g in groups if g["params"]], schedule.lr, schedule.momentum)


@torch.no_grad()
def renew_norms(model: nn.Module, work: tuple[Callable[[Batch], Tensor], Iterator[Batch]]) -> None:
    """Statistics of the trained batch norms as plain means over batches, which have all weights as they are now."""
    detectors.training(model)
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
    kept = [norm.momentum for norm in norms]
    loss_of, batches = work
    for k, batch in enumerate(batches):
        if k == 0:
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None
        loss_of(batch)
    for norm, momentum in zip(norms, kept, strict=True):
        norm.momentum = momentum


def add_truth(
    truth: Truth,
    objects: Objects,
    number: int,
    difficult: np.ndarray | None = None,
    crowds: Sequence[dict[str, Any]] = (),
) -> None:
    """Add one image and its objects; the area of an object is that of its mask where it has one.

    `difficult` tells it of every annotated object, `crowds` are annotations to which all but id and image is known.
    """
    height, width = objects.image.shape[1:]
    truth["images"].append({"id": number, "file_name": objects.name, "height": int(height), "width": int(width)})
    boxes = coco_boxes(objects.boxes.numpy())
    codes = [] if objects.masks is None else run_lengths(objects.masks.numpy())
    for k, (box, label) in enumerate(zip(boxes, objects.labels.tolist(), strict=True)):
        item: dict[str, Any] = {"category_id": label, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
        if objects.masks is not None:
            item |= {"area": int(objects.masks[k].sum()), "segmentation": codes[k]}
        if difficult is not None and objects.source is not None:
            item["difficult"] = int(difficult[objects.source[k]])
        truth["annotations"].append({"id": len(truth["annotations"]) + 1, "image_id": number, **item})
    for crowd in crowds:
        known = {"id": len(truth["annotations"]) + 1, "image_id": number, "iscrowd": 1}
        truth["annotations"].append({**crowd, **known})


def as_results(found: dict[str, Tensor], number: int) -> Detections:
    """Detections of one image as COCO's results."""
    boxes, scores, labels = (found[name].cpu() for name in ("boxes", "scores", "labels"))
    codes = run_lengths((found["masks"][:, 0] > 0.5).cpu().numpy()) if "masks" in found else []
    rows = zip(coco_boxes(boxes.numpy()), scores.tolist(), labels.tolist(), strict=True)
    return [
        {"image_id": number, "category_id": label, "bbox": box, "score": score,
         **({"segmentation": codes[k]} if codes else {})}
        for k, (box, score, label) in enumerate(rows)
    ]  # fmt: skip
