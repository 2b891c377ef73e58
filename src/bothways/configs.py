"""Base classes of the settings: validated frozen records, registry choices and access by dotted names.

A Config is a frozen pydantic record, its parts are too. The description of a field is its help on the command line, in
the studio and in the docs. A value is named by its dotted path, ``ascent.rms``, or by the last part if it is unique.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, PrivateAttr, ValidationError
from pydantic.fields import FieldInfo

from bothways import budget, registry
from bothways.brief import shown
from bothways.types import UserError

Settings = TypeVar("Settings", bound="Config")


class Shortcut(NamedTuple):
    """A top-level flag and keyword for a nested setting. place: its dotted path. kind: its type on the command line."""

    place: str
    kind: type
    description: str


class Config(BaseModel):
    """A frozen record of settings, or a nested part of one.

    recipe_task: the task whose recipes fill it in, "" for none. shortcuts: top-level names of nested settings.
    positional: the first positional arguments of the Python function, if they are not the fields in order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, arbitrary_types_allowed=True)

    _given: dict[str, Any] | None = PrivateAttr(None)  # what a caller set, where the recipe is the default

    recipe_task: ClassVar[str] = ""
    own_recipe: ClassVar[str] = ""  # the one that does where none is named
    shortcuts: ClassVar[Mapping[str, Shortcut]] = {}
    positional: ClassVar[tuple[str, ...]] = ()
    listed_kinds: ClassVar[Mapping[str, str]] = {}  # kinds whose entries the help lists, each with its heading
    gives: ClassVar[str] = ""  # what the Python function returns, its class first
    writes: ClassVar[bool] = False  # whether a run folder is always written, from Python too
    reports: ClassVar[bool] = True  # whether a command writes a run folder and its report
    folder: ClassVar[str] = ""  # default run folder; "" for the next numbered one in runs
    prolongs: ClassVar[tuple[str, ...]] = ()  # settings that may be greater when a run is resumed
    once: ClassVar[tuple[str, ...]] = ()  # settings that a resume does not take over
    file: ClassVar[str] = ""  # default name of the file that a command writes instead of a run folder
    processes: ClassVar[bool] = False  # whether torchrun may start several
    headlines: ClassVar[Mapping[str, tuple[str, ...]]] = {}  # {title: (place of a measure, its ends)} of a sweep
    shares: ClassVar[tuple[str, ...]] = ()  # the titles of those in [0, 1]
    takes_command: ClassVar[bool] = False  # whether what is typed after its own words are those of another command

    @classmethod
    def default_recipe(cls, given: Mapping[str, Any]) -> str:
        """Name of the default recipe. given: the values set by the caller."""
        return cls.own_recipe

    @classmethod
    def merged(cls, recipe: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        """The values of a recipe overridden by ``changes``, table by table."""
        return merged(recipe, changes)

    @classmethod
    def given_again(cls, before: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        """What a resumed run was given, overridden by what it is given now."""
        return merged(before, changes)

    @classmethod
    def check_typed(cls, given: Mapping[str, Any]) -> None:
        """Checks for the command line only; raises UserError. given: the values typed, by name."""

    @classmethod
    def has_folder(cls) -> bool:
        """Whether a command of this task writes a run folder."""
        return cls.writes or cls.reports

    @classmethod
    def order(cls) -> list[str]:
        """Names of the positional arguments of the Python function, in order."""
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

    common: shown first in the help. argument: a positional argument of the command. live: settable from Python only,
    such as a tensor or a module. flags: flags of the command line, instead of the field's name. unless: settings that
    together make a required argument optional. limits: as in ``pydantic.Field``.
    """
    options: Any = {"common": common, "argument": argument, "live": live, "unless": unless}
    options |= {"flags": flags, "metavar": metavar}
    return Field(default, description=description, json_schema_extra=options, **limits)


def option_of(field: FieldInfo, key: str) -> Any:
    """An option of a field as passed to ``setting``, such as "common" or "flags"."""
    extra = field.json_schema_extra
    return extra.get(key) if isinstance(extra, dict) else None


@dataclass(frozen=True)
class Of:
    """Annotation of a field that is chosen from the registry, with the kind."""

    kind: str


def chosen(kind: str) -> Any:
    """Type of a field chosen from the registry: a name, PATH.py:NAME, or from Python a callable."""

    def known(given: Any) -> Any:
        return given if given is None else registry.check(kind, given)

    return Annotated[Any, Of(kind), BeforeValidator(known), PlainSerializer(_recorded_choice)]


def _recorded_choice(given: Any) -> Any:
    return None if given is None else registry.name_of(given)


def recorded(source: Any) -> Any:
    """The value that a recipe records for an input: paths and addresses as text, tensors by shape, objects by name."""
    if source is None or isinstance(source, str | int | float | bool):
        return source
    if isinstance(source, Path):
        return str(source)
    if isinstance(source, list | tuple):
        return [recorded(item) for item in source]
    if hasattr(source, "ndim"):  # a tensor; torch is not imported for it
        return f"a tensor {tuple(source.shape)}"
    return str(getattr(source, "name", None) or getattr(source, "__name__", None) or type(source).__name__)


Live = Annotated[Any, PlainSerializer(recorded)]
"""Type of a field that takes an address or a live object, recorded by its name."""


def _listed(given: Any) -> Any:
    """Wrap a single value in a list, such as a Sequential, which is one model; of an array or a tensor the numbers."""
    given = given.tolist() if hasattr(given, "tolist") else given
    if given is None or isinstance(given, list | Mapping):  # a table, whose values would be lost, is refused
        return given
    return list(given) if isinstance(given, Iterable) and not (isinstance(given, str) or callable(given)) else [given]


Several = Annotated[list[Any], BeforeValidator(_listed), PlainSerializer(recorded)]
"""Type of a field that takes one value or several."""


def kind_of(field: FieldInfo) -> str:
    """The registry kind from which a field is chosen; "" for any other field."""
    places = [*field.metadata, *(meta for arg in get_args(field.annotation) for meta in get_args(arg)[1:])]
    return next((place.kind for place in places if isinstance(place, Of)), "")


def part_of(field: FieldInfo) -> type[Config] | None:
    """The nested Config class of a field, or None."""
    kind = field.annotation
    return kind if isinstance(kind, type) and issubclass(kind, Config) else None


def leaves(config: type[Config]) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """(path, field) of every leaf field, including those of nested parts."""
    for name, field in config.model_fields.items():
        part = part_of(field)
        if part is None:
            yield (name,), field
        else:
            yield from (((name, *place), leaf) for place, leaf in leaves(part))


def place_of(config: type[Config], name: str) -> tuple[str, ...]:
    """Path of a setting from its dotted name, shortcut or last part. Raises UserError if unknown or ambiguous."""
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
        raise UserError(f"setting {name!r} is in several tables; type {' or '.join(map('.'.join, found))}")
    raise _unknown(config, name)


def _check_place(config: type[Config], parts: tuple[str, ...], name: str) -> None:
    whole = config
    for depth, part in enumerate(parts):
        if part not in config.model_fields:
            if config.model_config.get("extra") == "allow":
                return  # a setting of the registry entry chosen in this part: validated when that is built
            raise _unknown(whole, name)
        inner = part_of(config.model_fields[part])
        if inner is None:
            holds_tables = get_origin(config.model_fields[part].annotation) is dict
            if depth < len(parts) - 1 and not holds_tables:
                raise UserError(f"setting {'.'.join(parts[: depth + 1])!r} is not a table; leave out what follows it")
            return
        config = inner


def _unknown(config: type[Config], name: str) -> UserError:
    known = [".".join(place) for place, _ in leaves(config)] + list(config.shortcuts)
    last = {place.split(".")[-1]: place for place in known}
    near = get_close_matches(name, [*known, *last], n=3, cutoff=0.6)
    hint = f"type one of {', '.join(dict.fromkeys(last.get(n, n) for n in near))}" if near else "--dry-run lists them"
    return UserError(f"no setting {name!r}; {hint}")


def nested(config: type[Config], given: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables from dotted names: {"rms": .05} -> {"ascent": {"rms": .05}}.

    None is left out, so that the value of the recipe stays.
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
    """Deep merge of two nested mappings; values of ``above`` take precedence."""
    found = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        found[key] = merged(found[key], value) if both else value
    return found


def validated(config: type[Settings], values: Mapping[str, Any]) -> Settings:
    """Build a Config from tables. Raises UserError in one line that names the first invalid value."""
    try:
        return budget.checked_numbers(config(**values))
    except ValidationError as error:
        raise as_user_error(config, error) from error


def as_user_error(config: type[Config], error: ValidationError) -> UserError:
    """The first validation error as a UserError: the setting, its value and what is allowed."""
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if isinstance(cause := first.get("ctx", {}).get("error"), UserError):
        return UserError(str(cause))
    if first["type"] == "extra_forbidden":
        return _unknown(config, place)
    if first["type"] == "missing":
        return UserError(f"{place} is required; type --{place.replace('_', '-')}")
    if first["type"] in ("model_type", "dict_type"):
        return UserError(f"{place}={shown(first['input'])}: {place} is a table of settings; type {place}.SETTING=VALUE")
    return UserError(f"{place}={shown(first['input'])}: {first['msg']}")


def bare(annotation: Any) -> Any:
    """A type without ``| None`` and without ``Annotated`` metadata."""
    if get_origin(annotation) is Annotated:
        return bare(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
        return bare(kinds[0]) if len(kinds) == 1 else annotation
    return annotation


def holds_list(annotation: Any) -> bool:
    """Whether a field's type is a list or an optional list."""
    kind = bare(annotation)
    fixed = get_origin(kind) is tuple and Ellipsis not in get_args(kind)
    return kind is list or (get_origin(kind) in (list, tuple) and not fixed)
