"""The schema of measures["audit"]; a number that cannot be computed is null."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from bothways.brief import Brief
from bothways.tasks.measures import Facts, Measures


class Consistency(Facts):
    """Consistency in units of the median class, with its 95 % interval over seeds; by_layer: {layer: value}."""

    value: float
    low: float | None
    high: float | None
    by_layer: dict[str, float]


class Portrait(Facts):
    """A portrait. number: in all portraits. nearest: {"class", "cosine"} of a real picture. Files need a run folder."""

    recipe: str
    index: int
    name: str = Field(alias="class")
    seed: int
    own_probability: float
    number: int
    nearest: dict[str, Any]


class AuditedClass(Facts):
    """A class. layer: where it stands out most. gap, spread: of its portraits there, in deviations of real pictures."""

    name: str
    label: int
    consistency: Consistency
    worth_a_look: bool
    layer: str
    gap: float | None
    spread: float | None
    accuracy: dict[str, float]
    portraits: list[Portrait]


class Viewer(Facts):
    """How often a model predicts ``columns`` in portraits and real pictures of each class, and the distinct pairs."""

    viewer: str
    own: bool
    columns: list[str]
    drawn: list[list[float]]
    real: list[list[float]]
    order: list[int]
    pairs: list[dict[str, Any]]


class Audit(Brief, Facts):
    """An audit. control: the largest consistency with real pictures in place of portraits."""

    data: dict[str, Any]
    settings: dict[str, Any]
    layers: list[str]
    worth_a_look: float
    control: float
    classes: list[AuditedClass]
    entanglement: list[Viewer]


class AuditMeasures(Measures):
    """measures.json of an audit."""

    audit: Audit
