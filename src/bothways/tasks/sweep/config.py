"""The settings of a sweep: some settings of a task with several values each, whose every combination is a run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from bothways.brief import part_of_name, shown
from bothways.configs import Config, holds_list, leaves, nested, place_of, recorded
from bothways.registry import name_of
from bothways.tasks.recipes import configure
from bothways.types import UserError

SWEEP = "sweep"  # the task in its recipe.toml
AT_MOST = 1000  # runs of a sweep


class SweepConfig(Config):
    """A sweep. task: what every run does. over: {setting: its values}. given: the tables of all other settings."""

    task: str
    over: dict[str, list[Any]]
    given: dict[str, Any]


@dataclass(frozen=True)
class Point:
    """A run of a sweep. name: of its folder. settings: {dotted place: value}. given: by name, for its Config."""

    name: str
    settings: dict[str, Any]
    given: dict[str, Any]


def parsed_axes(config: type[Config], pairs: Iterable[str]) -> dict[str, list[Any]]:
    """["beta=0,1", "seed=0,1,2"] -> {"beta": ["0", "1"], "seed": ["0", "1", "2"]}; a ; parts values that are lists.

    Raises UserError for a setting that is unknown or repeated, and for a value that is missing.
    """
    found: dict[str, list[Any]] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not text:
            raise UserError(f"--sweep {pair!r}: type NAME=VALUE,VALUE, such as --sweep seed=0,1,2")
        if name in found:
            raise UserError(f"--sweep {name} is there twice; type all its values in one, --sweep {name}=A,B,C")
        field = dict(leaves(config)).get(place_of(config, name))
        lists = field is not None and holds_list(field.annotation)
        values = [value.strip() for value in text.split(";" if lists or ";" in text else ",")]
        if not all(values):
            raise UserError(f"--sweep {pair!r}: a value is missing between two commas; type NAME=VALUE,VALUE")
        found[name] = [value.split(",") if lists or "," in value else value for value in values]
    return found


def lists_of(over: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The values of each setting of a sweep. Raises UserError for what is no text and its list of values."""
    for name, values in over.items():
        if not isinstance(name, str) or not isinstance(values, list | tuple | range):
            raise UserError(f"over={{{shown(name)}: {shown(values)}}}; give the name of a setting and a list of values")
    return {name: list(values) for name, values in over.items()}


def points_of(config: type[Config], given: Mapping[str, Any], over: Mapping[str, Sequence[Any]]) -> list[Point]:
    """The runs of a sweep, every combination of the values of ``over``, the last setting fastest.

    given: the other settings, by name or as tables. Raises UserError for invalid settings, whichever run has them.
    """
    if not over or not all(over.values()):
        raise UserError("a sweep needs a setting with its values; type --sweep NAME=VALUE,VALUE")
    places = {name: place_of(config, name) for name in over}
    fixed = set(_places(nested(config, given)))
    if twice := [name for name, place in places.items() if place in fixed]:
        raise UserError(f"{twice[0]} is both set and swept; leave one of the two out")
    combinations = list(product(*over.values()))
    if len(combinations) > AT_MOST:
        raise UserError(f"the sweep has {len(combinations):,} runs; type fewer values, for at most {AT_MOST:,}")
    found: dict[str, Point] = {}
    for values in combinations:
        chosen = dict(zip(over, values, strict=True))
        made = configure(config, **{**given, **chosen})
        settings = {".".join(place): _plain(_at(made, place, chosen[name])) for name, place in places.items()}
        short = shortened(settings)
        name = "_".join(f"{short[key]}-{_slug(value)}" for key, value in settings.items())
        if any(point.settings == settings for point in found.values()):
            raise UserError(f"the sweep has {name} twice; type each value once")
        unique = name if name not in found else f"{name}-{len(found)}"
        found[unique] = Point(unique, settings, {**given, **chosen})
    return list(found.values())


def shortened(places: Iterable[str]) -> dict[str, str]:
    """{dotted place of a setting: its last part}; the whole where two end alike, as steps of a walk and of a fit do."""
    last = {place: place.rpartition(".")[2] for place in places}
    alike = Counter(last.values())
    return {place: name if alike[name] == 1 else place for place, name in last.items()}


def plain_tables(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Tables as a recipe records them."""
    return {k: plain_tables(v) if isinstance(v, Mapping) else recorded(v) for k, v in tables.items()}


def _places(tables: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterable[tuple[str, ...]]:
    for key, value in tables.items():
        yield from _places(value, (*above, key)) if isinstance(value, Mapping) else [(*above, key)]


def _at(config: Config, place: Sequence[str], typed: Any) -> Any:
    """The value at a place of a Config; what was typed, in a table whose entries no Config names."""
    found: Any = config
    for part in place:
        if not hasattr(found, part):
            return typed
        found = getattr(found, part)
    return found


def _plain(value: Any) -> Any:
    """A value as JSON and a folder's name can hold it."""
    if isinstance(value, str | int | float) or value is None:
        return value
    return name_of(value) if callable(value) else recorded(list(value) if isinstance(value, tuple) else value)


def _slug(value: Any) -> str:
    text = "-".join(map(str, value)) if isinstance(value, list) else str(value)
    return part_of_name(text, "+.") or "none"
