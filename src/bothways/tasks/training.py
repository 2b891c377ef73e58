"""The run of a training task (pretrain, finetune, train): frames and checkpoints -> measures -> result."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, final

from torch import Tensor, nn

from bothways.models.catalogue import PROSE
from bothways.registry import absolute_address, with_addresses
from bothways.runs import ALONG
from bothways.runs.experiment import Experiment
from bothways.runs.files import read_lines, write_json
from bothways.runs.schema import AlongLine
from bothways.tasks.work import Where, Work
from bothways.training.best import BEST, best_step
from bothways.training.checkpoint import Training
from bothways.types import Frame


class TrainingWork(Work):
    """A run of a training task. The first process measures and writes; every process returns the result."""

    training: Training
    doing = "training"
    done_word = "trained"

    @property
    @final
    def steps(self) -> int:
        return self.training.fit.total

    @property
    @final
    def done(self) -> int:
        return self.training.state.step

    @final
    def frames(self) -> Iterator[Frame]:
        return self.training.frames()

    @final
    def measures(self) -> dict[str, Any]:
        found, note = self.measured(), self.training.state.note
        return {**found, "notes": [*found.get("notes", []), note]} if note else found

    @abstractmethod
    def measured(self) -> dict[str, Any]:
        """The content of measures.json without the cost; called in the first process only."""

    @final
    def result(self, measures: dict[str, Any]) -> Any:
        return self.trained()

    @final
    def best_line(self, what: str) -> Iterator[str]:
        """A line on the best step that was kept, if any. what: by which it was chosen."""
        found = best_step(read_lines(self.training.folder.path / ALONG, AlongLine), self.training.best_by)
        if self.training.best_by and found is not None:
            step, value = found
            kept = self.training.folder.path / BEST
            yield f"the {what} on held-out pictures is {value:.4g}, of step {step}; its weights are in {kept}"

    @abstractmethod
    def trained(self) -> Any:
        """The result for a caller in Python."""


def begin_with_card(task: str, training: Training, planned: Any, card: str, where: Where) -> Experiment:
    """Begin the run of a training and write its card, of this file name."""
    training.card, training.keep_every = card, planned.config.run.keep_every
    experiment = training.begin(task, planned.tables(), **where.as_options())
    if experiment.folder is not None and training.processes.first:
        write_json(experiment.folder.path / card, with_addresses(planned.card(), absolute_address, without=PROSE))
    return experiment


def weights_of(network: nn.Module, *, half: bool = False) -> dict[str, Tensor]:
    """The state of a network for saving: on the CPU, optionally in half precision; what is tied is there twice."""
    kept: dict[str, Tensor] = {}
    places: set[int] = set()
    for key, value in network.state_dict().items():
        here = value.detach().cpu().contiguous()
        place = here.untyped_storage().data_ptr()
        kept[key] = here.clone() if place in places else here  # safetensors refuses tensors that share memory
        places.add(place)
    return {key: value.half() if half and value.is_floating_point() else value for key, value in kept.items()}
