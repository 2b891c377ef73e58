"""Total variation."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from bothways.configs import setting
from bothways.registry import register
from bothways.synthesis.objectives.base import Binding, Objective, Role
from bothways.synthesis.objectives.terms import Term, image_term


@register("objective", "variation", help="low total variation: a smooth picture", reference="variation")
class TotalVariation(Objective):
    """Negative total variation of the image: -mean (dx^2 + dy^2)^(power/2), or the sum."""

    role: ClassVar[Role] = "image"
    power: float = setting(2.0, "exponent of the total variation", gt=0)
    reduce: Literal["mean", "sum"] = setting("mean", "over pixels and colours: mean, or sum as Mahendran & Vedaldi")

    def terms(self, to: Binding) -> list[Term]:
        return [total_variation(self.power, self.reduce)]


def total_variation(power: float = 2.0, reduce: Literal["mean", "sum"] = "mean") -> Term:
    """Negative total variation -mean (dx^2 + dy^2)^(power/2), over 3 (H-1) (W-1) pixels and colours.

    reduce "sum": their sum, as in Mahendran & Vedaldi (arXiv 1412.0035, eq. 3).
    """

    def measure(image: Tensor) -> Tensor:
        down = image[..., 1:, :-1] - image[..., :-1, :-1]
        right = image[..., :-1, 1:] - image[..., :-1, :-1]
        squared = down.square() + right.square()
        # 1e-8: the root is not differentiable at 0, where neighbours are equal
        length = squared if power == 2 else (squared + 1e-8) ** (power / 2)
        # a side of one pixel has no neighbours, and the mean of nothing is no number
        return -(length.sum((1, 2, 3)) if reduce == "sum" or not length.numel() else length.mean((1, 2, 3)))

    return image_term("total variation", measure)
