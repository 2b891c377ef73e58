"""Recipes: TOML files whose tables are the parts of a task's Config."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from bothways.configs import Settings, nested, validated
from bothways.registry import nearest
from bothways.types import UserError


def recipe_folder() -> Path:
    """Where the recipes are: inside an installed package, beside the sources in a checkout."""
    packaged = Path(__file__).parents[1] / "recipes"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "recipes"


def recipes(task: str = "generate") -> dict[str, str]:
    """{name: the first comment line} of every recipe of a task."""
    found = {}
    for path in sorted(recipe_folder().glob("*.toml")):
        text = path.read_text(encoding="utf-8")
        if tomllib.loads(text).get("task") == task:
            found[path.stem] = text.splitlines()[0].lstrip("# ")
    return found


def read_recipe(name: str, task: str = "generate") -> dict[str, Any]:
    """The tables of a recipe, by its name or by the path of a TOML file. Raises UserError for what is none."""
    path = Path(name) if name.endswith(".toml") else recipe_folder() / f"{name}.toml"
    if not path.is_file() or (path.parent == recipe_folder() and path.stem not in recipes(task)):
        raise UserError(f"no recipe {name!r}; {nearest(name, recipes(task))}, or the path of a .toml file")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:  # not TOML, not UTF-8, not ours to read
        raise UserError(f"recipe {str(path)!r} cannot be read as TOML: {error}") from error
    if tables.pop("task", None) != task:
        raise UserError(f'recipe {str(path)!r} is not for this command; its first lines need task = "{task}"')
    return tables


def configure(config: type[Settings], **given: Any) -> Settings:
    """The Config of a recipe with what is given on top, each by its name, dotted name or shortcut.

    Raises UserError, in one line that names the setting, for what is not known or cannot be.
    """
    changes = nested(config, given)
    values: dict[str, Any] = {}
    if config.recipe_task:
        recipe = changes.get("recipe") or config.default_recipe(changes)
        values = read_recipe(str(recipe), config.recipe_task)
        changes["recipe"] = str(recipe)
    return validated(config, config.merged(values, changes))
