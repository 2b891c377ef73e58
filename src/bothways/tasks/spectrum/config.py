"""The settings of ``spectrum``."""

from __future__ import annotations

from typing import ClassVar

from bothways.configs import Config, Live, setting
from bothways.data.config import READ
from bothways.registry import register


@register("task", "spectrum", help="Measure the mean amplitude spectrum of pictures, for the recipe maco.")
class SpectrumConfig(Config):
    """Measure the mean amplitude spectrum of pictures, for the recipe maco, and keep it in one small file.

    It is kept by frequency in cycles per picture, so it serves drawings of every size; of larger ones it is carried on
    by a power law. No model is used; the training split is read, one picture at a time.

    Examples
    bothways spectrum --data path/to/cifar10 --out cifar10.safetensors
    bothways spectrum --data photos/ --size 224 --limit 2000 --out photos.safetensors
    bothways generate my.py:build --class 0 --recipe maco --set canvas.spectrum=photos.safetensors
    """

    reports: ClassVar[bool] = False
    file: ClassVar[str] = "runs/spectrum.safetensors"

    data: Live = setting(..., "real pictures (parquet or folder)")
    size: int | None = setting(
        None, "pixels of a side, to which each is resized and cut; else the pictures' own", common=True
    )
    limit: int | None = setting(None, "pictures at most, evenly spaced; else all", ge=1, common=True)
    split: str | None = setting(None, READ, common=True)
