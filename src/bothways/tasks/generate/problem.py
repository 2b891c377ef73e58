"""The optimisation problem of a batch: the objective bound to the models, and the ascent along its gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from bothways.faults import place_of
from bothways.models.adapter import Adapter
from bothways.models.calls import first_line
from bothways.numerics.draws import Draws
from bothways.numerics.fill import Smoothness
from bothways.synthesis.ascent import Ascent
from bothways.synthesis.config import TermConfig
from bothways.synthesis.das import toward
from bothways.synthesis.density import Density
from bothways.synthesis.directions import surest
from bothways.synthesis.fields import Clipped, Combined, Field, Unit
from bothways.synthesis.inpainting import Smoothed
from bothways.synthesis.objectives.base import (
    Binding,
    Objective,
    WeightedSum,
    as_objective,
    as_sum,
    fields_of,
    terms_of,
)
from bothways.synthesis.objectives.terms import Term, TermSum
from bothways.synthesis.resized import Resized
from bothways.synthesis.sampling import Space
from bothways.synthesis.views import Views, moves, sized
from bothways.tasks.generate.canvas import Geometry, filled, new_ascent
from bothways.tasks.generate.config import DrawingConfig, SamplingConfig
from bothways.tasks.generate.request import Batch, Request
from bothways.tasks.generate.roles import Roles, find_classes, labels_of
from bothways.types import RunError, TrainedModel, UserError


@dataclass
class Problem:
    """The problem of a batch. field: the direction of ascent. ascent: the state of the pictures."""

    field: Field
    ascent: Ascent
    draws: Draws


def objective_of(config: DrawingConfig) -> WeightedSum:
    """The weighted objectives of a drawing: those given, else the terms of the recipe; weight 0 removes one."""
    if config.objective is not None:
        return as_sum(config.objective)
    parts = [(term.weight, _named(name, term)) for name, term in config.terms.items() if term.weight]
    return WeightedSum(tuple(parts))


def _named(name: str, term: TermConfig) -> Objective:
    try:
        return as_objective(term.kind or name, **term.own)
    except UserError as error:
        raise UserError(f"terms.{name}: {error}") from error


@dataclass(frozen=True)
class Setup:
    """What all batches share: config, objective, models with priors, views and sizes. notes: a line a fallback."""

    config: DrawingConfig
    objective: WeightedSum
    roles: Roles
    views: Views
    place: Geometry
    notes: tuple[str, ...] = ()

    @property
    def at_own_size(self) -> bool:
        """Whether models are shown pictures at their own size: photos, and what is seen in windows."""
        return self.place.of_photo or any(map(sized, self.views.views))

    def problem(self, request: Request, batch: Batch) -> Problem:
        """The problem of a batch. Raises UserError if the canvas does not support the size of the pictures."""
        draws = Draws(batch.seeds)
        try:
            field = self._field(request, batch, draws)
            ascent = new_ascent(self.config, self.place, draws, self.roles.main.device, batch.scene)
            return Problem(field, ascent, draws)
        except (RunError, UserError):
            raise
        except RuntimeError as error:
            if place_of(error):  # of the user's own code, which says so
                raise
            size, cause = f"{self.place.height}x{self.place.width}", first_line(error)
            raise UserError(f"pictures of {size} cannot be held ({cause}); type a smaller --size") from error

    def aims(self, request: Request, batch: Batch) -> list[str]:
        """The names of the terms of the target: those that condition models give."""
        bound = self._bindings(request, batch, Draws(batch.seeds))["condition"]
        parts = self.objective.of_role("condition")
        return list(dict.fromkeys(term.name for to in bound for _, part in parts for term in terms_of(part, to)))

    def _field(self, request: Request, batch: Batch, draws: Draws) -> Field:
        """The field of ascent: terms through the views, plus other fields, optionally normalised, then clipped."""
        bound = self._bindings(request, batch, draws)
        normalize, ascent = self.config.ascent.normalize, self.config.ascent
        parts: list[tuple[float, Field]] = []
        if terms := self._terms(bound):
            parts.append((1.0, toward(TermSum(tuple(terms)), draws, self.views, normalize=normalize)))
        for role in ("image", "score"):
            for share, to, weight, part in self._each(bound, role):
                for own, scaled in fields_of(part, to):
                    parts.append((weight * share, Unit(own) if scaled and normalize else own))
        if not parts and ascent.steps:
            raise UserError(
                f"recipe {self.config.recipe!r} has no objective for a picture without a class; "
                "type --class NAME, or --recipe sampled"
            )
        total: Field = Combined(parts)
        if ascent.smooth and batch.scene.mask is not None:
            total = Smoothed(total, Smoothness(batch.scene.mask))
        return total if ascent.clip is None else Clipped(total, ascent.clip, ascent.clip_by)

    def _terms(self, bound: Mapping[str, list[Binding]]) -> list[Term]:
        """The terms of all condition models, then of all score models, then of the picture itself."""
        terms: list[Term] = []
        for role in ("condition", "score", "image"):
            for to in bound[role]:
                own = [weight * term for weight, part in self.objective.of_role(role) for term in terms_of(part, to)]
                share = 1 / len(bound[role])
                terms += [share * term for term in (_by_layer(own, to) if role == "score" else own)]
        return terms

    def _each(self, bound: Mapping[str, list[Binding]], role: Any) -> list[tuple[float, Binding, float, Objective]]:
        """(share of the model, binding, weight, objective) for every objective of a role and every model in it."""
        share = 1 / max(1, len(bound[role]))
        return [(share, to, weight, part) for weight, part in self.objective.of_role(role) for to in bound[role]]

    def _bindings(self, request: Request, batch: Batch, draws: Draws) -> dict[str, list[Binding]]:
        """The bindings of the models of each role; objectives of the picture alone are bound to the main model."""
        roles, config, scene = self.roles, self.config, batch.scene
        # one forward pass per model, even with several roles
        seen = {id(model): self._seen(model) for model in (*roles.condition, *roles.score)}
        space = roles.priors.space
        fill = None
        if roles.priors.predictions and scene.photos is not None:
            fill = filled(config.canvas, scene.photos, scene.mask, draws)
        shared = Binding(
            model=roles.main,
            seen=seen[id(roles.main)],
            main=roles.main,
            draws=draws,
            labels=batch.labels,
            prompts=request.prompts,
            layer=request.layer,
            channels=batch.channels,
            photos=scene.photos,
            mask=scene.mask,
            style=scene.style,
            filled=fill,
            border=self.place.border,
            group=config.group,
            conditioned=bool(roles.condition),
            place_bound=any(moves(view) for view in self.views.views),
            priors=roles.priors,
            targets=sampled(config.sampling, space, draws) if space else {},
            own_label=lambda model, name: find_classes(model, [name])[0],
            own_labels=lambda model, labels: labels_of(model, roles.main, labels),
        )

        def of(models: Sequence[Adapter]) -> list[Binding]:
            return [replace(shared, model=m, seen=seen[id(m)], index=k) for k, m in enumerate(models)]

        return {"condition": of(roles.condition), "score": of(roles.score), "image": [shared]}

    def _seen(self, model: Adapter) -> TrainedModel:
        """A model with the input resized to its size; the main model sees a drawing unresized, or its windows."""
        drawn = model is self.roles.main and not self.place.of_photo
        place, main = self.place, self.roles.main.spec
        shown = {(place.height, place.width)}
        if any(map(sized, self.views.views)):
            shown.add((main.height, main.width))
        quick = self.roles.quick[id(model)]
        return quick if drawn or shown == {(model.spec.height, model.spec.width)} else Resized(quick)

    def check(self, request: Request, first: Problem) -> None:
        """Run the models on a grey picture, and compute the first gradient if the check needs it.

        Raises UserError if a model does not support the objective.
        """
        place, main = self.place, self.roles.main
        try:
            if not self.at_own_size:
                with torch.no_grad():
                    main.outputs(torch.full((1, 3, place.height, place.width), 0.5, device=main.device))
            if request.layer is not None or any(part.needs_probe for _, part in self.objective.parts):
                with torch.no_grad():
                    image = first.ascent.parameterization.image()
                first.field(image, torch.zeros(len(image)))
        except RunError:
            raise
        except RuntimeError as error:
            if place_of(error):
                raise
            size, cause = f"{place.height}x{place.width}", first_line(error)
            raise UserError(f"pictures of {size} cannot be held ({cause}); type a smaller --size") from error


def sampled(chosen: SamplingConfig, space: Space, draws: Draws) -> dict[str, Tensor]:
    """The samples of a Space, one per picture. Raises UserError for a density without features of pictures."""
    return space.sample(draws, chosen.temperature, chosen.shrinkage, density_of(chosen, space))


def density_of(chosen: SamplingConfig, space: Space) -> Density | None:
    """The density that is sampled, None for the Gaussian. Raises UserError for one without features of pictures."""
    kind = chosen.kind or ("density" if space.rows else "gaussian")
    if kind == "density" and not space.rows:
        raise UserError(
            "sampling.kind=density needs features of single pictures, and the statistics hold none; "
            "type --data REAL_PICTURES, or --set sampling.kind=gaussian"
        )
    if kind != "density":
        return None
    heads = {name: rows for name, rows in space.heads.items() if name in space.rows}
    name = next(iter(heads), None) if chosen.unsure else None
    leading = None if name is None else surest(space.rows[name], heads[name], chosen.unsure)
    return Density(chosen.neighbours, chosen.share, chosen.width, leading)


def _by_layer(terms: list[Term], to: Binding) -> list[Term]:
    """The terms of sampled features in the order of the parts of the Space, so that float sums are reproducible."""
    if to.priors.space is None:
        return terms
    order = list(to.priors.space.of_features(to.index))
    places = [k for k, term in enumerate(terms) if term.model is to.seen and set(term.layers) <= set(order)]
    ranked = iter(sorted((terms[k] for k in places), key=lambda term: order.index(term.layers[0])))
    return [next(ranked) if k in places else term for k, term in enumerate(terms)]
