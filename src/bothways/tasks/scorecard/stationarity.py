"""Whether the parameters are where weight decay leaves them: the step from eq. 9 to eq. 10 of the DSF paper.

    eq. 9     lambda theta = - sum_i grad_theta l(x_i)     at a minimum of sum_i l(x_i) + lambda/2 ||theta||^2
    measured  cos(-theta, sum_i grad_theta l(x_i))         1 where eq. 9 holds for these pictures, 0 where nothing does

The score rests on it: a picture is called real if its own gradient lies near -theta. A random direction has cosine 0
with a standard deviation of 1/sqrt(P), P parameters. The model is in eval mode.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bothways.numerics.intervals import jackknife_interval
from bothways.progress import counted
from bothways.synthesis.dsf.surrogates import Named, global_norm, inner, squared_distance
from bothways.types import TrainedModel

BLOCKS = 10  # of pictures, each left out in turn for the interval
STAGE = "gradients of the loss in the parameters"
LABELLED, PREDICTED, AUGMENTED = "cross-entropy, labels", "cross-entropy, predicted classes", "l_aug (mirrored, logits)"


def step_rows(model: TrainedModel, images: Tensor, labels: Tensor | None) -> list[dict[str, Any]]:
    """{"loss", "cosine": Estimate, "chance"} for the cross-entropy and for the paper's l_aug, summed over images.

    images: (N,3,H,W) in [0,1], N >= 2. labels: (N,) outputs of the model, or None: the predicted classes. The interval
    is a jackknife over at most 10 blocks of pictures. chance: 1/sqrt(P). A model without classes has l_aug alone.
    """
    theta = dict(model.parameters())
    blocks = [part.tolist() for part in torch.arange(len(images)).chunk(min(BLOCKS, len(images)))]
    losses = [AUGMENTED]
    if model.spec.count:
        losses = [LABELLED if labels is not None else PREDICTED, AUGMENTED]
    sums: dict[str, list[Named]] = {loss: [] for loss in losses}
    for block in counted(blocks, STAGE):
        for loss in losses:
            parts = [
                loss_gradient(model, loss, images[i : i + 1], None if labels is None else labels[i]) for i in block
            ]
            sums[loss].append({name: torch.stack([part[name] for part in parts]).sum(0) for name in theta})
    chance = sum(value.numel() for value in theta.values()) ** -0.5
    return [{"loss": loss, "cosine": _cosine(theta, found), "chance": chance} for loss, found in sums.items()]


def loss_gradient(model: TrainedModel, loss: str, image: Tensor, label: Tensor | None) -> Named:
    """grad_theta of one loss of one picture (1,3,H,W), {name: like the parameter}."""
    with torch.no_grad():
        target = model.outputs(image)
    with torch.enable_grad():
        theta = {name: value.detach().requires_grad_() for name, value in model.parameters().items()}
        seen = image.flip(-1) if loss == AUGMENTED else image
        outputs = model.features_with(theta, seen, ["outputs"])["outputs"]
        if loss == AUGMENTED:
            value = squared_distance(outputs, target).sum()
        else:
            value = F.cross_entropy(outputs, target.argmax(1) if label is None else label.view(1).to(outputs.device))
        found = torch.autograd.grad(value, list(theta.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(theta, found, strict=True))


def _cosine(theta: Named, blocks: list[Named]) -> Any:
    """cos(-theta, sum of the blocks), with its jackknife interval."""
    whole = {name: torch.stack([block[name] for block in blocks]).sum(0) for name in theta}

    def cosine(g: Named) -> float:
        return float(
            -inner(g, theta) / (global_norm(g) * global_norm(theta)).clamp_min(torch.finfo(torch.float32).tiny)
        )

    without = [cosine({name: whole[name] - block[name] for name in theta}) for block in blocks]
    return jackknife_interval(cosine(whole), without)
