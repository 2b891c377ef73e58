"""How the pictures of an ascent are held: a map to a canvas, then a squash into [0, 1].

    image = squash(start + canvas(parameters)),   parameters = 0 at the start

A canvas of the registry is a record of settings whose ``build`` gives a ``types.Parameterization``; each is a file
here. One of your own is such a record, or a function (start image (B,3,H,W)) -> Parameterization.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from bothways import registry
from bothways.configs import Config, validated
from bothways.numerics.spectra import Spectrum
from bothways.synthesis.parameterizations.squash import Squash
from bothways.types import Parameterization, UserError


@dataclass(frozen=True)
class CanvasContext:
    """Where a canvas is built: its squash, pixels of the shorter side of the picture in it, and who reads spectra."""

    squash: Squash
    side: int
    spectrum: Callable[[str | None], Spectrum]


class Canvas(Config):
    """The settings of a canvas. start_for_grey: what the picture starts from where it is told to start grey."""

    start_for_grey: ClassVar[str] = "grey"

    def build(self, start: Tensor, place: CanvasContext) -> Parameterization:
        """The parameterization of pictures that start at ``start``, (B,3,H,W) in [0,1]."""
        raise NotImplementedError


def canvas_settings(kind: Any, settings: Mapping[str, Any]) -> Canvas | None:
    """The settings of a canvas by name, PATH.py:NAME or class; None for a function. Raises UserError."""
    made = registry.find("canvas", kind).factory
    if isinstance(made, type) and issubclass(made, Canvas):
        return validated(made, settings)
    if settings:
        raise UserError(f"canvas {registry.name_of(kind)!r} is a function and has no setting {next(iter(settings))!r}")
    return None


def build_canvas(kind: Any, settings: Mapping[str, Any], start: Tensor, place: CanvasContext) -> Parameterization:
    """A canvas with its settings at a start."""
    canvas = canvas_settings(kind, settings)
    return registry.find("canvas", kind).factory(start) if canvas is None else canvas.build(start, place)
