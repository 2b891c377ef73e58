"""What Configs are made of: validated records, choices from the registry, values by dotted names.

A Config is a frozen pydantic record, its parts are too. The description of a field is its help on the command line, in
the studio and in the docs. A value is named by its place, ``ascent.rms``, or by its last part where only one has it.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError
from pydantic.fields import FieldInfo

from bothways import registry
from bothways.types import UserError

Settings = TypeVar("Settings", bound="Config")


class Shortcut(NamedTuple):
    """A flag and a keyword for a setting deep in the tables. kind: its type on the command line."""

    place: str
    kind: type
    description: str


class Config(BaseModel):
    """A record of settings, or a part of one.

    recipe_task: whose recipes may fill it in; "" where there are none. shortcuts: names that people expect. positional:
    the first positional arguments of the Python function, where they are not the fields in order. listed_kinds: kinds
    of the registry whose entries the help lists, each with its heading.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)

    recipe_task: ClassVar[str] = ""
    shortcuts: ClassVar[Mapping[str, Shortcut]] = {}
    positional: ClassVar[tuple[str, ...]] = ()
    listed_kinds: ClassVar[Mapping[str, str]] = {}
    writes: ClassVar[bool] = False  # whether a run folder is always written, from Python too
    reports: ClassVar[bool] = True  # whether a command writes a run folder and its report
    file: ClassVar[str] = ""  # the one file that a command writes in place of a folder, where none is named
    processes: ClassVar[bool] = False  # whether torchrun may start several

    @classmethod
    def default_recipe(cls, given: Mapping[str, Any]) -> str:
        """The recipe where none is named. given: the values that were."""
        return ""

    @classmethod
    def merged(cls, recipe: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        """The values of a recipe with changes on top, table by table."""
        return merged(recipe, changes)

    @classmethod
    def check_typed(cls, given: Mapping[str, Any]) -> None:
        """Raise UserError for what a command line must say and Python need not. given: the values typed, by name."""

    @classmethod
    def order(cls) -> list[str]:
        """The names of the positional arguments of the Python function, in order."""
        return list(dict.fromkeys([*cls.positional, *cls.model_fields]))

    def choices(self) -> Iterator[tuple[str, Any]]:
        """(kind, what is chosen) of every field that is chosen from the registry, those of parts included."""
        for name, field in type(self).model_fields.items():
            given, kind = getattr(self, name), kind_of(field)
            yield from given.choices() if isinstance(given, Config) else [(kind, given)] if kind else []


def setting(
    default: Any,
    description: str,
    *,
    common: bool = False,
    argument: bool = False,
    live: bool = False,
    flags: tuple[str, ...] = (),
    metavar: str = "",
    unless: tuple[str, ...] = (),
    **limits: Any,
) -> Any:
    """A field of a Config. ``...`` as default means required.

    common: shown first in the help. argument: given without a flag. live: from Python alone, such as a tensor or a
    module. flags: on the command line, in place of the field's name. unless: of an argument, the settings that
    make it needless where all of them are given. limits: as ``pydantic.Field`` has them.
    """
    told: Any = {"common": common, "argument": argument, "live": live, "unless": unless}
    told |= {"flags": flags, "metavar": metavar}
    return Field(default, description=description, json_schema_extra=told, **limits)


def told(field: FieldInfo, key: str) -> Any:
    """What ``setting`` was told of a field."""
    extra = field.json_schema_extra
    return extra.get(key) if isinstance(extra, dict) else None


@dataclass(frozen=True)
class Of:
    """In the annotation of a field: the kind of the registry from which it is chosen."""

    kind: str


def chosen(kind: str) -> Any:
    """The type of a field that is chosen from the registry: a name, PATH.py:NAME, or from Python a callable."""

    def known(given: Any) -> Any:
        return given if given is None else registry.check(kind, given)

    return Annotated[Any, Of(kind), BeforeValidator(known), PlainSerializer(_spoken_choice)]


def _spoken_choice(given: Any) -> Any:
    return None if given is None else registry.name_of(given)


def spoken(source: Any) -> Any:
    """How a recipe names what a run was given: a path or an address as text, a live object by its kind and shape."""
    if source is None or isinstance(source, str | int | float | bool):
        return source
    if isinstance(source, Path):
        return str(source)
    if isinstance(source, list | tuple):
        return [spoken(item) for item in source]
    if hasattr(source, "ndim"):  # a tensor; torch is not imported for it
        return f"a tensor {tuple(source.shape)}"
    return str(getattr(source, "name", None) or getattr(source, "__name__", None) or type(source).__name__)


Live = Annotated[Any, PlainSerializer(spoken)]
"""The type of a field that may hold an address or a live object, which a recipe names."""


def _listed(given: Any) -> Any:
    """One value as a list of one; several as a list."""
    if given is None or isinstance(given, list):
        return given
    return [given] if isinstance(given, str | int | Path) or not isinstance(given, Iterable) else list(given)


Several = Annotated[list[Any], BeforeValidator(_listed), PlainSerializer(spoken)]
"""The type of a field that takes one value or several."""


def kind_of(field: FieldInfo) -> str:
    """The kind of the registry from which a field is chosen; "" for another field."""
    places = [*field.metadata, *(meta for arg in get_args(field.annotation) for meta in get_args(arg)[1:])]
    return next((place.kind for place in places if isinstance(place, Of)), "")


def part_of(field: FieldInfo) -> type[Config] | None:
    """The Config that a field holds, None where it is no part."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Config) else None


def leaves(config: type[Config]) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """(place, field) of every field that is no part, those of parts included."""
    for name, field in config.model_fields.items():
        part = part_of(field)
        if part is None:
            yield (name,), field
        else:
            yield from (((name, *place), leaf) for place, leaf in leaves(part))


def place_of(config: type[Config], name: str) -> tuple[str, ...]:
    """The place of a setting by its dotted name, shortcut, or last part. Raises UserError for none, or several."""
    name = name.replace("__", ".")  # ascent__rms, as a keyword in Python can be written
    name = config.shortcuts[name].place if name in config.shortcuts else name
    parts = tuple(name.split("."))
    if parts[0] in config.model_fields:
        _check_place(config, parts, name)
        return parts
    found = [place for place, _ in leaves(config) if place[-1] == name]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"setting {name!r} stands in several tables; type {' or '.join(map('.'.join, found))}")
    raise _unknown(config, name)


def _check_place(config: type[Config], parts: tuple[str, ...], name: str) -> None:
    whole = config
    for depth, part in enumerate(parts):
        if part not in config.model_fields:
            if config.model_config.get("extra") == "allow":
                return  # the setting of what is chosen in this part: checked where it is made
            raise _unknown(whole, name)
        inner = part_of(config.model_fields[part])
        if inner is None:
            holds_tables = get_origin(config.model_fields[part].annotation) is dict
            if depth < len(parts) - 1 and not holds_tables:
                raise UserError(f"setting {'.'.join(parts[: depth + 1])!r} is no table; leave out what follows it")
            return
        config = inner


def _unknown(config: type[Config], name: str) -> UserError:
    known = [".".join(place) for place, _ in leaves(config)] + list(config.shortcuts)
    last = {place.split(".")[-1]: place for place in known}
    near = get_close_matches(name, [*known, *last], n=3, cutoff=0.4) or known
    return UserError(f"no setting {name!r}; type one of {', '.join(dict.fromkeys(last.get(n, n) for n in near))}")


def placed(config: type[Config], given: Mapping[str, Any]) -> dict[str, Any]:
    """{"rms": .05, "terms.class.weight": 2} -> {"ascent": {"rms": .05}, "terms": {"class": {"weight": 2}}}.

    A None is left out: it leaves the recipe's own value.
    """
    tables: dict[str, Any] = {}
    for name, value in given.items():
        if value is not None:
            *outer, last = place_of(config, name)
            inner: dict[str, Any] = {last: value}
            for part in reversed(outer):
                inner = {part: inner}
            tables = merged(tables, inner)
    return tables


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of two, value by value; where both have one, that of ``above``."""
    found = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        found[key] = merged(found[key], value) if both else value
    return found


def validated(config: type[Settings], values: Mapping[str, Any]) -> Settings:
    """A Config of these tables. Raises UserError in one line that names the first value that cannot be."""
    try:
        return config(**values)
    except ValidationError as error:
        raise in_one_line(config, error) from error


def in_one_line(config: type[Config], error: ValidationError) -> UserError:
    """What to say of a value that cannot be: its place, the value, and what is allowed."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, UserError):
        return UserError(str(cause))
    if first["type"] == "extra_forbidden":
        return _unknown(config, place)
    if first["type"] == "missing":
        return UserError(f"{place} is needed and was not given; type --{place.replace('_', '-')}")
    return UserError(f"{place}={first['input']!r}: {first['msg']}")


def spoken_changes(config: type[Config], pairs: list[str]) -> dict[str, Any]:
    """["ascent.rms=0.02"] -> {"ascent.rms": "0.02"}; lists are 1,2,4. Raises UserError for what is no setting."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise UserError(f"--set {pair!r}: type NAME=VALUE, such as --set ascent.rms=0.02")
        if name == "recipe":
            raise UserError(f"--set {pair!r}: type --recipe {value}")
        place = place_of(config, name)
        field = config.model_fields[place[0]]
        if told(field, "argument"):
            raise UserError(f"--set {pair!r}: {name} is no flag; type {value} alone")
        found[name] = value.split(",") if "," in value or _takes_list(config, place) else value
    return found


def _takes_list(config: type[Config], place: tuple[str, ...]) -> bool:
    field = dict(leaves(config)).get(place)
    return field is not None and holds_list(field.annotation)


def bare(annotation: Any) -> Any:
    """A type without ``| None`` and without what Annotated adds."""
    if get_origin(annotation) is Annotated:
        return bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return bare(kinds[0]) if len(kinds) == 1 else annotation
    return annotation


def holds_list(annotation: Any) -> bool:
    """Whether a field's type is a list, or an optional one."""
    kind = bare(annotation)
    fixed = get_origin(kind) is tuple and Ellipsis not in get_args(kind)
    return kind is list or (get_origin(kind) in (list, tuple) and not fixed)
