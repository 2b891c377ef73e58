"""Runs and numbers in words."""

from __future__ import annotations

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
    words, settings = [f"bothways {one.task}"], []
    for name, value in one.given.items():
        place = place_of(kind, name)
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        if len(place) == 1 and option_of(kind.model_fields[place[0]], "argument"):
            words.append(text)
        else:
            settings.append(
                f"--set {'.'.join(place)}={text}" if len(place) > 1 else f"--{name.replace('_', '-')} {text}"
            )
    return " ".join([*words, *settings])
