"""The Discriminative Score Function: how a picture must change for a trained classifier to want to change less.

    l(x)     = 1/2 || f(x; stop theta) - f(A(x); theta) ||^2                                    (the paper's eq. 11)
    score(x) = - grad_x D(g(x)),   g(x) = grad_theta l(x),   D(g) = ||g|| - ||theta||           (eq. 12)

The term ||theta|| has no gradient in x, so it is left out. Eq. 12 as printed has theta live on f(x) instead and stops
the augmented branch: ``live="original"``. In both, both branches depend on x.

The engines differentiate <g(x), v> instead, with v = dD/dg at g(x) held fixed, which has the same gradient in x
(``dsf_engines.py``). Two are exact and differentiate the model twice. The ``difference`` differentiates it once, as it
is: fused attention, compiled modules and half precision are fine. It is exact to O(eps^2) on smooth models. With ReLU
it need not converge as eps goes to zero: grad_theta l jumps where a unit switches, which autograd leaves out.

Departures: every picture has its own g by default, since one g of a whole batch makes a picture's score depend on its
neighbours; other surrogates, distances and augmentations by name; 1e-12 is added to ||g||^2, so that pictures with
g = 0 (constant, mirror-symmetric) have the score zero.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bothways.numerics.draws import Draws
from bothways.synthesis.dsf.engines import ENGINES, Engine, difference, gradients, over
from bothways.synthesis.dsf.surrogates import DISTANCES, SURROGATES, Loss, check_choice, loss_of, views
from bothways.synthesis.fields import Field
from bothways.synthesis.views import View
from bothways.types import RunError, TrainedModel, UserError

NUMBERS_TOGETHER = 2**24  # of gradients in theta, one a picture: 64 MiB
GPU = 16  # times as much of all on anything but a CPU
Branches = tuple[Tensor, Tensor]
"""(live, target): (n,c,3,H,W) and (n,k,3,h,w); the pictures themselves are one view, and so c or k is 1."""
Show = Callable[[Tensor, slice], Branches]
"""(pictures, which of all they are) -> their branches."""


def _scored(engine: Engine, loss: Loss, image: Tensor, show: Show, rows: slice, each: bool) -> tuple[Tensor, Tensor]:
    """The score of some pictures, and ||g||: one for each, or one of all."""
    x = image[rows].detach().requires_grad_()
    branches = show(x, rows)
    live, target = (part.detach().unsqueeze(1) if each else part.detach() for part in branches)
    with engine.model(len(x) == 1 and not each):
        # by the same kernels as the live branch: where the two views are equal, so are the answers, to the last bit
        read, again = over(each, partial(loss.read, {})), engine.thrifty and not each
        with torch.set_grad_enabled(not again):
            answer = read(target.requires_grad_())
        in_live, in_answer, norm = engine.way(loss, live.requires_grad_(), answer.detach().requires_grad_(), each)
        in_target = gradients([read(target) if again else answer], [in_answer], [target])[0]
    inside = [part.squeeze(1) if each else part for part in (in_live, in_target)]
    return -gradients(branches, inside, [x])[0], norm


def _in_chunks(engine: Engine, loss: Loss, image: Tensor, show: Show, chunk: int | None) -> tuple[Tensor, Tensor]:
    """Each picture with its own g, so many together. A chunk that nobody asked for gives way to single pictures."""
    size = chunk or _pictures_together(engine, loss, image)
    score, norm = torch.empty_like(image), image.new_empty(len(image))
    try:
        for start in range(0, len(image), size):
            rows = slice(start, start + size)
            score[rows], norm[rows] = _scored(engine, loss, image, show, rows, size > 1)
    except (RuntimeError, UserError):
        if chunk is not None or size == 1:
            raise
        return _in_chunks(engine, loss, image, show, 1)
    return score, norm


def _pictures_together(engine: Engine, loss: Loss, pictures: Tensor) -> int:
    """Small pictures are faster together, on a CPU large ones are not; memory is bounded in both."""
    times = 1 if pictures.device.type == "cpu" else GPU
    pixels, numbers = math.prod(pictures.shape[-2:]), sum(value.numel() for value in loss.theta.values())
    return max(1, min(times * engine.pixels // pixels, times * NUMBERS_TOGETHER // numbers))


@contextmanager
def _in_one_line(loss: Loss, image: Tensor, engine: str) -> Iterator[None]:
    """A model that cannot be taken that way says so in one line; one that cannot take the pictures says that."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`torch.jit.script", DeprecationWarning)  # torch.func.jvp's own
            warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)  # where vmap loops
            yield
    except torch.OutOfMemoryError as error:
        raise RunError('dsf: no memory is left; type chunk=1, or engine="difference"') from error
    except (RuntimeError, UserError) as error:
        cause = error.__cause__ if isinstance(error, UserError) else error
        if isinstance(error, RunError) or not isinstance(cause, RuntimeError):
            raise
        with torch.no_grad():
            loss.read({}, image[:1, None])
        advice = "chunk=1" if engine == "difference" else 'engine="difference"'
        said = (str(cause).strip() or type(cause).__name__).splitlines()[0]
        raise UserError(
            f"dsf: engine={engine!r} cannot differentiate model {loss.model.name!r} ({said}); type {advice}"
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
    draws: Draws | None = None,
    t: float = 0.0,
    chunk: int | None = None,
    epsilon: float | None = None,
) -> tuple[Tensor, Tensor]:
    """The score of pictures, -grad_x D(grad_theta l), and ||grad_theta l||: (N,3,H,W) and (N,).

    images: (N,3,H,W) in [0,1], of the model's size or another that it takes.
    surrogate: what l compares: "logits" (the paper), "kl" of softmax, the "pseudo-label" of the stopped branch, or the
        "features" of ``ModelSpec.feature_layer``, averaged over space.
    engine: "double_backward" or "jvp", exact; "difference" for models that cannot be differentiated twice.
    per: "image", each picture by its own gradient; "batch", all by the one gradient of their mean loss (the paper).
    augmentation: "flip" (mirrored), "roll", "shift" (an eighth of the side), "noise" (0.1), "crop" (7/8 of the side,
        enlarged), a ``View``, or several, over which l is averaged. They draw from ``draws`` at moment ``t``.
    live: the branch in which theta counts, "augmented" (eq. 11) or "original" (eq. 12).
    parameters: which of them theta is, as a glob or regular expression of their names; None for all.
    distance: "norm" (the paper), "log" of it, or the "angle" of g to -theta as 1 - cosine.
    chunk: how many pictures share a pass; None bounds it by pixels and parameters, and takes them singly where they
        cannot share one (torch.func.vmap). It changes memory and time, not the score.
    epsilon: of the difference, relative to ||theta||. The default 2e-4 is between ReLU's best and a smooth model's.
    Raises UserError for an option that is not known, or that the model cannot follow.
    Source: the DSF paper's eqs. 11 and 12; the engines are derived at the head of this file.
    """
    _check(surrogate, engine, per, live, distance, chunk, epsilon)
    draws = draws or Draws(range(len(images)))
    if images.ndim != 4 or images.shape[1] != 3 or len(images) == 0:
        raise UserError(f"dsf: images of shape {tuple(images.shape)}; give (N, 3, H, W) in [0, 1], N >= 1")
    if len(draws) != len(images):
        raise UserError(f"dsf: {len(draws)} draws for {len(images)} pictures; type draws=Draws(seeds), one a picture")
    loss = loss_of(model, surrogate, distance, parameters)
    how = ENGINES[engine] if epsilon is None else replace(ENGINES[engine], way=partial(difference, epsilon=epsilon))

    def show(x: Tensor, rows: slice) -> Branches:
        seen = views(x, augmentation, Draws(draws.seeds[rows]), t)
        return (seen, x[:, None]) if live == "augmented" else (x[:, None], seen)

    with torch.enable_grad(), _in_one_line(loss, images, engine):
        if per == "batch":
            score, norm = _scored(how, loss, images, show, slice(None), each=False)
            return score, norm.detach().expand(len(images))
        return _in_chunks(how, loss, images.detach(), show, chunk)


def _check(
    surrogate: str, engine: str, per: str, live: str, distance: str, chunk: int | None, epsilon: float | None
) -> None:
    check_choice("surrogate", surrogate, SURROGATES)
    check_choice("engine", engine, ENGINES)
    check_choice("per", per, ("image", "batch"))
    check_choice("live", live, ("augmented", "original"))
    check_choice("distance", distance, DISTANCES)
    if chunk is not None and chunk < 1:
        raise UserError(f"dsf: chunk={chunk}; type how many pictures share a pass, 1 or more")
    if epsilon is not None and (engine != "difference" or not epsilon > 0):
        raise UserError(f'dsf: epsilon={epsilon}; type a positive share of ||theta||, and engine="difference" with it')


@dataclass
class Dsf(Field):
    """The field of ``dsf``."""

    model: TrainedModel
    draws: Draws
    options: dict[str, Any]
    stats: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        score, norm = dsf_score(self.model, x, draws=self.draws, t=float(t[0]), **self.options)
        self.stats = {"dsf norm": norm}
        return score


def dsf(model: TrainedModel, draws: Draws, **options: Any) -> Dsf:
    """The score as a field (x, t) -> dx, (B,3,H,W); ``stats`` holds "dsf norm", (B,).

    draws: the pictures' seeds. options: those of ``dsf_score`` by name, all but draws and t.
    Raises UserError for an option that is not known.
    """
    known = [name for name in inspect.signature(dsf_score).parameters if name not in ("model", "images", "draws", "t")]
    for name in options:
        check_choice("option", name, known)
    return Dsf(model, draws, options)
