"""The settings of ``sample``."""

from __future__ import annotations

from bothways.configs import Config, Live, chosen, setting
from bothways.registry import register


@register("task", "sample", help="Draw pictures from a flow: noise, walked to pictures.")
class SampleConfig(Config):
    """Draw pictures from a flow: noise of each picture's own seed, walked to t = 1.

    Examples
    bothways sample runs/digits --n 100
    bothways sample bundled:cifar10-flow --n 64 --steps 100 --solver heun --data path/to/cifar10
    bothways sample diffusers:google/ddpm-cifar10-32 --n 16 --device cuda --dtype bf16
    """

    flow: Live = setting(..., "A run of bothways pretrain, or a flow's address.", argument=True)
    n: int = setting(64, "pictures", ge=1, flags=("--n", "-n"), common=True)
    steps: int = setting(50, "steps from noise to picture", ge=1, common=True)
    solver: chosen("solver") = setting("midpoint", "of the walk", common=True)  # type: ignore[valid-type]
    seed: int = setting(0, "of the run; a picture's own seed follows from it and its number", ge=0, common=True)
    batch: int = setting(64, "pictures at a time", ge=1)
    judges: list[Live] | None = setting(
        None,
        "models that compare them with real ones, or functions of pictures; of a bundled flow the bundled models",
        flags=("--judge",),
    )
    data: Live = setting(None, "real pictures for the judges: a parquet file or a folder")
    device: str = setting("cpu", "cpu, cuda, mps")
    dtype: str = setting("float32", "precision of the network: float32, bf16, float16")
