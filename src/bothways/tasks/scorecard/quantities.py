"""Label-free quantities of a model, tested as distances from real pictures and by their gradients.

    value(x)        the distance of a picture from real ones according to the quantity; larger is further
    direction(x)    -grad_x value(x)

    Spearman        of value with the level of Gaussian noise, the same pictures at every level, 0 among them
    AUROC           P(value of a corrupted picture > value of a real one), over all pairs of the same pictures
    cosine          of direction(x + noise) with -noise, the way back

With a cosine c, a step along the direction has the share c^2 of its squared length on the way back. The noise is not
clipped, so that the way back is the noise itself. A random direction is the control. The score with lambda held is
compared with a random lambda of the same length, which knows nothing of the picture; the distance from grey shows how
far a direction gets that only shrinks.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bothways.numerics.association import auroc, spearman
from bothways.numerics.draws import Draws
from bothways.numerics.intervals import Estimate, mean_interval
from bothways.numerics.layers import OUTPUT
from bothways.synthesis.dsf.score import dsf_score
from bothways.synthesis.fields import unit
from bothways.synthesis.objectives.terms import Activations, Term, features_layer
from bothways.synthesis.objectives.variation import total_variation
from bothways.synthesis.statistics import Spread, batch_statistics, spread_statistics
from bothways.types import Frame, TrainedModel, VisionModel

PIXELS_AT_ONCE = 500_000  # height x width x pictures per chunk
PICTURES_AT_ONCE = 50
CONTROL, RANDOM_LAMBDA, GREY = "random direction", "DSF, random lambda", "distance from grey"
CONTROLS = (RANDOM_LAMBDA, GREY, CONTROL)

Measure = Callable[[Tensor, Draws, float], tuple[Tensor, Tensor]]
"""(images (B,3,H,W), the pictures' draws, the moment) -> (value (B,), direction (B,3,H,W))."""


@dataclass(frozen=True)
class Quantity:
    """A label-free scalar of a picture, with its negative gradient. beside: the control that it is compared with."""

    name: str
    measure: Measure
    beside: str = CONTROL


@dataclass(frozen=True)
class Condition:
    """A transformation of real pictures. level: the standard deviation of Gaussian noise, else None."""

    name: str
    corrupt: Callable[[Tensor, Draws], Tensor]
    level: float | None = None


class Score(NamedTuple):
    """The scores of a quantity: Spearman, AUROC by condition, cosine by noise level."""

    spearman: Estimate
    auroc: dict[str, Estimate]
    cosine: dict[float, Estimate]


# ---- quantities ----------------------------------------------------------------------------------------------------


def dsf_variants(model: TrainedModel) -> dict[str, dict[str, Any]]:
    """The variants of ``dsf_score`` that a model supports: {name of the row: options}.

    The logarithm of the norm is omitted, since it gives the same ranking and direction as the norm.
    """
    found: dict[str, dict[str, Any]] = {
        "DSF, the paper's": {"surrogate": "logits"},
        "DSF, eq. 12 as printed": {"surrogate": "logits", "live": "original"},
        "DSF, rolls, flips, noise": {"surrogate": "logits", "augmentation": ("roll", "flip", "noise")},
        "DSF, lambda held": {"surrogate": "logits", "residual": "held"},
        RANDOM_LAMBDA: {"surrogate": "logits", "residual": "random"},
        "DSF, last layer": {"surrogate": "logits", "last": 1},
    }
    if model.spec.count:
        found |= {"DSF, KL": {"surrogate": "kl"}, "DSF, pseudo-label": {"surrogate": "pseudo-label"}}
    if features_layer(model) not in (None, OUTPUT):  # of an encoder they may be what the logits are
        found["DSF, features"] = {"surrogate": "features"}
    return found


def dsf_quantity(name: str, model: TrainedModel, options: Mapping[str, Any]) -> Quantity:
    """The quantity of the DSF: the norm of the parameter gradient, and the score as its direction."""

    def measure(images: Tensor, draws: Draws, t: float) -> tuple[Tensor, Tensor]:
        score, norm = dsf_score(model, images, draws=draws, t=t, **options)
        return norm, score

    return Quantity(name, measure, RANDOM_LAMBDA if options.get("residual") == "held" else CONTROL)


def _slope_along(theta: Mapping[str, Tensor], model: TrainedModel, image: Tensor) -> Tensor:
    """<g, theta>: the derivative of the paper's loss of a picture under scaling of all parameters."""
    with torch.enable_grad():
        scale = torch.ones((), dtype=image.dtype, device=image.device, requires_grad=True)
        scaled = {name: scale * value for name, value in theta.items()}
        live = model.features_with(scaled, image.flip(-1), ["outputs"])["outputs"]
        loss = 0.5 * (live - model.outputs(image).detach()).square().sum()
        return torch.autograd.grad(loss, scale)[0]


def angle_quantity(name: str, model: TrainedModel, options: Mapping[str, Any]) -> Quantity:
    """The angle of the paper's parameter gradient g to -theta: value = 1 - cos(g, -theta)."""

    def measure(images: Tensor, draws: Draws, t: float) -> tuple[Tensor, Tensor]:
        score, norm = dsf_score(model, images, distance="angle", draws=draws, t=t, **options)
        theta = model.parameters()
        length = torch.stack([value.norm() for value in theta.values()]).norm()
        along = torch.stack([_slope_along(theta, model, image) for image in images.split(1)])
        return 1 + along / (norm * length).clamp_min(torch.finfo(norm.dtype).tiny), score

    return Quantity(name, measure)


def term_quantity(name: str, term: Term) -> Quantity:
    """The quantity of an objective term: value = -term, direction = grad term."""

    def measure(images: Tensor, draws: Draws, t: float) -> tuple[Tensor, Tensor]:
        with torch.enable_grad():
            seen = images.detach().requires_grad_()
            wanted = term(seen)
            return -wanted.detach(), torch.autograd.grad(wanted.sum(), seen)[0]

    return Quantity(name, measure)


def grey_control() -> Quantity:
    """The control of a direction that only shrinks: value 1/2 ||x - .5||^2."""

    def measure(images: Tensor, draws: Draws, t: float) -> tuple[Tensor, Tensor]:
        return 0.5 * (images - 0.5).square().sum((1, 2, 3)), 0.5 - images

    return Quantity(GREY, measure)


def random_control() -> Quantity:
    """The control: value U[0, 1), direction N(0, 1)."""

    def measure(images: Tensor, draws: Draws, t: float) -> tuple[Tensor, Tensor]:
        value = draws.uniform((1,), t, "control value")[:, 0]
        return value, draws.normal(images.shape[1:], t, "control direction").to(images)

    return Quantity(CONTROL, measure)


def energy(model: VisionModel) -> Term:
    """logsumexp z: minus the energy of Liu et al. (arXiv 2010.03759, eq. 4 at temperature 1)."""

    def measure(seen: Activations, pictures: int) -> Tensor:
        return seen["outputs"].logsumexp(1)

    return Term("energy", measure, model, ("outputs",))


def confidence(model: VisionModel) -> Term:
    """log max_y p(y|x): it ranks and points as the maximum probability does (Hendrycks & Gimpel, arXiv 1610.02136)."""

    def measure(seen: Activations, pictures: int) -> Tensor:
        return seen["outputs"].log_softmax(1).amax(1)

    return Term("confidence", measure, model, ("outputs",))


def label_free_quantities(
    model: TrainedModel,
    spread: Mapping[str, Spread] | None = None,
    stored: Mapping[str, tuple[Tensor, Tensor]] | None = None,
    *,
    engine: str = "double_backward",
) -> list[Quantity]:
    """All label-free quantities of a model, the random direction last.

    spread: of channel statistics over other real pictures (``measure_spread``). stored: the running mean and variance
    of BatchNorm layers. Quantities that the model or these do not support are omitted. engine: of ``dsf_score``.
    """
    found = [dsf_quantity(name, model, {**options, "engine": engine}) for name, options in dsf_variants(model).items()]
    found.append(angle_quantity("DSF, angle", model, {"engine": engine}))
    if model.spec.count:
        found += [term_quantity("energy", energy(model)), term_quantity("minus max probability", confidence(model))]
    if stored:
        found.append(term_quantity("BatchNorm statistics", batch_statistics(model, stored, group=1)))
    if spread:
        found.append(term_quantity("channel statistics", spread_statistics(model, spread)))
    return [*found, term_quantity("total variation", total_variation(2.0)), grey_control(), random_control()]


# ---- scores --------------------------------------------------------------------------------------------------------


def chunks(images: Tensor) -> list[range]:
    """The chunks of pictures that are measured together, limited by memory."""
    size = max(1, min(PICTURES_AT_ONCE, PIXELS_AT_ONCE // (images.shape[-2] * images.shape[-1])))
    return [range(start, min(start + size, len(images))) for start in range(0, len(images), size)]


def score_quantity(
    quantity: Quantity, images: Tensor, conditions: Sequence[Condition], seeds: Sequence[int]
) -> Generator[Frame, None, Score]:
    """Yield a frame after every chunk of pictures under every condition, and return the score.

    images: real pictures (N,3,H,W) in [0,1]. conditions: their corruptions. seeds: (N,), of the random draws. There are
    ``len(chunks(images)) * (1 + len(conditions))`` frames.
    """
    every = [Condition("real", lambda seen, _draws: seen, 0.0), *conditions]
    parts = chunks(images)
    values: dict[str, list[Tensor]] = {condition.name: [] for condition in every}
    cosines: dict[float, list[Tensor]] = {c.level: [] for c in conditions if c.level}
    for moment, condition in enumerate(every):
        for number, part in enumerate(parts):
            clean, draws = images[part.start : part.stop], Draws([seeds[i] for i in part])
            seen = condition.corrupt(clean, draws)
            value, direction = quantity.measure(seen, draws, float(moment))
            values[condition.name].append(value.detach().cpu().double())
            if condition.level:
                cosines[condition.level].append((unit(direction) * unit(clean - seen)).sum((1, 2, 3)).cpu().double())
            done = moment * len(parts) + number + 1
            yield Frame(done, done / (len(every) * len(parts)))
    return _score(every, {name: torch.cat(found) for name, found in values.items()}, cosines)


def _score(every: Sequence[Condition], values: Mapping[str, Tensor], cosines: Mapping[float, list[Tensor]]) -> Score:
    levels = {c.level: values[c.name] for c in every if c.level is not None}
    return Score(
        spearman(torch.stack(list(levels.values()), 1), list(levels)),
        {c.name: auroc(values[c.name], values["real"], paired=True) for c in every[1:]},
        {level: mean_interval(torch.cat(found)) for level, found in cosines.items()},
    )
