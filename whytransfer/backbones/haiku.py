"""Haiku's ResNets (BYOL and DetCon of DeepMind, .npy and .npz) -> the state dict of one of ours.

The published .npy is one dictionary of modules, {"res_net50/~/block_group_0/~/block_1/~/conv_2": {"w": array}}: with
parameters (`w`; `scale`, `offset`) and, under `/~/mean_ema` and `/~/var_ema`, the running statistics, of which
`average` is the one used in evaluation [dm-haiku, nets/resnet.py; github.com/google-deepmind/detcon]. A .npz holds the
same arrays under "module/name". Kernels are (H, W, in, out) there and (out, in, H, W) here; batch-norm vectors are
(1, 1, 1, C) there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whytransfer.backbones.pickles import read_npy, read_npz, read_pickle
from whytransfer.errors import InputError

SUFFIXES = (".npy", ".npz", ".pkl")
_TRUNK = re.compile(r"(.*/)?res_net\w*/~/(.+)")
_BLOCK = re.compile(r"block_group_(\d)/~/block_(\d+)/~/(shortcut_)?(conv|batchnorm|norm)(?:_(\d))?/(.+)")
_STEM = re.compile(r"initial_(conv|batchnorm|norm)(?:_1)?/(.+)")
_LEAVES = {
    "w": "weight",
    "scale": "weight",
    "offset": "bias",
    "~/mean_ema/average": "running_mean",
    "~/var_ema/average": "running_var",
}
_COUNTERS = ("~/mean_ema/hidden", "~/mean_ema/counter", "~/var_ema/hidden", "~/var_ema/counter")


def read_haiku(path: Path) -> tuple[dict[str, Tensor], list[str]]:
    """The trunk of a file under torchvision's names, and the names of what lies beside it.

    Where a file has an online and a target network, the online one is taken. Raises InputError for a file that holds
    no ResNet of Haiku, for one of pre-activation (v2), and for a key of the trunk that is not known.
    """
    arrays = dict(_flat(_content(path), ""))
    trunk, beside = dict[str, Tensor](), set[str]()
    for key, value in arrays.items():
        found = _TRUNK.fullmatch(key)
        if found is None or "target" in (found[1] or ""):
            beside.add(key.partition("/")[0])
            continue
        name = our_name(found[2])
        if name in trunk:
            raise InputError(f"{path} holds several networks: {key} comes twice. Save the wanted one alone.")
        if name:
            trunk[name] = _tensor(value, kernel=found[2].endswith("/w"))
        elif found[2].startswith("logits/"):
            beside.add("logits")
        elif not found[2].endswith(_COUNTERS):
            raise InputError(_unknown(path, key, found[2]))
    if not trunk:
        some = ", ".join(list(arrays)[:4]) or "none at all"
        raise InputError(f"{path} holds no ResNet of Haiku: no module res_net... in it. Its first keys: {some}")
    return trunk, sorted(beside)


def our_name(key: str) -> str:
    """ "block_group_2/~/block_0/~/shortcut_conv/w" -> "layer3.0.downsample.0.weight"; "" for what has no place here."""
    if stem := _STEM.fullmatch(key):
        leaf = _LEAVES.get(stem[2], "")
        return leaf and f"{'conv1' if stem[1] == 'conv' else 'bn1'}.{leaf}"
    if block := _BLOCK.fullmatch(key):
        group, number, shortcut, kind, index, rest = block.groups()
        leaf = _LEAVES.get(rest, "")
        if shortcut:
            part = f"downsample.{0 if kind == 'conv' else 1}"
        else:
            part = f"{'conv' if kind == 'conv' else 'bn'}{int(index or 0) + 1}"
        return leaf and f"layer{int(group) + 1}.{number}.{part}.{leaf}"
    return ""


def _content(path: Path) -> Any:
    if not path.is_file():
        raise InputError(f"no weight file at {path}")
    read = {".npy": read_npy, ".npz": read_npz, ".pkl": read_pickle}[path.suffix]
    content = read(path)
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds no dictionary of weights but {type(content).__name__}")
    return content


def _flat(content: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}/")
        elif isinstance(value, np.ndarray | np.generic):
            yield f"{prefix}{key}", np.asarray(value)


def _tensor(value: NDArray[Any], kernel: bool) -> Tensor:
    """HWIO kernels become OIHW, (1, 1, 1, C) vectors (C,)."""
    arranged = value.transpose(3, 2, 0, 1) if kernel and value.ndim == 4 else value.reshape(-1)
    return torch.from_numpy(np.ascontiguousarray(arranged))


def _unknown(path: Path, key: str, inner: str) -> str:
    if inner.startswith("final_batchnorm"):
        return f"{path} is a pre-activation ResNet (v2: it has a final_batchnorm), which is not built here"
    return f"{path} holds {key}, which is no part of a ResNet as Haiku names them"
