"""Pretrain a flow on pictures: recipe -> data, network, path and coupling -> a run folder with its weights.

flow.json            the card: network, facts, data, recipe; written before the first step
flow.safetensors     the averaged weights, at every checkpoint, so that an unfinished flow can be looked at
images/              what the finished flow makes of noise
measures.json        "flow": its loss on pictures that were held out
along.jsonl          where it is asked for, the mutual information on some of them at every checkpoint
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from bothways.data.images import Batch, batches
from bothways.data.sources import ImageSet
from bothways.models.velocity import Flow
from bothways.numerics.draws import Draws, picture_seed
from bothways.representation.encode import decode
from bothways.representation.flow_matching import flow_matching
from bothways.representation.paths import path_of
from bothways.runs import RunFolder
from bothways.runs.citations import flow_citations
from bothways.runs.experiment import measuring
from bothways.runs.files import replace_file
from bothways.tasks.pretrain.config import DEFAULT_PRETRAINING
from bothways.tasks.pretrain.plan import Pretraining, prepare_pretraining
from bothways.training.along import VALIDATION_SEED, measured_along
from bothways.training.checkpoint import SAVE_EVERY, Training, begin_training
from bothways.training.fit import FitState
from bothways.types import Frame

CARD, WEIGHTS = "flow.json", "flow.safetensors"
SAMPLES, SAMPLE_STEPS = 16, 50
LAST_FRAMES = 100  # whose mean loss is kept beside that of the held-out pictures


@dataclass(frozen=True)
class Pretrained:
    """A finished pretraining. flow: with the averaged weights; frames: one a step; folder: its run folder."""

    flow: Flow
    frames: list[Frame]
    folder: RunFolder


def pretrain(
    data: str | Path,
    recipe: str = DEFAULT_PRETRAINING,
    *,
    out: str | Path = "runs/flow",
    overwrite: bool = False,
    resume: bool = False,
    device: str = "cpu",
    workers: int = 1,
    save_every: int = SAVE_EVERY,
    tensorboard: bool = False,
    **changes: Any,
) -> Pretrained:
    """Train a flow on pictures by the mean over x, z, t of 1/2 ||v(x_t, t) - (a' x + s' z)||^2.

    data: an address as ``load_images`` takes it, or a parquet file or folder. recipe: "icfm", "otcfm", "gvp" or a
    .toml file. changes: any setting of a recipe, such as path, coupling, net, steps, batch, rate, size or seed.
    workers: processes that make batches ahead. save_every: steps between two checkpoints.
    Raises UserError for what cannot be, before anything is written; RunError where the loss is not finite.
    """
    plan = prepare_pretraining(data, recipe, device=device, **changes)
    training = begin(
        plan, out, overwrite=overwrite, resume=resume, workers=workers, save_every=save_every, tensorboard=tensorboard
    )
    for _ in training.run():
        pass
    return conclude(plan, training)


def begin(plan: Pretraining, out: str | Path, **how: Any) -> Training:
    """The training of a plan in its run folder; ``how`` as ``begin_training`` has it."""
    drawn = batches(plan.train, plan.settings.batch, plan.settings.seed, plan.augmentation)
    batch, state = plan.pairs(drawn, plan.settings.seed), FitState(plan.flow, plan.fit)
    return begin_training(plan, out, state, batch, write_weights, (CARD, WEIGHTS), partial(_along, plan, state), **how)


def write_weights(folder: RunFolder, state: FitState) -> None:
    """Replace flow.safetensors by the averaged weights of now."""
    kept = {key: value.detach().cpu().contiguous() for key, value in state.result.network.state_dict().items()}  # type: ignore[union-attr]
    replace_file(folder.path / WEIGHTS, save(kept))


def _along(plan: Pretraining, state: FitState) -> dict[str, Any]:
    """Of the averaged flow of now, on the first pictures held out."""
    flow = state.result.eval()
    assert isinstance(flow, Flow)
    few = replace(plan, held=plan.held.subset(torch.arange(plan.settings.information)))
    return measured_along(flow, few.held.images, held_losses(few, flow))


def conclude(plan: Pretraining, training: Training) -> Pretrained:
    """What the trained flow makes of noise, and its loss on the pictures held out, kept in the run folder."""
    flow, folder = training.state.result.eval(), training.folder
    assert isinstance(flow, Flow)
    if plan.processes.first:
        with measuring(folder):
            _measure(plan, flow, training)
    frames = training.frames
    plan.processes.end()
    return Pretrained(flow, frames, folder)


def _measure(plan: Pretraining, flow: Flow, training: Training) -> None:
    folder = training.folder
    seeds = [picture_seed(plan.settings.seed, index) for index in range(SAMPLES)]
    records = [{"index": index, "seed": seed} for index, seed in enumerate(seeds)]
    folder.save_pictures(samples(flow, seeds), records)
    losses = held_losses(plan, flow)
    last = [frame["stats"]["loss"] for frame in folder.frames[-LAST_FRAMES:]]
    facts = {
        "validation_loss": losses.mean().item(),
        "validation_error": (losses.std() / math.sqrt(len(losses))).item(),
        "validation_pictures": len(losses),
        "training_loss": sum(last) / max(1, len(last)),
        "path": plan.settings.path,
        "coupling": plan.settings.coupling,
        "steps": plan.settings.steps,
        "parameters": plan.parameters,
    }
    cited = flow_citations(path=plan.settings.path, coupling=plan.settings.coupling)
    folder.write_measures({"flow": facts, "cost": training.cost, "citations": cited})
    folder.finish("complete", of=SAMPLES)


@torch.no_grad()
def samples(flow: Flow, seeds: list[int]) -> Tensor:
    """(B,3,H,W) in [0,1]: noise of these seeds walked to pictures by Euler's steps."""
    noise = Draws(seeds).normal(flow.shape).to(flow.mean.device)
    return decode(flow, noise, depth=1.0, steps=SAMPLE_STEPS).clamp(0, 1).cpu()


@torch.no_grad()
def held_losses(plan: Pretraining, flow: Flow) -> Tensor:
    """(N,): the loss of each held-out picture, at noise and times that are the same for every run."""
    size = min(plan.settings.batch, len(plan.held))
    batch = plan.pairs(partial(_part, plan.held, size), VALIDATION_SEED)
    path, parts = path_of(plan.settings.path), range(math.ceil(len(plan.held) / size))
    device = flow.mean.device
    return torch.cat([flow_matching(flow, path, *(v.to(device) for v in batch(part))).cpu() for part in parts])


def _part(data: ImageSet, size: int, part: int) -> Batch:
    chosen = data.subset(torch.arange(part * size, min(len(data), (part + 1) * size)))
    return chosen.images.float() / 255, chosen.labels
