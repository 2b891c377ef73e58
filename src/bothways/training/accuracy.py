"""Accuracy on held-out pictures during a training: of a classifier, or of a linear probe on a flow's features.

    {"accuracy" or "probe": {"value", "low", "high", "n"}}      low, high: Wilson's 95 % interval over n pictures

The probe is fitted on every other held-out picture and tested on the rest: on the activations of the middle of a
bothways U-Net at depth .1, or, for any other network, on pictures walked to depth .5 in five Euler steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bothways.data.sources import ImageSet
from bothways.models.velocity import Flow
from bothways.numerics.intervals import wilson_interval
from bothways.numerics.probes import check_sklearn, linear
from bothways.progress import counted
from bothways.representation.activations import middle_layer
from bothways.representation.features import Features, features
from bothways.types import UserError

AT_ONCE = 100  # pictures per batch
DEPTH = 0.1  # of the activations


@torch.no_grad()
def held_out_accuracy(logits: Callable[[Tensor], Tensor], held: ImageSet) -> dict[str, Any]:
    """{"accuracy": ...} of a classifier. logits: pictures (B,3,H,W) in [0,1], or latents, -> (B,K)."""
    parts = counted(held.images.split(AT_ONCE), "accuracy")
    inputs = (part if part.is_floating_point() else part.float() / 255 for part in parts)
    predicted = torch.cat([logits(part).argmax(1).cpu() for part in inputs])
    return {"accuracy": _share(predicted, held.labels)}


@torch.no_grad()
def probe_accuracy(flow: Flow, held: ImageSet) -> dict[str, Any]:
    """{"probe": ...} of a flow."""
    how, device = probed(flow), flow.mean.device
    parts = counted(held.images.split(AT_ONCE), "features of held-out pictures")
    rows = [features(flow, flow.path, flow.code((part.float() / 255).to(device)), how).cpu() for part in parts]
    found = torch.cat(rows).float()
    fitted = linear(found[::2], held.labels[::2], found[1::2])
    return {"probe": _share(fitted.predictions, held.labels[1::2])}


def probed(flow: Flow) -> Features:
    """The features that the probe reads."""
    try:
        return Features("activations", layers=(middle_layer(flow),), activation_depth=DEPTH)
    except UserError:  # of another network: which of its layers is the middle one is not known
        return Features("walked")


def check_probe(held: ImageSet, data: str) -> None:
    """Raise UserError where no probe can be fitted: without labels of two classes, or without scikit-learn."""
    if unlabelled := int((held.labels < 0).sum()):
        told = "has no labels" if unlabelled == len(held) else f"has {unlabelled} held-out pictures without a label"
        raise UserError(f"--probe-every: data {data!r} {told}; leave it out, or type labelled pictures")
    if len(held.labels[::2].unique()) < 2:
        raise UserError(f"--probe-every: {len(held)} held-out pictures are of one class; type a larger --validation")
    check_sklearn()


def _share(predicted: Tensor, labels: Tensor) -> dict[str, Any]:
    right, n = int((predicted == labels).sum()), len(labels)
    low, high = wilson_interval(right, n)
    return {"value": right / n, "low": low, "high": high, "n": n}
