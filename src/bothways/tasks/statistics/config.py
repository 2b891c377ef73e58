"""The settings of ``statistics``."""

from __future__ import annotations

from typing import ClassVar

from bothways.configs import Config, Live, Several, setting
from bothways.data.config import READ
from bothways.registry import register
from bothways.synthesis.config import RANK

PICTURES = 5000  # real ones that statistics are measured on


@register("task", "statistics", help="Measure on real pictures what drawing without a class needs.")
class StatisticsConfig(Config):
    """Measure on real pictures, without labels, what drawing without a class needs, and keep it in one small file.

    Of the pictures the training split is read. The file is later given as --data.

    Examples
    bothways statistics my.py:build --data photos/ --out my.safetensors
    bothways generate my.py:build --unconditional --data my.safetensors
    """

    reports: ClassVar[bool] = False
    file: ClassVar[str] = "runs/statistics.safetensors"

    model: Live = setting(..., "The model's address.", argument=True)
    data: Live = setting(..., "real pictures (parquet or folder)")
    limit: int = setting(PICTURES, "pictures at most, evenly spaced", ge=2, common=True)
    rank: int = setting(RANK, "directions kept", ge=1, common=True)
    layers: Several = setting(
        [],
        "whose statistics; else what enters the normalisations, or leaves the convolutions",
        flags=("--layer",),
        common=True,
    )
    weights: Live = setting(None, "a safetensors file for the model")
    spec: Live = setting(None, "the ModelSpec of a live module", live=True)
    device: str = setting("cpu", "cpu, cuda, mps")
    split: str | None = setting(None, READ, common=True)
