"""What ``features`` gives back: the tables, in files or in memory, and measures["features"]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from bothways.tasks.features.files import column_of
from bothways.tasks.measures import Measures
from bothways.types import UserError

Row = dict[str, Any]


class FeatureFacts(BaseModel):
    """measures["features"]; tasks/features/section.py says what each is."""

    model_config = ConfigDict(frozen=True, extra="allow")

    flow: str
    data: Row
    columns: list[Row]
    calls: int
    files: dict[str, str]
    probes: list[Row]
    unprobed: str
    skipped: dict[str, dict[str, str]]
    chance: Row | None = None


class FeatureMeasures(Measures):
    """measures.json of an extraction."""

    features: FeatureFacts


@dataclass(frozen=True)
class FeatureTables:
    """What ``features`` made.

    facts: of the columns, the probes and the pictures that were left out. measures: what measures.json holds.
    files: {split: its parquet file}, where a run folder was given; arrays: {split: {column: (N,D) float32}}, where none
    was. pictures: {split: (names, labels (N,))}, a label -1 where it is unknown.
    """

    measures: dict[str, Any]
    files: Mapping[str, Path]
    arrays: Mapping[str, Mapping[str, Tensor]]
    pictures: Mapping[str, tuple[list[str], Tensor]]

    @property
    def facts(self) -> FeatureFacts:
        return FeatureFacts(**self.measures["features"])

    @property
    def columns(self) -> list[str]:
        return [column["column"] for column in self.facts.columns]

    @property
    def probes(self) -> list[Row]:
        """A row for each probe of each column: its accuracy and the ends of the 95 % interval."""
        return self.facts.probes

    def array(self, column: str, split: str) -> Tensor:
        """(N,D) float32 of a column of a split, in the order of its pictures. Raises UserError for another name."""
        for given, known in ((split, list(self.pictures)), (column, self.columns)):
            if given not in known:
                raise UserError(f"the features have no {given!r}; type one of {', '.join(known)}")
        return column_of(self.files[split], column) if self.files else self.arrays[split][column]
