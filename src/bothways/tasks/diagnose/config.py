"""The settings of ``diagnose``."""

from __future__ import annotations

from bothways.configs import Config, Live, chosen, setting
from bothways.data.config import MEASURED
from bothways.registry import register


@register("task", "diagnose", help="Straightness, round trip, gain and information of a flow, and strips of pictures.")
class DiagnoseConfig(Config):
    """What a flow does to pictures on the way to noise.

    How straight its paths are, what is lost there and back, how much it stretches, what a noisy picture still tells;
    and strips of pictures becoming noise, where there is a run folder.

    Examples
    bothways diagnose runs/digits --data digits
    bothways diagnose bundled:cifar10-flow --data path/to/cifar10 --n 32 --solver heun
    """

    flow: Live = setting(..., "A run of bothways pretrain, or a flow's address.", argument=True)
    data: Live = setting(..., "pictures: digits, a parquet file, a folder, hub:OWNER/NAME")
    n: int = setting(64, "pictures", ge=1, flags=("--n", "-n"), common=True)
    steps: int = setting(50, "steps of the whole way, for all but the round trip", ge=1, common=True)
    solver: chosen("solver") = setting("euler", "of the round trip", common=True)  # type: ignore[valid-type]
    depths: tuple[float, ...] = setting((0.1, 0.25, 0.5, 0.75, 1.0), "of the round trip and the gain", min_length=1)
    trip_steps: tuple[int, ...] = setting((5, 10, 20, 50), "steps each way of the round trip", min_length=1)
    seed: int = setting(0, "of the run; a picture's own seed follows from it and its number", ge=0)
    device: str = setting("cpu", "cpu, cuda, mps")
    dtype: str = setting("float32", "precision of the network: float32, bf16, float16")
    split: str | None = setting(None, MEASURED, common=True)
