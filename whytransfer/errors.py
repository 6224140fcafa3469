"""The two kinds of failure that a user can act on.

Everything else that is raised is a defect of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """What the user asked for cannot be done; the message says what was found and what to do."""


class RunError(RuntimeError):
    """A run that had started cannot go on (NaN loss, full disk); what it saved is still good."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """The error for a misspelt name, with the near names first: raise unknown_name("recipe", "defalt", RECIPES)."""
    names = sorted(known)
    written = {n.lower(): n for n in names}
    near = [written[n] for n in difflib.get_close_matches(name.lower(), written, n=3, cutoff=0.5)]
    hint = f"Did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
    return InputError(f"unknown {kind} {name!r}. {hint}Known: {', '.join(names)}.")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was short, of the machine or of a GPU, in the words of Python, NumPy or PyTorch."""
    told = str(error).lower()
    return isinstance(error, MemoryError) or "out of memory" in told or "can't allocate memory" in told


def too_few_classes(method: str, classes: int | None) -> InputError:
    """The error for a method that reads class labels and has none to read: raise too_few_classes("supcon", None)."""
    found = "no labels" if classes is None else f"{classes} class"
    return InputError(
        f"{method} needs labelled images of at least 2 classes, found {found}: put the images into one folder per "
        "class, or choose a method without labels such as moco-v2"
    )
