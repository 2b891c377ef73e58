"""Objective terms bound to models; all terms of one model share one forward pass.

objective(x) = sum_k w_k term_k(x),   x (B,3,H,W) -> (B,)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bothways.types import UserError, VisionModel

Activations = Mapping[str, Tensor]
Measure = Callable[[Activations, int], Tensor]
"""(activations, pictures) -> (pictures,). An activation has pictures * copies rows, copies in consecutive rows."""
IMAGE = "image"  # key of the picture with the border of its canvas
SEEN = "seen"  # key of the models' input: the augmented copies of each picture, in consecutive rows


@dataclass(frozen=True)
class Term:
    """A bound term ``weight * measure(activations, B)``, (B,), higher is better.

    model None: evaluated on the picture itself, under the key "image"; else on the model's ``layers``.
    """

    name: str
    measure: Measure
    model: VisionModel | None = None
    layers: tuple[str, ...] = ()
    weight: float = 1.0
    compares: bool = False  # with the photo that the picture may start from, where its gradient is zero

    def __call__(self, image: Tensor) -> Tensor:
        return TermSum((self,))(image)

    def __mul__(self, factor: float) -> Term:
        return replace(self, weight=self.weight * factor)

    __rmul__ = __mul__

    def __add__(self, other: Term | TermSum) -> TermSum:
        return TermSum((self,)) + other

    def __str__(self) -> str:
        return f"{self.weight:g} {self.name}"


@dataclass(frozen=True)
class TermSum:
    """A sum of bound terms."""

    terms: tuple[Term, ...]

    def __call__(self, image: Tensor) -> Tensor:
        values = self.values(image, image)
        return sum((term.weight * value for term, value in zip(self.terms, values, strict=True)), torch.zeros(()))

    def __mul__(self, factor: float) -> TermSum:
        return TermSum(tuple(term * factor for term in self.terms))

    __rmul__ = __mul__

    def __add__(self, other: Term | TermSum) -> TermSum:
        return TermSum(self.terms + (other.terms if isinstance(other, TermSum) else (other,)))

    def __str__(self) -> str:
        return " + ".join(str(term) for term in self.terms)

    def values(self, image: Tensor, seen: Tensor) -> list[Tensor]:
        """The unweighted value of each term, (B,) each, with one forward pass per model.

        image: (B,3,H,W). seen: (B*copies,3,h,w), the models' input, copies of a picture in consecutive rows; values are
        averaged over copies.
        """
        views: dict[int, Activations] = {}
        values = []
        for term in self.terms:
            if term.model is None:
                found = term.measure({IMAGE: image, SEEN: seen}, len(image))
                values.append(checked_values(found, image, term.name))
                continue
            if id(term.model) not in views:
                layers = {layer for other in self.terms if other.model is term.model for layer in other.layers}
                views[id(term.model)] = term.model.features(seen, sorted(layers))
            values.append(checked_values(term.measure(views[id(term.model)], len(image)), image, term.name))
        return values


def checked_values(values: Any, images: Tensor, name: str) -> Tensor:
    """The values of an objective. Raises UserError unless they are floats (B,), where the images (B,3,H,W) are."""
    count = len(images)
    if not isinstance(values, Tensor) or values.shape != (count,):
        shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise UserError(f"objective {name!r} gave {shape} for {count} pictures; return one number per picture, (B,)")
    if not values.is_floating_point():
        raise UserError(f"objective {name!r} gave {values.dtype}; return floats that have a gradient")
    if values.device != images.device:
        raise UserError(
            f"objective {name!r} gave values on {values.device} for pictures on {images.device}; leave them there"
        )
    return values


def vectors(activation: Tensor, layer: str) -> Tensor:
    """Feature vectors (B,C): the mean over space of (B,C,h,w), over tokens of (B,tokens,C), or (B,C) itself."""
    if activation.ndim not in (2, 3, 4):
        raise UserError(
            f"layer {layer!r} gives {tuple(activation.shape)}; name one of 2, 3 or 4 dimensions in "
            "ModelSpec(feature_layer=...), such as the last block before the head"
        )
    return {2: lambda a: a, 3: lambda a: a.mean(1), 4: lambda a: a.mean((2, 3))}[activation.ndim](activation)


def features_layer(model: VisionModel) -> str | None:
    """The layer of a model's features: the stated one, what enters a classifier's linear head, what an encoder gives.

    None for a classifier that states none and has no such head: its logits are no features.
    """
    find = getattr(model, "feature", None)  # an Adapter's
    layer = find() if find is not None else model.spec.feature_layer
    return None if layer == "outputs" else layer


def per_picture(value: Tensor, pictures: int) -> Tensor:
    """Mean over the copies of each picture, (B*copies,) -> (B,)."""
    return value.view(pictures, -1).mean(1)


def image_term(name: str, function: Callable[[Tensor], Tensor]) -> Term:
    """A term from any function of the picture, (B,3,H,W) -> (B,)."""
    return Term(name, lambda seen, _pictures: function(seen[IMAGE]))


def chosen_output(outputs: Tensor, labels: Tensor) -> Tensor:
    """Output at each picture's label, averaged over its copies, (B,)."""
    index = labels.repeat_interleave(len(outputs) // len(labels))
    return per_picture(outputs.gather(1, index[:, None])[:, 0], len(labels))
