"""Image parameterizations: a map from parameters to a canvas, then a squash into [0, 1].

    image = squash(start + canvas(parameters)),   parameters = 0 at the start

A canvas of the registry is a record of settings whose ``build`` returns a ``types.Parameterization``; each is a file
here. A custom one is such a record, or a function (start image (B,3,H,W)) -> Parameterization.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, PlainSerializer
from torch import Tensor

from bothways import registry
from bothways.brief import shown
from bothways.configs import Config, recorded, validated
from bothways.faults import call, check_takes
from bothways.numerics.draws import Draws
from bothways.numerics.spectra import Spectrum
from bothways.synthesis.parameterizations.squash import Squash
from bothways.types import Parameterization, UserError


def _measured(given: Any) -> Any:
    if given is None or isinstance(given, str | Spectrum):
        return given
    if isinstance(given, Path):
        return str(given)
    raise UserError(f"spectrum {shown(given)}: type a file of bothways spectrum or a name, or give a Spectrum")


Measured = Annotated[Any, BeforeValidator(_measured), PlainSerializer(recorded)]
"""Type of a field that takes a spectrum: a name, a file, or from Python a Spectrum."""


@dataclass(frozen=True)
class CanvasContext:
    """Inputs of a canvas.

    squash: its map to [0, 1]. side: the shorter one of the picture in it, in pixels. spectrum: reads one by its name.
    draws: of the pictures.
    """

    squash: Squash
    side: int
    spectrum: Callable[[Any], Spectrum]
    draws: Draws


class Canvas(Config):
    """Base class of canvas settings. start_for_grey: the initial image that replaces start="grey"."""

    start_for_grey: ClassVar[str] = "grey"

    def build(self, start: Tensor, place: CanvasContext) -> Parameterization:
        """Build the parameterization with initial image ``start``, (B,3,H,W) in [0,1]."""
        raise UserError(f"canvas {type(self).__name__!r} has no build(self, start, place); write one")

    def shared_bytes(self, high: int, wide: int) -> float:
        """Bytes that canvases of high x wide pixels take once, however many pictures there are."""
        return 0.0


def free(held: Parameterization, cut: float) -> list[Tensor] | None:
    """For each parameter where waves of at most ``cut`` cycles per pixel are: 1 there, 0 elsewhere, broadcastable.

    None for a parameterization whose parameters hold waves of all lengths, such as pixels.
    """
    own = getattr(held, "free", None)
    return None if own is None else own(cut)


class Around:
    """Base of what shows the picture of another parameterization, ``inner``, otherwise: the parameters are its own."""

    def __init__(self, inner: Parameterization) -> None:
        self.inner = inner

    @property
    def start(self) -> Tensor:
        """Initial canvas (B,3,H,W), before the squash."""
        return self.inner.start  # type: ignore[attr-defined]

    @property
    def linear_only(self) -> bool:
        return getattr(self.inner, "linear_only", False)

    def free(self, cut: float) -> list[Tensor] | None:
        return free(self.inner, cut)

    def parameters(self) -> list[Tensor]:
        return self.inner.parameters()


def canvas_settings(kind: Any, settings: Mapping[str, Any]) -> Canvas | None:
    """Settings of a canvas from a name, PATH.py:NAME or class; None for a function. Raises UserError if invalid."""
    made = registry.find("canvas", kind).factory
    if isinstance(made, type) and issubclass(made, Canvas):
        return validated(made, settings)
    if settings:
        raise UserError(f"canvas {registry.name_of(kind)!r} is a function and has no setting {next(iter(settings))!r}")
    return None


def build_canvas(kind: Any, settings: Mapping[str, Any], start: Tensor, place: CanvasContext) -> Parameterization:
    """Build a canvas of a kind with its settings and initial image."""
    canvas, name = canvas_settings(kind, settings), registry.name_of(kind)
    if canvas is None:
        built = call("canvas", registry.find("canvas", kind).factory, start)
    else:
        check_takes("canvas", f"{name}.build", canvas.build, "start", "place")
        built = canvas.build(start, place)
    if kind not in registry.names("canvas"):
        _check(built, start, name)
    return built


def _check(built: Any, start: Tensor, name: str) -> None:
    """Raise UserError for what is no parameterization of pictures like ``start``, or has no gradient."""
    lacks = [part for part in ("parameters", "canvas", "image") if not callable(getattr(built, part, None))]
    if lacks:
        raise UserError(
            f"canvas {name!r} gives a {type(built).__name__} without {lacks[0]}(); return a Parameterization"
        )
    image, held = call("canvas", built.image), call("canvas", built.parameters)
    tensors = isinstance(held, list | tuple) and all(isinstance(one, Tensor) and one.requires_grad for one in held)
    if not (tensors and held):
        raise UserError(f"canvas {name!r}: parameters() gives no list of tensors that require a gradient; return some")
    if not isinstance(image, Tensor) or image.shape != start.shape or not image.requires_grad:
        what = f"a tensor {tuple(image.shape)}" if isinstance(image, Tensor) else f"a {type(image).__name__}"
        raise UserError(
            f"canvas {name!r}: image() gives {what} for {tuple(start.shape)}; return pictures like the start, with a "
            "gradient in the parameters"
        )
