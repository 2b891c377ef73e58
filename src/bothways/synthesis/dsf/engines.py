"""Engines of the DSF: three ways to compute the gradient in x of <g(x), v>, g = grad_theta l, v = dD/dg held fixed.

    double_backward   the gradient in x of <grad_theta l, v>                      exact
    jvp               the gradient in x of the directional derivative of l        exact
    difference        [grad_x l(theta + h v') - grad_x l(theta - h v')] ||v|| / 2h
                      v' = v / ||v||,   h = eps ||theta||

Each takes (loss, live (n,c,3,H,W), answer (n,k,D)), the last two as leaves, and returns the gradients in them and
||g||. ``answer`` is the model's output on the stopped branch. ``each``: a leading dimension of independent losses,
batched by torch.func.vmap.

Passes through the model, where a plain gradient in x counts two: 9 for double_backward, 11 for jvp; 9 for difference,
or 10 where it evaluates the stopped branch twice to save memory. double_backward of several pictures makes 6 where
their norms can be taken by layers (``layered.py``).
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

from bothways.synthesis.dsf.second_order import (
    OF_ONE_PICTURE,
    REVERSE_OVER_FORWARD,
    REVERSE_OVER_REVERSE,
    ReplacedFunctions,
)
from bothways.synthesis.dsf.surrogates import SMALL, Loss, Named, global_norm
from bothways.types import UserError

EPSILON = 2e-4  # of ||theta||: 1e-5 is better on smooth models, 3e-4 on ReLU and in bf16, 1e-3 worse on all measured
OUT_OF_REACH = "dsf: the chosen parameters do not reach the surrogate; choose some before its layer"
Slopes = tuple[Tensor, Tensor, Tensor]
"""The gradients of <g, v> in the live branch and in the output of the stopped branch, and ||g||."""


def double_backward(loss: Loss, live: Tensor, answer: Tensor, each: bool) -> Slopes:
    """Reverse over reverse: backpropagate through the parameter gradient."""

    def slopes(live: Tensor, answer: Tensor) -> tuple[Named, Named, Tensor, Tensor]:
        g = torch.func.grad(loss)(loss.theta, live, answer)
        return g, *loss.direction(g)

    g, u, scale, norm = over(each, slopes)(live, answer)
    in_live, in_answer = _along([(g[name], u[name]) for name in g], scale, (live, answer))
    return in_live, in_answer, norm


def jvp(loss: Loss, live: Tensor, answer: Tensor, each: bool) -> Slopes:
    """Reverse over forward: backpropagate through the directional derivative of l along v, in forward mode."""

    def slope(live: Tensor, answer: Tensor, u: Named) -> Tensor:
        return torch.func.jvp(lambda theta: loss(theta, live, answer), (loss.theta,), (u,))[1]

    u, scale, norm = _direction(loss, live, answer, each)
    with ReplacedFunctions(REVERSE_OVER_FORWARD):
        rise = over(each, slope)(live, answer, u)
    in_live, in_answer = _along([(rise, torch.ones_like(rise))], scale, (live, answer))
    return in_live, in_answer, norm


def _along(pairs: Sequence[tuple[Tensor, Tensor]], scale: Tensor, at: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of <g, v> at ``at``, from (tensor to differentiate, weights) pairs, times the scale."""
    reached = [pair for pair in pairs if pair[0].requires_grad]
    if not reached:
        raise UserError(OUT_OF_REACH)
    found = gradients([of for of, _ in reached], [weight for _, weight in reached], at)
    return [_beside(scale, part) * part for part in found]


def difference(loss: Loss, live: Tensor, answer: Tensor, each: bool, epsilon: float = EPSILON) -> Slopes:
    """Central difference of grad_x l along v in theta."""
    u, scale, norm = _direction(loss, live, answer, each)
    step = epsilon * global_norm(loss.theta) / over(each, global_norm)(u).clamp_min(SMALL)
    moved = _owned(u)  # updated in place, since it has the size of all parameters per picture
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
    """``Loss.direction`` at the parameter gradient, without a graph for second derivatives."""
    gradient = torch.func.grad(loss) if each else partial(_gradient, loss)
    g = over(each, partial(gradient, loss.theta))(live.detach(), answer.detach())
    u, scale, norm = over(each, loss.direction)(g)
    if each and not norm.any():
        _gradient(loss, loss.theta, live[0].detach(), answer[0].detach())  # raises if theta does not reach the loss
    return u, scale, norm


def _gradient(loss: Loss, theta: Named, live: Tensor, answer: Tensor) -> dict[str, Tensor]:
    """grad_theta l without torch.func, which compiled modules and fused kernels may not support."""
    leaves = {name: value.detach().requires_grad_() for name, value in theta.items()}
    value = loss(leaves, live, answer)
    if not value.requires_grad:
        raise UserError(OUT_OF_REACH)
    return dict(zip(leaves, gradients([value], None, list(leaves.values())), strict=True))


def _owned(parts: Named) -> Named:
    """Tensors with memory of their own; autograd may return one tensor for two parameters, or a view."""
    owned, taken = {}, set()
    for name, part in parts.items():
        memory = part.untyped_storage()
        alone = memory.data_ptr() not in taken and memory.nbytes() == part.numel() * part.element_size()
        owned[name] = part if alone else part.clone(memory_format=torch.contiguous_format)
        taken.add(memory.data_ptr())
    return owned


def gradients(of: Sequence[Tensor], weights: Sequence[Tensor] | None, at: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """sum_i weights_i d of_i / d at, zero where there is no dependence."""
    return torch.autograd.grad(of, at, weights, allow_unused=True, materialize_grads=True)


def over(each: bool, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, vectorised over the leading dimension with ``each``."""
    return torch.func.vmap(lambda *inputs: function(*inputs)) if each else function  # vmap takes a partial's repr


def _beside(scale: Tensor, part: Tensor) -> Tensor:
    """Reshape a scalar, or one per row, for broadcasting with ``part``."""
    return scale.reshape(scale.shape + (1,) * (part.ndim - scale.ndim))


@contextmanager
def _in_reverse(alone: bool) -> Iterator[None]:
    """Make every layer twice differentiable; of one picture the replaced convolution is faster with groups only."""
    with unfused(alone), ReplacedFunctions(OF_ONE_PICTURE if alone else REVERSE_OVER_REVERSE):
        yield


def unfused(_: bool) -> AbstractContextManager[None]:
    """Disable fused attention kernels, which have no second derivative."""
    return sdpa_kernel(SDPBackend.MATH)


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Convolutions of a GPU in float32, not TF32: of noise, a score by 10 bits may have another direction."""
    if device.type != "cuda":
        yield
        return
    kept = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = kept


@dataclass(frozen=True)
class Engine:
    """An engine: its function, the context for the model (argument: one picture alone), and pixels per CPU pass."""

    way: Callable[..., Slopes]
    model: Callable[[bool], AbstractContextManager[Any]] = nullcontext
    pixels: int = 16 * 32 * 32
    thrifty: bool = False  # evaluate the stopped branch again instead of keeping its graph


ENGINES = {
    "double_backward": Engine(double_backward, _in_reverse),
    "jvp": Engine(jvp, unfused),
    "difference": Engine(difference, pixels=8 * 32 * 32, thrifty=True),
}
