"""The result of ``train`` and the schema of its measures.json."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic import ConfigDict

from bothways.brief import Kept
from bothways.configs import Config
from bothways.models.adapter import Adapter
from bothways.runs import RunFolder
from bothways.tasks.measures import Measures
from bothways.types import Frame


class NetworkMeasures(Config):
    """measures["network"]: the accuracy on test pictures with its 95 % interval, and on held-out pictures."""

    model_config = ConfigDict(strict=True)

    accuracy: float
    low: float
    high: float
    n: int
    validation_accuracy: float
    parameters: int


class TrainMeasures(Measures):
    """measures.json of a training."""

    network: NetworkMeasures


@dataclass(frozen=True, repr=False)
class Trained(Kept):
    """A finished training. model: with EMA weights. card: its facts. frames: one per step. folder: its run folder."""

    model: Adapter
    card: dict[str, Any]
    frames: list[Frame]
    folder: RunFolder

    @property
    def kept(self) -> str:
        return str(self.folder.path / f"{self.card['name']}.json")

    @property
    def measures(self) -> dict[str, Any]:
        return self.folder.measures
