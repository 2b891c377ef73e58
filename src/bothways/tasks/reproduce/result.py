"""The schema of measures["reproduction"]: the claims of a table or figure with their verdicts, and the runs."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from bothways.brief import Brief
from bothways.tasks.measures import Count, Facts, Measured, Measures


class Judged(Facts):
    """A claim. measure: which number it is about. ours, low, high: the mean over seeds with its 95 % interval.

    paper: its number, null where none is known here. claimed: what is claimed, in words. values: the number of each
    seed, null where it is not measured. verdict, why: as in claims.py.
    """

    claim: str
    measure: str
    claimed: str
    paper: Measured = None
    ours: Measured = None
    low: Measured = None
    high: Measured = None
    values: list[float | None]
    seeds: Count
    verdict: str
    why: str


class MadeRun(Facts):
    """A run. command: as it would be typed. state: complete or failed; message: why it failed. seconds: it took."""

    name: str
    seed: Count
    command: str
    folder: str
    state: str
    message: str = ""
    seconds: float = 0.0


class Reproduced(Brief, Facts):
    """A table or figure. form: small or full. paper, where, reading: of the recipe. unlike: how the form differs."""

    name: str
    title: str
    form: str
    paper: str
    where: str
    reading: str = ""
    unlike: str = ""
    device: str
    claims: list[Judged]
    runs: list[MadeRun]
    failed: Count


class ReproduceMeasures(Measures):
    """measures.json of a reproduction; recipes: of --list, which writes none."""

    reproduction: Reproduced | None = None
    recipes: list[dict[str, Any]] = Field([])
