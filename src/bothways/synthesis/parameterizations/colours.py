"""Colours in which the parameters of a canvas are held.

    canvas = A planes,   A = axes / (their largest norm),   axes axes^T = covariance of the colours of pictures

The red, green and blue of photographs rise and fall together. A step on RGB moves colours as far as lightness; one on
planes multiplies the gradient along each principal axis by the variance of photographs along it, 1 for the largest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from bothways.numerics.spectra import Spectrum
    from bothways.synthesis.parameterizations import CanvasContext

RGB, LUCID = "rgb", "lucid"
LUCID_COLOUR = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))  # root of ImageNet's colour covariance
NAMES = "rgb, lucid (ImageNet's by lucid), bundled:natural, bundled:photographs, or a file of bothways spectrum"


def axes_of(colours: str | Spectrum, place: CanvasContext) -> Tensor | None:
    """Colour axes (3,3), RGB x axis, of a Spectrum or by their name, one of ``NAMES``; None for RGB."""
    if colours == RGB:
        return None
    return torch.tensor(LUCID_COLOUR) if colours == LUCID else place.spectrum(colours).axes()


def scaled(axes: Tensor | None, like: Tensor) -> Tensor | None:
    """Axes divided by their largest norm, with the dtype and device of ``like``; None for RGB."""
    if axes is None:
        return None
    kind: dict[str, Any] = {"dtype": like.dtype, "device": like.device}
    root = axes.to(**kind)
    return root / root.norm(dim=0).max().clamp_min(1e-12)  # of one colour alone: nothing moves


def coloured(planes: Tensor, axes: Tensor | None) -> Tensor:
    """RGB (B,3,H,W) of planes along colour axes, (B,3,H,W)."""
    return planes if axes is None else torch.einsum("ck,bkhw->bchw", axes, planes)
