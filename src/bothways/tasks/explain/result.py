"""The schema of measures["audit"]; a number that cannot be computed is null."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from bothways.brief import Brief
from bothways.runs.schema import Whole
from bothways.tasks.measures import Count, Facts, Measures
from bothways.types import UserError


class Consistency(Facts):
    """Consistency in units of the median class, with its 95 % interval over seeds; by_layer: {layer: value}."""

    value: float
    low: float | None
    high: float | None
    by_layer: dict[str, float]


class Nearest(Facts):
    """A real picture near a portrait. file: needs a run folder."""

    name: str = Field(alias="class")
    cosine: float
    file: str = ""


class Portrait(Facts):
    """A portrait. number: in all portraits. Files need a run folder."""

    recipe: str
    index: Count
    name: str = Field(alias="class")
    seed: Whole
    own_probability: float
    number: Count
    nearest: Nearest
    file: str = ""
    alpha: str = ""
    trait: str = ""


class Accuracy(Facts):
    """The accuracy on the pictures of a class."""

    value: float
    n: Count


class AuditedClass(Facts):
    """A class. layer: where it stands out most. gap, spread: of its portraits there, in deviations of real pictures."""

    name: str
    label: Count
    consistency: Consistency
    worth_a_look: bool
    layer: str
    gap: float | None
    spread: float | None
    accuracy: Accuracy
    portraits: list[Portrait]


class Pair(Facts):
    """Two classes of which one is seen in portraits of the other. pictures: the numbers of such portraits."""

    name: str = Field(alias="class")
    seen: str
    share: float
    real_share: float
    p: float
    pictures: list[Count]


class Viewer(Facts):
    """How often a model predicts ``columns`` in portraits and real pictures of each class, and the distinct pairs.

    recognised, recognised_real: of the portraits and real pictures of each class, the share that the model calls by it
    among the audited classes; None of a class that it does not know.
    """

    viewer: str
    own: bool
    columns: list[str]
    drawn: list[list[float]]
    real: list[list[float]]
    order: list[Count]
    pairs: list[Pair]
    recognised: list[Accuracy | None] = Field(default_factory=list)
    recognised_real: list[Accuracy | None] = Field(default_factory=list)


class Origin(Facts):
    """The real pictures."""

    address: str


class AuditSettings(Facts):
    """n: portraits of a class by each of the recipes."""

    n: Count
    recipes: list[str]


class Audit(Brief, Facts):
    """An audit. control: the largest consistency with real pictures in place of portraits."""

    data: Origin
    settings: AuditSettings
    layers: list[str]
    worth_a_look: float
    control: float
    classes: list[AuditedClass] = Field(min_length=1)
    entanglement: list[Viewer]

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        numbers = {portrait.number for own in self.classes for portrait in own.portraits}
        for own in self.classes:
            if lacking := sorted({*self.layers} - own.consistency.by_layer.keys()):
                raise UserError(f"class {own.name!r} has no consistency in layer {lacking[0]!r}")
        for viewer in self.entanglement:
            size, wide = len(self.classes), len(viewer.columns)
            whole = len(viewer.drawn) == size and all(len(row) == wide for row in viewer.drawn)
            if not whole or any(place >= size for place in viewer.order):
                raise UserError(f"the viewer {viewer.viewer!r} is of other classes")
            if any(len(shares) not in (0, size) for shares in (viewer.recognised, viewer.recognised_real)):
                raise UserError(f"the viewer {viewer.viewer!r} recognises other classes")
            if not all({*pair.pictures} <= numbers for pair in viewer.pairs):
                raise UserError(f"the viewer {viewer.viewer!r} names a portrait that is not there")
        return self


class AuditMeasures(Measures):
    """measures.json of an audit."""

    audit: Audit
