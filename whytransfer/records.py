"""What crosses a border between two stages: frozen records that check themselves.

Shape letters: B batch, C channels, H height, W width, D feature width, V views, R regions, N images, K queue.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """One image and what is known of it; images are (3, H, W) uint8 RGB, whatever the file was.

    Annotations are torchvision tv_tensors (Mask, BoundingBoxes, KeyPoints): torchvision transforms apply as they are.
    """

    image: Tensor
    name: str
    label: int | None = None
    boxes: Tensor | None = None  # (R, 4) xyxy pixels
    box_labels: Tensor | None = None  # (R,) int64
    masks: Tensor | None = None  # (R, H, W) bool, one instance each
    semantic: Tensor | None = None  # (H, W) uint8 class of every pixel, 255 where it has none
    depth: Tensor | None = None  # (H, W) float32, NaN where it is not known; metres, of scenes in their own unit
    keypoints: Tensor | None = None  # (R, P, 2) xy pixels
    factors: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.image.ndim != 3 or self.image.shape[0] != 3 or self.image.dtype != torch.uint8:
            raise ValueError(
                f"Sample {self.name!r}: image must be (3, H, W) uint8, got {tuple(self.image.shape)} {self.image.dtype}"
            )
        if self.semantic is not None and (
            self.semantic.shape != self.image.shape[1:] or self.semantic.dtype != torch.uint8
        ):
            raise ValueError(
                f"Sample {self.name!r}: semantic must be uint8 of the image's (H, W) {tuple(self.image.shape[1:])}, "
                f"got {tuple(self.semantic.shape)} {self.semantic.dtype}"
            )


@runtime_checkable
class ImageSet(Protocol):
    """Random access to images without hidden state; labels are -1 where there is none."""

    name: str
    classes: tuple[str, ...]  # () when unlabelled
    labels: np.ndarray  # (N,) int64

    def __len__(self) -> int: ...
    def __getitem__(self, i: int) -> Sample: ...
    def fingerprint(self) -> str: ...


@dataclass(frozen=True)
class Views:
    """V views of a batch; images[v] is (B, 3, S, S) float32 in [0, 1] (the backbone normalises)."""

    images: tuple[Tensor, ...]
    index: Tensor  # (B,) int64, position in the image set
    labels: Tensor  # (B,) int64, -1 where there is none
    regions: tuple[Tensor, ...] = ()  # per view (B, S, S) int label maps, or (B, R, S, S) stacks
    boxes: tuple[Tensor, ...] = ()  # per view (B, R, 5) xyxy pixels of the view and class, which is -1 in rows of none

    def __post_init__(self) -> None:
        batches = {len(t) for t in (*self.images, *self.regions, *self.boxes, self.index, self.labels)}
        if len(batches) != 1:
            raise ValueError(f"Views: batch sizes differ: {sorted(batches)}")
        for boxes in self.boxes:
            if boxes.ndim != 3 or boxes.shape[2] != 5 or not boxes.is_floating_point():
                raise ValueError(f"Views: boxes are (B, R, 5) floating point, got {tuple(boxes.shape)} {boxes.dtype}")

    def to(self, device: torch.device | str) -> Views:
        """The same views on another device."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=True)

        images, regions, boxes = (tuple(map(move, ts)) for ts in (self.images, self.regions, self.boxes))
        return Views(images, move(self.index), move(self.labels), regions, boxes)


@dataclass(frozen=True)
class Features:
    """What a backbone sees: the pooled vector, the last map, every stage by name ("stem", "layer1" ... "layer4")."""

    vector: Tensor  # (B, D)
    map: Tensor  # (B, D, h, w)
    stages: Mapping[str, Tensor]  # name -> (B, C, h, w)


@dataclass(frozen=True)
class Result:
    """One number with all that is needed to trust it: what, on what, how sure, and where it came from."""

    model: str
    data: str
    task: str
    metric: str
    value: float
    unit: str  # "%", "R2", ...
    direction: Literal["higher", "lower"]
    n: int  # test images (or episodes, boxes) behind the value
    seed: int
    low: float | None = None  # 95 % bootstrap interval
    high: float | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)  # settings, chosen C, command, versions

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ValueError(f"Result {self.task}/{self.metric} of {self.model}: value is {self.value}")

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)
