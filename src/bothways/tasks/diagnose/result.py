"""The schema of measures["flow"] of ``diagnose``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from bothways.brief import Brief
from bothways.tasks.measures import Measured, Measures, Plain, Row

Rows = list[Row]


class Diagnosis(Brief, BaseModel):
    """The results of each measure, as returned by ``representation/diagnostics.py`` and ``information.py``.

    straightness: {"total", "per_dim", "low", "high", "dims", "n", "times", "profile", ...}. round_trip, gain,
    information: a row a depth. swiss_roll: of points in a plane alone. strips: files of the run folder, each the row of
    one picture's states at ``strip_depths``. measures: what measures.json holds.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    straightness: dict[str, Plain | list[Measured]]
    round_trip: Rows
    gain: Rows
    information: Rows
    swiss_roll: dict[str, list[Any]] | None = Field(None, repr=False)
    strips: list[str] = Field([])
    strip_depths: list[float] = Field([])
    measures: dict[str, Any] = Field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, measures: Mapping[str, Any]) -> Diagnosis:
        """Validate the measures of a run."""
        return cls(**measures["flow"], measures=dict(measures))


class DiagnoseMeasures(Measures):
    """measures.json of a diagnosis."""

    flow: Diagnosis
