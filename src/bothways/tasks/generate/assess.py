"""What other models say of the pictures of a run, beside its controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from bothways.judging.verdicts import Reference, image_measures, judge
from bothways.models.adapter import Adapter
from bothways.numerics.draws import Draws
from bothways.runs.citations import citations
from bothways.synthesis.ascent import ascend
from bothways.synthesis.fields import WhiteNoise
from bothways.tasks.generate.canvas import geometry, new_ascent
from bothways.tasks.generate.config import DrawSettings
from bothways.tasks.generate.roles import Roles
from bothways.tasks.pictures import Result

NULL_PIXELS = 2 * 224 * 224  # pictures of the null: enough for a slope, cheap beside the run
REFERENCE_AT_MOST = 2000


def assess(
    result: Result,
    roles: Roles,
    settings: DrawSettings,
    jury: Sequence[Adapter],
    references: Mapping[str, Reference],
) -> dict[str, Any]:
    """measures.json: the verdicts of the jury, the model itself in it, and what needs no judge."""
    if not len(result):
        return {"judges": [], "images": {}, "citations": citations(settings)}
    names = [record["class"] for record in result.records] if bool((result.labels >= 0).all()) else None
    images = result.images.to(roles.main.device)
    verdicts = judge(images, names, jury, references, gradient_models=set(roles.names))
    null = null_measures(roles.main, settings)
    measured = image_measures(result.images) | {f"{key}_null": null[key] for key in ("spectrum_slope", "spectrum")}
    return {"judges": [v.as_dict() for v in verdicts], "images": measured, "citations": citations(settings)}


def null_measures(model: Adapter, settings: DrawSettings) -> dict[str, Any]:
    """Of the pictures when the same recipe is fed white noise in place of gradients: what it puts in by itself."""
    if settings.start == "photo":
        settings = settings.model_copy(update={"start": "grey"})
    place = geometry(settings, model.spec)
    draws = Draws(range(min(10, max(1, NULL_PIXELS // (place.canvas[0] * place.canvas[1])))))
    ascent = new_ascent(settings, place, draws, model.device)
    for _ in ascend(WhiteNoise(draws), ascent, draws):
        pass
    with torch.no_grad():
        images = place.crop()(ascent.parameterization.image()[:, None], draws, 0.0)[:, 0]
    return image_measures(images)
