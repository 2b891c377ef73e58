"""Probability paths between noise and images, as four coefficients of t (0 = noise, 1 = image).

x_t = a(t) image + s(t) noise,   v_t = a'(t) image + s'(t) noise

A path is a function t (B,) -> ``PathWeights``; each is a file here. Its attribute ``least_depth``, if any, is the
smallest depth 1 - t with a finite velocity, at which a walk begins.
"""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor

from bothways import registry
from bothways.faults import call
from bothways.types import Path, PathWeights, UserError

STEP = 1e-3  # of t, between which slopes are taken
NEAR = 1e-2  # difference of a slope and a stated one, in units of 1 + slope, that single precision may make


def path_of(name: Any) -> Path:
    """Path from a name, PATH.py:NAME or a callable. Raises UserError for an unknown name, or what is no path."""
    path: Path = registry.find("path", name).factory
    if name not in registry.names("path"):
        check_path(path)
    return path


def check_path(path: Path) -> None:
    """Raise UserError unless the path returns four coefficients shaped like t (B,)."""
    t = torch.tensor([0.25, 0.75])
    weights = call("path", path, t, kept=True)
    if not isinstance(weights, PathWeights) or any(getattr(weight, "shape", None) != t.shape for weight in weights):
        raise UserError(
            f"path {registry.name_of(path)!r} gives a {type(weights).__name__} for t (B,); return "
            "bothways.types.PathWeights(a, s, da, ds), four tensors (B,)"
        )
    if not all(weight.is_floating_point() and bool(torch.isfinite(weight).all()) for weight in weights):
        raise UserError(
            f"path {registry.name_of(path)!r} gives values that are not finite for t = 0.25 and 0.75; mend it"
        )
    _check_course(path, registry.name_of(path))


def _check_course(path: Path, name: str) -> None:
    """Raise UserError where the image is at t = 0, and warn where da and ds are no derivatives of a and s.

    A path that looks its weights up in a table has slopes that are steps, so that these are not refused.
    """
    t = torch.tensor([0.25, 0.75], dtype=torch.float64)
    before, here, after = (call("path", path, t + step, kept=True) for step in (-STEP, 0.0, STEP))
    for letter, low, high, stated in zip("as", before[:2], after[:2], here[2:], strict=True):
        slope = (high - low).double() / (2 * STEP)
        wrong = (slope - stated).abs() > NEAR * (1 + slope.abs())
        if bool(wrong.any()):
            place = int(wrong.nonzero()[0])
            warnings.warn(
                f"path {name!r}: d{letter} is {float(stated[place]):.4g} at t = {float(t[place]):g}, where {letter} "
                f"has the slope {float(slope[place]):.4g}; return PathWeights(a, s, da/dt, ds/dt)",
                stacklevel=4,
            )
    shares = here.a.abs() / (here.a.abs() + here.s.abs())  # of the image
    if not float(shares[1]) > float(shares[0]):
        raise UserError(
            f"path {name!r} has more of the image at t = 0.25 than at 0.75; t = 0 is noise and t = 1 the image, "
            "x_t = a image + s noise"
        )


def least_depth(path: Path | None) -> float:
    """Smallest depth 1 - t at which a path's velocity is finite; 0 for most."""
    return float(getattr(path, "least_depth", 0.0))


def interpolate(path: Path, images: Tensor, noise: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Interpolant x_t and its velocity v_t, both like ``images`` (B,...); t: (B,)."""
    a, s, da, ds = (weight.view(-1, *[1] * (images.ndim - 1)).to(images.dtype) for weight in path(t))
    return (a * images).add_(s * noise), (da * images).add_(ds * noise)  # a tensor less each: new ones cost the most
