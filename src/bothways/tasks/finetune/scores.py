"""What a fine-tuned model scores on held-out pictures, for measures["classifier"], and its loss on them."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bothways.data.sources import ImageSet
from bothways.models.adapter import Adapter
from bothways.models.classifiers import flow_in
from bothways.models.velocity import Flow
from bothways.numerics.intervals import wilson_interval
from bothways.numerics.modules import evaluating
from bothways.numerics.scores import RANKING, REGRESSION, scored
from bothways.progress import counted
from bothways.representation.tuning.targets import CLASS, NUMBERS
from bothways.tasks.finetune.plan import Finetuning
from bothways.training.along import losses_of

AT_ONCE = 100  # pictures per batch of the evaluation


def losses(planned: Finetuning, flow: Flow, held: ImageSet) -> Tensor:
    """Flow-matching loss of each held-out picture, (N,)."""
    return losses_of(flow, held, planned.pairs, AT_ONCE)


@torch.no_grad()
def held_loss(planned: Finetuning, classifier: nn.Module) -> float:
    """The loss of the target on the held-out pictures, without the flow's own, smoothing and weights."""
    device = planned.before.mean.device
    total = 0.0
    for images, labels in zip(
        *(part.split(AT_ONCE) for part in (planned.held.images, planned.held.labels)), strict=True
    ):
        x = images.to(device) if images.is_floating_point() else planned.before.code((images.float() / 255).to(device))
        total += len(x) * float(planned.plain_loss(classifier, (x, labels.to(device))))
    return total / len(planned.held)


def _outputs(model: Adapter, part: Tensor) -> Tensor:
    """Outputs of pictures (B,3,H,W) uint8, or of latents (B,C,h,w), which are at the classifier's own entrance."""
    if not part.is_floating_point():
        return model.outputs((part.float() / 255).to(model.device))
    with evaluating(model.module):
        return model.module.classifier(part.to(model.device))  # type: ignore[operator]


@torch.no_grad()
def classifier_facts(planned: Finetuning, model: Adapter) -> dict[str, Any]:
    """The scores with intervals, the flow-matching loss after and before, and what was read and trained."""
    config, held = planned.config, planned.held
    outputs = torch.cat([_outputs(model, part).cpu() for part in counted(held.images.split(AT_ONCE), "accuracy")])
    now, before = (losses(planned, flow, held) for flow in (flow_in(model), planned.before))
    change, read = now - before, config.features
    return {
        **(_of_classes(outputs, held.labels) if config.target == CLASS else _of_others(planned, outputs)),
        "n": len(held),
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
        "tune": config.tune,
        "parameters": planned.parameters,
        "target": config.target,
    }


def _of_classes(logits: Tensor, labels: Tensor) -> dict[str, Any]:
    right = int((logits.argmax(1) == labels).sum())
    low, high = wilson_interval(right, len(labels))
    loss = F.cross_entropy(logits, labels).item()
    return {"accuracy": right / len(labels), "low": low, "high": high, "cross_entropy": loss}


def _of_others(planned: Finetuning, outputs: Tensor) -> dict[str, Any]:
    """{"scores": a row for each score and output: score, output ("mean" over all first), value, low, high}."""
    chosen = REGRESSION if planned.config.target == NUMBERS else RANKING
    names = planned.classes if isinstance(planned.classes, tuple) else tuple(map(str, range(planned.classes)))
    rows = [
        {"score": score, "output": output, **{key: None if math.isnan(v) else v for key, v in one._asdict().items()}}
        for score, found in scored(outputs, planned.held.labels, chosen).items()
        for output, one in zip(("mean", *names), found, strict=True)
    ]
    return {"scores": rows}
