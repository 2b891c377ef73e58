"""Make a flow a classifier: recipe -> head, loss and training -> a run folder with flow and head.

classifier.json          the card: how to build it; written before the first step
classifier.safetensors   the averaged weights of flow and head, at every checkpoint
measures.json            "classifier": what it knows of the pictures held out, and its flow-matching loss beside that of
                         the flow before
along.jsonl              where it is asked for, the mutual information on some of them at every checkpoint
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from bothways.data.images import Batch
from bothways.data.sources import ImageSet
from bothways.models.adapter import Adapter
from bothways.models.catalogue import CLASSIFIER_CARD
from bothways.models.classifiers import CLASSIFIER_WEIGHTS, flow_in
from bothways.models.loader import load_classifier
from bothways.models.velocity import Flow
from bothways.numerics.intervals import wilson_interval
from bothways.representation.classifier import FlowClassifier
from bothways.representation.flow_matching import flow_matching
from bothways.runs import RunFolder
from bothways.runs.citations import run_citations
from bothways.runs.experiment import measuring
from bothways.runs.files import replace_file
from bothways.tasks.finetune.config import DEFAULT_FINETUNING
from bothways.tasks.finetune.plan import Finetuning, prepare_finetuning
from bothways.training.along import VALIDATION_SEED, measured_along
from bothways.training.checkpoint import SAVE_EVERY, Training, begin_training
from bothways.training.fit import FitState
from bothways.types import Frame

AT_ONCE = 100  # pictures that are looked at together


@dataclass(frozen=True)
class Finetuned:
    """A finished fine-tuning. model: with the averaged weights; frames: one a step; folder: its run folder."""

    model: Adapter
    frames: list[Frame]
    folder: RunFolder


def finetune(
    flow: str | Path | Flow,
    data: str | Path,
    recipe: str = DEFAULT_FINETUNING,
    *,
    out: str | Path = "runs/classifier",
    overwrite: bool = False,
    resume: bool = False,
    device: str = "cpu",
    workers: int = 1,
    save_every: int = SAVE_EVERY,
    tensorboard: bool = False,
    **changes: Any,
) -> Finetuned:
    """Train a head on what a flow makes of pictures, and the flow with it.

        loss = cross-entropy(head(f(x)), label) + beta L_FM,   f: x walked to a depth, the flow's activations, or both

    flow: a run of ``pretrain``, an address, or what ``load_flow`` gave of one; it is left as it is. data: labelled
    pictures, as ``load_images`` takes them. recipe: "prg-small", "prg-activations", "prg-paper" or a .toml file.
    changes: any setting of a recipe, such as kind, depth, steps (of the walk), frozen, fresh, beta, labels,
    train_steps, epochs, batch, rate, layer_decay or seed. workers: processes that make batches ahead.
    Raises UserError for what cannot be, before anything is written; RunError where the loss is not finite.
    Source: PRG, Xue et al. 2024, arXiv 2412.01787, eq. 3.
    """
    plan = prepare_finetuning(flow, data, recipe, device=device, **changes)
    training = begin_finetuning(
        plan, out, overwrite=overwrite, resume=resume, workers=workers, save_every=save_every, tensorboard=tensorboard
    )
    for _ in training.run():
        pass
    return conclude_finetuning(plan, training)


def begin_finetuning(plan: Finetuning, out: str | Path, **how: Any) -> Training:
    """The training of a plan in its run folder; ``how`` as ``begin_training`` has it."""
    state, write = FitState(plan.classifier, plan.fit, plan.factor), partial(write_weights, half=plan.settings.half)
    files, along = (CLASSIFIER_CARD, CLASSIFIER_WEIGHTS), partial(_along, plan, state)
    return begin_training(plan, out, state, plan.batch(), write, files, along, **how)


def write_weights(folder: RunFolder, state: FitState, half: bool = False) -> None:
    """Replace classifier.safetensors by the averaged weights of now."""
    kept = {key: value.detach().cpu().contiguous() for key, value in state.result.state_dict().items()}
    if half:
        kept = {key: value.half() if value.is_floating_point() else value for key, value in kept.items()}
    replace_file(folder.path / CLASSIFIER_WEIGHTS, save(kept))


def _along(plan: Finetuning, state: FitState) -> dict[str, Any]:
    """Of the averaged flow of now, on the first pictures held out."""
    classifier = state.result.eval()
    assert isinstance(classifier, FlowClassifier)
    assert isinstance(classifier.flow, Flow)
    few = replace(plan, held=plan.held.subset(torch.arange(plan.settings.information)))
    return measured_along(classifier.flow, few.held.images, flow_losses(few, classifier.flow))


def conclude_finetuning(plan: Finetuning, training: Training) -> Finetuned:
    """The classifier as it was kept, and what it knows of the pictures held out, in the run folder."""
    folder = training.folder
    plan.processes.by_the_first(partial(_measure, plan, training))
    frames = training.frames
    plan.processes.end()
    return Finetuned(load_classifier(folder.path, device=plan.processes.device), frames, folder)


def _measure(plan: Finetuning, training: Training) -> None:
    folder = training.folder
    with measuring(folder):
        write_weights(folder, training.state, plan.settings.half)
        facts = classifier_facts(plan, load_classifier(folder.path, device=plan.processes.device))
        cited = run_citations(folder.settings, {})
        folder.write_measures({"classifier": facts, "cost": training.cost, "citations": cited})
        folder.finish("complete")


@torch.no_grad()
def classifier_facts(plan: Finetuning, model: Adapter) -> dict[str, Any]:
    """measures["classifier"]: accuracy with its interval, cross-entropy, and L_FM of the flow now and before."""
    settings, held = plan.settings, plan.held
    logits = torch.cat(
        [model.outputs((part.float() / 255).to(model.device)).cpu() for part in held.images.split(AT_ONCE)]
    )
    right = int((logits.argmax(1) == held.labels).sum())
    low, high = wilson_interval(right, len(held))
    now, before = (flow_losses(plan, flow) for flow in (flow_in(model), plan.before))
    change = now - before
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
        "pictures": len(plan.train),
        "kind": settings.kind,
        "depth": settings.walk_depth if settings.kind in ("walked", "both") else None,
        "activation_depth": settings.read_depth if settings.reads_activations else None,
        "layer": settings.layer,
        "beta": settings.beta,
        "frozen": settings.frozen,
        "pretrained": not settings.fresh,
        "trained": plan.trained,
    }


@torch.no_grad()
def flow_losses(plan: Finetuning, flow: Flow) -> Tensor:
    """(N,): L_FM of each picture held out, at noise and times that are the same for every run."""
    size = min(AT_ONCE, len(plan.held))
    batch = plan.pairs(partial(_part, plan.held, size), VALIDATION_SEED)
    parts = (batch(part) for part in range(math.ceil(len(plan.held) / size)))
    return torch.cat([flow_matching(flow, flow.path, *(v.to(flow.mean.device) for v in part)).cpu() for part in parts])


def _part(data: ImageSet, size: int, part: int) -> Batch:
    chosen = data.subset(torch.arange(part * size, min(len(data), (part + 1) * size)))
    return chosen.images.float() / 255, chosen.labels
