"""``digits``: 1,797 handwritten digits of 8 x 8 pixels, grey, in 17 levels; they come with scikit-learn.

Source: E. Alpaydin & C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
"""

from __future__ import annotations

import numpy as np
import torch

from bothways.data.entries import Entries, Found, as_png, spaced
from bothways.numerics.draws import generator
from bothways.types import UserError

NAME = "digits"
LEVELS = 17  # 0..16
SHAPE = (8, 8)  # pixels; at any other the levels are lost
TRAINING = 1500  # pictures; the other 297 are the test


def from_digits(split: str, limit: int | None) -> Found:
    """The pictures of a split, "train" or "test", which one permutation parts for good: byte round(255 k / 16)."""
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
    rows = order[:TRAINING] if split == "train" else order[TRAINING:]
    chosen = rows[spaced(len(rows), limit)]

    def entries() -> Entries:
        for row in chosen:
            grey = np.round(held.images[row] * (255 / (LEVELS - 1))).astype(np.uint8)
            yield f"digit {row}", as_png(grey), int(held.target[row])

    return Found(tuple(str(name) for name in held.target_names), len(chosen), entries(), LEVELS)
