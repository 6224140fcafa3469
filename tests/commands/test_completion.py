"""Completion: the script is run by bash itself, word by word."""

import shutil
import subprocess

import pytest
from console import call

from whytransfer import cli
from whytransfer.commands.completion import HELP, script

bash = pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("completion") / "whytransfer"
    path.write_text(script(["bash"], dict(cli._settings_by_command())))
    return path


def completed(written, *words):
    """What bash offers for the last word."""
    quoted = " ".join(f"'{word}'" for word in ("whytransfer", *words))
    asks = f'source {written}; COMP_WORDS=({quoted}); COMP_CWORD={len(words)}; _whytransfer; echo "${{COMPREPLY[@]}}"'
    ran = subprocess.run(["bash", "-uc", asks], capture_output=True, text=True, check=True)
    assert ran.stderr == ""
    return ran.stdout.split()


@bash
@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["tr"], ["transfer"]),
        (["show", ""], ["masks", "views"]),
        (["masks", "q"], ["quality"]),
        (["diagnose", "inv"], ["invariance", "inversion"]),
        (["pretrain", "--ba"], ["--backbone", "--batch"]),
        (["show", "views", "--rec"], ["--recipe"]),
        (["pretrain", "--method", "moco-v2"], ["moco-v2", "moco-v2-small"]),
        (["pretrain", "--method", "=", "byol-"], ["byol-small"]),
        (["transfer", "--json", "--task", "fine"], ["finetune"]),
        (["advise", "--out", "x", "--metric", ""], ["mean_per_class", "top1"]),
        (["masks", "--images", ""], []),  # files, which bash finds itself
        (["nothing", "--"], []),
    ],
)
def test_bash_finishes_words(written, words, offered):
    assert completed(written, *words) == offered


BARE = ("file", "folder", "sql", "claims")  # what study, results, report and claims take without a flag


def flags_of(names):
    return {f"--{name}" for name in names}


@bash
def test_every_command_and_setting_is_known(written):
    for command, settings in cli._settings_by_command():
        flags = completed(written, *command.split(), "--")
        own = {"--" + name.replace("_", "-") for name in settings.model_fields if name not in ("as_json", *BARE)}
        assert not flags_of(BARE) & set(flags)
        assert own | {"--json", "--help", "--config", "--quiet"} <= set(flags)
        words = command.split()
        assert words[0] in completed(written, words[0][:-1])


def test_the_command_prints_its_script_or_how_to_use_it(capsys, written):
    assert call("completion", "bash") == 0
    assert capsys.readouterr().out == written.read_text()
    assert call("completion") == 0 and capsys.readouterr().out == HELP
    assert call("completion", "zsh") == 0
    assert "bashcompinit" in capsys.readouterr().out.splitlines()[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["fsh"], "unknown shell 'fsh'"), (["bash", "zsh"], "takes one shell"), (["completoin"], "Did you mean")],
)
def test_other_shells_are_refused(capsys, arguments, message):
    assert call(*(arguments if "completoin" in arguments else ["completion", *arguments])) == 2
    assert message in capsys.readouterr().err
