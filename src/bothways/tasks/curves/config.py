"""The settings of ``curves``."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator

from bothways.configs import Config, Live, chosen, setting
from bothways.data.config import MEASURED
from bothways.registry import register


def _several(given: Any) -> Any:
    """A single value as a tuple."""
    return (given,) if isinstance(given, str | int | float) else given


@register("task", "curves", help="Accuracy of a flow classifier over the steps and the depth of its walk.")
class CurvesConfig(Config):
    """Accuracy of a flow classifier over the number of steps and the depth of its walk.

    Both curves include the setting used in training. Finished points are saved, so a stopped run can be resumed. A
    classifier that does not walk has only the curve over depth.

    Examples
    bothways curves runs/classifier --data digits
    bothways curves runs/classifier --data path/to/pictures --steps 5 10 20 50 --limit 1000
    bothways curves runs/classifier --data digits --depth-offsets -0.4 -0.2 0.2 0.4 --out runs/depths
    bothways curves runs/classifier --data digits --moved walk --offset-steps 1000 --limit 60
    bothways curves runs/classifier --data digits --solver heun
    """

    gives: ClassVar[str] = "a dict, the content of measures['curves']: the points over the steps and over the depth"

    run: Live = setting(..., "A run of bothways finetune.", argument=True, metavar="RUN")
    data: Live = setting(..., "labelled pictures (see bothways pretrain)")
    steps: Annotated[tuple[int, ...], BeforeValidator(_several)] = setting(
        (2, 5, 10, 20, 50, 100, 1000), "numbers of steps of the walk, at the trained depth", common=True
    )
    depth_offsets: Annotated[tuple[float, ...], BeforeValidator(_several)] = setting(
        (-0.2, -0.1, 0.0, 0.1, 0.2), "relative changes of the depth (at most to 1), at the trained steps", common=True
    )
    moved: Literal["both", "walk", "activations"] = setting(
        "both", "depth that is changed, of a classifier that reads both: that of the walk, of the activations, or both"
    )
    offset_steps: int | None = setting(
        None, "steps of the walk at every changed depth; if unset, those of the training", ge=1
    )
    solver: chosen("solver") | None = setting(  # type: ignore[valid-type]
        None,
        "another ODE solver for the walk of every point but the trained setting; if unset, that of the training",
        common=True,
    )
    tolerance: float | None = setting(None, "relative and absolute error of an adaptive solver; if unset, 1e-5", gt=0)
    limit: int | None = setting(None, "maximum number of pictures, evenly spaced; if unset, all", ge=1, common=True)
    limit_long: int = setting(200, "maximum number of pictures for walks of more than 100 steps", ge=1)
    batch: int = setting(100, "pictures per batch", ge=1)
    device: str = setting("cpu", "compute device: cpu, cuda, mps")
    dtype: str = setting("float32", "precision of the network: float32, bf16, float16")
    split: str | None = setting(None, MEASURED, common=True)
