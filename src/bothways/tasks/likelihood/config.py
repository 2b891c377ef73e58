"""The settings of ``likelihood``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from bothways.configs import Config, Live, chosen, setting
from bothways.data.config import MEASURED
from bothways.registry import register


@register("task", "likelihood", help="Bits per dimension of pictures under a flow.")
class LikelihoodConfig(Config):
    """Bits per dimension of pictures under a flow, with a 95 % interval; lower is better.

    The divergence is the exact trace where it takes 100,000 vector-Jacobian products at most (one per value of a
    picture, picture and network call), else Hutchinson's estimate with random signs, whose error is in the interval.
    Fewer than 50 steps underestimate the bits.

    Examples
    bothways likelihood runs/digits --data digits
    bothways likelihood bundled:cifar10-flow --data path/to/cifar10 --limit 1000 --probes 4
    bothways likelihood runs/digits --data digits --solver dopri5
    """

    gives: ClassVar[str] = "a Likelihood: bits_per_dim with low and high, bits of each picture, and measures"
    headlines: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Bits per dimension": ("flow.likelihood.bits_per_dim", "low", "high")
    }
    processes: ClassVar[bool] = True

    flow: Live = setting(..., "A run of bothways pretrain, or the address of a flow.", argument=True)
    data: Live = setting(..., "pictures: digits, a parquet file, a folder, hub:OWNER/NAME")
    limit: int = setting(500, "maximum number of pictures, evenly spaced", ge=1, common=True)
    solver: chosen("solver") = setting("midpoint", "ODE solver", common=True)  # type: ignore[valid-type]
    steps: int = setting(50, "solver steps from picture to noise", ge=1, common=True)
    divergence: Literal["auto", "exact", "hutchinson"] = setting(
        "auto", "divergence: exact, hutchinson (estimated), or auto (exact where that is cheap)", common=True
    )
    probes: int | None = setting(
        None,
        "random probes per network call, for hutchinson; if unset, 512 over the values of a picture, from 1 to 8",
        ge=1,
        common=True,
    )
    draws: int = setting(1, "dequantisation samples averaged per picture", ge=1)
    tolerance: float = setting(1e-5, "relative and absolute error of an adaptive solver", gt=0)
    seed: int = setting(0, "random seed, from which the seed of each picture is derived", ge=0)
    batch: int = setting(50, "pictures per batch; a finished batch is saved", ge=1)
    device: str = setting("cpu", "compute device: cpu, cuda, mps")
    dtype: str = setting("float32", "precision of the network: float32, bf16, float16")
    split: str | None = setting(None, MEASURED, common=True)
