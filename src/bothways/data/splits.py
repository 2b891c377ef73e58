"""Train and test splits of a data set, and the holdout of a training."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from bothways.data.readers.tables import ANNOTATIONS
from bothways.data.rows.places import STREAM, Place, is_split_at, place_of
from bothways.data.rows.stored import StoredSet
from bothways.data.sources import NAMED, ImageSet
from bothways.data.statistics import Statistics
from bothways.numerics.draws import generator
from bothways.reading import is_there
from bothways.types import UserError

NOT_TRAINED_ON = ("test", "val", "valid", "validation", "dev")  # the first that exists is used for evaluation


def is_split(address: str | Path | ImageSet, split: str) -> bool:
    """Whether the data has splits; False for a single file or a folder without splits, where the split is all of it.

    Raises UserError for a split that the data does not have.
    """
    if isinstance(address, ImageSet):
        return False
    place = _place(address)
    return True if place is None else is_split_at(place, split)


def _place(address: str | Path) -> Place | None:
    """The place on the disk; None for a data set by name, which has splits."""
    if isinstance(address, Statistics):
        raise UserError(f"data {address.name!r} holds statistics, not pictures; give pictures, or their address")
    stream = STREAM.fullmatch(str(address))
    return None if str(address) in NAMED else place_of(stream["address"] if stream else address)


def training_split(address: str | Path | ImageSet) -> str:
    """The split for statistics and fits: "train", or that of ``evaluation_split`` for data without one."""
    try:
        is_split(address, "train")
    except UserError:
        return evaluation_split(address)
    return "train"


def evaluation_split(data: str | Path | ImageSet) -> str:
    """The split to compare with: the test pictures where there are any, as of every data set that is no path.

    Else those that are for validation; else "train", the whole of data without splits.
    """
    if isinstance(data, ImageSet):
        return "train"
    place = _place(data)
    if place is None:
        return "test"
    if is_there(place.path / "val" / ANNOTATIONS):  # Tiny-ImageNet's test pictures have no labels
        return "val"
    return next((split for split in NOT_TRAINED_ON if _has(data, split)), "train")


def _has(address: str | Path, split: str) -> bool:
    try:
        return is_split(address, split)
    except UserError:
        return False


Pictures = TypeVar("Pictures", ImageSet, StoredSet, ImageSet | StoredSet)


def holdout(data: Pictures, count: int, seed: int) -> tuple[ImageSet, Pictures]:
    """(pictures held out of a training, in memory, the rest): ``count`` at random, the same for all tasks of one seed.

    Of a class no more are held out than half of it, or than ``count`` is of all if that is more, and at least one
    stays, as long as the other classes have enough for that. Large classes give what the draw gives.
    """
    order = torch.randperm(len(data), generator=generator(seed, 0, "validation"))
    _, classes, sizes = data.labels[order].unique(return_inverse=True, return_counts=True)
    turn = _turns(classes, sizes)
    share = torch.maximum(sizes // 2, sizes * count // max(1, len(data)))
    # first what is within the share, then what leaves one of its class, each in the order of the draw
    late = (turn >= share[classes]).long() + (turn >= sizes[classes] - 1).long()
    late[data.labels[order] < 0] = 0  # of no class
    chosen = torch.zeros(len(data), dtype=torch.bool)
    chosen[torch.argsort(late, stable=True)[:count]] = True
    return data.subset(order[chosen]).loaded(), data.subset(order[~chosen])


def _turns(classes: Tensor, sizes: Tensor) -> Tensor:
    """(N,): how many of its class come before each."""
    by_class = torch.argsort(classes, stable=True)
    turn = torch.empty_like(classes)
    turn[by_class] = torch.arange(len(classes)) - (sizes.cumsum(0) - sizes)[classes[by_class]]
    return turn


def stratified(labels: Tensor, count: int, source: torch.Generator) -> Tensor:
    """Indices (count,) of a random subset, as balanced over classes as possible.

    One of every class per round, in random order, so that a smaller subset is a prefix of a larger one.
    """
    order = torch.randperm(len(labels), generator=source)
    mixed = labels[order]
    sizes = torch.bincount(mixed)
    turn = _turns(mixed, sizes)
    place = torch.randperm(len(sizes), generator=source)[mixed]
    return order[torch.argsort(turn * len(sizes) + place)[:count]]
