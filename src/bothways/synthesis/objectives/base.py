"""Objectives as records of settings, before they are bound to models as terms and fields.

    4 * ClassLogProbability("frog") + 2 * Statistics("spread") + 0.5 * TotalVariation() + my_function

An objective is a small record with weights and sums; its ``terms`` and ``fields`` bind it to a model. A custom function
is an objective too: (images (B,3,H,W)) -> (B,), or (images, model) -> (B,) on the augmented copies.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

from pydantic import ValidationError
from torch import Tensor

from bothways import registry
from bothways.brief import shown
from bothways.configs import Config, Live, as_user_error, validated
from bothways.numerics.draws import Draws
from bothways.synthesis.fields import Field
from bothways.synthesis.inpainting import Prediction
from bothways.synthesis.matching import Targets
from bothways.synthesis.objectives.terms import SEEN, Activations, Term, checked_values, image_term, per_picture
from bothways.synthesis.sampling import Space
from bothways.synthesis.statistics import Spread
from bothways.types import TrainedModel, UserError

NO_CLASS = -1
Role = Literal["condition", "score", "image"]
Stored = Mapping[str, tuple[Tensor, Tensor]]
"""{layer: (mean (C,), variance (C,))} of BatchNorm's running statistics."""


@dataclass(frozen=True)
class Priors:
    """Image-prior statistics: of each score model in order, one Space for all; mean features of condition models.

    means: {(name of a model, layer): (d,)}, the mean over real pictures of the layer averaged over space.
    """

    spreads: tuple[Mapping[str, Spread], ...] = ()
    stored: tuple[Stored, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    space: Space | None = None
    means: Mapping[tuple[str, str], Tensor] = field(default_factory=dict)
    matched: tuple[Targets, ...] = ()


@dataclass(frozen=True)
class Binding:
    """Context to which an objective is bound: one model and one batch of pictures.

    model: supplies the gradient; seen: the same with inputs resized to its own size; main: the model that defines
    classes and layers; index: of the model among those of its role. labels (B,), classes of the main model, -1 for
    none; channels (B,) of ``layer``, or None. photos (B,3,H,W), mask (1,1,H,W), style (B,3,h,w), or None. filled: the
    photos with masked pixels filled. border: pixels of the canvas around the picture. targets: samples of
    ``priors.space``, one per picture. group: pictures that share a statistic. own_label: main's label -> the model's.
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

    def required(self, what: Literal["photos", "style"]) -> Tensor:
        """The photos or the styles, on the model's device. Raises UserError if there are none."""
        pictures = getattr(self, what)
        if pictures is None:
            name = "photo" if what == "photos" else what
            given = "style MODEL PHOTO STYLE" if what == "style" else "invert MODEL PHOTO, or another task on a photo"
            raise UserError(f"the recipe needs a {name} to compare with; type bothways {given}")
        return pictures.to(self.model.device)


class Objective(Config):
    """Base class of objectives to maximise; ``terms`` and ``fields`` bind it to a model.

    role: the models that supply its gradient: condition models (which class?), score models (is it real?), or none
    ("image"). likeness: whether it compares the picture with a photo or a style.
    """

    role: ClassVar[Role] = "condition"
    likeness: ClassVar[bool] = False

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        if cls.role not in get_args(Role):  # its gradient would be nobody's
            raise UserError(f"objective {cls.__name__!r} has role {cls.role!r}; give one of {shown(get_args(Role))}")

    def __init__(self, *positional: Any, **settings: Any) -> None:
        try:
            super().__init__(**dict(zip(type(self).model_fields, positional, strict=False)), **settings)
        except ValidationError as error:
            raise as_user_error(type(self), error) from error

    @property
    def needs(self) -> str:
        """The statistics that it uses: "spread", "stored", "space", "prediction", "matched" or ""."""
        return ""

    def centre_layer(self, model: Any) -> str | None:
        """The layer of a model whose mean over real pictures is subtracted from its features; None for none."""
        return None

    @property
    def coupled(self) -> bool:
        """Whether the pictures of a group are coupled, so that a group must be in one batch."""
        return False

    @property
    def needs_probe(self) -> bool:
        """Whether a trial gradient is needed to check that a model supports it, as for second derivatives."""
        return False

    def terms(self, to: Binding) -> list[Term]:
        """Terms evaluated on the views of the picture."""
        return []

    def fields(self, to: Binding) -> list[tuple[Field, bool]]:
        """Further fields, and whether each is normalised to unit norm when terms are."""
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


def terms_of(objective: Objective, to: Binding) -> list[Term]:
    """The terms of an objective. Raises UserError where its ``terms`` gives anything else."""
    return _all_of(objective, "terms", objective.terms(to), lambda one: isinstance(one, Term), "a list of Term")


def fields_of(objective: Objective, to: Binding) -> list[tuple[Field, bool]]:
    """The further fields of an objective. Raises UserError where its ``fields`` gives anything else."""

    def fits(one: Any) -> bool:
        return isinstance(one, tuple) and len(one) == 2 and isinstance(one[0], Field)

    return _all_of(objective, "fields", objective.fields(to), fits, "a list of (Field, bool)")


def _all_of(objective: Objective, method: str, given: Any, fits: Callable[[Any], bool], form: str) -> list[Any]:
    if not isinstance(given, list | tuple) or not all(map(fits, given)):
        raise UserError(f"objective {type(objective).__name__!r}: {method}() gives {shown(given)}; return {form}")
    return list(given)


class Function(Objective):
    """A custom objective from a function (images) -> (B,), or (images, model) -> (B,)."""

    role: ClassVar[Role] = "image"
    function: Live

    def terms(self, to: Binding) -> list[Term]:
        function, name = self.function, registry.name_of(self.function)
        if not _sees_model(function):
            return [image_term(name, function)]

        def measure(seen: Activations, pictures: int) -> Tensor:
            return per_picture(checked_values(function(seen[SEEN], to.main), seen[SEEN], name), pictures)

        return [Term(name, measure)]


@dataclass(frozen=True)
class WeightedSum:
    """Weighted sum of unbound objectives, sum_k weight_k objective_k."""

    parts: tuple[tuple[float, Objective], ...]

    def __mul__(self, factor: float) -> WeightedSum:
        return WeightedSum(tuple((factor * weight, part) for weight, part in self.parts))

    __rmul__ = __mul__

    def __add__(self, other: Any) -> WeightedSum:
        return WeightedSum(self.parts + as_sum(other).parts)

    def __radd__(self, other: Any) -> WeightedSum:
        return as_sum(other) + self

    def of_role(self, role: Role) -> list[tuple[float, Objective]]:
        """(weight, objective) pairs of one role, in order."""
        return [(weight, part) for weight, part in self.parts if part.role == role]

    def __str__(self) -> str:
        return " + ".join(f"{weight:g} {part}" for weight, part in self.parts)


def as_sum(given: Any) -> WeightedSum:
    """Convert an objective, a sum, a function or a name to a WeightedSum."""
    return given if isinstance(given, WeightedSum) else WeightedSum(((1.0, as_objective(given)),))


def as_objective(given: Any, **settings: Any) -> Objective:
    """Objective from a name, PATH.py:NAME, class or function, with its settings. Raises UserError if invalid."""
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


def _sees_model(function: Callable[..., Any]) -> bool:
    """Whether a function requires (images, model); one in C, which may not tell, is given the images alone."""
    try:
        signature = inspect.signature(function)
    except ValueError:
        return False
    for given in (1, 2):
        try:
            signature.bind(*range(given))
        except TypeError:
            continue
        return given == 2
    raise UserError(
        f"objective {registry.name_of(function)!r} takes {signature}; write it as (images) or (images, model)"
    )
