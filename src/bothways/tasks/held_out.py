"""The pictures for the evaluation of a flow: the test split if there is one, at the size of the flow."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from bothways.data.sources import ImageSet, first_size, load_images
from bothways.data.splits import held_out
from bothways.types import Flow


def held_out_pictures(flow: Flow, data: str | Path, limit: int) -> Tensor:
    """At most ``limit`` evenly spaced pictures, (N,3,H,W) in [0,1]. Warns of conversions that lose information.

    Raises UserError for data without pictures.
    """
    size, split = (flow.spec.height, flow.spec.width), held_out(data)
    found = load_images(data, split=split, size=size, limit=limit)
    for line in _changes(flow, found, first_size(data, split)):
        warnings.warn(line, stacklevel=2)
    return found.images.float() / 255


def _changes(flow: Flow, found: ImageSet, size: tuple[int, int]) -> Iterator[str]:
    """The conversions of the pictures that lose information, a line each. size: of the first picture."""
    (high, wide), spec = size, flow.spec
    if size != (spec.height, spec.width):
        yield f"pictures of {high}x{wide} pixels are resized and cut to the flow's {spec.height}x{spec.width}"
    if spec.channel_order == "grey" and found.channels == 3:
        yield "pictures in colour: the flow is grey and sees the mean of their channels"
    if spec.levels < found.levels:
        yield f"values of {found.levels} levels are rounded to the {spec.levels} that the flow was trained on"
