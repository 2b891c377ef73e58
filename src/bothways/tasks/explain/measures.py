"""The measures of an audit, from portraits and real pictures of the same classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from bothways.models.adapter import Adapter
from bothways.numerics.intervals import mean_interval, wilson_interval
from bothways.progress import counted
from bothways.synthesis.objectives.terms import features_layer, vectors
from bothways.tasks.explain.traits import Trait, place_map, relative, separation, trait_of
from bothways.types import RunError, UserError

WORTH_A_LOOK = 1.6  # times the median class; chosen on models and seeds outside the published tables (docs/audit.md)
LAYERS = 4  # in addition to the features, evenly spaced over the depth
FLOOR = 0.01  # share of a feature's within-class variance that is added in every class
BATCH = 50


@dataclass(frozen=True)
class LabelledPictures:
    """Labelled pictures: (N,3,H,W) in [0,1], labels (N,), and the recipe of each ("" for real pictures)."""

    images: Tensor
    labels: Tensor
    recipes: tuple[str, ...] = ()

    def rows(self, label: int, recipe: str | None = None) -> Tensor:
        """The indices of the pictures of a class, optionally of one recipe."""
        mine = self.labels == label
        if recipe is not None:
            mine &= torch.tensor([own == recipe for own in self.recipes])
        return mine.nonzero()[:, 0]


def audit_layers(model: Adapter) -> list[str]:
    """The layers of an audit: ``LAYERS`` normalisation layers, evenly spaced over the depth, and the features.

    The features are those of :func:`features_layer`, else of the last normalisation.
    Raises UserError for a model without any of these.
    """
    known = model.statistics_layers()
    last = features_layer(model) or next(reversed(known), None)
    chosen = [known[round(i * (len(known) - 1) / LAYERS)] for i in range(LAYERS)] if known else []
    found = list(dict.fromkeys([*chosen, *([last] if last else [])]))
    if not found:
        raise UserError(
            f"model {model.name!r} has no layer that an audit can use; name its last block in "
            'ModelSpec(..., feature_layer="...")'
        )
    return found


@torch.no_grad()
def features_of(model: Adapter, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """Features averaged over space, {layer: (N,D)} on the CPU; (N,K) at "outputs".

    Raises RunError if a value is not finite, since comparisons with NaN would flag no class.
    """
    found: dict[str, list[Tensor]] = {layer: [] for layer in (*layers, "outputs")}
    for part in counted(images.split(BATCH), "features of pictures"):
        for layer, value in model.features(part.to(model.device), list(found)).items():
            found[layer].append(vectors(value, layer).float().cpu())
    whole = {layer: torch.cat(parts) for layer, parts in found.items()}
    for layer, values in whole.items():
        if not bool(torch.isfinite(values).all()):
            hint = "type --dtype float32" if model.dtype != "float32" else "fix the model, or its ModelSpec"
            raise RunError(f"model {model.name!r} gives values at {layer!r} that are not finite; {hint}")
    return whole


@dataclass(frozen=True)
class Compared:
    """Portraits and real pictures of the audited classes, with their features.

    of_drawn, of_real: {layer: (N,D)}, from ``features_of``.
    """

    drawn: LabelledPictures
    of_drawn: dict[str, Tensor]
    real: LabelledPictures
    of_real: dict[str, Tensor]
    labels: Sequence[int]
    layers: Sequence[str]

    @cached_property
    def floor(self) -> dict[str, Tensor]:
        """The variance added to each feature, {layer: (D,)}: ``FLOOR`` times the mean within-class variance.

        A feature without variance on the real pictures gets the mean of the layer, so that it does not dominate.
        """
        within = {
            layer: torch.stack([self.of_real[layer][self.real.rows(label)].double().var(0) for label in self.labels])
            for layer in self.layers
        }
        means = {layer: variances.mean(0) for layer, variances in within.items()}
        return {layer: FLOOR * torch.where(mean > 0, mean, mean.mean()) for layer, mean in means.items()}

    @property
    def recipes(self) -> list[str]:
        return list(dict.fromkeys(self.drawn.recipes))


def separations(of: Compared, without: int | None = None) -> Tensor:
    """The separations, (layers x recipes, classes). without: index of a portrait to omit in each class and recipe."""

    def chosen(label: int, recipe: str) -> Tensor:
        rows = of.drawn.rows(label, recipe)
        return rows if without is None else rows[torch.arange(len(rows)) != without]

    def one(layer: str, recipe: str, label: int) -> float:
        drawn, real = of.of_drawn[layer][chosen(label, recipe)], of.of_real[layer][of.real.rows(label)]
        return separation(drawn, real, of.floor[layer])

    rows = [[one(layer, recipe, label) for label in of.labels] for layer in of.layers for recipe in of.recipes]
    return torch.tensor(rows, dtype=torch.float64)


def consistency(of: Compared) -> list[dict[str, Any]]:
    """The consistency of each class, {"value", "low", "high", "by_layer"}, with a jackknife interval of the log."""
    whole, recipes = separations(of), len(of.recipes)
    value = relative(whole)
    n = min(len(of.drawn.rows(label, recipe)) for label in of.labels for recipe in of.recipes)
    reach = [math.nan] * len(value)
    if n > 2:
        left = torch.stack([relative(separations(of, without=i)).log() for i in range(n)])
        pseudo = n * value.log() - (n - 1) * left  # Tukey's pseudo-values
        reach = [(found := mean_interval(column)).high - found.value for column in pseudo.T]
    by_layer = {layer: relative(whole[i * recipes : (i + 1) * recipes]) for i, layer in enumerate(of.layers)}
    return [
        {
            "value": float(value[c]),
            "low": float(value[c]) * math.exp(-reach[c]),
            "high": float(value[c]) * math.exp(reach[c]),
            "by_layer": {layer: float(values[c]) for layer, values in by_layer.items()},
        }
        for c in range(len(value))
    ]


def control(of: Compared) -> float:
    """The control: the largest consistency of a class with real pictures in place of its portraits."""
    n = min(len(of.drawn.rows(label)) for label in of.labels)
    cut = []
    for label in of.labels:
        rows = of.real.rows(label)
        few = min(n, len(rows) // 2)
        cut.append((rows[:few], rows[few:]))
    values = [
        [separation(of.of_real[layer][some], of.of_real[layer][rest], of.floor[layer]) for some, rest in cut]
        for layer in of.layers
    ]
    return float(relative(torch.tensor(values, dtype=torch.float64)).max())


def strongest_trait(of: Compared, label: int, by_layer: dict[str, float], placed: Sequence[str]) -> tuple[str, Trait]:
    """The layer in which a class stands out most, and its trait there.

    placed: the layers with spatial positions, which are preferred.
    """
    layer = max(placed or by_layer, key=by_layer.__getitem__)
    drawn, real = of.of_drawn[layer][of.drawn.rows(label)], of.of_real[layer][of.real.rows(label)]
    return layer, trait_of(drawn, real, of.floor[layer])


@torch.no_grad()
def placed_layers(model: Adapter, image: Tensor, layers: Sequence[str]) -> list[str]:
    """The layers with spatial positions, found on a picture (3,H,W)."""
    seen = model.features(image[None].to(model.device), layers)
    return [layer for layer in layers if as_map(seen[layer]) is not None]


@torch.no_grad()
def trait_maps(model: Adapter, images: Tensor, layer: str, trait: Trait) -> Tensor:
    """Maps (N,H,W) in [0,1] of where pictures show the trait, from a layer with spatial positions."""
    maps = as_map(model.features(images.to(model.device), [layer])[layer].cpu())
    assert maps is not None
    where = place_map(maps, trait).float().clamp_min(0)[:, None]
    where = F.interpolate(where, size=images.shape[-2:], mode="bilinear", align_corners=False)[:, 0]
    return where / where.amax().clamp_min(1e-12)


def as_map(activation: Tensor) -> Tensor | None:
    """An activation as a map (N,D,h,w); None if it has no spatial positions.

    Tokens (N,T,D) are reshaped if T, or T - 1 with a leading class token, is a square.
    """
    if activation.ndim == 4:
        return activation if activation.shape[2:].numel() > 1 else None
    if activation.ndim != 3:
        return None
    for extra in (0, 1):
        side = math.isqrt(activation.shape[1] - extra)
        if side > 1 and side * side == activation.shape[1] - extra:
            return activation[:, extra:].transpose(1, 2).unflatten(2, (side, side))
    return None


def nearest(drawn: Tensor, real: Tensor) -> list[tuple[int, float]]:
    """The nearest row of (M,D) to each row of (N,D) by centred cosine, without reuse: (index, cosine) each.

    Without reuse, since portraits of a class are alike and would all have the same nearest picture.
    """
    centre = real.mean(0)
    cosines = F.normalize(drawn - centre, dim=1) @ F.normalize(real - centre, dim=1).T
    found = []
    for row in cosines:
        place = int(row.argmax())
        found.append((place, float(row[place])))
        if cosines.shape[1] > len(found):
            cosines[:, place] = -torch.inf
    return found


def accuracy(logits: Tensor, label: int) -> dict[str, Any]:
    """The accuracy of the model on the real pictures of a class."""
    right, n = int((logits.argmax(1) == label).sum()), len(logits)
    low, high = wilson_interval(right, n)
    return {"value": right / n, "low": low, "high": high, "n": n}
