"""A run folder: everything one pretraining run leaves behind, written so that a kill at any moment loses nothing.

card.json             what was run: resolved configuration, data fingerprint, versions, pixel stack; `finished`
checkpoint.pt         the whole state to go on from: networks, queue, optimiser, step, metrics
backbone.safetensors  the pretrained backbone (torchvision's key names), readable by anything
metrics.jsonl         one line per epoch
tensorboard/          the same scalars, step by step
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pickle
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors.torch import save as safetensors_bytes

from whytransfer.errors import InputError, RunError


def atomic_write(
    path: Path, write: Callable[[BinaryIO], object], advice: str = "Free some space and run the same command again."
) -> None:
    """Write aside, flush, rename: `path` holds the old content or the new one, never half of it.

    Raises RunError, which ends in `advice`, when the disk is full; the old file stays and the partial one is removed.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    aside = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            _as_others_are_made(file.fileno())
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException as error:
        aside.unlink(missing_ok=True)
        if _is_disk_full(error):
            free = shutil.disk_usage(path.parent).free
            raise RunError(
                f"the disk is full: {path} could not be written ({free / 2**20:.0f} MiB free now). What was saved "
                f"before is intact. {advice}"
            ) from None
        raise


def writable_folder(path: Path | str, make: bool = True) -> Path:
    """The folder, made where it was missing, after one file was written into it and removed.

    With make=False a missing folder stays missing, and the nearest one above it is tried instead. Called before the
    work starts; raises InputError naming the system's reason where nothing can be written.
    """
    path = Path(path)
    try:
        if make or path.exists():
            path.mkdir(parents=True, exist_ok=True)
        tried = path if path.exists() else next(p for p in path.absolute().parents if p.exists())
        with tempfile.TemporaryFile(dir=tried):
            pass
    except FileExistsError:
        raise InputError(f"{path} is a file; a folder is needed to write into. Choose another --out.") from None
    except OSError as error:
        raise InputError(
            f"nothing can be written in {path} ({error.strerror or error}). Choose another --out, or make the folder "
            "writable."
        ) from None
    return path


def _as_others_are_made(descriptor: int) -> None:
    """mkstemp makes files for their owner alone; readers of a result are those that the umask allows."""
    if hasattr(os, "fchmod"):  # not on Windows
        mask = os.umask(0)
        os.umask(mask)
        os.fchmod(descriptor, 0o666 & ~mask)


def _is_disk_full(error: BaseException | None) -> bool:
    """torch.save hides the operating system's error behind a RuntimeError, so the whole chain is looked at."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        error = error.__cause__ or error.__context__
    return False


GO_ON = "Free some space and run the same command again: the run goes on from its last checkpoint."


def write_json(path: Path, content: Any, advice: str = GO_ON) -> None:
    """Indented JSON, atomically."""
    text = json.dumps(content, indent=1, sort_keys=True).encode() + b"\n"
    atomic_write(path, lambda file: file.write(text), advice)


def read_card(path: Path) -> dict[str, Any]:
    """The card of a pretraining run; InputError for a damaged file and for a card of something else."""
    try:
        card = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as a run's card: {error}. Choose another --out.") from None
    if not (isinstance(card, dict) and isinstance(card.get("config"), dict) and isinstance(card.get("finished"), bool)):
        raise InputError(f"{path} is not the card of a pretraining run. Choose another --out.")
    if card["finished"] and not isinstance(card.get("result"), dict):
        raise InputError(f"{path} says that its run is finished, and holds no result. Choose another --out.")
    return card


class RunFolder:
    """One run on disk. `open` starts it, or continues it if the same configuration left it unfinished."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.card: dict[str, Any] = {}
        self.last_saved: int | None = None  # step of the checkpoint on disk

    @classmethod
    def open(cls, path: Path | str, card: Mapping[str, Any]) -> RunFolder:
        """Create the folder, or reopen it when its card has the same `config`.

        Raises InputError naming every differing key when the folder holds another configuration, and for a folder
        that cannot be written or holds something else.
        """
        run = cls(writable_folder(path))
        if run._card_path.exists():
            run.card = read_card(run._card_path)
            run._refuse_other(json.loads(json.dumps(card["config"])))
        elif any(p for p in run.path.iterdir() if not p.name.startswith(".")):
            raise InputError(
                f"--out {run.path} is not empty and holds no card.json, so it is not a run. Choose another folder."
            )
        else:
            run.card = {**json.loads(json.dumps(card)), "finished": False}
            write_json(run._card_path, run.card)
        return run

    def _refuse_other(self, config: Mapping[str, Any]) -> None:
        before = self.card["config"]
        keys = sorted(k for k in before.keys() | config.keys() if before.get(k) != config.get(k))
        if keys:
            lines = "\n".join(f"  {k}: {before.get(k)!r} there, {config.get(k)!r} asked for" for k in keys)
            raise InputError(
                f"{self.path} holds a run of another configuration. Differing keys:\n{lines}\n"
                "Choose another --out, or repeat the run's own settings to continue it."
            )

    @property
    def _card_path(self) -> Path:
        return self.path / "card.json"

    @property
    def _checkpoint_path(self) -> Path:
        return self.path / "checkpoint.pt"

    @property
    def finished(self) -> bool:
        return bool(self.card["finished"])

    @property
    def saved(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return self._checkpoint_path.exists()

    def changed_versions(self, now: Mapping[str, str]) -> list[str]:
        """ "threads: 2 then, 1 now" for each entry of `versions()` that is not what the card says."""
        then = self.card.get("versions", {})
        keys = [key for key in {**then, **now} if then.get(key) != now.get(key)]
        return [f"{key}: {then.get(key)} then, {now.get(key)} now" for key in keys]

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against a second process (advisory; released by the system when the process dies)."""
        try:
            import fcntl
        except ImportError:  # not on Windows
            yield
            return
        with open(self.path / ".lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(
                    f"another process is working in {self.path}; wait for it or choose another --out."
                ) from None
            yield

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint and the metrics file."""
        atomic_write(self._checkpoint_path, lambda file: torch.save(dict(state), file), GO_ON)
        lines = "".join(json.dumps(row) + "\n" for row in state["metrics"]).encode()
        atomic_write(self.path / "metrics.jsonl", lambda file: file.write(lines), GO_ON)
        self.last_saved = state["step"]

    def load(self) -> dict[str, Any] | None:
        """The last checkpoint, or None when the run has not saved yet."""
        if not self.saved:
            return None
        try:
            state = torch.load(self._checkpoint_path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, ValueError, KeyError, OSError, pickle.UnpicklingError) as error:
            reason = str(error).split("\n")[0]
            raise InputError(
                f"{self._checkpoint_path} cannot be read: {reason}. Bring a copy of it back, or delete it to start "
                "this run again."
            ) from None
        self.last_saved = state["step"]
        return state

    def finish(self, backbone: Mapping[str, torch.Tensor], result: Mapping[str, Any]) -> None:
        """Write the backbone's weights, then mark the card as finished."""
        content = safetensors_bytes({k: v.detach().cpu().contiguous() for k, v in backbone.items()})
        atomic_write(self.path / "backbone.safetensors", lambda file: file.write(content), GO_ON)
        self.card = {**self.card, "finished": True, "result": dict(result)}
        write_json(self._card_path, self.card)


def versions() -> dict[str, str]:
    """What the numbers depend on besides the configuration: libraries, decoder, processor."""
    from importlib.metadata import version

    from PIL import features

    turbo = features.version_feature("libjpeg_turbo") or "no"
    names = ("torch", "torchvision", "numpy", "numba", "pillow", "lightning-fabric", "scikit-learn")
    return {
        "whytransfer": version("whytransfer"),
        "python": platform.python_version(),
        **{name: version(name) for name in names},
        "jpeg decoder": f"libjpeg-turbo {turbo} / jpeg {features.version_codec('jpg')}",
        "processor": _processor(),
        "threads": str(torch.get_num_threads()),
        "platform": platform.platform(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def command_line() -> str:
    """The command that made this, as it was typed (an interpreter's path is cut to its name)."""
    import shlex

    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])
