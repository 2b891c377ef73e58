"""What is wanted of a picture: terms that add, scale and name themselves.

    objective(x) = sum_k w_k term_k(x),   x (B,3,H,W) -> (B,)

A term says which activations of which model it measures, so that all terms of one model share one forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bothways.types import UserError, VisionModel

Activations = Mapping[str, Tensor]
Measure = Callable[[Activations, int], Tensor]
"""(activations, pictures) -> (pictures,). An activation has pictures * copies rows, a picture's copies side by side."""
IMAGE = "image"


@dataclass(frozen=True)
class Term:
    """One wish: ``weight * measure(activations, B)``, (B,), higher is better.

    model None: it is measured on the picture itself, found under "image"; else on the model's ``layers``.
    """

    name: str
    measure: Measure
    model: VisionModel | None = None
    layers: tuple[str, ...] = ()
    weight: float = 1.0

    def __call__(self, image: Tensor) -> Tensor:
        return Wish((self,))(image)

    def __mul__(self, factor: float) -> Term:
        return replace(self, weight=self.weight * factor)

    __rmul__ = __mul__

    def __add__(self, other: Term | Wish) -> Wish:
        return Wish((self,)) + other

    def __str__(self) -> str:
        return f"{self.weight:g} {self.name}"


@dataclass(frozen=True)
class Wish:
    """A sum of terms."""

    terms: tuple[Term, ...]

    def __call__(self, image: Tensor) -> Tensor:
        values = self.values(image, image)
        return sum((term.weight * value for term, value in zip(self.terms, values, strict=True)), torch.zeros(()))

    def __mul__(self, factor: float) -> Wish:
        return Wish(tuple(term * factor for term in self.terms))

    __rmul__ = __mul__

    def __add__(self, other: Term | Wish) -> Wish:
        return Wish(self.terms + (other.terms if isinstance(other, Wish) else (other,)))

    def __str__(self) -> str:
        return " + ".join(str(term) for term in self.terms)

    def values(self, image: Tensor, seen: Tensor) -> list[Tensor]:
        """The unweighted value of each term, (B,) each, from one forward pass a model.

        image: (B,3,H,W). seen: (B*copies,3,h,w), what the models are shown, the copies of one picture side by side;
        their values are averaged.
        """
        views: dict[int, Activations] = {}
        values = []
        for term in self.terms:
            if term.model is None:
                values.append(term.measure({IMAGE: image}, len(image)))
                continue
            if id(term.model) not in views:
                layers = {layer for other in self.terms if other.model is term.model for layer in other.layers}
                views[id(term.model)] = term.model.features(seen, sorted(layers))
            values.append(term.measure(views[id(term.model)], len(image)))
        return values


def class_logit(model: VisionModel, labels: Tensor) -> Term:
    """z_y(x): the logit of each picture's class. labels (B,)."""

    def measure(seen: Activations, pictures: int) -> Tensor:
        return _chosen(seen["outputs"], labels)

    return Term("logit", measure, model, ("outputs",))


def class_log_probability(model: VisionModel, labels: Tensor) -> Term:
    """log p(y|x) = z_y - logsumexp z. labels (B,)."""

    def measure(seen: Activations, pictures: int) -> Tensor:
        return _chosen(seen["outputs"].log_softmax(1), labels)

    return Term("log probability", measure, model, ("outputs",))


def certainty(model: VisionModel) -> Term:
    """sum_k p_k log p_k, p = softmax z(x): minus the entropy of the model's own answer, whatever it is. No label."""

    def measure(seen: Activations, pictures: int) -> Tensor:
        answer = seen["outputs"].log_softmax(1)
        return per_picture((answer.exp() * answer).sum(1), pictures)

    return Term("certainty", measure, model, ("outputs",))


def total_variation(power: float = 2.0) -> Term:
    """-mean (dx^2 + dy^2)^(power/2): minus the variance norm of Mahendran & Vedaldi (arXiv 1412.0035, eq. 3)."""

    def measure(seen: Activations, pictures: int) -> Tensor:
        image = seen[IMAGE]
        down = image[..., 1:, :-1] - image[..., :-1, :-1]
        right = image[..., :-1, 1:] - image[..., :-1, :-1]
        squared = down.square() + right.square()
        # the root is not differentiable where neighbours are equal
        length = squared if power == 2 else (squared + 1e-8) ** (power / 2)
        return -length.mean((1, 2, 3))

    return Term("total variation", measure)


def batch_statistics(model: VisionModel, targets: Mapping[str, tuple[Tensor, Tensor]], group: int) -> Term:
    """Stored statistics matched by a group of pictures (DeepInversion, arXiv 1912.08795, eq. 4).

        -sum_layers ( ||mean - mean_stored||_2 + ||var - var_stored||_2 ) / group

    Mean and variance run over a group, its copies and its pixels, so the pictures of a group are coupled; a batch
    holds whole groups; only the last may be shorter. targets: {"NAME:input": (mean (C,), variance (C,))}.
    """

    def one_group(maps: list[Tensor]) -> Tensor:
        total = maps[0].new_zeros(())
        for value, (mean, variance) in zip(maps, targets.values(), strict=True):
            over = [0, *range(2, value.ndim)]  # all but channels
            total = total - (value.mean(over) - mean).norm() - (value.var(over, unbiased=False) - variance).norm()
        return total

    def measure(seen: Activations, pictures: int) -> Tensor:
        maps = [seen[layer] for layer in targets]
        rows = group * (len(maps[0]) // pictures)  # of one group
        parts = [one_group([m[start : start + rows] for m in maps]) for start in range(0, len(maps[0]), rows)]
        return torch.cat([part.expand(min(group, pictures - i * group)) / group for i, part in enumerate(parts)])

    return Term("batch statistics", measure, model, tuple(targets))


@dataclass(frozen=True)
class Spread:
    """How one layer's per-picture channel statistics spread over real images, each (C,)."""

    mean: Tensor
    mean_std: Tensor
    log_std: Tensor
    log_std_std: Tensor


def spread_statistics(
    model: VisionModel, spread: Mapping[str, Spread], targets: Mapping[str, Tensor] | None = None
) -> Term:
    """Each picture's own channel statistics against their spread over real images, as a diagonal Gaussian.

        -1/L sum_layers mean_channels [ ((m - E m) / sd m)^2 + ((log s - E log s) / sd log s)^2 ] / 2

    m, s: mean and standard deviation of one channel over the pixels of one picture. No picture touches another.
    targets: {layer: (B,2C)}, what each picture is pulled to in place of the means E m, E log s.
    """

    def measure(seen: Activations, pictures: int) -> Tensor:
        total = []
        for layer, facts in spread.items():
            found = torch.cat(channel_statistics(seen[layer]), dim=1)
            wanted = torch.cat([facts.mean, facts.log_std])[None] if targets is None else targets[layer]
            wanted = wanted.repeat_interleave(len(found) // len(wanted), dim=0)
            scale = torch.cat([facts.mean_std, facts.log_std_std])
            total.append(((found - wanted) / scale).square().mean(1))
        return -per_picture(torch.stack(total).mean(0), pictures)

    return Term("statistics", measure, model, tuple(spread))


def channel_statistics(value: Tensor) -> tuple[Tensor, Tensor]:
    """(B,C,H,W), (B,N,C) or (B,C) -> mean and log standard deviation over positions, (B,C) each."""
    flat = value.transpose(1, 2) if value.ndim == 3 else value.reshape(*value.shape[:2], -1)
    return flat.mean(2), 0.5 * (flat.var(2, unbiased=False) + 1e-5).log()


def vectors(activation: Tensor, layer: str) -> Tensor:
    """(B,C,h,w) averaged over space, (B,tokens,C) over tokens, (B,C) as it is -> (B,C)."""
    if activation.ndim not in (2, 3, 4):
        raise UserError(
            f"layer {layer!r} gives {tuple(activation.shape)}; name one of 2, 3 or 4 dimensions in "
            "ModelSpec(feature_layer=...), such as the last block before the head"
        )
    return {2: lambda a: a, 3: lambda a: a.mean(1), 4: lambda a: a.mean((2, 3))}[activation.ndim](activation)


def measure_spread(model: VisionModel, images: Tensor, layers: Sequence[str], batch: int = 100) -> dict[str, Spread]:
    """The spread of per-picture channel statistics over real images (N,3,H,W), for ``spread_statistics``.

    Raises UserError for fewer than two images, which have no spread.
    """
    if len(images) < 2:
        raise UserError(f"channel statistics need two real images or more, not {len(images)}; type --data with more")
    found: dict[str, list[tuple[Tensor, Tensor]]] = {layer: [] for layer in layers}
    with torch.no_grad():
        for part in images.split(batch):
            for layer, value in model.features(part, layers).items():
                found[layer].append(channel_statistics(value))
    result = {}
    for layer, pairs in found.items():
        mean, log_std = (torch.cat([pair[side] for pair in pairs]) for side in (0, 1))
        # a channel that never fires would otherwise divide by zero
        result[layer] = Spread(mean.mean(0), mean.std(0) + 1e-3, log_std.mean(0), log_std.std(0) + 1e-2)
    return result


def wish(name: str, function: Callable[[Tensor], Tensor]) -> Term:
    """Any function of the picture, (B,3,H,W) -> (B,), as a term."""
    return Term(name, lambda seen, _pictures: function(seen[IMAGE]))


def per_picture(value: Tensor, pictures: int) -> Tensor:
    """(B*copies,) -> (B,): the mean over the copies of each picture."""
    return value.view(pictures, -1).mean(1)


def _chosen(outputs: Tensor, labels: Tensor) -> Tensor:
    """The output of each picture's class, averaged over its copies."""
    wanted = labels.repeat_interleave(len(outputs) // len(labels))
    return per_picture(outputs.gather(1, wanted[:, None])[:, 0], len(labels))
