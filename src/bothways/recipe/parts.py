"""Settings -> the parts of one batch: what is wanted of the pictures, by whom, and the ascent that follows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from bothways.loops.ascend import Ascent
from bothways.models.adapter import Adapter
from bothways.numerics.draws import Draws
from bothways.recipe.canvas import Geometry, geometry, new_ascent, views
from bothways.recipe.roles import Roles, labels_of
from bothways.recipe.settings import DrawSettings
from bothways.recipe.statistics import OUTPUTS
from bothways.synthesis.das import toward
from bothways.synthesis.dsf import dsf
from bothways.synthesis.fields import Clipped, Combined, Field, Inside, Unit
from bothways.synthesis.objectives import (
    Term,
    Wish,
    batch_statistics,
    class_log_probability,
    class_logit,
    spread_statistics,
    total_variation,
)
from bothways.synthesis.resized import Resized
from bothways.synthesis.sampling import statistics_name, toward_features
from bothways.types import RunError, TrainedModel, UserError


def batch_parts(
    roles: Roles, settings: DrawSettings, labels: Tensor, seeds: Sequence[int], photos: Tensor | None = None
) -> tuple[Field, Ascent, Draws]:
    """Everything that draws one batch. labels (B,), -1 where no class is asked for; photos (B,3,H,W) or None."""
    place, draws = geometry(settings, roles.main.spec), Draws(seeds)
    field = wanted(roles, settings, place, labels, draws)
    return field, new_ascent(settings, place, draws, roles.main.device, photos), draws


def wanted(roles: Roles, settings: DrawSettings, place: Geometry, labels: Tensor, draws: Draws) -> Field:
    """dsf weight * score + everything else, each scaled where the settings say so, then clipped."""
    parts: list[tuple[float, Field]] = []
    terms = objective(roles, settings, place, labels, draws)
    if terms:
        parts.append((1.0, toward(Wish(tuple(terms)), draws, views(settings, place), normalize=settings.normalize)))
    if settings.dsf_weight:
        for model in roles.score:
            scored: Field = _dsf(_seen(model, roles.main, place), settings, draws)
            scored = Inside(scored, place.border) if place.border else scored
            share = settings.dsf_weight / len(roles.score)
            parts.append((share, Unit(scored) if settings.normalize else scored))
    if not parts:
        raise UserError(
            f"recipe {settings.recipe!r} wants nothing of a picture without a class; "
            "type --class NAME, or --recipe sampled"
        )
    total: Field = Combined(parts)
    return total if settings.clip is None else Clipped(total, settings.clip, settings.clip_by)


def objective(roles: Roles, settings: DrawSettings, place: Geometry, labels: Tensor, draws: Draws) -> list[Term]:
    """The terms: the class, of every condition model; what is real, of every score model; smoothness."""
    terms: list[Term] = []
    class_term = class_logit if settings.objective == "logit" else class_log_probability
    for model in roles.condition:
        own = labels_of(model, roles.main, labels).to(model.device)
        term = class_term(_seen(model, roles.main, place), own)
        terms.append(settings.class_weight / len(roles.condition) * term)
    targets = roles.priors.space.sample(draws, settings.temperature, settings.shrinkage) if roles.priors.space else {}
    for index, model in enumerate(roles.score):
        found = _real(roles, settings, index, _seen(model, roles.main, place), targets)
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
    """The main model sees the picture as it is; every other one at its own size."""
    own = (model.spec.height, model.spec.width)
    return model if model is main or own == (place.height, place.width) else Resized(model)


def check_parts(roles: Roles, settings: DrawSettings, photos: Tensor | None = None) -> None:
    """Put the parts of one picture together and look once along the field, before a run: what cannot be is refused."""
    place = geometry(settings, roles.main.spec)
    label = torch.zeros(1, dtype=torch.int64) if roles.condition else torch.full((1,), -1)
    try:
        with torch.no_grad():
            roles.main.outputs(torch.full((1, 3, place.height, place.width), 0.5, device=roles.main.device))
        one = replace(roles, condition=roles.condition[:1])  # the others need not know class 0
        field, ascent, _ = batch_parts(one, settings, label, [0], None if photos is None else photos[:1])
        if settings.dsf_weight:  # a model may have no second derivative
            with torch.no_grad():
                image = ascent.parameterization.image()
            field(image, torch.zeros(1))
    except RunError:
        raise
    except RuntimeError as error:
        size, said = f"{place.height}x{place.width}", str(error).splitlines()[0]
        raise UserError(f"pictures of {size} cannot be held ({said}); type a smaller --size") from error
