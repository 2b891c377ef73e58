"""Paths from noise to an image, as four coefficients of t (0 = noise, 1 = image).

x_t = a(t) image + s(t) noise,   v_t = a'(t) image + s'(t) noise

A path is a function t (B,) -> ``PathWeights``; each is a file here. An attribute ``least_depth`` says how near to the
image its velocity is still finite; a walk begins there.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from bothways import registry
from bothways.types import Path


def path_of(name: Any) -> Path:
    """The path of a name, of PATH.py:NAME, or itself. Raises UserError for one that is not known."""
    return registry.find("path", name).factory


def least_depth(path: Path | None) -> float:
    """The depth nearest to the image at which a path's velocity is finite, 0 for most."""
    return float(getattr(path, "least_depth", 0.0))


def interpolate(path: Path, images: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """x_t and v_t, both like ``images`` (B,...); t: (B,)."""
    a, s, da, ds = (weight.view(-1, *[1] * (images.ndim - 1)).to(images.dtype) for weight in path(t))
    return a * images + s * noise, da * images + ds * noise
