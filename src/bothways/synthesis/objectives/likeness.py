"""A picture like another: its embedding, its content place by place, its style, or the photo itself.

    direction    cos(f(x), target)                                  the embedding of a picture
    content      -||a(x) - a(photo)||^2 / ||a(photo)||^2            a layer's activations, place by place
    style        -mean_channels [ ((m - m*) / s*)^2 + (log s - log s*)^2 ] / 2,   averaged over layers
    spring       (photo - x) / (reach sqrt(n)), a field              harmless near the photo, strong far from it

m, s: mean and standard deviation of a channel over the pixels of the picture, m*, s* those of the style picture. The
style has no products of two channels (the Gram matrix of Gatys, Ecker & Bethge, arXiv 1508.06576); Li, Wang, Liu & Hou,
"Demystifying Neural Style Transfer" (arXiv 1701.01036), find mean and deviation enough.
Content at an early layer keeps an accentuated photo itself: Hamblin, Fel, Saha, Konkle & Alvarez, "Feature
Accentuation" (arXiv 2402.10039), who take it with a norm where this has its square, relative.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from bothways.configs import setting
from bothways.registry import register
from bothways.synthesis.fields import Field
from bothways.synthesis.objectives.base import Binding, Objective, Role
from bothways.synthesis.objectives.terms import Activations, Term, per_picture, vectors
from bothways.synthesis.resized import Resized
from bothways.synthesis.statistics import channel_statistics
from bothways.types import UserError, VisionModel

SMALL = 1e-8
REACH = 0.05  # 26 dB


class Likeness(Objective):
    """An objective that compares the picture with a photo or a style, each at the model's own size."""

    role: ClassVar[Role] = "condition"
    likeness: ClassVar[bool] = True

    @property
    def needs_probe(self) -> bool:
        return True


@register("objective", "embedding", help="the embedding of the style, or else of the photo", reference="variation")
class Embedding(Likeness):
    """cos(f(x), f(picture))."""

    layer: str | None = setting(None, "where the embedding is taken; none for the model's features")

    def terms(self, to: Binding) -> list[Term]:
        layer = self.layer or to.model.spec.feature_layer or "outputs"
        picture = to.required("photos") if to.style is None else to.required("style")
        return [direction(to.seen, layer, vectors(_seen(to.model, picture, layer), layer), "embedding")]


@register("objective", "content", help="the photo's activations, place by place")
class Content(Likeness):
    """-||a(x) - a(photo)||^2 / ||a(photo)||^2."""

    layer: str | None = setting(None, "where the activations are taken; none for the middle of the model")

    def terms(self, to: Binding) -> list[Term]:
        if to.place_bound:
            raise UserError(
                "the photo's content is held place by place, so it cannot be seen through roll, shift or flip; "
                "type --set views.roll.reach=0 views.shift.reach=0 views.flip.chance=0, or terms.content.weight=0"
            )
        layer = self.layer or middle_layer(to.model)
        return [content(to.seen, layer, _seen(to.model, to.required("photos"), layer))]


@register("objective", "style", help="channel statistics of another picture")
class Style(Likeness):
    """Channel statistics of every layer, pulled to those of the style picture."""

    def terms(self, to: Binding) -> list[Term]:
        layers = tuple(to.model.statistics_layers())
        return [style(to.seen, style_statistics(Resized(to.model), to.required("style"), layers))]


@register("objective", "nearness", help="a pull back to the photo")
class Nearness(Objective):
    """(photo - x) / (reach sqrt(n)), a field."""

    role: ClassVar[Role] = "image"
    reach: float = setting(REACH, "root mean square difference at which the pull has norm 1", gt=0)

    def fields(self, to: Binding) -> list[tuple[Field, bool]]:
        if to.photos is None:
            return []
        return [(Spring(to.photos.to(to.main.device), to.border, self.reach), False)]


def middle_layer(model: Any) -> str:
    """Half way through the layers whose statistics are measured. Raises UserError for a model that has none."""
    layers = model.statistics_layers()
    if not layers:
        raise UserError(
            f"model {model.name!r} has no layer that is known to hold content; type --set terms.content.layer=NAME"
        )
    return layers[len(layers) // 2]


@torch.no_grad()
def _seen(model: Any, pictures: Tensor, layer: str) -> Tensor:
    return Resized(model).features(pictures, [layer])[layer]


def direction(model: VisionModel, layer: str, targets: Tensor, name: str = "direction") -> Term:
    """cos(f, target) of each picture's features, averaged over space, at a layer. targets: (B,D), or (1,D) for all."""

    def measure(seen: Activations, pictures: int) -> Tensor:
        found = vectors(seen[layer], layer)
        wanted = _for_copies(targets.expand(pictures, -1), found)
        return per_picture(torch.cosine_similarity(found, wanted, dim=1), pictures)

    return Term(name, measure, model, (layer,))


def content(model: VisionModel, layer: str, targets: Tensor) -> Term:
    """-||a - target||^2 / ||target||^2 of the activations at a layer. targets: (B,...) as the layer gives them.

    The pictures must be seen as the photo was, not rolled or flipped.
    """

    def measure(seen: Activations, pictures: int) -> Tensor:
        found = seen[layer]
        wanted = _for_copies(targets, found)
        far = (found - wanted).square().flatten(1).sum(1) / (wanted.square().flatten(1).sum(1) + SMALL)
        return -per_picture(far, pictures)

    return Term("content", measure, model, (layer,))


def style(model: VisionModel, targets: Mapping[str, Tensor]) -> Term:
    """Channel statistics pulled to those of another picture. targets: {layer: (B or 1,2C)} of ``style_statistics``."""

    def measure(seen: Activations, pictures: int) -> Tensor:
        total = []
        for layer, target in targets.items():
            mean, log_std = channel_statistics(seen[layer])
            wanted = _for_copies(target.expand(pictures, -1), mean)
            mean_wanted, log_wanted = wanted.chunk(2, dim=1)
            moved = (mean - mean_wanted) * (-log_wanted).exp()
            total.append((moved.square() + (log_std - log_wanted).square()).mean(1) / 2)
        return -per_picture(torch.stack(total).mean(0), pictures)

    return Term("style", measure, model, tuple(targets))


@torch.no_grad()
def style_statistics(model: VisionModel, pictures: Tensor, layers: tuple[str, ...]) -> dict[str, Tensor]:
    """{layer: (B,2C)}: mean and log standard deviation of every channel. pictures: (B,3,H,W) in [0,1]."""
    return {layer: torch.cat(channel_statistics(value), 1) for layer, value in model.features(pictures, layers).items()}


@dataclass
class Spring(Field):
    """(photo - x) / (reach sqrt(n)): the pull back to a photo, of L2 norm 1 where the two differ by ``reach`` in RMS.

    photos: (B,3,H,W) in [0,1], n numbers each. border: pixels of the canvas around them, which are free.
    """

    photos: Tensor
    border: int = 0
    reach: float = REACH
    stats: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        edge, (high, wide) = self.border, self.photos.shape[-2:]
        far = self.photos - x[..., edge : edge + high, edge : edge + wide]
        self.stats = {"distance": far.square().mean((1, 2, 3)).sqrt()}
        return F.pad(far / (self.reach * self.photos[0].numel() ** 0.5), (edge, edge, edge, edge))


def _for_copies(targets: Tensor, found: Tensor) -> Tensor:
    """A row for every copy: a picture's copies lie side by side."""
    return targets.repeat_interleave(len(found) // len(targets), dim=0)
