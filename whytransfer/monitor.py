"""What is watched while a backbone trains: is it better than random features, is it collapsing?

kNN accuracy needs labels; pair matching does not: of two views of each image, is the other view the nearest?
Both are measured on the untrained backbone first: a run can end below random features while its loss looks alive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whytransfer.images import match_classes
from whytransfer.loading import pictures
from whytransfer.nn.collapse import effective_rank, spread
from whytransfer.nn.knn import knn_predict
from whytransfer.views.engine import Viewer, eval_views
from whytransfer.views.recipes import recipe

BANK, QUERIES, PAIRS = 1000, 500, 256
K_NEIGHBOURS, TEMPERATURE = 20, 0.1


@dataclass(frozen=True)
class Standing:
    """One look at a backbone. Accuracies in %; spread 1 is uniform and 0 collapsed; rank counts directions in use."""

    knn: float | None  # top-1, None without labels
    pairs: float  # chance is 100 / 256
    spread: float
    rank: float

    def as_dict(self) -> dict[str, float | None]:
        """As JSON holds it: None for what is not finite."""
        values = {"knn": self.knn, "pairs": self.pairs, "spread": self.spread, "rank": self.rank}
        return {k: v if v is not None and math.isfinite(v) else None for k, v in values.items()}


class Monitor:
    """Measures a backbone on a fixed bank and fixed queries, the same ones every epoch and in every run of a seed.

    `images` is what is trained on; `val` gives the queries where it is there (its classes are matched by name), else
    they are training images outside the bank, which flatters a supervised run: `queries_from` says which. Looks
    compare where `identity` is the same.
    Raises InputError when `val` has a class that `images` lacks.
    """

    def __init__(self, images: Any, val: Any | None, size_px: int, seed: int, amp: bool) -> None:
        self.images, self.size_px, self.amp = images, size_px, amp
        order = np.random.Generator(np.random.Philox(key=[seed, 2**31])).permutation(len(images))
        self.queries_from = "training images" if val is None else "val images"
        self.identity = self.queries_from if val is None else f"{self.queries_from} {val.fingerprint}"
        if val is None:
            n_queries = min(QUERIES, len(order) // 3)
            self._queries, self._query_set = order[:n_queries], images
            self._bank = order[n_queries : n_queries + BANK]
        else:
            self._query_set, self._bank = val, order[:BANK]
            self._queries = np.random.Generator(np.random.Philox(key=[seed, 2**31])).permutation(len(val))[:QUERIES]
        query_labels = images.labels if val is None else match_classes(val, images.classes)
        self._bank_labels, self._query_labels = images.labels[self._bank], query_labels[self._queries]
        self._pairs = order[:PAIRS]
        self._viewer = Viewer(recipe("moco-v2"), size_px, seed=2**31 - 1)

    @property
    def query_count(self) -> int:
        """How many images the kNN accuracy is counted over."""
        return len(self._queries)

    @property
    def pair_count(self) -> int:
        """How many images the matching of pairs is counted over."""
        return len(self._pairs)

    @property
    def labelled(self) -> bool:
        bank, queries = self._bank_labels, self._query_labels
        return bool(len(bank) and len(queries) and (bank >= 0).all() and (queries >= 0).all() and len(set(bank)) > 1)

    @torch.inference_mode()
    def look(self, backbone: nn.Module) -> Standing:
        """Measure `backbone` in eval mode; its training mode is put back afterwards."""
        mode = backbone.training
        backbone.eval()
        try:
            bank = self._features(backbone, self.images, self._bank)
            knn = self._knn(backbone, bank) if self.labelled else None
            return Standing(knn, self._pair_matching(backbone), float(spread(bank)), float(effective_rank(bank)))
        finally:
            backbone.train(mode)

    def _knn(self, backbone: nn.Module, bank: Tensor) -> float:
        labels, truth = torch.from_numpy(self._bank_labels), torch.from_numpy(self._query_labels)
        queries = self._features(backbone, self._query_set, self._queries)
        predicted = knn_predict(queries, bank, labels, k=K_NEIGHBOURS, temperature=TEMPERATURE)
        return 100 * float((predicted == truth).float().mean())

    def _pair_matching(self, backbone: nn.Module) -> float:
        pixels = pictures(self.images, self._pairs)
        views = self._viewer(pixels, self._pairs, self.images.labels[self._pairs], epoch=0)
        a, b = (nn.functional.normalize(self._forward(backbone, v), dim=1) for v in views.images)  # (P, D)
        return 100 * float(((a @ b.T).argmax(1) == torch.arange(len(a))).float().mean())

    def _features(self, backbone: nn.Module, images: Any, indices: np.ndarray) -> Tensor:
        chunks = np.array_split(indices, max(1, len(indices) // 250))
        return torch.cat([self._forward(backbone, eval_views(pictures(images, c), self.size_px)) for c in chunks])

    def _forward(self, backbone: nn.Module, images: Tensor) -> Tensor:
        device = next(backbone.parameters()).device
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.amp):
            outs = [backbone(x.to(device, memory_format=torch.channels_last)).vector for x in images.split(250)]
        return torch.cat(outs).float().cpu()
