"""Regions on the grid of a feature map: the cells that are theirs, which regions are drawn, and their mean features.

Label maps as DetCon's published code treats them: a cell belongs wholly to the region that covers most of it, so a
region that wins no cell does not exist in that view [Henaff 2021, arXiv:2103.10957, §3]. Overlapping stacks, which that
code does not pool, keep the share of each cell that a region covers.

Shape letters: B images, H x W pixels, R regions, M drawn per view, C channels, P = h w cells.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from whytransfer import chance
from whytransfer.errors import InputError

NO_REGION = 255  # the id of pixels that belong to nothing
SMALLEST = 1e-3  # cells that a region must cover in all to exist
ADDRESS = 64  # of these draws in `chance`; operations of views have smaller ones
AT_ONCE = 2**24  # pixels of a stack turned into numbers at a time


def pool(regions: Tensor, grid: Sequence[int]) -> Tensor:
    """Which part of each cell of a grid (h, w) is whose: (B, R, h w) float32, cells row by row.

    A label map (B, H, W), ids 0 ... 254 and 255 for no region, gives 1 where the id covers most of the cell (of equals
    the lowest; "no region" may win it too) and 0 elsewhere: row r is id r, R is 1 + the highest id of the batch.
    A stack (B, R, H, W), not 0 inside, gives the share of the cell that is covered.
    H and W need no common factor with the grid: pixels on a border count in proportion to their area.
    Raises InputError for other shapes and other ids.
    """
    if regions.ndim == 4:
        return _shares(regions, grid)
    owner = owners(regions, grid)
    count = int(torch.where(regions == NO_REGION, -1, regions.long()).max()) + 1
    return (owner[:, None, :] == torch.arange(count, device=owner.device)[:, None]).float()


def owners(regions: Tensor, grid: Sequence[int]) -> Tensor:
    """The id that covers most of each cell: label map (B, H, W) -> (B, h w) int64, 255 where that is no region."""
    _check(regions, grid)
    (h, w), (batch, height, width) = grid, regions.shape
    y, cell_y, tall = _pieces(height, h, regions.device)
    x, cell_x, wide = _pieces(width, w, regions.device)
    cell = torch.arange(batch, device=regions.device)[:, None, None] * (h * w) + cell_y[:, None] * w + cell_x
    address = cell * 256 + regions[:, y[:, None], x]  # (B, pieces, pieces)
    area = (tall[:, None] * wide).expand_as(address)
    counts = torch.zeros(batch * h * w * 256, dtype=torch.int32, device=regions.device)
    counts.scatter_add_(0, address.flatten(), area.flatten())
    return counts.view(batch, h * w, 256).argmax(dim=2)  # the first of equals


class Drawn(NamedTuple):
    """M regions of each image, seen in one view."""

    ids: Tensor  # (B, M) int64; -1 where the view shows no region
    cells: Tensor  # (B, M, P) float32, how much of each cell is the region's


def chances(count: int, seed: int, step: int, index: Tensor, view: int, address: int = ADDRESS) -> Tensor:
    """(B, count) float64 numbers in [0, 1) for the images at positions `index` (B,) of their set, on its device.

    A function of (seed, step, index, view): of no batch, process or earlier draw. On a GPU it waits for `index`, so
    it comes before the network's work, not between.
    """
    return torch.from_numpy(chance.uniform(seed, step, index.cpu().numpy(), view, address, count)).to(index.device)


def draw(regions: Tensor, grid: Sequence[int], u: Tensor) -> Drawn:
    """M of the regions that exist on the grid, each as likely, with replacement; u (B, M) are `chances`.

    A region of a label map exists where it wins a cell, one of a stack where it covers a thousandth of one. Where a
    view shows no region its ids are -1 and its cells the whole view, an ordinary vector for batch norm to see.
    """
    if regions.ndim == 3:
        owner = owners(regions, grid)
        exists = torch.zeros(len(owner), 256, dtype=torch.bool, device=owner.device).scatter_(1, owner, True)
        ids = _nth_true(exists[:, :NO_REGION], u)
        cells = (owner[:, None, :] == ids[:, :, None]).float()
    else:
        shares = F.pad(_shares(regions, grid), (0, 0, 0, 1))  # (B, R + 1, P): a plane to point at where there is none
        ids = _nth_true(shares.sum(dim=2) > SMALLEST, u)
        cells = shares.gather(1, ids[:, :, None].clamp(min=0).expand(-1, -1, shares.shape[2]))
    return Drawn(ids, torch.where(ids[:, :, None] < 0, 1.0, cells))


def mean_features(features: Tensor, cells: Tensor) -> Tensor:
    """The mean of a feature map (B, C, h, w) over weighted cells (B, M, h w) -> (B, M, C)."""
    sums = torch.bmm(cells.to(features.dtype), features.flatten(2).transpose(1, 2))
    return sums / cells.sum(dim=2, keepdim=True)


def _nth_true(exists: Tensor, u: Tensor) -> Tensor:
    """exists (B, R) bool, u (B, M) in [0, 1) -> (B, M) positions of the true ones, evenly; -1 where none is."""
    rank = exists.cumsum(dim=1)  # (B, R)
    count = rank[:, -1:]
    nth = torch.searchsorted(rank, (u * count).long(), right=True)
    return torch.where(count > 0, nth, -1)


def _shares(stack: Tensor, grid: Sequence[int]) -> Tensor:
    """(B, R, H, W) -> (B, R, h w) float32: the covered share of each cell."""
    _check(stack, grid)
    rows, columns = (_weights(side, cells, stack.device) for side, cells in zip(stack.shape[2:], grid, strict=True))
    images = max(1, AT_ONCE // max(1, stack[0].numel()))
    parts = [rows @ (part != 0).float() @ columns.T for part in stack.split(images)]
    return torch.cat(parts).flatten(2)


@functools.lru_cache(maxsize=32)
def _pieces(side: int, cells: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """A side cut at the borders of its pixels and of its cells: each piece's pixel, cell and length in 1/cells px."""
    borders = np.union1d(np.arange(side + 1) * cells, np.arange(cells + 1) * side)
    start, lengths = borders[:-1], np.diff(borders).astype(np.int32)
    pixel, cell, length = (torch.from_numpy(x).to(device) for x in (start // cells, start // side, lengths))
    return pixel, cell, length


@functools.lru_cache(maxsize=32)
def _weights(side: int, cells: int, device: torch.device) -> Tensor:
    """(cells, side): the part of each cell that each pixel is; rows sum to 1."""
    pixel, cell, length = _pieces(side, cells, device)
    weights = torch.zeros(cells, side, device=device)
    weights[cell, pixel] = length / side
    return weights


def _check(regions: Tensor, grid: Sequence[int]) -> None:
    if regions.ndim not in (3, 4) or min(grid) < 1 or min(regions.shape[-2:]) < 1:
        raise InputError(
            f"regions {tuple(regions.shape)} on a grid of {tuple(grid)} cells: give label maps (B, H, W) or stacks "
            "(B, R, H, W), and at least one cell"
        )
    if regions.ndim == 3 and regions.dtype != torch.uint8 and regions.numel():
        low, high = (int(x) for x in torch.aminmax(regions))
        if low < 0 or high > NO_REGION:
            raise InputError(
                f"a label map has ids 0 to 254 and 255 for no region, found {low} to {high}: number them anew"
            )
