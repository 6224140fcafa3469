"""What the published layouts share: specs, where things lie below ROOT, lists in text files, refusals."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from whytransfer.errors import InputError, unknown_name
from whytransfer.images.index import first_of, missing_path


@dataclass(frozen=True)
class Layout:
    """A published layout: its name in specs, the tree that is expected, its splits (unnamed, the first is meant)."""

    kind: str
    tree: str  # in words of paths, for messages
    splits: tuple[str, ...]

    def split(self, parts: Sequence[str]) -> str:
        """The split that a spec names, the first where it names none; raises InputError for an unknown one."""
        name = (parts[0] if parts else "") or self.splits[0]
        if name not in self.splits:
            raise unknown_name(f"{self.kind} split", name, self.splits)
        return name

    def find(self, root: Path, candidates: Sequence[str]) -> Path:
        """The first of these paths below root that is there; raises InputError naming them all."""
        for candidate in candidates:
            if (root / candidate).exists():
                return root / candidate
        raise self.refusal(root, " or ".join(candidates))

    def refusal(self, root: Path, missing: str) -> InputError:
        """The error for a folder that is not in this layout: what is missing, what is there, what is expected."""
        return InputError(
            f"{self.kind}: {missing} is missing in {root}, which {held(root)}. Expected: {self.tree}. "
            "Nothing is downloaded here: put the files there, or give the folder that has this layout."
        )

    def damaged(self, path: Path, line: int, expected: str, found: str) -> InputError:
        """The error for a line of a list that cannot be read."""
        return InputError(f"{self.kind}: line {line:,} of {path} should be {expected}, found {found[:80]!r}.")


def root_and_parts(kind: str, rest: str, names: Sequence[str]) -> tuple[Path, list[str]]:
    """ROOT and what follows it in "ROOT[:NAME[:NAME]]"; a colon inside an existing path belongs to the path.

    Raises InputError for a ROOT that is not there and for more parts than `names`.
    """
    pieces = rest.split(":")
    for count in range(len(pieces), 0, -1):
        root = Path(":".join(pieces[:count])).expanduser()
        if root.is_dir():
            parts = pieces[count:]
            break
    else:
        root, parts = Path(pieces[0]).expanduser(), pieces[1:]
        if root.exists():
            raise InputError(f"{kind}: {root} is a file: the folder of the unpacked data set is needed.")
        raise missing_path(root)
    if len(parts) > len(names):
        form = f"{kind}:ROOT" + "".join(f"[:{name}" for name in names) + "]" * len(names)
        raise InputError(f"{kind}:{rest} has {len(parts)} parts after the folder {root}; the form is {form}.")
    return root, parts


def held(folder: Path) -> str:
    """What a folder holds, in a few words."""
    if not folder.is_dir():
        return "is no folder"
    names = sorted(entry for entry in os.listdir(folder) if not entry.startswith("."))
    return f"holds {first_of(names)}" if names else "is empty"


def rows(path: Path, separator: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """(line number, fields) of every line that is not blank; bytes that are not UTF-8 survive, as in file names."""
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        for number, line in enumerate(file, 1):
            if fields := line.strip().split(separator):
                yield number, fields


def named_files(folder: Path, suffixes: tuple[str, ...]) -> set[str]:
    """Names of the files of a folder that end so; listed, not asked one by one."""
    lower = tuple(suffix.lower() for suffix in suffixes)
    with os.scandir(folder) as entries:
        return {entry.name for entry in entries if entry.name.lower().endswith(lower) and entry.name[0] != "."}


def require_files(layout: Layout, folder: Path, wanted: Sequence[str], there: set[str], what: str) -> None:
    """Raise InputError when some of the wanted files of a folder are not there."""
    missing = [name for name in wanted if name not in there]
    if missing:
        raise InputError(
            f"{layout.kind}: {len(missing):,} of {len(wanted):,} {what} are missing in {folder}, first "
            f"{first_of(missing)}. Expected: {layout.tree}."
        )
