"""What distributions of features are matched to: pictures of the class, or at large, or statistics that are kept."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from bothways.data.of_classes import pictures_of_classes
from bothways.data.readers.fit import size_of
from bothways.data.sources import find_images, load_images
from bothways.data.splits import training_split
from bothways.data.statistics import is_statistics
from bothways.judging.classes import outputs_of_labels
from bothways.models.adapter import Adapter
from bothways.synthesis.matching import Targets
from bothways.synthesis.objectives.base import NO_CLASS
from bothways.tasks.statistics.files import read_spread, stored_statistics
from bothways.types import UserError

PICTURES = 50  # maximum of a class, or at large; as in VITAL


def find_targets(
    model: Adapter,
    main: Adapter,
    layers: tuple[str, ...],
    data: str | Path | None,
    labels: Sequence[int],
    own_label: Callable[[int], int] | None = None,
) -> Targets:
    """The targets of a model for classes of the main model, with a warning for each fallback.

    labels: classes, negative for none. own_label: main's label -> the model's, where channels are weighted by its
    logit. Raises UserError for a layer of which nothing is known.
    """
    classes = sorted({label for label in labels if label != NO_CLASS})
    if data is None or is_statistics(data):
        found = Targets(model, layers, normal=_normal(model, layers, data))
        without = "" if own_label is None else ", all channels alike"
        return _with_note(
            found,
            f"no real pictures are given for model {model.name!r}: its features are matched to normal distributions "
            f"with the means and deviations that are kept{without}; --data FOLDER_OR_PARQUET matches those of pictures",
        )
    pictures = _of_classes(model, main, data, classes)
    lacking = [main.spec.class_name(label) for label in classes if label not in pictures]
    if lacking or not classes:
        split = training_split(data)
        pictures[NO_CLASS] = load_images(data, split=split, size=size_of(model.spec), limit=PICTURES).images
    found = Targets(model, layers, pictures, own_label=own_label)
    if not lacking:
        return found
    more = f" and {len(lacking) - 1} more of {len(classes)} classes" if len(lacking) > 1 else ""
    instead = "features are matched to those of all its pictures"
    return _with_note(found, f"data {str(data)!r} has no pictures of {lacking[0]!r}{more}: {instead}")


def _with_note(found: Targets, note: str) -> Targets:
    warnings.warn(note, stacklevel=5)
    return replace(found, notes=(note,))


def _of_classes(model: Adapter, main: Adapter, data: str | Path, labels: Sequence[int]) -> dict[int, Tensor]:
    """Pictures {label: (n,3,H,W) uint8} of classes of the main model, at the size of a model, where there are some."""
    found = find_images(data, split=training_split(data))
    try:
        places, _ = outputs_of_labels(main.spec, main.name, found.classes, str(data), partly=True)
    except UserError:  # pictures of other classes
        return {}
    wanted = {place: label for place, label in enumerate(places.tolist()) if label in labels}
    return pictures_of_classes(found, data, wanted, PICTURES, size_of(model.spec)) if wanted else {}


def _normal(model: Adapter, layers: Sequence[str], data: str | Path | None) -> dict[str, tuple[Tensor, Tensor]]:
    """{layer: (mean (C,), standard deviation (C,))}: kept with the model or in a file, else of its BatchNorm layers."""
    kept, own = read_spread(stored_statistics(model, data)), model.batch_norm_statistics()
    known = {layer: (mean, variance.sqrt()) for layer, (mean, variance) in own.items()}
    known |= {layer: (facts.mean, facts.log_std.exp()) for layer, facts in kept.items()}
    for layer in layers:
        if layer not in known:
            raise UserError(
                f"no statistics of real pictures are available for layer {layer!r} of model {model.name!r}, and it is "
                "no input of a BatchNorm; type --data FOLDER_OR_PARQUET"
            )
    return {layer: (known[layer][0].to(model.device), known[layer][1].to(model.device)) for layer in layers}
