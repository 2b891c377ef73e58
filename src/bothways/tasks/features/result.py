"""The result of ``features``: tables in files or in memory, and measures["features"]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict
from torch import Tensor

from bothways.brief import Brief
from bothways.tasks.features.files import column_of
from bothways.tasks.measures import Count, Measures, Plain, Row, Skipped
from bothways.types import UserError

Rows = list[dict[str, Any]]


class FeatureFacts(BaseModel):
    """measures["features"]; fields as in tasks/features/section.py."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True)

    flow: str
    data: dict[str, Any]
    columns: Rows
    calls: int
    files: dict[str, str]
    probes: Rows
    unprobed: str
    skipped: dict[str, Skipped]
    chance: dict[str, Any] | None = None


class FileFacts(FeatureFacts):
    """The same, as it stands in the file."""

    data: dict[str, Plain | dict[str, Count]]
    columns: list[Row]
    probes: list[Row]
    chance: Row | None = None


class FeatureMeasures(Measures):
    """measures.json of an extraction."""

    features: FileFacts


@dataclass(frozen=True, repr=False)
class FeatureTables(Brief):
    """The features of a run.

    facts: the columns, probes and skipped pictures. measures: the content of measures.json. files: {split: parquet
    file} with a run folder; arrays: {split: {column: (N,D) float32}} without one. pictures: {split: (names, labels
    (N,))}, label -1 if unknown.
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
    def probes(self) -> Rows:
        """A row per probe and column: accuracy with the ends of its 95 % interval."""
        return self.facts.probes

    def array(self, column: str, split: str) -> Tensor:
        """A column of a split, (N,D) float32, in the order of its pictures. Raises UserError for an unknown name."""
        for given, known in ((split, list(self.pictures)), (column, self.columns)):
            if given not in known:
                raise UserError(f"the features have no {given!r}; type one of {', '.join(known)}")
        return column_of(self.files[split], column) if self.files else self.arrays[split][column]
