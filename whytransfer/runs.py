"""A run folder: everything one pretraining run leaves behind, written so that a kill at any moment loses nothing.

card.json             what was run: resolved configuration, data fingerprint, versions, pixel stack; `finished`
checkpoint.pt         the whole state to go on from: networks, queue, optimiser, step, metrics
backbone.safetensors  the pretrained backbone (torchvision's key names), readable by anything
metrics.jsonl         one line per epoch
tensorboard/          the same scalars, step by step
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import pickle
import platform
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as safetensors_bytes

from whytransfer.errors import InputError
from whytransfer.files import atomic_write, locked, remove_asides, writable_folder
from whytransfer.parsing import json_of

WRITTEN = ("card.json", "config.yaml", "checkpoint.pt", "metrics.jsonl", "backbone.safetensors")
GO_ON = (
    "Free some space and run the same command again: the run goes on from its last checkpoint, or starts again where "
    "there is none."
)


def write_json(path: Path, content: Any, advice: str = GO_ON) -> None:
    """Indented JSON, atomically."""
    text = json.dumps(content, indent=1, sort_keys=True).encode() + b"\n"
    atomic_write(path, lambda file: file.write(text), advice)


def read_card(path: Path) -> dict[str, Any]:
    """The card of a pretraining run; InputError for a damaged file and for a card of something else."""
    try:
        card = json_of(path.read_text())
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
        if not run._card_path.exists():
            run._refuse_other_things()  # before a lock file is left among them
            with run.locked():  # of two processes that start here, the second must find the card of the first
                run._start(json.loads(json.dumps(card)))
        run.card = read_card(run._card_path)
        run._refuse_other(json.loads(json.dumps(card["config"])))
        return run

    def _start(self, card: dict[str, Any]) -> None:
        if self._card_path.exists():
            return
        self._refuse_other_things()
        write_json(self._card_path, {**card, "finished": False})

    def _refuse_other_things(self) -> None:
        if not self._card_path.exists() and any(p for p in self.path.iterdir() if not p.name.startswith(".")):
            raise InputError(
                f"--out {self.path} is not empty and holds no card.json, so it is not a run. Choose another folder."
            )

    def _refuse_other(self, config: Mapping[str, Any]) -> None:
        before = {k: v for k, v in self.card["config"].items() if k != "world_size"}  # decided the weights once
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
        then = dict(self.card.get("versions", {}))
        if "world_size" in self.card["config"]:  # where cards had it before it could change
            then.setdefault("processes", str(self.card["config"]["world_size"]))
        keys = [key for key in {**then, **now} if then.get(key) != now.get(key)]
        return [f"{key}: {then.get(key)} then, {now.get(key)} now" for key in keys]

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder against a second process (advisory; released by the system when the process dies).

        Once it is held, files that a killed process had half written are removed.
        """
        with locked(self.path / ".lock", wait=False) as mine:
            if not mine:
                raise InputError(f"another process is working in {self.path}; wait for it or choose another --out.")
            remove_asides(self.path, WRITTEN)
            yield

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the checkpoint and the metrics file."""
        atomic_write(self._checkpoint_path, lambda file: torch.save(dict(state), file), GO_ON)
        self._save_metrics(state["metrics"])
        self.last_saved = state["step"]

    def _save_metrics(self, rows: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
        atomic_write(self.path / "metrics.jsonl", lambda file: file.write(lines), GO_ON)

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

    def finish(
        self,
        backbone: Mapping[str, torch.Tensor],
        result: Mapping[str, Any],
        metrics: list[dict[str, Any]],
        recorded: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the metrics (a kill may have come between them and the checkpoint), the backbone, the finished card.

        `recorded`, what the backbone says of fixed images, is compared when it is loaded.
        """
        self._save_metrics(metrics)
        content = safetensors_bytes({k: v.detach().cpu().contiguous() for k, v in backbone.items()})
        atomic_write(self.path / "backbone.safetensors", lambda file: file.write(content), GO_ON)
        self.card = {**self.card, "finished": True, "result": dict(result)}
        if recorded is not None:
            self.card["recorded"] = dict(recorded)
        write_json(self._card_path, self.card)


def versions() -> dict[str, str]:
    """What the numbers depend on besides the configuration: libraries, decoder, processor."""
    from importlib.metadata import version

    from PIL import features

    turbo = features.version_feature("libjpeg_turbo") or "no"
    names = ("torch", "torchvision", "numpy", "numba", "pillow", "lightning-fabric", "scikit-learn")
    return {
        "whytransfer": f"{version('whytransfer')}, sources {_sources()}",
        "python": platform.python_version(),
        **{name: version(name) for name in names},
        "jpeg decoder": f"libjpeg-turbo {turbo} / jpeg {features.version_codec('jpg')}",
        "processor": _processor(),
        "threads": str(torch.get_num_threads()),
        "platform": platform.platform(),
    }


@functools.cache
def _sources() -> str:
    """A hash of this package's files: two states of the code between releases are told apart by it."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        digest.update(f"{path.relative_to(package).as_posix()}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]


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
