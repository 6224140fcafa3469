"""DetCon with one view per image: a region's positive is the region itself, elsewhere in the same view.

[Henaff 2021, arXiv:2103.10957] reports that positives from within one augmented image also work where masks are good,
and published no code of it. Here the cells of the map are dealt at random into two halves, and a region's cells in one
half are contrasted with its cells in the other by the loss of two views: a region within one half alone has no
positive and weighs nothing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from whytransfer.errors import InputError
from whytransfer.masks.pooling import Drawn, chances, draw, mean_features
from whytransfer.methods.detcon import DetCon, DetConB, DetConS
from whytransfer.nn.heads import per_region
from whytransfer.records import Views

ADDRESS = 65  # of the halves in `chance`, beside the draws of regions


class DetConSOneView(DetConS):
    """DetCon-S on one view."""

    views = 1

    def loss(self, views: Views) -> dict[str, Tensor]:
        features, one, two = halves(self, views)
        z = [per_region(self.projector, mean_features(features, half.cells)) for half in (one, two)]
        return self.contrast(z, z, one.ids, two.ids)


class DetConBOneView(DetConB):
    """DetCon-B on one view: predictions of one half's features, the target's of the other half's."""

    views = 1

    def loss(self, views: Views) -> dict[str, Tensor]:
        features, one, two = halves(self, views)
        z = [per_region(self.projector, mean_features(features, half.cells)) for half in (one, two)]
        q = [per_region(self.predictor, x) for x in z]
        with torch.no_grad():
            slow = self.target_backbone(views.images[0]).map
            z = [per_region(self.target_projector, mean_features(slow, half.cells)) for half in (one, two)]
        return self.contrast(q, z, one.ids, two.ids)


def halves(method: DetCon, views: Views) -> tuple[Tensor, Drawn, Drawn]:
    """The map of the view, and the same draws in either half of its cells: dealt anew at each step, image by image.

    Where a half has no cell of a region its id is -1.
    """
    if not views.regions:
        raise InputError("DetCon contrasts regions and these views have none: hand them over with the pictures")
    u = chances(method.draws, method.seed, method.steps, views.index, view=0)
    features = method.backbone(views.images[0]).map
    ids, cells = draw(views.regions[0], features.shape[2:], u)
    coins = chances(cells.shape[2], method.seed, method.steps, views.index, 0, ADDRESS)
    first = (coins < 0.5)[:, None, :]  # (B, 1, P)
    return features, _within(ids, cells * first), _within(ids, cells * ~first)


def _within(ids: Tensor, cells: Tensor) -> Drawn:
    there = (cells.sum(dim=2) > 0) & (ids >= 0)  # (B, M)
    return Drawn(torch.where(there, ids, -1), torch.where(there[:, :, None], cells, 1.0))
