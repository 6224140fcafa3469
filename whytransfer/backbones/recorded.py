"""A short record of what a backbone says of 16 generated images, kept with its weights and compared at each load.

The features prove that the network is the same: equal weights under another normalisation, padding, epsilon or library
give other features, and that is what a comparison must not miss. Eight numbers per image: mean and spread of the
features, and six projections on fixed random directions. A hash of the weights beside them finds what 16 images cannot
show: one weight in millions, or one that an idle channel hides.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from whytransfer import chance
from whytransfer.backbones.backbone import Backbone
from whytransfer.errors import InputError

COUNT, SIZE_PX, SEED = 16, 32, 20_211_210
PROJECTIONS = 6
# Measured (docs/weights.md): threads, memory layouts and float64 stay under 1e-5; weights rounded to float16 are
# 0.0016 to 0.0025 away, to bfloat16 0.01 to 0.02; another normalisation, channel order or padding 0.1 and more.
TOLERANCE = 1e-3
_IMAGES = f"scenes:{COUNT}:{SEED}:{SIZE_PX}"  # kept as a file: no renderer to wait for, and none that could change them


@functools.cache
def fixed_images(size_px: int = SIZE_PX) -> Tensor:
    """The 16 generated images, (16, 3, size_px, size_px) in [0, 1]; enlarged bilinearly where another size is asked."""
    with Image.open(Path(__file__).with_name("fixed_images.png")) as sheet:  # 4 rows of 4
        pixels = np.array(sheet.convert("RGB")).reshape(4, SIZE_PX, 4, SIZE_PX, 3).transpose(0, 2, 4, 1, 3)
    images = torch.from_numpy(pixels.reshape(COUNT, 3, SIZE_PX, SIZE_PX)).float() / 255
    return images if size_px == SIZE_PX else F.interpolate(images, size=(size_px, size_px), mode="bilinear")


def record(backbone: Backbone, size_px: int | None = None) -> dict[str, Any]:
    """What a card keeps of a backbone, computed on a copy of it: float32, eval mode, on the processor.

    `size_px` is the side of the images; None: the smallest at which every weight counts.
    """
    twin = copy.deepcopy(backbone).to("cpu", torch.float32).eval()
    size_px = size_px or _telling_px(twin)
    features = _numbers(twin, size_px).tolist()
    return {"images": _IMAGES, "size_px": size_px, "features": features, "weights_sha256": weights_sha256(twin)}


def verify(backbone: Backbone, recorded: Any, where: str) -> float:
    """How far a loaded backbone (in eval mode) is from its record, relative to the spread of the features.

    Raises InputError above TOLERANCE, naming the distance, and for a record that cannot be read or compared.
    """
    try:
        wanted = np.asarray(recorded["features"], dtype=np.float64).reshape(COUNT, 2 + PROJECTIONS)
        size_px = int(recorded["size_px"])
        if recorded["images"] != _IMAGES:
            raise ValueError(f"it is of the images {recorded['images']}, where this version has {_IMAGES}")
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"the record of features in {where} cannot be used ({type(error).__name__}: {error}). Delete its entry "
            "`recorded` to load without the comparison."
        ) from None
    apart = distance(_numbers(backbone, size_px), wanted)
    if not apart <= TOLERANCE:  # NaN too
        raise InputError(
            f"the backbone of {where} does not say what it said when it was saved: its features of {COUNT} fixed "
            f"images are {apart:.2g} of their spread away from the record (allowed: {TOLERANCE:g}; another machine "
            "makes 1e-5). Its weights, its mean and std or its architecture were changed, or the file is damaged: "
            "bring a copy back."
        )
    if recorded.get("weights_sha256", "") not in ("", weights_sha256(backbone)):  # older cards have no hash
        raise InputError(
            f"the weights, or the mean and std, of {where} are not those that were saved: their SHA-256 is another, "
            f"although the features of {COUNT} fixed images are only {apart:.2g} of their spread away from the record. "
            "They were changed, or the file is damaged: bring a copy back."
        )
    return apart


def distance(found: NDArray[Any], wanted: NDArray[Any]) -> float:
    """The largest difference of two records (16, 8), over the mean spread of the features in the wanted one."""
    scale = float(np.abs(wanted[:, 1]).mean())
    return float(np.abs(found - wanted).max()) / (scale if scale > 0 else 1.0)


def weights_sha256(backbone: Backbone) -> str:
    """SHA-256 of mean, std, parameters and statistics by name, as float32; counters of batches, unused, stay out."""
    digest = hashlib.sha256()
    tensors = {**dict(backbone.named_parameters()), **dict(backbone.named_buffers())}
    for name in sorted(tensors):
        if not name.endswith("num_batches_tracked"):
            digest.update(f"{name} {tuple(tensors[name].shape)}\n".encode())
            digest.update(tensors[name].detach().cpu().float().contiguous().numpy().data)
    return digest.hexdigest()


def _telling_px(backbone: Backbone) -> int:
    """32, or 64 where the last map would have a single place, of which a 3x3 convolution uses one weight in nine."""
    with torch.inference_mode():
        places = backbone(fixed_images()[:1]).map.shape[2:]
    return SIZE_PX if min(places) > 1 else 2 * SIZE_PX


def _numbers(backbone: Backbone, size_px: int) -> NDArray[Any]:
    """(16, 8) float64: mean, spread, six projections of each image's features."""
    with torch.inference_mode(), torch.autocast("cpu", enabled=False):
        device = next((t.device for t in [*backbone.parameters(), *backbone.buffers()]), torch.device("cpu"))
        features = backbone(fixed_images(size_px).to(device)).vector.double().cpu()  # (16, D)
    centred = features - features.mean(1, keepdim=True)
    spread = centred.square().mean(1).sqrt()
    projected = centred @ directions(features.shape[1]) / math.sqrt(features.shape[1])
    return torch.cat([features.mean(1, keepdim=True), spread[:, None], projected], dim=1).numpy()


def directions(width: int) -> Tensor:
    """(D, 6) of +1 and -1: a function of the width alone, so that a record means the same everywhere."""
    drawn = chance.uniform(SEED, 0, np.arange(width), 0, 0, PROJECTIONS)
    return torch.from_numpy(np.where(drawn < 0.5, -1.0, 1.0))


def compare(original: Backbone, other: nn.Module, size_px: int) -> tuple[float, float]:
    """Largest difference of vectors and of maps of the 16 images at another size, each over the spread of its values.

    `other` is a backbone, or any module that gives (vector, map).
    """
    with torch.inference_mode():
        ours = original(fixed_images(size_px))
        theirs = other(fixed_images(size_px))
    pair = (theirs[0], theirs[1]) if isinstance(theirs, tuple) else (theirs.vector, theirs.map)
    return _relative(ours.vector, pair[0]), _relative(ours.map, pair[1])


def _relative(ours: Tensor, theirs: Tensor) -> float:
    if ours.shape != theirs.shape:
        return math.inf
    scale = float(ours.std()) or 1.0
    return float((ours - theirs).abs().max()) / scale
