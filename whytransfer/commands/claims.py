"""`whytransfer claims`: the papers' findings, tested by our own runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from pydantic import Field

from whytransfer.commands.common import Settings, print_json, print_table
from whytransfer.errors import InputError, unknown_name
from whytransfer.parsing import json_of


class ClaimsSettings(Settings):
    """Do the papers' findings hold in runs of your own? 21 claims, each a study, effects with intervals, a verdict.

    C01 to C10 are of Zhao 2021 (what makes instance discrimination good for transfer), C11 to C15 of Henaff 2021
    (contrastive detection), C16 to C21 of Ericsson 2022 (invariances and transfer). What claims share is run once, and
    what is in --out is not run again. A verdict is by Student's t over seeds: holds where every effect lies on the
    side that the paper found, contradicted where one lies on the other side, undecided else, with the effect that so
    many seeds could have shown; not run where images or cells are missing, which are named.

    Scales: demo (generated scenes; minutes a claim), laptop (small real images below --data; hours), gpu (the same
    images, longer runs), full (the papers' data and schedules). docs/claims.md says what each scale asks.

    Examples:
      whytransfer claims C16 C20 --out claims/                               (demo)
      whytransfer claims --scale laptop --data data/ --out claims-laptop/    (all)
      whytransfer claims C06 --scale full --data /data --out c06 --dry-run
      whytransfer claims C06 --scale laptop --write studies/                 (the study as a file, to read and change)
    """

    claims: tyro.conf.Positional[tuple[str, ...]] = ()
    """Which of them, such as C01 C16; all when not given."""
    scale: Literal["demo", "laptop", "gpu", "full"] = "demo"
    """How large the runs are, and on which images."""
    data: Path = Path("data")
    """Folder of the image sets of laptop, gpu and full; demo needs none."""
    out: Path | None = None
    """Folder of the runs, claims.json and claims.md; claims-SCALE when not given. That of other studies will do."""
    seeds: Annotated[int, Field(ge=1, le=100)] | None = None
    """Number of seeds instead of the scale's; one seed decides nothing."""
    budget: str | None = None
    """Start no cell that would end after this time: 2h, 90min. The same command goes on later."""
    workers: Annotated[int, Field(ge=1)] | None = None
    """Cells at a time, each a process with its share of the cores, or a GPU."""
    on: str | None = None
    """ray, or ray:ADDRESS of a cluster."""
    dry_run: bool = False
    """Print the plan and do nothing."""
    calibrate: bool = True
    """Time a few steps of each kind of cell that was never run here, for the plan; without, its time is not known."""
    accept_code: bool = False
    """Take finished cells whose code has changed since as they are; the plan names what changed."""
    write: Path | None = None
    """Write the claims' studies at this scale into this folder, a file each, and run nothing."""


def run_claims(**settings: Any) -> list[Any]:
    """Test claims; keywords are the fields of ClaimsSettings. Returns an Answer per claim.

    run_claims(claims=["C01"], out="claims")[0].verdict
    Raises RunError at the end where cells failed; claims.json and claims.md are written before.
    """
    answers, failed = ClaimsSettings.called(answered, settings)
    if failed is not None:
        failed.complain()
    return answers


def answered(s: ClaimsSettings) -> tuple[list[Any], Any]:
    """An Answer per claim asked for, and the study behind them, None where no claim could be run."""
    from whytransfer.claims import judge
    from whytransfer.claims.suite import of_claims
    from whytransfer.commands.study import answer_of
    from whytransfer.study.scores import Scores

    asked = chosen(s.claims)
    out = folder_of(s)
    kept = kept_answers(out)  # a file that is not ours is refused before the work
    able, absent = _with_images(asked, s)
    if not able:
        return (absent if s.dry_run else keep_answers(out, absent)), None
    before = [row["id"] for row in kept if row["scale"] == s.scale and row["verdict"] != "not run"]
    whole = of_claims(chosen([*(c.id for c in able), *before]), s.scale, s.data)
    if s.seeds is not None:
        whole["seeds"] = list(range(s.seeds))
    told = {name: value for name in ("budget", "workers", "on") if (value := getattr(s, name)) is not None}
    told |= {"calibrate": s.calibrate, "accept_code": s.accept_code}
    study = answer_of(whole, out, dry_run=s.dry_run, **told)
    if s.dry_run:
        return [], None
    scores = Scores(study.rows)
    found = [judge(claim, scores, s.scale) for claim in able]
    return keep_answers(out, sorted([*found, *absent], key=lambda a: a.claim.id)), study


def folder_of(s: ClaimsSettings) -> Path:
    """Where runs and answers are."""
    return s.out or Path(f"claims-{s.scale}")


def chosen(names: Iterable[str]) -> list[Any]:
    """The claims of these names in their order, all for none; InputError with the near names for a wrong one."""
    from whytransfer.claims import CLAIMS

    wanted = {name.upper() for name in names}
    for name in wanted:
        if name not in CLAIMS:
            raise unknown_name("claim", name, CLAIMS)
    return [claim for claim in CLAIMS.values() if not wanted or claim.id in wanted]


def _with_images(claims: Sequence[Any], s: ClaimsSettings) -> tuple[list[Any], list[Any]]:
    """Claims whose image sets are there, and the answers of the others, with what is missing."""
    from whytransfer.claims import Answer
    from whytransfer.claims.files import folders_of
    from whytransfer.progress import say

    able, absent = [], []
    for claim in claims:
        why = claim.lacking.get(s.scale)
        if why is None:
            missing = [name for name in folders_of(claim.study(s.scale)) if not (s.data / name).exists()]
            why = f"--data {s.data} has no {', '.join(missing)}" if missing else None
        if why is None:
            able.append(claim)
        else:
            say(f"note: {claim.id} is not run: {why}")
            absent.append(Answer(claim, s.scale, "not run", why=why))
    return able, absent


def keep_answers(out: Path, answers: list[Any]) -> list[Any]:
    """Write claims.json and claims.md: these answers in the place of earlier ones, others stay. Returns them."""
    from whytransfer.claims.files import markdown
    from whytransfer.files import atomic_write, writable_folder

    kept = kept_answers(out)
    writable_folder(out)
    new = {(row["scale"], row["id"]): row for row in (a.row() for a in answers)}
    rows = {**{(row["scale"], row["id"]): row for row in kept}, **new}
    ordered = [rows[key] for key in sorted(rows)]
    for name, text in (("claims.json", json.dumps(ordered, indent=1) + "\n"), ("claims.md", markdown(ordered))):
        atomic_write(out / name, lambda file, text=text: file.write(text.encode()))  # type: ignore[misc]
    return answers


def kept_answers(out: Path) -> list[dict[str, Any]]:
    """The rows of claims.json in a folder, [] without one; InputError for a file that holds something else."""
    path = out / "claims.json"
    if not path.exists():
        return []
    try:
        rows = json_of(path.read_bytes())
        for row in rows:
            _ = row["id"], row["scale"], row["verdict"], row["effects"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is damaged or no answers of claims ({type(error).__name__}: {error}). Delete it: verdicts come "
            "from the cells, which are kept."
        ) from None
    return list(rows)


def show(s: ClaimsSettings) -> None:
    """Run and print a line per effect, or every answer as JSON."""
    if s.write is not None:
        from whytransfer.claims.files import write_studies

        for path in write_studies(chosen(s.claims), s.scale, s.write):
            print(path)
        return
    answers, study = answered(s)
    rows = [answer.row() for answer in answers]
    if s.as_json:
        print_json(rows)
    elif rows:
        print_table(f"claims, scale {s.scale} (95 % interval over seeds)", *table(rows))
        print(summary(rows))
        print(f"saved in {folder_of(s)}: claims.json, claims.md; `whytransfer report` makes a page of all of it")
    if study is not None:
        study.complain()


def table(rows: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Columns and rows for people, a row per effect."""
    from whytransfer.claims.files import interval, said

    lines = []
    for row in rows:
        if not row["effects"]:
            lines.append([f"{row['id']} {row['finding']}", "", row["paper"], "", "", f"not run: {row['why']}", ""])
        for k, e in enumerate(row["effects"]):
            claim = f"{row['id']} {row['finding']}" if k == 0 else ""
            verdict = row["verdict"] if k == 0 else ""
            lines.append([claim, e["name"], e["paper"], interval(e), str(len(e["seeds"])), said(e), verdict])
    return ["claim", "effect", "paper", "ours", "seeds", "effect says", "verdict"], lines


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """ "2 hold, 1 contradicted, 3 undecided, 0 not run"."""
    count = {kind: sum(row["verdict"] == kind for row in rows) for kind in ("holds", "contradicted", "undecided")}
    rest = len(rows) - sum(count.values())
    return (
        f"{count['holds']} hold, {count['contradicted']} contradicted, {count['undecided']} undecided, {rest} not run"
    )
