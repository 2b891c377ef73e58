"""``swiss-roll``: points of a rolled-up sheet, as pictures of one pixel whose channels are coordinates."""

from __future__ import annotations

import math

import torch

from bothways.data.entries import Entries, Found, as_png, spaced
from bothways.numerics.draws import generator
from bothways.types import UserError

NAME = "swiss-roll"
TURNS = 1.5  # of the sheet, from half a turn out
COUNTS = {"train": 5000, "test": 1000}


def from_swiss_roll(split: str, limit: int | None) -> Found:
    """Points of the roll, radius = angle, with height in the third coordinate, scaled into [0, 255].

    The label is the quarter of the sheet, from inside out. Each split is drawn from its own seed.
    """
    if split not in COUNTS:
        raise UserError(f"data {NAME!r} has no split {split!r}; it has {', '.join(COUNTS)}")
    along, height, *thickness = torch.rand(4, COUNTS[split], generator=generator(0, purpose=f"swiss roll {split}"))
    angle = math.pi * (1 + 2 * TURNS * along)
    radius = angle + 0.4 * (thickness[0] + thickness[1] - 1)
    largest = math.pi * (1 + 2 * TURNS) + 0.5
    plane = [(radius * turn / largest + 1) / 2 for turn in (angle.cos(), angle.sin())]
    points = (255 * torch.stack([*plane, height], 1)).round().to(torch.uint8).view(-1, 1, 1, 3).numpy()
    quarters = (4 * along).long().clamp(max=3).tolist()
    chosen = spaced(COUNTS[split], limit)

    def entries() -> Entries:
        for row in chosen:
            yield f"point {row}", as_png(points[row]), quarters[row]

    return Found(tuple(f"quarter {k}" for k in range(1, 5)), len(chosen), entries())
