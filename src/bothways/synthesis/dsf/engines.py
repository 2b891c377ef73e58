"""Three ways to the gradient in x of <g(x), v>, g = grad_theta l, with v = dD/dg held fixed.

    double_backward   the gradient in x of <grad_theta l, v>                      exact
    jvp               the gradient in x of the slope of l along v in theta        exact
    difference        [grad_x l(theta + h v') - grad_x l(theta - h v')] ||v|| / 2h
                      v' = v / ||v||,   h = eps ||theta||

Each takes (loss, live (n,c,3,H,W), answer (n,k,D)), the last two as leaves, and gives the gradients in them and ||g||.
``each``: a dimension before these counts losses of their own, taken together by torch.func.vmap.

Passes through the model, where a plain gradient in x is two: 9 for double_backward, 11 for jvp; 9 for the difference,
or 10 where it reads the stopped branch twice to save memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from bothways.synthesis.dsf.second_order import NORMS, REVERSE_OVER_FORWARD, REVERSE_OVER_REVERSE, ReplacedFunctions
from bothways.synthesis.dsf.surrogates import SMALL, Loss, Named, global_norm
from bothways.types import UserError

EPSILON = 2e-4  # of ||theta||: 1e-5 is better on smooth models, 3e-4 on ReLU and in bf16, 1e-3 worse on all measured
OUT_OF_REACH = "dsf: the chosen parameters do not reach the surrogate; choose some before its layer"
Slopes = tuple[Tensor, Tensor, Tensor]
"""The gradients of <g, v> in the live pictures and in the answer of the stopped branch, and ||g||."""


def double_backward(loss: Loss, live: Tensor, answer: Tensor, each: bool) -> Slopes:
    """Through the backward pass of the gradient."""

    def slopes(live: Tensor, answer: Tensor) -> tuple[Named, Named, Tensor, Tensor]:
        g = torch.func.grad(loss)(loss.theta, live, answer)
        return g, *loss.direction(g)

    g, u, scale, norm = over(each, slopes)(live, answer)
    in_live, in_answer = _along([(g[name], u[name]) for name in g], scale, (live, answer))
    return in_live, in_answer, norm


def jvp(loss: Loss, live: Tensor, answer: Tensor, each: bool) -> Slopes:
    """Through the slope in forward mode; the gradient that it runs along needs no second derivative."""

    def slope(live: Tensor, answer: Tensor, u: Named) -> Tensor:
        return torch.func.jvp(lambda theta: loss(theta, live, answer), (loss.theta,), (u,))[1]

    u, scale, norm = _direction(loss, live, answer, each)
    with ReplacedFunctions(REVERSE_OVER_FORWARD):
        rise = over(each, slope)(live, answer, u)
    in_live, in_answer = _along([(rise, torch.ones_like(rise))], scale, (live, answer))
    return in_live, in_answer, norm


def _along(pairs: Sequence[tuple[Tensor, Tensor]], scale: Tensor, at: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of <g, v> from what is to be differentiated, and with which weights."""
    reached = [pair for pair in pairs if pair[0].requires_grad]
    if not reached:
        raise UserError(OUT_OF_REACH)
    found = gradients([of for of, _ in reached], [weight for _, weight in reached], at)
    return [_beside(scale, part) * part for part in found]


def difference(loss: Loss, live: Tensor, answer: Tensor, each: bool, epsilon: float = EPSILON) -> Slopes:
    """Both sides of theta along v, one after the other."""
    u, scale, norm = _direction(loss, live, answer, each)
    step = epsilon * global_norm(loss.theta) / over(each, global_norm)(u).clamp_min(SMALL)
    moved = _owned(u)  # changed in place, since it is all parameters for every picture
    for name, value in loss.theta.items():
        torch.addcmul(value, _beside(step, moved[name]), moved[name], out=moved[name])
    total = [torch.zeros_like(live), torch.zeros_like(answer)]
    for side in (step, -step):
        parts = gradients([over(each, loss)(moved, live, answer).sum()], None, (live, answer))
        total = [whole + part / (2 * _beside(side, part)) for whole, part in zip(total, parts, strict=True)]
        for name, value in loss.theta.items():
            torch.sub(2 * value, moved[name], out=moved[name])  # to the other side of theta
    in_live, in_answer = (_beside(scale, part) * part for part in total)
    return in_live, in_answer, norm


def _direction(loss: Loss, live: Tensor, answer: Tensor, each: bool) -> tuple[Named, Tensor, Tensor]:
    """What ``Loss.direction`` says at the gradient, with nothing kept to differentiate it again."""
    gradient = torch.func.grad(loss) if each else partial(_gradient, loss)
    g = over(each, partial(gradient, loss.theta))(live.detach(), answer.detach())
    u, scale, norm = over(each, loss.direction)(g)
    if each and not norm.any():
        _gradient(loss, loss.theta, live[0].detach(), answer[0].detach())  # says so where theta is out of reach
    return u, scale, norm


def _gradient(loss: Loss, theta: Named, live: Tensor, answer: Tensor) -> dict[str, Tensor]:
    """grad_theta l without torch.func, which a compiled module or a fused kernel may refuse."""
    leaves = {name: value.detach().requires_grad_() for name, value in theta.items()}
    value = loss(leaves, live, answer)
    if not value.requires_grad:
        raise UserError(OUT_OF_REACH)
    return dict(zip(leaves, gradients([value], None, list(leaves.values())), strict=True))


def _owned(parts: Named) -> Named:
    """Each in memory of its own; autograd may give one tensor to two parameters, or a view of a larger one."""
    owned, taken = {}, set()
    for name, part in parts.items():
        memory = part.untyped_storage()
        alone = memory.data_ptr() not in taken and memory.nbytes() == part.numel() * part.element_size()
        owned[name] = part if alone else part.clone(memory_format=torch.contiguous_format)
        taken.add(memory.data_ptr())
    return owned


def gradients(of: Sequence[Tensor], weights: Sequence[Tensor] | None, at: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """sum_i weights_i d of_i / d at, zero where there is no way from one to the other."""
    return torch.autograd.grad(of, at, weights, allow_unused=True, materialize_grads=True)


def over(each: bool, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, or for ``each`` the same for every row of what it is given."""
    return torch.func.vmap(lambda *given: function(*given)) if each else function  # it prints a partial's tensors


def _beside(scale: Tensor, part: Tensor) -> Tensor:
    """A number, or one for each row, as a factor of ``part``."""
    return scale.reshape(scale.shape + (1,) * (part.ndim - scale.ndim))


@contextmanager
def _in_reverse(alone: bool) -> Iterator[None]:
    """Every layer twice differentiable; our convolution pays for many pictures."""
    with _unfused(alone), ReplacedFunctions(NORMS if alone else REVERSE_OVER_REVERSE):
        yield


def _unfused(_: bool) -> AbstractContextManager[None]:
    """The fused kernels of attention have one derivative only."""
    return sdpa_kernel(SDPBackend.MATH)


@dataclass(frozen=True)
class Engine:
    """One way to grad_x <g, v>, what it makes of the model (for one picture alone?), the pixels of a pass on a CPU."""

    way: Callable[..., Slopes]
    model: Callable[[bool], AbstractContextManager[Any]] = nullcontext
    pixels: int = 16 * 32 * 32
    thrifty: bool = False  # reads the stopped branch of large pictures once more in place of keeping its graph


ENGINES = {
    "double_backward": Engine(double_backward, _in_reverse),
    "jvp": Engine(jvp, _unfused),
    "difference": Engine(difference, pixels=8 * 32 * 32, thrifty=True),
}
