"""What recipe.toml holds of a drawing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from bothways.runs.provenance import versions
from bothways.tasks.generate.asked import Asked
from bothways.tasks.generate.config import DrawSettings
from bothways.tasks.generate.roles import Roles
from bothways.tasks.pictures import Result  # noqa: F401


def tables(
    roles: Roles, settings: DrawSettings, asked: Asked, files: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What recipe.toml holds. files: the data, photos and masks, by what they are for; None where there are none."""
    model, spec = roles.main, roles.main.spec
    facts = {
        "address": model.name,
        "size": [spec.height, spec.width],
        "mean": list(spec.mean),
        "std": list(spec.std),
        "channel_order": spec.channel_order,
        "classes": spec.count,
        "source": spec.source,
        "licence": spec.licence,
    }
    drawn: dict[str, Any] = {"classes": [spec.class_name(i) for i in dict.fromkeys(asked.labels) if i >= 0]}
    if asked.prompts:
        drawn["prompts"] = [f"{text}:{weight:g}" for text, weight in asked.prompts]
    if asked.layer is not None:
        drawn |= {"layer": asked.layer, "channels": list(dict.fromkeys(asked.channels))}
    if set(roles.names) != {model.name}:
        drawn |= {"score": [m.name for m in roles.score], "condition": [m.name for m in roles.condition]}
    for what, source in (files or {}).items():
        if source is not None:
            drawn[what] = list(source) if what == "box" else _said(source)
    return {"settings": settings.model_dump(), "drawn": drawn, "model": facts, "versions": versions()}


def _said(source: str | Path | Tensor) -> str:
    return f"a tensor {tuple(source.shape)}" if isinstance(source, Tensor) else str(source)
