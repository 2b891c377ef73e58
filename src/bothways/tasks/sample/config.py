"""The settings of ``sample``."""

from __future__ import annotations

from typing import ClassVar

from bothways.configs import Config, Live, Several, chosen, setting
from bothways.registry import register


@register("task", "sample", help="Sample pictures from a flow.")
class SampleConfig(Config):
    """Sample pictures from a flow: noise from the seed of each picture, integrated from t = 0 to t = 1.

    Examples
    bothways sample runs/digits --n 100
    bothways sample bundled:cifar10-flow --n 64 --steps 100 --solver heun --data path/to/cifar10
    bothways sample diffusers:google/ddpm-cifar10-32 --n 16 --device cuda --dtype bf16
    """

    gives: ClassVar[str] = "a Result: images (N,3,H,W) in [0,1], labels (N,), records, frames and measures"
    prolongs: ClassVar[tuple[str, ...]] = ("n",)
    processes: ClassVar[bool] = True

    flow: Live = setting(..., "A run of bothways pretrain, or the address of a flow.", argument=True)
    n: int = setting(64, "number of pictures", ge=1, flags=("--n", "-n"), common=True)
    steps: int = setting(50, "solver steps from noise to picture", ge=1, common=True)
    solver: chosen("solver") = setting("midpoint", "ODE solver of the walk", common=True)  # type: ignore[valid-type]
    seed: int = setting(0, "random seed, from which the seed of each picture is derived", ge=0, common=True)
    batch: int = setting(64, "pictures per batch", ge=1)
    judges: Several | None = setting(
        None,
        "models or functions that judge the pictures; if unset, the bundled models for a bundled flow",
        flags=("--judge",),
    )
    data: Live = setting(None, "real pictures for the judges: parquet file or folder")
    device: str = setting("cpu", "compute device: cpu, cuda, mps")
    dtype: str = setting("float32", "precision of the network: float32, bf16, float16")
