"""Runs and numbers in words."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from bothways import registry
from bothways.configs import option_of, place_of
from bothways.tasks.reproduce.recipe import Made


def written(value: float | None, low: float | None, high: float | None) -> str:
    """A number with its interval; "not measured" for none."""
    if value is None:
        return "not measured"
    return f"{value:.4g}" + ("" if low is None or high is None else f" ({low:.4g} to {high:.4g})")


def typed(one: Made) -> str:
    """A run as it would be typed: its positional arguments, then its settings."""
    kind = registry.find("task", one.task).factory
    words, settings = list[str](), list[str]()
    for name, value in one.given.items():
        place = place_of(kind, name)
        if len(place) == 1 and option_of(kind.model_fields[place[0]], "argument"):
            words += _texts(value)
        elif len(place) == 1 and not isinstance(value, Mapping):
            settings += _flag(place[0], option_of(kind.model_fields[place[0]], "flags") or (), value)
        else:
            free = kind.model_fields[place[0]].annotation == dict[str, Any]  # a list of one needs its comma there
            settings += _set(".".join(place), value, "," if free else "")
    return " ".join(["bothways", one.task, *words, *settings])


def _flag(name: str, flags: Sequence[str], value: Any) -> list[str]:
    """The flag of a setting with its value; of a switch the side that is on."""
    flag = flags[0] if flags else f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        on, _, off = flag.partition("/")
        return [on] if value else [off or f"--no-{on[2:]}"]
    return [flag, *_texts(value)]


def _set(place: str, value: Any, after: str = "") -> list[str]:
    """A setting in a table by its dotted name; a table setting by setting. after: what follows a list of one."""
    if isinstance(value, Mapping):
        return [word for name, inner in value.items() for word in _set(f"{place}.{name}", inner, after)]
    several = isinstance(value, list)
    text = ",".join(map(str, value)) + after * (len(value) == 1) if several else str(value)
    text = text.lower() if isinstance(value, bool) else text
    return ["--set", shlex.quote(f"{place}={text}")]


def _texts(value: Any) -> list[str]:
    return [shlex.quote(str(one)) for one in (value if isinstance(value, list) else [value])]
