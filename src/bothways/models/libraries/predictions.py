"""What a diffusion network predicts -> the velocity of its probability flow, x = a X + s e, v = a' X + s' e.

    epsilon        the network gives e           X = (x - s e) / a
    v_prediction   it gives u = a e - s X        X = a x - s u,   e = s x + a u
    sample         it gives X                    e = (x - a X) / s
    flow matching  it gives e - X at sigma       x = (1 - sigma) X + sigma e,   v = X - e,   t = 1 - sigma
    karras         F of c_in (X + sigma e)       X = c_skip (X + sigma e) + c_out F

The first three are on the levels k of a schedule, t = 1 - k / (K - 1), between which the network is called at a
fraction. Ho et al. 2020, arXiv 2006.11239; Salimans & Ho 2022, arXiv 2202.00512, app. D; Song et al. 2020, arXiv
2010.02502 (DDIM), whose deterministic sampler integrates this field; Lipman et al. 2022, arXiv 2210.02747; Karras et
al. 2022, arXiv 2206.00364, eq. 7 and table 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from bothways.representation.paths.karras import Karras
from bothways.types import Path

PREDICTIONS = ("epsilon", "v_prediction", "sample")


class Predicting(nn.Module):
    """The base of velocities (x, t) -> v made of a network (x, time) -> tensor, or an object with it as ``sample``."""

    configs: Mapping[str, Any]  # {"network", "scheduler"}: from which it is made again without weights

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def predicted(self, x: Tensor, time: Tensor) -> Tensor:
        found = self.network(x, time.to(x.dtype))
        return getattr(found, "sample", found)


class Denoiser(Predicting):
    """Velocity of a network that predicts epsilon, v or the sample, on the path of its schedule of ``levels``."""

    def __init__(self, network: nn.Module, path: Path, levels: int, prediction: str) -> None:
        super().__init__(network)
        self.path, self.levels, self.prediction = path, levels, prediction

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        found = self.predicted(x, (1 - t) * (self.levels - 1))
        a, s, da, ds = (weight.view(-1, 1, 1, 1) for weight in self.path(t))
        if self.prediction == "epsilon":
            return da * (x - s * found) / a + ds * found
        if self.prediction == "v_prediction":
            return da * (a * x - s * found) + ds * (s * x + a * found)
        return da * found + ds * (x - a * found) / s


class FlowMatched(Predicting):
    """Velocity of a network that predicts e - X, called at ``levels`` times sigma, sigma = 1 - t; its path is linear.

    A shift of the scheduler's sigmas moves the steps of its sampler, and not this field.
    """

    def __init__(self, network: nn.Module, levels: int) -> None:
        super().__init__(network)
        self.levels = levels

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return -self.predicted(x, (1 - t) * self.levels)


class Preconditioned(Predicting):
    """Velocity of a network with the preconditioning of EDM, on the path ``Karras``.

        c_skip = d^2 / (sigma^2 + d^2),  c_out = sign sigma d c_in,   c_in = (sigma^2 + d^2)^-1/2,  time = ln sigma / 4

    data: d, the deviation of the data. sign: -1 for a network that predicts v.
    """

    def __init__(self, network: nn.Module, path: Karras, data: float, sign: float = 1.0) -> None:
        super().__init__(network)
        self.path, self.data, self.sign = path, data, sign

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        exact = self.path.sigma(t)
        sigma = exact.to(x.dtype).view(-1, 1, 1, 1)
        a, _, da, ds = (weight.view(-1, 1, 1, 1) for weight in self.path(t))
        variance = sigma.square() + self.data**2
        noisy, enter = x / a, variance.rsqrt()
        found = self.predicted(enter * noisy, exact.log() / 4)
        clean = self.data**2 / variance * noisy + self.sign * sigma * self.data * enter * found
        return da * clean + ds * (noisy - clean) / sigma
