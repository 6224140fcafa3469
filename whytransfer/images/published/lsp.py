"""Leeds Sports Pose [Johnson & Everingham 2010]: 14 joints of one athlete per image, hidden ones too."""

from __future__ import annotations

import numpy as np

from whytransfer.errors import InputError
from whytransfer.images.matlab import read_matlab
from whytransfer.images.published.landmarks import LandmarkFiles, landmark_files
from whytransfer.images.published.layout import Layout, named_files, require_files, root_and_parts

JOINTS = 14
LAYOUT = Layout(
    "lsp",
    "ROOT/joints.mat (3 x 14 x 2000) and ROOT/images/im0001.jpg (all may lie in ROOT/LeedsSportsPose or "
    "ROOT/lsp_dataset)",
    ("train", "test", "train-60pct", "test-40pct", "all"),
)


def lsp(rest: str) -> LandmarkFiles:
    """The set named "lsp:ROOT[:SPLIT]": the authors' halves, or the shuffled 60 and 40 % of [Ericsson 2022].

    Whether a joint is hidden is not used: it has a place either way. Nothing here is an eye.
    """
    root, parts = root_and_parts("lsp", rest, ("SPLIT",))
    split = LAYOUT.split(parts)
    root = next((root / name for name in ("LeedsSportsPose", "lsp_dataset") if (root / name).is_dir()), root)
    table, folder = LAYOUT.find(root, ["joints.mat"]), LAYOUT.find(root, ["images"])
    try:
        joints = np.asarray(read_matlab(table, squeeze=False)["joints"], dtype=np.float32)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"lsp: {table} is damaged: {error}") from None
    if joints.ndim != 3 or joints.shape[:2] != (3, JOINTS):
        found = " x ".join(map(str, joints.shape))
        raise InputError(f"lsp: joints in {table} is {found}, expected 3 x 14 x N (LSP, not its extended set).")
    names = [f"im{k:04d}.jpg" for k in range(1, joints.shape[2] + 1)]
    require_files(LAYOUT, folder, names, named_files(folder, (".jpg",)), "images of joints.mat")
    points = joints[:2].transpose(2, 1, 0)  # (N, 14, 2)
    chosen = _of_split(len(names), split)
    kept = [names[i] for i in chosen]
    return landmark_files(folder, kept, f"lsp/{split}", np.ascontiguousarray(points[chosen]), [(table.name, table)])


def _of_split(count: int, split: str) -> list[int]:
    order = np.arange(count)
    if split.endswith("pct"):
        np.random.RandomState(0).shuffle(order)
    cut = int(0.6 * count) if split.endswith("pct") else count // 2
    ranges = {"train": order[:cut], "test": order[cut:]}
    return ranges.get(split.split("-")[0], order).tolist()
