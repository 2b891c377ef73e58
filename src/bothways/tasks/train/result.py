"""What ``train`` gives and what its measures.json holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from bothways.configs import Config
from bothways.models.adapter import Adapter
from bothways.runs import RunFolder
from bothways.tasks.measures import Measures
from bothways.types import Frame


class NetworkMeasures(Config):
    """measures["network"]: the accuracy on test pictures, with the ends of a 95 % interval, and on those held out."""

    accuracy: float
    low: float
    high: float
    n: int
    validation_accuracy: float
    parameters: int


class TrainMeasures(Measures):
    """measures.json of a training."""

    network: NetworkMeasures


@dataclass(frozen=True)
class Trained:
    """A finished training. model: with the averaged weights; card: its facts; frames: one a step; folder: its run."""

    model: Adapter
    card: dict[str, Any]
    frames: list[Frame]
    folder: RunFolder

    @property
    def measures(self) -> dict[str, Any]:
        return self.folder.measures
