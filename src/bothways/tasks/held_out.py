"""The pictures on which a flow is measured: the test split where there is one, at the flow's size."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from bothways.data.entries import size_of
from bothways.data.sources import ImageSet, first_size, load_images
from bothways.data.splits import evaluation_split
from bothways.types import Flow


def held_out_pictures(flow: Flow, data: str | Path, limit: int) -> Tensor:
    """(N,3,H,W) in [0,1], at most ``limit`` of them, evenly spaced. Warns of what the flow does not see of them.

    Raises UserError for data without pictures.
    """
    size, split = size_of(flow.spec), evaluation_split(data)
    found = load_images(data, split=split, size=size, limit=limit)
    for line in _changes(flow, found, first_size(data, split)):
        warnings.warn(line, stacklevel=2)
    return found.images.float() / 255


def _changes(flow: Flow, found: ImageSet, size: tuple[int, int]) -> Iterator[str]:
    """What the flow does not see of the pictures as they are, a line each. size: of the first of them."""
    (high, wide), spec = size, flow.spec
    if size != (spec.height, spec.width):
        yield f"pictures of {high}x{wide} pixels are resized and cut to the flow's {spec.height}x{spec.width}"
    if spec.channel_order == "grey" and found.channels == 3:
        yield "pictures in colour: the flow is grey and sees the mean of their channels"
    if spec.levels < found.levels:
        yield f"values of {found.levels} levels are rounded to the {spec.levels} that the flow was trained on"
