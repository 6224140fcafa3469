"""Boxes in views: torchvision's, the same as masks pushed through the windows, left out by area, padded to a batch."""

import numpy as np
import pytest
import torch
from oracle import CLOSE, pictures, window
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as F

from whytransfer.errors import InputError
from whytransfer.records import Views
from whytransfer.views import Viewer, recipe
from whytransfer.views.geometry import SEEN, boxes_in_view, nearest

SIZES = [(50, 70), (64, 48), (33, 90), (120, 41)]
PICTURES = pictures(*SIZES)
INDEX = np.array([7, 1, 30, 4])


def tables(seed=0, most=6):
    """Per picture up to `most` boxes with whole corners and their classes."""
    rng = np.random.default_rng(seed)
    made = []
    for height, width in SIZES:
        count = int(rng.integers(1, most + 1))
        x, y = (np.sort(rng.integers(0, side + 1, (count, 2)), axis=1) for side in (width, height))
        made.append(np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1], rng.integers(0, 9, count)], 1).astype(np.float32))
    return [torch.from_numpy(table) for table in made]


def views(rows=(0, 1, 2, 3), epoch=0, boxes=None, **more):
    viewer = Viewer(recipe("supervised"), 24, seed=2, threads=1)
    boxes = [(boxes or tables())[r] for r in rows]
    return viewer([PICTURES[r] for r in rows], INDEX[list(rows)], [0] * len(rows), epoch, boxes=boxes, **more)


def test_they_are_torchvisions_boxes():
    viewer, kept = Viewer(recipe("supervised"), 24, seed=2), 0
    for epoch in range(10):
        made = views(epoch=epoch).boxes[0]
        windows = viewer.parameters(PICTURES, INDEX, epoch, 0).windows
        for row, (table, w) in enumerate(zip(tables(), windows, strict=True)):
            typed = tv_tensors.BoundingBoxes(table[:, :4], format="XYXY", canvas_size=SIZES[row])
            region = [int(w[k]) for k in ("top", "left", "height", "width")]
            expected = F.resized_crop(typed, *region, [24, 24])
            expected = (F.horizontal_flip(expected) if w["flip"] else expected).as_subclass(torch.Tensor)
            area = (expected[:, 2:] - expected[:, :2]).prod(1)
            whole = (table[:, 2:4] - table[:, :2]).prod(1) * (24 / region[2]) * (24 / region[3])
            seen = (area > 0) & (area >= SEEN * whole)
            kept += int(seen.sum())
            real = made[row][made[row][:, 4] >= 0]
            torch.testing.assert_close(real[:, :4], expected[seen], **CLOSE)
            assert torch.equal(real[:, 4], table[seen, 4])
    assert kept > 20


def test_they_lie_around_rectangles_that_went_through_the_same_views():
    """Filled rectangles as masks through the nearest-neighbour path; an edge is within a pixel of the view."""
    stacks = []
    for table, (height, width) in zip(tables(), SIZES, strict=True):
        stack = torch.zeros(len(table), height, width, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(stack, table[:, :4].int().tolist(), strict=True):
            mask[y0:y1, x0:x1] = True
        stacks.append(stack)
    found = 0
    for epoch in range(10):
        drawn = Viewer(recipe("supervised"), 24, seed=2).parameters(PICTURES, INDEX, epoch, 0)
        made = views(epoch=epoch, regions=stacks)
        for row, (stack, table) in enumerate(zip(stacks, tables(), strict=True)):
            masks = made.regions[0][row][: len(stack)]
            assert torch.equal(masks, nearest(stack, drawn.windows[row], 24))
            one_by_one = [boxes_in_view(box[None], drawn.windows[row], 24) for box in table]
            for mask, box in zip(masks, one_by_one, strict=True):
                if len(box) and mask.any():
                    rows, columns = torch.where(mask.any(1))[0], torch.where(mask.any(0))[0]
                    around = torch.stack([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
                    assert (around - box[0, :4]).abs().max() <= 1.0
                    found += 1
    assert found > 20


@pytest.mark.parametrize("flip", [0, 1])
def test_a_box_with_less_than_a_quarter_of_its_area_in_view_is_left_out(flip):
    w = window(0, 0, 40, 40, 20, 20, flip=flip)[0]  # the view is the left upper part, at half the size
    boxes = torch.tensor([[30.0, 10, 70, 20, 1], [30.5, 10, 70.5, 20, 2], [50, 0, 60, 9, 3], [5, 5, 5, 9, 4]])
    expected = torch.tensor([[15.0, 5, 20, 10, 1]])
    if flip:
        expected = torch.tensor([[0.0, 5, 5, 10, 1]])
    assert torch.equal(boxes_in_view(boxes, w, 20), expected)


def test_the_centre_of_a_larger_grid_is_followed_too():
    w = window(0, 0, 30, 60, 20, 40, 2, 12)[0]  # resized to 20 x 40, then 16 px from (2, 12)
    box = torch.tensor([[21.0, 6, 27, 15, 0]])
    assert torch.allclose(boxes_in_view(box, w, 16), torch.tensor([[2.0, 2, 6, 8, 0]]))


def test_a_picture_without_boxes_and_a_batch_without_any():
    none = torch.zeros((0, 5))
    made = views(boxes=[tables()[0], none, none, tables()[3]]).boxes[0]
    assert made.dtype == torch.float32 and (made[1:3, :, 4] == -1).all()
    assert views(boxes=[none] * 4).boxes[0].shape == (4, 0, 5)


def test_neither_batch_nor_order_change_them():
    whole, part = views(epoch=3).boxes[0], views((2, 0), epoch=3).boxes[0]
    for a, b in zip(whole[[2, 0]], part, strict=True):
        assert torch.equal(a[a[:, 4] >= 0], b[b[:, 4] >= 0])


def test_two_views_have_their_own_and_move_together():
    viewer = Viewer(recipe("moco-v2"), 24, seed=2, threads=1)
    made = viewer(PICTURES, INDEX, [0] * 4, 0, boxes=tables())
    assert len(made.boxes) == 2 and made.regions == () and not made.boxes[0].equal(made.boxes[1])
    assert [b.device.type for b in made.to("meta").boxes] == ["meta"] * 2


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (tables()[:3], "boxes of 3 pictures for 4 pictures"),
        ([torch.zeros(2, 4)] * 4, r"boxes of picture 0 are \(2, 4\) torch.float32: give \(R, 5\) float32"),
        ([torch.zeros(1, 5).double()] * 4, "torch.float64: give"),
    ],
)
def test_what_are_no_boxes_is_refused(boxes, message):
    viewer = Viewer(recipe("supervised"), 24, seed=2, threads=1)
    with pytest.raises(InputError, match=message):
        viewer(PICTURES, INDEX, [0] * 4, 0, boxes=boxes)


def test_views_check_their_boxes():
    images, index = (torch.rand(2, 3, 4, 4),), torch.arange(2)
    with pytest.raises(ValueError, match="batch sizes differ"):
        Views(images, index, index, (), (torch.zeros(3, 1, 5),))
    for wrong in (torch.zeros(2, 5), torch.zeros(2, 1, 4), torch.zeros(2, 1, 5).long()):
        with pytest.raises(ValueError, match=r"boxes are \(B, R, 5\) floating point"):
            Views(images, index, index, (), (wrong,))
