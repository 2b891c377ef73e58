"""How the pictures of an ascent are held: a linear map to a canvas, then a squash into [0, 1].

    image = squash(start + canvas(parameters)),   parameters = 0 at the start

Pixels: the canvas itself. Fourier: spectrum coefficients, scaled and decorrelated (Olah, Mordvintsev & Schubert,
"Feature Visualization", Distill 2017, and its code lucid). ImageStack: a stack of resolutions (DAS, Fort & Whitaker,
arXiv 2502.07753, section 3). Masked: any of them inside a mask.

Departures. Fourier ends in 1/2 + 1/2 tanh(x) where lucid has the sigmoid, 1/2 + 1/2 tanh(x/2). ImageStack has two
engines: "explicit" holds each level, as the paper does; "operator" holds one canvas and sends its gradient through the
operator that an SGD or momentum step on all levels amounts to (see :mod:`bothways.numerics.pyramid`).

A canvas at rest squashes to the starting picture. Losses are minimised: an ascent gives the optimiser minus the score.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, final

import torch
from torch import Tensor

from bothways.numerics.pyramid import (
    STEP_TOLERANCE,
    Side,
    StackOperator,
    checked_weights,
    enlarge,
    level_shapes,
    stack_operator,
)
from bothways.types import Parameterization, UserError

TANH_EDGE = 1 / 512  # half a step of an 8-bit image: 0 and 1 come back as the same byte
LUCID_GAIN = 1 / 4  # lucid divides its canvas by 4 so that its learning rates suit
LUCID_COLOUR = ((0.26, 0.09, 0.02), (0.27, 0.00, -0.05), (0.27, -0.09, 0.03))  # root of ImageNet's colour covariance

Squash = Literal["tanh", "clamp"]
Engine = Literal["operator", "explicit"]


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


class _ThroughOperator(torch.autograd.Function):
    """The raw canvas unchanged, its gradient through T: no derivative of anything, but the stack's own step."""

    @staticmethod
    def forward(ctx: Any, raw: Tensor, operator: StackOperator) -> Tensor:
        ctx.operator = operator
        return raw.view_as(raw)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.operator(grads[0]), None


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


def canvas_of(start_image: Tensor, name: Squash) -> Tensor:
    """The start of a canvas, detached, or a UserError where the picture breaks the promise about images."""
    if start_image.ndim != 4 or start_image.shape[1] != 3 or not start_image.is_floating_point():
        raise UserError(
            f"parameterisation: the starting picture has shape {tuple(start_image.shape)} and {start_image.dtype}; "
            "give (B,3,H,W) of float32 or float64, for example image.float()[None]"
        )
    if not bool(((start_image >= 0) & (start_image <= 1)).all()):
        raise UserError("parameterisation: the starting picture leaves [0, 1]; divide bytes by 255, or .clamp(0, 1)")
    return unsquash(start_image.detach(), name)


def _zeros(start: Tensor, *shape: int) -> Tensor:
    """A leaf of zeros (B, *shape) beside ``start``."""
    return start.new_zeros(len(start), *shape).requires_grad_()


@final
class Pixels:
    """One number per pixel and channel.

        image = squash(start + raw),   raw (B,3,H,W)

    start_image: (B,3,H,W) in [0,1]. squash: "clamp" or "tanh".
    """

    linear_only = False

    def __init__(self, start_image: Tensor, squash: Squash = "clamp") -> None:
        self.squash = squash
        self.start = canvas_of(start_image, squash)  # (B,3,H,W), before the squash
        self.raw = _zeros(self.start, *self.start.shape[1:])

    def parameters(self) -> list[Tensor]:
        return [self.raw]

    def canvas(self, parameters: Sequence[Tensor]) -> Tensor:
        return parameters[0]

    def image(self) -> Tensor:
        return squash(self.start + self.raw, self.squash)


@final
class Fourier:
    """The coefficients of a real Fourier transform, low frequencies first, in decorrelated colours.

        canvas = 1/4 M irfft2( c / max(f, 1/max(H, W))^decay ),   f in cycles per pixel, irfft2 orthonormal

    M: lucid's root of the colour covariance of ImageNet, divided by its largest column norm; the identity without
    ``decorrelate``. c: (B,3,H,W//2+1,2), real and imaginary parts.

    start_image: (B,3,H,W) in [0,1]. decay: 1 for pictures as natural ones, 0 for a white spectrum.
    Source: Olah et al., Distill 2017, "Preconditioning and parameterization", and lucid's spatial.py and color.py.
    """

    linear_only = False

    def __init__(
        self, start_image: Tensor, decay: float = 1.0, squash: Squash = "tanh", decorrelate: bool = True
    ) -> None:
        self.squash = squash
        self.start = canvas_of(start_image, squash)  # (B,3,H,W), before the squash
        H, W = self.start.shape[-2:]
        kind: dict[str, Any] = {"dtype": self.start.dtype, "device": self.start.device}
        f = torch.hypot(torch.fft.fftfreq(H, **kind)[:, None], torch.fft.rfftfreq(W, **kind))
        self.scale = f.clamp_min(1 / max(H, W)) ** -decay  # (H, W//2+1)
        root = torch.tensor(LUCID_COLOUR, **kind)
        self.colour = root / root.norm(dim=0).max() if decorrelate else torch.eye(3, **kind)
        self.coefficients = _zeros(self.start, 3, H, W // 2 + 1, 2)

    def parameters(self) -> list[Tensor]:
        return [self.coefficients]

    def canvas(self, parameters: Sequence[Tensor]) -> Tensor:
        spectrum = torch.view_as_complex(parameters[0].contiguous()) * self.scale
        planes = torch.fft.irfft2(spectrum, s=tuple(self.start.shape[-2:]), norm="ortho")
        return LUCID_GAIN * torch.einsum("ck,bkhw->bchw", self.colour, planes)

    def image(self) -> Tensor:
        return squash(self.start + self.canvas(self.parameters()), self.squash)


@final
class ImageStack:
    """The DAS picture: the sum of the same picture at many resolutions.

        image = squash(start + sum_i sqrt(w_i) resize(P_i)),   P_i (B,3,r_i,r_i W/H), bicubic, P_i = 0

    A step of plain SGD on the P_i moves the canvas by -lr T(G), T(G) = sum_i w_i B_i G B_i, B_i = A_i A_i^T: each level
    gives sqrt(w_i) A_i on the way up times sqrt(w_i) A_i^T on the way down. So w_i is also a learning rate per level.

    engine "explicit": the P_i are the parameters, for any optimiser.
    engine "operator": one raw canvas (B,3,H,W) whose gradient passes through T. SGD and momentum, also with a rescaled
    step, are exactly those on the stack; Adam, sign steps or weight decay per parameter would not be (``linear_only``).

    start_image: (B,3,H,W) in [0,1]. levels: pixels of the height or, with side="long", of the longer side.
    weights: w_i, 1 for each where None. tolerance: the relative Frobenius error of T in the operator; 0 is exact.
    """

    def __init__(
        self,
        start_image: Tensor,
        levels: Sequence[int],
        weights: Sequence[float] | None = None,
        engine: Engine = "operator",
        squash: Squash = "tanh",
        tolerance: float = STEP_TOLERANCE,
        side: Side = "height",
    ) -> None:
        if engine not in ("operator", "explicit"):
            raise UserError(f'ImageStack: engine={engine!r}; type "operator" or "explicit"')
        self.squash = squash
        self.start = canvas_of(start_image, squash)  # (B,3,H,W), before the squash
        self.operator: StackOperator | None = None
        H, W = self.start.shape[-2:]
        if engine == "operator":
            kind: dict[str, Any] = {"dtype": self.start.dtype, "device": self.start.device}
            self.operator = stack_operator(H, W, levels, weights, tolerance=tolerance, side=side, **kind)
            self.held = [_zeros(self.start, 3, H, W)]
        else:
            self.gains = [w**0.5 for w in checked_weights(weights, len(levels))]
            self.held = [_zeros(self.start, 3, h, w) for h, w in level_shapes(levels, H, W, side)]

    @property
    def linear_only(self) -> bool:
        """Whether only optimisers whose step is linear in the gradients (SGD, momentum) act as on the stack."""
        return self.operator is not None

    def parameters(self) -> list[Tensor]:
        return list(self.held)

    def canvas(self, parameters: Sequence[Tensor]) -> Tensor:
        if self.operator is not None:
            return parameters[0]
        H, W = self.start.shape[-2:]
        total = torch.zeros_like(self.start)
        for gain, level in zip(self.gains, parameters, strict=True):
            total = total + gain * enlarge(level, H, W)
        return total

    def image(self) -> Tensor:
        added = self.canvas(self.held) if self.operator is None else _ThroughOperator.apply(self.held[0], self.operator)
        return squash(self.start + added, self.squash)


@final
class Masked:
    """Another parameterisation inside a mask, the photo outside, bit for bit.

        image = inner.image() where mask = 1, photo where mask = 0

    inner: what draws. photo: (B,3,H,W) in [0,1]. mask: (B or 1,1,H,W) of 0 and 1, any dtype.

    Raises UserError where shapes, dtypes or the mask's values do not fit.
    """

    def __init__(self, inner: Parameterization, photo: Tensor, mask: Tensor) -> None:
        with torch.no_grad():
            drawn = inner.image()
        if photo.shape != drawn.shape or photo.dtype != drawn.dtype:
            raise UserError(
                f"Masked: the photo is {tuple(photo.shape)} of {photo.dtype} and the drawing {tuple(drawn.shape)} of "
                f"{drawn.dtype}; resize or convert one, for example photo.to({drawn.dtype})"
            )
        fits = mask.ndim == 4 and mask.shape[0] in (1, len(photo)) and mask.shape[1:] == (1, *photo.shape[2:])
        if not fits or not bool(((mask == 0) | (mask == 1)).all()):
            raise UserError(f"Masked: the mask is {tuple(mask.shape)}; give (1 or B,1,H,W) of 0 (keep) and 1 (draw)")
        self.inner, self.photo, self.mask = inner, photo.detach(), mask.bool()

    @property
    def start(self) -> Tensor:
        """(B,3,H,W), before the squash: the inner one's."""
        return self.inner.start  # type: ignore[attr-defined]

    @property
    def linear_only(self) -> bool:
        return getattr(self.inner, "linear_only", False)

    def parameters(self) -> list[Tensor]:
        return self.inner.parameters()

    def canvas(self, parameters: Sequence[Tensor]) -> Tensor:
        return self.inner.canvas(parameters) * self.mask

    def image(self) -> Tensor:
        return torch.where(self.mask, self.inner.image(), self.photo)
