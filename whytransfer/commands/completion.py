"""`whytransfer completion`: what the Tab key needs to know of all commands and settings, as a script for the shell."""

from __future__ import annotations

import typing
from collections.abc import Mapping
from typing import Any

import tyro

from whytransfer.errors import InputError, unknown_name

HELP = """Print a script that lets the Tab key finish commands, settings and their values.

Once, for bash (new shells read it):
  mkdir -p ~/.local/share/bash-completion/completions
  whytransfer completion bash > ~/.local/share/bash-completion/completions/whytransfer

For zsh, a line in ~/.zshrc (after compinit):
  source ~/.whytransfer-completion        # made once by: whytransfer completion zsh > ~/.whytransfer-completion

For fish:
  whytransfer completion fish > ~/.config/fish/completions/whytransfer.fish

After an update that brings new commands, make it again.
"""
SHELLS = ("bash", "zsh", "fish")
_BASH = """# completion of whytransfer for {shell}, made by `whytransfer completion {shell}`
{before}_whytransfer() {{
    local word=${{COMP_WORDS[COMP_CWORD]}} last=${{COMP_WORDS[COMP_CWORD-1]}} command="" next part
    if [ "$word" = "=" ]; then word=""; elif [ "$last" = "=" ]; then last=${{COMP_WORDS[COMP_CWORD-2]}}; fi
    for part in "${{COMP_WORDS[@]:1:$((COMP_CWORD-1))}}"; do  # the words of the command, up to the first setting
        next="$command$part "
        case "$next" in {prefixes}) command=$next ;; *) break ;; esac
    done
    local words="" values=""
    case "$command$last" in
{values}
    esac
    if [ -n "$values" ]; then words=$values
    else
        case "$command" in
{words}
        esac
        case "$last" in --*) words="" ;; esac  # the value of a setting: a file, unless it is known
        case "$word" in --*) case "$command" in
{flags}
        esac ;; esac
    fi
    COMPREPLY=( $(compgen -W "$words" -- "$word") )
}}
complete -o default -F _whytransfer whytransfer
"""
_FISH = """# completion of whytransfer for fish, made by `whytransfer completion fish`
function __whytransfer
    set -l words (commandline -opc)[2..-1]
    set -l word (commandline -ct)
    set -l last $words[-1]
    set -l before ""
    set -l command ""
    for part in $words  # the words of the command, up to the first setting
        switch "$command$part "
            case {prefixes}
                set command "$command$part "
            case "*"
                break
        end
    end
    if string match -q -- "--*=*" $word
        set last (string split -m 1 = -- $word)[1]
        set before "$last="
    end
    set -l values
    switch "$command$last"
{values}
    end
    if set -q values[1]
        printf "$before%s\\n" $values
    else if string match -q -- "--*=*" $word  # of a value that is not known: files
    else if string match -q -- "--*" $word
        switch "$command"
{flags}
        end
        printf "%s\\n" $values
    else if not string match -q -- "--*" "$last"
        switch "$command"
{words}
        end
        set -q values[1]; and printf "%s\\n" $values
    end
end
complete -c whytransfer -n "test (count (__whytransfer)) -gt 0" -f -a "(__whytransfer)"
"""


def script(arguments: list[str], commands: Mapping[str, type]) -> str:
    """The script for `whytransfer completion SHELL`; `commands` are settings classes by the words typed for them."""
    if arguments in ([], ["-h"], ["--help"]):
        return HELP
    if len(arguments) > 1:
        raise InputError(f"whytransfer completion takes one shell ({', '.join(SHELLS)}), got {' '.join(arguments)}")
    if arguments[0] not in SHELLS:
        raise unknown_name("shell", arguments[0], SHELLS)
    prefixes = {" ".join(words[: i + 1]) for words in map(str.split, commands) for i in range(len(words))}
    below = {prefix: _next_words(prefix, commands) for prefix in sorted({"", *prefixes})}
    words = {f"{p} ".lstrip(): " ".join(words) for p, words in below.items() if words}
    flags = {f"{name} ": " ".join(_flags(settings)) for name, settings in commands.items()}
    values = {f"{name} {flag}": " ".join(v) for name, s in commands.items() for flag, v in _choices(s).items()}
    quoted = [f'"{prefix} "' for prefix in sorted(prefixes)]
    if arguments[0] == "fish":
        return _FISH.format(prefixes=" ".join(quoted), values=_fish(values), flags=_fish(flags), words=_fish(words))
    return _BASH.format(
        shell=arguments[0],
        before="autoload -U +X bashcompinit && bashcompinit\n" if arguments[0] == "zsh" else "",
        prefixes="|".join(quoted),
        words=_cases(words, "words"),
        flags=_cases(flags, "words"),
        values=_cases(values, "values"),
    )


def _next_words(prefix: str, commands: Mapping[str, type]) -> list[str]:
    """What may follow the words of a command: "show" -> ["masks", "views"]."""
    words = prefix.split()
    longer = [
        name.split() for name in commands if name.split()[: len(words)] == words and len(name.split()) > len(words)
    ]
    own = ["completion"] if not words else []
    return sorted({name[len(words)] for name in longer} | set(own))


def _flags(settings: Any) -> list[str]:
    """--images --out ... of a settings class; of a switch that is on, the word that turns it off too."""
    found = ["--help", "--config"]
    for name, field in settings.model_fields.items():
        if tyro.conf.Positional in field.metadata:
            continue
        flag = "json" if name == "as_json" else name.replace("_", "-")
        found += [f"--{flag}"] + ([f"--no-{flag}"] if field.annotation is bool and field.default is True else [])
    return found


def _choices(settings: Any) -> dict[str, list[str]]:
    """{"--device": ["auto", "cpu", "cuda"]}: of the settings whose values are words known beforehand."""
    found = {}
    for name, field in settings.model_fields.items():
        words = sorted(_words_of(field.annotation) | set(_named(name)))
        if words:
            found[f"--{name.replace('_', '-')}"] = words
    return found


def _words_of(annotation: Any) -> set[str]:
    """The strings of every Literal in a type."""
    if typing.get_origin(annotation) is typing.Literal:
        return {value for value in typing.get_args(annotation) if isinstance(value, str)}
    return set().union(*(_words_of(part) for part in typing.get_args(annotation)), set())


def _named(setting: str) -> tuple[str, ...]:
    """The names that some settings take besides: methods, tasks, recipes."""
    if setting == "method":
        from whytransfer.methods import METHODS

        return tuple(METHODS)
    if setting == "task":
        from whytransfer.tasks import TASKS

        return tuple(TASKS)
    if setting == "recipe":
        from whytransfer.views.recipes import RECIPES

        return tuple(RECIPES)
    return ()


def _cases(answers: Mapping[str, str], variable: str) -> str:
    return "\n".join(f'            "{key}") {variable}="{words}" ;;' for key, words in answers.items())


def _fish(answers: Mapping[str, str]) -> str:
    return "\n".join(f'            case "{key}"\n                set values {words}' for key, words in answers.items())
