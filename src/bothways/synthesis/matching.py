"""Distributions of a layer's values over the positions of a picture, and how far they are from those of real pictures.

    sorted     D_c^2 = mean_q (a_(q) - t_q)^2                                 a_(q): the values of channel c in order
    moments    D_c^2 = (mean a - mean t)^2 + (std a - std t)^2 <= the above

The first is the squared 2-Wasserstein distance in one dimension, the second that of two normal distributions with the
same moments (Gelbrich 1990). t: the mean over real pictures of their values in order, which is the Wasserstein
barycentre of the pictures; where there are none, the quantiles of a normal distribution. Where a picture has another
number n of positions, t is interpolated at (k + 1/2) / n. VITAL draws a class by the first alone (Gorgun, Schiele &
Fischer, arXiv 2503.22399).

    weight of channel c    w_c = C r_c / sum r,   r_c = | mean over pictures of sum over positions of a_c dz_y / da_c |

z_y: the logit of the class. VITAL weights the features of inner neurons by layer-wise relevance propagation; this is
activation times gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from bothways.progress import counted
from bothways.synthesis.objectives.terms import Activations, Term, per_picture
from bothways.synthesis.statistics import STATISTICS, over_positions
from bothways.types import UserError, VisionModel

Form = Literal["sorted", "moments"]
SMALL = 1e-12  # added to variances, so that a root has a gradient
AT_ONCE = 16  # real pictures of a forward pass
KEPT = 32  # classes whose targets are kept


@dataclass(frozen=True)
class Target:
    """Of one layer: quantiles (C,Q) in order, and the weights of the channels (C,), of mean 1."""

    quantiles: Tensor
    weights: Tensor


@dataclass
class Targets:
    """The targets of one model by class, measured when they are used.

    layers: that are matched. pictures: {label, or NO_CLASS for those at large: (n,3,H,W) uint8}. normal: {layer: (mean
    (C,), standard deviation (C,))} where there are no pictures. own_label: label -> the model's, where channels are
    weighted by its logit. notes: a line for each fallback.
    """

    model: Any
    layers: tuple[str, ...]
    pictures: Mapping[int, Tensor] = field(default_factory=dict)
    normal: Mapping[str, tuple[Tensor, Tensor]] = field(default_factory=dict)
    own_label: Callable[[int], int] | None = None
    notes: tuple[str, ...] = ()
    _kept: dict[int, dict[str, Target]] = field(default_factory=dict)

    def of(self, label: int) -> Mapping[str, Target]:
        """{layer: target} of a class, or of pictures at large for a negative label."""
        key = label if label in self.pictures or (self.pictures and self.own_label) else -1
        if key not in self._kept:
            while len(self._kept) >= KEPT:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = self._measured(key)
        return self._kept[key]

    def _measured(self, label: int) -> dict[str, Target]:
        if not self.pictures:
            return self._normal()
        images = self.pictures.get(label, self.pictures.get(-1))
        assert images is not None
        found = measure_quantiles(self.model, images, self.layers)
        weights = {layer: torch.ones_like(quantiles[:, 0]) for layer, quantiles in found.items()}
        if self.own_label is not None and label >= 0:
            weights = relevance(self.model, images, self.layers, self.own_label(label))
        return {layer: Target(quantiles, weights[layer]) for layer, quantiles in found.items()}

    @torch.no_grad()
    def _normal(self) -> dict[str, Target]:
        spec = self.model.spec
        grey = torch.full((1, 3, spec.height, spec.width), 0.5, device=self.model.device)
        seen = self.model.features(grey, self.layers)
        found = {}
        for layer, (mean, std) in self.normal.items():
            quantiles = normal_quantiles(mean, std, over_positions(seen[layer]).shape[2])
            found[layer] = Target(quantiles, torch.ones_like(mean))
        return found


@torch.no_grad()
def measure_quantiles(model: Any, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """{layer: (C,Q)}: the mean over pictures of each channel's values in order. images: (N,3,H,W) uint8."""
    total: dict[str, Tensor] = {}
    for part in counted(images.split(AT_ONCE), STATISTICS):
        for layer, value in model.features(part.to(model.device).float() / 255, list(layers)).items():
            summed = over_positions(value).sort(2).values.sum(0)
            total[layer] = summed if layer not in total else total[layer] + summed
    return {layer: value / len(images) for layer, value in total.items()}


def relevance(model: Any, images: Tensor, layers: Sequence[str], label: int) -> dict[str, Tensor]:
    """{layer: (C,)}, of mean 1: the weights of the channels for a class. images: (N,3,H,W) uint8."""
    total: dict[str, Tensor] = {}
    for part in counted(images.split(AT_ONCE), STATISTICS):
        labels = torch.full((len(part),), label, device=model.device)
        for layer, value in model.contributions(part.to(model.device).float() / 255, list(layers), labels).items():
            summed = over_positions(value).sum((0, 2))
            total[layer] = summed if layer not in total else total[layer] + summed
    found = {layer: value.abs() for layer, value in total.items()}
    return {
        layer: value / value.mean() if bool(value.any()) else torch.ones_like(value) for layer, value in found.items()
    }


def normal_quantiles(mean: Tensor, std: Tensor, count: int) -> Tensor:
    """(C,count): the quantiles (k + 1/2) / count of normal distributions, scaled to just this mean and deviation."""
    places = (torch.arange(count, dtype=torch.float64, device=mean.device) + 0.5) / count
    found = torch.special.ndtri(places)
    found = (found / found.std(unbiased=False).clamp_min(SMALL)).to(mean)
    return mean[:, None] + std[:, None] * found


def resampled(quantiles: Tensor, count: int) -> Tensor:
    """Quantiles (...,Q) at (k + 1/2) / Q -> (...,count) at (k + 1/2) / count, linear between, constant beyond."""
    own = quantiles.shape[-1]
    if own == count:
        return quantiles
    places = (torch.arange(count, dtype=torch.float64, device=quantiles.device) + 0.5) * (own / count) - 0.5
    places = places.clamp(0, own - 1)
    low = places.floor().long().clamp_max(max(0, own - 2))
    share = (places - low).to(quantiles.dtype)
    return torch.lerp(quantiles[..., low], quantiles[..., (low + 1).clamp_max(own - 1)], share)


def distance(values: Tensor, quantiles: Tensor, form: Form = "sorted") -> Tensor:
    """Squared distance D_c^2 of values (B,C,N), in any order, from quantiles (B,C,Q) or (C,Q) -> (B,C)."""
    if form == "moments":
        mean, std = _moments(values)
        other_mean, other_std = _moments(resampled(quantiles, values.shape[2]))
        return (mean - other_mean).square() + (std - other_std).square()
    return (values.sort(2).values - resampled(quantiles, values.shape[2])).square().mean(2)


def matching(
    model: VisionModel,
    targets: Sequence[Mapping[str, Target]],
    layers: Sequence[str],
    *,
    form: Form = "sorted",
    weighted: bool = False,
    scaled: bool = True,
) -> Term:
    """Minus the distance of each picture's features from its target, a mean over layers and channels.

        -1/L sum_layers 1/C sum_c w_c D_c^2 / s_c^2        s_c: standard deviation of t_c, or 1

    targets: of each picture. weighted: by the targets' weights, else w_c = 1. scaled: by s_c.
    The term raises UserError, when evaluated, for a layer whose channels are not those of the target.
    """
    index, distinct = _distinct(targets)
    stacked = {layer: torch.stack([one[layer].quantiles for one in distinct]) for layer in layers}
    weights = {layer: torch.stack([one[layer].weights for one in distinct]) for layer in layers}

    def measure(seen: Activations, pictures: int) -> Tensor:
        total = []
        for layer in layers:
            values, quantiles = over_positions(seen[layer]), stacked[layer]
            if values.shape[1] != quantiles.shape[1]:
                raise UserError(
                    f"model {model.name!r}: layer {layer!r} has {values.shape[1]} channels for this picture and "
                    f"{quantiles.shape[1]} for real ones, which are not matched; type another layer"
                )
            copies = index.to(values.device).repeat_interleave(len(values) // pictures)
            far = distance(values, quantiles[copies], form)
            if scaled:
                far = far / (quantiles.var(2, unbiased=False) + SMALL)[copies]
            total.append((far * weights[layer][copies] if weighted else far).mean(1))
        return -per_picture(torch.stack(total).mean(0), pictures)

    return Term("matching", measure, model, tuple(layers))


def _moments(values: Tensor) -> tuple[Tensor, Tensor]:
    return values.mean(-1), (values.var(-1, unbiased=False) + SMALL).sqrt()


def _distinct(targets: Sequence[Mapping[str, Target]]) -> tuple[Tensor, list[Mapping[str, Target]]]:
    """(the place (B,) of each target among the distinct ones, these)."""
    found: dict[int, int] = {}
    places = [found.setdefault(id(one), len(found)) for one in targets]
    return torch.tensor(places), [targets[places.index(place)] for place in range(len(found))]
