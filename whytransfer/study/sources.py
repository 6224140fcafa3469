"""The code behind a stage: the sources of its modules and of all they import, without what changes no number.

A comment, a docstring or a line break is no change: the syntax is hashed, not the text. Packages other than this one
are not followed; their versions stand in each Result's provenance.
"""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
# they talk, draw, keep and stop, and have no say in a number
SILENT = (
    "errors", "progress", "stopping", "memory", "compiled", "files", "parsing", "runs", "speed", "figures", "commands",
)  # fmt: skip


def closure(modules: Iterable[str], root: Path = ROOT) -> dict[str, str]:
    """{"tasks.readout": digest of its syntax} of these modules (named below the package) and all that they import.

    A folder's __init__ only lists what is there and does not count: of `from whytransfer.images import subset` the
    module counts that subset comes from.
    """
    found: dict[str, str] = {}
    todo = list(modules)
    while todo:
        name = todo.pop()
        path = _path(name, root)
        if name in found or name.partition(".")[0] in SILENT or path.name == "__init__.py":
            continue
        found[name] = _digest(path)
        todo += _imports(path, root)
    return dict(sorted(found.items()))


def code_of(digests: dict[str, str]) -> str:
    """One hash for a closure."""
    text = "".join(f"{name} {digest}\n" for name, digest in digests.items())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _path(name: str, root: Path) -> Path:
    path = root.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@functools.cache
def _digest(path: Path) -> str:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            node.body = body[1:] or [ast.Pass()]  # type: ignore[attr-defined]
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest()[:16]


def _is_text(node: ast.AST) -> bool:
    """A docstring, of modules, classes, functions and fields."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@functools.cache
def _imports(path: Path, root: Path) -> tuple[str, ...]:
    """Modules of this package that a file imports anywhere, also inside functions."""
    return tuple(dict.fromkeys(module for name in _names(path) if (module := _module(name, root))))


def _names(path: Path) -> Iterator[str]:
    """ "whytransfer.images.subset" of `from whytransfer.images import subset`, for every import in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _module(name: str, root: Path) -> str:
    """The module behind an imported name, through the __init__ that lists it; "" of other packages'."""
    package, _, rest = name.partition(".")
    last = ""
    while package == root.name and rest and not _path(rest, root).is_file():
        rest, _, last = rest.rpartition(".")  # a function or class of the module before it
    if package != root.name or not rest:
        return ""
    if _path(rest, root).name != "__init__.py":
        return rest
    listed = [found for found in _names(_path(rest, root)) if last and found.endswith(f".{last}")]
    return _module(listed[0], root) if listed and listed[0] != name else ""
