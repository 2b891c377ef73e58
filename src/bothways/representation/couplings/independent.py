"""Independent coupling: images and noise paired at random."""

from __future__ import annotations

import torch
from torch import Tensor

from bothways.registry import register


@register("coupling", "independent", help="independent noise")
def independent(images: Tensor, noise: Tensor) -> Tensor:
    """The identity permutation, (B,) int64."""
    return torch.arange(len(images))
