"""What a head predicts, and its loss: a class, several labels, or numbers.

class         -sum_k w_k q_k log softmax(o)_k                              q: one class, smoothed, or mixed
multi-label   -mean_k [y_k log sigmoid(o_k) + (1 - y_k) log(1 - sigmoid(o_k))]
regression    mean_k ((o_k - y_k) / s_k)^2,   o = m + s head(f)             m, s: of the training pictures

Each is a mean over the pictures of a batch, so that equal parts of a batch have it as the mean of theirs.
"""

from __future__ import annotations

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

CLASS, SEVERAL, NUMBERS = "class", "multi-label", "regression"
Stats = dict[str, Tensor]


def said(outputs: Tensor, target: str) -> Tensor:
    """What outputs (B,K) say, float64 on the CPU: the probability of each class or label, or the numbers themselves."""
    values = outputs.cpu().double()
    if target == NUMBERS:
        return values
    return values.sigmoid() if target == SEVERAL else values.softmax(1)


class Ranked(NamedTuple):
    """values and indices, each (..., count)."""

    values: Tensor
    indices: Tensor


def largest(values: Tensor, count: int) -> Ranked:
    """The ``count`` largest along the last dimension, or all if fewer; of equal values the first counts as larger.

    So do max and the top-5 accuracy (judging/tally.py); the order that torch.topk gives to equal values is undefined.
    """
    ranked = values.sort(dim=-1, descending=True, stable=True)
    return Ranked(ranked.values[..., :count], ranked.indices[..., :count])


def class_loss(logits: Tensor, labels: Tensor, smoothing: float, weights: Tensor | None) -> tuple[Tensor, Stats]:
    """logits (B,K), labels (B,) or shares of classes (B,K), weights (K,) or None."""
    if weights is None:
        loss = F.cross_entropy(logits, labels, label_smoothing=smoothing)
    else:
        each = F.cross_entropy(logits, labels, weights.to(logits), label_smoothing=smoothing, reduction="none")
        loss = each.mean()
    right = logits.argmax(1) == (labels if labels.ndim == 1 else labels.argmax(1))
    return loss, {"cross_entropy": loss, "accuracy": right.float().mean()}


def several_loss(logits: Tensor, labels: Tensor, smoothing: float) -> tuple[Tensor, Stats]:
    """logits and labels (B,K), labels in [0,1]; smoothing moves them towards 1/2."""
    loss = F.binary_cross_entropy_with_logits(logits, labels * (1 - smoothing) + smoothing / 2)
    right = (logits > 0) == (labels > 0.5)
    return loss, {"binary_cross_entropy": loss, "labels_right": right.float().mean()}


def numbers_loss(outputs: Tensor, values: Tensor, scale: Tensor) -> tuple[Tensor, Stats]:
    """outputs and values (B,K), scale (K,): the standard deviation of each over the training pictures."""
    loss = ((outputs - values) / scale).square().mean()
    return loss, {"scaled_mse": loss}
