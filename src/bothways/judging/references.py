"""Reference features of real images for each judge."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bothways.data.readers.fit import size_of
from bothways.data.sources import load_images
from bothways.data.splits import evaluation_split
from bothways.data.statistics import is_statistics
from bothways.judging.verdicts import Reference, penultimate
from bothways.models.adapter import Adapter
from bothways.models.catalogue import kept_with
from bothways.progress import counted

REFERENCE_AT_MOST = 2000  # pictures, evenly spaced: the first ones of a folder are of its first classes


def find_references(jury: Sequence[Adapter], data: str | Path | None) -> dict[str, Reference]:
    """Reference features of real images, by judge name, for the judges that have any."""
    return {
        judge.name: found
        for judge in counted(jury, "reference pictures")
        if (found := reference(judge, data)) is not None
    }


def reference(model: Adapter, data: str | Path | None) -> Reference | None:
    """Reference features of ``data`` under a judge, or those stored with a bundled model; None without either."""
    if data is not None and not is_statistics(data):
        chosen = load_images(data, split=evaluation_split(data), size=size_of(model.spec), limit=REFERENCE_AT_MOST)
        features, _ = penultimate(model, chosen.floats().to(model.device))
        return None if features is None else Reference(features, chosen.labels, str(data))
    kept = kept_with(model)
    if "features" not in kept:
        return None
    return Reference(kept["features"], kept["labels"].long(), "the test pictures kept with the model")
