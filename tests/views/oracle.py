"""Both implementations behind one call, and pictures to feed them."""

import numpy as np
import torch

from whytransfer.views import engine, geometry, photometry
from whytransfer.views.parameters import STEP, WINDOW, Draw

CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def pictures(*sizes, seed=0):
    """Noise of sizes (height, width): the hardest case for resampling, and every colour occurs."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def floats(picture):
    """(H, W, 3) uint8 -> (3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(picture).permute(2, 0, 1).float() / 255


def window(top=0, left=0, height=1, width=1, grid_height=None, grid_width=None, grid_top=0, grid_left=0, flip=0):
    """One WINDOW record; the grid is the region unless given."""
    fields = (top, left, height, width, grid_height or height, grid_width or width, grid_top, grid_left, flip)
    return np.array([fields], WINDOW)


def step(op, value=0.0, radius_px=0):
    """(1, 1) STEP."""
    return np.array([[(op, value, radius_px)]], STEP)


NO_STEPS = np.zeros((1, 0), STEP)


def render_fused(picture, drawn, size_px):
    """(3, S, S) by the compiled kernels."""
    return engine.render(engine.checked([picture]), drawn, size_px)[0]


def render_torch(picture, drawn, size_px):
    """(3, S, S) by batched tensor operations."""
    images = photometry.apply_steps(floats(picture)[None], drawn.before)
    return photometry.apply_steps(geometry.resample(images, drawn.windows, size_px, drawn.resampling), drawn.after)[0]


IMPLEMENTATIONS = {"fused": render_fused, "torch": render_torch}


def coloured(render, picture, *steps):
    """A square picture after colour steps, its geometry untouched."""
    side = picture.shape[0]
    return render(picture, Draw(window(height=side, width=side), NO_STEPS, np.hstack(steps)), side)
