"""Completion: the scripts are run by bash, zsh and fish themselves, word by word, where these are installed."""

import shutil
import subprocess

import pytest
from console import call

from whytransfer import cli
from whytransfer.commands.completion import HELP, script

ZSH = """compdef() { }
compadd() { while (( $# )) && [[ $1 != - ]]; do shift; done; for word in "${@[2,-1]}"; do
    [[ $word = ${words[CURRENT]}* ]] && print -r -- $word; done; return 0 }
"""  # in place of zsh's completion system, which takes a second to start: what is offered and begins with the word


def asks(shell, written, words):
    """A script for the shell that prints what it would offer for the last word."""
    quoted = " ".join(f"'{word}'" for word in ("whytransfer", *words))
    if shell == "bash":
        return f"""source {written}; COMP_WORDS=({quoted}); COMP_CWORD={len(words)}; _whytransfer
            echo "${{COMPREPLY[@]}}" """
    if shell == "zsh":
        call = (
            f"_default() {{ }}; words=({quoted}); CURRENT={len(words) + 1}; _bash_complete -o default -F _whytransfer"
        )
        return f"{ZSH}source {written}\n{call}\ntrue"
    return f"source {written}; complete -C '{' '.join(('whytransfer', *words))}'"


@pytest.fixture(scope="module", params=["bash", "zsh", "fish"])
def completed(request, tmp_path_factory):
    """What a shell offers for the last of some words."""
    if shutil.which(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    folder = tmp_path_factory.mktemp(request.param)
    (folder / "whytransfer").write_text(script([request.param], dict(cli._settings_by_command())))

    def offered(*words):
        (folder / "asks").write_text(asks(request.param, folder / "whytransfer", words))
        flags = {"bash": ["-u"], "zsh": ["-f"], "fish": ["--no-config"]}[request.param]
        command = [request.param, *flags, str(folder / "asks")]
        ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
        assert ran.stderr == ""
        return [word for word in ran.stdout.split() if word not in ("whytransfer", "asks")]  # files, which fish offers

    offered.shell = request.param
    return offered


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
        (["transfer", "--json", "--task", "fine"], ["finetune"]),
        (["advise", "--out", "x", "--metric", ""], ["mean_per_class", "top1"]),
        (["masks", "--images", ""], []),  # files, which bash finds itself
        (["nothing", "--"], []),
    ],
)
def test_words_are_finished(completed, words, offered):
    assert completed(*words) == offered


def test_what_stands_behind_an_equals_sign_is_finished(completed):
    if completed.shell == "bash":  # which makes three words of it
        assert completed("pretrain", "--method", "=", "byol-") == ["byol-small"]
    elif completed.shell == "fish":
        assert completed("pretrain", "--method=byol-") == ["--method=byol-small"]
    else:
        pytest.skip("zsh offers files there")


BARE = ("file", "folder", "sql", "claims")  # what study, results, report and claims take without a flag


def flags_of(names):
    return {f"--{name}" for name in names}


def test_every_command_and_setting_is_known(completed):
    for command, settings in cli._settings_by_command():
        flags = completed(*command.split(), "--")
        own = {"--" + name.replace("_", "-") for name in settings.model_fields if name not in ("as_json", *BARE)}
        assert not flags_of(BARE) & set(flags)
        assert own | {"--json", "--help", "--config", "--quiet"} <= set(flags)
        words = command.split()
        assert words[0] in completed(words[0][:-1])


def test_the_command_prints_its_script_or_how_to_use_it(capsys):
    for shell, says in (("bash", "COMPREPLY"), ("zsh", "bashcompinit"), ("fish", "commandline")):
        assert call("completion", shell) == 0
        printed = capsys.readouterr().out
        assert says in printed and printed == script([shell], dict(cli._settings_by_command()))
    assert call("completion") == 0 and capsys.readouterr().out == HELP


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["fsh"], "unknown shell 'fsh'"), (["bash", "zsh"], "takes one shell"), (["completoin"], "Did you mean")],
)
def test_other_shells_are_refused(capsys, arguments, message):
    assert call(*(arguments if "completoin" in arguments else ["completion", *arguments])) == 2
    assert message in capsys.readouterr().err
