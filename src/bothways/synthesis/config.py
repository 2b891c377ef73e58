"""The settings of a drawing's parts: canvas, views, ascent, terms. No torch here: help pages read it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict

from bothways.configs import Config, chosen, setting

RANK = 64  # leading directions that are kept of what a model measures of real pictures


class OpenConfig(Config):
    """A part that also holds the settings of what is chosen in it."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False, arbitrary_types_allowed=True)

    @property
    def own(self) -> dict[str, Any]:
        """The settings of what is chosen, which this record does not name."""
        return dict(self.__pydantic_extra__ or {})


class CanvasConfig(OpenConfig):
    """How a picture is held, and what it starts from. Lengths below 1 are shares of its side, others pixels."""

    kind: chosen("canvas") = setting("stack", "how the picture is held")  # type: ignore[valid-type]
    size: int | None = setting(None, "pixels of a side; else the model's own size", ge=1, common=True)
    border: float = setting(0.0, "margin of the canvas on each side (share or pixels)", ge=0)
    squash: Literal["tanh", "clamp"] = setting("tanh", "how the canvas is kept in [0, 1]: tanh or clamp")
    start: Literal["grey", "noise", "low-noise", "photo"] = setting(
        "grey", "what the picture starts from: grey, noise, low-noise, photo"
    )
    start_noise: float = setting(0.0, "standard deviation of low-resolution noise in the start", ge=0)
    start_photo: str | None = setting(None, "pictures to start from, with start=photo: a parquet or a folder")
    fill: Literal["photo", "harmonic", "tension", "mean", "noise"] = setting(
        "photo", "what a mask holds at the start: photo, harmonic, tension, mean, noise"
    )

    def pixels(self, length: float, side: int) -> int:
        """A length that is a share of the side below 1, and pixels from 1 on."""
        return round(length * side) if length < 1 else round(length)


class ViewsConfig(OpenConfig):
    """How models see the picture: copies of it, through views in order; each other key is a view with its settings."""

    copies: int = setting(1, "augmented copies a step", ge=1, common=True)


class AscentConfig(Config):
    """How a picture moves: how far, how fast, by what optimiser."""

    steps: int = setting(50, "ascent steps", ge=0, common=True)
    optimizer: Literal["sgd", "momentum", "adam"] = setting("sgd", "how the picture moves: sgd, momentum, adam")
    rms: float = setting(0.03, "RMS of a step on the canvas before the squash", gt=0)
    rate: float | None = setting(None, "plain learning rate instead of an RMS", gt=0)
    strength: float = setting(1.0, "factor of every step's length", gt=0)
    schedule: chosen("schedule") = setting("linear", "of the step's length")  # type: ignore[valid-type]
    final: float = setting(0.0, "share of the step's length at the end", ge=0)
    step_noise: float = setting(0.0, "noise after a step, in RMS of the step", ge=0)
    fixed_noise: float = setting(0.0, "noise after a step, in RMS on the canvas, the same at every step", ge=0)
    clip: float | None = setting(None, "limit of the gradient", gt=0)
    clip_by: Literal["value", "norm"] = setting("value", "what is clipped: each value, or each picture's norm")
    normalize: bool = setting(False, "scale each term to unit norm per picture before weighting")
    smooth: bool = setting(False, "make every step smooth inside the mask")
    alpha: bool = setting(False, "keep the sum of the gradient's magnitude as transparency")


class TermConfig(OpenConfig):
    """A term of the objective: its kind, its weight, and the kind's own settings."""

    kind: chosen("objective") = setting(None, "the objective; none for the one of the term's name")  # type: ignore[valid-type]
    weight: float = setting(1.0, "its weight")
