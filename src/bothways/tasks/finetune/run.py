"""Fine-tune a flow as a classifier: recipe -> head, loss and training -> a run folder with flow and head.

classifier.json          the card, from which it is rebuilt; written before the first step
classifier.safetensors   the EMA weights of flow and head, at every checkpoint
measures.json            "classifier": scores on held-out pictures, and the flow-matching loss after and before
autoencoder.safetensors  of a flow on latents
along.jsonl              optional: what is measured on held-out pictures at every checkpoint
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

import torch
import torch.nn.functional as F
from safetensors.torch import save

from bothways.data.sources import ImageSet
from bothways.models.adapter import Adapter
from bothways.models.cards import CLASSIFIER_CARD
from bothways.models.classifiers import AUTOENCODER, CLASSIFIER_WEIGHTS, flow_in
from bothways.models.loader import adapted_classifier
from bothways.models.velocity import Flow
from bothways.numerics.intervals import wilson_interval
from bothways.numerics.modules import evaluating
from bothways.progress import counted
from bothways.registry import names
from bothways.representation.classifier import FlowClassifier
from bothways.runs import RunFolder
from bothways.runs.citations import flow_citations
from bothways.runs.experiment import Experiment
from bothways.runs.files import replace_file
from bothways.tasks.finetune.config import FinetuneConfig
from bothways.tasks.finetune.plan import Finetuning, plan_of
from bothways.tasks.finetune.result import Finetuned, FinetuneMeasures
from bothways.tasks.memory import check_training, transports
from bothways.tasks.training import TrainingWork, begin_with_card, weights_of
from bothways.tasks.work import Grid, Where
from bothways.training.accuracy import held_out_accuracy
from bothways.training.along import held_out_measures, losses_of, measures_along
from bothways.training.best import ACCURACY
from bothways.training.checkpoint import Training
from bothways.training.fit import FitState
from bothways.training.sharded import sharding

AT_ONCE = 100  # pictures per batch of the evaluation


@final
@dataclass
class FinetuneWork(TrainingWork):
    """A run of ``finetune``. planned: data, classifier and loss."""

    planned: Finetuning
    training: Training
    experiment: Experiment
    schema = FinetuneMeasures

    def measured(self) -> dict[str, Any]:
        """Evaluate the saved classifier of the run folder."""
        planned, config = self.planned, self.planned.config
        write_weights(self.training.state, config.fit.half, self.training.folder)
        facts = classifier_facts(planned, self._kept())
        read = ["activations"] if config.features.reads_activations else []
        named, before = planned.before.spec.path, planned.before.path
        path = named if named in names("path") else before
        cited = flow_citations(*read, path=path, coupling=config.loss.coupling)
        return {"classifier": facts, "citations": cited}

    def _kept(self) -> Adapter:
        """Load the classifier of the run folder."""
        planned = self.planned
        return adapted_classifier(
            self.training.folder.path, head=planned.config.features.head, path=planned.before.path,
            solver=planned.config.features.solver, device=planned.processes.device,
        )  # fmt: skip

    def trained(self) -> Finetuned:
        return Finetuned(self._kept(), self.training.recorded_frames, self.training.folder)

    def plan(self) -> str:
        return self.planned.line()

    def summary(self, result: Finetuned, out: Path | None) -> Iterator[str | Grid]:
        facts = result.measures["classifier"]
        reached = f"{facts['accuracy']:.1%} ({facts['low']:.1%} to {facts['high']:.1%})"
        yield f"accuracy {reached} on {facts['n']} held-out pictures"
        now, before = facts["flow_matching"], facts["flow_matching_before"]
        yield f"flow-matching loss on them {now:.4g}, before fine-tuning {before:.4g}"
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
    every = config.run.accuracy_every or (config.run.save_every if config.run.keep_best else 0)
    training = Training(
        state, config.fit, config.run, planned.loss, planned.batch(), config.seed,
        partial(write_weights, state, config.fit.half),
        partial(_along, planned, state) if measures_along(config.holdout) else None,
        planned.processes, probe=partial(_accuracy, planned, state) if every else None, probe_every=max(1, every),
        best_by=ACCURACY if config.run.keep_best else "",
    )  # fmt: skip
    work = FinetuneWork(planned, training, begin_with_card("finetune", training, planned, CLASSIFIER_CARD, where))
    if (folder := work.experiment.folder) is not None and planned.processes.first and planned.before.latents:
        replace_file(folder.path / AUTOENCODER, save(weights_of(planned.before.latents.vae)))
    return work


def _check_memory(planned: Finetuning) -> None:
    """Raise UserError where a step does not fit."""
    config, shape = planned.config, planned.before.shape
    share = (config.loss.flow_batch or config.fit.batch) / config.fit.batch

    def example(count: int) -> tuple[torch.Tensor, ...]:
        labelled = torch.zeros(count, *shape), torch.zeros(count, dtype=torch.int64)
        few = max(1, round(share * count))
        paired = torch.zeros(few, *shape), torch.zeros(few, *shape), torch.full((few,), 0.5)
        return labelled + paired if config.loss.beta else labelled

    check_training(
        planned.classifier, planned.loss, example, config.fit, device=planned.processes.device,
        workers=config.run.workers, transport=bool(config.loss.beta) and transports(config.loss.coupling),
    )  # fmt: skip


def write_weights(state: FitState, half: bool, folder: RunFolder) -> None:
    """Write the current EMA weights to classifier.safetensors."""
    replace_file(folder.path / CLASSIFIER_WEIGHTS, save(weights_of(state.result, half=half)))


def _along(planned: Finetuning, state: FitState) -> dict[str, Any]:
    """The measures of the current EMA flow on the first held-out pictures."""
    classifier = state.result.eval()
    assert isinstance(classifier, FlowClassifier)
    assert isinstance(classifier.flow, Flow)
    return held_out_measures(classifier.flow, planned.held, planned.config.holdout, partial(_losses, planned))


def _accuracy(planned: Finetuning, state: FitState) -> dict[str, Any]:
    """The accuracy of the current EMA classifier on the held-out pictures."""
    classifier, device = state.result.eval(), planned.processes.device
    assert isinstance(classifier, FlowClassifier)
    code = planned.before.code
    return held_out_accuracy(lambda images: classifier(code(images.to(device))), planned.held)


def _losses(planned: Finetuning, flow: Flow, held: ImageSet) -> torch.Tensor:
    return losses_of(flow, held, planned.pairs, AT_ONCE)


def _logits(model: Adapter, part: torch.Tensor) -> torch.Tensor:
    """Logits of pictures (B,3,H,W) uint8, or of latents (B,C,h,w), which are at the classifier's own entrance."""
    if not part.is_floating_point():
        return model.outputs((part.float() / 255).to(model.device))
    with evaluating(model.module):
        return model.module.classifier(part.to(model.device))  # type: ignore[operator]


@torch.no_grad()
def classifier_facts(planned: Finetuning, model: Adapter) -> dict[str, Any]:
    """measures["classifier"]: accuracy with interval, cross-entropy, and flow-matching loss after and before."""
    config, held = planned.config, planned.held
    logits = torch.cat([_logits(model, part).cpu() for part in counted(held.images.split(AT_ONCE), "accuracy")])
    right = int((logits.argmax(1) == held.labels).sum())
    low, high = wilson_interval(right, len(held))
    now, before = (_losses(planned, flow, held) for flow in (flow_in(model), planned.before))
    change, read = now - before, config.features
    return {
        "accuracy": right / len(held),
        "low": low,
        "high": high,
        "n": len(held),
        "cross_entropy": F.cross_entropy(logits, held.labels).item(),
        "flow_matching": now.mean().item(),
        "flow_matching_before": before.mean().item(),
        "flow_matching_change_error": (change.std() / math.sqrt(len(change))).item() if len(change) > 1 else None,
        "classes": model.spec.count,
        "pictures": len(planned.train),
        "kind": read.kind,
        "depth": read.walk_depth if read.kind in ("walked", "both") else None,
        "activation_depth": read.read_depth if read.reads_activations else None,
        "layer": read.layer,
        "beta": config.loss.beta,
        "frozen": config.frozen,
        "pretrained": not config.fresh,
        "trained": planned.trained,
    }
