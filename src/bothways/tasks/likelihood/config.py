"""The settings of ``likelihood``."""

from __future__ import annotations

from typing import Literal

from bothways.configs import Config, Live, chosen, setting
from bothways.data.config import MEASURED
from bothways.registry import register


@register("task", "likelihood", help="Bits per dimension of pictures under a flow.")
class LikelihoodConfig(Config):
    """How likely a flow holds pictures, in bits per dimension with a 95 % interval: lower is likelier.

    The divergence is the whole trace up to 256 values a picture, else estimated with probes of random signs. Fewer
    than 50 steps are optimistic.

    Examples
    bothways likelihood runs/digits --data digits
    bothways likelihood bundled:cifar10-flow --data path/to/cifar10 --limit 1000 --probes 4
    bothways likelihood runs/digits --data digits --solver dopri5
    """

    flow: Live = setting(..., "A run of bothways pretrain, or a flow's address.", argument=True)
    data: Live = setting(..., "pictures: digits, a parquet file, a folder, hub:OWNER/NAME")
    limit: int = setting(500, "pictures at most, evenly spaced", ge=1, common=True)
    solver: chosen("solver") = setting("midpoint", "of the integral", common=True)  # type: ignore[valid-type]
    steps: int = setting(50, "steps from picture to noise", ge=1, common=True)
    divergence: Literal["auto", "exact", "hutchinson"] = setting(
        "auto", "exact, hutchinson (estimated), or auto: by the size of a picture", common=True
    )
    probes: int = setting(1, "random directions at every step, for hutchinson", ge=1, common=True)
    draws: int = setting(1, "dequantisations over which the log-density of a picture is averaged", ge=1)
    tolerance: float = setting(1e-5, "relative and absolute error of an adaptive solver", gt=0)
    seed: int = setting(0, "of the run; a picture's own seed follows from it and its number", ge=0)
    batch: int = setting(50, "pictures at a time, and of a part that is kept", ge=1)
    device: str = setting("cpu", "cpu, cuda, mps")
    dtype: str = setting("float32", "precision of the network: float32, bf16, float16")
    split: str | None = setting(None, MEASURED, common=True)
