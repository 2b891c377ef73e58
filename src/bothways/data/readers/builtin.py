"""Built-in data sets: ``digits`` and ``swiss-roll``.

digits        1,797 handwritten digits of 8 x 8 pixels, grey, in 17 levels; they come with scikit-learn
swiss-roll    points of a 2-D sheet rolled up in 3-D, as images of one pixel whose channels are coordinates

Source: E. Alpaydin & C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from bothways.data.readers.entries import Entries, SplitEntries, as_png, evenly_spaced
from bothways.numerics.draws import generator
from bothways.types import UserError

DIGITS = "digits"
DIGITS_LEVELS = 17  # 0..16
DIGITS_SHAPE = (8, 8)  # pixels; resizing to any other size interpolates between the levels
DIGITS_TRAINING = 1500  # pictures; the other 297 are the test
SWISS_ROLL = "swiss-roll"
ROLL_TURNS = 1.5  # of the sheet, from half a turn out
ROLL_COUNTS = {"train": 5000, "test": 1000}


def from_digits(split: str, limit: int | None) -> SplitEntries:
    """scikit-learn's digits, split "train" or "test" by a fixed permutation; level k is byte round(255 k / 16)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise UserError(
            "data 'digits' needs scikit-learn, which is not installed; type pip install \"bothways[digits]\""
        ) from error
    if split not in ("train", "test"):
        raise UserError(f"data 'digits' has no split {split!r}; it has test, train")
    held = load_digits()
    order = torch.randperm(len(held.target), generator=generator(0, purpose="digits split")).numpy()
    rows = order[:DIGITS_TRAINING] if split == "train" else order[DIGITS_TRAINING:]
    chosen = rows[evenly_spaced(len(rows), limit)]

    def entries() -> Entries:
        for row in chosen:
            grey = np.round(held.images[row] * (255 / (DIGITS_LEVELS - 1))).astype(np.uint8)
            yield f"digit {row}", as_png(grey), int(held.target[row])

    return SplitEntries(tuple(str(name) for name in held.target_names), len(chosen), entries(), DIGITS_LEVELS)


def from_swiss_roll(split: str, limit: int | None) -> SplitEntries:
    """Swiss roll: radius = angle in the plane, height as third coordinate, scaled to [0, 255].

    The label is the quarter of the sheet, from the inside out. Each split has its own seed.
    """
    if split not in ROLL_COUNTS:
        raise UserError(f"data {SWISS_ROLL!r} has no split {split!r}; it has {', '.join(ROLL_COUNTS)}")
    along, height, *thickness = torch.rand(4, ROLL_COUNTS[split], generator=generator(0, purpose=f"swiss roll {split}"))
    angle = math.pi * (1 + 2 * ROLL_TURNS * along)
    radius = angle + 0.4 * (thickness[0] + thickness[1] - 1)
    largest = math.pi * (1 + 2 * ROLL_TURNS) + 0.5
    plane = [(radius * turn / largest + 1) / 2 for turn in (angle.cos(), angle.sin())]
    points = (255 * torch.stack([*plane, height], 1)).round().to(torch.uint8).view(-1, 1, 1, 3).numpy()
    quarters = (4 * along).long().clamp(max=3).tolist()
    chosen = evenly_spaced(ROLL_COUNTS[split], limit)

    def entries() -> Entries:
        for row in chosen:
            yield f"point {row}", as_png(points[row]), quarters[row]

    return SplitEntries(tuple(f"quarter {k}" for k in range(1, 5)), len(chosen), entries())
