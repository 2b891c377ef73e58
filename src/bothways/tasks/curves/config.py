"""The settings of ``curves``."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

from bothways.configs import Config, Live, setting
from bothways.data.config import MEASURED
from bothways.registry import register


def _several(given: Any) -> Any:
    """A single value as one of several."""
    return (given,) if isinstance(given, str | int | float) else given


@register("task", "curves", help="A classifier made of a flow, by the steps of its walk and by its depth.")
class CurvesConfig(Config):
    """The accuracy of a classifier made of a flow when its walk takes other steps than in training, or another depth.

    The trained point stands among both. Every point is kept when it is done, so that a stopped run goes on with the
    next. A classifier that does not walk has the curve over depth alone.

    Examples
    bothways curves runs/classifier --data digits
    bothways curves runs/classifier --data path/to/pictures --steps 5 10 20 50 --limit 1000
    bothways curves runs/classifier --data digits --depth-offsets -0.4 -0.2 0.2 0.4 --out runs/depths
    """

    run: Live = setting(..., "A run of bothways finetune.", argument=True, metavar="RUN")
    data: Live = setting(..., "labelled pictures (see bothways pretrain)")
    steps: Annotated[tuple[int, ...], BeforeValidator(_several)] = setting(
        (2, 5, 10, 20, 50, 100, 1000), "of the walk, its depth kept; one or several", common=True
    )
    depth_offsets: Annotated[tuple[float, ...], BeforeValidator(_several)] = setting(
        (-0.2, -0.1, 0.0, 0.1, 0.2), "shares by which its depth is moved, to 1 at most, the steps kept", common=True
    )
    limit: int | None = setting(None, "pictures at most, evenly spaced; else all", ge=1, common=True)
    limit_long: int = setting(200, "the same for walks of more than 100 steps", ge=1)
    batch: int = setting(100, "pictures at a time", ge=1)
    device: str = setting("cpu", "cpu, cuda, mps")
    dtype: str = setting("float32", "precision of the network: float32, bf16, float16")
    split: str | None = setting(None, MEASURED, common=True)
