"""Another parameterization without its colours, for a model that sees one channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor

from bothways.synthesis.parameterizations import Around


@final
class Grey(Around):
    """The mean over the channels of what another parameterization holds, in all three.

        image = mean over channels of inner.image()

    inner: what draws, (B,3,H,W).
    """

    def canvas(self, change: Sequence[Tensor]) -> Tensor:
        return _grey(self.inner.canvas(change))

    def image(self) -> Tensor:
        return _grey(self.inner.image())


def _grey(image: Tensor) -> Tensor:
    return image.mean(1, keepdim=True).expand_as(image)
