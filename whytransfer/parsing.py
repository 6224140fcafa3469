"""JSON and YAML that others wrote: what is damaged, endless or out of proportion is told as such, never by a crash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from whytransfer.errors import InputError

MOST_VALUES, MOST_DEEP = 100_000, 50  # of a YAML file, its aliases written out


def json_of(content: bytes | str) -> Any:
    """json.loads, but for JSON that is nested without end, which is a ValueError too."""
    try:
        return json.loads(content)
    except RecursionError:
        raise ValueError("it is nested without end") from None


def yaml_of(path: Path, asked: str) -> Any:
    """What a YAML file holds: mappings, lists, texts, numbers and dates.

    Raises InputError, which begins with what `asked` for it, for a file that cannot be read, a name that stands twice
    in a mapping, and aliases that name themselves or grow a small file into a large one ("billion laughs").
    """
    import yaml

    class Unique(yaml.SafeLoader):
        """YAML in which a name that stands twice is an error, not the loss of what stood first."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            pairs = node.value if isinstance(node, yaml.MappingNode) else []  # what is none is refused by `super`
            names = [key.value for key, _ in pairs if isinstance(key.value, str)]
            if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1 and name != "<<"]:
                raise InputError(f"{path}: {twice[0]!r} stands twice in line {node.start_mark.line + 1} and below")
            return super().construct_mapping(node, deep)

    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Unique)  # noqa: S506  (a SafeLoader)
    except RecursionError:
        raise InputError(f"{asked} {path}: it is nested without end") from None
    except OSError as error:
        raise InputError(f"{asked} {path}: {error.strerror or error}") from None
    except InputError:
        raise
    except (yaml.YAMLError, ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise InputError(f"{asked} {path}: {error}") from None  # of YAML's own readers of dates and numbers, too
    _check_size(content, f"{asked} {path}")
    return content


def _check_size(content: Any, where: str) -> None:
    """InputError for more values than anyone writes: aliases share them, but whoever reads them does not."""
    todo, count = [(content, 0)], 0
    while todo:
        value, depth = todo.pop()
        count += 1
        if count > MOST_VALUES or depth > MOST_DEEP:
            raise InputError(
                f"{where}: with its aliases written out it holds more than {MOST_VALUES:,} values, or lists in lists "
                f"more than {MOST_DEEP} deep. Write fewer, or without aliases that hold each other."
            )
        if isinstance(value, dict):
            todo += [(part, depth + 1) for item in value.items() for part in item]
        elif isinstance(value, list | tuple | set):
            todo += [(part, depth + 1) for part in value]
