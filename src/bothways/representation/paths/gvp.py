"""Generalised variance-preserving (trigonometric) path: a = sin(pi t / 2),   s = cos(pi t / 2),   a^2 + s^2 = 1.

Source: Albergo, Boffi & Vanden-Eijnden 2023, arXiv 2303.08797.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bothways.registry import register
from bothways.types import PathWeights


@register("path", "gvp", help="a = sin(pi t / 2), s = cos(pi t / 2): variance-preserving", reference="gvp")
def gvp(t: Tensor) -> PathWeights:
    """Path weights a = sin(pi t / 2), s = cos(pi t / 2)."""
    half = math.pi / 2
    a, s = torch.sin(half * t), torch.cos(half * t)
    return PathWeights(a, s, half * s, -half * a)
