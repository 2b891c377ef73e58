"""The squash of a canvas into [0, 1], and back.

A canvas at rest squashes to the starting picture. Losses are minimised: an ascent gives the optimiser minus the score.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from bothways.types import UserError

TANH_EDGE = 1 / 512  # half a step of an 8-bit image: 0 and 1 come back as the same byte

Squash = Literal["tanh", "clamp"]


class _Clamp(torch.autograd.Function):
    """Clamp to [0, 1]; outside, the gradient of a loss passes only where a descent leads back inside."""

    @staticmethod
    def forward(ctx: Any, canvas: Tensor) -> Tensor:
        ctx.save_for_backward(canvas)
        return canvas.clamp(0.0, 1.0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (canvas,), (grad,) = ctx.saved_tensors, grads
        stuck = ((canvas > 1) & (grad < 0)) | ((canvas < 0) & (grad > 0))
        return grad.masked_fill(stuck, 0.0)


def _tanh(canvas: Tensor) -> Tensor:
    return 0.5 + 0.5 * torch.tanh(canvas)


def _atanh(image: Tensor) -> Tensor:
    return torch.atanh(2 * image.clamp(TANH_EDGE, 1 - TANH_EDGE) - 1)


SQUASHES: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "tanh": (_tanh, _atanh),
    "clamp": (_Clamp.apply, torch.clone),
}


def squash(canvas: Tensor, name: Squash) -> Tensor:
    """Canvas -> image in [0, 1], any shape.

        "tanh": 1/2 + 1/2 tanh(x)        "clamp": min(max(x, 0), 1)

    The gradient of "clamp" also passes outside [0, 1] where descending it leads back inside, so that no pixel is lost.
    It is the gradient of a loss that is minimised: to ascend a score, differentiate minus the score.
    """
    return _squashes(name)[0](canvas)


def unsquash(image: Tensor, name: Squash) -> Tensor:
    """Image in [0, 1] -> the canvas that squashes to it, any shape.

    "tanh" is finite: the image is first clamped into [1/512, 1 - 1/512], which moves no 8-bit value by a whole step.
    """
    return _squashes(name)[1](image)


def _squashes(name: str) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    if name not in SQUASHES:
        raise UserError(f'parameterisation: squash={name!r}; type "tanh" or "clamp"')
    return SQUASHES[name]


def start_canvas(start_image: Tensor, name: Squash) -> Tensor:
    """The start of a canvas, detached, or a UserError where the picture breaks the promise about images."""
    if start_image.ndim != 4 or start_image.shape[1] != 3 or not start_image.is_floating_point():
        raise UserError(
            f"parameterisation: the starting picture has shape {tuple(start_image.shape)} and {start_image.dtype}; "
            "give (B,3,H,W) of float32 or float64, for example image.float()[None]"
        )
    if not bool(((start_image >= 0) & (start_image <= 1)).all()):
        raise UserError("parameterisation: the starting picture leaves [0, 1]; divide bytes by 255, or .clamp(0, 1)")
    return unsquash(start_image.detach(), name)


def zero_leaf(start: Tensor, *shape: int) -> Tensor:
    """A leaf of zeros (B, *shape) beside ``start``."""
    return start.new_zeros(len(start), *shape).requires_grad_()
