"""``open_clip:ARCH/TAG``: a model of open_clip with its text encoder; ``outputs`` is the image embedding (B,D).

``open_clip:ARCH/FILE.safetensors`` takes the user's weights, ``open_clip:FOLDER`` a folder with open_clip_config.json
and open_clip_model.safetensors, ``open_clip:hf-hub:OWNER/NAME`` a repository.
"""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from bothways.models.adapter import SPEC_LINES
from bothways.models.libraries.hub import Loaded, Text, folder, library, reading
from bothways.types import INTERPOLATIONS, ModelSpec, UserError

TOKENS = ("ln_post", "layer4", "trunk")  # the last tokens of a ViT, the last map of a ResNet, a timm trunk's output


def from_open_clip(name: str, spec: ModelSpec | None, fresh: bool) -> Loaded:
    """Load a model of open_clip. Raises UserError for an unknown architecture or tag, or without preprocessing."""
    open_clip = library("open_clip")
    found = None if name.startswith("hf-hub:") else folder(name.removeprefix("local-dir:"))
    if found or name.startswith("hf-hub:"):
        architecture, weights = f"local-dir:{found}" if found else name, None
        place, file = str(found or name.removeprefix("hf-hub:")), "open_clip_config.json"
    else:
        architecture, _, weights = name.partition("/")
        _check(open_clip, architecture, weights)
        place = open_clip.get_pretrained_cfg(architecture, weights).get("hf_hub", "").rstrip("/") or name
        file = "open_clip_model.safetensors"
    with reading("open_clip", place, file):
        model = open_clip.create_model(architecture, pretrained=weights, require_pretrained=True, weights_only=True)
    if getattr(model.visual, "output_tokens", False):
        model.visual.output_tokens = False  # the embedding alone
    stated = weights is None or bool(open_clip.get_pretrained_cfg(architecture, weights))
    return Loaded(model.visual, spec or _facts(open_clip, model, name, stated), _text(open_clip, model, architecture))


def _check(open_clip: Any, architecture: str, weights: str) -> None:
    if architecture not in open_clip.list_models():
        near = get_close_matches(architecture, open_clip.list_models(), n=3, cutoff=0.3)
        raise UserError(f"open_clip has no {architecture!r}; type open_clip:ARCH/TAG, ARCH one of {', '.join(near)}")
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if not open_clip.get_pretrained_cfg(architecture, weights) and not Path(weights).is_file():
        raise UserError(
            f"open_clip has no weights {weights!r} of {architecture}; type open_clip:{architecture}/TAG, such as "
            f"{', '.join(get_close_matches(weights, tags, 3, 0.2) or tags[:3])}, or /FILE.safetensors in its place"
        )


def _facts(open_clip: Any, model: nn.Module, name: str, stated: bool) -> ModelSpec:
    """The ModelSpec from the config of the weights. stated: whether there is one; a bare weights file has none."""
    if not stated:
        raise UserError(f"model 'open_clip:{name}': a weights file has no mean and std; give spec=, and {SPEC_LINES}")
    seen = open_clip.get_model_preprocess_cfg(model)
    size = seen["size"] if isinstance(seen["size"], int) else tuple(seen["size"])
    layers = [layer for layer in TOKENS if hasattr(model.visual, layer)]
    return ModelSpec(
        size=size,
        mean=seen["mean"],
        interpolation=seen.get("interpolation") if seen.get("interpolation") in INTERPOLATIONS else "bicubic",
        squash=seen.get("resize_mode") == "squash",
        std=seen["std"],
        classes=0,
        feature_layer=layers[0] if layers else None,
        source=f"open_clip:{name}",
    )


def _text(open_clip: Any, model: Any, architecture: str) -> Text:
    def encode(prompts: list[str]) -> Tensor:
        with reading("open_clip", architecture, "tokenizer.json"):
            tokens = open_clip.get_tokenizer(architecture)(prompts)
        return model.encode_text(tokens)

    return encode
