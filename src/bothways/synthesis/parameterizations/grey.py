"""Another parameterization without its colours, for a model that sees one channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from torch import Tensor

from bothways.synthesis.parameterizations import free
from bothways.types import Parameterization


@final
class Grey:
    """The mean over the channels of what another parameterization holds, in all three.

        image = mean over channels of inner.image()

    inner: what draws, (B,3,H,W).
    """

    def __init__(self, inner: Parameterization) -> None:
        self.inner = inner

    @property
    def start(self) -> Tensor:
        """(B,3,H,W), before the squash: the inner one's."""
        return self.inner.start  # type: ignore[attr-defined]

    @property
    def linear_only(self) -> bool:
        return getattr(self.inner, "linear_only", False)

    def free(self, cut: float) -> list[Tensor] | None:
        """Those of the inner one."""
        return free(self.inner, cut)

    def parameters(self) -> list[Tensor]:
        return self.inner.parameters()

    def canvas(self, change: Sequence[Tensor]) -> Tensor:
        return _grey(self.inner.canvas(change))

    def image(self) -> Tensor:
        return _grey(self.inner.image())


def _grey(image: Tensor) -> Tensor:
    return image.mean(1, keepdim=True).expand_as(image)
