"""Probability paths between noise and images, as four coefficients of t (0 = noise, 1 = image).

x_t = a(t) image + s(t) noise,   v_t = a'(t) image + s'(t) noise

A path is a function t (B,) -> ``PathWeights``; each is a file here. Its attribute ``least_depth``, if any, is the
smallest depth 1 - t with a finite velocity, at which a walk begins.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bothways import registry
from bothways.types import Path


def path_of(name: Any) -> Path:
    """Path from a name, PATH.py:NAME or a callable. Raises UserError for an unknown name."""
    return registry.find("path", name).factory


def least_depth(path: Path | None) -> float:
    """Smallest depth 1 - t at which a path's velocity is finite; 0 for most."""
    return float(getattr(path, "least_depth", 0.0))


def interpolate(path: Path, images: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Interpolant x_t and its velocity v_t, both like ``images`` (B,...); t: (B,)."""
    a, s, da, ds = (weight.view(-1, *[1] * (images.ndim - 1)).to(images.dtype) for weight in path(t))
    return a * images + s * noise, da * images + ds * noise
