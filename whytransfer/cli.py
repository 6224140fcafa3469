"""The command line: parse, run one command, turn failures into messages and exit codes (EXIT_CODES)."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import tyro

from whytransfer import progress
from whytransfer.commands import completion
from whytransfer.commands.advise import AdviseSettings
from whytransfer.commands.claims import ClaimsSettings
from whytransfer.commands.common import wrong_settings_refused
from whytransfer.commands.demo import DemoSettings
from whytransfer.commands.diagnose_complementarity import DiagnoseComplementaritySettings
from whytransfer.commands.diagnose_errors import DiagnoseErrorsSettings
from whytransfer.commands.diagnose_invariance import DiagnoseInvarianceSettings
from whytransfer.commands.diagnose_inversion import DiagnoseInversionSettings
from whytransfer.commands.doctor import DoctorSettings
from whytransfer.commands.export import ExportSettings
from whytransfer.commands.masks import MasksSettings
from whytransfer.commands.masks_quality import MasksQualitySettings
from whytransfer.commands.pack import PackSettings
from whytransfer.commands.pretrain import PretrainSettings
from whytransfer.commands.rank import RankMasksSettings
from whytransfer.commands.report import ReportSettings
from whytransfer.commands.results import ResultsSettings
from whytransfer.commands.show import ShowViewsSettings
from whytransfer.commands.show_masks import ShowMasksSettings
from whytransfer.commands.study import StudySettings
from whytransfer.commands.transfer import TransferSettings
from whytransfer.errors import InputError, RunError, is_out_of_memory, unknown_name
from whytransfer.parsing import yaml_of

EXIT_CODES = """Exit codes: 0 done; 1 a run that cannot go on (what it saved is intact), cells of a study that
failed, or a defect of ours with its traceback; 2 a request or data that cannot be used; 130 stopped by Ctrl-C."""
DESCRIPTION = f"""Which pretraining will transfer to my task, and why?

  whytransfer demo                              the whole way on generated scenes, a few minutes, no download
  whytransfer show views --images photos/ --recipe default --out views.png
  whytransfer pretrain --images photos/ --out runs/mine
  whytransfer transfer --backbone runs/mine random:resnet18 --task readout --train train/ --test val/ --out results/
  whytransfer advise --images photos/ --candidates runs/ --out advice/
  whytransfer export --backbone runs/mine --format timm --out exports/mine
  whytransfer pack --images photos/ --out shards/
  whytransfer masks --images photos/ --engine felzenszwalb --out regions/
  whytransfer diagnose errors --truth truth.json --detections a.json b.json --out errors/
  whytransfer study trade-off.yaml --out study/ pretrainings, tasks, diagnoses and seeds, into one table
  whytransfer claims C01 --out claims/          which of the papers' findings hold in runs of your own?
  whytransfer report study/                     all of it on one page, to read in ten minutes
  whytransfer doctor --images photos/           how fast will it be, and what is in the way?

Every command explains itself: whytransfer COMMAND --help. Settings can come from a file: --config FILE.yaml
(what is typed behind it wins). --json prints one object per result on standard output; what is said on the way goes to
standard error, --quiet leaves it out. Piped output has no colours (nor has any with NO_COLOR=1).
whytransfer --version; whytransfer completion bash (or zsh, fish) prints what lets the Tab key finish commands.

{EXIT_CODES}
"""

COMMANDS: dict[str, type | dict[str, type]] = {
    "demo": DemoSettings,
    "pretrain": PretrainSettings,
    "transfer": TransferSettings,
    "diagnose": {
        "invariance": DiagnoseInvarianceSettings,
        "errors": DiagnoseErrorsSettings,
        "inversion": DiagnoseInversionSettings,
        "complementarity": DiagnoseComplementaritySettings,
    },
    "advise": AdviseSettings,
    "study": StudySettings,
    "results": ResultsSettings,
    "claims": ClaimsSettings,
    "report": ReportSettings,
    "export": ExportSettings,
    "pack": PackSettings,
    "masks": {"": MasksSettings, "quality": MasksQualitySettings, "rank": RankMasksSettings},
    "doctor": DoctorSettings,
    "show": {"views": ShowViewsSettings, "masks": ShowMasksSettings},
}
RESUMED = (
    PretrainSettings,
    DemoSettings,
    MasksSettings,
    PackSettings,
    DiagnoseInvarianceSettings,
    DiagnoseInversionSettings,
    AdviseSettings,
    StudySettings,
    ClaimsSettings,
)  # what is stopped there goes on where it was
SMALLER = "Make --batch or --size smaller, or close other programs; then run the same command again."


def main(argv: Sequence[str] | None = None) -> None:
    """The `whytransfer` command."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    settings = None
    try:
        settings = parse(arguments)
        run = _runner(settings)
        with progress.quietly(settings.quiet):
            run(settings)
    except (InputError, RunError) as error:
        sys.stderr.write(f"whytransfer: {error}\n")
        sys.exit(2 if isinstance(error, InputError) else 1)
    except KeyboardInterrupt:
        goes_on = (
            " The same command goes on from the last save, where there is one." if type(settings) in RESUMED else ""
        )
        sys.stderr.write(f"whytransfer: stopped.{goes_on}\n")
        sys.exit(130)
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        sys.stderr.write(f"whytransfer: memory was short ({error}). {SMALLER}\n")
        sys.exit(1)
    except BrokenPipeError:  # the reader of our output went away, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    finally:
        _end_process_group()


def parse(arguments: list[str]) -> Any:
    """The settings object of the command that the arguments name. Exits (as argparse does) for --help."""
    commands: Any = COMMANDS
    path: list[str] = []
    while isinstance(commands, dict):
        name = arguments[len(path)] if len(arguments) > len(path) else "--help"
        if "" in commands and name not in commands and name.startswith("-"):  # the command itself, not a part of it
            commands = commands[""]
            break
        if name in ("-h", "--help", "--version"):
            return _top_level(name, " ".join(path))
        if name == "completion" and not path:
            sys.stdout.write(completion.script(arguments[1:], dict(_settings_by_command())))
            sys.exit(0)
        if name not in commands:
            known = [*commands, *(() if path else ("completion",))]
            raise unknown_name("command", " ".join([*path, name]), [" ".join([*path, c]).strip() for c in known])
        path.append(name)
        commands = commands[name]
    rest = _with_config_file(_joined(arguments[len(path) :], commands))
    with wrong_settings_refused():
        return tyro.cli(
            commands,
            prog=" ".join(["whytransfer", *path]),
            args=rest,
            description=inspect.getdoc(commands),
            config=(tyro.conf.OmitArgPrefixes,),
        )


def _top_level(name: str, below: str = "") -> None:
    """The version, or the commands whose names begin with `below`."""
    if name == "--version":
        from importlib.metadata import version

        sys.stdout.write(f"whytransfer {version('whytransfer')}\n")
    else:
        shown = [
            (command, s) for command, s in _settings_by_command() if f"{command} ".startswith(f"{below} ".lstrip())
        ]
        width = max(len(command) for command, _ in shown) + 2
        lines = (f"  {command:{width}}{(s.__doc__ or '').splitlines()[0]}\n" for command, s in shown)
        sys.stdout.write(f"{DESCRIPTION}\nCommands:\n{''.join(lines)}")
    sys.exit(0)


def _settings_by_command() -> Iterator[tuple[str, type]]:
    """("show views", ShowViewsSettings) and so on, as typed."""
    for name, command in COMMANDS.items():
        if isinstance(command, type):
            yield name, command
        else:
            yield from ((f"{name} {part}".strip(), settings) for part, settings in command.items())


def _joined(arguments: list[str], settings: Any) -> list[str]:
    """`--x a --x b` as `--x a b`, where x takes several values."""
    several = {
        f"--{name.replace('_', '-')}" for name, f in settings.model_fields.items() if "tuple" in str(f.annotation)
    }
    first: dict[str, list[str]] = {}  # what stands behind a flag, at the place where it came first
    parts: list[list[str]] = [[]]
    current = parts[0]
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        if flag in several:
            if flag not in first:
                first[flag] = [flag]
                parts.append(first[flag])
            current = first[flag]
            current += [value] if equals else []
        elif argument.startswith("--"):
            current = [argument]
            parts.append(current)
        else:
            current.append(argument)
    return [argument for part in parts for argument in part]


def _with_config_file(arguments: list[str]) -> list[str]:
    """Replace `--config FILE` by the file's settings, placed first so that what is typed wins."""
    arguments = [part for a in arguments for part in (a.split("=", 1) if a.startswith("--config=") else [a])]
    if "--config" not in arguments:
        return arguments
    at = arguments.index("--config")
    if at + 1 >= len(arguments):
        raise InputError("--config needs a file: --config FILE.yaml")
    return [*_yaml_arguments(Path(arguments[at + 1])), *arguments[:at], *arguments[at + 2 :]]


def _yaml_arguments(path: Path) -> list[str]:
    content = yaml_of(path, "--config")
    if not isinstance(content, dict):
        raise InputError(
            f"--config {path}: expected settings by name (such as `method: moco-v2`), got {type(content).__name__}."
        )
    arguments: list[str] = []
    for key, value in content.items():
        flag = str(key).replace("_", "-")
        if isinstance(value, bool):
            arguments.append(f"--{flag}" if value else f"--no-{flag}")
        elif value is not None:
            arguments += [f"--{flag}", *map(str, value if isinstance(value, list) else [value])]
    return arguments


def _runner(settings: Any) -> Callable[[Any], None]:
    """Each settings class is defined beside the `show` function that runs it."""
    return sys.modules[type(settings).__module__].show  # type: ignore[no-any-return]


def _end_process_group() -> None:
    """Under gloo the process aborts at exit unless the group is destroyed."""
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


if __name__ == "__main__":
    main()
