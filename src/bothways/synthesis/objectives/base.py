"""Objectives before they are bound to a model: what a picture is to score high in, with its settings.

    4 * ClassLogProbability("frog") + 2 * Statistics("spread") + 0.5 * TotalVariation() + my_function

An objective is a small record; ``bind`` of its weighted sum makes it terms of the models at hand. A function of your
own is one too: (images (B,3,H,W)) -> (B,), or (images, model) -> (B,), which sees what the models are shown.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from pydantic import ValidationError
from torch import Tensor

from bothways import registry
from bothways.configs import Config, Live, in_one_line, validated
from bothways.numerics.draws import Draws
from bothways.synthesis.fields import Field
from bothways.synthesis.inpainting import Prediction
from bothways.synthesis.objectives.terms import SEEN, Activations, Term, image_term, per_picture
from bothways.synthesis.sampling import Space
from bothways.synthesis.statistics import Spread
from bothways.types import TrainedModel, UserError

NO_CLASS = -1
Role = Literal["condition", "score", "image"]
Stored = Mapping[str, tuple[Tensor, Tensor]]
"""{layer: (mean (C,), variance (C,))} of BatchNorm's running statistics."""


@dataclass(frozen=True)
class Priors:
    """Statistics of real pictures, of each score model in order, and one Space for them all."""

    spreads: tuple[Mapping[str, Spread], ...] = ()
    stored: tuple[Stored, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    space: Space | None = None


@dataclass(frozen=True)
class Binding:
    """What an objective is bound to: one model, and the pictures of one batch.

    model: what gives the gradient; seen: the same as it sees the pictures, at its own size; main: whose classes and
    layers are named; index: of the model among those of its role. labels (B,), numbers of the main model's classes, -1
    for none; channels (B,) of ``layer``, or None. photos (B,3,H,W), mask (1,1,H,W), style (B,3,h,w), or None. filled:
    the photos with what is masked filled. border: pixels of the canvas around the picture. targets: points of
    ``priors.space``, one a picture. group: pictures that share a statistic. own_label: main's label -> the model's.
    """

    model: Any
    seen: TrainedModel
    main: Any
    draws: Draws
    labels: Tensor
    index: int = 0
    prompts: Sequence[tuple[str, float]] = ()
    layer: str | None = None
    channels: Tensor | None = None
    photos: Tensor | None = None
    mask: Tensor | None = None
    style: Tensor | None = None
    filled: Tensor | None = None
    border: int = 0
    group: int = 10
    conditioned: bool = False
    place_bound: bool = False
    priors: Priors = field(default_factory=Priors)
    targets: Mapping[str, Tensor] = field(default_factory=dict)
    own_label: Callable[[Any, str | int], int] = lambda model, name: int(name)
    own_labels: Callable[[Any, Tensor], Tensor] = lambda model, labels: labels

    def given(self, what: Literal["photos", "style"]) -> Tensor:
        """The photos or the styles, on the model's device. Raises UserError where there are none."""
        pictures = getattr(self, what)
        if pictures is None:
            name = "photo" if what == "photos" else what
            raise UserError(f"the recipe holds a picture to a {name}, and none was given; type {name.upper()}")
        return pictures.to(self.model.device)


class Objective(Config):
    """What is maximised, with its settings; ``terms`` and ``fields`` bind it.

    role: whose gradient it is: of the condition models (which class?), of the score models (is it real?), or of the
    picture alone. needs: the part of ``Priors`` that it reads, "" for none. likeness: whether it compares the picture
    with a photo or a style.
    """

    role: ClassVar[Role] = "condition"
    likeness: ClassVar[bool] = False

    def __init__(self, *positional: Any, **settings: Any) -> None:
        try:
            super().__init__(**dict(zip(type(self).model_fields, positional, strict=False)), **settings)
        except ValidationError as error:
            raise in_one_line(type(self), error) from error

    @property
    def needs(self) -> str:
        """The statistics of real pictures that it reads: "spread", "stored", "space", "prediction", or ""."""
        return ""

    @property
    def coupled(self) -> bool:
        """Whether the pictures of a group depend on each other, so that a group is drawn whole."""
        return False

    @property
    def looks(self) -> bool:
        """Whether only a look along the gradient shows that a model can do it, such as a second derivative."""
        return False

    def terms(self, to: Binding) -> list[Term]:
        """Terms that are measured through the views of the picture."""
        return []

    def fields(self, to: Binding) -> list[tuple[Field, bool]]:
        """Fields beside those terms, and whether each is scaled to unit norm where terms are."""
        return []

    def __str__(self) -> str:
        chosen = self.model_dump(exclude_defaults=True)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in chosen.items())})"

    def __mul__(self, weight: float) -> WeightedSum:
        return WeightedSum(((weight, self),))

    __rmul__ = __mul__

    def __add__(self, other: Any) -> WeightedSum:
        return 1.0 * self + other

    def __radd__(self, other: Any) -> WeightedSum:
        return as_sum(other) + self


class Function(Objective):
    """An objective of the user's own: (images) -> (B,), or (images, model) -> (B,)."""

    role: ClassVar[Role] = "image"
    function: Live

    def terms(self, to: Binding) -> list[Term]:
        function, name = self.function, registry.name_of(self.function)
        if _parameters(function) < 2:
            return [image_term(name, lambda image: _checked(function(image), len(image), name))]

        def measure(seen: Activations, pictures: int) -> Tensor:
            shown = seen[SEEN]
            return per_picture(_checked(function(shown, to.main), len(shown), name), pictures)

        return [Term(name, measure)]


@dataclass(frozen=True)
class WeightedSum:
    """sum_k weight_k objective_k, before it is bound."""

    parts: tuple[tuple[float, Objective], ...]

    def __mul__(self, factor: float) -> WeightedSum:
        return WeightedSum(tuple((factor * weight, part) for weight, part in self.parts))

    __rmul__ = __mul__

    def __add__(self, other: Any) -> WeightedSum:
        return WeightedSum(self.parts + as_sum(other).parts)

    def __radd__(self, other: Any) -> WeightedSum:
        return as_sum(other) + self

    def of_role(self, role: Role) -> list[tuple[float, Objective]]:
        """Those of one role, in order."""
        return [(weight, part) for weight, part in self.parts if part.role == role]

    def __str__(self) -> str:
        return " + ".join(f"{weight:g} {part}" for weight, part in self.parts)


def as_sum(given: Any) -> WeightedSum:
    """An objective, a sum of them, a function, or the name of one, as a WeightedSum."""
    return given if isinstance(given, WeightedSum) else WeightedSum(((1.0, as_objective(given)),))


def as_objective(given: Any, **settings: Any) -> Objective:
    """An objective by its name, PATH.py:NAME, class or function, with its settings. Raises UserError."""
    if isinstance(given, Objective):
        return given
    made = registry.find("objective", given).factory
    if isinstance(made, type) and issubclass(made, Objective):
        return validated(made, settings)
    if settings:
        raise UserError(
            f"objective {registry.name_of(given)!r} is a function and has no setting {next(iter(settings))!r}"
        )
    return Function(function=made)


def _parameters(function: Callable[..., Any]) -> int:
    """How many arguments a function must be given."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    listed = inspect.signature(function).parameters.values()
    return sum(p.kind in kinds and p.default is inspect.Parameter.empty for p in listed)


def _checked(values: Any, pictures: int, name: str) -> Tensor:
    if not isinstance(values, torch.Tensor) or values.shape != (pictures,):
        shape = tuple(values.shape) if isinstance(values, torch.Tensor) else type(values).__name__
        raise UserError(f"objective {name!r} gave {shape} for {pictures} pictures; return one number a picture, (B,)")
    return values
