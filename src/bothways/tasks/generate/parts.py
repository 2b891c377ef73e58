"""Settings -> the parts of one batch: what is wanted of the pictures, by whom, and the ascent that follows it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from bothways.models.adapter import Adapter
from bothways.numerics.draws import Draws
from bothways.numerics.fill import Smoothness
from bothways.synthesis.ascent import Ascent
from bothways.synthesis.das import toward
from bothways.synthesis.dsf.score import dsf
from bothways.synthesis.fields import Clipped, Combined, Field, Inside, Unit
from bothways.synthesis.inpainting import Smoothed
from bothways.synthesis.objectives import (
    Term,
    Wish,
    batch_statistics,
    certainty,
    class_log_probability,
    spread_statistics,
    total_variation,
)
from bothways.synthesis.resemblance import Spring
from bothways.synthesis.resized import Resized
from bothways.synthesis.sampling import statistics_name, toward_features
from bothways.tasks.generate.asked import Asked, Batch
from bothways.tasks.generate.canvas import Geometry, filled, geometry, new_ascent, views
from bothways.tasks.generate.config import DrawSettings
from bothways.tasks.generate.likeness import asked_terms
from bothways.tasks.generate.roles import Roles
from bothways.tasks.statistics.run import OUTPUTS
from bothways.types import RunError, TrainedModel, UserError

Eyes = Mapping[int, TrainedModel]
"""{id(model): how it sees the pictures}, so that a model with two roles looks once."""


def batch_parts(roles: Roles, settings: DrawSettings, asked: Asked, batch: Batch) -> tuple[Field, Ascent, Draws]:
    """Everything that draws one batch."""
    place, draws = geometry(settings, roles.main.spec, batch.scene), Draws(batch.seeds)
    field = wanted(roles, settings, place, asked, batch, draws)
    return field, new_ascent(settings, place, draws, roles.main.device, batch.scene), draws


def wanted(roles: Roles, settings: DrawSettings, place: Geometry, asked: Asked, batch: Batch, draws: Draws) -> Field:
    """dsf weight * score + everything else, each scaled where the settings say so, then clipped."""
    parts: list[tuple[float, Field]] = []
    eyes = {id(model): _seen(model, roles.main, place) for model in (*roles.condition, *roles.score)}
    terms = objective(roles, settings, eyes, asked, batch, draws)
    if terms:
        parts.append((1.0, toward(Wish(tuple(terms)), draws, views(settings, place), normalize=settings.normalize)))
    if settings.nearness_weight and batch.scene.photos is not None:
        parts.append((settings.nearness_weight, Spring(batch.scene.photos.to(roles.main.device), place.border)))
    if settings.dsf_weight:
        for model in roles.score:
            scored: Field = _dsf(eyes[id(model)], settings, draws)
            scored = Inside(scored, place.border) if place.border else scored
            share = settings.dsf_weight / len(roles.score)
            parts.append((share, Unit(scored) if settings.normalize else scored))
    if not parts and settings.steps:
        raise UserError(
            f"recipe {settings.recipe!r} wants nothing of a picture without a class; "
            "type --class NAME, or --recipe sampled"
        )
    total: Field = Combined(parts)
    if settings.smooth and batch.scene.mask is not None:
        total = Smoothed(total, Smoothness(batch.scene.mask))
    return total if settings.clip is None else Clipped(total, settings.clip, settings.clip_by)


def objective(roles: Roles, settings: DrawSettings, eyes: Eyes, asked: Asked, batch: Batch, draws: Draws) -> list[Term]:
    """The terms: what is asked, of every condition model; what is real, of every score model; smoothness."""
    terms: list[Term] = []
    for model in roles.condition:
        found = asked_terms(model, eyes[id(model)], settings, asked, batch, roles.main)
        terms += [1 / len(roles.condition) * term for term in found]
    targets = roles.priors.space.sample(draws, settings.temperature, settings.shrinkage) if roles.priors.space else {}
    for index, model in enumerate(roles.score):
        found = _real(roles, settings, index, eyes[id(model)], targets)
        found += _in_a_hole(roles, settings, index, eyes[id(model)], batch, draws)
        terms += [1 / len(roles.score) * term for term in found]
    if settings.variation_weight:
        terms.append(settings.variation_weight * total_variation(settings.variation_power))
    return terms


def _real(
    roles: Roles, settings: DrawSettings, index: int, model: TrainedModel, targets: dict[str, Tensor]
) -> list[Term]:
    """The terms by which one score model says what is real."""
    priors, terms = roles.priors, []
    if priors.spreads:
        terms.append(settings.statistics_weight * spread_statistics(model, priors.spreads[index]))
    elif priors.stored:
        terms.append(settings.statistics_weight * batch_statistics(model, priors.stored[index], settings.group))
    if priors.space is None:
        return terms
    mine = {name: part for name, part in priors.space.parts.items() if name.startswith(f"{index}/")}
    layers = {name: name.split("/", 2)[2] for name in mine}
    matched = {name for name in mine if name == statistics_name(layers[name], index)}
    if settings.statistics == "sampled" and matched:  # a model without norms and convolutions has features alone
        spread = {layers[name]: mine[name].spread() for name in mine if name in matched}
        wanted = {layers[name]: targets[name] for name in mine if name in matched}
        terms.append(settings.statistics_weight * spread_statistics(model, spread, wanted))
    for name in (name for name in mine if name not in matched):
        if layers[name] != OUTPUTS and settings.feature_weight:
            term = toward_features(model, layers[name], mine[name].mean, targets[name])
            terms.append(settings.feature_weight * term)
        elif layers[name] == OUTPUTS and settings.decision_weight and not roles.condition:
            terms.append(settings.decision_weight * class_log_probability(model, targets[name].argmax(1)))
    return terms


def _in_a_hole(
    roles: Roles, settings: DrawSettings, index: int, model: TrainedModel, batch: Batch, draws: Draws
) -> list[Term]:
    """The terms by which one score model says what belongs in a hole."""
    terms: list[Term] = []
    if roles.priors.predictions and batch.scene.photos is not None:
        start = filled(settings, batch.scene.photos, batch.scene.mask, draws).to(roles.main.device)
        terms.append(settings.prediction_weight * roles.priors.predictions[index].term(model, start))
    if settings.certainty_weight:
        terms.append(settings.certainty_weight * certainty(model))
    return terms


def _dsf(model: TrainedModel, settings: DrawSettings, draws: Draws) -> Field:
    return dsf(
        model,
        draws,
        surrogate=settings.dsf_surrogate,
        engine=settings.dsf_engine,
        per=settings.dsf_per,
        augmentation=settings.dsf_augmentation,
        live=settings.dsf_live,
        distance=settings.dsf_distance,
        parameters=settings.dsf_parameters,
    )


def _seen(model: Adapter, main: Adapter, place: Geometry) -> TrainedModel:
    """The main model sees a drawing as it is; it sees a photo, and every other model each picture, at its own size."""
    own = (model.spec.height, model.spec.width)
    as_it_is = (model is main and not place.of_photo) or own == (place.height, place.width)
    return model if as_it_is else Resized(model)


def check_parts(roles: Roles, settings: DrawSettings, asked: Asked) -> None:
    """Put the parts of one picture together and look once along the field, before a run: what cannot be is refused."""
    place = geometry(settings, roles.main.spec, asked.scene)
    try:
        if not place.of_photo:
            with torch.no_grad():
                roles.main.outputs(torch.full((1, 3, place.height, place.width), 0.5, device=roles.main.device))
        first = max(range(len(asked)), key=lambda i: asked.channels[i]) if asked.channels else 0  # is there such a one?
        field, ascent, _ = batch_parts(roles, settings, asked, asked.batch([first], [0]))
        if settings.dsf_weight or asked.layer or settings.resembles:  # no second derivative, no such layer
            with torch.no_grad():
                image = ascent.parameterization.image()
            field(image, torch.zeros(1))
    except RunError:
        raise
    except RuntimeError as error:
        size, said = f"{place.height}x{place.width}", str(error).splitlines()[0]
        raise UserError(f"pictures of {size} cannot be held ({said}); type a smaller --size") from error
