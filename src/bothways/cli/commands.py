"""The commands of the tasks, each built from its Config: a flag for each field, with its help and its choices."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from inspect import Parameter, Signature
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.main import get_command_from_info
from typer.models import CommandInfo

from bothways import registry
from bothways.cli.flags import flags_of, parameters_of
from bothways.cli.wording import help_of
from bothways.configs import Config, leaves, option_of, parsed_changes
from bothways.types import UserError

HELP_FLAGS = {"help_option_names": ["-h", "--help"]}
SWITCHES = {  # of every run that writes a folder
    "overwrite": ("--overwrite", "Replace the run that is there."),
    "resume": ("--resume", "Go on with the run that is there."),
}


@dataclass(frozen=True)
class Given:
    """What was typed for a task: its values by name, and what is asked of the run itself."""

    task: str
    values: Mapping[str, Any]
    out: Path | None = None
    overwrite: bool = False
    resume: bool = False
    dry_run: bool = False
    as_json: bool = False


def config_of(task: str) -> type[Config]:
    """The Config of a task."""
    return registry.find("task", task).factory


def command_of(task: str) -> Any:
    """The command of a task, for the group of all."""
    config = config_of(task)
    parameters = [*parameters_of(config), *_of_the_run(task, config)]

    def command(**typed: Any) -> None:
        from bothways.cli.run import run_task

        run_task(_given(task, config, typed))

    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    (text, more), short = help_of(config), registry.entries("task")[task].help
    info = CommandInfo(task, callback=command, help=text, epilog=more, short_help=short, context_settings=HELP_FLAGS)
    made: Any = get_command_from_info(info, pretty_exceptions_short=False, rich_markup_mode="rich")
    made.unless = _unless(config)
    return made


def _unless(config: type[Config]) -> dict[str, list[str]]:
    """{a positional argument that may be left out: the flags that must then all be there}."""
    flags = flags_of(config)
    fields = ((name, option_of(field, "unless") or ()) for name, field in config.model_fields.items())
    return {name: [flags[(other,)][0] for other in others] for name, others in fields if others}


# ---- what is asked of the run itself -------------------------------------------------------------------------------


def _of_the_run(task: str, config: type[Config]) -> list[Parameter]:
    found: list[tuple[str, Any, Any, Any]] = []

    def add(name: str, kind: Any, default: Any, flag: str, text: str, metavar: str | None = None) -> None:
        panel = None if flag in ("--set", "--out") else "Run"
        option = typer.Option(flag, help=text, show_default=False, metavar=metavar, rich_help_panel=panel)
        found.append((name, kind, option, default))

    if config.recipe_task or any(len(place) > 1 for place, _ in leaves(config)):
        add("set_", list[str] | None, None, "--set", "Any setting by its name; --dry-run shows all.", "NAME=VALUE")
    if config.writes or config.reports:
        add("out", Path | None, None, "--out", f"The run folder. \\[default: runs/{task}]")
        for key, (flag, text) in SWITCHES.items():
            add(key, bool, False, flag, text)
        add("dry_run", bool, False, "--dry-run", "Check, print the settings, and stop.")
    if config.file:
        text = f"The {Path(config.file).suffix} file. \\[default: {config.file}]"
        add("out", Path | None, None, "--out", text)
        add("overwrite", bool, False, "--overwrite", "Replace the file that is there.")
    add("as_json", bool, False, "--json", "Print the measures as JSON alone.")
    return [Parameter(n, Parameter.KEYWORD_ONLY, default=d, annotation=Annotated[k, o]) for n, k, o, d in found]


def _given(task: str, config: type[Config], typed: dict[str, Any]) -> Given:
    """What was typed, by dotted names. Raises UserError for a run of several processes that the task does not know."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not config.processes:
        raise UserError(f"bothways {task} is for one process; type it without torchrun")
    run = {key: typed.pop(key) for key in ("out", "overwrite", "resume", "dry_run", "as_json") if key in typed}
    changes = parsed_changes(config, typed.pop("set_", None) or [])
    values = {".".join(name.split("__")): _value(value) for name, value in typed.items()} | changes
    if (config.writes or config.reports or config.file) and run.get("out") is None:
        run["out"] = Path(config.file or f"runs/{task}")
    return Given(task, values, **run)


def _value(value: Any) -> Any:
    """A list that nobody typed is none."""
    return None if value in ([], ()) else value
