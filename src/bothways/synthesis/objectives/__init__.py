"""Objectives to maximise, one file per family; they can be added and scaled.

from bothways import objectives
4 * objectives.ClassLogProbability("frog") + 0.5 * objectives.TotalVariation()
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from bothways import registry


def __getattr__(name: str) -> Any:
    """Look up the classes of the registry's entries, and ``Function``, in their files."""
    places = ["bothways.synthesis.objectives.base", *(e.module for e in registry.entries("objective").values())]
    for place in dict.fromkeys(places):
        if not name.startswith("_") and hasattr(found := import_module(place), name):
            return getattr(found, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    made = [registry.find("objective", name).factory.__name__ for name in registry.names("objective")]
    return ["Function", "Objective", *made]
