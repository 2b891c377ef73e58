"""The settings of ``features``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from bothways.configs import Config, Live, chosen, setting
from bothways.registry import register


def _several(given: Any) -> Any:
    """A single value as a list of one."""
    return (given,) if isinstance(given, str | int | float) else given


Names = Annotated[tuple[str, ...], BeforeValidator(_several)]
Numbers = Annotated[tuple[float, ...], BeforeValidator(_several)]


@register("task", "features", help="What a flow makes of pictures, as parquet, with a linear probe and neighbours.")
class FeaturesConfig(Config):
    """What a flow makes of pictures: a parquet file a split, with a column for each kind, depth and layer.

    "walked" is the picture walked towards noise, "activations" are those of a layer in one pass. Where the pictures
    have labels and a training and a test split, a linear probe and nearest neighbours are fitted on the first and
    asked about the second, beside the pixels alone. A picture that cannot be read is left out and named.

    Stopped or killed at any moment, it goes on with --resume to the same files.

    Examples
    bothways features runs/digits --data digits
    bothways features bundled:cifar10-flow --data path/to/cifar10 --kind activations --depth .1 .3 .5 --limit 2000
    bothways features runs/finetuned --data photos/ --kind walked activations --depth .5 --probe none --store float16
    """

    flow: Live = setting(
        ..., "A run of bothways pretrain or finetune, or a flow's address.", argument=True, metavar="RUN"
    )
    data: Live = setting(..., "pictures: digits, a parquet file, a folder, hub:OWNER/NAME")
    depth: Numbers = setting((0.1, 0.5, 1.0), "0 the picture, 1 noise; one or several", common=True, min_length=1)
    kind: Names = setting(("walked",), "walked, activations, pixels; one or several", common=True, min_length=1)
    layers: Names = setting(
        (), "of activations, one or several; none: the middle of a U-Net of bothways", flags=("--layer",), common=True
    )
    noised: bool = setting(False, "activations of pictures with the noise of the depth")
    steps: int = setting(
        5, "to the deepest depth; more where one walk then serves all depths, and costs less", ge=1, common=True
    )
    solver: chosen("solver") = setting("euler", "of the walk", common=True)  # type: ignore[valid-type]
    splits: Names = setting(
        (), "one or several; none: train and test, or all of pictures without splits", flags=("--split",), common=True
    )
    limit: int | None = setting(None, "pictures at most of each split, evenly spaced; none: all", ge=1, common=True)
    test_limit: int | None = setting(None, "of the last split; none: that of limit", ge=1)
    probes: Names = setting(("linear", "knn"), "linear, knn, or none", flags=("--probe",), common=True)
    neighbours: int = setting(20, "of knn", ge=1)
    batch: int = setting(128, "pictures at a time", ge=1)
    store: Literal["float32", "float16"] = setting("float32", "numbers in the files: float32 or float16")
    preprocess: Literal["model", "ours"] = setting(
        "model", "pictures are resized: model, as its facts state; ours, the shorter side to the size, bicubic"
    )
    device: str = setting("cpu", "cpu, cuda, mps")
    dtype: str = setting("float32", "precision of the network: float32, bf16, float16")
    workers: int = setting(1, "processes that read and decode ahead", ge=0)
