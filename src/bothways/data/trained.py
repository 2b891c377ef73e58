"""Which pictures a run was trained on, as its card keeps it, and whether others are the same.

    {"data": how they were called, "split", "pictures": how many were there, "digest": of the first of them,
     "trained": how many were trained on, "held_out": "3 17 20", the numbers of those that were kept out of it}

The digest is of names and bytes, so that a data set is known again wherever it lies.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Mapping
from itertools import islice
from typing import Any

from bothways.data.rows.stored import StoredSet
from bothways.data.sources import ImageSet, find_images
from bothways.types import UserError

LOOKED_AT = 3  # pictures by which a data set is known


def training_record(data: Any, split: str, train: ImageSet | StoredSet, held: ImageSet) -> dict[str, Any]:
    """What a card keeps of a training on pictures of a split but those held out."""
    count, digest = _looked_at(data, split)
    places = [] if held.places is None else sorted(held.places.tolist())
    told = {"data": str(data), "split": split, "pictures": count, "digest": digest, "trained": len(train)}
    return {**told, "held_out": " ".join(map(str, places))}


def held_places(record: Mapping[str, Any]) -> frozenset[int]:
    """The numbers of the pictures that were held out."""
    return frozenset(map(int, record["held_out"].split()))


def is_same(record: Mapping[str, Any], data: Any, split: str) -> bool:
    """Whether a split of some data is what was trained on."""
    try:
        return _looked_at(data, split) == (record["pictures"], record["digest"])
    except UserError:
        return False


def _looked_at(data: Any, split: str) -> tuple[int, str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what is odd about the data is told where it is read
        found = find_images(data, split=split, latents=True)
    digest = hashlib.sha256()
    for name, content, _ in islice(found.entries, LOOKED_AT):
        digest.update(name.encode())
        digest.update(content)
    return found.count, digest.hexdigest()[:16]
