"""The ground the project stands on: licence, facts that several files repeat, and commands that prose promises."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def text(name: str) -> str:
    return (ROOT / name).read_text()


def test_the_licence_is_the_whole_apache_licence():
    licence = text("LICENSE")
    assert PROJECT["license"] == "Apache-2.0"
    assert licence.split()[:4] == ["Apache", "License", "Version", "2.0,"]
    assert re.findall(r"^ {3}(\d)\. [A-Z]", licence, re.MULTILINE) == list("123456789")
    assert "END OF TERMS AND CONDITIONS" in licence and len(licence) > 11_000


def test_one_version_everywhere():
    citation = yaml.safe_load(text("CITATION.cff"))
    assert citation["version"] == PROJECT["version"] and PROJECT["version"] in text("CHANGELOG.md")
    assert citation["license"] == PROJECT["license"]
    assert {"cff-version", "message", "title", "authors"} <= set(citation)


def test_the_console_script_exists():
    module, _, function = PROJECT["scripts"]["whytransfer"].partition(":")
    assert callable(getattr(importlib.import_module(module), function))


@pytest.mark.parametrize("command", ["uv run whytransfer demo", "uv run pytest"])
def test_the_readme_promises_the_two_commands(command: str):
    assert f"pip install -q uv && {command}" in text("README.md")


def test_the_readmes_python_runs_on_fewer_scenes_than_printed(tmp_path, monkeypatch):
    """With fewer scenes, smaller views and batches: as printed it takes minutes of two cores."""
    import whytransfer

    (code,) = re.findall(r"```python\n(.*?)```", text("README.md"), re.DOTALL)
    assert code.count('images="scenes:2000"') == 1
    original = whytransfer.pretrain
    monkeypatch.setattr(
        whytransfer, "pretrain", lambda **settings: original(**settings, size=16, batch=32, monitor=False)
    )
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(code.replace("scenes:2000", "scenes:32:0:16"), "README.md", "exec"), names)
    images, features = names["images"], names["features"]
    assert images.shape == (2, 3, 64, 64) and features.vector.shape == (2, 512)
    assert features.map.shape[:2] == (2, 512) and set(features.stages) >= {"layer1", "layer4"}
    assert len((tmp_path / "runs" / "first" / "metrics.jsonl").read_text().splitlines()) == 2  # epochs
    told = re.findall(r"\.(\w+)", code.splitlines()[-1].partition("#")[2])
    assert told == ["vector", "map", "stages"] and all(hasattr(features, name) for name in told)


def test_the_checks_run_what_the_readme_says():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], capture_output=True, check=False).returncode == 0
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash" and "set -euo pipefail" in lines
    steps = "\n".join(lines)
    for step in (
        "pip install -q uv",
        "uv run pytest",
        "ruff check",
        "ruff format --check",
        "mypy",
        "mkdocs build --quiet --strict",
        "uv build",
        "whytransfer demo",
    ):
        assert step in steps, step
    closing = re.compile(re.search(r"grep -E '(.*)' ", steps)[1])
    for line in (
        "412 passed in 81.03s (0:01:21)",
        "3 passed, 2 skipped, 1 warning in 0.5s",
        "== 1 failed, 3 passed in 2.10s ==",
    ):
        assert closing.search(line), line
    assert not closing.search("epoch 3 passed in view")


def test_extras_named_in_messages_exist():
    extras = set(PROJECT["optional-dependencies"])
    named = {
        extra
        for path in (ROOT / "whytransfer").rglob("*.py")
        for extra in re.findall(r"whytransfer\[(\w+)\]", path.read_text())
    }
    assert named and named <= extras


def test_contributing_shows_the_tree_that_there_is():
    block = text("CONTRIBUTING.md").split("```")[3]
    listed = re.findall(r"^  ([\w]+(?:/|\.py)) ", block, re.MULTILINE)
    package = ROOT / "whytransfer"
    left_out = {"__init__.py", "__pycache__"}
    there = {p.name if p.is_file() else f"{p.name}/" for p in package.iterdir() if p.name not in left_out}
    assert set(listed) == there


def test_contributing_tells_the_order_that_is_enforced():
    from test_architecture import RANK

    block = text("CONTRIBUTING.md").split("```")[3]
    told = re.findall(r"^  ([\w]+)(?:/|\.py) ", block, re.MULTILINE)
    assert set(told) == set(RANK)
    assert [RANK[name] for name in told] == sorted(RANK.values())


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))]
)
def test_links_lead_somewhere_and_nothing_was_left_to_fill_in(page: str):
    words = text(page)
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", words) if "://" not in link]
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []
    assert re.findall(r"^[A-Z]+_[A-Z_]+$", words, re.MULTILINE) == []
