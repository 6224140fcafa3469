"""What MkDocs does not do by itself: every command's --help on the page of commands (a hook of mkdocs.yml)."""

from __future__ import annotations

import contextlib
import io
import os
import textwrap
from collections.abc import Iterator
from typing import Any

MARK = "<!-- every command's help -->"
WIDTH = 118  # characters of a line of help


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Put the help where MARK stands."""
    return markdown.replace(MARK, "\n".join(sections())) if MARK in markdown else markdown


def sections() -> Iterator[str]:
    """A section per command, in the order of `whytransfer --help`."""
    from whytransfer import cli

    os.environ["COLUMNS"] = str(WIDTH)
    for name, _ in cli._settings_by_command():
        told = io.StringIO()
        with contextlib.redirect_stdout(told), contextlib.suppress(SystemExit):
            cli.main([*name.split(), "--help"])
        lines = [part for line in told.getvalue().splitlines() for part in broken(line)]
        yield f"## {name}\n\n```text\n{chr(10).join(lines).strip()}\n```\n"


def broken(line: str) -> list[str]:
    """A paragraph in lines of the width; what is set in (examples, options) as it is."""
    return [line.rstrip()] if line.startswith(" ") or not line.strip() else textwrap.wrap(line, WIDTH)
