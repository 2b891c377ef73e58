"""The real pictures of an audit: an equal number per class from the held-out split."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from bothways.data.readers.fit import size_of
from bothways.data.sources import decoded, find_images
from bothways.judging.classes import outputs_of_labels
from bothways.models.adapter import Adapter
from bothways.tasks.explain.config import REAL_AT_LEAST
from bothways.tasks.explain.measures import LabelledPictures
from bothways.types import UserError


def real_pictures(
    model: Adapter, labels: Sequence[int], data: str | Path, split: str, count: int, preprocess: str = "model"
) -> tuple[LabelledPictures, list[str]]:
    """The first ``count`` of each class in a split; and the names of those that cannot be read."""
    found = find_images(data, split=split)
    outputs, _ = outputs_of_labels(model.spec, model.name, found.classes, str(data), partly=True)
    wanted = {place: label for place, label in enumerate(outputs.tolist()) if label in labels}
    taken, skipped = Counter[int](), list[str]()

    def some() -> Iterator[tuple[str, bytes, int]]:
        for name, content, place in found.entries:
            if (label := wanted.get(place)) is not None and taken[label] < count:
                unreadable = len(skipped)
                yield name, content, label
                taken[label] += len(skipped) == unreadable  # an unreadable picture does not count
        if not taken:
            raise UserError(
                f"data {str(data)!r} has no picture labelled with an audited class; "
                "give a folder with a sub-folder of pictures per class, or a parquet file with labels"
            )

    size = size_of(model.spec, preprocess)
    images, own = zip(*decoded(some(), size, str(data), skipped), strict=True)
    shown = LabelledPictures(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255, torch.tensor(own))
    few = next((label for label in labels if len(shown.rows(label)) < REAL_AT_LEAST), None)
    if few is not None:
        raise UserError(
            f"data {str(data)!r} has {len(shown.rows(few))} readable pictures of class {model.spec.class_name(few)!r}, "
            f"and an audit needs {REAL_AT_LEAST}; give more, or leave the class out of --classes"
        )
    return shown, skipped
