"""Objectives that match a reference picture: embedding, content, style, and a pull back to a photo.

    direction    cos(f(x) - m, target - m), m = 0 or the mean of f   the embedding of a picture
    content      -||a(x) - a(photo)||^2 / ||a(photo)||^2            a layer's activations, position by position
    moments      -mean_channels [ ((m - m*) / s*)^2 + (log s - log s*)^2 ] / 2,   averaged over layers
    gram         -||G - G*||^2 / ||G*||^2,   G = a a^T / positions,               averaged over layers
    spring       (photo - x) / (reach sqrt(n)), a field             grows linearly with the distance to the photo

m, s: mean and standard deviation of a channel over the pixels of the picture, m*, s* those of the style picture; a:
(channels, positions). Style by moments follows Li, Wang, Liu & Hou, "Demystifying Neural Style Transfer" (arXiv
1701.01036); by products of channels Gatys, Ecker & Bethge (arXiv 1508.06576), who sum the squared differences where
this divides by the squared norm, so that every layer has the same weight.
Content at an early layer regularises feature accentuation: Hamblin, Fel, Saha, Konkle & Alvarez, "Feature
Accentuation" (arXiv 2402.10039), who use the norm where this uses the relative squared norm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

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

StyleForm = Literal["moments", "gram"]
SMALL = 1e-8
REACH = 0.05  # 26 dB


class Likeness(Objective):
    """Base of the objectives that compare the picture with a photo or a style, resized to the model's size."""

    role: ClassVar[Role] = "condition"
    likeness: ClassVar[bool] = True

    @property
    def needs_probe(self) -> bool:
        return True


@register("objective", "embedding", help="the embedding of the style, or else of the photo", reference="variation")
class Embedding(Likeness):
    """Cosine similarity with the embedding of a reference picture, cos(f(x) - m, f(picture) - m)."""

    layer: str | None = setting(None, "layer of the embedding; default is the model's feature layer")
    centred: bool = setting(False, "subtract the mean m of the embeddings of real pictures")

    def centre_layer(self, model: Any) -> str | None:
        return self._layer_of(model) if self.centred else None

    def _layer_of(self, model: Any) -> str:
        return self.layer or str(model.feature())

    def terms(self, to: Binding) -> list[Term]:
        layer = self._layer_of(to.model)
        picture = to.required("photos") if to.style is None else to.required("style")
        centre = to.priors.means.get((to.model.name, layer)) if self.centred else None
        return [direction(to.seen, layer, vectors(_seen(to.model, picture, layer), layer), "embedding", centre)]


@register("objective", "content", help="the photo's activations, position by position")
class Content(Likeness):
    """Content loss, -||a(x) - a(photo)||^2 / ||a(photo)||^2."""

    layer: str | None = setting(None, "layer of the activations; default is that at ``depth``")
    depth: float = setting(0.5, "share of the model's layers at which the default layer is", ge=0, lt=1)

    def terms(self, to: Binding) -> list[Term]:
        if to.place_bound:
            raise UserError(
                "the photo's content is compared position by position, which roll, shift and flip would change; "
                "type --set views.roll.reach=0 views.shift.reach=0 views.flip.chance=0, or terms.content.weight=0"
            )
        layer = self.layer or layer_at(to.model, self.depth)
        return [content(to.seen, layer, _seen(to.model, to.required("photos"), layer))]


@register("objective", "style", help="channel statistics of another picture")
class Style(Likeness):
    """Style loss: channel statistics of layers against those of the style picture."""

    form: StyleForm = setting(
        "moments", "moments: mean and deviation of every channel; gram: the products of all pairs of channels"
    )
    layers: list[str] | None = setting(None, "names of the layers; default is those of channel statistics")
    depth: float = setting(1.0, "share of the default layers that is taken, from the first on", gt=0, le=1)
    every: int = setting(1, "of these layers, each so many-th", ge=1)

    def layers_of(self, model: Any) -> tuple[str, ...]:
        """The layers whose statistics are matched in a model."""
        if self.layers is not None:
            return tuple(self.layers)
        found = model.statistics_layers()
        return tuple(found[: math.ceil(self.depth * len(found)) : self.every])

    def terms(self, to: Binding) -> list[Term]:
        layers = self.layers_of(to.model)
        if not layers:
            raise UserError(without_layers(to.model, "style layers", "terms.style.layers=NAME,NAME"))
        targets = style_statistics(Resized(to.model), to.required("style"), layers, self.form)
        return [style(to.seen, targets, self.form)]


@register("objective", "nearness", help="a pull back to the photo")
class Nearness(Objective):
    """Pull back to the photo, the field (photo - x) / (reach sqrt(n))."""

    role: ClassVar[Role] = "image"
    reach: float = setting(REACH, "RMS difference at which the pull has norm 1", gt=0)

    def fields(self, to: Binding) -> list[tuple[Field, bool]]:
        return [(Spring(to.required("photos").to(to.main.device), to.border, self.reach), False)]


def layer_at(model: Any, depth: float) -> str:
    """The one of a model's statistics layers at a share of their number. Raises UserError for a model without any."""
    layers = model.statistics_layers()
    if not layers:
        raise UserError(without_layers(model, "content layer", "terms.content.layer=NAME"))
    return layers[int(depth * len(layers))]


def without_layers(model: Any, which: str, typed: str) -> str:
    """What to do where a model has no layers by default. which: the layers; typed: the setting that names others."""
    cure = f"type --set {typed}"
    cure = cure if model.layers() else "it shows no layer, as one of TorchScript; give the module as written"
    return f"model {model.name!r} has no default {which}; {cure}"


@torch.no_grad()
def _seen(model: Any, pictures: Tensor, layer: str) -> Tensor:
    return Resized(model).features(pictures, [layer])[layer]


def direction(
    model: VisionModel, layer: str, targets: Tensor, name: str = "direction", centre: Tensor | None = None
) -> Term:
    """Cosine similarity of each picture's pooled features at a layer with targets (B,D), or (1,D) for all.

    centre: (D,), subtracted from both.
    """
    middle = torch.zeros_like(targets[0]) if centre is None else centre.to(targets)

    def measure(seen: Activations, pictures: int) -> Tensor:
        found = vectors(seen[layer], layer) - middle
        target_rows = _for_copies((targets - middle).expand(pictures, -1), found)
        return per_picture(torch.cosine_similarity(found, target_rows, dim=1), pictures)

    return Term(name, measure, model, (layer,), compares=True)


def content(model: VisionModel, layer: str, targets: Tensor) -> Term:
    """Content loss -||a - target||^2 / ||target||^2 at a layer. targets: (B,...), activations of the photo.

    The views must not move image content, as roll and flip do.
    """

    def measure(seen: Activations, pictures: int) -> Tensor:
        found = seen[layer]
        target_rows = _for_copies(targets, found)
        far = (found - target_rows).square().flatten(1).sum(1) / (target_rows.square().flatten(1).sum(1) + SMALL)
        return -per_picture(far, pictures)

    return Term("content", measure, model, (layer,), compares=True)


def style(model: VisionModel, targets: Mapping[str, Tensor], form: StyleForm = "moments") -> Term:
    """Style loss against the targets of ``style_statistics`` of the same form, the mean over their layers."""
    distance = {"moments": _moments_apart, "gram": _products_apart}[form]

    def measure(seen: Activations, pictures: int) -> Tensor:
        total = []
        for layer, target in targets.items():
            found = seen[layer]
            total.append(distance(found, _for_copies(target.expand(pictures, *target.shape[1:]), found)))
        return -per_picture(torch.stack(total).mean(0), pictures)

    return Term("style", measure, model, tuple(targets), compares=True)


@torch.no_grad()
def style_statistics(
    model: VisionModel, pictures: Tensor, layers: tuple[str, ...], form: StyleForm = "moments"
) -> dict[str, Tensor]:
    """Style targets of pictures (B,3,H,W) by layer.

    "moments": (B,2C), mean and log standard deviation of every channel. "gram": (B,C,C), the mean over positions of the
    products of all pairs of channels.
    """
    seen = model.features(pictures, layers)
    if form == "gram":
        return {layer: channel_products(value) for layer, value in seen.items()}
    return {layer: torch.cat(channel_statistics(value), 1) for layer, value in seen.items()}


def channel_products(value: Tensor) -> Tensor:
    """Gram matrix (B,C,C): the mean over positions of a_i a_j, of (B,C,H,W), (B,N,C) or (B,C)."""
    flat = value if value.ndim == 3 else value.reshape(*value.shape[:2], -1).transpose(1, 2)
    return flat.transpose(1, 2) @ flat / flat.shape[1]


def _moments_apart(found: Tensor, target: Tensor) -> Tensor:
    """mean_channels [ ((m - m*) / s*)^2 + (log s - log s*)^2 ] / 2, (B,)."""
    mean, log_std = channel_statistics(found)
    target_mean, target_log = target.chunk(2, dim=1)
    moved = (mean - target_mean) * (-target_log).exp()
    return (moved.square() + (log_std - target_log).square()).mean(1) / 2


def _products_apart(found: Tensor, target: Tensor) -> Tensor:
    """||G - G*||^2 / ||G*||^2, (B,)."""
    far = (channel_products(found) - target).square().flatten(1).sum(1)
    return far / (target.square().flatten(1).sum(1) + SMALL)


@dataclass
class Spring(Field):
    """Field (photo - x) / (reach sqrt(n)): a pull back to the photo, of L2 norm 1 at an RMS difference of ``reach``.

    photos: (B,3,H,W) in [0,1], n values each. border: pixels of the canvas around them, which are not pulled.
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
    """Repeat targets for the copies of each picture, which are in consecutive rows."""
    return targets.repeat_interleave(len(found) // len(targets), dim=0)
