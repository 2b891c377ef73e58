"""The pictures on which a model is measured: those that it was not trained on, wherever that can be known."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from bothways.data.config import HELD_OUT
from bothways.data.readers.fit import size_of
from bothways.data.sources import Chosen, ImageSet, first_size, load_images
from bothways.data.splits import evaluation_split
from bothways.data.trained import held_places, is_same
from bothways.models.classifiers import trained_on
from bothways.types import Flow, UserError


class Measured(NamedTuple):
    """data: an address, or some pictures at it; split: from which they are read; name: how that is called."""

    data: Any
    split: str
    name: str


def to_measure(model: str, data: str | Path | ImageSet, split: str | None) -> Measured:
    """The pictures of data to measure a model on, by its address. split: None for the rule of ``data.config.MEASURED``.

    Warns where only those held out of a training are taken, and where pictures are among those trained on.
    Raises UserError for ``HELD_OUT`` of a model that was not trained on the data, or of which every picture was seen.
    """
    own = evaluation_split(data) if split in (None, HELD_OUT) else str(split)
    known = trained_on(model)
    same = [record for record in known if is_same(record, data, record["split"] if split == HELD_OUT else own)]
    if split == HELD_OUT and not same:
        raise UserError(f"--split {HELD_OUT}: model {model!r} keeps no record of a training on data {str(data)!r}")
    if not same:
        return Measured(data, own, own)
    left = sorted(frozenset.intersection(*map(held_places, same)))
    if split == HELD_OUT and not left:
        raise UserError(
            f"--split {HELD_OUT}: no picture of data {str(data)!r} was held out of all {len(same)} trainings behind "
            f"model {model!r}; type --split {same[0]['split']} for all of them, or other data"
        )
    learnt, count = max(record["trained"] for record in same), same[0]["pictures"]
    if split not in (None, HELD_OUT) or not left:
        warnings.warn(
            f"{model} was trained on {learnt} of these {count} pictures; --split {HELD_OUT} takes those held out"
            if left
            else f"{model} was trained on {learnt} of these {count} pictures",
            stacklevel=3,
        )
        return Measured(data, own, own)
    if split is None:
        warnings.warn(
            f"{model} was trained on {learnt} of the {count} pictures of {str(data)!r}: the {len(left)} "
            f"held out of that are taken; --split {own} takes all",
            stacklevel=3,
        )
    return Measured(Chosen(data, tuple(left)), same[0]["split"] if split == HELD_OUT else own, HELD_OUT)


def tell_of_training(model: str, data: str | Path | ImageSet, split: str) -> None:
    """Warn where a split holds pictures that a model, by its address, was trained on."""
    for record in trained_on(model):
        if is_same(record, data, split):
            told = f"{model} was trained on {record['trained']} of the {record['pictures']} pictures of {split!r}"
            warnings.warn(told, stacklevel=3)
            return


def held_out_pictures(flow: Flow, data: str | Path, split: str | None, limit: int) -> Tensor:
    """(N,3,H,W) in [0,1], at most ``limit`` of them, evenly spaced. Warns of what the flow does not see of them.

    split: as for ``to_measure``. Raises UserError for data without pictures.
    """
    size, measured = size_of(flow.spec), to_measure(flow.name, data, split)
    found = load_images(measured.data, split=measured.split, size=size, limit=limit)
    for line in _changes(flow, found, first_size(measured.data, measured.split)):
        warnings.warn(line, stacklevel=2)
    return found.floats()


def _changes(flow: Flow, found: ImageSet, size: tuple[int, int]) -> Iterator[str]:
    """The conversions of the pictures that lose information, a line each. size: of the first picture."""
    (high, wide), spec = size, flow.spec
    if size != (spec.height, spec.width):
        yield f"pictures of {high}x{wide} pixels are resized and cut to the flow's {spec.height}x{spec.width}"
    if spec.channel_order == "grey" and found.channels == 3:
        yield "pictures in colour: the flow is grey and sees the mean of their channels"
    if spec.levels < found.levels:
        yield f"values of {found.levels} levels are rounded to the {spec.levels} that the flow was trained on"
