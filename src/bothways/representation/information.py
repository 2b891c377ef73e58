"""Two indicators of how much a flow has learned of its images: a bound by the I-MMSE relation, and PRG's.

**The I-MMSE bound**, of the image and its noisy version on the flow's path:

I(image; x_t) = 1/2 int_0^snr(t) mmse(r) dr,   x_t = a image + s z,   snr = a^2 / s^2,
mmse = E ||image - E[image | x_t]||^2,   E[image | x_t] = (s' x_t - s v) / (a s' - a' s)

Guo, Shamai & Verdu 2005, arXiv cs/0412108, theorem 1; the second line solves x_t and v for the image. The error of the
flow's denoiser is at least the MMSE, so the indicator is an upper bound that falls to I as the flow learns.

It concerns the noisy image, not the walked one. It is not PRG's indicator.

**PRG's indicator** (Xue et al. 2024, arXiv 2412.01787, eqs. 7, 10 and 11; there 0 is the image and 1 the noise):

I(x_0; x_1) = H(x_0) + E log p(x_0 | x_1),   log p(x_0 | x_1) = log p(x_0) - log p(x_1) = log |det d x_1 / d x_0|

H(x_0) does not depend on the flow, so E log p(x_0 | x_1) is what is followed; it rises as the flow learns. It is a
log-determinant of the walk, in nats per dimension of the flow's own units: flows of other units, or other pictures, are
not comparable, and it is no information in nats, since a walk is invertible and loses none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bothways.numerics.draws import Draws
from bothways.numerics.intervals import mean_interval
from bothways.numerics.modules import check_finite, untouched
from bothways.progress import counted
from bothways.representation.likelihood import Integration, log_density
from bothways.representation.paths import interpolate
from bothways.types import Path, VectorField


@dataclass(frozen=True)
class Information:
    """The I-MMSE bound at a depth: nats per dimension with the 95 % interval over pictures.

    mmse: the mean square error of the denoiser there, per dimension. snr: a^2 / s^2.
    """

    depth: float
    snr: float
    mmse: float
    nats_per_dim: float
    low: float
    high: float
    n: int

    def as_facts(self) -> dict[str, Any]:
        """An entry of measures["flow"]["information"]."""
        return asdict(self)


def denoised(v: VectorField, path: Path, x: Tensor, t: Tensor) -> Tensor:
    """Denoised image E[image | x_t = x] from the velocity, like x (B,...); t: (B,), with a s' != a' s."""
    a, s, da, ds = (weight.view(-1, *[1] * (x.ndim - 1)).to(x.dtype) for weight in path(t))
    return (ds * x - s * untouched(v)(x, t)) / (a * ds - da * s)


def _moments(path: Path, points: int, least_depth: float) -> tuple[Tensor, Tensor]:
    """Times t (K,) evenly spaced in log(1 + snr) from noise to ``least_depth``, and their snr; float64.

    In that variable the integrand of a unit-variance Gaussian source is constant, so that few points suffice.
    """

    def level(t: Tensor) -> Tensor:
        a, s, _, _ = path(t)
        return torch.log1p((a / s).square())

    ends = level(torch.tensor([0.0, 1 - least_depth], dtype=torch.float64))
    targets = torch.linspace(0, 1, points, dtype=torch.float64) * (ends[1] - ends[0]) + ends[0]
    low, high = torch.zeros_like(targets), torch.full_like(targets, 1 - least_depth)
    for _ in range(60):  # bisection to the last bit of a double
        middle = (low + high) / 2
        below = level(middle) < targets
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (low + high) / 2, targets.expm1()


@torch.no_grad()
def mutual_information_indicator(
    v: VectorField,
    path: Path,
    x: Tensor,
    seeds: Sequence[int],
    *,
    points: int = 32,
    least_depth: float = 0.02,
    batch: int = 64,
) -> list[Information]:
    """Upper bound on I(image; x_t) at ``points`` depths from noise to the image, by the I-MMSE integral.

        I(image; x_t) = 1/2 int_0^snr(t) E ||image - E[image | x_t]||^2 dr

    x: (N,...) codes of pictures; noise is drawn from their seeds, anew at every depth.
    """
    times, snr = _moments(path, points, least_depth)

    def error(x: Tensor, draws: Draws, t: float) -> Tensor:
        moment = x.new_full((len(x),), t)
        place, _ = interpolate(path, x, draws.normal(x.shape[1:], t=t, purpose="information").to(x), moment)
        seen = denoised(v, path, place, moment)
        check_finite(seen, f"the flow at t = {t:.3g}: velocities", "look at its weights")
        return (seen - x).flatten(1).double().square().mean(1).cpu()

    parts = [(x[k : k + batch], Draws(seeds[k : k + batch])) for k in range(0, len(x), batch)]
    errors = torch.stack(
        [torch.cat([error(part, draws, t) for part, draws in parts]) for t in counted(times.tolist(), "information")]
    )
    heights = errors * (1 + snr[:, None]) / 2  # per step of log(1 + snr)
    nats = torch.cumulative_trapezoid(heights, snr.log1p(), dim=0)
    before = heights[:1] * snr[0].log1p()  # the integral below snr(0), which is not 0 if a(0) is not
    nats = torch.cat([before, before + nats])
    return [
        Information(1 - t, r, e.mean().item(), *mean_interval(row), len(x))
        for t, r, e, row in zip(times.tolist(), snr.tolist(), errors, nats, strict=True)
    ]


def conditional_log_likelihood(
    v: VectorField, x: Tensor, seeds: Sequence[int], how: Integration = Integration(), *, batch: int = 64
) -> Tensor:
    """PRG's indicator before its mean, log p(x_0 | x_1) of each image, (N,) float64 in nats per dimension.

        log p(x_0 | x_1) = log |det d x_1 / d x_0| = - int_0^1 div v(x_t, t) dt,   x_0: the image, x_1: its noise

    x: (N,...) codes of pictures. seeds: one per picture, of Hutchinson's probes. The integral is in this library's
    time, 1 at the image. PRG, arXiv 2412.01787, eqs. 7, 10 and 11.
    """
    parts = counted(range(0, len(x), batch), "log-determinants")
    found = [log_density(v, x[k : k + batch], seeds[k : k + batch], how).log_det.cpu() for k in parts]
    return torch.cat(found) / x[0].numel()


def at_depths(curve: Sequence[Information], path: Path, depths: Sequence[float]) -> list[Information]:
    """Interpolate the indicator's curve at given depths, linearly in log(1 + snr), the variable of integration.

    curve: from ``mutual_information_indicator``; constant beyond its ends.
    """
    a, s, _, _ = path(1 - torch.tensor(depths, dtype=torch.float64))
    snr = (a / s).square().numpy()
    places = np.log1p([entry.snr for entry in curve])

    def between(name: str) -> list[float]:
        return np.interp(np.log1p(snr), places, [getattr(entry, name) for entry in curve]).tolist()

    values = (between(name) for name in ("mmse", "nats_per_dim", "low", "high"))
    rows = zip(depths, snr.tolist(), *values, [curve[0].n] * len(depths), strict=True)
    return [Information(*row) for row in rows]
