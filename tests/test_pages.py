"""Every page of the documentation does what it shows; what cannot be run here is at least spelt right."""

from __future__ import annotations

import importlib
import re
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from console import call
from pages import ROOT, blocks, check_flags, lay_out, run_command, run_page, run_python, run_small

import whytransfer

PAGES = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md") if "results" not in p.parts)
RUN = [page for page in PAGES if any(b.title or b.language in ("python", "bash") for b in blocks(page))]


@pytest.fixture
def here(tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """A folder with a reader's pictures, where the commands run small; modules and names that a page adds go again."""
    from whytransfer.methods import METHODS
    from whytransfer.tasks import TASKS

    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    run_small(monkeypatch)
    before = [(table, dict(table)) for table in (METHODS, TASKS)]
    yield tmp_path
    for table, names in before:
        table.clear()
        table.update(names)
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.mark.parametrize("page", RUN)
def test_a_page_does_what_it_shows(page: str, here: Path):
    assert run_page(page, here) > 0


@pytest.mark.parametrize("page", PAGES)
def test_no_command_hides_in_a_block_that_is_not_run(page: str):
    languages = {"python", "bash", "yaml", "text", ""}
    for block in blocks(page):
        assert block.language in languages, f"{page}, line {block.line}: {block.language}"
        hidden = block.language in ("text", "") and re.search(r"^(whytransfer|python) ", block.text, re.MULTILINE)
        assert not hidden, f"{page}, line {block.line}: a command in a block that nothing runs"


@pytest.mark.parametrize("page", ["README.md", *PAGES])
def test_commands_in_the_text_have_settings_that_exist(page: str):
    """Those on data that is not here, and parts of commands inside a sentence."""
    inline = re.findall(r"`(whytransfer [^`]+)`", (ROOT / page).read_text())
    shown = [" ".join(text.split()) for text in inline]
    shown += [line for b in blocks(page) if not b.language for line in b.text.splitlines()]
    for line in shown:
        if line.startswith("whytransfer "):
            check_flags(line, f"{page}: {line}")


def test_every_yaml_block_is_a_study_that_can_be_planned(tmp_path: Path, monkeypatch):
    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    shown = [(page, b) for page in PAGES for b in blocks(page) if b.language == "yaml"]
    assert shown
    for i, (page, block) in enumerate(shown):
        (tmp_path / f"{i}.yaml").write_text(block.text)
        assert call("study", f"{i}.yaml", "--out", "out", "--dry-run", "--no-calibrate", "--quiet") == 0, (page, block)


@pytest.mark.parametrize("name", whytransfer.__all__)
def test_every_public_function_has_its_place_in_the_reference(name: str):
    module = whytransfer._FUNCTIONS[name]
    assert f"::: {module}.{name}\n" in (ROOT / "docs/api/commands.md").read_text()


@pytest.mark.parametrize("stage", ["images", "masks", "views", "backbones", "diagnosis", "nn"])
def test_what_a_stage_exports_is_in_the_reference(stage: str):
    named = re.findall(rf"^::: whytransfer\.{stage}\.(\w+)$", (ROOT / f"docs/api/{stage}.md").read_text(), re.MULTILINE)
    tables = {"ENGINES", "RECIPES"}  # on the pages of their stages
    assert set(importlib.import_module(f"whytransfer.{stage}").__all__) - tables <= set(named)


def test_every_method_task_recipe_and_engine_is_on_its_page():
    from whytransfer.masks import ENGINES
    from whytransfer.methods import METHODS
    from whytransfer.tasks import TASKS
    from whytransfer.views import RECIPES

    for page, names in (("methods", METHODS), ("tasks", TASKS), ("masks", ENGINES), ("methods", RECIPES)):
        text = (ROOT / f"docs/{page}.md").read_text()
        missing = [n for n in names if f"`{n}" not in text and not n.startswith("ladder-")]
        assert not missing, f"docs/{page}.md does not name {missing}"


def test_diagrams_are_those_of_their_script_and_no_picture_is_large():
    pictures = ROOT / "docs" / "pictures"
    made = runpy.run_path(str(pictures / "make.py"), run_name="make")
    for name in ("flow", "backbones", "study", "claims"):
        assert (pictures / f"{name}.svg").read_text() == made["PICTURES"][name]()
    kept = {p.stem: p.stat().st_size for p in pictures.iterdir() if p.suffix in (".svg", ".png")}
    assert set(kept) >= set(made["PICTURES"]) and max(kept.values()) < 300_000
    shown = " ".join((ROOT / page).read_text() for page in ["README.md", *PAGES])
    assert [name for name in kept if f"pictures/{name}." not in shown] == []


def test_the_checks_can_fail(tmp_path: Path):
    with pytest.raises(AssertionError, match="line 3: 1 \\+ 1 is 2, the page says 3"):
        run_python("1 + 1  # -> 3", "line 3", {})
    with pytest.raises(AssertionError, match="pretrain has no --epoch"):
        check_flags("whytransfer pretrain --images a --epoch 1", "page")
    with pytest.raises(AssertionError, match="no test can run it"):
        run_command(["rm", "-r", "photos"], "page")
    with pytest.raises(AssertionError, match="page: whytransfer pretrain"):
        run_command(["whytransfer", "pretrain", "--images", "nowhere", "--out", str(tmp_path / "a")], "page")
