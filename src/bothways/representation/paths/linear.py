"""Linear path: a = t,   s = 1 - t.   Lipman et al. 2022, arXiv 2210.02747."""

from __future__ import annotations

import torch
from torch import Tensor

from bothways.registry import register
from bothways.types import PathWeights


@register("path", "linear", help="a = t, s = 1 - t: straight lines at even speed", reference="flow")
def linear(t: Tensor) -> PathWeights:
    """Path weights a = t, s = 1 - t."""
    one = torch.ones_like(t)
    return PathWeights(t, 1 - t, one, -one)
