"""Train and test splits of a data set, and the holdout of a training."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from bothways.data.parquet import find_shards
from bothways.data.sources import NAMED, ImageSet, split_folder
from bothways.numerics.draws import generator
from bothways.types import UserError

STATISTICS = ".safetensors"  # suffix of the files of bothways statistics


def is_statistics(data: str | Path | None) -> bool:
    """Whether ``data`` is a file of ``bothways statistics`` and not a set of images."""
    return data is not None and str(data).endswith(STATISTICS)


def is_split(address: str | Path, split: str) -> bool:
    """Whether the data has splits; False for a single file or a folder without splits, where the split is all of it.

    Raises UserError for a split that the data does not have.
    """
    path = Path(address).expanduser()
    if str(address) in NAMED or not path.exists():
        return True
    return path.is_dir() and (find_shards(path, split) is not None or split_folder(path, split) != path)


def training_split(address: str | Path) -> str:
    """The split for statistics and fits: "train", or "test" for data without a training split."""
    try:
        is_split(address, "train")
    except UserError:
        return "test"
    return "train"


def evaluation_split(data: str | Path) -> str:
    """The split for evaluation: "test" if the data has one or its address is not a local path, else "train"."""
    path = Path(data)
    found = [path / "test.parquet", path / "test", *path.glob("test-*.parquet"), *path.glob("*/test-*.parquet")]
    return "test" if str(data) in NAMED or not path.exists() or any(place.exists() for place in found) else "train"


def holdout(data: ImageSet, count: int, seed: int) -> tuple[ImageSet, ImageSet]:
    """Random split into (holdout of ``count`` images, the rest), the same for every task with one seed."""
    order = torch.randperm(len(data), generator=generator(seed, 0, "validation"))
    return data.subset(order[:count]), data.subset(order[count:])


def stratified(labels: Tensor, count: int, source: torch.Generator) -> Tensor:
    """Indices (count,) of a random subset, as balanced over classes as possible.

    One of every class per round, in random order, so that a smaller subset is a prefix of a larger one.
    """
    order = torch.randperm(len(labels), generator=source)
    mixed = labels[order]
    by_class = torch.argsort(mixed, stable=True)
    sizes = torch.bincount(mixed)
    first = (sizes.cumsum(0) - sizes)[mixed[by_class]]
    turn = torch.empty_like(order)
    turn[by_class] = torch.arange(len(labels)) - first
    place = torch.randperm(len(sizes), generator=source)[mixed]
    return order[torch.argsort(turn * len(sizes) + place)[:count]]
