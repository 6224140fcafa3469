"""The command line: help that teaches, JSON alone on standard output, errors with near names and exit codes."""

import inspect
import json
import os
import runpy
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from console import call
from PIL import Image

import whytransfer
from whytransfer import cli, progress
from whytransfer.commands.card import NOT_IN_CONFIG, NOT_SAVED
from whytransfer.commands.pretrain import PretrainSettings

ROOT = Path(__file__).parents[1]

QUICK = ["--method=moco-v2", "--size=24", "--epochs=1", "--batch=16", "--queue=32", "--splits=2", "--accelerator=cpu"]
PRETRAIN = ["pretrain", "--images=scenes:64", "--out=OUT"]
TRANSFER = ["transfer", "--train=scenes:64", "--test=scenes:64", "--out=OUT"]


def refused(capsys, *arguments: str) -> str:
    """The message of a request that must end with exit code 2 and print nothing on standard output."""
    assert call(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("whytransfer: ")
    assert "Traceback" not in captured.err and "pydantic" not in captured.err
    return captured.err


@pytest.mark.parametrize("command", ["demo", "pretrain", "transfer", "doctor", "show views"])
def test_every_help_teaches_with_examples(capsys, command):
    assert call(*command.split(), "--help") == 0
    text = capsys.readouterr().out
    assert "Examples:" in text and f"whytransfer {command}" in text and "--json" in text


@pytest.mark.parametrize("command", ["pretrain", "masks quality"])
def test_the_words_of_a_setting_break_at_the_width_of_the_terminal(capsys, monkeypatch, command):
    """Not where a line of the source ends too: then a lonely word would follow each full line."""
    settings = dict(cli._settings_by_command())[command]
    assert all(field.description and "\n" not in field.description for field in settings.model_fields.values())
    monkeypatch.setenv("COLUMNS", "2000")
    assert call(*command.split(), "--help") == 0
    text = capsys.readouterr().out
    assert all(field.description in text for field in settings.model_fields.values())


def test_help_does_not_wait_for_pytorch():
    code = (
        "import sys, whytransfer.cli\ntry: whytransfer.cli.main(['--help'])\nexcept SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_the_package_is_the_command(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["whytransfer", "--version"])
    with pytest.raises(SystemExit) as end:
        runpy.run_module("whytransfer", run_name="__main__")
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("whytransfer ")


def test_the_top_level_lists_every_command(capsys):
    assert call("--help") == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("demo", "pretrain", "transfer", "doctor", "show views"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["pretrian"], "unknown command 'pretrian'. Did you mean 'pretrain'"),
        (["show", "view"], "Did you mean 'show views'"),
        ([*PRETRAIN, "--method=moco-v3"], "unknown method 'moco-v3'. Did you mean 'moco-v2'"),
        ([*PRETRAIN, "--recipe=apearance"], "Did you mean 'appearance'"),
        ([*PRETRAIN, "--backbone=resnet19"], "Did you mean 'resnet1"),
        ([*PRETRAIN, "--batch=128", "--method=supervised"], "--batch 128 is larger than the data: 64 images"),
        ([*PRETRAIN, "--method=moco-v2", "--batch=24", "--queue=64", "--splits=2"], "64 keys is not divisible by"),
        ([*PRETRAIN, "--method=supervised", "--batch=10", "--accumulate=4"], "split evenly into 4 parts"),
        ([*PRETRAIN, "--method=supervised", "--queue=64"], "supervised has no such setting"),
        (["pretrain", "--images=nowhere", "--out=OUT"], "nowhere"),
        ([*TRANSFER, "--backbone=random:resnet18", "--task=readot"], "Did you mean 'readout'"),
        ([*TRANSFER, "--backbone=rundom:resnet18"], "Did you mean 'random'"),
        (["show", "views", "--images=scenes:8", "--recipe=defalt", "--out=OUT"], "Did you mean 'default'"),
        (["pretrain", "--config=OUT"], "out: No such file or directory\n"),
        ([*PRETRAIN, "--size=4", "--lr=-1"], "size: Input should be greater than or equal to 8 (got 4); lr:"),
    ],
)  # fmt: skip
def test_bad_requests_name_what_is_near_and_write_nothing(capsys, tmp_path, arguments, message):
    out = tmp_path / "out"
    assert message in refused(capsys, *(a.replace("OUT", str(out)) for a in arguments))
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "goes_on"),
    [
        (PRETRAIN, True),
        (["demo", "--out=OUT"], True),
        (["masks", "--images=scenes:8", "--engine=grid:2", "--out=OUT"], True),
        ([*TRANSFER, "--backbone=random:resnet18", "--task=knn"], False),
        (["doctor"], False),
        (["show", "views", "--images=scenes:8", "--out=OUT"], False),
    ],
)
def test_a_stopped_command_says_that_it_goes_on_only_where_it_does(capsys, monkeypatch, arguments, goes_on):
    def stopped(settings):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_runner", lambda settings: stopped)
    assert call(*arguments) == 130
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("whytransfer: stopped.")
    assert ("goes on from the last save" in printed.err) == goes_on


def test_empty_folder_one_class_and_damaged_pictures(capsys, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "empty" in refused(capsys, "pretrain", f"--images={tmp_path / 'empty'}", f"--out={tmp_path / 'out'}")
    (tmp_path / "one" / "cat").mkdir(parents=True)
    for i in range(16):
        Image.fromarray(np.full((30, 30, 3), i * 9, np.uint8)).save(tmp_path / "one" / "cat" / f"{i}.png")
    one = f"--images={tmp_path / 'one'}"
    assert "class" in refused(capsys, "pretrain", one, f"--out={tmp_path / 'out'}", "--method=supervised")
    (tmp_path / "one" / "cat" / "3.png").write_bytes(b"\x89PNG\r\n\x1a\n half a picture")
    message = refused(capsys, "pretrain", one, f"--out={tmp_path / 'out'}", *QUICK)
    assert "3.png" in message and "--skip-unreadable" in message
    assert not (tmp_path / "out").exists()


def test_json_is_alone_on_standard_output(tmp_path, capfd):
    assert call("pretrain", "--images=scenes:64:0:24", f"--out={tmp_path / 'run'}", "--json", *QUICK) == 0
    printed = capfd.readouterr()
    answer = json.loads(printed.out)
    assert {"run", "images_per_second", "seconds", "loss", "knn"} <= answer.keys()
    assert "epoch 1/1" in printed.err
    data = ["--train=scenes:200:1:24", "--test=scenes:100:2:24"]
    where = [f"--backbone={tmp_path / 'run'}", f"--out={tmp_path / 'results'}"]
    assert call("transfer", *where, *data, "--task=knn", "--json") == 0
    results = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert {r["metric"] for r in results} == {"top1", "mean_per_class"}
    assert all(r["low"] <= r["value"] <= r["high"] and r["provenance"]["frozen"] for r in results)
    kept = (tmp_path / "results" / "results.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in kept] == results


JSON_OF = {  # command -> keys of each line, of which there are that many
    "doctor --images=scenes:8:0:16 --size=16 --batch=4 --seconds=0.01": (
        1, {"cores", "step_images_per_second", "views_images_per_second", "eta_seconds", "advice", "peak_memory_gb"},
    ),
    "show views --images=scenes:8:0:32 --size=16 --count=2 --out=OUT.png": (1, {"file", "recipe"}),
    "show masks --images=scenes:8:0:32 --masks=grid:2 --size=16 --cell-px=8 --count=2 --out=OUT.png": (
        1, {"file", "masks", "recipe"},
    ),
    "masks --images=scenes:8:0:32 --engine=grid:2 --workers=1 --out=OUT": (1, {"store", "images", "made"}),
    "masks quality --images=scenes:8:0:32 --engine=grid:2 --truth=annotated": (
        None, {"metric", "value", "low", "high", "n", "seed", "provenance"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("command", JSON_OF)
def test_json_of_every_other_command_is_alone_on_standard_output(command, tmp_path, capfd):
    count, keys = JSON_OF[command]
    assert call(*command.replace("OUT", str(tmp_path / "out")).split(), "--json") == 0
    printed = capfd.readouterr().out
    lines = [json.loads(line) for line in printed.splitlines()]
    assert printed.endswith("}\n") and len(lines) == (count or len(lines)) > 0
    assert all(isinstance(line, dict) and keys <= line.keys() for line in lines)


@pytest.mark.parametrize(("quiet", "says"), [((), "decoding"), (("--quiet",), "")])
def test_quiet_leaves_out_what_is_said_on_the_way(tmp_path, capfd, monkeypatch, quiet, says):
    monkeypatch.setattr("whytransfer.progress.LINE_EVERY_S", -1.0)
    command = [
        "transfer",
        "--backbone=random:resnet18",
        "--train=scenes:40:0:16",
        "--test=scenes:20:1:16",
        "--task=knn",
    ]
    monkeypatch.setenv("WHYTRANSFER_CACHE", str(tmp_path / "cache"))
    assert call(*command, "--size=16", f"--out={tmp_path / 'out'}", *quiet) == 0
    printed = capfd.readouterr()
    assert "mean_per_class" in printed.out
    assert says in printed.err if says else printed.err == ""
    assert not progress.is_quiet()


@pytest.mark.parametrize(("command", "settings"), list(cli._settings_by_command()))
def test_every_command_has_an_answer_for_programs(command, settings):
    """JSON_OF and the commands' own tests run them; this one is for the command that is added next."""
    assert "as_json" in inspect.getsource(sys.modules[settings.__module__].show)


@pytest.mark.parametrize(("quiet", "says"), [(False, True), (True, False)])
def test_a_function_in_python_is_as_quiet_as_it_is_asked(tmp_path, capfd, monkeypatch, quiet, says):
    monkeypatch.setattr("whytransfer.progress.LINE_EVERY_S", -1.0)
    images = {"train": "scenes:40:0:16", "test": "scenes:20:1:16"}
    whytransfer.transfer(backbone="random:resnet18", **images, task="knn", size=16, out=tmp_path / "out", quiet=quiet)
    assert bool(capfd.readouterr().err.strip()) is says and not progress.is_quiet()


@pytest.mark.parametrize("error", [MemoryError("Unable to allocate 8 GiB"), RuntimeError("CUDA out of memory.")])
def test_short_memory_ends_with_what_to_make_smaller(capsys, monkeypatch, error):
    def greedy(settings):
        raise error

    monkeypatch.setattr("whytransfer.commands.doctor.show", greedy)
    assert call("doctor") == 1
    told = capsys.readouterr().err
    assert f"memory was short ({error})" in told and "--batch or --size smaller" in told and "Traceback" not in told


def test_other_defects_keep_their_traceback(monkeypatch):
    def broken(settings):
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr("whytransfer.commands.doctor.show", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        cli.main(["doctor"])


def test_quiet_errors_are_still_told_and_quiet_decides_no_weights(tmp_path, capsys):
    assert "nowhere" in refused(capsys, "pretrain", "--images=nowhere", f"--out={tmp_path / 'out'}", "--quiet")
    assert {"quiet", "as_json"} <= NOT_IN_CONFIG & set(NOT_SAVED) & set(PretrainSettings.model_fields)


def test_exit_codes_are_told_in_the_help_and_the_readme(capsys):
    assert call("--help") == 0
    shown = " ".join(capsys.readouterr().out.split())
    readme = " ".join((ROOT / "README.md").read_text().split())
    for text in (shown, readme):
        for code in ("0 done", "1 a run that cannot go on", "2 a request or data that cannot be used", "130 stopped"):
            assert code in text
    assert call("--version") == 0
    assert capsys.readouterr().out == f"whytransfer {version('whytransfer')}\n"


def test_what_is_piped_has_no_colours(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "CLICOLOR_FORCE")} | {
        "COLUMNS": "70"
    }
    for arguments in (["pretrain", "--help"], ["doctr"]):
        ran = subprocess.run(
            [sys.executable, "-m", "whytransfer.cli", *arguments], capture_output=True, env=environment, check=False
        )
        assert b"\x1b" not in ran.stdout + ran.stderr and len(ran.stdout + ran.stderr) > 40


def test_a_run_can_be_repeated_from_its_config_file(tmp_path, capsys):
    first = ["pretrain", "--images=scenes:48:0:24", f"--out={tmp_path / 'a'}", *QUICK]
    assert call(*first) == 0
    config = f"--config={tmp_path / 'a' / 'config.yaml'}".split("=")
    assert call("pretrain", *config, f"--out={tmp_path / 'b'}") == 0
    a, b = ((tmp_path / n / "backbone.safetensors").read_bytes() for n in "ab")
    assert a == b
    capsys.readouterr()
    assert "differing keys" in refused(capsys, "pretrain", *config, f"--out={tmp_path / 'a'}", "--seed=1").lower()
