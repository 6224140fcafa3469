"""The notebooks run from top to bottom, on fewer scenes than printed, and what is kept in them is what cells gave."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from pages import ROOT, fewer, run_small

NOTEBOOKS = sorted((ROOT / "docs" / "notebooks").glob("*.ipynb"))


def cells(path: Path, kind: str) -> list[dict]:
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


def test_there_are_two():
    assert len(NOTEBOOKS) == 2


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs_from_top_to_bottom(path: Path, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    run_small(monkeypatch)
    names: dict = {"__name__": "__main__"}
    for i, cell in enumerate(cells(path, "code")):
        code = ast.parse(fewer("".join(cell["source"])))
        last = code.body.pop() if isinstance(code.body[-1], ast.Expr) else None
        exec(compile(code, f"{path.name}, cell {i}", "exec"), names)
        shown = eval(compile(ast.Expression(last.value), f"{path.name}, cell {i}", "eval"), names) if last else None
        kept = any(o["output_type"] == "execute_result" for o in cell["outputs"])
        assert kept == (shown is not None), f"{path.name}, cell {i}: it shows {shown!r}, the file was run otherwise"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_was_kept_as_it_ran(path: Path):
    found = cells(path, "code")
    assert [cell["execution_count"] for cell in found] == list(range(1, len(found) + 1))
    outputs = [o for cell in found for o in cell["outputs"]]
    assert not [o for o in outputs if o["output_type"] == "error" or o.get("name") == "stderr"]
    assert sum(bool(o.get("data", {}).get("image/png") or "vega" in str(o.get("data"))) for o in outputs) >= 1
    text = path.read_text()
    assert len(text) < 300_000
    # what a cell prints may name a folder of the machine it was run on, which means nothing to a reader
    assert not re.search(r"/(tmp|home|root|work)/", text)
