"""Build the help of a task's command from its Config: docstring, descriptions, choices and defaults."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from inspect import cleandoc
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from bothways import registry
from bothways.configs import Config, bare, kind_of, option_of
from bothways.tasks.generate.config import PHOTOGRAPHS
from bothways.tasks.recipes import read_recipe, recipes


def help_of(config: type[Config]) -> tuple[str, str]:
    """Split the docstring of a Config into (text before the options, text after: registry entries and examples)."""
    text, _, examples = cleandoc(config.__doc__ or "").partition("\nExamples\n")
    paragraphs = [" ".join(part.split()) for part in text.strip().split("\n\n")]
    sections = []
    for kind, how in config.listed_kinds.items():
        entries = registry.entries(kind).items()
        sections.append([escaped(how), *(f"  {name:14} {escaped(entry.help)}" for name, entry in entries)])
    given = [f"  {escaped(line.strip())}" for line in examples.strip().splitlines() if line.strip()]
    sections += [["Examples", *given]] if given else []
    more = "\n\n".join("\n".join([f"[bold]{head}[/bold]", *lines]) for head, *lines in sections)
    return escaped("\n\n".join(paragraphs)), more


def escaped(text: str) -> str:
    """The text with rich markup escaped."""
    return text.replace("[", r"\[")


def choices_of(field: FieldInfo) -> list[str]:
    """The values of a field with named choices: registry names or the values of a Literal; else []."""
    kind = kind_of(field)
    if kind:
        return registry.names(kind)
    annotation = bare(field.annotation)
    return [str(value) for value in get_args(annotation)] if get_origin(annotation) is Literal else []


TARGETS: tuple[dict[str, Any], ...] = ({}, {"classes": ["0"]})  # with them the default recipe may differ


def setting_help(config: type[Config], place: tuple[str, ...], field: FieldInfo) -> str:
    """The help of a setting: its description, choices and default."""
    text = (field.description or place[-1]).strip().rstrip(".")
    kind, choices = kind_of(field), choices_of(field)
    if not _begins_with_a_value(text, field, choices):
        text = text[:1].upper() + text[1:]
    if kind:
        listed = kind in config.listed_kinds  # in full, below the options
        text += "" if listed else f": {', '.join(choices)}, or PATH.py:NAME"
    elif any(choice not in text for choice in choices):
        text += f": {', '.join(choices)}"
    if field.is_required() or option_of(field, "argument"):
        return text + "."
    default = default_of(config, place, field)
    if place == ("recipe",) and config.recipe_task:
        names = {config.default_recipe(given) for given in TARGETS}
        default = _with_larger(config, names.pop()) if len(names) == 1 else "by model"
    if option_of(field, "common") and ":" in default:  # kept short: the common options make up the first screen
        default = "set by the recipe"
    return f"{text}. [default: {default}]" if default != "none" else f"{text}."


def _with_larger(config: type[Config], recipe: str) -> str:
    """A default recipe, and the one that takes its place for networks of photographs."""
    others = {**getattr(config, "of_heads", {}), **getattr(config, "of_photographs", {})}
    return f"{recipe}, from {PHOTOGRAPHS} px on {others[recipe]}" if recipe in others else recipe


def _begins_with_a_value(text: str, field: FieldInfo, choices: list[str]) -> bool:
    """Whether the first word is a literal value, which is not capitalised."""
    default = field.get_default(call_default_factory=True)
    values = default if isinstance(default, list | tuple) else [default]
    return text.split(" ")[0].rstrip(",:") in {*map(str, values), *choices}


def default_of(config: type[Config], place: tuple[str, ...], field: FieldInfo | None) -> str:
    """The default of the Config as text, with the recipes that set another value."""
    own = None if field is None else field.get_default(call_default_factory=True)
    own = None if own is PydanticUndefined else own
    others = {recipe: value for recipe, value in recipe_values(config, place).items() if value not in (None, own)}
    if not others:
        return _spoken(own)
    by_recipe = ", ".join(f"{recipe} {_spoken(value)}" for recipe, value in others.items())
    return f"{_spoken(own)}; by recipe: {by_recipe}"


def recipe_values(config: type[Config], place: tuple[str, ...]) -> dict[str, Any]:
    """{recipe: its value of a setting, None if unset}, without the recipes that are commands of their own."""
    found = {}
    for recipe, tables in _recipes_of(config.recipe_task).items():
        if recipe in registry.entries("task") and recipe != config.default_recipe({}):
            continue
        value: Any = tables
        for part in place:
            value = value.get(part) if isinstance(value, Mapping) else None
        found[recipe] = None if isinstance(value, Mapping) else value
    return found


def _spoken(value: Any) -> str:
    if value in (None, (), [], {}):
        return "none"
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


@cache
def _recipes_of(task: str) -> dict[str, dict[str, Any]]:
    return {name: read_recipe(name, task) for name in recipes(task)} if task else {}
