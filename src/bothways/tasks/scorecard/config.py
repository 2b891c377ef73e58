"""The settings of ``scorecard``."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator

from bothways.configs import Config, Live, setting
from bothways.data.config import COMPARED
from bothways.registry import register


def _several(given: Any) -> Any:
    """A single value as a tuple."""
    return (given,) if isinstance(given, str) else given


@register("task", "scorecard", help="Test which label-free quantities separate real from corrupted pictures.")
class ScorecardConfig(Config):
    """Test which label-free quantities of a model separate real from corrupted pictures, and draw pictures with it.

    For each quantity (variants of the discriminative score function, channel statistics, energy, confidence, total
    variation): rank correlation with the noise level, AUROC of real against corrupted pictures, and cosine of the
    negative gradient with the direction to the clean picture.

    Examples
    bothways scorecard bundled:cifar10-resnet --data path/to/cifar10
    bothways scorecard my.py:build --data photos/ --n 50 --no-draw --out runs/my-scorecard
    """

    gives: ClassVar[str] = "a Scorecard: quantities, drawings and pictures, each a list of rows"

    model: Live = setting(..., "Address of the model (see bothways models).", argument=True)
    data: Live = setting(..., "real pictures (parquet or folder)", common=True)
    n: int = setting(200, "number of scored pictures, two or more", ge=2, flags=("--n", "-n"), common=True)
    seed: int = setting(0, "random seed, from which the seed of each picture is derived", ge=0, common=True)
    damage: Annotated[tuple[str, ...], BeforeValidator(_several)] = setting(
        (), "further corruptions to tell from real pictures, as KIND:LEVEL, such as fog:1 roll:0.25"
    )
    draw: bool = setting(True, "also draw pictures by each recipe", common=True)
    drawings: int | None = setting(None, "pictures per recipe; if unset, 50, or 4 for large models", ge=1, common=True)
    weights: Live = setting(None, "safetensors file of weights for the model")
    spec: Live = setting(None, "ModelSpec of a live module", live=True)
    device: str = setting("cpu", "compute device: cpu, cuda, mps")
    split: str | None = setting(None, COMPARED, common=True)
