"""Build the command of each task from its Config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand
from typer.main import get_command_from_info
from typer.models import CommandInfo

from bothways import registry
from bothways.cli.arguments import repeat_flags
from bothways.cli.flags import flags_of, parameters_of
from bothways.cli.wording import help_of
from bothways.configs import Config, leaves, option_of
from bothways.processes.launched import world_size
from bothways.reading import at_home
from bothways.tasks.recipes import expectation, parsed_changes
from bothways.types import UserError

HELP_FLAGS = {"help_option_names": ["-h", "--help"]}
SWITCHES = {  # of every command that writes a run folder
    "overwrite": ("--overwrite", "Replace an existing run."),
    "resume": ("--resume", "Continue the run of --out, or the newest of this command, with its own settings."),
}


@dataclass(frozen=True)
class ParsedCommand:
    """A parsed command line: the settings of a task by dotted name, and the options of the run."""

    task: str
    values: Mapping[str, Any]
    out: Path | None = None
    overwrite: bool = False
    resume: bool = False
    dry_run: bool = False
    as_json: bool = False
    sweep: tuple[str, ...] = ()


MEANT = {  # an option by the name that it has elsewhere -> the names that it may have here
    "lr": ("rate",),
    "learning-rate": ("rate",),
    "lr-floor": ("rate-floor",),
    "min-lr": ("rate-floor",),
    "wandb": ("track",),
    "iterations": ("steps", "train-steps"),
    "iters": ("steps", "train-steps"),
    "num-steps": ("steps", "train-steps"),
    "epoch": ("epochs",),
    "num": ("n",),
    "num-samples": ("n", "limit"),
    "samples": ("n", "limit"),
    "count": ("n", "limit"),
    "output": ("out",),
    "output-dir": ("out",),
    "o": ("out",),
    "batch-size": ("batch",),
    "bs": ("batch",),
    "dataset": ("data",),
    "data-dir": ("data",),
    "input": ("data",),
    "label": ("class",),
    "target": ("class",),
    "classes": ("class",),
    "class": ("classes",),
    "text": ("prompt",),
    "num-workers": ("workers",),
    "checkpoint": ("weights",),
    "ckpt": ("weights",),
    "model": ("net",),
    "gpu": ("device",),
    "cuda": ("device",),
    "fp16": ("dtype", "bf16"),
    "half": ("dtype", "bf16"),
    "force": ("overwrite",),
    "continue": ("resume",),
    "config": ("recipe",),
}


def meant(option: str, known: list[str]) -> list[str]:
    """The options that one which a command does not have may mean: by what it is called elsewhere, else the nearest."""
    by_name = [f"--{name}" for name in MEANT.get(option.lstrip("-").casefold().replace("_", "-"), ())]
    return [flag for flag in by_name if flag in known] or get_close_matches(option, known, n=2, cutoff=0.7)


class TaskCommand(TyperCommand):
    """A command of a task: with --resume nothing is required, since the run has its own settings."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        needed = [parameter for parameter in self.params if parameter.required]
        for parameter in needed:
            parameter.required = "--resume" not in args
        try:
            return super().parse_args(ctx, args)
        except Exception as error:  # click's own, or the copy of click within typer
            unknown: Any = error
            if hasattr(error, "possibilities"):
                known = [flag for parameter in self.params for flag in (*parameter.opts, *parameter.secondary_opts)]
                unknown.possibilities = meant(unknown.option_name, known)
            raise
        finally:
            for parameter in needed:
                parameter.required = True


def config_of(task: str) -> type[Config]:
    """The Config of a task."""
    return registry.find("task", task).factory


def command_of(task: str) -> Any:
    """The click command of a task."""
    config = config_of(task)
    parameters = [*parameters_of(config), *_run_options(task, config)]

    def command(**typed: Any) -> None:
        from bothways.cli.run import only_one_prints, run_task

        with only_one_prints():
            given = _parsed(task, config, typed)
        run_task(given)

    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    (text, more), short = help_of(config), registry.entries("task")[task].help
    flags = {**HELP_FLAGS, "ignore_unknown_options": config.takes_command}
    info = CommandInfo(
        task, cls=TaskCommand, callback=command, help=text, epilog=more, short_help=short, context_settings=flags
    )
    made: Any = get_command_from_info(info, pretty_exceptions_short=False, rich_markup_mode="rich")
    made.unless = _unless(config)
    return made


def _unless(config: type[Config]) -> dict[str, list[str]]:
    """{optional positional argument: the flags that together make it unnecessary}."""
    flags = flags_of(config)
    fields = ((name, option_of(field, "unless") or ()) for name, field in config.model_fields.items())
    return {name: [flags[(other,)][0] for other in others] for name, others in fields if others}


# ---- options of the run --------------------------------------------------------------------------------------------


def _run_options(task: str, config: type[Config]) -> list[Parameter]:
    found: list[tuple[str, Any, Any, Any]] = []

    def add(name: str, kind: Any, default: Any, flag: str, text: str, metavar: str | None = None) -> None:
        panel = None if flag in ("--set", "--out", "--sweep") else "Run"
        metavar = "" if kind is bool else metavar  # a flag has no value
        option = typer.Option(flag, help=text, show_default=False, metavar=metavar, rich_help_panel=panel)
        found.append((name, kind, option, default))

    if config.takes_command:
        words = typer.Argument(help="Its arguments and flags.", show_default=False, metavar="...")
        found.append(("words", list[str] | None, words, None))
    if config.recipe_task or any(len(place) > 1 for place, _ in leaves(config)):
        add("set_", list[str] | None, None, "--set", "Any setting by its dotted name (see --dry-run).", "NAME=VALUE")
    if config.headlines:
        text = "Values of a setting, a run each; of several settings, every combination."
        add("sweep", list[str] | None, None, "--sweep", text, "NAME=VALUE,VALUE")
    if config.has_folder():
        folder = config.folder or f"the next of runs/{task}-001, -002, ..."
        add("out", Path | None, None, "--out", f"Run folder. \\[default: {folder}]")
        for key, (flag, text) in SWITCHES.items():
            add(key, bool, False, flag, text)
        add("dry_run", bool, False, "--dry-run", "Validate the command, print all settings, and exit.")
    if config.file:
        kind = Path(config.file).suffix
        text = f"Output {f'file ({kind})' if kind else 'folder'}. \\[default: {config.file}]"
        add("out", Path | None, None, "--out", text)
        add("overwrite", bool, False, "--overwrite", "Replace an existing file.")
    add("as_json", bool, False, "--json", "Print the measures as JSON and nothing else.")
    add(
        "allow_code",
        list[str] | None,
        None,
        "--allow-code",
        "Python file named by a run or card that may be run.",
        "PATH.py",
    )
    return [Parameter(n, Parameter.KEYWORD_ONLY, default=d, annotation=Annotated[k, o]) for n, k, o, d in found]


def _parsed(task: str, config: type[Config], typed: dict[str, Any]) -> ParsedCommand:
    """The parsed command line. Raises UserError if torchrun starts a task that does not support several processes."""
    if world_size() > 1 and not config.processes:
        raise UserError(f"bothways {task} runs in one process; type it without torchrun")
    run: dict[str, Any] = {
        key: typed.pop(key) for key in ("out", "overwrite", "resume", "dry_run", "as_json") if key in typed
    }
    run["sweep"] = tuple(typed.pop("sweep", None) or ())
    typed.pop("allow_code", None)  # cli/code.py reads it among all that is typed
    changes = parsed_changes(config, typed.pop("set_", None) or [])
    words = typed.pop("words", None) or []
    values = {".".join(name.split("__")): _value(value) for name, value in typed.items()} | changes
    if config.takes_command:
        values["given"] = _settings_of(values["command"], words)
    if config.file and run.get("out") is None:
        run["out"] = Path(config.file)
    if run.get("out") is not None:
        run["out"] = at_home(run["out"])
    return ParsedCommand(task, values, **run)


def _settings_of(command: str, words: list[str]) -> dict[str, Any]:
    """What the words after a command set, by dotted name; none of its arguments is required. command: or a recipe."""
    task = command if command in registry.names("task") else expectation(command).get("task")
    if task not in registry.names("task"):
        return {}
    made = command_of(task)
    for parameter in made.params:
        parameter.required = False
    parsed = _parsed(task, config_of(task), dict(made.make_context(task, repeat_flags(made, words)).params))
    if parsed.dry_run:
        raise UserError(f"nothing of {task} is run; leave --dry-run out")
    return {name: value for name, value in parsed.values.items() if value is not None}


def _value(value: Any) -> Any:
    """A parsed value; None for an empty list, which the parser gives for a flag that was not set."""
    return None if value in ([], ()) else value
