"""A head of one matrix: logits = W f + b, a linear probe."""

from __future__ import annotations

from torch import nn

from bothways.registry import register


@register("head", "linear", help="a matrix and a bias, as a linear probe")
def linear(width_in: int, classes: int) -> nn.Module:
    """(B,D) -> (B,classes)."""
    return nn.Linear(width_in, classes)
