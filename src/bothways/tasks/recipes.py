"""Recipes: TOML files with the tables of a task's Config.

``base = "NAME"`` at the top of a recipe lays its tables on those of another. Files that a recipe names are looked for
from the working folder, then from its own. ``[expect]`` says what the recipe is for
and what comes of it: it sets nothing, is not taken over from a base, and ``bothways plan`` reads it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any

from bothways.configs import (
    Config,
    Settings,
    holds_list,
    leaves,
    merged,
    nested,
    option_of,
    part_of,
    place_of,
    validated,
)
from bothways.faults import check_kinds
from bothways.reading import at_home, is_folder, is_there, read_toml
from bothways.registry import address_parts, is_address, nearest, with_addresses
from bothways.training.config import drop_alternative
from bothways.types import UserError

PAPER = "paper"  # the folder of the recipes of published tables


def recipe_folder() -> Path:
    """The folder of the recipes: in an installed package or, in a checkout, next to the sources."""
    packaged = Path(__file__).parents[1] / "recipes"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "recipes"


def recipes(task: str = "generate", folder: str = "") -> dict[str, str]:
    """The recipes of a task, {name: description}; the description is the first comment line.

    folder: "paper" for those of published tables, whose names are paper/NAME.
    """
    check_kinds("recipes", task=(task, str), folder=(folder, str))
    found, place = {}, recipe_folder() / folder
    for path in sorted(place.glob("*.toml")) if is_folder(place) else ():
        text = path.read_text(encoding="utf-8")
        if tomllib.loads(text).get("task") == task:
            found[f"{folder}/{path.stem}" if folder else path.stem] = text.splitlines()[0].lstrip("# ")
    return found


def recipe_file(name: str) -> Path:
    """The file of a recipe, by its name or the path of a TOML file, whether it is there or not."""
    return Path(name) if name.endswith(".toml") else recipe_folder() / f"{name}.toml"


def read_recipe(name: str, task: str = "generate", above: tuple[str, ...] = ()) -> dict[str, Any]:
    """The tables of a recipe, laid on those of its base, by its name or the path of a TOML file.

    above: the recipes whose base it is. Raises UserError if there is no such recipe.
    """
    tables, path = _tables(name), recipe_file(name)
    if tables is None or (recipe_folder() in path.parents and tables.get("task") != task):
        known = recipes(task) | recipes(task, PAPER)
        raise UserError(f"no recipe {name!r}; {nearest(name, known)}, or the path of a .toml file")
    if tables.pop("task", None) != task:
        raise UserError(f'recipe {str(path)!r} is not for this command; its first lines need task = "{task}"')
    if {"settings", "versions"} <= set(tables):
        raise UserError(
            f"recipe {str(path)!r} is the record of a run; bothways {task} --resume --out {path.parent} goes on with "
            "it, and a recipe holds the tables below its [settings] alone"
        )
    tables.pop("expect", None)
    base = tables.pop("base", None)
    if base is None:
        return tables
    if not isinstance(base, str) or base in (*above, name):
        raise UserError(f"recipe {str(path)!r} has base = {base!r}; give the name of another recipe")
    below = read_recipe(base, task, (*above, name))
    for table, one, other in (("fit", "steps", "epochs"), ("", "net", "network")):
        below = drop_alternative(below, tables, table, one, other)
    return merged(below, tables)


def expectation(name: str) -> dict[str, Any]:
    """The table [expect] of a recipe, with its "task"; {} where there is no recipe of this name."""
    tables = _tables(name)
    return {} if tables is None else {**tables.get("expect", {}), "task": tables.get("task")}


def _tables(name: str) -> dict[str, Any] | None:
    """What the file of a recipe holds; None where there is none."""
    path = recipe_file(name)
    if not is_there(path):
        return None
    try:
        found = read_toml(path)
    except UserError as error:  # not TOML, not UTF-8, or not readable
        raise UserError(f"recipe {str(path)!r} cannot be read as TOML: {error}") from error
    if str(found.get("base")).endswith(".toml"):
        found["base"] = _beside(path, found["base"])
    return with_addresses(found, partial(_beside, path))


def _beside(recipe: Path, given: str) -> str:
    """FILE or FILE:NAME that a recipe names; with the recipe's folder in front, where that file is there alone."""
    file, name = address_parts(given) if is_address(given) else (given, "")
    beside = recipe.parent / file
    if is_there(at_home(file)) or not is_there(beside):
        return given
    return f"{beside}:{name}" if name else str(beside)


def configure(config: type[Settings], **given: Any) -> Settings:
    """The Config of a recipe with changes, each by its name, dotted name or shortcut.

    Raises UserError that names the setting, if it is unknown or invalid.
    """
    changes = nested(config, given)
    values: dict[str, Any] = {}
    if config.recipe_task:
        check_kinds(config.recipe_task, recipe=(changes.get("recipe"), (str, Path, NoneType)))
        recipe = changes.get("recipe") or config.default_recipe(changes)
        values = read_recipe(str(recipe), config.recipe_task)
        for name in set(values) & set(config.model_fields):
            field = config.model_fields[name]
            if (part_of(field) or isinstance(field.default, dict)) and not isinstance(values[name], Mapping):
                raise UserError(f"recipe {str(recipe)!r}: {name} is no table; write [{name}]")
        changes["recipe"] = str(recipe)
    found = validated(config, config.merged(values, changes))
    if config.recipe_task and not given.get("recipe"):
        found._given = dict(given)
    return found


def suited(config: Settings, recipe: str) -> Settings:
    """The Config with another default recipe, which its model calls for; the same Config where a recipe was named."""
    if config._given is None or recipe == getattr(config, "recipe", recipe):
        return config
    return configure(type(config), **{**config._given, "recipe": recipe})


def parsed_changes(config: type[Config], pairs: list[str]) -> dict[str, Any]:
    """["ascent.rms=0.02"] -> {"ascent.rms": "0.02"}; lists are 1,2,4. Raises UserError for an unknown setting."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"--set {pair!r}: type NAME=VALUE, such as --set ascent.rms=0.02")
        if name == "recipe":
            raise UserError(f"--set {pair!r}: type --recipe {value}")
        place = place_of(config, name)
        field = config.model_fields[place[0]]
        if option_of(field, "argument"):
            raise UserError(f"--set {pair!r}: {name} is a positional argument; type {value} alone")
        if field.annotation == dict[str, Any] and len(place) > 1:
            found[name] = _as_in_a_recipe(value)
        else:
            found[name] = value.split(",") if "," in value or _takes_list(config, place) else value
    return found


def _as_in_a_recipe(text: str) -> Any:
    """A value of a table that has no schema, such as [network]: 8, a list as 1,2,4 or 4, or nothing, or a word.

    Elsewhere the schema says what a text stands for.
    """
    if "," in text or not text:
        return [_plain(part) for part in text.split(",") if part]
    return _plain(text)


def _plain(text: str) -> Any:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return {"true": True, "false": False}.get(text.lower(), text)


def _takes_list(config: type[Config], place: tuple[str, ...]) -> bool:
    field = dict(leaves(config)).get(place)
    return field is not None and holds_list(field.annotation)
