"""What claims and report ask of the table of a study: the value of a backbone, in an item, by a metric, at a seed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from whytransfer.errors import InputError
from whytransfer.study.statistics import Interval, mean_interval

Row = Mapping[str, Any]

_TELLS_NOTHING = ("value", "low", "high", "n", "key", "folder", "provenance")  # of two rows of one name


class Scores:
    """The rows of a study by (backbone, item, metric); an item is a task or diagnosis of the file, "" the pretraining.

    Where one item has several rows of a metric (shares of the labels, stages, image sets), name the one that is meant
    by a column or an entry of its provenance: scores.value("default", "curve", "top1", 0, label_share=10).
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        self.rows = list(rows)
        self.backbones = list(dict.fromkeys(str(row["backbone"]) for row in self.rows if row["backbone"]))
        self.items = list(dict.fromkeys(str(row["item"]) for row in self.rows if row["item"]))
        self._rows: dict[tuple[str, str, str], list[Row]] = {}
        for row in self.rows:
            self._rows.setdefault((row["backbone"], row["item"], row["metric"]), []).append(row)

    def metrics(self, item: str) -> list[str]:
        """The metrics of an item, in the order of the table; InputError for an item that has no rows."""
        found = list(dict.fromkeys(metric for _, of, metric in self._rows if of == item))
        if not found:
            raise InputError(f"no finished result of {item!r}; there are: {_listed(self.items)}")
        return found

    def row(self, backbone: str, item: str, metric: str, seed: int, **where: Any) -> Row:
        """The row behind a value, with its interval, command and provenance; InputError unless there is exactly one."""
        by_seed = self._by_seed(backbone, item, metric, where)
        if seed not in by_seed:
            raise InputError(f"{backbone} has no {item} {metric} at seed {seed}; seeds there are: {_listed(by_seed)}")
        return by_seed[seed]

    def value(self, backbone: str, item: str, metric: str, seed: int, **where: Any) -> float:
        """One number, in the unit of its metric."""
        return float(self.row(backbone, item, metric, seed, **where)["value"])

    def by_seed(self, backbone: str, item: str, metric: str, **where: Any) -> dict[int, float]:
        """{seed: value}, ascending seeds; InputError, naming what there is, where no row fits or two of a seed do."""
        return {seed: float(row["value"]) for seed, row in self._by_seed(backbone, item, metric, where).items()}

    def interval(self, backbone: str, item: str, metric: str, **where: Any) -> Interval:
        """The mean over seeds with its t interval."""
        return mean_interval(self.by_seed(backbone, item, metric, **where).values())

    def _by_seed(self, backbone: str, item: str, metric: str, where: Mapping[str, Any]) -> dict[int, Row]:
        named = self._rows.get((backbone, item, metric))
        if named is None:
            raise self._missing(backbone, item, metric)
        rows = [row for row in named if all(_entry(row, name) == value for name, value in where.items())]
        if not rows:
            seen = {name: list(dict.fromkeys(str(_entry(row, name)) for row in named)) for name in where}
            raise InputError(f"no row of {backbone}, {item}, {metric} has {dict(where)}; there are: {seen}")
        by_seed: dict[int, Row] = {}
        for row in sorted(rows, key=lambda row: int(row["seed"])):
            if int(row["seed"]) in by_seed:
                raise _ambiguous(by_seed[int(row["seed"])], row)
            by_seed[int(row["seed"])] = row
        return by_seed

    def _missing(self, backbone: str, item: str, metric: str) -> InputError:
        """The error that says which of the three names has no rows."""
        asked = f"no finished result of {backbone}, {item or 'its pretraining'}, {metric}"
        if backbone not in self.backbones:
            return InputError(f"{asked}; backbones with results: {_listed(self.backbones)}")
        mine = list(dict.fromkeys(of for of_backbone, of, _ in self._rows if of_backbone == backbone))
        if item not in mine:
            return InputError(f"{asked}; {backbone} has results of: {_listed(filter(None, mine))}")
        metrics = [m for of_backbone, of, m in self._rows if (of_backbone, of) == (backbone, item)]
        return InputError(f"{asked}; metrics there are: {_listed(metrics)}")


def _entry(row: Row, name: str) -> Any:
    """A column of the row, or an entry of its provenance."""
    return row[name] if name in row else row.get("provenance", {}).get(name)


def _ambiguous(one: Row, other: Row) -> InputError:
    """The error for two rows of one name and seed, with what tells them apart."""
    flat = [
        {**row.get("provenance", {}), **{k: v for k, v in row.items() if k != "provenance"}} for row in (one, other)
    ]
    apart = {
        k: (flat[0].get(k), flat[1].get(k))
        for k in flat[0]
        if k not in ("value", "low", "high", "n", "key", "folder") and flat[0].get(k) != flat[1].get(k)
    }
    said = ", ".join(f"{k}={a!r} or {b!r}" for k, (a, b) in list(apart.items())[:6]) or "nothing tells them apart"
    return InputError(
        f"two results of {one['backbone']}, {one['item']}, {one['metric']} at seed {one['seed']}; name the one that is "
        f"meant: {said}"
    )


def _listed(names: Iterable[Any]) -> str:
    return ", ".join(map(str, names)) or "none"
