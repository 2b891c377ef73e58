"""Convert the fields of a Config to flags and arguments of a command."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from bothways import registry
from bothways.cli.wording import choices_of, default_of, escaped, recipe_values, setting_help
from bothways.configs import Config, Shortcut, bare, kind_of, leaves, option_of
from bothways.tasks.recipes import PAPER, recipes

Place = tuple[str, ...]
MORE = "Other settings"


def parameters_of(config: type[Config]) -> list[Parameter]:
    """The parameters of a command: positional arguments, common and required options, then the rest by table."""
    flags = flags_of(config)
    ranked = sorted(_typed_fields(config), key=lambda both: (not option_of(both[1], "argument"), not _first(both[1])))
    own = [_parameter(config, place, field, flags.get(place, ())) for place, field in ranked]
    return own + [_shortcut(config, name, short) for name, short in _shortcuts(config).items()]


def flags_of(config: type[Config]) -> dict[Place, tuple[str, ...]]:
    """{path of a setting: its flags}: the flags declared by its field, else one made from its name.

    A registry choice named ``kind`` takes the name of its table: ``--canvas`` for canvas.kind. If several tables have a
    setting of one name, the outermost gets the short flag and the others are prefixed by their table: ``--fit-steps``.
    """
    found: dict[Place, tuple[str, ...]] = {}
    fields = [(place, field) for place, field in _typed_fields(config) if not option_of(field, "argument")]
    taken = {flag for _, field in fields for flag in option_of(field, "flags") or ()}
    taken |= {f"--{name}" for name in _shortcuts(config)}
    for place, field in sorted(fields, key=lambda both: len(both[0])):
        chosen_here = len(place) > 1 and place[-1] == "kind" and kind_of(field)
        last = place[-2] if chosen_here else place[-1]
        short, long = (f"--{name.replace('_', '-')}" for name in (last, "-".join(place)))
        flag = long if short in taken else short
        taken.add(flag)
        own = tuple(option_of(field, "flags") or ())
        found[place] = own or ((f"{flag}/--no-{flag[2:]}",) if _negates(config, place, field) else (flag,))
    return found


def _typed_fields(config: type[Config]) -> list[tuple[Place, FieldInfo]]:
    return [(place, field) for place, field in leaves(config) if not option_of(field, "live") and cli_type(field)]


def _first(field: FieldInfo) -> bool:
    return bool(option_of(field, "common")) or field.is_required()


def _negates(config: type[Config], place: Place, field: FieldInfo) -> bool:
    """Whether a boolean needs a ``--no-`` flag: it is true by default or in a recipe."""
    return cli_type(field) is bool and (field.default is not False or True in recipe_values(config, place).values())


def _parameter(config: type[Config], place: Place, field: FieldInfo, flags: tuple[str, ...]) -> Parameter:
    text, needed = escaped(setting_help(config, place, field)), field.is_required()
    metavar = option_of(field, "metavar") or ("" if cli_type(field) is bool else None)  # a flag has no value
    if option_of(field, "argument"):
        note: Any = typer.Argument(help=text, show_default=False, metavar=metavar)
    else:
        table = MORE if len(place) == 1 else place[0].capitalize()
        note = typer.Option(
            *flags, help=text, show_default=False, metavar=metavar, autocompletion=_completion(config, place, field),
            rich_help_panel=None if _first(field) else table,
        )  # fmt: skip
    kind = cli_type(field)
    annotation: Any = Annotated[kind if needed else kind | None, note]
    default = Parameter.empty if needed else None
    return Parameter("__".join(place), Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _shortcuts(config: type[Config]) -> dict[str, Shortcut]:
    """The shortcuts to settings that are not fields, such as views.roll.reach; a field has its own flag."""
    fields = {".".join(place) for place, _ in leaves(config)}
    return {name: short for name, short in config.shortcuts.items() if short.place not in fields}


def _shortcut(config: type[Config], name: str, short: Shortcut) -> Parameter:
    place = tuple(short.place.split("."))
    default = default_of(config, place, None)
    text = escaped(short.description + ("." if default == "none" else f". [default: {default}]"))
    flag = f"--{name.replace('_', '-')}"
    option = typer.Option(flag, help=text, show_default=False, rich_help_panel=place[0].capitalize())
    annotation: Any = Annotated[short.kind | None, option]
    return Parameter("__".join(place), Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _completion(config: type[Config], place: Place, field: FieldInfo) -> Callable[[str], list[tuple[str, str]]] | None:
    """The shell completion of a setting with named choices, with a description of each."""
    kind, choices = kind_of(field), choices_of(field)
    if not choices and not (place == ("recipe",) and config.recipe_task):
        return None

    def offered(incomplete: str) -> list[tuple[str, str]]:
        if kind:
            known = {name: entry.help for name, entry in registry.entries(kind).items()}
        else:
            known = dict.fromkeys(choices, "") or recipes(config.recipe_task) | recipes(config.recipe_task, PAPER)
        return [(name, text) for name, text in known.items() if name.startswith(incomplete)]

    return offered


def cli_type(field: FieldInfo) -> Any:
    """The type of a field on the command line; None if only --set and recipes can set it."""
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
        several = parts[0] if parts[0] in (int, float, str, Path) else str  # such as a Literal
        return list[several] if parts[-1] is Ellipsis else kind  # type: ignore[valid-type]
    if origin is dict or kind is dict:
        return None
    return kind if kind in (int, float, bool, str, Path) else str
