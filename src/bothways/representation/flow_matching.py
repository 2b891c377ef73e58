"""The conditional flow-matching loss.

L = E_t,x,z  1/2 ||v(x_t, t) - (a' x + s' z)||^2,   x_t = a(t) x + s(t) z

Lipman et al. 2022, arXiv 2210.02747, eq. 14; PRG, Xue et al. 2024, arXiv 2412.01787, eq. 2. The square is summed over
the channels and averaged over pictures and pixels.
"""

from __future__ import annotations

from torch import Tensor

from bothways.representation.paths import interpolate
from bothways.types import Path, VectorField


def flow_matching(velocity: VectorField, path: Path, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Flow-matching loss of each picture, (B,), float32 or better. x, noise: (B,C,H,W), already paired; t: (B,)."""
    x_t, target = interpolate(path, x, noise, t)
    error = velocity(x_t, t).to(target.dtype) - target
    return error.square().sum(1).flatten(1).mean(1) / 2
