"""Paths from noise to an image, as four coefficients of t (0 = noise, 1 = image).

x_t = a(t) image + s(t) noise,   v_t = a'(t) image + s'(t) noise

    linear   a = t                  s = 1 - t                 Lipman et al. 2022, arXiv 2210.02747
    gvp      a = sin(pi t / 2)      s = cos(pi t / 2)         Albergo et al. 2023, arXiv 2303.08797 (generalised
                                                              variance-preserving, a^2 + s^2 = 1)
    vp       a = exp(-B(1-t) / 2)   s = sqrt(1 - a^2)         Song et al. 2020, arXiv 2011.13456, eq. 33:
             B(d) = beta0 d + (beta1 - beta0) d^2 / 2         the depth d = 1 - t is that paper's time
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from bothways.types import Path, PathWeights, UserError

BETA0, BETA1 = 0.1, 20.0  # of the variance-preserving path, as in Song et al. 2020
LEAST_DEPTH = 1e-3  # where the variance-preserving path stops short of the image: s' is infinite there


def linear(t: Tensor) -> PathWeights:
    """a = t, s = 1 - t."""
    one = torch.ones_like(t)
    return PathWeights(t, 1 - t, one, -one)


def gvp(t: Tensor) -> PathWeights:
    """a = sin(pi t / 2), s = cos(pi t / 2)."""
    half = math.pi / 2
    a, s = torch.sin(half * t), torch.cos(half * t)
    return PathWeights(a, s, half * s, -half * a)


def vp(t: Tensor) -> PathWeights:
    """a = exp(-B / 2), s = sqrt(1 - a^2); held at a depth of LEAST_DEPTH nearer to the image than that."""
    depth = (1 - t).clamp_min(LEAST_DEPTH)
    area = BETA0 * depth + (BETA1 - BETA0) * depth.square() / 2
    a, s = torch.exp(-area / 2), torch.sqrt(-torch.expm1(-area))
    da = a * (BETA0 + (BETA1 - BETA0) * depth) / 2
    return PathWeights(a, s, da, -a * da / s)


def scheduled(products: Sequence[float] | Tensor) -> Path:
    """The path of a discrete diffusion schedule, between whose levels log a is linear in t.

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


PATHS: dict[str, Path] = {"linear": linear, "gvp": gvp, "vp": vp}


def path_of(name: str) -> Path:
    """The path of a name. Raises UserError for one that is not known."""
    if name not in PATHS:
        raise UserError(f"path {name!r} is not known; type one of {', '.join(PATHS)}")
    return PATHS[name]


def interpolate(path: Path, images: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """x_t and v_t, both like ``images`` (B,...); t: (B,)."""
    a, s, da, ds = (weight.view(-1, *[1] * (images.ndim - 1)).to(images.dtype) for weight in path(t))
    return a * images + s * noise, da * images + ds * noise
