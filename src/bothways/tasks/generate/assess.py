"""What other models say of the pictures of a run, beside its controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from bothways.data.sources import NAMED, load_images
from bothways.synthesis.ascent import ascend
from bothways.models.adapter import Adapter
from bothways.models.catalogue import bundled_names, card, kept_statistics, spec_from
from bothways.numerics.draws import Draws
from bothways.tasks.generate.canvas import geometry, new_ascent
from bothways.runs.citations import citations
from bothways.models.classifiers import load_reader
from bothways.tasks.generate.result import Result
from bothways.tasks.generate.roles import Roles
from bothways.tasks.generate.config import DrawSettings
from bothways.tasks.statistics.run import is_statistics
from bothways.synthesis.fields import WhiteNoise
from bothways.judging.verdicts import Reference, image_measures, judge, penultimate
from bothways.types import UserError

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


def default_judges(model: Adapter) -> list[str]:
    """The bundled models that know the same classes by name."""
    if isinstance(model.spec.classes, int):
        return []
    own = model.name.removeprefix("bundled:")
    alike = [n for n in bundled_names() if n != own and spec_from(card(n)["spec"]).classes == model.spec.classes]
    return [f"bundled:{name}" for name in alike]


def find_jury(model: Adapter, judges: Sequence[str | Adapter] | None) -> list[Adapter]:
    """The judges, and last the model itself. None takes the bundled models that know the same classes."""
    found = []
    for asked in default_judges(model) if judges is None else judges:
        try:
            found.append(asked if isinstance(asked, Adapter) else load_reader(asked, device=model.device))
        except UserError as error:
            raise UserError(f"judge {asked}: {error}") from error
    return [judge for judge in found if judge.name != model.name] + [model]


def find_references(jury: Sequence[Adapter], data: str | Path | None) -> dict[str, Reference]:
    """Real pictures as each judge sees them, where there are any."""
    return {judge.name: found for judge in jury if (found := reference(judge, data)) is not None}


def reference(model: Adapter, data: str | Path | None) -> Reference | None:
    """Real pictures as this judge sees them: those of ``data``, or what comes with a bundled model."""
    if data is not None and not is_statistics(data):
        size = (model.spec.height, model.spec.width)
        chosen = load_images(data, split=held_out(data), size=size, first=REFERENCE_AT_MOST)
        features, _ = penultimate(model, (chosen.images.float() / 255).to(model.device))
        return None if features is None else Reference(features, chosen.labels, str(data))
    kept = kept_statistics(model.name)
    if "features" not in kept:
        return None
    return Reference(kept["features"], kept["labels"].long(), "the test pictures kept with the model")


def held_out(data: str | Path) -> str:
    """The split to compare with: the test pictures where there are any, as of every data set that is no path."""
    path = Path(data)
    found = [path / "test.parquet", path / "test", *path.glob("test-*.parquet"), *path.glob("*/test-*.parquet")]
    return "test" if str(data) in NAMED or not path.exists() or any(place.exists() for place in found) else "train"


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
