"""The measures of a drawing: judge metrics, image statistics and their null."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from bothways.judging.judges import same_network
from bothways.judging.measures import image_measures
from bothways.judging.origins import origins
from bothways.judging.verdicts import Reference, judge
from bothways.models.adapter import Adapter
from bothways.models.classifiers import target_of
from bothways.numerics.draws import Draws, picture_seed
from bothways.numerics.pyramid import resize
from bothways.registry import Entry
from bothways.representation.tuning.targets import CLASS, NUMBERS, said
from bothways.runs.citations import cited, reference_of
from bothways.synthesis.ascent import ascend
from bothways.synthesis.fields import WhiteNoise
from bothways.synthesis.objectives.base import NO_CLASS
from bothways.tasks.generate.canvas import Geometry, new_ascent
from bothways.tasks.generate.config import DrawingConfig
from bothways.tasks.generate.memory import outputs_of
from bothways.tasks.generate.problem import Setup, density_of
from bothways.tasks.generate.request import Request
from bothways.tasks.pictures import Result
from bothways.types import RunError

NULL_PIXELS = 2 * 224 * 224  # pixels of the null: enough for a slope, and cheap


def records_of(
    setup: Setup, request: Request, pictures: Sequence[int], images: Tensor, unfinished: int | None
) -> list[dict[str, Any]]:
    """What pictures.jsonl says of pictures (B,3,H,W). unfinished: the step of those that are still drawn, else None.

    Raises RunError if an output of the model for finished ones is not finite.
    """
    model = setup.roles.main
    records = [_record(request, index, model, setup.config.seed) for index in pictures]
    target = target_of(model)
    if request.labels[pictures[0]] != NO_CLASS and target != NUMBERS:  # numbers have no probability
        shown = images.to(model.device)
        shown = resize(shown, (model.spec.height, model.spec.width)) if setup.at_own_size else shown
        try:
            outputs = outputs_of(model, shown)
            shares = outputs.softmax(1) if target == CLASS else said(outputs, target)
            for record, own in zip(records, shares, strict=True):
                record["own_probability"] = own[record["label"]].item()
        except RunError:
            if unfinished is None:  # else what ended the drawing is the error that is told
                raise
    return records if unfinished is None else [{**one, "unfinished": True, "step": unfinished} for one in records]


def _record(request: Request, index: int, model: Adapter, seed: int) -> dict[str, Any]:
    label = request.labels[index]
    return {
        "index": index,
        "label": None if label == NO_CLASS else label,
        "class": request.name(index, model),
        "seed": picture_seed(seed, index),
    }


def measured(
    result: Result,
    setup: Setup,
    jury: Sequence[Adapter],
    references: Mapping[str, Reference],
    own: Sequence[Entry] = (),
) -> dict[str, Any]:
    """The content of measures.json; without judge metrics if there are no pictures or judging is off.

    notes: the fallbacks of the run, if there were any.
    """
    wanted = len(result) > 0 and setup.config.judging.verdicts
    found = judged(result, setup, jury, references, own) if wanted else {"judges": [], "images": {}}
    papers = cited(*(entry.reference for entry in own)) if wanted else []
    notes = {"notes": list(setup.notes)} if setup.notes else {}
    space = setup.roles.priors.space
    if wanted and space is not None and space.names and not setup.roles.condition:
        seeds = [record["seed"] for record in result.records]
        density = density_of(setup.config.sampling, space)
        found |= origins(result.images, seeds, setup.roles.score, space, density)
        numbers = [record["index"] for record in result.records]  # with gaps where --only chose some
        found["pictures"] = [{"index": k, **of} for k, of in zip(numbers, found["pictures"], strict=True)]
    return {**found, **notes, "citations": [*citations(setup), *papers]}


def judged(
    result: Result,
    setup: Setup,
    jury: Sequence[Adapter],
    references: Mapping[str, Reference],
    own: Sequence[Entry] = (),
) -> dict[str, Any]:
    """{"judges", "images"}: the verdicts of the jury, and what needs no judge beside its null; own: of a user."""
    names = [record["class"] for record in result.records] if bool((result.labels >= 0).all()) else None
    images = result.images.to(setup.roles.main.device)
    gave = {judge.name for judge in jury if any(same_network(judge, model) for model in setup.roles.models)}
    verdicts = judge(images, names, jury, references, gradient_models=gave)
    null = null_measures(setup.config, setup.place, setup.roles.main.device)
    of_images = image_measures(result.images, own) | {
        f"{key}_null": null[key] for key in ("spectrum_slope", "spectrum")
    }
    return {"judges": [verdict.as_dict() for verdict in verdicts], "images": of_images}


def citations(setup: Setup) -> list[str]:
    """The papers behind the canvas, the views, the objectives and the measures."""
    config = setup.config
    many = "das" if config.views.copies > 1 else ""
    terms = [reference_of("objective", type(part)) for weight, part in setup.objective.parts if weight]
    views = [reference_of("view", view.get("kind", name)) for name, view in config.views.own.items()]
    maco = "maco" if config.ascent.alpha else ""
    measures = ("frechet", "kernel") if config.judging.verdicts else ()
    return cited(reference_of("canvas", config.canvas.kind), many, *views, *terms, maco, *measures)


def null_measures(config: DrawingConfig, place: Geometry, device: str) -> dict[str, Any]:
    """The null of the image statistics: the same recipe with white noise instead of gradients, of the same size.

    A drawing that begins at a photo has a null that begins at grey, since a photo has a spectrum of its own.
    """
    if config.canvas.start == "photo":
        config = config.model_copy(update={"canvas": config.canvas.model_copy(update={"start": "grey"})})
    draws = Draws(range(min(10, max(1, NULL_PIXELS // (place.canvas[0] * place.canvas[1])))))
    ascent = new_ascent(config, place, draws, device)
    for _ in ascend(WhiteNoise(draws), ascent, draws):
        pass
    with torch.no_grad():
        images = place.inside(ascent.parameterization.image())
    return image_measures(images)
