"""The Discriminative Score Function (DSF): minus the input gradient of a classifier's parameter-gradient norm.

    l(x)     = 1/2 || f(x; stop theta) - f(A(x); theta) ||^2                                    (the paper's eq. 11)
    score(x) = - grad_x D(g(x)),   g(x) = grad_theta l(x),   D(g) = ||g|| - ||theta||           (eq. 12)

The term ||theta|| has no gradient in x, so it is omitted. Eq. 12 as printed stops theta on the augmented branch instead
of on f(x): ``live="original"``. In both forms both branches depend on x.

The engines differentiate <g(x), v> instead, with v = dD/dg at g(x) held fixed, which has the same gradient in x
(``engines.py``). Two are exact and need second derivatives of the model. ``difference`` needs first derivatives only,
so fused attention, compiled modules and half precision work. It is exact to O(eps^2) on smooth models. With ReLU it
need not converge as eps goes to zero: grad_theta l jumps where a unit switches, which autograd ignores.

Departures: every picture has its own g by default, since one g of a whole batch couples its pictures; other surrogates,
distances and augmentations can be chosen; 1e-12 is added to ||g||^2, so that pictures with g = 0 (constant,
mirror-symmetric) have the score zero.

With lambda = dl/df at the live branch, f(A(x)) - f(x) for the logits, and J = df/dtheta there, g = J^T lambda. What the
text leaves open, and the options that read it:

    lambda in x              residual="live" (default): g differentiated as a whole; "held": lambda is a number, as
                             eq. 12 prints it, and J alone is; "random": N(0, 1) of the same length, its control
    f(x; stop theta) in x    target="attached" (default), or "detached": a constant, as under torch.no_grad
    distance of g to -theta  distance="norm", "l2", "inner" (eqs. 8 to 10), "angle", "log", or "layers": a norm a module
    pictures of one norm     per="image" (default), or "batch": the paper processes batches
    theta                    parameters and last (default: all parameters)
    augmentations            augmentation and copies (default: one mirror image)
    clipping of 1e-5         gradient_clip: of g, by value, its graph left alone (as torch.nn.utils.clip_grad_value_);
                             of the picture's gradient, ``AscentConfig.clip_by``
    mode of BatchNorm        batch_norm="eval" (default), or "train": statistics of the batch, none stored
    kinks                    relu="relu" (default), or "softplus": see ``substitutes``
    start, number of steps, total variation as a sum or a mean: settings of the recipe

``direction="random"`` is the control of them all: N(0, 1) in place of the score, of the score's length in each picture.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from types import NoneType
from typing import Any

import torch
from torch import Tensor

from bothways.brief import brief
from bothways.budget import no_memory_left
from bothways.faults import check_kinds
from bothways.numerics.draws import Draws
from bothways.synthesis.dsf.engines import ENGINES, Engine, difference, full_precision, gradients, over
from bothways.synthesis.dsf.layered import LAYERED, by_layers_of
from bothways.synthesis.dsf.substitutes import Substitutes
from bothways.synthesis.dsf.surrogates import Loss, check_choice, check_count, check_values, loss_of, views, weighted
from bothways.synthesis.fields import Field, unit
from bothways.synthesis.views import View
from bothways.types import RunError, TrainedModel, UserError

NUMBERS_TOGETHER = 2**24  # values of per-picture gradients in theta at once: 64 MiB
GPU = 16  # factor of all chunk sizes on devices other than a CPU
Branches = tuple[Tensor, Tensor]
"""(live, target) branches: (n,c,3,H,W) and (n,k,3,h,w); c or k is 1 for the branch of the pictures themselves."""


@dataclass(frozen=True)
class Reading:
    """How the branches of pictures are made and read, whose draws are those of the batch; see ``dsf_score``."""

    draws: Draws
    t: float
    augmentation: str | View | Sequence[str | View]
    copies: int
    live: str
    target: str
    residual: str
    layers: Substitutes

    def __post_init__(self) -> None:
        check_choice("live", self.live, ("augmented", "original"))
        check_choice("target", self.target, ("attached", "detached"))
        check_choice("residual", self.residual, ("live", "held", "random"))
        check_count("copies", self.copies, "views per augmentation")
        if self.residual != "live" and self.target == "detached":
            raise UserError(f'dsf: residual="{self.residual}" holds the target too; leave target="detached" out')

    def branches(self, x: Tensor, rows: slice) -> Branches:
        """The branches of pictures that are rows of the batch."""
        seen = views(x, self.augmentation, self._of(rows), self.t, self.copies)
        return (seen, x[:, None]) if self.live == "augmented" else (x[:, None], seen)

    def multiplier(self, loss: Loss, read: Callable[[Tensor], Tensor], branches: Branches, rows: slice) -> Tensor:
        """lambda = dl / d live output, or N(0, 1) of the same length, one direction a picture: a constant in x."""
        with torch.no_grad():
            live, answer = (read(branch) for branch in branches)
        live = live.requires_grad_()
        values = loss.measure(live, answer)
        views = live.shape[-2] / values.shape[-1]  # of the live branch, over which the loss is a mean, of all
        found = views * gradients([values.sum()], None, [live])[0]
        if self.residual == "held":
            return found
        shape = (*found.shape[1:-2], 1, found.shape[-1])
        drawn = self._of(rows).normal(shape, self.t, "dsf lambda").to(found)
        return torch.nn.functional.normalize(drawn, dim=-1) * torch.linalg.vector_norm(found, dim=-1, keepdim=True)

    def _of(self, rows: slice) -> Draws:
        return Draws(self.draws.seeds[rows])


def _scored(
    engine: Engine, loss: Loss, image: Tensor, reading: Reading, rows: slice, each: bool
) -> tuple[Tensor, Tensor]:
    """The score of some pictures and ||g||: per picture with ``each``, else of their joint loss."""
    x = image[rows].detach().requires_grad_()
    branches = reading.branches(x, rows)
    live, target = (part.detach().unsqueeze(1) if each else part.detach() for part in branches)
    with engine.model(len(x) == 1 and not each), reading.layers.used():  # the last has the first word
        # by the same kernels as the live branch, so that equal views have outputs that are equal to the last bit
        read, again = over(each, partial(loss.read, {})), engine.thrifty and not each
        if reading.residual == "live":
            with torch.set_grad_enabled(not again and reading.target == "attached"):
                answer = read(target.requires_grad_())
        else:
            answer = reading.multiplier(loss, read, (live, target), rows)
            loss = replace(loss, measure=weighted)
        reading.layers.check(loss.model.name)
        in_live, in_answer, norm = engine.way(loss, live.requires_grad_(), answer.detach().requires_grad_(), each)
        if reading.residual != "live" or reading.target == "detached":
            in_target = torch.zeros_like(target)
        else:
            in_target = gradients([read(target) if again else answer], [in_answer], [target])[0]
    inside = [part.squeeze(1) if each else part for part in (in_live, in_target)]
    return -gradients(branches, inside, [x])[0], norm


def _in_chunks(engine: Engine, loss: Loss, image: Tensor, reading: Reading, chunk: int | None) -> tuple[Tensor, Tensor]:
    """Scores with a separate g per picture, in chunks; an automatic chunk size falls back to 1 on failure."""
    size = chunk or _pictures_together(engine, loss, image)
    score, norm, apart = torch.empty_like(image), image.new_empty(len(image)), size > 1
    if apart and engine is ENGINES["double_backward"] and by_layers_of(loss, image):
        engine, apart = LAYERED, False
    try:
        for start in range(0, len(image), size):
            rows = slice(start, start + size)
            score[rows], norm[rows] = _scored(engine, loss, image, reading, rows, apart)
    except (RuntimeError, UserError):
        if chunk is not None or size == 1:
            raise
        return _in_chunks(engine, loss, image, reading, 1)
    return score, norm


def _pictures_together(engine: Engine, loss: Loss, pictures: Tensor) -> int:
    """Automatic chunk size: small pictures are faster together, large ones on a CPU are not; memory is bounded."""
    times = 1 if pictures.device.type == "cpu" else GPU
    pixels, numbers = math.prod(pictures.shape[-2:]), sum(value.numel() for value in loss.theta.values())
    return max(1, min(times * engine.pixels // pixels, times * NUMBERS_TOGETHER // numbers))


@contextmanager
def _in_one_line(loss: Loss, image: Tensor, engine: str) -> Iterator[None]:
    """Convert engine failures to one-line errors; failures of the plain forward pass keep their own message."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit.script", DeprecationWarning)  # torch.func.jvp's own
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)  # vmap's fallback loop
            yield
    except (MemoryError, RuntimeError, UserError) as error:
        if not isinstance(error, RunError) and no_memory_left(error):
            raise RunError('dsf: out of memory; type chunk=1, or engine="difference"') from error
        cause = error.__cause__ if isinstance(error, UserError) else error
        if isinstance(error, RunError) or not isinstance(cause, RuntimeError):
            raise
        with torch.no_grad():
            loss.read({}, image[:1, None])
        advice = "chunk=1" if engine == "difference" else 'engine="difference"'
        reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise UserError(
            f"dsf: engine={engine!r} cannot differentiate model {loss.model.name!r} ({reason}); type {advice}"
        ) from error


def dsf_score(
    model: TrainedModel,
    images: Tensor,
    surrogate: str = "logits",
    engine: str = "double_backward",
    per: str = "image",
    augmentation: str | View | Sequence[str | View] = "flip",
    live: str = "augmented",
    parameters: str | None = None,
    *,
    distance: str = "norm",
    target: str = "attached",
    residual: str = "live",
    gradient_clip: float | None = None,
    last: int | None = None,
    copies: int = 1,
    relu: str = "relu",
    batch_norm: str = "eval",
    direction: str = "score",
    draws: Draws | None = None,
    t: float = 0.0,
    chunk: int | None = None,
    epsilon: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Discriminative score -grad_x D(grad_theta l) (N,3,H,W) of images (N,3,H,W) in [0,1], and ||grad_theta l|| (N,).

    surrogate: l: "logits" (the paper), "kl" of softmax, cross-entropy to the "pseudo-label" of the stopped branch, or
        "features", those of :func:`features_layer`, averaged over space.
    engine: "double_backward" or "jvp", exact; "difference" for models without second derivatives.
    per: one parameter gradient per "image", or one of the mean loss of the "batch" (the paper).
    augmentation: names of views ("flip", "shift", "noise", "crop"; "crop+colour": in turn), or ``View``s; l is the
        mean over ``copies`` of each. They draw from ``draws`` at time ``t``.
    live: the branch without stop-gradient on theta, "augmented" (eq. 11) or "original" (eq. 12).
    parameters: glob or regular expression for the names in theta; last: the last modules of these, 1 the head.
    distance: D: "norm" (the paper), "log", "angle", "l2", "inner", "layers"; ``Loss.direction`` has the formulas.
    target, residual, gradient_clip, relu, batch_norm: readings of the paper; the module docstring has them.
    direction: "score", or "random" of the same length (control).
    chunk: pictures per pass; None bounds it by pixels and parameters. It affects memory and time, not the score.
    epsilon: step of "difference", relative to ||theta||; 2e-4 by default.
    Raises UserError for an unknown option, or one that the model does not support.
    """
    if not isinstance(images, Tensor) or not images.ndim:
        raise UserError(f"dsf: images is {brief(images)}; give a tensor (N, 3, H, W) in [0, 1]")
    check_kinds("dsf", t=(t, (int, float)))
    draws = Draws(range(len(images))) if draws is None else draws
    _check(images, draws, engine, per, batch_norm, chunk, epsilon)
    check_choice("direction", direction, ("score", "random"))
    loss = loss_of(model, surrogate, distance, parameters, last, gradient_clip)
    how = ENGINES[engine] if epsilon is None else replace(ENGINES[engine], way=partial(difference, epsilon=epsilon))
    reading = Reading(draws, t, augmentation, copies, live, target, residual, Substitutes(relu, batch_norm))
    with torch.enable_grad(), full_precision(images.device), _in_one_line(loss, images, engine):
        if per == "batch":
            score, norm = _scored(how, loss, images, reading, slice(None), each=False)
            norm = norm.detach().expand(len(images))
        else:
            score, norm = _in_chunks(how, loss, images.detach(), reading, chunk)
    return (_turned(score, draws, t) if direction == "random" else score), norm


def _turned(score: Tensor, draws: Draws, t: float) -> Tensor:
    """N(0, 1) of the length of each picture's score."""
    drawn = draws.normal(score.shape[1:], t, "dsf direction").to(score)
    return unit(drawn) * torch.linalg.vector_norm(score, dim=(1, 2, 3), keepdim=True)


def _check(
    images: Tensor, draws: Draws, engine: str, per: str, batch_norm: str, chunk: int | None, epsilon: float | None
) -> None:
    """Raise UserError for a wrong value of an option that no part checks, and for images or draws of another shape."""
    number = (int, float, NoneType)
    check_kinds("dsf", draws=(draws, Draws), chunk=(chunk, (int, NoneType)), epsilon=(epsilon, number))
    check_choice("engine", engine, ENGINES)
    check_choice("per", per, ("image", "batch"))
    check_count("chunk", chunk, "pictures per pass")
    if epsilon is not None and (engine != "difference" or not epsilon > 0):
        raise UserError(f'dsf: epsilon={epsilon}; type a positive share of ||theta||, and engine="difference" with it')
    if batch_norm == "train" and per != "batch":
        raise UserError('dsf: batch_norm="train" takes the statistics of the batch; type per="batch" with it')
    if images.ndim != 4 or images.shape[1] != 3 or len(images) == 0:
        raise UserError(f"dsf: images of shape {tuple(images.shape)}; give (N, 3, H, W) in [0, 1], N >= 1")
    check_values(images)
    if len(draws) != len(images):
        raise UserError(f"dsf: {len(draws)} draws for {len(images)} pictures; give Draws(seeds), one seed per picture")


@dataclass
class Dsf(Field):
    """The discriminative score as a field, see ``dsf``."""

    model: TrainedModel
    draws: Draws
    options: dict[str, Any]
    stats: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        score, norm = dsf_score(self.model, x, draws=self.draws, t=float(t[0]), **self.options)
        self.stats = {"dsf norm": norm}
        return score


def dsf(model: TrainedModel, draws: Draws, **options: Any) -> Dsf:
    """The discriminative score as a field (x, t) -> dx, (B,3,H,W); ``stats`` has "dsf norm", (B,).

    draws: the pictures' seeds. options: keyword arguments of ``dsf_score`` except draws and t.
    Raises UserError for an unknown option.
    """
    known = [name for name in inspect.signature(dsf_score).parameters if name not in ("model", "images", "draws", "t")]
    for name in options:
        check_choice("option", name, known)
    return Dsf(model, draws, options)
