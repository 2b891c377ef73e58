"""The result of ``pretrain`` and the schema of its measures.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict

from bothways.brief import Kept
from bothways.configs import Config
from bothways.models.velocity import Flow
from bothways.runs import RunFolder
from bothways.tasks.measures import Measures
from bothways.tasks.resume import address_of
from bothways.types import Frame


class FlowMeasures(Config):
    """measures["flow"]: the loss of a finished flow on held-out pictures, with its standard error."""

    model_config = ConfigDict(strict=True)

    validation_loss: float
    validation_error: float
    validation_pictures: int
    training_loss: float
    path: str
    coupling: str
    steps: int
    parameters: int


class PretrainMeasures(Measures):
    """measures.json of a pretraining."""

    flow: FlowMeasures


@dataclass(frozen=True, repr=False)
class Pretrained(Kept):
    """A finished pretraining. flow: with EMA weights. frames: one per step. folder: its run folder."""

    flow: Flow
    frames: list[Frame]
    folder: RunFolder

    @property
    def kept(self) -> str | None:
        return address_of(self.folder)

    @property
    def held(self) -> Any:
        return self.flow

    @property
    def measures(self) -> dict[str, Any]:
        return self.folder.measures
