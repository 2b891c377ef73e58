"""Cosine-timed straight path: a = (1 - cos(pi t)) / 2,   s = 1 - a, at rest at both ends.

The velocity a' (data - noise) is zero at both ends, so that even steps of t are shortest there.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bothways.registry import register
from bothways.types import PathWeights


@register("path", "cosine", help="a = (1 - cos(pi t)) / 2, s = 1 - a: straight lines, slow at both ends")
def cosine(t: Tensor) -> PathWeights:
    """Path weights a = (1 - cos(pi t)) / 2, s = 1 - a."""
    a, slope = (1 - torch.cos(math.pi * t)) / 2, math.pi / 2 * torch.sin(math.pi * t)
    return PathWeights(a, 1 - a, slope, -slope)
