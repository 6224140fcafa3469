"""A claim as files: its study to read, change and run by itself, and the answers as a table for a page."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from whytransfer.claims.claim import Claim, Scale
from whytransfer.claims.suite import Study

_FOLDER = re.compile(r"\{data\}/([^/:]+)")
SIGNS = {"+": "above 0", "-": "below 0", "0": "none that matters"}


def study_file(claim: Claim, scale: Scale) -> str:
    """The study of a claim at a scale as YAML, under what its module says: question, command, cost, expectation."""
    import yaml

    said = inspect.getdoc(sys.modules[claim.study.__module__]) or claim.finding
    name = f"{claim.id}-{scale}"
    file = f"studies/claims/{claim.id.lower()}.yaml"
    head = [
        *said.splitlines(), "",
        f"This is the study of scale {scale}; the verdict comes with: whytransfer claims {claim.id} --scale {scale}",
        f"Alone: whytransfer study {file} --values data=FOLDER --out OUT",
    ]  # fmt: skip
    content = yaml.safe_dump(
        _plain({"study": name, **claim.study(scale)}), sort_keys=False, width=118, default_flow_style=None
    )
    return "".join(f"# {line}".rstrip() + "\n" for line in head) + content


def write_studies(claims: Iterable[Claim], scale: Scale, folder: Path) -> list[Path]:
    """FOLDER/cNN.yaml of each claim; replaces what is there."""
    from whytransfer.files import atomic_write, writable_folder

    writable_folder(folder)
    paths = []
    for claim in claims:
        content = study_file(claim, scale).encode()
        paths.append(folder / f"{claim.id.lower()}.yaml")
        atomic_write(paths[-1], lambda file, content=content: file.write(content))  # type: ignore[misc]
    return paths


def folders_of(study: Study) -> list[str]:
    """What the folder of image sets must hold for a study: the first part of every path below {data}."""
    return sorted(set(_FOLDER.findall(repr(study))))


def markdown(answers: Iterable[Mapping[str, Any]]) -> str:
    """The answers (rows of Answer.row) as one table: a line per effect, every seed's value beside the interval."""
    lines = [
        "| claim | effect | expected | paper | ours, 95 % interval | seeds | effect says | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for answer in answers:
        title = f"**{answer['id']}** {answer['finding']} ({answer['source']})"
        if not answer["effects"]:
            lines.append(_line(title, "", "", answer["paper"], "", "", "", f"{answer['verdict']}: {answer['why']}"))
        for k, effect in enumerate(answer["effects"]):
            lines.append(
                _line(
                    title if k == 0 else "", effect["name"], SIGNS[effect["sign"]], effect["paper"], interval(effect),
                    ", ".join(f"{value:.2f}" for value in effect["seeds"].values()), said(effect),
                    f"**{answer['verdict']}**" if k == 0 else "",
                )
            )  # fmt: skip
    return "\n".join(lines) + "\n"


def interval(effect: Mapping[str, Any]) -> str:
    """An effect (a row of Answer) with its interval: "+1.25 [+0.31, +2.19] points"."""
    ends = "one seed: no interval" if effect["low"] is None else f"[{effect['low']:+.2f}, {effect['high']:+.2f}]"
    return f"{effect['value']:+.2f} {ends} {effect['unit']}"


def said(effect: Mapping[str, Any]) -> str:
    """The verdict of an effect; where it is undecided, the size that would have been seen."""
    if effect["verdict"] != "undecided" or effect["smallest"] is None:
        return str(effect["verdict"])
    return f"undecided (so many seeds show {effect['smallest']:.1f} or more)"


def _line(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _plain(value: Any) -> Any:
    """Mappings and lists of YAML alone."""
    if isinstance(value, Mapping):
        return {key: _plain(v) for key, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
