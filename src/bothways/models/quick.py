"""A model whose calls are made with its batch normalisations folded, where that is the same function."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import final

import torch
from torch import Tensor

from bothways.models.adapter import Adapter
from bothways.numerics.draws import generator
from bothways.numerics.folding import folded
from bothways.numerics.modules import is_compiled
from bothways.types import TrainedModel

PICTURES = 2  # of noise, by which a copy is checked


@final
class Quick:
    """The outputs and features of a model to rounding, made by a copy of it.

    changed: the layers that the copy does not have; a call that reads one of them, or with other parameters, is made by
    the model itself.
    """

    def __init__(self, model: Adapter, made: Adapter, changed: frozenset[str]) -> None:
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


def quick(model: Adapter) -> TrainedModel:
    """The model, or one of the same function with fewer passes over its maps (``numerics.folding``).

    It holds the weights of the moment: make it when a run begins, and drop it when that ends. A model that was compiled
    stays as it is, and so does one whose precision is below float32, where rounding could not be told from a mistake.
    """
    module = model.module
    whole = all(value.dtype in (torch.float32, torch.float64) for value in module.parameters())
    if model.compiled is not None or is_compiled(module) or not whole:
        return model
    size = (PICTURES, 3, model.spec.height, model.spec.width)
    noise = torch.rand(size, generator=generator(0, purpose="folding"))
    found = folded(module, model.module_input(noise.to(model.device)))
    if found is None:
        return model
    made = copy.copy(model)
    made.module = found.module
    return Quick(model, made, found.changed)
