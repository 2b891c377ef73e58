"""The settings of ``diagnose``."""

from __future__ import annotations

from typing import ClassVar

from bothways.configs import Config, Live, chosen, setting
from bothways.data.config import MEASURED
from bothways.registry import register


@register("task", "diagnose", help="Measure straightness, round-trip error, gain and a bound on information of a flow.")
class DiagnoseConfig(Config):
    """Measure straightness, round-trip error, gain and a bound on mutual information of a flow on pictures.

    The report also shows strips of pictures on the way to noise.

    Examples
    bothways diagnose runs/digits --data digits
    bothways diagnose bundled:cifar10-flow --data path/to/cifar10 --n 32 --solver heun
    """

    gives: ClassVar[str] = "a Diagnosis: straightness, round_trip, gain and information, a row a depth, and measures"

    flow: Live = setting(..., "A run of bothways pretrain, or the address of a flow.", argument=True)
    data: Live = setting(..., "pictures: digits, a parquet file, a folder, hub:OWNER/NAME")
    n: int = setting(64, "pictures", ge=1, flags=("--n", "-n"), common=True)
    steps: int = setting(50, "solver steps from picture to noise, for all but the round trip", ge=1, common=True)
    solver: chosen("solver") = setting("euler", "ODE solver", common=True)  # type: ignore[valid-type]
    depths: tuple[float, ...] = setting((0.1, 0.25, 0.5, 0.75, 1.0), "depths of round trip and gain", min_length=1)
    trip_steps: tuple[int, ...] = setting(
        (5, 10, 20, 50), "solver steps of the round trip in each direction", min_length=1
    )
    seed: int = setting(0, "random seed, from which the seed of each picture is derived", ge=0)
    device: str = setting("cpu", "compute device: cpu, cuda, mps")
    dtype: str = setting("float32", "precision of the network: float32, bf16, float16")
    split: str | None = setting(None, MEASURED, common=True)
