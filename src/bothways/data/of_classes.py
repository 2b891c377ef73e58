"""Some pictures of each of a few classes, read without the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bothways.data.readers.entries import Entries, SplitEntries
from bothways.data.readers.fit import Size
from bothways.data.sources import decoded


def pictures_of_classes(
    found: SplitEntries, address: str | Path | Any, wanted: Mapping[int, int], count: int, size: Size
) -> dict[int, Tensor]:
    """{label: (n,3,H,W) uint8}, the first ``count`` of each class in a split, without those of which there are none.

    wanted: {number of a class in the data: label}.
    """
    taken = Counter[int]()

    def some() -> Entries:
        for name, content, place in found.entries:
            label = wanted.get(place)
            if label is None or taken[label] >= count:
                continue
            taken[label] += 1
            yield name, content, label
            if all(taken[each] >= count for each in wanted.values()):
                return

    pictures: dict[int, list[np.ndarray]] = {}
    entries = some()
    first = next(entries, None)
    if first is None:
        return {}

    def every() -> Entries:
        yield first
        yield from entries

    for image, label in decoded(every(), size, str(address), []):
        pictures.setdefault(label, []).append(image)
    return {label: torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) for label, images in pictures.items()}
