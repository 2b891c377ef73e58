"""Spectrum, symmetry, contrast and collapse of images (``numerics.measures``), in the order of measures.json."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from bothways.numerics import measures
from bothways.registry import register


@register("judge", "spectrum", help="power by frequency, and its slope on logarithmic axes")
def spectrum(images: Tensor) -> dict[str, Any]:
    """Mean spectral slope and mean power spectrum; both None if every picture is constant, or too small for one."""
    if min(images.shape[-2:]) < measures.SPECTRUM_FROM:
        return {"spectrum_slope": None, "spectrum": None}
    slope, (frequency, power) = measures.spectrum_slope(images), measures.mean_spectrum(images)
    flat = math.isnan(slope)
    curve = {"frequency": frequency.tolist(), "power": power.tolist()}
    return {"spectrum_slope": None if flat else slope, "spectrum": None if flat else curve}


@register("judge", "symmetry", help="correlation with the mirror image, left to right")
def symmetry(images: Tensor) -> dict[str, float]:
    """Mean correlation of pictures with their mirror image."""
    return {"flip_symmetry": float(measures.flip_symmetry(images).mean())}


@register("judge", "contrast", help="standard deviation over the pixels of a picture")
def contrast(images: Tensor) -> dict[str, float]:
    """Mean over pictures of the standard deviation over pixels."""
    return {"pixel_std": float(measures.pixel_std(images).mean())}


@register("judge", "collapse", help="share of pictures that became a flat field")
def collapse(images: Tensor) -> dict[str, float]:
    """Share of pictures, 0 to 1, that collapsed to a flat field."""
    return {"collapsed": measures.collapsed_share(images)}
