"""Variance-preserving path: a = exp(-B(1 - t) / 2), s = sqrt(1 - a^2), B(d) = beta0 d + (beta1 - beta0) d^2 / 2.

Source: Song et al. 2020, arXiv 2011.13456, eq. 33; the depth d = 1 - t is that paper's time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bothways.registry import register
from bothways.types import PathWeights

BETA0, BETA1 = 0.1, 20.0  # as in Song et al. 2020
LEAST_DEPTH = 1e-3  # the path ends at this depth: s' is infinite at the image


@register("path", "vp", help="the variance-preserving diffusion of Song et al.", reference="song2021score")
def vp(t: Tensor) -> PathWeights:
    """Path weights a = exp(-B / 2), s = sqrt(1 - a^2), constant below a depth of LEAST_DEPTH."""
    depth = (1 - t).clamp_min(LEAST_DEPTH)
    area = BETA0 * depth + (BETA1 - BETA0) * depth.square() / 2
    a, s = torch.exp(-area / 2), torch.sqrt(-torch.expm1(-area))
    da = a * (BETA0 + (BETA1 - BETA0) * depth) / 2
    return PathWeights(a, s, da, -a * da / s)


vp.least_depth = LEAST_DEPTH  # type: ignore[attr-defined]
