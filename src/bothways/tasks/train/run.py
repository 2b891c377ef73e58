"""Train a classifier of the catalogue by a recipe: TOML -> data, network, loop -> weights, card and statistics.

The run folder holds the same files as ``models/bundled`` for each model:

    NAME.safetensors              weights, half precision
    NAME.json                     the card: network, facts, data, accuracy with interval, licence, limits
    NAME.statistics.safetensors   feature vectors of test pictures, and image-prior statistics on training pictures
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import torch
from safetensors.torch import save
from torch import Tensor

from bothways.data.rows.stored import StoredSet, open_images
from bothways.data.sources import ImageSet
from bothways.data.trained import training_record
from bothways.judging.verdicts import penultimate
from bothways.models.adapter import Adapter
from bothways.models.cards import Card, read_card
from bothways.models.catalogue import check_device
from bothways.numerics.intervals import wilson_interval
from bothways.numerics.modules import compile_module
from bothways.processes.group import join_processes
from bothways.progress import counted
from bothways.runs.experiment import Experiment
from bothways.runs.files import replace_file
from bothways.tasks.memory import check_training
from bothways.tasks.statistics.config import PICTURES
from bothways.tasks.statistics.files import as_tensors, quantised, space_of
from bothways.tasks.train.config import TrainConfig
from bothways.tasks.train.plan import ClassifierTraining, classification, plan_of
from bothways.tasks.train.result import Trained, TrainMeasures
from bothways.tasks.training import TrainingWork, weights_of
from bothways.tasks.work import Grid, Where
from bothways.training.checkpoint import Training
from bothways.training.fit import FitState
from bothways.training.sharded import sharding
from bothways.training.synced import synced

REFERENCE_PICTURES = 500  # of the test file, kept as feature vectors
KEPT_RANK = 40  # directions of the statistics that are kept: the bundled files stay small
CARD_FACTS = ("size", "mean", "std", "classes", "feature_layer", "licence", "source")


@final
@dataclass
class TrainWork(TrainingWork):
    """A run of ``train``. planned: data, network and loss."""

    planned: ClassifierTraining
    training: Training
    experiment: Experiment
    schema = TrainMeasures

    @property
    def model(self) -> Adapter:
        """The classifier with the current EMA weights."""
        return Adapter(self.training.state.result, self.planned.spec, name=self.planned.name)

    def gather(self) -> None:
        """Round the weights as they are saved, so that the saved ones are the measured ones, and measure on the CPU."""
        result = self.training.state.result
        result.load_state_dict(weights_of(result, half=True))
        result.cpu()

    def measured(self) -> dict[str, Any]:
        """Write weights, card and statistics. The test file is read only here, once."""
        planned, result, out = self.planned, self.training.state.result, self.training.folder.path
        half = weights_of(result, half=True)
        test = open_images(planned.config.data, split="test", in_memory=planned.config.run.in_memory)
        model = self.model
        counted = accuracy(model, test), accuracy(model, planned.held)
        facts = card_of(planned, *counted)
        replace_file(out / f"{planned.name}.safetensors", save(half))
        replace_file(out / f"{planned.name}.statistics.safetensors", save(statistics_of(model, planned.train, test)))
        replace_file(out / f"{planned.name}.json", (json.dumps(facts, indent=2) + "\n").encode())
        low, high = wilson_interval(*counted[0])
        right, held = (hits / count for hits, count in counted)
        found = {"accuracy": right, "low": low, "high": high, "n": counted[0][1], "validation_accuracy": held}
        return {"network": {**found, "parameters": planned.parameters}, "citations": []}

    def trained(self) -> Trained:
        folder = self.training.folder
        card = read_card(folder.path / f"{self.planned.name}.json", Card)
        return Trained(self.model, card, self.training.recorded_frames, folder)

    def plan(self) -> str:
        fit, planned = self.planned.config.fit, self.planned
        return (
            f"{planned.parameters:,} parameters would be trained on {len(planned.train)} pictures, {fit.steps} steps "
            f"of {fit.batch}"
        )

    def summary(self, result: Trained, out: Path | None) -> Iterator[str | Grid]:
        yield f"accuracy {result.card['accuracy']:.2%} on {result.card['accuracy_on']}; files in {out}"

    def page(self, out: Path | None) -> Path | None:
        return None


def prepare(config: TrainConfig, where: Where) -> TrainWork:
    """Prepare a run of ``train``. Raises UserError for invalid input, before the first step."""
    check_device(config.run.device, "bf16" if config.fit.bf16 else "float32")
    processes = join_processes(config.run.device)
    planned = plan_of(config)
    config = planned.config
    among = sharding(config.run.fsdp, config.fit.optimizer, processes)
    processes.share(planned.batch, config.fit.batch)  # refused now, if it cannot be divided
    loss = classification(config.spec, config.loss.label_smoothing)
    height, width = planned.train.shape

    def example(count: int) -> tuple[Tensor, ...]:
        return torch.zeros(count, 3, height, width), torch.zeros(count, dtype=torch.int64)

    check_training(planned.network, loss, example, config.fit, device=config.run.device, workers=config.run.workers)
    network = synced(planned.network.to(processes.device), processes)
    state = FitState(network, config.fit, among=among)
    if config.fit.compile:
        compile_module(network)
    training = Training(state, config.fit, config.run, loss, planned.batch, config.seed, processes=processes)
    experiment = training.begin("train", planned.tables(), **where.as_options())
    return TrainWork(planned, training, experiment)


@torch.no_grad()
def accuracy(model: Adapter, data: ImageSet | StoredSet) -> tuple[int, int]:
    """(correct predictions, pictures that can be read)."""
    right = read = 0
    for start in counted(range(0, len(data), 500), "accuracy"):
        part = data.subset(torch.arange(start, min(start + 500, len(data)))).loaded()
        read += len(part)
        right += int((model.outputs(part.floats()).argmax(1) == part.labels).sum())
    return right, read


def statistics_of(model: Adapter, train: ImageSet | StoredSet, test: ImageSet | StoredSet) -> dict[str, Tensor]:
    """Features and labels of test pictures, and image-prior statistics on training pictures (see tasks/statistics)."""
    shown = test.subset(torch.arange(min(REFERENCE_PICTURES, len(test)))).loaded()
    features, _ = penultimate(model, shown.floats())
    assert features is not None
    real = train.subset(torch.arange(min(PICTURES, len(train)))).loaded().images
    kept = as_tensors(space_of(model, real, KEPT_RANK))
    return {**quantised("features", features), "labels": shown.labels.half(), **kept}


def card_of(planned: ClassifierTraining, test: tuple[int, int], validation: tuple[int, int]) -> dict[str, Any]:
    """The content of NAME.json. test, validation: (correct predictions, pictures)."""
    spec, options = asdict(planned.spec), dict(planned.config.network)
    (height, width), data = planned.size, planned.config.data
    low, high = wilson_interval(*test)
    return {
        "name": planned.name,
        "network": {"name": options.pop("builder"), "classes": planned.spec.count, **options},
        "spec": {key: spec[key] for key in CARD_FACTS},
        "parameters": planned.parameters,
        "data": f"{data}: {len(planned.train)} pictures for training, {len(planned.held)} held out",
        "accuracy": round(test[0] / test[1], 4),
        "accuracy_interval": [round(low, 4), round(high, 4)],
        "accuracy_on": f"{test[1]} test pictures of {data}",
        "validation_accuracy": round(validation[0] / validation[1], 4),
        "reference": f"{min(REFERENCE_PICTURES, test[1])} test pictures of the same data",
        "limits": f"{height} x {width} pixels and {planned.spec.count} classes; for looking into methods, not for use "
        "on photographs",
        "trained_on": [training_record(data, "train", planned.train, planned.held)],
        "recipe": planned.settings(),
    }
