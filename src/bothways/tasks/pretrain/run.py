"""Pretrain a flow on pictures: recipe -> data, network, path and coupling -> a run folder with its weights.

flow.json            the card: network, facts, data, recipe; written before the first step
flow.safetensors     the EMA weights, at every checkpoint, so that an unfinished flow can be used
images/              samples of the finished flow
measures.json        "flow": its loss on held-out pictures
along.jsonl          optional: what is measured on held-out pictures at every checkpoint
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, final

import torch
from safetensors.torch import save
from torch import Tensor

from bothways.data.images import batches
from bothways.data.sources import ImageSet
from bothways.models.velocity import Flow
from bothways.numerics.draws import Draws, picture_seed
from bothways.numerics.modules import compile_module, uncompiled
from bothways.progress import counted
from bothways.registry import name_of, names
from bothways.representation.encode import Walk, trajectory
from bothways.runs import RunFolder
from bothways.runs.citations import flow_citations
from bothways.runs.experiment import Experiment
from bothways.runs.files import replace_file
from bothways.tasks.memory import check_training, transports
from bothways.tasks.pretrain.config import PretrainConfig
from bothways.tasks.pretrain.plan import Pretraining, plan_of
from bothways.tasks.pretrain.result import Pretrained, PretrainMeasures
from bothways.tasks.training import TrainingWork, begin_with_card, weights_of
from bothways.tasks.work import Grid, Where
from bothways.training.accuracy import probe_accuracy
from bothways.training.along import held_out_measures, losses_of, measures_along
from bothways.training.best import LOSS
from bothways.training.checkpoint import CHECKPOINT, Training
from bothways.training.fit import FitState
from bothways.training.sharded import sharding

CARD, WEIGHTS = "flow.json", "flow.safetensors"
SAMPLES, SAMPLE_STEPS = 16, 50
LAST_FRAMES = 100  # whose mean is the reported training loss


@final
@dataclass
class PretrainWork(TrainingWork):
    """A run of ``pretrain``. planned: data, network and loss."""

    planned: Pretraining
    training: Training
    experiment: Experiment
    schema = PretrainMeasures

    @property
    def flow(self) -> Flow:
        """The flow with the current EMA weights."""
        flow = self.training.state.result.eval()
        assert isinstance(flow, Flow)
        return flow

    def measured(self) -> dict[str, Any]:
        """Save samples, and measure the loss on held-out pictures."""
        planned, flow, folder = self.planned, self.flow, self.training.folder
        config = planned.config
        seeds = [picture_seed(config.seed, index) for index in range(SAMPLES)]
        folder.save_pictures(samples(flow, seeds), [{"index": k, "seed": seed} for k, seed in enumerate(seeds)])
        self.experiment.facts["of"] = SAMPLES
        losses = held_losses(planned, flow, planned.held)
        last = [frame["stats"]["loss"] for frame in folder.frames[-LAST_FRAMES:]]
        facts = {
            "validation_loss": losses.mean().item(),
            "validation_error": (losses.std() / math.sqrt(len(losses))).item(),
            "validation_pictures": len(losses),
            "training_loss": sum(last) / max(1, len(last)),
            "path": name_of(config.path),
            "coupling": name_of(config.coupling),
            "steps": config.fit.total,
            "parameters": planned.parameters,
        }
        return {"flow": facts, "citations": flow_citations(path=config.path, coupling=config.coupling)}

    def trained(self) -> Pretrained:
        flow = self.flow
        flow.name = str(self.training.folder.path)  # its address, by which its card is found
        return Pretrained(flow, self.training.recorded_frames, self.training.folder)

    def plan(self) -> str:
        return self.planned.line()

    def opening(self) -> str:
        return "" if self.done else self.planned.initial

    def summary(self, result: Pretrained, out: Path | None) -> Iterator[str | Grid]:
        facts = result.measures["flow"]
        loss, error = facts["validation_loss"], facts["validation_error"]
        yield f"loss {loss:.4g} +- {error:.2g} on {facts['validation_pictures']} held-out pictures"
        if out is not None:
            yield f"the flow is {out / CARD}, samples are in {out / 'images'}"
            yield from self.best_line("lowest loss")


def prepare(config: PretrainConfig, where: Where) -> PretrainWork:
    """Prepare a run of ``pretrain``. Raises UserError for invalid input, before the first step."""
    began = where.resume and where.out is not None and (Path(where.out) / CHECKPOINT).is_file()
    planned = plan_of(config, Path(str(where.out)) if began else None)
    config = planned.config
    among = sharding(config.run.fsdp, config.fit.optimizer, planned.processes)
    _check_memory(planned)
    state = FitState(planned.flow, config.fit, among=among)
    if config.fit.compile:
        compile_module(planned.flow.network)
    drawn = planned.pairs(batches(planned.train, config.fit.batch, config.seed, planned.augmentation), config.seed)
    if config.coupling not in names("coupling"):
        drawn(0)  # one of a user that is no permutation is refused now
    training = Training(
        state, config.fit, config.run, planned.loss, drawn, config.seed,
        partial(write_weights, state),
        partial(_along, planned, state) if measures_along(config.holdout) or config.run.keep_best else None,
        planned.processes, probe=partial(_probe, planned, state) if config.run.probe_every else None,
        probe_every=max(1, config.run.probe_every), best_by=LOSS if config.run.keep_best else "",
    )  # fmt: skip
    return PretrainWork(planned, training, begin_with_card("pretrain", training, planned, CARD, where))


def _check_memory(planned: Pretraining) -> None:
    """Raise UserError where a step does not fit."""
    flow, config = planned.flow, planned.config

    def example(count: int) -> tuple[Tensor, ...]:
        return torch.zeros(count, *flow.shape), torch.zeros(count, *flow.shape), torch.full((count,), 0.5)

    check_training(
        flow, planned.loss, example, config.fit, device=planned.processes.device, workers=config.run.workers,
        transport=transports(config.coupling),
    )  # fmt: skip


def write_weights(state: FitState, folder: RunFolder) -> None:
    """Write the current EMA weights to flow.safetensors."""
    flow = state.result
    assert isinstance(flow, Flow)
    replace_file(folder.path / WEIGHTS, save(weights_of(flow.network)))


def _along(planned: Pretraining, state: FitState) -> dict[str, Any]:
    """The measures of the current EMA flow on the first held-out pictures."""
    flow = state.result.eval()
    assert isinstance(flow, Flow)
    config, losses = planned.config, partial(held_losses, planned)
    with uncompiled(flow):  # without an average it is the network that is trained
        return held_out_measures(flow, planned.held, config.holdout, losses, whole=config.run.keep_best)


def _probe(planned: Pretraining, state: FitState) -> dict[str, Any]:
    """The accuracy of a linear probe on features of the current EMA flow."""
    flow = state.result.eval()
    assert isinstance(flow, Flow)
    return probe_accuracy(flow, planned.held)


@torch.no_grad()
def samples(flow: Flow, seeds: list[int]) -> Tensor:
    """Samples (B,3,H,W) in [0,1] from noise of these seeds, by Euler steps."""
    x = Draws(seeds).normal(flow.shape).to(flow.mean.device)
    moved = islice(trajectory(flow, x, 0.0, 1.0, Walk(SAMPLE_STEPS)), 1, None)  # without the noise itself
    for _, state in counted(moved, "drawing samples", SAMPLE_STEPS):
        x = state
    return flow.picture(x).clamp(0, 1).cpu()


def held_losses(planned: Pretraining, flow: Flow, held: ImageSet) -> Tensor:
    """The loss (N,) of each held-out picture, at noise and times that are equal for all runs."""
    return losses_of(flow, held, planned.pairs, planned.config.fit.batch)
