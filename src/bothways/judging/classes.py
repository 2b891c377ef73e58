"""Loading of a classifier for evaluation, and the map from labels of a data set to its outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bothways.data.readers.entries import numbers_of
from bothways.models.class_names import matches, same
from bothways.models.classifiers import target_of
from bothways.models.loader import load_model
from bothways.representation.tuning.targets import CLASS
from bothways.types import ModelSpec, UserError, VisionModel


def load_with_classes(
    model: str | Path | nn.Module | VisionModel,
    spec: ModelSpec | Mapping[str, Any] | None = None,
    *,
    weights: str | Path | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    any_target: bool = False,
) -> VisionModel:
    """Load a classifier: an address of ``load_model``, a run of ``finetune``, a module with ``spec``, or a VisionModel.

    any_target: whether one that predicts several labels or numbers will do.
    Raises UserError for a model without classes.
    """
    if isinstance(model, VisionModel):
        found = getattr(model, "adapter", model)  # of a classifier as a torch module
        if spec is not None or weights is not None:
            raise UserError(f"model {found.name!r} is loaded already; give spec= and weights= to load_model")
    else:
        found = load_model(model, spec, weights=weights, device=device, dtype=dtype)
    if not found.spec.count:
        raise UserError(f"model {found.name!r} has no classes; type a classifier, such as bundled:cifar10-resnet")
    if not any_target:
        check_target(found)
    if found.spec.count == 1 and target_of(found) == CLASS:
        raise UserError(f"model {found.name!r} has one class, and there is nothing to tell apart; state two or more")
    return found


def check_target(model: VisionModel) -> None:
    """Raise UserError for a model that predicts several labels or numbers, which have no accuracy."""
    if (target := target_of(model)) != CLASS:
        raise UserError(
            f"model {model.name!r} was trained with --target {target}; type bothways predict, or a classifier"
        )


def outputs_of_labels(
    spec: ModelSpec, model: str, classes: Sequence[str], data: str, *, partly: bool = False
) -> tuple[Tensor, str]:
    """Output index of each label of the data, (L,), and whether classes were matched by "name" or "number".

    By name if data and model have names (models/class_names.py), else by number. Names of the data that are all
    numbers, such as folders 0 to 11, are the model's numbers, unless one of them is a name of the model. classes: the
    names of the data, () for labels that are numbers only. model, data: names for error messages. partly: a class of
    the data that the model does not have, or has twice, gets -1 where others are found.
    Raises UserError for a class of the data that the model does not have.
    """
    numbers = numbers_of(classes)
    if numbers and (isinstance(spec.classes, int) or not any(matches(spec.classes, name) for name in classes)):
        if max(numbers) >= spec.count:
            raise UserError(
                f"data {data!r} has a class {max(numbers)} and model {model!r} {spec.count}, 0 to {spec.count - 1}; "
                "give data of the same classes, or rename the folders"
            )
        return torch.tensor(numbers), "number"
    if isinstance(spec.classes, int) or not classes:
        if classes and len(classes) != spec.count:
            raise UserError(
                f"data {data!r} has {len(classes)} classes and model {model!r} {spec.count} without names; "
                "state ModelSpec(classes=[...]), or give data of the same classes"
            )
        return torch.arange(spec.count), "number"
    known = spec.classes
    if len(known) == len(classes) and all(same(a, b) for a, b in zip(known, classes, strict=True)):
        return torch.arange(len(known)), "name"  # the same order, which also distinguishes two classes of one name
    found = [matches(known, name) for name in classes]
    missing = [name for name, places in zip(classes, found, strict=True) if len(places) != 1]
    if missing and not (partly and len(missing) < len(classes)):
        shown = ", ".join(map(repr, missing[:3])) + (", ..." if len(missing) > 3 else "")
        raise UserError(
            f"{len(missing)} of {len(classes)} classes of data {data!r} are not classes of model {model!r} ({shown}), "
            f"which has {', '.join(map(repr, known[:3]))}, ...; rename the folders, or correct ModelSpec.classes"
        )
    return torch.tensor([places[0] if len(places) == 1 else -1 for places in found]), "name"
