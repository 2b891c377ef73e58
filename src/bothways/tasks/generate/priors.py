"""What is known of real pictures through the models that say what is real: measured, read from a file, or their own."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from bothways.data.sources import load_images
from bothways.data.splits import is_statistics, training_split
from bothways.models.adapter import Adapter
from bothways.numerics.fill import tension_fill
from bothways.numerics.pyramid import resize
from bothways.synthesis.inpainting import Prediction, predict_statistics
from bothways.synthesis.objectives import Spread, measure_spread
from bothways.synthesis.sampling import Part, Space, head_space, measure_space
from bothways.tasks.generate.config import DrawSettings
from bothways.tasks.statistics.run import PICTURES, known_of, measured_layers, read_space, read_spread
from bothways.types import UserError

LEARNED = 4000  # real pictures that a hole's statistics are learned on
SPREAD_PICTURES = 2000  # real pictures are enough for means and standard deviations

Stored = Mapping[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Priors:
    """Of each score model, in order, the spread of its statistics or its BatchNorm's own; what it predicts of a hole;
    one Space for them all.
    """

    spreads: tuple[Mapping[str, Spread], ...] = ()
    stored: tuple[Stored, ...] = ()
    predictions: tuple[Prediction, ...] = ()
    space: Space | None = None


def settled(models: Sequence[Adapter], settings: DrawSettings, data: str | Path | None) -> DrawSettings:
    """The settings as they can be kept: a classifier of which no statistics are known samples its head's rows, and
    where no real pictures are given a hole is filled without the model.
    """
    if settings.prediction_weight and (data is None or is_statistics(data)):
        warnings.warn(
            "no real pictures were given: the hole is filled smoothly, without the model; "
            "with --data FOLDER_OR_PARQUET it is filled by what the model expects there",
            stacklevel=2,
        )
        return settings.model_copy(update={"steps": 0, "prediction_weight": 0.0, "certainty_weight": 0.0})
    if settings.statistics != "sampled" or (data is not None and not is_statistics(data)) or len(models) > 1:
        return settings
    model = models[0]
    if "factor" in known_of(model, data):
        return settings
    if model.head() is None:
        raise UserError(
            f"recipe {settings.recipe!r} needs statistics of real images for model {model.name!r}; "
            "type --data FOLDER_OR_PARQUET"
        )
    kind = "batch" if model.batch_norm_statistics() else "none"
    instead = "and its BatchNorm's own statistics are matched" if kind == "batch" else "and no statistics are matched"
    warnings.warn(
        f"no real pictures are known for model {model.name!r}: features are sampled from the rows of its head, "
        f"{instead}; --data FOLDER_OR_PARQUET draws far better",
        stacklevel=2,
    )
    return settings.model_copy(update={"statistics": kind})


def find_priors(
    models: Sequence[Adapter], settings: DrawSettings, data: str | Path | None, mask: Tensor | None = None
) -> Priors:
    """What the settings ask for, on the models' device. mask: (1,1,H,W), the hole that is to be filled, if any."""
    predicted = tuple(_prediction(model, data, mask) for model in models) if settings.prediction_weight else ()
    sampled = settings.statistics == "sampled" or settings.feature_weight
    space = find_space(models, settings, data) if sampled else None
    if settings.statistics == "batch":
        return Priors(stored=tuple(_stored(model) for model in models), predictions=predicted, space=space)
    if settings.statistics == "spread":
        spreads = tuple(_spread(model, settings, data) for model in models)
        return Priors(spreads=spreads, predictions=predicted, space=space)
    return Priors(predictions=predicted, space=space)


def find_space(models: Sequence[Adapter], settings: DrawSettings, data: str | Path | None) -> Space:
    """Measured on pictures, all models on the same ones; or what is kept of the one model; or the rows of its head."""
    device = models[0].device
    if data is not None and not is_statistics(data):
        sizes = {(model.spec.height, model.spec.width) for model in models}
        if len(sizes) > 1:
            raise UserError("score models of different sizes cannot be sampled together; type one --score")
        images = load_images(data, split=training_split(data), size=next(iter(sizes)), limit=PICTURES).images
        layers, features = zip(*map(measured_layers, models), strict=True)
        return measure_space(models, images.to(device), layers, features)
    if len(models) > 1:
        raise UserError(
            f"{len(models)} score models are sampled together, so their statistics must be of the same pictures; "
            "type --data FOLDER_OR_PARQUET"
        )
    space = read_space(known_of(models[0], data))
    if space is None:
        head = models[0].head()
        if head is None:
            raise UserError(f"model {models[0].name!r} has no head to sample from; type --data FOLDER_OR_PARQUET")
        space = head_space(head[1], head[0])
    parts = {name: Part(part.mean.to(device), part.std.to(device)) for name, part in space.parts.items()}
    return Space(parts, space.factor.to(device))


def _prediction(model: Adapter, data: str | Path | None, mask: Tensor | None) -> Prediction:
    """What follows from a smooth fill of this very hole, learned on real pictures."""
    if mask is None or data is None:
        raise UserError(
            "what is in a hole is predicted from a mask and real pictures; type --mask or --box, and --data"
        )
    size = (model.spec.height, model.spec.width)
    images = load_images(data, split=training_split(data), size=size, limit=LEARNED).images.float() / 255
    filled = tension_fill(images, resize(mask.float(), size) > 0.5)
    return predict_statistics(model, images.to(model.device), filled.to(model.device), model.statistics_layers())


def _stored(model: Adapter) -> Stored:
    stored = model.batch_norm_statistics()
    if not stored:
        raise UserError(
            f"model {model.name!r} has no BatchNorm statistics; type --statistics spread --data REAL_IMAGES"
        )
    return stored


def _spread(model: Adapter, settings: DrawSettings, data: str | Path | None) -> Mapping[str, Spread]:
    if data is not None and not is_statistics(data):
        images = load_images(
            data, split=training_split(data), size=(model.spec.height, model.spec.width), limit=SPREAD_PICTURES
        ).images
        return measure_spread(model, (images.float() / 255).to(model.device), model.statistics_layers())
    spread = read_spread(known_of(model, data))
    if not spread:
        other = "--statistics batch for its BatchNorm's own" if model.batch_norm_statistics() else "--recipe das"
        raise UserError(
            f"recipe {settings.recipe!r} needs channel statistics of real images for model {model.name!r}; "
            f"type --data FOLDER_OR_PARQUET, or {other}"
        )
    return {
        layer: Spread(*(value.to(model.device) for value in (s.mean, s.mean_std, s.log_std, s.log_std_std)))
        for layer, s in spread.items()
    }
