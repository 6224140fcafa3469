"""What every command shares: its settings are a frozen model, its answer is printed as a table or as JSON lines."""

from __future__ import annotations

import contextlib
import difflib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import tyro
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)

from whytransfer import progress
from whytransfer.errors import InputError

T = TypeVar("T")


def one_is_enough(value: Any) -> Any:
    return (value,) if isinstance(value, str | Path) else value


# several strings; from Python and YAML one may come without a list around it
Names = Annotated[tuple[str, ...], BeforeValidator(one_is_enough)]
Backbones = Annotated[Names, Field(min_length=1)]  # strings that name backbones


class WrongSettings(Exception):
    """Values that settings do not allow. No ValueError, which pydantic and tyro would put into words of their own."""


class Settings(BaseModel):
    """Settings of one command: frozen, hashable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    as_json: Annotated[bool, tyro.conf.arg(name="json", help_behavior_hint="")] = False
    """Print one JSON object per result on standard output and nothing else there."""
    quiet: Annotated[bool, tyro.conf.arg(help_behavior_hint="")] = False
    """No progress and no notes on standard error; errors are still told."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """The words under each field in one line, which `--help` then breaks at the width of the terminal."""
        for field in cls.model_fields.values():
            field.description = " ".join((field.description or "").split()) or None

    @model_validator(mode="wrap")
    @classmethod
    def _in_words(cls, settings: Any, make: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return make(settings)
        except ValidationError as error:
            lines = [_in_a_line(e, cls.model_fields) for e in error.errors()]
            raise WrongSettings("wrong settings: " + "; ".join(lines)) from None

    @classmethod
    def made_from(cls, settings: Mapping[str, Any]) -> Self:
        """Validate keyword settings; raises InputError with one line per wrong setting."""
        with wrong_settings_refused():
            return cls(**settings)

    @classmethod
    def called(cls, work: Callable[[Self], T], settings: Mapping[str, Any]) -> T:
        """What a function in Python does: work(settings), validated, and as quiet as they ask."""
        s = cls.made_from(settings)
        with progress.quietly(s.quiet):
            return work(s)

    @classmethod
    def called_for_all(cls, work: Callable[[Self], Iterable[T]], settings: Mapping[str, Any]) -> list[T]:
        """`called` for work that yields as it goes: it is quiet until the last."""
        return cls.called(lambda s: list(work(s)), settings)


def _in_a_line(error: Mapping[str, Any], known: Iterable[str]) -> str:
    """The setting, what is wrong with it and what was given; the near names of one that does not exist."""
    name = ".".join(map(str, error["loc"]))
    near = difflib.get_close_matches(name, list(known), n=2) if error["type"] == "extra_forbidden" else []
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"{name}: {error['msg']} (got {error['input']!r}){hint}"


@contextlib.contextmanager
def wrong_settings_refused() -> Iterator[None]:
    """Turn WrongSettings into the InputError that people see."""
    try:
        yield
    except WrongSettings as error:
        raise InputError(str(error)) from None


def print_json(records: Iterable[Mapping[str, Any]]) -> None:
    """One object per line on standard output."""
    for record in records:
        sys.stdout.write(json.dumps(record, sort_keys=True) + "\n")
    sys.stdout.flush()


UNITS = {"_images_per_second": "images/s", "_gb": "GiB", "_seconds": "s"}
NAMES = {"images_per_second": ("speed", "images/s"), "seconds": ("time", "s"), "knn": ("kNN accuracy", "%")}
NAMES |= {"random_knn": ("kNN accuracy of random features", "%"), "pairs": ("views matched to their picture", "%")}
NAMES |= {"peak_mib": ("peak memory of this process", "MiB")}
NAMES |= {"state_bytes_per_image": ("memory held per image", "bytes")}
NAMES |= {"random_pairs": ("views matched by random features", "%"), "width": ("width of features", "")}
NAMES |= {"spread": ("spread of features, 0 to 1", ""), "random_spread": ("spread of random features", "")}
NAMES |= {"rank": ("effective rank of features", ""), "random_rank": ("effective rank of random features", "")}
NAMES |= {"knn_queries": ("kNN measured on", ""), "knn_query_count": ("pictures it was measured on", "")}
NAMES |= {"pair_count": ("pictures whose views were matched", "")}
NAMES |= {"parameters_millions": ("parameters", "millions"), "eta_seconds": ("a run takes", "s")}
SHARES = {"waiting_for_data": ("waiting for data", "% of the time"), "decoded_share": ("decoded once", "% of images")}


def in_words(key: str, value: Any) -> tuple[str, str]:
    """A row of a table from an entry of a summary: its key in words, its value with the unit that the key names.

    in_words("step_images_per_second", 211.37) is ("step", "211.4 images/s").
    """
    if key in SHARES:  # between 0 and 1
        return SHARES[key][0], f"{100 * value:.1f} {SHARES[key][1]}"
    name, unit = NAMES.get(key, ("", ""))
    suffix = next((s for s in UNITS if key.endswith(s)), "") if not name else ""
    name = name or (key.removesuffix(suffix) if suffix else key).replace("_", " ")
    text = (f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}") if isinstance(value, float) else str(value)
    return name, f"{text} {unit or UNITS.get(suffix, '')}".rstrip()


def digits_of(result: Any) -> int:
    """Digits after the point that a Result is shown with: two of R2, per cents, points; three of errors, lengths."""
    return 2 if result.unit in ("%", "points", "R2") else 3


def interval_text(result: Any) -> str:
    """The interval of a Result for a table, empty where it has none."""
    digits = digits_of(result)
    return "" if result.low is None else f"[{result.low:.{digits}f}, {result.high:.{digits}f}]"


def print_table(title: str, columns: list[str], rows: Iterable[Iterable[Any]]) -> None:
    """A table on standard output for people; all cells right-aligned but the first."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    plain: dict[str, Any] = {"markup": False, "emoji": False}  # in names :100: is no emoji and [a] no style
    console = Console(**plain)
    if not console.is_terminal:  # a file has no width, so nothing is folded
        console = Console(width=max(80, Console(width=10_000, **plain).measure(table).maximum), **plain)
    console.print(title, style="italic", highlight=False, soft_wrap=True)  # may be wider than the table
    console.print(table)
