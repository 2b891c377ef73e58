"""Masked parameterization: optimised pixels inside a mask, the photo outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from bothways.synthesis.parameterizations import Around
from bothways.types import Parameterization, UserError


@final
class Masked(Around):
    """An inner parameterization inside a mask, and the photo outside, bit for bit.

        image = inner.image() where mask = 1, photo where mask = 0

    photo: (B,3,H,W) in [0,1]. mask: (B or 1,1,H,W) of 0 and 1, any dtype.

    Raises UserError if shapes, dtypes or the mask's values do not fit.
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
        super().__init__(inner)
        self.photo, self.mask = photo.detach(), mask.bool()

    def canvas(self, parameters: Sequence[Tensor]) -> Tensor:
        return self.inner.canvas(parameters) * self.mask

    def image(self) -> Tensor:
        return torch.where(self.mask, self.inner.image(), self.photo)
