"""The settings of ``statistics``."""

from __future__ import annotations

from typing import ClassVar, Literal

from bothways.configs import Config, Live, Several, setting
from bothways.data.config import READ
from bothways.registry import register
from bothways.synthesis.config import RANK

PICTURES = 5000  # default number of real pictures
ROWS = 2000  # default number of those whose features are kept
ROW_BYTES = 6e6  # of the features that are kept by default


@register("task", "statistics", help="Measure the image-prior statistics of a model on real pictures.")
class StatisticsConfig(Config):
    """Measure the image-prior statistics of a model on unlabelled real pictures, for unconditional drawing.

    They are written to one small file, to be given as --data. It holds features and names of the pictures, and no
    pixel. The training split of the pictures is used, if any.

    Examples
    bothways statistics my.py:build --data photos/ --out my.safetensors
    bothways generate my.py:build --unconditional --data my.safetensors
    """

    gives: ClassVar[str] = "a Statistics: tensors as in its file, the number of pictures, and the path of the file"
    reports: ClassVar[bool] = False
    file: ClassVar[str] = "runs/statistics.safetensors"

    model: Live = setting(..., "Address of the model (see bothways models).", argument=True)
    data: Live = setting(..., "real pictures (parquet or folder)")
    limit: int = setting(PICTURES, "maximum number of pictures, evenly spaced", ge=2, common=True)
    rank: int = setting(RANK, "number of leading directions to store", ge=1, common=True)
    rows: int | None = setting(
        None,
        f"number of pictures whose pooled features are stored, to sample between them; default is {ROWS}, or what "
        f"{ROW_BYTES / 1e6:.0f} MB hold; 0 stores none",
        ge=0,
        common=True,
    )
    layers: Several = setting(
        [],
        "layers to measure; if unset, the inputs of normalisations, or the outputs of convolutions",
        flags=("--layer",),
        common=True,
    )
    features: Several = setting(
        [],
        "layers whose values, averaged over space or tokens, are the features; NAME:first is the first token (CLS) "
        "alone; if unset, the model's feature layer",
        flags=("--features",),
        common=True,
    )
    weights: Live = setting(None, "a safetensors file for the model")
    spec: Live = setting(None, "the ModelSpec of a live module", live=True)
    preprocess: Literal["model", "ours"] = setting(
        "model", "pictures are resized: model, as its facts state; ours, the shorter side to the size, bicubic"
    )
    device: str = setting("cpu", "cpu, cuda, mps")
    split: str | None = setting(None, READ, common=True)
