"""The settings of ``spectrum``."""

from __future__ import annotations

from typing import ClassVar, Literal

from bothways.configs import Config, Live, setting
from bothways.data.config import READ
from bothways.registry import register


@register("task", "spectrum", help="Measure the amplitudes and colours of pictures, for the canvases of a drawing.")
class SpectrumConfig(Config):
    """Measure the mean amplitude spectrum and the colours of pictures, and write them to a small file.

    The canvases maco and photographs take the amplitudes, the others the principal axes of the colours. The spectrum
    is indexed by cycles per picture, so it applies to drawings of any size; for larger ones it is extrapolated by a
    power law. No model is needed; the training split is used, if any.

    Examples
    bothways spectrum --data path/to/cifar10 --out cifar10.safetensors
    bothways spectrum --data photos/ --size 224 --limit 2000 --window hann --out photos.safetensors
    bothways generate my.py:build --class 0 --recipe maco --set canvas.spectrum=photos.safetensors
    bothways generate my.py:build --class 0 --recipe das --set canvas.colours=photos.safetensors
    """

    gives: ClassVar[str] = "a Spectrum: the mean amplitudes and the colours, and the path of its file"
    reports: ClassVar[bool] = False
    file: ClassVar[str] = "runs/spectrum.safetensors"

    data: Live = setting(..., "real pictures (parquet or folder)")
    size: int | None = setting(
        None, "side length in pixels to resize and crop to; if unset, that of the pictures", common=True
    )
    limit: int | None = setting(None, "maximum number of pictures, evenly spaced; if unset, all", ge=1, common=True)
    window: Literal["none", "hann"] = setting(
        "none", "hann: fade the pictures out at their border, whose jumps would count as horizontal and vertical waves"
    )
    split: str | None = setting(None, READ, common=True)
