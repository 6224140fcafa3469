"""The documentation builds without a complaint, opens from a disk, asks no network, and no link of it leads astray."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
import tyro

ROOT = Path(__file__).parents[1]


class Found(HTMLParser):
    """What a page links to, what it loads by itself, and the names that can be linked to."""

    def __init__(self, page: Path):
        super().__init__()
        self.links, self.loaded, self.names = [], [], {""}
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list) -> None:
        found = dict(attrs)
        self.names |= {found[key] for key in ("id", "name") if found.get(key)}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        loads = found.get("src") or (found.get("href") if tag == "link" else None)
        if loads:
            self.loaded.append(loads)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as it is built from this tree."""
    pytest.importorskip("mkdocs", reason="the documentation needs the group docs: uv sync --group docs")
    pytest.importorskip("mkdocstrings_handlers.python", reason="the documentation needs the group docs")
    out = tmp_path_factory.mktemp("site")
    ran = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    return out


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Found]:
    """Those made of a page of docs/; a report that is shown as it is has tests of its own."""
    written = [p.relative_to(ROOT / "docs") for p in (ROOT / "docs").rglob("*.md")]
    built = [site / p.with_name("index.html" if p.name == "README.md" else f"{p.stem}.html") for p in written]
    return {page: Found(page) for page in built}


def test_every_link_leads_to_a_place_that_is_there(site: Path, pages: dict[Path, Found]):
    assert len(pages) > 30
    broken = []
    for page, found in pages.items():
        for link in found.links + found.loaded:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if not target.is_file() or (target in pages and unquote(parts.fragment) not in pages[target].names):
                broken.append(f"{page.relative_to(site)}: {link}")
    assert not broken


def test_no_page_loads_anything_from_a_network(site: Path, pages: dict[Path, Found]):
    assert all(any(link.endswith(".css") for link in found.loaded) for found in pages.values())
    far = {link for found in pages.values() for link in found.loaded if urlsplit(link).scheme or urlsplit(link).netloc}
    assert not far
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\(\s*[\"']?(?:https?:)?//", sheet.read_text()), sheet.name


def test_every_command_and_every_setting_is_there(site: Path):
    from whytransfer import cli

    commands = (site / "commands.html").read_text()
    for name, settings in cli._settings_by_command():
        assert f'id="{name.replace(" ", "-")}"' in commands
        for field, told in settings.model_fields.items():
            flag = tyro.conf.Positional not in told.metadata and field != "as_json"  # which is --json
            assert not flag or f"--{field.replace('_', '-')}" in commands, f"{name} {field}"


def test_the_reference_tells_what_the_code_says(site: Path):
    """Every name that a page asks for has its place and its first words."""
    for page in (ROOT / "docs" / "api").glob("*.md"):
        text = (site / "api" / f"{page.stem}.html").read_text()
        asked = re.findall(r"^::: ([\w.]+)$", page.read_text(), re.MULTILINE)
        assert asked and [name for name in asked if f'id="{name}"' not in text] == [], page
    assert "One number with all that is needed to trust it" in (site / "api" / "records.html").read_text()
