"""The commands of the tasks, each built from its Config: a flag for each field, with its help and its choices."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from inspect import Parameter, Signature, cleandoc
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from typer.main import get_command_from_info
from typer.models import CommandInfo

from bothways import registry
from bothways.configs import Config, bare, holds_list, kind_of, leaves, spoken_changes, told
from bothways.tasks.recipes import read_recipe, recipes
from bothways.types import UserError

MORE = "Other settings"
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
    parameters = [*_fields(config), *_of_the_run(task, config)]

    def command(**typed: Any) -> None:
        from bothways.cli.run import run_task

        run_task(_given(task, config, typed))

    command.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    (text, more), short = _help_of(config), registry.entries("task")[task].help
    info = CommandInfo(task, callback=command, help=text, epilog=more, short_help=short, context_settings=HELP_FLAGS)
    return get_command_from_info(info, pretty_exceptions_short=False, rich_markup_mode="rich")


def list_flags(task: str) -> tuple[str, ...]:
    """The flags of a task that take several values, as people type them: ``--class frog ship``."""
    config = config_of(task)
    return tuple(
        flag
        for place, field in leaves(config)
        if holds_list(field.annotation) and not told(field, "argument") and not told(field, "live")
        for flag in _flags(config, place, field)
    )


def single_flags(task: str) -> tuple[str, ...]:
    """The flags of a task that take one value."""
    config, several = config_of(task), list_flags(task)
    fields = [(place, field) for place, field in leaves(config) if not told(field, "live")]
    found = [flag for place, field in fields if _typed(field) is not bool for flag in _flags(config, place, field)]
    return (*(flag for flag in found if flag not in several), *(f"--{name}" for name in config.shortcuts), "--out")


def needed_positionals(task: str, words: Sequence[str]) -> int:
    """How many positional arguments must be there; a model, where no other flags name all the models."""
    config = config_of(task)
    arguments = [field for field in config.model_fields.values() if told(field, "argument")]
    optional = sum(not field.is_required() for field in arguments)
    named = {"--score", "--condition"} <= set(words)
    return len(arguments) - (optional if named else 0)


# ---- fields -> flags -----------------------------------------------------------------------------------------------


def _fields(config: type[Config]) -> list[Parameter]:
    shown = [(place, field) for place, field in leaves(config) if not told(field, "live") and _typed(field) is not None]
    ranked = sorted(shown, key=lambda both: (not told(both[1], "argument"), not told(both[1], "common")))
    return [*(_parameter(config, place, field) for place, field in ranked), *_shortcuts(config)]


def _shortcuts(config: type[Config]) -> list[Parameter]:
    """The flags of settings deep in the tables, such as views.roll.reach."""
    found, fields = [], {place for place, _ in leaves(config)}
    for name, short in config.shortcuts.items():
        place = tuple(short.place.split("."))
        if place in fields:  # which has its own flag
            continue
        text = _escaped(f"{short.description}. [default: {_defaults(config, place, None)}]")
        option = typer.Option(f"--{name}", help=text, show_default=False, rich_help_panel=place[0].capitalize())
        kind: Any = Annotated[short.kind | None, option]
        found.append(Parameter("__".join(place), Parameter.KEYWORD_ONLY, default=None, annotation=kind))
    return found


def _parameter(config: type[Config], place: tuple[str, ...], field: FieldInfo) -> Parameter:
    name, kind = "__".join(place), _typed(field)
    text = described(config, place, field).replace("[", r"\[")
    needed = field.is_required()
    if told(field, "argument"):
        note: Any = typer.Argument(help=text, show_default=False, metavar=told(field, "metavar") or None)
    else:
        panel = None if told(field, "common") or needed else _panel(config, place)
        note = typer.Option(
            *_flags(config, place, field), help=text, show_default=False, rich_help_panel=panel,
            metavar=told(field, "metavar") or None,
        )  # fmt: skip
    annotation: Any = Annotated[kind if needed else kind | None, note]
    default = Parameter.empty if needed else None
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _panel(config: type[Config], place: tuple[str, ...]) -> str:
    return MORE if len(place) == 1 else place[0].capitalize()


def _flags(config: type[Config], place: tuple[str, ...], field: FieldInfo) -> tuple[str, ...]:
    """Those that it was told, else one of its name; a boolean has a negative."""
    own = told(field, "flags")
    if own:
        return tuple(own)
    name = place[-1].replace("_", "-")
    if _typed(field) is bool and field.default is not False:
        return (f"--{name}/--no-{name}",)
    return (f"--{name}",)


def _typed(field: FieldInfo) -> Any:
    """The type that a command line gives a field; None for one that only --set and recipes can give."""
    if kind_of(field):
        return str
    kind = bare(field.annotation)
    if get_origin(kind) is Union or type(kind).__name__ == "UnionType":
        inner = [k for k in get_args(kind) if k is not type(None)]
        kind = (float if float in inner else int) if all(k in (int, float) for k in inner) else str
    origin = get_origin(kind)
    if origin is list:
        return list[get_args(kind)[0] if get_args(kind)[0] in (int, float, str, Path) else str]  # type: ignore[misc]
    if origin is tuple:
        parts = get_args(kind)
        return list[parts[0]] if parts[-1] is Ellipsis else kind  # type: ignore[valid-type]
    if origin is dict or kind is dict:
        return None
    return kind if kind in (int, float, bool, str, Path) else str


# ---- help ----------------------------------------------------------------------------------------------------------


def _help_of(config: type[Config]) -> tuple[str, str]:
    """The docstring of a Config as (what stands before the options, what stands after them: entries, examples)."""
    text, _, examples = cleandoc(config.__doc__ or "").partition("\nExamples\n")
    paragraphs = [" ".join(part.split()) for part in text.strip().split("\n\n")]
    sections = []
    for kind, how in config.listed_kinds.items():
        entries = registry.entries(kind).items()
        sections.append([_escaped(how), *(f"  {name:14} {_escaped(entry.help)}" for name, entry in entries)])
    given = [f"  {_escaped(line.strip())}" for line in examples.strip().splitlines() if line.strip()]
    sections += [["Examples", *given]] if given else []
    more = "\n\n".join("\n".join([f"[bold]{head}[/bold]", *lines]) for head, *lines in sections)
    return _escaped("\n\n".join(paragraphs)), more


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


def described(config: type[Config], place: tuple[str, ...], field: FieldInfo) -> str:
    """What a setting is, what may be chosen, and what it is when it is left out."""
    text = (field.description or place[-1]).strip()
    text = text[:1].upper() + text[1:].rstrip(".")
    kind = kind_of(field)
    if kind:
        text += f": {', '.join(registry.names(kind))}, or PATH.py:NAME"
    if field.is_required() or told(field, "argument"):
        return text + "."
    default = _defaults(config, place, field)
    if told(field, "common") and ":" in default:  # the first screen has no room for every recipe's
        default = "the recipe's"
    return f"{text}. [default: {default}]" if default != "none" else f"{text}."


def _defaults(config: type[Config], place: tuple[str, ...], field: FieldInfo | None) -> str:
    """The value of the Config, then those of the recipes that have another."""
    own = None if field is None else field.get_default(call_default_factory=True)
    own = None if own is PydanticUndefined else own
    others = {}
    for recipe, tables in _recipes_of(config.recipe_task).items():
        if recipe in registry.entries("task") and recipe != config.default_recipe({}):
            continue  # the recipe of another task
        value: Any = tables
        for part in place:
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None and value != own and not isinstance(value, Mapping):
            others[recipe] = value
    if not others:
        return _spoken(own)
    told_of = ", ".join(f"{recipe} {_spoken(value)}" for recipe, value in others.items())
    return f"the recipe's: {told_of}; else {_spoken(own)}"


def _spoken(value: Any) -> str:
    if value in (None, (), [], {}):
        return "none"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


@cache
def _recipes_of(task: str) -> dict[str, dict[str, Any]]:
    return {name: read_recipe(name, task) for name in recipes(task)} if task else {}


# ---- what is asked of the run itself -------------------------------------------------------------------------------


def _of_the_run(task: str, config: type[Config]) -> list[Parameter]:
    found: list[tuple[str, Any, Any, Any]] = []

    def add(name: str, kind: Any, default: Any, flag: str, text: str, metavar: str | None = None) -> None:
        option = typer.Option(flag, help=text, show_default=False, metavar=metavar)
        found.append((name, kind, option, default))

    if config.recipe_task or any(len(place) > 1 for place, _ in leaves(config)):
        add("set_", list[str] | None, None, "--set", "Any setting by its name; --dry-run shows all.", "NAME=VALUE")
    if config.writes or config.reports:
        add("out", Path | None, None, "--out", f"The run folder. \\[default: runs/{task}]")
        for key, (flag, text) in SWITCHES.items():
            add(key, bool, False, flag, text)
        add("dry_run", bool, False, "--dry-run", "Check, print the settings, and stop.")
    if config.file:
        add("out", Path | None, None, "--out", f"The {Path(config.file).suffix} file. \\[default: {config.file}]")
        add("overwrite", bool, False, "--overwrite", "Replace the file that is there.")
    add("as_json", bool, False, "--json", "Print the measures as JSON alone.")
    return [Parameter(n, Parameter.KEYWORD_ONLY, default=d, annotation=Annotated[k, o]) for n, k, o, d in found]


def _given(task: str, config: type[Config], typed: dict[str, Any]) -> Given:
    """What was typed, by dotted names. Raises UserError for a run of several processes that the task does not know."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not config.processes:
        raise UserError(f"bothways {task} is for one process; type it without torchrun")
    run = {key: typed.pop(key) for key in ("out", "overwrite", "resume", "dry_run", "as_json") if key in typed}
    changes = spoken_changes(config, typed.pop("set_", None) or [])
    values = {".".join(name.split("__")): _value(value) for name, value in typed.items()} | changes
    if (config.writes or config.reports or config.file) and run.get("out") is None:
        run["out"] = Path(config.file or f"runs/{task}")
    return Given(task, values, **run)


def _value(value: Any) -> Any:
    """A list that nobody typed is none."""
    return None if value in ([], ()) else value
