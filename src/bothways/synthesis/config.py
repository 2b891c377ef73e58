"""Settings of image synthesis: canvas, views, ascent, terms. Free of torch, since help pages import it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, PlainSerializer, SerializerFunctionWrapHandler, model_serializer

from bothways.brief import shown
from bothways.configs import Config, chosen, recorded, setting
from bothways.types import UserError

RANK = 64  # principal directions kept of a model's statistics over real pictures


class OpenConfig(Config):
    """A part that also accepts the settings of the registry entry chosen in it."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False, arbitrary_types_allowed=True)

    @property
    def own(self) -> dict[str, Any]:
        """Settings of the chosen registry entry: the fields that this record does not define."""
        return dict(self.__pydantic_extra__ or {})

    @model_serializer(mode="wrap")
    def _recorded(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """What a recipe records: of what Python holds in an entry's settings, the name."""
        return handler(self) | {name: _as_recorded(value) for name, value in self.own.items()}


def _as_recorded(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return recorded(value)
    kind = value.get("kind")
    settings = vars(kind) if is_dataclass(kind) and not isinstance(kind, type) else {}  # a view with its settings
    return {name: _as_recorded(inner) for name, inner in {**value, **settings}.items()}


def _pictures(given: Any) -> Any:
    if isinstance(given, int | float | Mapping):
        raise UserError(f"canvas.start_photo={shown(given)}; type a file or a folder, or give pictures")
    return given


Photos = Annotated[Any, BeforeValidator(_pictures), PlainSerializer(recorded)]


class CanvasConfig(OpenConfig):
    """Image parameterization and initialisation. Lengths below 1 are shares of the side, others pixels."""

    kind: chosen("canvas") = setting("stack", "image parameterization")  # type: ignore[valid-type]
    size: int | None = setting(None, "pixels of a side; default is the model's size", ge=1, common=True)
    border: float = setting(0.0, "margin of the canvas on each side (share or pixels)", ge=0)
    squash: Literal["tanh", "clamp"] = setting("tanh", "map of the canvas to [0, 1]: tanh or clamp")
    start: Literal["grey", "noise", "low-noise", "photo"] = setting(
        "grey", "initial image: grey, noise, low-noise, photo"
    )
    start_noise: float = setting(0.0, "standard deviation of low-resolution noise in the initial image", ge=0)
    start_photo: Photos = setting(
        None, "initial pictures for start=photo: an image file, a folder or a parquet; in Python also pictures"
    )
    fill: Literal["photo", "harmonic", "tension", "mean", "noise"] = setting(
        "photo", "initial content of the mask: photo, harmonic, tension, mean, noise"
    )

    def pixels(self, length: float, side: int) -> int:
        """A length in pixels: below 1 it is a share of the side."""
        return round(length * side) if length < 1 else round(length)


class ViewsConfig(OpenConfig):
    """Augmented copies of the picture: each other key is a view with its settings, applied in order."""

    copies: int = setting(1, "augmented copies per step", ge=1, common=True)


class AscentConfig(Config):
    """Settings of the ascent: steps, optimiser, step length, noise and clipping."""

    steps: int = setting(50, "ascent steps", ge=0, common=True)
    optimizer: Literal["sgd", "momentum", "adam"] = setting("sgd", "optimiser: sgd, momentum, adam")
    rms: float = setting(0.03, "RMS of a step on the canvas before the squash, instead of a recipe's rate", gt=0)
    rate: float | None = setting(None, "plain learning rate, instead of rms", gt=0)
    strength: float = setting(1.0, "factor of the step length", gt=0)
    schedule: chosen("schedule") = setting("linear", "schedule of the step length")  # type: ignore[valid-type]
    final: float = setting(0.0, "final step length, as a share of the first", ge=0)
    decay: float = setting(0.0, "share of the parameters that a step removes, times its length", ge=0, le=1)
    grow: float = setting(
        0.0, "share of the steps over which ever shorter waves, or finer levels, begin to move; 0: all move", ge=0, le=1
    )
    grow_from: float = setting(4.0, "cycles per side of the shortest waves that move at the first step", ge=1)
    step_noise: float = setting(0.0, "noise added after each step, in units of the step's RMS", ge=0)
    fixed_noise: float = setting(0.0, "noise added after each step, as a constant RMS on the canvas", ge=0)
    clip: float | None = setting(None, "gradient clipping limit", gt=0)
    clip_by: Literal["value", "norm", "sign"] = setting(
        "value", "gradient clipping by value, by norm per picture, or every number to plus or minus the limit (sign)"
    )
    normalize: bool = setting(False, "scale each term's gradient to unit norm per picture before weighting")
    smooth: bool = setting(False, "smooth (Sobolev) gradient inside the mask")
    alpha: bool = setting(False, "accumulate gradient magnitude as transparency")


class TermConfig(OpenConfig):
    """A weighted term of the objective, with its kind's own settings."""

    kind: chosen("objective") = setting(None, "the objective; default is that of the term's name")  # type: ignore[valid-type]
    weight: float = setting(1.0, "weight of the term")
