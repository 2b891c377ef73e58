"""The schema of measures["sweep"]: the runs of a sweep, and their means over seeds."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from bothways.brief import Brief
from bothways.tasks.measures import Count, Facts, Measured, Measures

Value = str | float | bool | list[str | float] | None


class Headline(Facts):
    """A number of a run, or the mean of several, with the ends of its 95 % interval; null where there is none."""

    value: float
    low: Measured = None
    high: Measured = None


class SweptRun(Facts):
    """A run. settings: what was swept. state: complete or failed. message: why it failed."""

    folder: str
    settings: dict[str, Value]
    state: str
    message: str = ""
    numbers: dict[str, Headline] = Field({})


class Group(Facts):
    """The runs that differ in the seed alone. n: those that are complete. over: what the interval is over."""

    settings: dict[str, Value]
    n: Count
    over: str
    numbers: dict[str, Headline]


class Sweep(Brief, Facts):
    """A sweep. over: {setting: its values}. failed: runs that failed."""

    task: str
    over: dict[str, list[Any]]
    runs: list[SweptRun]
    groups: list[Group]
    failed: Count


class SweepMeasures(Measures):
    """measures.json of a sweep."""

    sweep: Sweep
