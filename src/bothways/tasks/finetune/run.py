"""Fine-tune a flow as a classifier: recipe -> head, loss and training -> a run folder with flow and head.

classifier.json          the card, from which it is rebuilt; written before the first step
classifier.safetensors   the EMA weights of flow and head, at every checkpoint
measures.json            "classifier": scores on held-out pictures, and the flow-matching loss after and before
held.jsonl               with --patience: the loss on held-out pictures at every checkpoint; best.safetensors its best
autoencoder.safetensors  of a flow on latents
along.jsonl              optional: what is measured on held-out pictures at every checkpoint
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import torch
from safetensors.torch import save

from bothways.models.adapter import Adapter
from bothways.models.cards import CLASSIFIER_CARD
from bothways.models.classifiers import AUTOENCODER, CLASSIFIER_WEIGHTS
from bothways.models.loader import adapted_classifier
from bothways.models.velocity import Flow
from bothways.progress import stage
from bothways.reading import is_there
from bothways.registry import names
from bothways.representation.classifier import FlowClassifier
from bothways.representation.tuning.parts import compile_flow, merged
from bothways.representation.tuning.targets import CLASS
from bothways.runs import RunFolder
from bothways.runs.citations import flow_citations
from bothways.runs.experiment import Experiment
from bothways.runs.files import json_line, read_lines, replace_file
from bothways.runs.schema import HeldLine
from bothways.tasks.finetune.config import NAMES, FinetuneConfig
from bothways.tasks.finetune.pictures import labels_like
from bothways.tasks.finetune.plan import Finetuning, plan_of
from bothways.tasks.finetune.result import Finetuned, FinetuneMeasures
from bothways.tasks.finetune.scores import classifier_facts, held_loss, losses
from bothways.tasks.memory import check_training, transports
from bothways.tasks.training import TrainingWork, begin_with_card, weights_of
from bothways.tasks.work import Grid, Where
from bothways.training.accuracy import held_out_accuracy
from bothways.training.along import held_out_measures, measures_along
from bothways.training.best import ACCURACY
from bothways.training.checkpoint import Training
from bothways.training.fit import FitState
from bothways.training.sharded import sharding

HELD = "held.jsonl"  # {"step", "loss"}: on held-out pictures at every checkpoint, where training may end early
BEST = "best.safetensors"  # the weights of its lowest loss so far


@final
@dataclass
class FinetuneWork(TrainingWork):
    """A run of ``finetune``. planned: data, classifier and loss."""

    planned: Finetuning
    training: Training
    experiment: Experiment
    early: Early
    schema = FinetuneMeasures

    def measured(self) -> dict[str, Any]:
        """Evaluate the saved classifier of the run folder."""
        planned, config = self.planned, self.planned.config
        write_weights(self.training.state, config.fit.half, self.training.folder)
        if config.fit.patience:
            self.early(self.training.state.step)  # the last checkpoint is not always one of every save_every steps
            self.early.take_best()
        facts = classifier_facts(planned, self._kept())
        read = ["activations"] if config.features.reads_activations else []
        named, before = planned.before.spec.path, planned.before.path
        path = named if named in names("path") else before
        cited = flow_citations(*read, path=path, coupling=config.loss.coupling)
        return {"classifier": facts, "citations": cited}

    def _kept(self) -> Adapter:
        """Load the classifier of the run folder."""
        planned = self.planned
        features = planned.config.features
        parts = {"head": features.head, "path": planned.before.path, "solver": features.solver}
        return adapted_classifier(self.training.folder.path, parts, device=planned.processes.device)

    def trained(self) -> Finetuned:
        return Finetuned(self._kept(), self.training.recorded_frames, self.training.folder)

    def plan(self) -> str:
        return self.planned.line()

    def summary(self, result: Finetuned, out: Path | None) -> Iterator[str | Grid]:
        facts = result.measures["classifier"]
        yield from score_lines(facts)
        now, before = facts["flow_matching"], facts["flow_matching_before"]
        yield f"flow-matching loss on them {now:.4g}, before fine-tuning {before:.4g}"
        share = facts["trained"] / facts["parameters"]
        yield f"{facts['trained']:,} of {facts['parameters']:,} parameters were trained ({share:.1%})"
        if out is not None:
            yield f"the classifier is {out / CLASSIFIER_CARD}"
            yield from self.best_line("highest accuracy")


def prepare(config: FinetuneConfig, where: Where) -> FinetuneWork:
    """Prepare a run of ``finetune``. Raises UserError for invalid input, before the first step."""
    planned = plan_of(config)
    config = planned.config
    among = sharding(config.run.fsdp, config.fit.optimizer, planned.processes)
    _check_memory(planned)
    state = FitState(planned.classifier, config.fit, planned.factor, among)
    if config.fit.compile:
        compile_flow(planned.classifier)
    every = config.run.accuracy_every or (config.run.save_every if config.run.keep_best else 0)
    training = Training(
        state, config.fit, config.run, planned.loss, planned.batch(), config.seed,
        partial(write_weights, state, config.fit.half),
        partial(_along, planned, state) if measures_along(config.holdout) else None,
        planned.processes, probe=partial(_accuracy, planned, state) if every else None, probe_every=max(1, every),
        best_by=ACCURACY if config.run.keep_best else "", beside=(AUTOENCODER,) if planned.before.latents else (),
    )  # fmt: skip
    experiment = begin_with_card("finetune", training, planned, CLASSIFIER_CARD, where)
    early = Early(planned, training)
    if config.fit.patience:
        training.enough = early
    if (folder := experiment.folder) is not None and planned.processes.first and planned.before.latents:
        replace_file(folder.path / AUTOENCODER, save(weights_of(planned.before.latents.vae)))
    return FinetuneWork(planned, training, experiment, early)


@dataclass
class Early:
    """Whether training ends: the loss on held-out pictures has not fallen for so many checkpoints."""

    planned: Finetuning
    training: Training

    def __call__(self, step: int) -> bool:
        """Measure the present weights, unless this step is measured, and keep the best; in the first process."""
        folder = self.training.folder.path
        lines = [line for line in read_lines(folder / HELD, HeldLine) if line["step"] <= step]
        if step and step not in [line["step"] for line in lines]:
            with stage("loss on held-out pictures"):
                loss = held_loss(self.planned, self.training.state.result.eval())
            if loss < min((line["loss"] for line in lines), default=math.inf):
                replace_file(folder / BEST, (folder / CLASSIFIER_WEIGHTS).read_bytes())
            lines.append({"step": step, "loss": loss})
        replace_file(folder / HELD, b"".join(map(json_line, lines)))
        found = [line["loss"] for line in lines]
        return bool(found) and len(found) - 1 - found.index(min(found)) >= self.planned.config.fit.patience

    def take_best(self) -> None:
        """Let the weights of the lowest loss be those of the run."""
        folder = self.training.folder.path
        if is_there(folder / BEST):
            replace_file(folder / CLASSIFIER_WEIGHTS, (folder / BEST).read_bytes())


def score_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """The scores in words."""
    if facts["target"] == CLASS:
        reached = f"{facts['accuracy']:.1%} ({facts['low']:.1%} to {facts['high']:.1%})"
        yield f"accuracy {reached} on {facts['n']} held-out pictures"
        return
    for row in facts["scores"]:
        if row["output"] == "mean":
            value, low, high = ("-" if row[key] is None else f"{row[key]:.4g}" for key in ("value", "low", "high"))
            yield f"{NAMES[row['score']]} {value} ({low} to {high}) on {facts['n']} held-out pictures"


def _check_memory(planned: Finetuning) -> None:
    """Raise UserError where a step does not fit."""
    config, shape = planned.config, planned.before.shape
    share = (config.loss.flow_batch or config.fit.batch) / config.fit.batch

    def example(count: int) -> tuple[torch.Tensor, ...]:
        labelled = torch.zeros(count, *shape), labels_like(config, count, planned.classes)
        few = max(1, round(share * count))
        paired = torch.zeros(few, *shape), torch.zeros(few, *shape), torch.full((few,), 0.5)
        return labelled + paired if config.loss.beta else labelled

    check_training(
        planned.classifier, planned.loss, example, config.fit, device=planned.processes.device,
        workers=config.run.workers, transport=bool(config.loss.beta) and transports(config.loss.coupling),
    )  # fmt: skip


def write_weights(state: FitState, half: bool, folder: RunFolder) -> None:
    """Write the current EMA weights to classifier.safetensors."""
    replace_file(folder.path / CLASSIFIER_WEIGHTS, save(weights_of(merged(state.result), half=half)))


def _along(planned: Finetuning, state: FitState) -> dict[str, Any]:
    """The measures of the current EMA flow on the first held-out pictures."""
    classifier = state.result.eval()
    assert isinstance(classifier, FlowClassifier)
    assert isinstance(classifier.flow, Flow)
    return held_out_measures(classifier.flow, planned.held, planned.config.holdout, partial(losses, planned))


def _accuracy(planned: Finetuning, state: FitState) -> dict[str, Any]:
    """The accuracy of the current EMA classifier on the held-out pictures."""
    classifier, device = state.result.eval(), planned.processes.device
    assert isinstance(classifier, FlowClassifier)
    code = planned.before.code
    return held_out_accuracy(lambda images: classifier(code(images.to(device))), planned.held)
