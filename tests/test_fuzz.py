"""Foreign and damaged files: each reader gives a result or a message, and does no harm. Long runs: studies/fuzz.py."""

import importlib.util
import os
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import pytest

pytest.importorskip("hypothesis", reason="fuzzing needs hypothesis: pip install hypothesis")
from fuzz_targets import TARGETS, Target, as_bytes, below, read_regions, text_of
from hypothesis import HealthCheck, Phase, given, settings

import whytransfer
from whytransfer.cli import main
from whytransfer.errors import InputError
from whytransfer.parsing import json_of, yaml_of

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="its alarms are those of Unix")


def _study():
    spec = importlib.util.spec_from_file_location("fuzz", Path(__file__).parents[1] / "studies" / "fuzz.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module
    spec.loader.exec_module(module)
    return module


fuzz = _study()
DEEP = "[" * 50_000 + "]" * 50_000


@pytest.mark.parametrize("name", TARGETS)
def test_changed_files_are_read_or_refused(name, tmp_path):
    target = TARGETS[name]
    for content in target.seeds():  # whole ones; and all that is imported on the way is imported
        with tempfile.TemporaryDirectory() as folder:
            try:
                target.read(content, Path(folder))
            except InputError:
                assert name in ("weights", "card"), "these seeds hold no whole ResNet, all others are read"
    few = settings(
        max_examples=20,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )

    @few
    @given(target.files())
    def attempt(content):
        fuzz.attempt(target, content)

    attempt()


HARM = {
    "writes elsewhere": (lambda content, folder: (folder.parent / "x").write_bytes(b""), "open .*x"),
    "removes": (lambda content, folder: (folder.parent / "nothing").unlink(missing_ok=True), "os.remove .*nothing"),
    "starts": (lambda content, folder: subprocess.run(["true"]), "subprocess.Popen"),
    "calls": (lambda content, folder: os.system("true"), "os.system"),
}


@pytest.mark.parametrize("name", HARM)
def test_the_watch_sees_what_must_not_be(name):
    read, told = HARM[name]
    with pytest.raises(fuzz.Harm, match=told):
        fuzz.attempt(Target(lambda: [b""], read, as_bytes), b"")


def test_what_has_no_end_or_says_nothing_is_a_failure(monkeypatch):
    def endless(content, folder):
        while True:
            pass

    def dumb(content, folder):
        raise InputError("no")

    monkeypatch.setattr(fuzz, "CPU_S", 0.2)
    with pytest.raises(fuzz.Harm, match="no end after 0.2 s"):
        fuzz.attempt(Target(lambda: [b""], endless, as_bytes), b"")
    with pytest.raises(fuzz.Harm, match="this says nothing: 'no'"):
        fuzz.attempt(Target(lambda: [b""], dumb, as_bytes), b"")
    assert fuzz.attempt(Target(lambda: [b""], lambda content, folder: 1, as_bytes), b"") == "read"


def test_json_nested_without_end_is_refused_where_it_is_read(tmp_path):
    with pytest.raises(ValueError, match="nested without end"):
        json_of(DEEP)
    below(tmp_path, "run/card.json", DEEP.encode())
    with pytest.raises(InputError, match=r"card.json is damaged: it is nested without end"):
        whytransfer.load_backbone(tmp_path / "run")
    file = below(tmp_path, "truth.json", DEEP.encode())
    with pytest.raises(InputError, match=r"truth.json is no JSON file, or is damaged: it is nested without end"):
        whytransfer.diagnose_errors(truth=str(file), detections=[str(file)], out=tmp_path / "out")


LAUGHS = "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
YAMLS = {
    "laughs": (LAUGHS, "with its aliases written out it holds more than 100,000 values"),
    "itself": ("a: &a [*a]", "or lists in lists more than 50 deep"),
    "deep": (f"a: {DEEP}", "nested without end"),
    "date": ("a: 2026-99-99", "month must be in 1..12"),
    "not text": ("a: \x00", "special characters are not allowed"),
    "object": ("a: !!python/object/apply:os.system [true]", "could not determine a constructor"),
    "twice": ("a: 1\na: 2", "'a' stands twice in line 1"),
    "mapping of a list": ("!!map [1]", "expected a mapping node"),
}


@pytest.mark.parametrize("name", YAMLS)
def test_yaml_that_harms_is_refused(name, tmp_path, capsys):
    text, told = YAMLS[name]
    file = below(tmp_path, "x.yaml", text.encode())
    with pytest.raises(InputError, match=f"(study file|^).*x.yaml.*{told}"):
        yaml_of(file, "study file")
    with pytest.raises(InputError, match=told):
        whytransfer.run_study(file, tmp_path / "out", dry_run=True)
    with pytest.raises(SystemExit) as ended:
        main(["pretrain", "--config", str(file)])
    assert ended.value.code == 2 and "whytransfer: " in capsys.readouterr().err


def test_yaml_that_shares_a_part_is_read(tmp_path):
    file = below(tmp_path, "x.yaml", b"base: &base {a: 1}\nmore: {<<: *base, b: 2}\n")
    assert yaml_of(file, "settings")["more"] == {"a": 1, "b": 2}


def part_of(kind: int, count: int, size: tuple[int, int], body: bytes) -> bytes:
    """A part of a store with this one code, twice."""
    code = struct.pack("<BBHII", kind, 0, count, *size) + zlib.compress(body)
    ends = struct.pack("<QQ", len(code), 2 * len(code))
    return b"WTMASKS1" + struct.pack("<Q", 2) + b"a" * 16 + b"b" * 16 + ends + 2 * code


REGIONS = {
    "runs past the image": part_of(0, 1, (2, 2), struct.pack("<I", 1) + b"\0" + b"\x05"),
    "runs that never fill it": part_of(1, 1, (2, 2), b"\x00" * 3),
    "a length without end": part_of(1, 1, (2, 2), b"\xff" * 30),
    "more runs than told": part_of(0, 1, (2, 2), struct.pack("<I", 9) + b"\0" * 9 + b"\x04"),
    "too large": part_of(0, 1, (2**31, 2**31), b""),
    "a bomb": part_of(0, 1, (2, 2), b"\0" * 10**6),
}


@pytest.mark.parametrize("name", REGIONS)
def test_regions_that_do_not_fit_are_refused_before_they_are_painted(name, tmp_path):
    with pytest.raises(
        InputError, match=r"0.part is damaged \(its .* cannot be right\): delete it and make its regions"
    ):
        read_regions(REGIONS[name], tmp_path)


def test_regions_that_fit_are_read(tmp_path):
    ((found, _), _) = read_regions(part_of(0, 1, (2, 2), struct.pack("<I", 1) + b"\0" + b"\x04"), tmp_path)
    assert found.maps.tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize("key", ["../../elsewhere", "/etc", "", 3])
def test_a_foreign_study_cannot_point_out_of_its_folder(key, tmp_path):
    from fuzz_targets import parts, results, written_results

    given = parts(results()[0])
    given["study"]["cells"]["class/random/0"]["key"] = key
    place = written_results(text_of(given), tmp_path)
    with pytest.raises(InputError, match=r"studies/s.json is damaged \(ValueError: its cell class/random/0 is"):
        whytransfer.results(place)


@pytest.mark.parametrize("change", [{"value": "x"}, {"value": None}, {"low": "1"}, {"provenance": None}, {"seed": 0.5}])
def test_rows_of_another_program_are_named(change, tmp_path):
    from fuzz_targets import parts, results, written_results

    given = parts(results()[0])
    given["rows"][1] |= change
    with pytest.raises(InputError, match="line 2 of .*results.jsonl is no result"):
        whytransfer.results(written_results(text_of(given), tmp_path))
