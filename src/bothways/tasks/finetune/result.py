"""The result of ``finetune`` and the schema of its measures.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict, Field

from bothways.brief import Kept
from bothways.configs import Config
from bothways.models.adapter import Adapter
from bothways.runs import RunFolder
from bothways.tasks.measures import Measures, Row
from bothways.tasks.resume import address_of
from bothways.types import Frame


class ClassifierMeasures(Config):
    """measures["classifier"]: scores on held-out pictures, and the flow-matching loss after and before.

    low, high: the ends of the 95 % interval of the accuracy, which only a target of classes has. scores: of the others.
    trained: the parameters that were trained, of so many.
    """

    model_config = ConfigDict(strict=True)

    accuracy: float | None = None
    low: float | None = None
    high: float | None = None
    cross_entropy: float | None = None
    target: str = "class"
    scores: list[Row] = Field(default_factory=list)
    n: int
    flow_matching: float
    flow_matching_before: float
    flow_matching_change_error: float | None
    classes: int
    pictures: int
    kind: str
    depth: float | None
    activation_depth: float | None
    layer: str | None
    beta: float | None
    frozen: bool
    pretrained: bool
    trained: int
    tune: str = "all"
    parameters: int | None = None


class FinetuneMeasures(Measures):
    """measures.json of a fine-tuning."""

    classifier: ClassifierMeasures


@dataclass(frozen=True, repr=False)
class Finetuned(Kept):
    """A finished fine-tuning. model: with EMA weights. frames: one per step. folder: its run folder."""

    model: Adapter
    frames: list[Frame]
    folder: RunFolder

    @property
    def kept(self) -> str | None:
        return address_of(self.folder)

    @property
    def held(self) -> Any:
        return self.model

    @property
    def measures(self) -> dict[str, Any]:
        return self.folder.measures
