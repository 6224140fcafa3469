"""benchmarks/all.py reads what the scripts print; growth, ceilings and processes run, or reckon, in small."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_benchmarks import ROOT, run

RAW = ROOT / "docs" / "results" / "raw"


def script(name):
    """benchmarks/NAME.py as a module."""
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look for their types
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def everything():
    return script("all")


@pytest.mark.parametrize(
    ("name", "said", "ratios"),
    [
        ("views", RAW / "speed-views.txt", [6.8, 8.0, 13.7]),
        ("pretraining-moco-v2", RAW / "speed-pretraining.txt", [2.41, 0.97]),
        ("logistic", RAW / "speed-readout.txt", [48.1, None]),
        ("ridge", "ours / one fit 3.6 (processor 4.0); largest difference 1e-9", [0.25]),
        ("features", "share of the forward pass 0.900 (processor 0.950)", [0.95]),
        ("detection-step", "step: ours / torchvision 0.980 (processor 0.500)", [2.0]),
        ("detection-ap", "AP: ours / faster-coco-eval 0.5 (processor 0.250); difference of AP 1e-9", [4.0]),
        ("detection-errors", "  ours / tidecv: analysis 0.050, with reading 0.2", [20.0]),
        ("invariance", "whole diagnosis: ratio 12.5, wanted 4; equal pixels 6.1; mode paper 3.0\n", [12.5, 6.1, 3.0]),
        ("inversion", "published way: 1 s\nratio 2.10 (processor 2.30)\n", [2.3]),
        ("detcon-64", "loss-b   batch   64  ours 1 ms 2 MiB   lightly 3 ms   lightly / ours: time 3.00, memory 2.00\n",
         [3.0, None, None]),
        ("regions", "felzenszwalb                 26.6 images/s/core   x\nfelzenszwalb-skimage      5.2 images/s/core",
         [26.6 / 5.2]),
        ("shards", "folder: 900 images/s read, 5 images/s\nshards: 1 images/s read\nfolder: 1,000 images/s read, 5 im\n"
         "shards: 1,500 images/s read", [1.5]),
    ],
)  # fmt: skip
def test_ratios_are_read_off_what_was_printed(everything, name, said, ratios):
    (found,) = [s for s in everything.SCRIPTS if s.name == name]
    said = said.read_text() if isinstance(said, Path) else said
    assert [reading.of(said) for reading in found.readings] == pytest.approx(ratios)


def test_every_script_of_the_folder_is_in_it_or_measures_no_ratio(everything):
    there = {path.name for path in (ROOT / "benchmarks").glob("*.py")}
    without = {"all.py", "ceilings.py", "growth.py", "lightly_steps.py", "processes.py", "scenes.py", "startup.py"}
    assert {s.file for s in everything.SCRIPTS} == there - without


def test_repeats_make_an_interval_failures_are_named_and_nothing_is_run_twice(
    everything, tmp_path, monkeypatch, capsys
):
    calls = []

    def pretended(command, **_):
        calls.append(command)
        if "--method" in command:
            return subprocess.CompletedProcess(command, 1, "", "Traceback ... No module named 'lightly'")
        said = "".join(f"{w} x {h} -> 2 x {s} px ratio {k + len(calls)}\n" for k, (w, h, s) in enumerate(CASES))
        return subprocess.CompletedProcess(command, 1, said, "")  # 1: a goal of its own was missed

    CASES = [(500, 375, 64), (500, 375, 224), (64, 64, 64)]
    monkeypatch.setattr(everything, "subprocess", SimpleNamespace(run=pretended))
    out = ["all.py", "--out", str(tmp_path / "out"), "--images", "x", "--only", "views", "pretraining-byol"]
    monkeypatch.setattr(sys, "argv", [*out, "--repeats", "3"])
    with pytest.raises(SystemExit) as end:
        everything.main()
    assert end.value.code is True and len(calls) == 6 and "--images" in calls[1]
    rows = [json.loads(line) for line in (tmp_path / "out" / "rows.jsonl").read_text().splitlines()]
    assert [row["ratios"] for row in rows] == [[1, 3, 5], [2, 4, 6], [3, 5, 7], [], []]
    assert rows[0]["median"] == 3 and rows[0]["low"] == pytest.approx(3 - 4.303 * 2 / 3**0.5, abs=0.01)  # Student's t
    table = capsys.readouterr().out
    assert "No module named 'lightly' | 0 |" in table and "| 3 (-1.97 to 7.97) | 3 | 3 |" in table
    monkeypatch.setattr(sys, "argv", [*out, "--repeats", "3"])
    with pytest.raises(SystemExit):
        everything.main()
    assert len(calls) == 6


def test_one_comparison_for_real(tmp_path):
    said = run("benchmarks/all.py", "--out", tmp_path / "out", "--quick", "--only", "ridge")
    assert "| ridge path, 45 alphas x 5 folds | scikit-learn, ONE fit | " in said and "not run" not in said
    assert (tmp_path / "out" / "table.md").read_text().strip() in said


def test_exponents_of_known_growth():
    growth = script("growth")
    line = growth.told("toy", "images", [1, 2, 4, 8], [3.0, 12.0, 48.0, 192.0])
    assert "exponent 2.00 over all, 2.00 at the end" in line
    line = growth.told("toy", "images", [1, 2], [6.0, 7.0])  # log2(7 / 6)
    assert "exponent 0.22 over all, 0.22 at the end; 5.00 s + 1.00 s per multiple of images" in line
    assert "readout" in run("benchmarks/growth.py", "--small", "--stages", "readout")


def test_ceilings_and_shares_of_processes(tmp_path, monkeypatch, capsys):
    assert "bfloat16" in run("benchmarks/ceilings.py", "--rounds", 1, "--side", 64, "--mib", 1)
    processes = script("processes")
    pretended = {1: {4: (0, 10.0), 24: (100.0, 20.0)}, 2: {4: (0, 12.0), 24: (180.0, 37.0)}}
    monkeypatch.setattr(processes, "ran", lambda args, n, steps, folder: pretended[n][steps])
    monkeypatch.setattr(sys, "argv", ["processes.py", "--batch", "10"])
    processes.main()
    one, two = capsys.readouterr().out.splitlines()
    assert "100.0 images/s by the clock, 1.00" in one and "20.0 images a processor second, 1.00" in one
    assert "180.0 images/s by the clock, 0.90" in two and "16.0 images a processor second, 0.80" in two
