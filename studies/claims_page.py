"""The page of docs/results for a folder of `whytransfer claims`: the table, what was run, its cost by claim, raw values

Command    python studies/claims_page.py claims-demo --scale demo --page docs/results/claims-demo.md
Minutes    none: it reads what is there

Beside the page goes raw/claims-SCALE.jsonl: every number of the finished cells; their provenance stays in the folder.
A claim costs what all the cells of its own study took of the processors, those that it shares with others included;
a machine that is busy with other things changes that little. Edits of the page by hand are lost: words about the
numbers belong under the heading "Read", which is kept.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from whytransfer.claims import CLAIMS
from whytransfer.claims.claim import Claim, Scale
from whytransfer.claims.files import markdown
from whytransfer.commands.claims import chosen, kept_answers, summary
from whytransfer.commands.study_stages import STAGES
from whytransfer.files import atomic_write
from whytransfer.study.plan import grid_of
from whytransfer.study.store import StudyFolder
from whytransfer.study.study_file import read_study

READ = "## Read\n"
KEPT = ("cell", "stage", "item", "backbone", "seed", "metric", "value", "low", "high", "unit", "n", "data", "key")


def cells_of(claims: Iterable[Claim], scale: Scale, seeds: int) -> set[str]:
    """Names of the cells that some claims need, of so many seeds."""
    studies = ({"study": c.id, **c.study(scale), "seeds": list(range(seeds))} for c in claims)
    return {cell.name for study in studies for cell in grid_of(read_study(study), STAGES).cells}


def page(folder: Path, scale: Scale, words: str) -> str:
    """The page; `words` stand under the heading "Read"."""
    store, answers = StudyFolder.open(folder), [row for row in kept_answers(folder) if row["scale"] == scale]
    cells = store.studies()[f"claims-{scale}"]["cells"]
    cards = {name: card for name, said in cells.items() if (card := store.card(said["key"])).get("state") == "finished"}
    seeds = max(1 + card["seed"] for card in cards.values())
    costs = {c.id: cells_of([c], scale, seeds) for c in chosen(row["id"] for row in answers)}
    machines = sorted({card["machine"] for card in cards.values()})
    lines = [
        f"# The findings at scale {scale}", "",
        f"{summary(answers)}. {len(cards)} of {len(cells)} cells are finished, of "
        f"{'seed 0' if seeds == 1 else f'seeds 0 to {seeds - 1}'}. "
        "What the columns say, and what so small a scale cannot be: [claims](../claims.md).", "",
        markdown(answers), READ, words.strip(), "",
        "## What was run", "",
        f"`whytransfer claims --scale {scale} --workers 2 --out {folder.name}` on {'; '.join(machines)} "
        f"(Python {platform.python_version()}). All cells together took {_minutes(cards.values())} minutes of one "
        f"core. Raw values: [raw/claims-{scale}.jsonl](raw/claims-{scale}.jsonl), made with this page by "
        "`studies/claims_page.py`.", "",
        "Minutes of one core for each claim alone, with the cells that it shares with others:", "",
        ", ".join(f"{i} {_minutes(cards[n] for n in names if n in cards)}" for i, names in costs.items()) + ".", "",
    ]  # fmt: skip
    return "\n".join(lines)


def _minutes(cards: Iterable[Mapping[str, Any]]) -> str:
    return f"{sum(card['cpu_seconds'] for card in cards) / 60:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", choices=("demo", "laptop", "gpu", "full"), required=True)
    parser.add_argument("--page", type=Path, required=True)
    a = parser.parse_args()
    before = a.page.read_text() if a.page.exists() else ""
    words = before.partition(READ)[2].partition("\n## ")[0]
    rows = [{k: row[k] for k in KEPT} for row in StudyFolder.open(a.folder).rows(f"claims-{a.scale}")]
    raw = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows).encode()
    text = page(a.folder, a.scale, words).encode()
    (a.page.parent / "raw").mkdir(parents=True, exist_ok=True)
    atomic_write(a.page.parent / "raw" / f"claims-{a.scale}.jsonl", lambda file: file.write(raw))
    atomic_write(a.page, lambda file: file.write(text))
    print(f"{a.page}: {len(rows)} numbers, {len(CLAIMS)} findings")


if __name__ == "__main__":
    main()
