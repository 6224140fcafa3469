"""A detector's training step beside torchvision's reference loop, and average precision beside faster-coco-eval.

    python benchmarks/detection.py                    both, at a size for two cores
    python benchmarks/detection.py --part step        Mask R-CNN FPN on resnet18, 256 px, batches of 2
    python benchmarks/detection.py --part ap          5,000 images, about 36,000 objects and 250,000 detections
    python benchmarks/detection.py --part bf16        the same step in bfloat16

Step: both sides have the same modules, weights, images and proposals; theirs is the loop of torchvision's references
(forward, sum of losses, backward, SGD). Turns alternate, medians count. AP: theirs is COCO, loadRes, evaluate,
accumulate, summarize as its manual shows; ours is Coco(truth, found).values, checks of the input included.
Processor seconds are printed too, for a machine that is busy.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

from whytransfer.backbones import build
from whytransfer.images.scenes import Scenes
from whytransfer.tasks import detection, detectors
from whytransfer.tasks.average_precision import Coco
from whytransfer.tasks.coco_json import library
from whytransfer.tasks.detection_data import AnnotatedImages, Sizes


def timed(work: Callable[[], object]) -> tuple[object, float, float]:
    """Result, wall-clock seconds, processor seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    return result, time.perf_counter() - wall, time.process_time() - processor


def alternating(works: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, float]]:
    """Median wall-clock and processor seconds of each, in turns after one round that does not count."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for r in range(rounds + 1):
        for name, work in works.items():
            _, wall, processor = timed(work)
            if r:
                taken[name].append((wall, processor))
    median = statistics.median
    return {name: (median(wall for wall, _ in rows), median(cpu for _, cpu in rows)) for name, rows in taken.items()}


def batch_of_scenes(size: int, batch: int) -> Any:
    """One batch as the task makes it."""
    scenes = Scenes(batch, 0, min(size, 512))
    images = AnnotatedImages(scenes, scenes.box_classes, True, "the benchmark")
    sizes = Sizes((size,), size, 2 * size)
    return detection._Batches(images, np.arange(batch), sizes, batch, 0)(0), len(scenes.box_classes)


def ours(model: Any, arch: str, batch: Any, schedule: Any) -> Callable[[], object]:
    """A step as fitting.fit takes it."""
    from whytransfer.tasks.fitting import _step

    optimizer = detection.optimizer(model, schedule)
    loss_of = detection._loss(model, 0, torch.device("cpu"))
    return lambda: _step(batch, loss_of, optimizer, schedule.lr)


def reference(model: nn.Module, batch: Any, schedule: Any) -> Callable[[], object]:
    """torchvision's train_one_epoch, without its logging."""
    optimizer = torch.optim.SGD(model.parameters(), schedule.lr, schedule.momentum, weight_decay=schedule.weight_decay)
    _, images, targets = batch

    def step() -> float:
        losses = model(list(images), [dict(t) for t in targets])
        loss = sum(losses.values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def step(arch: str, size: int, batch_size: int, rounds: int) -> None:
    """Ours and torchvision's, with equal weights."""
    batch, classes = batch_of_scenes(size, batch_size)
    schedule = detection.SCHEDULES["voc07"].schedule.scaled(1, batch_size)
    mine = detectors._fpn(build(arch), classes + 1, True, True, 1.0, False, norm=None).train()
    trunk = resnet_fpn_backbone(backbone_name=arch, weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5)
    theirs = MaskRCNN(trunk, classes + 1, rpn_post_nms_top_n_train=1000, _skip_resize=True).train()
    theirs.load_state_dict({k.replace("body.trunk.", "body."): v for k, v in mine.state_dict().items()})
    works = {"ours": ours(mine, arch, batch, schedule), "torchvision": reference(theirs, batch, schedule)}
    found = alternating(works, rounds)
    for name, (wall, processor) in found.items():
        print(f"step, {name}: {wall:.3f} s ({processor:.3f} processor s)")
    ratio = [found["ours"][k] / found["torchvision"][k] for k in (0, 1)]
    print(f"step: ours / torchvision {ratio[0]:.3f} (processor {ratio[1]:.3f})")


def bf16(arch: str, size: int, batch_size: int, rounds: int) -> None:
    """Our step in float32 and with the backbone in bfloat16, c4 and fpn."""
    batch, classes = batch_of_scenes(size, batch_size)
    schedule = detection.SCHEDULES["voc07"].schedule.scaled(1, batch_size)
    for architecture in ("fpn", "c4"):
        models = {
            name: detectors.build(architecture, build(arch), classes, masks=True, scale=size / 800, bf16=name == "bf16")
            for name in ("float32", "bf16")
        }
        found = alternating({name: ours(model, arch, batch, schedule) for name, model in models.items()}, rounds)
        walls = ", ".join(f"{name} {wall:.3f} s ({cpu:.3f} processor s)" for name, (wall, cpu) in found.items())
        print(f"bf16, {architecture}: {walls}")


def made_up(images: int, seed: int = 0) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Ground truth and detections in the numbers of COCO val2017: 80 classes, 7 objects and 50 detections an image."""
    rng = np.random.default_rng(seed)
    truth: dict[str, Any] = {
        "images": [{"id": i, "height": 480, "width": 640} for i in range(images)],
        "annotations": [],
        "categories": [{"id": k, "name": str(k)} for k in range(1, 81)],
    }
    found = []
    for i in range(images):
        kinds = rng.integers(1, 81, 3)
        for _ in range(rng.poisson(7)):
            side = np.exp(rng.uniform(2.5, 5.5, 2))
            box = np.concatenate([rng.uniform(0, [640, 480]), side])
            kind = int(rng.choice(kinds))
            item = {"image_id": i, "category_id": kind, "bbox": box.tolist()}
            area, number = float(side.prod()), len(truth["annotations"]) + 1
            truth["annotations"].append({**item, "id": number, "area": area, "iscrowd": int(rng.random() < 0.01)})
            for _ in range(7):
                moved = box + rng.normal(0, 0.1, 4) * side.mean()
                moved[2:] = np.abs(moved[2:]) + 1
                kind = kind if rng.random() < 0.7 else int(rng.integers(1, 81))
                score = round(float(rng.random()), 4)
                found.append({"image_id": i, "category_id": kind, "bbox": moved.tolist(), "score": score})
    return truth, found


def average_precision(images: int, rounds: int) -> None:
    """Ours and the library as its manual uses it, on copies of the same records."""
    truth, found = made_up(images)
    there = library()
    print(f"AP: {images:,} images, {len(truth['annotations']):,} objects, {len(found):,} detections")

    def theirs() -> Any:
        known = there.COCO({**truth, "annotations": [dict(item) for item in truth["annotations"]]})
        scored = there.COCOeval_faster(known, known.loadRes([dict(item) for item in found]), "bbox")
        scored.evaluate()
        scored.accumulate()
        scored.summarize()
        return scored.stats[0]

    times = alternating({"ours": lambda: Coco(truth, found), "faster-coco-eval": theirs}, rounds)
    for name, (wall, processor) in times.items():
        print(f"AP, {name}: {wall:.2f} s ({processor:.2f} processor s)")
    ratio = [times["ours"][k] / times["faster-coco-eval"][k] for k in (0, 1)]
    scores = Coco(truth, found)
    print(f"AP: ours / faster-coco-eval {ratio[0]:.3f} (processor {ratio[1]:.3f}); "
          f"difference of AP {scores.values['AP'] - 100 * theirs():.1e}")  # fmt: skip
    interval, wall, processor = timed(lambda: scores.intervals(200))
    print(f"AP: intervals of 6 metrics over 200 draws {wall:.1f} s ({processor:.1f} processor s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=("all", "step", "ap", "bf16"), default="all", help="see above (all)")
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=256, help="of the images, in pixels (256)")
    parser.add_argument("--batch", type=int, default=2, help="images per step (2)")
    parser.add_argument("--images", type=int, default=5000, help="of the average precision (5000)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side; the median counts (5)")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.part in ("all", "step"):
        step(args.backbone, args.size, args.batch, args.rounds)
    if args.part in ("all", "bf16"):
        bf16(args.backbone, args.size, args.batch, args.rounds)
    if args.part in ("all", "ap"):
        average_precision(args.images, args.rounds)


if __name__ == "__main__":
    main()
