"""The settings of ``latents``."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator

from bothways.configs import Config, Live, setting
from bothways.registry import register


def _several(given: Any) -> Any:
    """A single value as a tuple."""
    return (given,) if isinstance(given, str) else given


Names = Annotated[tuple[str, ...], BeforeValidator(_several)]


@register("task", "latents", help="Encode pictures once by the autoencoder of a flow, for finetune and features.")
class LatentsConfig(Config):
    """Encode pictures once by the autoencoder of a flow on latents: a parquet file per split.

    The folder is then the data of finetune and features with the same flow, which would otherwise encode every picture
    each time they see it. Names, classes and labels are kept; unreadable pictures are skipped and listed. A run that
    was stopped goes on with --resume.

    Examples
    bothways latents sit:SiT-XL-2-256x256.pt --data path/to/cifar10 --out cifar10-latents
    bothways finetune sit:SiT-XL-2-256x256.pt --data cifar10-latents
    bothways features sit:SiT-XL-2-256x256.pt --data cifar10-latents --kind walked
    """

    gives: ClassVar[str] = "an EncodedLatents: files by split, folder and measures"
    writes: ClassVar[bool] = True
    reports: ClassVar[bool] = False

    flow: Live = setting(..., "The address of a flow on latents.", argument=True, metavar="MODEL")
    data: Live = setting(..., "pictures: a parquet file, a folder, hub:OWNER/NAME")
    splits: Names = setting(
        (), "splits of the data; if unset, train and test, or everything", flags=("--split",), common=True
    )
    limit: int | None = setting(None, "pictures at most of each split, evenly spaced; none: all", ge=1, common=True)
    batch: int = setting(32, "pictures at a time", ge=1, common=True)
    store: Literal["float32", "float16"] = setting("float16", "numbers in the files: float32 or float16", common=True)
    device: str = setting("cpu", "cpu, cuda, mps", common=True)
    workers: int = setting(1, "worker processes that read and decode pictures", ge=0)
