"""What measures.json holds of an audit: measures["audit"]. A number that cannot be had is null."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from bothways.tasks.measures import Facts, Measures


class Consistency(Facts):
    """In units of the median class, with the ends of the 95 % interval over seeds; by_layer: {layer: value}."""

    value: float
    low: float | None
    high: float | None
    by_layer: dict[str, float]


class Portrait(Facts):
    """number: of all portraits. nearest: {"class", "cosine"} of a real picture; files stand where there is a folder."""

    recipe: str
    index: int
    name: str = Field(alias="class")
    seed: int
    own_probability: float
    number: int
    nearest: dict[str, Any]


class AuditedClass(Facts):
    """layer: where it stands out most; gap, spread: of its portraits there, in deviations of the real pictures."""

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
    """Shares in which a model sees ``columns`` in the portraits and real pictures of each class, and distinct pairs."""

    viewer: str
    own: bool
    columns: list[str]
    drawn: list[list[float]]
    real: list[list[float]]
    order: list[int]
    pairs: list[dict[str, Any]]


class Audit(Facts):
    """control: the largest consistency of real pictures in the place of portraits."""

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
