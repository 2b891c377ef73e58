"""Linear head: logits = W f + b."""

from __future__ import annotations

from torch import nn

from bothways.registry import register


@register("head", "linear", help="a linear layer, as in a linear probe")
def linear(width_in: int, classes: int) -> nn.Module:
    """A linear layer, (B,D) -> (B,classes)."""
    return nn.Linear(width_in, classes)
