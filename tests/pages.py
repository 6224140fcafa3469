"""Runs what the pages of docs/ show: python, bash and yaml blocks, in the order of the page, in a folder of its own.

A reader's pictures are small here (`lay_out`), generated sets are cut to a few scenes, and commands that work for long
are given the least settings that still go through all of them (`LEAST`): texts are tested, not sizes.
"""

from __future__ import annotations

import ast
import importlib
import re
import runpy
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from console import call
from PIL import Image

from whytransfer import cli

ROOT = Path(__file__).parents[1]
FENCE = re.compile(r"^( *)```(\w*)([^\n]*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
MANY = re.compile(r"\b(scenes|leaves):(\d+)(?::(\d+))?(?::(\d+))?")
ELSEWHERE = ("pip", "uv", "torchrun", "sbatch", "srun", "ray", "tensorboard")  # need what a test must not start

# command's module -> settings that replace those of the page
LEAST: dict[str, dict[str, Any]] = {
    "pretrain": {
        "size": 16,
        "batch": 8,
        "epochs": 1,
        "iterations": None,
        "warmup_epochs": 0.0,
        "backbone": "resnet18",
        "devices": 1,  # a second process would start the tests again
    },
    "transfer": {"size": 16},
    "study": {"calibrate": False},
    "doctor": {"size": 16, "batch": 8, "seconds": 0.1},
    "show": {"count": 2},
    "show_masks": {"size": 96, "count": 1},
    "advise": {"size": 16, "changed": 4, "views": 1, "shares": (50.0,)},
    "diagnose_invariance": {"size": 16, "count": 8, "values": 2, "transforms": ("h_flip", "hue"), "figures": False},
    "diagnose_inversion": {"size": 32, "count": 1, "budget": 0.001, "previews": 0},
    "diagnose_complementarity": {"size": 16, "draws": 20, "figures": False},
    "diagnose_errors": {"draws": 20, "figures": False},
}


@dataclass(frozen=True)
class Block:
    """A fenced block: its line in the page, language, what follows the language, and text."""

    line: int
    language: str
    title: str
    text: str


def blocks(page: str) -> list[Block]:
    """All fenced blocks of a page; those in lists lose their indentation."""
    words = (ROOT / page).read_text()
    found = []
    for match in FENCE.finditer(words):
        text = "".join(line.removeprefix(match[1]) for line in match[4].splitlines(keepends=True))
        title = re.search(r'title="([^"]+)"', match[3])
        found.append(Block(words.count("\n", 0, match.start()) + 1, match[2], title[1] if title else "", text))
    return found


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command of a shell block, comments left out."""
    for line in text.replace("\\\n", " ").splitlines():
        if words := shlex.split(line, comments=True):
            yield words


def lay_out(folder: Path) -> None:
    """What the pages call photos/ and data/: four classes of small pictures, told apart by their colour."""
    rng = np.random.default_rng(0)
    for part, count in (("photos", 6), ("data/train", 5), ("data/val", 3)):
        for label, name in enumerate(("cat", "dog", "fox", "owl")):
            (folder / part / name).mkdir(parents=True)
            for i in range(count):
                coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
                coarse[..., label % 3] //= 1 + label
                picture = Image.fromarray(coarse).resize((36, 32), Image.Resampling.BICUBIC)
                picture.save(folder / part / name / f"{i}.png")


def fewer(content: Any) -> Any:
    """The same with at most 24 images of 32 px in generated sets that are named; of studies one seed, small batches."""
    if isinstance(content, str):
        few = MANY.sub(lambda m: f"{m[1]}:{min(24, int(m[2]))}:{m[3] or 0}:{min(32, int(m[4] or 32))}", content)
        return re.sub(r"\bbatch: \d+", "batch: 8", re.sub(r"seeds: \[0, [\d, ]*\]", "seeds: [0]", few))
    if isinstance(content, Mapping):
        return {fewer(name): fewer(value) for name, value in content.items()}
    return type(content)(map(fewer, content)) if isinstance(content, list | tuple) else content


def run_small(monkeypatch: Any) -> None:
    """From here on the commands of LEAST run small, from the command line, from Python and inside a study."""
    for name, least in LEAST.items():
        module = importlib.import_module(f"whytransfer.commands.{name}")

        def small(s: Any, *more: Any, original: Any = module.run, least: Any = least) -> Any:
            given = fewer({field: getattr(s, field) for field in type(s).model_fields})
            return original(type(s).made_from({**given, **least}), *more)

        monkeypatch.setattr(module, "run", small)


def run_page(page: str, folder: Path) -> int:
    """Run all blocks of a page in `folder`, the current one; how many ran. AssertionErrors name the line."""
    names: dict[str, Any] = {"__name__": "__page__"}
    ran = 0
    for block in blocks(page):
        where = f"{page}, line {block.line}"
        if block.title:
            (folder / block.title).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.title).write_text(fewer(block.text))
        elif block.language == "python":
            run_python(fewer(block.text), where, names)
        elif block.language == "bash":
            for words in commands(block.text):
                run_command(words, where)
        else:
            continue
        ran += 1
    return ran


def run_python(code: str, where: str, names: dict[str, Any]) -> None:
    """Run code; a line that ends in `# -> text` is an expression whose value is written so."""
    lines = code.splitlines()
    for statement in ast.parse(code).body:
        _, arrow, said = lines[(statement.end_lineno or 1) - 1].partition("# -> ")
        if arrow:
            assert isinstance(statement, ast.Expr), f"{where}: `# ->` stands behind an expression: {said}"
            value = eval(compile(ast.Expression(statement.value), where, "eval"), names)
            assert repr(value) == said.strip(), f"{where}: {ast.unparse(statement)} is {value!r}, the page says {said}"
        else:
            exec(compile(ast.Module([statement], []), where, "exec"), names)


def run_command(words: list[str], where: str) -> None:
    """Run `whytransfer ...` or `python FILE` in this process; of what is started elsewhere read the settings alone."""
    told = f"{where}: {shlex.join(words)}"
    if words[0] == "whytransfer":
        assert call(*map(fewer, words[1:])) == 0, told
    elif words[0] == "python" and words[1].endswith(".py"):
        runpy.run_path(words[1], run_name="__main__")
    else:
        assert words[0] in ELSEWHERE, f"{told}: no test can run it"
        check_flags(" ".join(words), told)


def check_flags(line: str, told: str) -> None:
    """Each command in `line` (`whytransfer NAME ...`) exists and has the settings named behind it."""
    known = dict(cli._settings_by_command())
    for part in re.split(r"whytransfer(?:\.cli)? ", line)[1:]:
        words = part.split(" #")[0].split()
        name = next((n for n in (" ".join(words[:2]), words[0]) if n in known), None)
        if name is None:
            groups = {n.split()[0] for n in known} | {"completion", "--version", "--help"}
            assert words[0] in groups or words[0].isupper(), f"{told}: there is no such command"
            continue
        fields = {f"--{field.replace('_', '-')}" for field in known[name].model_fields}
        more = {"--json", "--config", "--help"} | {flag.replace("--", "--no-", 1) for flag in fields}
        for word in words:
            flag = word.split("=")[0].strip(",.;`\"'()")
            assert not flag.startswith("--") or flag in fields | more, f"{told}: {name} has no {flag}"
