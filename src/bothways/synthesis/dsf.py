"""The Discriminative Score Function: how a picture must change for a trained classifier to want to change less.

    l(x)     = 1/2 || f(x; stop theta) - f(A(x); theta) ||^2                                    (the paper's eq. 11)
    score(x) = - grad_x D(g(x)),   g(x) = grad_theta l(x),   D(g) = ||g|| - ||theta||           (eq. 12)

The term ||theta|| has no gradient in x, so it is left out. Eq. 12 as printed has theta live on f(x) instead and stops
the augmented branch: ``live="original"``. In both, both branches depend on x.

With v = dD/dg at g(x) held fixed, grad_x D(g(x)) = grad_x <g(x), v>, and there are three ways to that gradient:

    double_backward   the gradient in x of <grad_theta l, v>                      exact
    jvp               the gradient in x of the slope of l along v in theta        exact
    difference        [grad_x l(theta + h v') - grad_x l(theta - h v')] ||v|| / 2h
                      v' = v / ||v||,   h = eps ||theta||

Both exact ones differentiate the model twice. The difference differentiates it once, as it is: fused attention,
compiled modules and half precision are fine. It is exact to O(eps^2) on smooth models. With ReLU it need not converge
as eps goes to zero: grad_theta l jumps where a unit switches, which autograd leaves out of its derivative.

Departures: every picture has its own g by default, since one g of a whole batch makes a picture's score depend on its
neighbours; other surrogates, distances and augmentations by name; 1e-12 is added to ||g||^2, so that pictures with
g = 0 (constant, mirror-symmetric) have the score zero.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from bothways.numerics.draws import Draws
from bothways.synthesis.augmentations import Augmentation
from bothways.synthesis.fields import Field
from bothways.synthesis.second_order import REVERSE_OVER_FORWARD, REVERSE_OVER_REVERSE, Instead
from bothways.synthesis.surrogates import DISTANCES, SMALL, SURROGATES, Loss, Named, length_of, loss_of, one_of, views
from bothways.types import RunError, TrainedModel, UserError

EPSILON = 2e-4  # of ||theta||: 1e-5 is better on smooth models, 3e-4 on ReLU and in bf16, 1e-3 worse on all measured
NUMBERS_TOGETHER = 2**24  # of gradients in theta, one a picture: 64 MiB
GPU = 16  # times as much of all on anything but a CPU
Branches = tuple[Tensor, Tensor]
"""(live, target): (n,c,3,H,W) and (n,k,3,h,w); the pictures themselves are one view, and so c or k is 1."""
Found = tuple[Tensor, Tensor, Tensor]
"""The gradients of <g, v> in the live pictures and in the answer of the stopped branch, and ||g||."""
Slopes = tuple[list[Tensor], list[Tensor], Tensor, Tensor]
"""What to differentiate in x, with which weights, what to multiply by, and ||g||."""


# ---- three ways to grad_x <g, v> -----------------------------------------------------------------------------------
# live (n,c,3,H,W) and answer (n,k,D) are leaves. ``each``: a dimension before these counts losses of their own.


def _double_backward(loss: Loss, live: Tensor, answer: Tensor) -> Slopes:
    g = torch.func.grad(loss)(loss.theta, live, answer)
    u, scale, norm = loss.direction(g)
    return list(g.values()), list(u.values()), scale, norm


def _jvp(loss: Loss, live: Tensor, answer: Tensor) -> Slopes:
    u, scale, norm = loss.direction(torch.func.grad(loss)(loss.theta, live.detach(), answer.detach()))
    slope = torch.func.jvp(lambda theta: loss(theta, live, answer), (loss.theta,), (u,))[1]
    return [slope], [torch.ones_like(slope)], scale, norm


def _exact(way: Callable[..., Slopes], loss: Loss, live: Tensor, answer: Tensor, each: bool) -> Found:
    slopes, weights, scale, norm = _over(each, partial(way, loss))(live, answer)
    reached = [pair for pair in zip(slopes, weights, strict=True) if pair[0].requires_grad]
    if not reached:
        raise UserError("dsf: the chosen parameters do not reach the surrogate; choose some before its layer")
    slopes, weights = ([pair[side] for pair in reached] for side in (0, 1))
    along = _gradients(slopes, weights, (live, answer))
    return *(_beside(scale, part) * part for part in along), norm


def _difference(loss: Loss, live: Tensor, answer: Tensor, each: bool, epsilon: float = EPSILON) -> Found:
    gradient = torch.func.grad(loss) if each else partial(_gradient, loss)
    g = _over(each, partial(gradient, loss.theta))(live.detach(), answer.detach())
    u, scale, norm = _over(each, loss.direction)(g)
    step = epsilon * length_of(loss.theta) / _over(each, length_of)(u).clamp_min(SMALL)
    # in place, since it is all parameters for every picture; torch.func expands what no picture reaches
    moved = {name: part.clone() if 0 in part.stride() else part for name, part in u.items()}
    for name, value in loss.theta.items():
        moved[name].mul_(_beside(step, moved[name])).add_(value)
    total = [torch.zeros_like(live), torch.zeros_like(answer)]
    for side in (step, -step):
        parts = _gradients([_over(each, loss)(moved, live, answer).sum()], None, (live, answer))
        total = [whole + part / (2 * _beside(side, part)) for whole, part in zip(total, parts, strict=True)]
        for name, value in loss.theta.items():
            moved[name].neg_().add_(value, alpha=2)  # to the other side of theta
    return *(_beside(scale, part) * part for part in total), norm


def _gradient(loss: Loss, theta: Named, live: Tensor, answer: Tensor) -> dict[str, Tensor]:
    """grad_theta l without torch.func, which a compiled module or a fused kernel may refuse."""
    leaves = {name: value.detach().requires_grad_() for name, value in theta.items()}
    return dict(zip(leaves, _gradients([loss(leaves, live, answer)], None, list(leaves.values())), strict=True))


def _gradients(of: Sequence[Tensor], weights: Sequence[Tensor] | None, at: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(of, at, weights, allow_unused=True, materialize_grads=True)


def _over(each: bool, function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.func.vmap(lambda *given: function(*given)) if each else function  # it prints a partial's tensors


def _beside(scale: Tensor, part: Tensor) -> Tensor:
    """A number, or one for each row, as a factor of ``part``."""
    return scale.reshape(scale.shape + (1,) * (part.ndim - scale.ndim))


@contextmanager
def _twice_differentiable(layers: Mapping[Any, Callable[..., Tensor]]) -> Iterator[None]:
    """The fused kernels of attention have one derivative only."""
    with sdpa_kernel(SDPBackend.MATH), Instead(layers):
        yield


@dataclass(frozen=True)
class Engine:
    """One way to grad_x <g, v>, what the model has to be for it, and how many pictures share a pass on a CPU."""

    way: Callable[..., Found]
    model: Callable[[], AbstractContextManager[None]] = nullcontext
    pixels: int = 16 * 32 * 32
    thrifty: bool = False  # reads the stopped branch of large pictures once more in place of keeping its graph


ENGINES = {
    "double_backward": Engine(partial(_exact, _double_backward), lambda: _twice_differentiable(REVERSE_OVER_REVERSE)),
    "jvp": Engine(partial(_exact, _jvp), lambda: _twice_differentiable(REVERSE_OVER_FORWARD)),
    "difference": Engine(_difference, pixels=8 * 32 * 32, thrifty=True),
}


# ---- batches, and what can go wrong --------------------------------------------------------------------------------


def _scored(engine: Engine, loss: Loss, branches: Branches, each: bool) -> list[Tensor]:
    """The gradients in both branches, and ||g||: one for each picture, or one of all."""
    live, target = ((branch.detach().unsqueeze(1) if each else branch.detach()).requires_grad_() for branch in branches)
    with engine.model():
        # by the same kernels as the live branch: where the two views are equal, so are the answers, to the last bit
        read = _over(each, partial(loss.read, {}))
        again = engine.thrifty and not each
        with torch.set_grad_enabled(not again):
            answer = read(target)
        in_live, in_answer, norm = engine.way(loss, live, answer.detach().requires_grad_(), each)
        if again:
            answer = read(target)
        found = (in_live, *_gradients([answer], [in_answer], [target]))
    return [*(part.squeeze(1) if each else part for part in found), norm]


def _in_chunks(engine: Engine, loss: Loss, branches: Branches, chunk: int | None) -> list[Tensor]:
    """Each picture with its own g, so many together. A chunk that nobody asked for gives way to single pictures."""
    size = chunk or _pictures_together(engine, loss, branches[1])
    found = [torch.empty_like(branch) for branch in branches] + [branches[0].new_empty(len(branches[0]))]
    try:
        for start in range(0, len(found[2]), size):
            rows = slice(start, start + size)
            for whole, part in zip(
                found, _scored(engine, loss, (branches[0][rows], branches[1][rows]), size > 1), strict=True
            ):
                whole[rows] = part
    except (RuntimeError, UserError):
        if chunk is not None or size == 1:
            raise
        return _in_chunks(engine, loss, branches, 1)
    return found


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
            warnings.filterwarnings(
                "ignore", "There is a performance drop", UserWarning
            )  # vmap, for what it loops over
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
    augmentation: str | Augmentation | Sequence[str | Augmentation] = "flip",
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
        enlarged), an ``Augmentation``, or several, over which l is averaged. They draw from ``draws`` at moment ``t``.
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
    if images.ndim != 4 or images.shape[1] != 3 or len(images) == 0:
        raise UserError(f"dsf: images of shape {tuple(images.shape)}; give (N, 3, H, W) in [0, 1], N >= 1")
    loss = loss_of(model, surrogate, distance, parameters)
    how = ENGINES[engine] if epsilon is None else replace(ENGINES[engine], way=partial(_difference, epsilon=epsilon))
    with torch.enable_grad():
        x = images.detach().requires_grad_()
        seen = views(x, augmentation, draws or Draws(range(len(x))), t)
        branches = (seen, x[:, None]) if live == "augmented" else (x[:, None], seen)
        with _in_one_line(loss, images, engine):
            if per == "batch":
                *inside, norm = _scored(how, loss, branches, each=False)
            else:
                *inside, norm = _in_chunks(how, loss, branches, chunk)
        return -_gradients(branches, inside, [x])[0], norm.detach().expand(len(x))


def _check(
    surrogate: str, engine: str, per: str, live: str, distance: str, chunk: int | None, epsilon: float | None
) -> None:
    one_of("surrogate", surrogate, SURROGATES)
    one_of("engine", engine, ENGINES)
    one_of("per", per, ("image", "batch"))
    one_of("live", live, ("augmented", "original"))
    one_of("distance", distance, DISTANCES)
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
        one_of("option", name, known)
    return Dsf(model, draws, options)
