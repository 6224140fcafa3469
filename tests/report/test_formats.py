"""Markdown and LaTeX of the same tables: what is read back is what was there."""

import re
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from report_rows import BACKBONES, CLAIMS, renamed, row, study_rows

from whytransfer.report import latex, markdown
from whytransfer.report.effects import effect_cells
from whytransfer.report.evidence import evidence
from whytransfer.report.numbers import collect
from whytransfer.report.tables import overview, tables_of

NASTY = ["a|b", "*bold*", "<b>x</b>", "[link](x)", "under_score_d", "50 % & more $x$ #1 {y} ~ ^ \\cmd", "`code`"]


def read_back(text: str) -> list[list[str]]:
    """The cells of a Markdown table, as a reader sees them."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    rows: list[list[str]] = []
    for before, token in zip(tokens, tokens[1:], strict=False):
        if before.type == "tr_open":
            rows.append([])
        if token.type == "inline" and before.type in ("th_open", "td_open"):
            assert all(
                child.type in ("text", "strong_open", "strong_close", "text_special") for child in token.children or []
            )
            rows[-1].append("".join(child.content for child in token.children or []))
    return rows


def test_a_markdown_table_reads_back_whatever_the_names():
    rows = [{**row("default", "class", "top1", 50.0 + k, seed), "backbone": name}
            for k, name in enumerate(NASTY) for seed in (0, 1)]  # fmt: skip
    (table,) = tables_of(collect(rows))
    head, *body = read_back(markdown.table(table))
    assert head == ["backbone", "top-1, % ↑"]
    assert [line[0] for line in body] == NASTY
    assert body[0][1].startswith("50") and len({len(line) for line in (head, *body)}) == 1


def test_many_metrics_stand_in_rows():
    table = next(t for t in tables_of(collect(study_rows())) if t.item == "invariance")
    head, *body = read_back(markdown.table(table))
    assert head == ["", *BACKBONES] and len(body) == 9


def test_the_overview_and_the_claims_read_back():
    seen = overview(tables_of(collect(study_rows())))
    assert seen is not None
    head, *body = read_back(markdown.overview_table(seen))
    assert len(head) == 6 and [len(line) for line in body] == [6] * 6
    head, *body = read_back(markdown.claims_table(CLAIMS))
    assert [line[3] for line in body] == ["holds", "", "undecided", "contradicted", "not run"]
    assert body[0][5] == "0.40 [0.37, 0.43], 3 seeds" and body[-1][5] == "generated scenes have no faces"


def test_latex_has_as_many_cells_in_every_row_and_no_sign_that_it_would_obey():
    rows = [{**row("default", "class", "top1", 50.0 + k, seed), "backbone": name}
            for k, name in enumerate(NASTY) for seed in (0, 1)]  # fmt: skip
    (table,) = tables_of(collect(rows))
    text = latex.table(table)
    lines = [line for line in text.splitlines() if line.endswith("\\\\")]
    assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {1}
    assert text.count("{") == text.count("}") or r"\{y\}" in text
    assert r"50 \% \& more \$x\$ \#1 \{y\} \textasciitilde{} \textasciicircum{} \textbackslash{}cmd" in text
    assert r"under\_score\_d" in text and r"\textless{}b\textgreater{}" in text


def test_latex_minus_signs_are_minus_signs():
    assert latex._math("-0.53") == "$-$0.53" and latex.escaped("a – b") == "a -- b"


def test_an_effect_without_interval_says_so():
    effect = {**CLAIMS[0]["effects"][0], "low": None, "high": None, "seeds": {"0": 0.4}}
    assert effect_cells(effect)[1] == "0.40 no interval, 1 seed"


def test_evidence_holds_every_row_once_and_links_from_where_the_page_lies():
    rows = renamed(study_rows(), {"random": "ra ndom#1"})
    numbers = collect(rows)
    for page, start in ((Path("/study/report.html"), ""), (Path("/elsewhere/x/report.html"), "../../study/")):
        found = evidence(numbers, Path("/study"), page, lambda r: f"again {r['key']}")
        assert sum(len(number[5]) for number in found["numbers"]) == len(rows)
        for number, (name, item, metric, _, said, by_seed) in zip(numbers, found["numbers"], strict=True):
            assert (name, item, metric) == (number.name, number.item, number.metric) and said
            for r, (seed, value, low, high, n, at, _) in zip(number.rows, by_seed, strict=True):
                assert (seed, n) == (r["seed"], r["n"]) and value == pytest.approx(r["value"], rel=1e-6)
                assert (low is None) == (r["low"] is None) and (
                    high is None or high == pytest.approx(r["high"], rel=1e-6)
                )
                assert found["cells"][at]["link"] == f"{start}{r['folder']}/"
                assert found["cells"][at]["command"] == f"again {r['key']}"


def test_long_provenance_stays_in_the_results_file():
    (number,) = collect([row("default", "class", "top1", 1.0, 0)])
    found = evidence([number], Path("a"), Path("a/report.html"), lambda _: "")
    names = [name for name, _ in found["facts"][0]]
    assert "weights sha256" in names and "curve" not in names and "command" not in names
