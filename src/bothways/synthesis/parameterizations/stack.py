"""Multi-resolution image stack (DAS, Fort & Whitaker, arXiv 2502.07753, section 3).

Departure: two engines. "explicit" has one tensor per level, as in the paper; "operator" has one canvas and applies to
its gradient the operator that is equivalent to an SGD or momentum step on all levels (``numerics/pyramid.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, final

import torch
from torch import Tensor

from bothways.configs import setting
from bothways.numerics.pyramid import (
    STEP_TOLERANCE,
    Side,
    StackOperator,
    checked_weights,
    enlarge,
    geometric_levels,
    level_shapes,
    level_weights,
    stack_operator,
)
from bothways.registry import register
from bothways.synthesis.parameterizations import Canvas, CanvasContext, Measured
from bothways.synthesis.parameterizations.colours import NAMES, RGB, axes_of, coloured, scaled
from bothways.synthesis.parameterizations.squash import Squash, squash, start_canvas, zero_leaf
from bothways.types import Parameterization, UserError

Engine = Literal["operator", "explicit"]
GEOMETRIC = 16  # number of levels of the default stack
RANK_AT_MOST = 20  # terms of the operator that are kept, of any number of levels


@register("canvas", "stack", help="multi-resolution stack, as an operator or explicit levels", reference="das")
class StackCanvas(Canvas):
    """Settings of the multi-resolution stack."""

    engine: Engine = setting("operator", "the stack as an equivalent operator, or as explicit levels")
    levels: Literal["geometric", "octaves", "every-fourth", "all"] | list[int] = setting(
        "geometric", "resolutions of the stack"
    )
    level_power: float | None = setting(None, "p of level weights (size/r)^p; default weights by the level spacing")
    colours: Measured = setting(RGB, f"colour axes of the parameters: {NAMES}")

    def build(self, start: Tensor, place: CanvasContext) -> Parameterization:
        levels, weights = self.weighted_levels(start.shape[-2])
        axes = axes_of(self.colours, place)
        return ImageStack(start, levels, weights, engine=self.engine, squash=place.squash, axes=axes)

    def shared_bytes(self, high: int, wide: int) -> float:
        """Those of the operator, which is built in float64 and kept in float32."""
        if self.engine == "explicit":
            return 0.0
        levels = min(high, RANK_AT_MOST if self.levels in ("all", "every-fourth") else GEOMETRIC)
        return 12.0 * levels * (high**2 if high == wide else high**2 + wide**2)

    def weighted_levels(self, high: int) -> tuple[list[int], list[float]]:
        """Resolutions and weights of a stack with a canvas of ``high`` pixels in height."""
        if self.levels == "geometric":
            levels = geometric_levels(high, GEOMETRIC)
        elif self.levels == "octaves":
            levels = sorted({high, *(2**k for k in range(high.bit_length()) if 2**k <= high)})
        elif self.levels == "every-fourth":
            levels = list(range(1, high + 1, 4))
        else:
            levels = list(range(1, high + 1)) if self.levels == "all" else sorted(self.levels)
        if self.level_power is None:
            return levels, level_weights(levels)
        return levels, [(high / level) ** self.level_power for level in levels]


class _ThroughOperator(torch.autograd.Function):
    """Identity forward, T applied to the gradient backward: the stack's step, and not a derivative."""

    @staticmethod
    def forward(ctx: Any, raw: Tensor, operator: StackOperator) -> Tensor:
        ctx.operator = operator
        return raw.view_as(raw)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.operator(grads[0]), None


@final
class ImageStack:
    """The DAS parameterization: a sum of images at many resolutions.

        image = squash(start + C sum_i sqrt(w_i) resize(P_i)),   P_i (B,3,r_i,r_i W/H), bicubic, P_i = 0

    C: ``axes`` divided by their largest norm; the identity for None.
    A step of plain SGD on the P_i changes the canvas by -lr C C^T T(G), T(G) = sum_i w_i B_i G B_i, B_i = A_i A_i^T:
    each level has a factor sqrt(w_i) A_i forward and its transpose backward. So w_i is also a learning rate per level.

    engine "explicit": the P_i are the parameters, for any optimiser.
    engine "operator": one raw canvas (B,3,H,W), in the same colours, whose gradient is multiplied by T. SGD and
    momentum, also with a rescaled step, are equivalent to those on the stack; Adam, sign steps or weight decay are not
    (``linear_only``).

    start_image: (B,3,H,W) in [0,1]. levels: pixels of the height or, with side="long", of the longer side.
    weights: w_i, 1 for each where None. tolerance: the relative Frobenius error of T in the operator; 0 is exact.
    axes: (3,3), RGB x axis.
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
        axes: Tensor | None = None,
    ) -> None:
        if engine not in ("operator", "explicit"):
            raise UserError(f'ImageStack: engine={engine!r}; type "operator" or "explicit"')
        self.squash = squash
        self.start = start_canvas(start_image, squash)  # (B,3,H,W), before the squash
        self.axes = scaled(axes, self.start)
        self.operator: StackOperator | None = None
        H, W = self.start.shape[-2:]
        if engine == "operator":
            kind: dict[str, Any] = {"dtype": self.start.dtype, "device": self.start.device}
            self.operator = stack_operator(H, W, levels, weights, tolerance=tolerance, side=side, **kind)
            self.held = [zero_leaf(self.start, 3, H, W)]
        else:
            self.gains = [w**0.5 for w in checked_weights(weights, len(levels))]
            self.held = [zero_leaf(self.start, 3, h, w) for h, w in level_shapes(levels, H, W, side)]

    @property
    def linear_only(self) -> bool:
        """Whether only optimisers that are linear in the gradients (SGD, momentum) are equivalent to the stack."""
        return self.operator is not None

    def parameters(self) -> list[Tensor]:
        return list(self.held)

    def canvas(self, parameters: Sequence[Tensor]) -> Tensor:
        if self.operator is not None:
            return coloured(parameters[0], self.axes)
        H, W = self.start.shape[-2:]
        total = torch.zeros_like(self.start)
        for gain, level in zip(self.gains, parameters, strict=True):
            total = total + gain * enlarge(level, H, W)
        return coloured(total, self.axes)

    def free(self, cut: float) -> list[Tensor] | None:
        """The levels that hold waves of at most ``cut`` cycles per pixel: 1, others 0. None for the operator."""
        high = self.start.shape[-2]
        lengths = [level.shape[-2] / (2 * high) for level in self.held]
        return None if self.operator else [self.start.new_tensor(float(length <= cut)) for length in lengths]

    def image(self) -> Tensor:
        held = self.held if self.operator is None else [_ThroughOperator.apply(self.held[0], self.operator)]
        return squash(self.start + self.canvas(held), self.squash)
