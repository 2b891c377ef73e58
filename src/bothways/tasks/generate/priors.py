"""Image-prior statistics of each score model: measured on real pictures, read from a file, or the model's own."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from bothways.data.readers.fit import size_of
from bothways.data.sources import load_images
from bothways.data.splits import training_split
from bothways.data.statistics import is_statistics
from bothways.judging.origins import small_copies
from bothways.models.adapter import Adapter
from bothways.numerics.fill import tension_fill
from bothways.numerics.pyramid import resize
from bothways.progress import counted, stage
from bothways.synthesis.inpainting import Prediction, predict_statistics
from bothways.synthesis.matching import Targets
from bothways.synthesis.objectives.base import Priors, Stored, WeightedSum
from bothways.synthesis.objectives.certainty import Certainty
from bothways.synthesis.objectives.likeness import Embedding
from bothways.synthesis.objectives.matching import Matching
from bothways.synthesis.objectives.sampled import named_features
from bothways.synthesis.objectives.statistics import Statistics
from bothways.synthesis.objectives.terms import vectors
from bothways.synthesis.sampling import OUTPUTS, Space, chunk_size, head_space, measure_space
from bothways.synthesis.statistics import STATISTICS, Spread, measure_spread
from bothways.tasks.generate.roles import labels_of
from bothways.tasks.statistics.config import PICTURES
from bothways.tasks.statistics.files import (
    features_mean,
    measured_layers,
    read_space,
    read_spread,
    stored_statistics,
    with_heads,
)
from bothways.tasks.statistics.matched import find_targets
from bothways.types import UserError

LEARNED = 4000  # maximum real pictures to learn the prediction of a hole
CENTRE_PICTURES = 500  # maximum real pictures for the mean of features
SPREAD_PICTURES = 2000  # maximum real pictures for means and standard deviations


class Settled(NamedTuple):
    """What is drawn after fallbacks. steps: whether any are made. notes: a line for each fallback, as it was warned."""

    objective: WeightedSum
    steps: bool = True
    notes: tuple[str, ...] = ()


def settled(
    objective: WeightedSum, models: Sequence[Adapter], data: str | Path | None, other_recipe: str = "", *,
    targeted: bool = False,
) -> Settled:  # fmt: skip
    """The objective with fallbacks for missing statistics, each with a warning.

    other_recipe: what to type for such a picture without statistics, from networks with a linear head; "" for nothing.
    targeted: whether there is a class, prompt or layer.
    Sampled statistics fall back to the rows of the classifier head; the spread of statistics to BatchNorm's running
    statistics where every model has them, or to none; a hole is filled without the model if there are no real pictures.
    Raises UserError if there is no fallback.
    """
    of_pictures = data is not None and not is_statistics(data)
    needs = {part.needs for _, part in objective.parts}
    if "prediction" in needs and not of_pictures:
        kept = [(w, p) for w, p in objective.parts if p.needs != "prediction" and not isinstance(p, Certainty)]
        told = (
            "no real pictures were given: the hole is filled smoothly, without the model; "
            "with --data FOLDER_OR_PARQUET it is filled by the model"
        ) + ", and with --recipe edit by what was asked for, which is not drawn now" * targeted
        return _told(WeightedSum(tuple(kept)), told, steps=False)
    if of_pictures:
        return Settled(objective)
    found = Settled(objective)
    if "space" in needs and len(models) == 1 and "factor" not in stored_statistics(models[0], data):
        found = _without_space(objective, models[0])
    if "spread" in needs:
        lacking = [model for model in models if not read_spread(stored_statistics(model, data))]
        if lacking:
            more = _without_spread(found.objective, lacking, models, other_recipe if "space" not in needs else "")
            return more._replace(notes=(*found.notes, *more.notes))
    return found


def _samples_statistics(objective: WeightedSum) -> bool:
    return any(isinstance(part, Statistics) and part.form == "sampled" for _, part in objective.parts)


def _without_spread(
    objective: WeightedSum, lacking: Sequence[Adapter], models: Sequence[Adapter], other_recipe: str
) -> Settled:
    own = all(model.batch_norm_statistics() for model in models)
    instead = "BatchNorm's running statistics are matched instead" if own else "no statistics are matched"
    told = f"no statistics of real pictures are available for model {lacking[0].name!r}: {instead}; "
    told += "--data FOLDER_OR_PARQUET gives them"
    if other_recipe and not own and all(model.head() for model in models):
        told += f", and {other_recipe} without any"
    return _told(_with_statistics(objective, "spread", "batch" if own else None), told)


def _without_space(objective: WeightedSum, model: Adapter) -> Settled:
    if model.head() is None:
        raise UserError(
            f"model {model.name!r} has no statistics of real pictures to sample from, and no head; "
            "type --data FOLDER_OR_PARQUET"
        )
    own = bool(model.batch_norm_statistics())
    instead = ", and its BatchNorm's own statistics are matched" if own else ", and no statistics are matched"
    told = f"no real pictures are available for model {model.name!r}: rows of its head are sampled"
    told += (instead if _samples_statistics(objective) else "") + "; --data FOLDER_OR_PARQUET gives better pictures"
    return _told(_with_statistics(objective, "sampled", "batch" if own else None), told)


def _told(objective: WeightedSum, text: str, *, steps: bool = True) -> Settled:
    warnings.warn(text, stacklevel=4)
    return Settled(objective, steps, (text,))


def _with_statistics(objective: WeightedSum, form: str, instead: Literal["batch"] | None) -> WeightedSum:
    """The objective with statistics of one form replaced by another form, or removed."""
    parts = []
    for weight, part in objective.parts:
        if not (isinstance(part, Statistics) and part.form == form):
            parts.append((weight, part))
        elif instead is not None:
            parts.append((weight, part.model_copy(update={"form": instead})))
    return WeightedSum(tuple(parts))


def find_priors(
    models: Sequence[Adapter],
    objective: WeightedSum,
    data: str | Path | None,
    mask: Tensor | None = None,
    condition: Sequence[Adapter] = (),
    labels: Sequence[int] = (),
) -> Priors:
    """The priors that the objectives need, on the models' device. models: the score models.

    mask: (1,1,H,W), the hole to fill, if any. condition: the condition models, whose mean features are found. labels:
    of the pictures to draw, classes of the main model.
    """
    needs = {part.needs for _, part in objective.parts}
    main = (*condition, *models)[0]
    return Priors(
        predictions=tuple(_prediction(model, data, mask) for model in models) if "prediction" in needs else (),
        space=with_heads(models, find_space(models, data, named_features(objective))) if "space" in needs else None,
        stored=tuple(_stored(model) for model in models) if "stored" in needs else (),
        spreads=tuple(_spread(model, data) for model in models) if "spread" in needs else (),
        means=_means(condition, objective, data),
        matched=tuple(_matched(model, main, objective, data, labels) for model in models) if "matched" in needs else (),
    )


def _means(models: Sequence[Adapter], objective: WeightedSum, data: str | Path | None) -> dict[tuple[str, str], Tensor]:
    """{(name of a model, layer): mean (d,) over real pictures} of the layers that objectives centre, where known."""
    pairs = ((model, part.centre_layer(model)) for model in models for _, part in objective.parts)
    found = {}
    for model, layer in dict.fromkeys(pairs):
        if layer is None:
            continue
        if data is not None and not is_statistics(data):
            found[model.name, layer] = _mean_features(model, layer, data)
        # a file holds the statistics of one model
        elif (mean := features_mean(model, data if len(models) == 1 else None, layer)) is not None:
            found[model.name, layer] = mean
    return found


def uncentred(
    objective: WeightedSum,
    models: Sequence[Adapter],
    means: Mapping[tuple[str, str], Tensor],
    data: str | Path | None = None,
) -> list[str]:
    """A line, as it is warned, for each mean of the condition models that embeddings lack."""
    parts = [part for _, part in objective.parts if isinstance(part, Embedding) and part.centred]
    wanted = dict.fromkeys((model.name, part.centre_layer(model)) for model in models for part in parts)
    advice = "--data FOLDER_OR_PARQUET, or a file of bothways statistics, gives better pictures"
    if is_statistics(data) and len(models) == 1 and (space := read_space(stored_statistics(models[0], data))):
        held = " or ".join(layer for layer in space.of_features() if layer != OUTPUTS)
        advice = f"the statistics hold that of {held}: --set terms.embedding.layer=NAME" if held else advice
    notes = [
        f"no mean of the features of model {name!r} at layer {layer!r} is available: the direction is not centred; "
        f"{advice}"
        for name, layer in wanted
        if (name, layer) not in means
    ]
    for note in notes:
        warnings.warn(note, stacklevel=3)
    return notes


def _mean_features(model: Adapter, layer: str, data: str | Path) -> Tensor:
    pictures = load_images(data, split=training_split(data), size=size_of(model.spec), limit=CENTRE_PICTURES)
    chunks = pictures.images.split(chunk_size(pictures.images))
    with torch.no_grad():
        rows = [
            vectors(model.features(chunk.to(model.device).float() / 255, [layer])[layer], layer)
            for chunk in counted(chunks, STATISTICS)
        ]
    return torch.cat(rows).mean(0)


def _matched(
    model: Adapter, main: Adapter, objective: WeightedSum, data: str | Path | None, labels: Sequence[int]
) -> Targets:
    parts = [part for _, part in objective.parts if isinstance(part, Matching)]
    layers = tuple(dict.fromkeys(layer for part in parts for layer in part.layers_of(model)))
    relevant = any(part.weights == "relevance" for part in parts)

    def own_label(label: int) -> int:
        return int(labels_of(model, main, torch.tensor([label])))

    return find_targets(model, main, layers, data, labels, own_label if relevant else None)


def find_space(models: Sequence[Adapter], data: str | Path | None, named: Sequence[str] = ()) -> Space:
    """The function space: measured on pictures common to all models, or stored with a single model, or its head.

    named: layers of the features, in place of the models' own. Raises UserError for one of which nothing is stored.
    """
    device = models[0].device
    if data is not None and not is_statistics(data):
        sizes = {(model.spec.height, model.spec.width) for model in models}
        if len(sizes) > 1:
            raise UserError("score models of different sizes cannot be sampled together; type one --score")
        own = {size_of(model.spec) for model in models}
        way = own.pop() if len(own) == 1 else sizes.pop()  # one picture for all: ours, where theirs differ
        found = load_images(data, split=training_split(data), size=way, limit=PICTURES)
        layers, features = zip(*(measured_layers(model, (), named) for model in models), strict=True)
        seen, count = found.images.to(device), len(found)
        measured = measure_space(models, seen, layers, features, keep=count, names=found.titles)
        return replace(measured, pixels=small_copies(seen))
    if len(models) > 1:
        raise UserError(
            f"{len(models)} score models are sampled together, which needs statistics on the same pictures; "
            "type --data FOLDER_OR_PARQUET"
        )
    space = read_space(stored_statistics(models[0], data))
    if space is None:
        head = models[0].head()
        if head is None:
            raise UserError(f"model {models[0].name!r} has no head to sample from; type --data FOLDER_OR_PARQUET")
        space = head_space(head[1], head[0])
    kept = space.of_features()
    if lacking := [layer for layer in named if layer not in kept]:
        held = " and ".join(map(repr, kept)) or "none"
        raise UserError(
            f"no features of layer {lacking[0]!r} of model {models[0].name!r} are stored, those of {held} are; type "
            f"--data FOLDER_OR_PARQUET, or a file of bothways statistics {models[0].typed} --features {' '.join(named)}"
        )
    return (space.only(named) if named else space).to(device)


def _prediction(model: Adapter, data: str | Path | None, mask: Tensor | None) -> Prediction:
    """The prediction of channel statistics from a smooth fill of this hole, learned on real pictures."""
    if mask is None or data is None:
        raise UserError("the prediction of a hole needs a mask and real pictures; type --mask or --box, and --data")
    size = (model.spec.height, model.spec.width)
    images = load_images(data, split=training_split(data), size=size_of(model.spec), limit=LEARNED).floats()
    with stage("filling the hole in real pictures"):
        filled = tension_fill(images, resize(mask.float(), size) > 0.5)
    return predict_statistics(model, images.to(model.device), filled.to(model.device), model.statistics_layers())


def _stored(model: Adapter) -> Stored:
    stored = model.batch_norm_statistics()
    if not stored:
        raise UserError(
            f"model {model.name!r} has no BatchNorm statistics; type --statistics spread --data FOLDER_OR_PARQUET"
        )
    return stored


def _spread(model: Adapter, data: str | Path | None) -> Mapping[str, Spread]:
    if data is not None and not is_statistics(data):
        images = load_images(data, split=training_split(data), size=size_of(model.spec), limit=SPREAD_PICTURES).floats()
        return measure_spread(model, images.to(model.device), model.statistics_layers())
    spread = read_spread(stored_statistics(model, data))
    if not spread:
        raise UserError(
            f"no statistics of real pictures are available for model {model.name!r}; type --data FOLDER_OR_PARQUET"
        )
    return {
        layer: Spread(*(value.to(model.device) for value in (s.mean, s.mean_std, s.log_std, s.log_std_std)))
        for layer, s in spread.items()
    }
