"""The settings of ``features``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator

from bothways.configs import Config, Live, chosen, setting
from bothways.registry import register


def _several(given: Any) -> Any:
    """A single value as a tuple."""
    return (given,) if isinstance(given, str | int | float) else given


Names = Annotated[tuple[str, ...], BeforeValidator(_several)]
Numbers = Annotated[tuple[float, ...], BeforeValidator(_several)]


@register("task", "features", help="Extract features of pictures with a flow, and fit a linear and a k-NN probe.")
class FeaturesConfig(Config):
    """Extract features of pictures with a flow: a parquet file per split, a column per kind, depth and layer.

    "walked" is the picture walked towards noise; "activations" are those of a layer in one forward pass. If the
    pictures have labels and a training and a test split, a linear and a k-NN probe are fitted on the first and
    evaluated on the second, with raw pixels as the baseline. Unreadable pictures are skipped and listed.

    A run that was stopped or killed gives the same files with --resume.

    Examples
    bothways features runs/digits --data digits
    bothways features bundled:cifar10-flow --data path/to/cifar10 --kind activations --depth .1 .3 .5 --limit 2000
    bothways features runs/finetuned --data photos/ --kind walked activations --depth .5 --probe none --store float16
    """

    gives: ClassVar[str] = "a FeatureTables: arrays {split: {column: (N,D)}}, or files of a run folder; facts, measures"
    processes: ClassVar[bool] = True

    flow: Live = setting(
        ..., "A run of bothways pretrain or finetune, or the address of a flow.", argument=True, metavar="RUN"
    )
    data: Live = setting(..., "pictures: digits, a parquet file, a folder, hub:OWNER/NAME")
    depth: Numbers = setting((0.1, 0.5, 1.0), "depths, from 0 (picture) to 1 (noise)", common=True, min_length=1)
    kind: Names = setting(("walked",), "kinds of features: walked, activations, pixels", common=True, min_length=1)
    layers: Names = setting(
        (), "layers of the activations; if unset, the middle of a bothways U-Net", flags=("--layer",), common=True
    )
    noised: bool = setting(False, "read the activations of pictures with the noise of the depth added")
    steps: int = setting(
        5, "solver steps to the deepest depth; more if one walk then serves all depths", ge=1, common=True
    )
    solver: chosen("solver") = setting("euler", "ODE solver of the walk", common=True)  # type: ignore[valid-type]
    splits: Names = setting(
        (), "splits of the data; if unset, train and test, or everything", flags=("--split",), common=True
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
    workers: int = setting(1, "worker processes that read and decode pictures", ge=0)

    def choices(self) -> Iterator[tuple[str, Any]]:
        """Registry choices of the run, without the solver if nothing is walked."""
        return (choice for choice in super().choices() if "walked" in self.kind or choice[0] != "solver")
