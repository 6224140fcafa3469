"""The engine: fast equals readable, and a view is a function of (seed, epoch, index, view) and of nothing else."""

import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from oracle import CLOSE, pictures, render_torch
from torch.utils._python_dispatch import TorchDispatchMode

from whytransfer.errors import InputError
from whytransfer.views import RECIPES, Viewer, engine, eval_views, fused, recipe
from whytransfer.views.geometry import nearest
from whytransfer.views.photometry import apply_steps

SIDES = [50, 70, 50, 64, 64, 33, 90, 41, 120, 7, 13, 80, 48]
SIZES = list(zip(SIDES, SIDES[1:], strict=False))  # twelve, no two alike
PICTURES = pictures(*SIZES)
INDEX = np.arange(len(PICTURES)) * 1000
LABELS = np.arange(len(PICTURES)) % 3


def views(name="moco-v2", rows=None, epoch=2, size_px=32, seed=1, threads=1, device="cpu", **more):
    rows = list(range(len(PICTURES))) if rows is None else rows
    viewer = Viewer(recipe(name), size_px, seed, threads, device)
    return viewer([PICTURES[r] for r in rows], INDEX[rows], LABELS[rows], epoch, **more)


@pytest.mark.parametrize("name", RECIPES)
def test_fast_equals_readable(name):
    made = views(name)
    viewer = Viewer(recipe(name), 32, seed=1)
    for view, images in enumerate(made.images):
        assert images.shape == (12, 3, 32, 32) and images.dtype == torch.float32
        assert images.min() >= 0 and images.max() <= 1
        for row, picture in enumerate(PICTURES):
            drawn = viewer.parameters([picture], INDEX[[row]], epoch=2, view=view)
            expected = render_torch(picture, drawn, 32)
            torch.testing.assert_close(images[row], expected, rtol=1e-5, atol=5e-6)  # roundings of up to six steps


@pytest.mark.parametrize("name", ["moco-v2", "appearance", "detcon-b"])
def test_neither_batch_nor_order_nor_threads_change_a_bit(name):
    made, rows = views(name), [5, 0, 11, 3, 3]
    for other in (views(name, rows), views(name, rows, threads=3)):
        for a, b in zip(made.images, other.images, strict=True):
            assert torch.equal(a[rows], b)
    for a, b in zip(made.images, views(name, threads=4).images, strict=True):
        assert torch.equal(a, b)
    assert torch.equal(made.index, torch.from_numpy(INDEX)) and torch.equal(made.labels, torch.from_numpy(LABELS))


@pytest.fixture
def workers(monkeypatch):
    """Call it with how many threads there should be: the set of those that make pictures from then on.

    The first n threads wait for each other with a picture in hand, so n are seen at once, and fewer break the barrier.
    """
    make = fused.render

    def watch(n):
        seen, together = set(), threading.Barrier(n)

        def spy(*picture_and_parameters):
            if threading.get_ident() not in seen:
                seen.add(threading.get_ident())
                together.wait(timeout=20)
            make(*picture_and_parameters)

        monkeypatch.setattr(fused, "render", spy)
        return seen

    monkeypatch.setattr(engine, "_pools", {})
    return watch


MANY = [r % len(PICTURES) for r in range(96)]  # handed out by 8, so 12 threads find work


def test_as_many_threads_as_asked_make_the_same_bits(workers):
    many = [PICTURES[r] for r in MANY]
    expected, expected_centres = views("detcon-b", MANY).images, eval_views(many, 16, threads=1)
    for n in (1, 2, 3, 5, 2):
        seen = workers(n)
        made = views("detcon-b", MANY, threads=n).images
        assert len(seen) == n and (threading.get_ident() in seen) == (n == 1)
        assert all(torch.equal(a, b) for a, b in zip(made, expected, strict=True))
        seen = workers(n)
        assert torch.equal(eval_views(many, 16, threads=n), expected_centres) and len(seen) == n


def test_without_a_number_every_usable_core_works(workers, monkeypatch):
    monkeypatch.setattr(engine, "usable_cores", lambda: 3)
    seen = workers(3)
    views(rows=MANY, threads=None)
    assert len(seen) == 3
    seen = workers(3)
    eval_views([PICTURES[r] for r in MANY], 16)
    assert len(seen) == 3


DIGEST = """
import sys
sys.path.insert(0, sys.argv[1])
import test_engine
print(test_engine.digest())
"""


def digest():
    """One number for the bits of views under the recipes that use every operation."""
    made = [t.numpy().tobytes() for name in ("default", "simclr", "detcon-b") for t in views(name).images]
    return hashlib.sha256(b"".join(made)).hexdigest()


def test_kernels_compiled_elsewhere_and_for_another_processor_give_the_same_bits(tmp_path):
    """Fused or reordered sums round by how the compiler inlined: one way when fresh, another when loaded."""
    command = [sys.executable, "-c", DIGEST, str(Path(__file__).parent)]
    plain = {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    fresh, loaded = (
        subprocess.run(command, env=os.environ | plain, capture_output=True, text=True, check=True).stdout.strip()
        for _ in range(2)
    )
    assert fresh == loaded == digest() and list(tmp_path.rglob("*.nbi"))


def test_views_epochs_and_seeds_differ():
    first, second = views().images
    assert not torch.equal(first, second)
    assert not torch.equal(first, views(epoch=3).images[0]) and not torch.equal(first, views(seed=2).images[0])


def test_spatial_views_are_the_default_ones_without_colours():
    rows = [r for r in range(12) for _ in range(10)]
    index = np.arange(120)
    both = {n: Viewer(recipe(n), 16, seed=1, threads=1) for n in ("default", "spatial")}
    made = {n: viewer([PICTURES[r] for r in rows], index, index, epoch=0).images[0] for n, viewer in both.items()}
    colourless = (both["default"].parameters([PICTURES[r] for r in rows], index, 0, 0).after["op"] == 0).all(axis=1)
    assert 0 < colourless.sum() < 40  # 0.2 x 0.8 x 0.5 of them
    same = (made["default"] == made["spatial"]).flatten(1).all(1)
    assert same.tolist() == colourless.tolist()


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 3000), (3000, 2), (3, 3)])
@pytest.mark.parametrize("name", RECIPES)
def test_degenerate_pictures_still_give_views(name, size):
    flat = np.full((*size, 3), (200, 100, 50), np.uint8)
    made = Viewer(recipe(name), 16, seed=0, threads=1)([flat] * 4, np.arange(4), [0] * 4, epoch=0)
    for images in made.images:
        assert torch.isfinite(images).all() and images.min() >= 0 and images.max() <= 1
        if name in ("spatial", "supervised", "ladder-1"):
            colour = torch.tensor([200, 100, 50]).view(3, 1, 1) / 255
            torch.testing.assert_close(images, colour.expand_as(images), **CLOSE)
    assert torch.isfinite(eval_views([flat], 16, 18)).all()


def test_regions_follow_the_same_windows():
    maps = [torch.arange(h * w).reshape(h, w) for h, w in SIZES]
    made = views("detcon-b", regions=maps)
    viewer = Viewer(recipe("detcon-b"), 32, seed=1)
    for view in (0, 1):
        drawn = viewer.parameters(PICTURES, INDEX, epoch=2, view=view)
        assert made.regions[view].shape == (12, 32, 32)
        for row in range(12):
            assert torch.equal(made.regions[view][row], nearest(maps[row], drawn.windows[row], 32))


def test_stacks_of_masks_are_filled_up_with_empty_ones():
    stacks = [torch.ones(1 + row % 3, *size, dtype=torch.bool) for row, size in enumerate(SIZES)]
    made = views("detcon-s", regions=stacks).regions[1]
    assert made.shape == (12, 3, 32, 32) and made.dtype == torch.bool
    assert made.flatten(2).all(2).sum(1).tolist() == [1 + row % 3 for row in range(12)]
    assert made.flatten(2).any(2).sum(1).tolist() == [1 + row % 3 for row in range(12)]


def test_a_region_and_the_picture_of_it_agree_in_every_recipe():
    # a picture that is its own mask: white disc on black
    y, x = np.mgrid[:60, :80]
    disc = (y - 30) ** 2 + (x - 45) ** 2 < 400
    picture = np.repeat(disc[..., None] * np.uint8(255), 3, axis=2)
    for name in ("spatial", "supervised", "ladder-1"):
        viewer = Viewer(recipe(name), 48, seed=0, threads=1)
        made = viewer([picture] * 20, np.arange(20), [0] * 20, 0, regions=[torch.from_numpy(disc)] * 20)
        agreement = ((made.images[0][:, 0] > 0.5) == made.regions[0]).float().mean()
        assert agreement > 0.97


@pytest.mark.parametrize(("bad", "found"), [
    (np.zeros((4, 4), np.uint8), r"\(4, 4\) uint8"),
    (np.zeros((4, 4, 3), np.float32), r"\(4, 4, 3\) float32"),
    (np.zeros((4, 4, 4), np.uint8), r"\(4, 4, 4\) uint8"),
    (np.zeros((0, 4, 3), np.uint8), r"\(0, 4, 3\) uint8"),
])  # fmt: skip
def test_what_is_no_picture_is_refused(bad, found):
    with pytest.raises(InputError, match=rf"picture 1 of the batch is {found}; views need \(height, width, 3\) uint8"):
        Viewer(recipe("spatial"), 8, 0)([PICTURES[0], bad], np.arange(2), [0, 0], 0)


def test_strided_and_read_only_pictures_are_the_same_pictures():
    frozen = PICTURES[0].copy()
    frozen.flags.writeable = False
    strided = np.ascontiguousarray(PICTURES[0].transpose(2, 0, 1)).transpose(1, 2, 0)
    a, b, c = (eval_views([p], 16) for p in (PICTURES[0], frozen, strided))
    assert torch.equal(a, b) and torch.equal(a, c) and PICTURES[0].flags.writeable


def test_other_requests_that_cannot_be_met_are_refused():
    with pytest.raises(InputError, match="the side must be at least 1 pixel"):
        Viewer(recipe("spatial"), 0, seed=0)
    with pytest.raises(InputError, match="cannot crop 64 px from pictures resized to 32 px"):
        eval_views(PICTURES, 64, 32)
    with pytest.raises(InputError, match=r"regions of picture 1 are \(9, 9\) and the picture is \(70, 50\)"):
        views("detcon-s", [0, 1], regions=[torch.zeros(50, 70), torch.zeros(9, 9)])
    with pytest.raises(InputError, match="1 region maps for 2 pictures"):
        views("detcon-s", [0, 1], regions=[torch.zeros(50, 70)])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", RECIPES)
def test_gpu_equals_cpu(name):
    cpu, gpu = views(name), views(name, device="cuda", regions=[torch.zeros(*size) for size in SIZES])
    for a, b in zip(cpu.images, gpu.images, strict=True):
        assert b.is_cuda
        torch.testing.assert_close(b.cpu(), a, rtol=1e-5, atol=5e-6)


class CopiesFromTheHost(TorchDispatchMode):
    """Counts tensors that go from the CPU to another device."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        given = [a for a in args if isinstance(a, torch.Tensor)]
        if isinstance(out, torch.Tensor) and out.device.type != "cpu" and any(a.device.type == "cpu" for a in given):
            self.count += 1
        return out


@pytest.mark.parametrize("name", ["moco-v2", "byol", "simclr"])
def test_the_parameters_of_all_colours_reach_another_device_in_one_copy(name):
    drawn = Viewer(recipe(name), 32, seed=1).parameters(PICTURES, INDEX, epoch=0, view=1)
    assert len(np.unique(drawn.after["op"])) > 4
    images = torch.zeros(len(PICTURES), 3, 32, 32, device="meta")
    with CopiesFromTheHost() as copies:
        assert apply_steps(images, drawn.after).shape == images.shape
    assert copies.count == 1
