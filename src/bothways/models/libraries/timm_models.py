"""``timm:NAME``: a model of timm with its trained weights and the preprocessing of its ``pretrained_cfg``.

NAME is timm's own, with or without a tag; ``OWNER/NAME`` is a repository of the hub, and a folder holds config.json and
model.safetensors in timm's layout. ``timm:local-dir:FOLDER`` and ``timm:hf-hub:OWNER/NAME`` say so outright.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from torch import nn

from bothways.models.libraries.hub import Loaded, folder, library, reading
from bothways.types import INTERPOLATIONS, ModelSpec, UserError


def from_timm(name: str, spec: ModelSpec | None, fresh: bool) -> Loaded:
    """Load a model of timm. fresh: without its trained weights, for the user's; ``spec`` then gives the classes."""
    timm = library("timm")
    source, _, place = name.rpartition(":")
    if not source:
        found = folder(name)
        source = "local-dir" if found else "hf-hub" if "/" in name else ""
        place = str(found or name)
    elif source == "local-dir":
        place = str(folder(place) or place)
    known = {*timm.list_models(), *timm.list_pretrained()}  # the names alone, and those with a tag
    if not source and name not in known:
        near = get_close_matches(name, known, n=3, cutoff=0.4)
        raise UserError(f"timm has no model {name!r}; type {', '.join(near) or 'a name of timm.list_pretrained()'}")
    classes = {"num_classes": spec.count} if fresh and spec is not None else {}
    repository, file = (place, "config.json") if source else (_repository(timm, name), "model.safetensors")
    with reading("timm", repository, file):
        module = timm.create_model(f"{source}:{place}" if source else name, pretrained=not fresh, **classes)
    return Loaded(module, spec or _facts(timm, module, name))


def _repository(timm: Any, name: str) -> str:
    """The hub repository of a timm model's weights."""
    facts = timm.get_pretrained_cfg(name)
    return (facts and facts.hf_hub_id) or name


def _facts(timm: Any, module: nn.Module, name: str) -> ModelSpec:
    """The ModelSpec from timm's config; the features are the input of the classifier."""
    facts: dict[str, Any] = module.pretrained_cfg  # type: ignore[assignment]
    data = timm.data.resolve_model_data_config(module)
    classifier = facts.get("classifier")
    classifier = classifier if classifier is None or isinstance(classifier, str) else classifier[0]
    return ModelSpec(
        size=tuple(data["input_size"][1:]),
        mean=data["mean"],
        crop=min(1.0, data["crop_pct"]),
        interpolation=data["interpolation"] if data["interpolation"] in INTERPOLATIONS else "bicubic",
        squash=data["crop_mode"] == "squash",
        std=data["std"],
        classes=_class_names(timm, module, facts) or int(module.num_classes),  # type: ignore[arg-type]
        feature_layer=classifier and f"{classifier}:input",
        source=f"timm:{name}",
        licence=facts.get("license") or "",
    )


def _class_names(timm: Any, module: nn.Module, facts: dict[str, Any]) -> Sequence[str]:
    """Class names from the config, else of the ImageNet subset that timm infers; [] if unknown."""
    names = facts.get("label_names")
    if names:
        described = facts.get("label_descriptions") or {}
        return [described.get(name, name) for name in names]
    subset = timm.data.infer_imagenet_subset(module) if module.num_classes else None
    return timm.data.ImageNetInfo(subset).label_descriptions() if subset else []
