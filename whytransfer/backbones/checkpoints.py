"""Weight files of many origins -> the state dict of one of our ResNets, or a message that says what does not fit.

The trunk is found by its own keys, whatever wraps it (`state_dict`, `module.encoder_q.`, `backbone.` ...): every
dictionary in the file is flattened to dotted keys, and a trunk is wherever `PREFIXconv1.weight` and
`PREFIXlayer1.0.conv1.weight` meet.
Nothing here runs code from a file: safetensors, or `torch.load(weights_only=True)`.
"""

from __future__ import annotations

import argparse
import hashlib
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from whytransfer.backbones.backbone import IMAGENET_MEAN, IMAGENET_STD
from whytransfer.backbones.resnet import BLOCKS, Arch, ResNet, build
from whytransfer.errors import InputError

SUFFIXES = (".pt", ".pth", ".tar", ".ckpt", ".bin", ".safetensors")
_SEQUENTIAL = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
_AVERAGED = re.compile(r"(^|[._])(k|key|momentum|teacher|target|ema)([._]|$)")
_TRUNK = re.compile(r"(conv1|bn1|layer[1-4]\.\d+)\.")


def fingerprint(module: nn.Module) -> str:
    """SHA-256 over the name, type, shape and bytes of every parameter and buffer: equal means nothing has moved.

    Taken before and after a readout it proves that frozen weights, batch-norm statistics included, stayed frozen.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted([*module.named_parameters(), *module.named_buffers()], key=lambda item: item[0]):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a weight file under its dotted key, on the CPU; InputError when it cannot be read safely."""
    content = read_content(path)
    try:
        return dict(_flatten(content, ""))
    except RecursionError:
        raise _unreadable(path, ValueError("a dictionary in it holds itself, or they are nested without end")) from None


def read_content(path: Path) -> Any:
    """What a weight file holds, on the CPU: tensors, their dictionaries, and options (argparse.Namespace, inert)."""
    if not path.is_file():
        raise InputError(f"no weight file at {path}")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):  # its attributes are set, nothing is called
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _needs_code(path, error) from None
    except (RuntimeError, EOFError, ValueError, KeyError, OSError, SafetensorError) as error:
        raise _unreadable(path, error) from None


def _needs_code(path: Path, error: pickle.UnpicklingError) -> InputError:
    found = re.search(r"GLOBAL (\S+)", str(error))
    if not found and not zipfile.is_zipfile(path) and path.read_bytes()[:1] != b"\x80":  # how pickles begin
        return _unreadable(path, ValueError("it does not begin as one"))
    what = f"an object of {found[1]}" if found else "a plain pickle"
    return InputError(
        f"{path} holds more than tensors ({what}), and reading that could run code from the file, so it is refused "
        "(torch.load with weights_only=True). Save only the weights where the file came from: "
        "torch.save(model.state_dict(), FILE), or of a checkpoint torch.save(torch.load(FILE)['state_dict'], NEW)."
    )


def _unreadable(path: Path, error: BaseException) -> InputError:
    text = "" if isinstance(error, KeyError) else str(error).strip()  # a KeyError holds one unknown byte of a pickle
    reason = (text or "it ends or breaks off where data should be").splitlines()[0].partition(". ")[0]
    size = path.stat().st_size
    return InputError(f"{path} ({size:,} bytes) is no readable weight file, or is damaged: {reason}")


def _flatten(content: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    if isinstance(content, Tensor):
        yield prefix[:-1], content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _flatten(value, f"{prefix}{key}.")
    elif isinstance(content, list | tuple):  # several networks, or Lightning's optimisers
        for i, value in enumerate(content):
            yield from _flatten(value, f"{prefix}{i}.")


def find_trunk(tensors: Mapping[str, Tensor], path: Path) -> tuple[str, dict[str, Tensor]]:
    """The prefix of the ResNet inside a file and its tensors under our names.

    A file with a trained network and its moving average (query and key, student and teacher) gives the trained one.
    InputError when there is none, or several that cannot be told apart.
    """
    renamed = find_trunks(tensors)
    if not renamed:
        some = ", ".join(list(tensors)[:4]) or "none at all"
        raise InputError(
            f"{path} holds no ResNet: no conv1.weight beside layer1.0.conv1.weight. Its first tensors: {some}"
        )
    trained = [p for p in renamed if not _AVERAGED.search(p)] or list(renamed)
    shortest = min(p.count(".") for p in trained)
    best = [p for p in trained if p.count(".") == shortest]
    if len(best) > 1:
        raise InputError(f"{path} holds {len(best)} ResNets ({', '.join(best)}): save the wanted one alone")
    return best[0], renamed[best[0]]


def find_trunks(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
    """Every ResNet of a file: its prefix and its tensors under our names."""
    prefixes = [k.removesuffix("conv1.weight") for k in tensors if re.search(r"(^|\.)conv1\.weight$", k)]
    prefixes = [p for p in prefixes if f"{p}layer1.0.conv1.weight" in tensors]
    renamed = {p: {k.removeprefix(p): v for k, v in tensors.items() if _is_trunk(k, p)} for p in prefixes}
    for prefix in [k.removesuffix("4.0.conv1.weight") for k in tensors if k.endswith("4.0.conv1.weight")]:
        if f"{prefix}0.weight" in tensors:  # nn.Sequential(*resnet.children()), as lightly's examples save it
            renamed[prefix] = from_sequential(tensors, prefix, _SEQUENTIAL)
    return renamed


def from_sequential(tensors: Mapping[str, Tensor], prefix: str, places: Mapping[str, str]) -> dict[str, Tensor]:
    """Tensors of numbered modules under our names: "backbone.4.0.conv1.weight" -> "layer1.0.conv1.weight"."""
    found = {}
    for key, value in tensors.items():
        number, _, rest = key.removeprefix(prefix).partition(".")
        if key.startswith(prefix) and number in places:
            found[f"{places[number]}.{rest}"] = value
    return found


def infer_arch(trunk: Mapping[str, Tensor], path: Path) -> Arch:
    """Depth from the blocks, width and stem from the first convolution; InputError when it is no ResNet of ours."""
    blocks = tuple(len({k.split(".")[1] for k in trunk if k.startswith(f"layer{i}.")}) for i in (1, 2, 3, 4))
    bottleneck = "layer1.0.conv3.weight" in trunk
    depths = [d for d, counts in BLOCKS.items() if counts == blocks and Arch(d).bottleneck == bottleneck]
    channels, kernel = trunk["conv1.weight"].shape[0], trunk["conv1.weight"].shape[-1]
    if not depths or channels % 64 or not 1 <= channels // 64 <= 9 or kernel not in (3, 7):
        kind = "bottleneck" if bottleneck else "basic"
        raise InputError(
            f"{path} is no ResNet known here: {kind} blocks {blocks}, {channels} stem channels of {kernel}x{kernel}. "
            f"Known depths: {', '.join(f'{d} {counts}' for d, counts in BLOCKS.items())}; "
            "stems 7x7 and 3x3; 64 to 576 stem channels."
        )
    return Arch(depths[0], channels // 64, small=kernel == 3)


def load_into(module: nn.Module, trunk: Mapping[str, Tensor], path: Path) -> None:
    """Put trunk tensors into a module, all of them or none; InputError naming the first keys and shapes that differ."""
    wanted = module.state_dict()
    given = dict(trunk)
    for name in wanted:
        if name.endswith("num_batches_tracked"):  # files from before 2018 have none
            given.setdefault(name, torch.zeros((), dtype=torch.long))
    problems = [f"{k} is missing" for k in wanted if k not in given]
    problems += [f"{k} {tuple(v.shape)} is not part of it" for k, v in given.items() if k not in wanted]
    problems += [
        f"{k} is {tuple(given[k].shape)}, not {tuple(v.shape)}"
        for k, v in wanted.items()
        if k in given and given[k].shape != v.shape
    ]
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        name = getattr(module, "arch", type(module).__name__)
        raise InputError(f"{path} is a checkpoint of another architecture than {name}: {'; '.join(problems[:3])}{more}")
    for key, value in wanted.items():
        if value.is_floating_point():
            _refuse_no_numbers(key, given[key], path)
    module.load_state_dict(given)


def _refuse_no_numbers(key: str, tensor: Tensor, path: Path) -> None:
    """InputError for what a cast would silently turn into other weights, and for what no network computes with."""
    if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.is_meta:
        kind = "no values at all" if tensor.is_meta else f"{str(tensor.dtype).removeprefix('torch.')} values"
        kind = kind if tensor.layout == torch.strided else "a sparse tensor"
        raise InputError(
            f"{path} has {kind} in {key}, where floating-point numbers belong: it was quantised, pruned or not saved "
            "whole. Save its weights as ordinary ones where it came from."
        )
    if not bool(torch.isfinite(tensor.float()).all()):
        raise InputError(f"{path} has NaN or infinity in {key}: the training diverged, or the file is damaged")
    if key.endswith("running_var") and bool((tensor < 0).any()):
        raise InputError(f"{path} has negative variances in {key}: the file is damaged, or holds something else there")


def load_checkpoint(path: Path | str, backbone: ResNet | None = None) -> tuple[ResNet, str]:
    """A ResNet with the weights of a file, and a note of where in the file they were and what was left aside.

    Without `backbone` its architecture is read off the tensors; with one, the file must fit it exactly.
    """
    path = Path(path)
    tensors = read_tensors(path)
    prefix, trunk = find_trunk(tensors, path)
    if backbone is None:
        backbone = unfilled(infer_arch(trunk, path))
    load_into(backbone, trunk, path)
    return backbone, told(prefix, left_aside(tensors, trunk, prefix), trunk)


def left_aside(tensors: Mapping[str, Tensor], trunk: Mapping[str, Tensor], prefix: str) -> list[str]:
    """What of a file is not its ResNet: for each other key the first part in which it leaves the prefix."""
    used = {id(tensor) for tensor in trunk.values()}
    return sorted({_after_common(key, prefix) for key, tensor in tensors.items() if id(tensor) not in used})


def told(prefix: str, aside: Sequence[str], trunk: Mapping[str, Tensor]) -> str:
    """The note of a backbone from a file: where in it the weights were, what was left aside, how they were rounded."""
    note = [f"weights under {prefix!r}"] if prefix else []
    note += [f"left aside: {', '.join(aside[:8])}{' ...' if len(aside) > 8 else ''}"] if aside else []
    types = {t.dtype for t in trunk.values() if t.is_floating_point()} - {torch.float32, torch.float64}
    note += [f"stored as {', '.join(sorted(str(t).removeprefix('torch.') for t in types))}"] if types else []
    return "; ".join(note)


def unfilled(arch: Arch) -> ResNet:
    """A ResNet whose weights are still to come: no time and no random numbers are spent on an initialisation."""
    with torch.device("meta"):
        backbone = build(str(arch))
    return backbone.to_empty(device="cpu").normalise_with(IMAGENET_MEAN, IMAGENET_STD)


def _is_trunk(key: str, prefix: str) -> bool:
    return key.startswith(prefix) and bool(_TRUNK.match(key, len(prefix)))


def _after_common(key: str, prefix: str) -> str:
    """The first part in which a key leaves the prefix: ("model.k.bn1.bias", "model.q.") -> "k"."""
    parts, common = key.split("."), prefix.split(".")
    while len(parts) > 1 and parts[0] == common[0]:
        parts, common = parts[1:], common[1:]
    return parts[0]
