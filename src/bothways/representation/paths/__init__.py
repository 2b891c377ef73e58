"""Paths from noise to an image, as four coefficients of t (0 = noise, 1 = image).

x_t = a(t) image + s(t) noise,   v_t = a'(t) image + s'(t) noise

A path is a function t (B,) -> ``PathWeights``; each is a file here. An attribute ``least_depth`` says how near to the
image its velocity is still finite; a walk begins there.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bothways import registry
from bothways.types import Path, PathWeights, UserError


def path_of(name: Any) -> Path:
    """The path of a name, of PATH.py:NAME, or itself. Raises UserError for one that is not known, or is no path."""
    path: Path = registry.find("path", name).factory
    if name not in registry.names("path"):
        check_path(path)
    return path


def check_path(path: Path) -> None:
    """Raise UserError for what does not give four coefficients like t (B,)."""
    t = torch.tensor([0.25, 0.75])
    weights = registry.call("path", path, t)
    if not isinstance(weights, PathWeights) or any(getattr(weight, "shape", None) != t.shape for weight in weights):
        raise UserError(
            f"path {registry.name_of(path)!r} gives a {type(weights).__name__} for t (B,); return "
            "bothways.types.PathWeights(a, s, da, ds), four tensors (B,)"
        )


def least_depth(path: Path | None) -> float:
    """The depth nearest to the image at which a path's velocity is finite, 0 for most."""
    return float(getattr(path, "least_depth", 0.0))


def interpolate(path: Path, images: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """x_t and v_t, both like ``images`` (B,...); t: (B,)."""
    a, s, da, ds = (weight.view(-1, *[1] * (images.ndim - 1)).to(images.dtype) for weight in path(t))
    return a * images + s * noise, da * images + ds * noise
