"""The settings of ``scorecard``."""

from __future__ import annotations

from bothways.configs import Config, Live, setting
from bothways.data.config import COMPARED
from bothways.registry import register


@register("task", "scorecard", help="Which label-free quantities of a model tell real pictures from damaged ones.")
class ScorecardConfig(Config):
    """Measure which label-free quantities of a model tell real pictures from damaged ones, and what it draws.

    Of each quantity (every form of the discriminative score function, channel statistics, energy, confidence, total
    variation): whether it grows with noise, tells real from damaged pictures, and points back to the clean one.

    Examples
    bothways scorecard bundled:cifar10-resnet --data path/to/cifar10
    bothways scorecard my.py:build --data photos/ --n 50 --no-draw --out runs/my-scorecard
    """

    model: Live = setting(..., "The model's address.", argument=True)
    data: Live = setting(..., "real pictures (parquet or folder)", common=True)
    n: int = setting(200, "pictures that are scored; intervals need two", ge=2, flags=("--n", "-n"), common=True)
    seed: int = setting(0, "of the run; a picture's own seed follows from it and its number", ge=0, common=True)
    draw: bool = setting(True, "draw some pictures by each recipe too", common=True)
    drawings: int | None = setting(None, "pictures of each recipe; none for 50, or 4 large ones", ge=1, common=True)
    weights: Live = setting(None, "a safetensors file for the model")
    spec: Live = setting(None, "the ModelSpec of a live module", live=True)
    device: str = setting("cpu", "cpu, cuda, mps")
    split: str | None = setting(None, COMPARED, common=True)
