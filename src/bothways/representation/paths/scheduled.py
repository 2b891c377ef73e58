"""Path of a discrete diffusion noise schedule. Source: Ho, Jain & Abbeel 2020, arXiv 2006.11239, eq. 4."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bothways.types import Path, PathWeights


def scheduled(products: Sequence[float] | Tensor) -> Path:
    """Path of a discrete diffusion noise schedule, with log a linear in t between its levels.

    products: (K,), prod(1 - beta_i) of level k = 0 (nearly the image) .. K-1 (nearly noise); a^2 is its value at
    t = 1 - k / (K - 1), and a^2 + s^2 = 1. Source: Ho et al. 2020, arXiv 2006.11239, eq. 4.
    """
    logs = torch.as_tensor(products, dtype=torch.float64).log() / 2
    last = len(logs) - 1

    def path(t: Tensor) -> PathWeights:
        place = ((1 - t.double()) * last).clamp(0, last)
        low = place.floor().clamp(max=last - 1)
        table = logs.to(t.device)
        below = table[low.long()]
        slope = table[low.long() + 1] - below
        log_a = below + slope * (place - low)
        a, s = log_a.exp(), torch.sqrt(-torch.expm1(2 * log_a))
        da = -last * slope * a
        return PathWeights(*(value.to(t.dtype) for value in (a, s, da, -a * da / s)))

    return path
