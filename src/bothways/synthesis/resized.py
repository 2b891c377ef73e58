"""A model wrapper that resizes its input, so that models of different input sizes share one picture."""

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
