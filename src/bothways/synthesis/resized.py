"""Model wrappers: one resizes its input, so that models of different input sizes share one picture; one is quicker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import final

from torch import Tensor

from bothways.numerics.pyramid import resize
from bothways.types import TrainedModel


@final
class Resized:
    """f(resize(x)): bilinear resizing with antialiasing to the model's input size, differentiable in the picture."""

    def __init__(self, model: TrainedModel) -> None:
        self.model, self.spec, self.name = model, model.spec, model.name

    def outputs(self, image: Tensor) -> Tensor:
        return self.model.outputs(self._at_own_size(image))

    def features(self, image: Tensor, layers: Sequence[str]) -> Mapping[str, Tensor]:
        return self.model.features(self._at_own_size(image), layers)

    def parameters(self) -> Mapping[str, Tensor]:
        return self.model.parameters()

    def features_with(
        self, parameters: Mapping[str, Tensor], image: Tensor, layers: Sequence[str]
    ) -> Mapping[str, Tensor]:
        return self.model.features_with(parameters, self._at_own_size(image), layers)

    def _at_own_size(self, image: Tensor) -> Tensor:
        return resize(image, (self.spec.height, self.spec.width))


@final
class Quick:
    """The outputs and features of a model to rounding, made by a copy of it with fewer passes (numerics/folding.py).

    changed: the layers whose values the copy does not have. A call that reads one of them, or that replaces parameters,
    is made by the model itself. The copy has the weights of the moment: it is made for a run, and dropped with it.
    """

    def __init__(self, model: TrainedModel, made: TrainedModel, changed: frozenset[str]) -> None:
        self.model, self.made, self.changed = model, made, changed
        self.spec, self.name = model.spec, model.name

    def outputs(self, image: Tensor) -> Tensor:
        return self.made.outputs(image)

    def features(self, image: Tensor, layers: Sequence[str]) -> Mapping[str, Tensor]:
        return (self.model if self.changed.intersection(layers) else self.made).features(image, layers)

    def parameters(self) -> Mapping[str, Tensor]:
        return self.model.parameters()

    def features_with(
        self, parameters: Mapping[str, Tensor], image: Tensor, layers: Sequence[str]
    ) -> Mapping[str, Tensor]:
        return self.model.features_with(parameters, image, layers)
