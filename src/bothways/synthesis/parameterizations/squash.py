"""Squash functions from a canvas into [0, 1], and their inverses.

Gradients are those of a loss that is minimised: an ascent differentiates minus the score.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from bothways.types import UserError

TANH_EDGE = 1 / 512  # half a step of an 8-bit image, so that 0 and 1 are restored to the same byte

Squash = Literal["tanh", "clamp"]


class _Clamp(torch.autograd.Function):
    """Clamp to [0, 1]; outside, the gradient of a loss passes only where descent leads back into [0, 1]."""

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
    """Squash a canvas of any shape to an image in [0, 1].

        "tanh": 1/2 + 1/2 tanh(x)        "clamp": min(max(x, 0), 1)

    The gradient of "clamp" also passes outside [0, 1] where descent leads back inside, so that no pixel saturates.
    It is the gradient of a loss that is minimised: to ascend a score, differentiate minus the score.
    """
    return _squashes(name)[0](canvas)


def unsquash(image: Tensor, name: Squash) -> Tensor:
    """Inverse squash: the canvas of an image in [0, 1], any shape.

    For "tanh" the image is first clamped to [1/512, 1 - 1/512], half a step of an 8-bit image, so that it is finite.
    """
    return _squashes(name)[1](image)


def _squashes(name: str) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    if name not in SQUASHES:
        raise UserError(f'parameterisation: squash={name!r}; type "tanh" or "clamp"')
    return SQUASHES[name]


def start_canvas(start_image: Tensor, name: Squash) -> Tensor:
    """Initial canvas of a starting picture, detached. Raises UserError unless it is (B,3,H,W) float in [0, 1]."""
    if start_image.ndim != 4 or start_image.shape[1] != 3 or not start_image.is_floating_point():
        raise UserError(
            f"parameterisation: the starting picture has shape {tuple(start_image.shape)} and {start_image.dtype}; "
            "give (B,3,H,W) of float32 or float64, for example image.float()[None]"
        )
    if not bool(((start_image >= 0) & (start_image <= 1)).all()):
        raise UserError("parameterisation: the starting picture is not in [0, 1]; divide bytes by 255, or .clamp(0, 1)")
    return unsquash(start_image.detach(), name)


def zero_leaf(start: Tensor, *shape: int) -> Tensor:
    """A leaf tensor of zeros (B, *shape), with the dtype and device of ``start``."""
    return start.new_zeros(len(start), *shape).requires_grad_()
