"""Flows whose velocity is known: from N(0, 1) to a mixture of Gaussians, v(x, t) = E[a' image + s' noise | x_t = x]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from bothways.models.velocity import Flow
from bothways.representation.paths import path_of
from bothways.types import ModelSpec


class MixtureFlow:
    """means (K,D), covariances (K,D,D), shares (K,) of the source; called with x (B,D), t (B,), float64."""

    def __init__(self, means: Tensor, covariances: Tensor, shares: Sequence[float] = (1.0,), path: str = "linear"):
        self.means, self.covariances = means.double(), covariances.double()
        self.shares, self.path = torch.tensor(shares, dtype=torch.float64), path_of(path)

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        a, s, da, ds = (weight[:, None, None, None] for weight in self.path(t))
        spread = a.square() * self.covariances + s.square() * torch.eye(self.means.shape[1], dtype=torch.float64)
        centred = (x[:, None] - a[..., 0] * self.means)[..., None]  # (B,K,D,1)
        pulled = torch.linalg.solve(spread, centred)
        growth = a * da * self.covariances + s * ds * torch.eye(self.means.shape[1], dtype=torch.float64)
        velocities = da[..., 0] * self.means + (growth @ pulled)[..., 0]
        logs = self.shares.log() - (centred * pulled).sum((2, 3)) / 2 - torch.linalg.slogdet(spread).logabsdet / 2
        return (logs.softmax(1)[..., None] * velocities).sum(1)

    def source(self, depth: float = 0.0) -> MixtureSameFamily:
        """The distribution of x_t at a depth, of torch's own making."""
        a, s, _, _ = self.path(torch.tensor([1 - depth], dtype=torch.float64))
        spread = a.square() * self.covariances + s.square() * torch.eye(self.means.shape[1], dtype=torch.float64)
        return MixtureSameFamily(Categorical(self.shares), MultivariateNormal(a * self.means, spread))


def gaussian(mean: Sequence[float], covariance: Sequence[Sequence[float]], path: str = "linear") -> MixtureFlow:
    """The flow to one Gaussian."""
    return MixtureFlow(torch.tensor([mean]), torch.tensor([covariance]), path=path)


class PixelGaussian(torch.nn.Module):
    """The velocity of the linear path to N(mean, variance) in every value by itself; x of any shape."""

    def __init__(self, mean: float, variance: float) -> None:
        super().__init__()
        self.mean, self.variance = mean, variance

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        t = t.view(-1, *[1] * (x.ndim - 1))
        growth = (t * self.variance - (1 - t)) / (t * t * self.variance + (1 - t) ** 2)
        return self.mean + growth * (x - t * self.mean)


def picture_flow(network: torch.nn.Module, size: int, *, grey: bool = False, levels: int = 256) -> Flow:
    """A Flow around a velocity, whose three channels have deviations of their own."""
    spec = ModelSpec(
        size=size,
        mean=(0.5, 0.4, 0.6),
        std=(0.25, 0.2, 0.3),
        classes=0,
        channel_order="grey" if grey else "RGB",
        time_scale=1.0,
        path="linear",
        levels=levels,
    )
    return Flow(network, spec)
