"""Distributions of features over the picture like those of real pictures of the class (``synthesis/matching.py``)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from bothways.configs import Several, setting
from bothways.registry import register
from bothways.synthesis.matching import matching
from bothways.synthesis.objectives.base import Binding, Objective, Role
from bothways.synthesis.objectives.terms import Term
from bothways.types import UserError


@register(
    "objective", "matching", help="features distributed over the picture as in real ones of the class",
    reference="matching",
)  # fmt: skip
class Matching(Objective):
    """Minus the distance of the distribution of each channel over the positions from that of real pictures.

    The pictures are those of the class in --data; those of all classes for a class that has none there, and for a
    picture without a class; without pictures, normal distributions with the statistics that are kept with the model, or
    BatchNorm's running mean and variance.
    """

    role: ClassVar[Role] = "score"
    form: Literal["sorted", "moments"] = setting("sorted", "sorted: all quantiles; moments: mean and deviation")
    layers: Several | None = setting(None, "layers to match; default is some of the normalised ones, evenly spaced")
    count: int = setting(5, "how many layers, where none are named", ge=1)
    weights: Literal["uniform", "relevance"] = setting(
        "uniform", "channels: uniform, or by relevance (activation times gradient of the class's logit)"
    )
    scaled: bool = setting(True, "in units of the deviation of each channel in real pictures")

    @property
    def needs(self) -> str:
        return "matched"

    def layers_of(self, model: Any) -> tuple[str, ...]:
        """The layers of a model that are matched. Raises UserError for a model without normalised ones."""
        if self.layers:
            return tuple(self.layers)
        every = model.statistics_layers()
        if not every:
            raise UserError(
                f"model {model.name!r} has no normalised layers to match; type --set terms.matching.layers=NAME"
            )
        count = min(self.count, len(every))
        return tuple(every[round(k * (len(every) - 1) / max(1, count - 1))] for k in range(count))

    def terms(self, to: Binding) -> list[Term]:
        targets = to.priors.matched[to.index]
        each = [targets.of(label) for label in to.labels.tolist()]
        return [
            matching(
                to.seen, each, self.layers_of(to.model), form=self.form, weighted=self.weights == "relevance",
                scaled=self.scaled,
            )
        ]  # fmt: skip
