"""Prepare a drawing: config -> models, objective and scene -> a run."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from bothways.brief import shown
from bothways.configs import nested
from bothways.judging.judges import find_jury, split_judges
from bothways.judging.references import find_references
from bothways.models.adapter import Adapter
from bothways.runs.experiment import Experiment
from bothways.runs.provenance import fingerprint, model_facts
from bothways.synthesis.objectives.base import WeightedSum
from bothways.synthesis.objectives.classes import OfClass
from bothways.synthesis.objectives.likeness import Likeness
from bothways.synthesis.parameterizations.photographs import PhotographsCanvas
from bothways.tasks.generate.canvas import find_photos, geometry, tell_of_windows, views_of
from bothways.tasks.generate.config import PHOTOGRAPHS, DrawingConfig, GenerateConfig
from bothways.tasks.generate.drawing import Drawing
from bothways.tasks.generate.priors import find_priors, settled, uncentred
from bothways.tasks.generate.problem import Setup, objective_of
from bothways.tasks.generate.request import TOP_CLASS, Request, channels_of, read_prompts, request_of, top_labels
from bothways.tasks.generate.roles import Roles, as_typed, find_labels, find_models
from bothways.tasks.generate.scene import find_scene
from bothways.tasks.moving import check_video
from bothways.tasks.pictures import check_count
from bothways.tasks.recipes import suited
from bothways.tasks.work import Where, file_tables
from bothways.types import UserError


def prepare(config: GenerateConfig, where: Where) -> Drawing:
    """Prepare a run of ``generate``. Raises UserError for invalid input, before a run folder is written."""
    return prepare_drawing("generate", config, where)


def prepare_drawing(task: str, config: DrawingConfig, where: Where) -> Drawing:
    """Prepare a run of any task that draws."""
    if config.share.mp4:
        check_video()
    setup, request = planned(config, where.out)
    config = setup.config
    only = [i for i in config.only or () if not str(i).isdecimal() or not 0 <= int(i) < len(request)]
    if only:
        typed = shown(only[0]).strip("'")
        raise UserError(f"--only {typed}: the run has pictures 0 to {len(request) - 1}")
    models, own_measures = split_judges(config.judging.judges)
    jury = find_jury(setup.roles.main, models) if config.judging.verdicts else []
    references = find_references(jury, config.data)
    tables = drawing_tables(config, setup, request)
    experiment = Experiment(device=setup.roles.main.device)
    drawing = Drawing(setup, request, experiment, task, tables, jury, references, own_measures)
    drawing.fit_into_memory(where.processes)
    drawing.check_first(where.processes)
    drawing.begin(where)
    return drawing


def planned(config: DrawingConfig, out: str | Path | None = None) -> tuple[Setup, Request]:
    """The setup (models with roles and priors, objective, sizes), and the targets of all pictures.

    out: the folder for them. Raises UserError where they do not fit.
    """
    objective, words = objective_of(config), read_prompts(config.prompts)
    classes = target_classes(config, objective)
    likeness = any(isinstance(part, Likeness) for _, part in objective.parts)
    of_request = classes is not None or bool(words) or config.layer is not None
    anything = of_request or likeness or config.objective is not None
    condition, score = find_models(config, objective, anything)
    spec = (condition or score)[0].spec
    beside = [model.name for model in score if model not in condition] if condition and config.photo is None else []
    config = suited(config, better_recipe(config, () if beside else condition, min(spec.height, spec.width)))
    main = (condition or score)[0]  # which may have been loaded before, in a way of its own
    config = config.model_copy(
        update={"models": config.models.model_copy(update={"device": str(main.device), "dtype": main.dtype})}
    )
    objective = objective_of(config)
    if beside and not objective.of_role("score"):
        raise UserError(
            f"model {beside[0]!r} has no role, since recipe {config.recipe!r} has no prior term; "
            "type it after --condition too, or leave it out"
        )
    labels = [] if classes in (None, [TOP_CLASS]) else find_labels(condition, classes or ())
    scene = find_scene(config.photo, config.mask, config.box, config.style, config.canvas.size)
    channels = channels_of(config.channels or (), config.layer, condition)
    subjects = max(1, len(labels)) * max(1, len(channels)) * len(scene)
    place = geometry(config.canvas, spec, scene)
    check_count(config.n * subjects, subjects, (place.height, place.width), out, alpha=config.ascent.alpha)
    request = request_of(config.n, labels, scene, prompts=words, layer=config.layer, channels=channels)
    if classes == [TOP_CLASS]:
        top = top_labels(condition[0], scene)
        request = replace(request, labels=tuple(top[i % len(top)] for i in range(len(request))))
    if not config.ascent.steps:
        warnings.warn("--steps 0: nothing is drawn, the pictures are the start; type --steps 1 or more", stacklevel=2)
    other = "" if anything or len(score) > 1 else "--recipe sampled draws pictures"
    other = "--recipe photographs draws a class" if labels and config.photo is None else other
    if scene.mask is None and any(part.needs == "prediction" for _, part in objective.parts):
        raise UserError(
            "objective 'prediction' needs a photo with a hole; type bothways inpaint MODEL PHOTO --mask FILE, or --box "
            "LEFT TOP RIGHT BOTTOM"
        )
    objective, steps, notes = settled(objective, score, config.data, other, targeted=of_request)
    if not steps:
        config = config.model_copy(update={"ascent": config.ascent.model_copy(update={"steps": 0})})
    roles = Roles(condition, score, find_priors(score, objective, config.data, scene.mask, condition, request.labels))
    notes = (*notes, *uncentred(objective, condition, roles.priors.means, config.data))
    notes = (*notes, *(note for of in roles.priors.matched for note in of.notes))
    if config.photo is None:
        photos = find_photos(config.canvas, roles.main.spec)
        request = replace(request, scene=replace(scene, photos=photos))
    place = geometry(config.canvas, roles.main.spec, request.scene)
    views = views_of(config.views, place, roles.main.spec)
    tell_of_windows(views, place)
    return Setup(config, objective, roles, views, place, notes), request


def better_recipe(config: DrawingConfig, condition: Sequence[Adapter], side: int) -> str:
    """The default recipe that suits the models: that of ``of_heads`` or ``of_photographs``, else the one there is.

    A setting of another recipe's canvas or step would lose its sense, so with one of these the default stays; a term's
    would where the class is one of the head's.
    """
    heads = bool(condition) and not config.prompts and all(model.head() is not None for model in condition)
    changes = nested(type(config), config._given or {})
    theirs = {"size", *PhotographsCanvas.model_fields}
    canvas, ascent = changes.get("canvas", {}), changes.get("ascent", {})
    of_step = {"canvas"} if not isinstance(canvas, Mapping) else set(canvas) - theirs
    of_step |= {"rms"} & set(ascent)
    of_own = of_step | {"terms", "score", "objective"} & set(changes)
    if heads and not of_own and side >= config.heads_from and config.recipe in config.of_heads:
        return config.of_heads[config.recipe]
    if side >= PHOTOGRAPHS and not of_step:
        return config.of_photographs.get(config.recipe, config.recipe)
    return config.recipe


def target_classes(config: DrawingConfig, objective: WeightedSum) -> list[str | int] | None:
    """The target classes: those of the config, else the target of a given objective."""
    if config.classes is None:
        targets = [part.target for _, part in objective.parts if isinstance(part, OfClass) and part.target is not None]
        return targets[:1] or None
    return list(config.classes)


def drawing_tables(config: DrawingConfig, setup: Setup, request: Request) -> dict[str, Any]:
    """The tables of recipe.toml."""
    roles = setup.roles
    drawn: dict[str, Any] = {"classes": [as_typed(roles.main, i) for i in dict.fromkeys(request.labels) if i >= 0]}
    if request.prompts:
        drawn["prompts"] = [f"{text}:{weight:g}" for text, weight in request.prompts]
    if request.layer is not None:
        drawn |= {"layer": request.layer, "channels": list(dict.fromkeys(request.channels))}
    if set(roles.names) != {roles.main.name}:
        drawn |= {"score": [m.name for m in roles.score], "condition": [m.name for m in roles.condition]}
    drawn["objective"] = str(setup.objective)  # after fallbacks
    files = {"data": config.data, "photo": config.photo, "mask": config.mask, "box": config.box, "style": config.style}
    files["weights"] = config.weights
    of_request = {"model", "classes", "prompts", "layer", "channels", "score", "condition", "spec", "objective", *files}
    of_request |= {"only", "unconditional"}
    settings = setup.config.model_dump(exclude=of_request)
    model = model_facts(roles.main)
    if config.weights is not None:  # of a file that may change, where a run may be resumed
        model["weights"] = fingerprint(roles.main.module)
    return {"settings": settings, "drawn": drawn | file_tables(files), "model": model}
