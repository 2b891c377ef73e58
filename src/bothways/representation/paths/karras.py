"""Path of a variance-exploding diffusion, scaled to unit variance of pure noise, in the time of EDM's sampler.

    a = 1 / sqrt(1 + sigma^2),   s = sigma a,   sigma(t) = ((1 - t) high^(1/rho) + t low^(1/rho))^rho

EDM walks X + sigma e; a times that is nearly N(0, 1) at sigma = high. Even steps of t are the steps of EDM's sampler.
Source: Karras et al. 2022, arXiv 2206.00364, eq. 5.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bothways.types import PathWeights


@dataclass(frozen=True)
class Karras:
    """Path weights of sigma from ``high`` (t = 0) to ``low`` (t = 1). rho: how much shorter the steps are near low."""

    low: float = 0.002
    high: float = 80.0
    rho: float = 7.0

    def sigma(self, t: Tensor) -> Tensor:
        """sigma(t), (B,) float64."""
        return self._root(t) ** self.rho

    def __call__(self, t: Tensor) -> PathWeights:
        root = self._root(t)
        sigma, slope = root**self.rho, self.rho * root ** (self.rho - 1) * self._rise
        a = (1 + sigma.square()).rsqrt()
        weights = (a, sigma * a, -sigma * a**3 * slope, a**3 * slope)
        return PathWeights(*(value.to(t.dtype) for value in weights))

    @property
    def _rise(self) -> float:
        return self.low ** (1 / self.rho) - self.high ** (1 / self.rho)

    def _root(self, t: Tensor) -> Tensor:
        """sigma^(1/rho)."""
        return self.high ** (1 / self.rho) + t.double() * self._rise
