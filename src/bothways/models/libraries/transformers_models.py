"""Models of transformers by the architecture in config.json: ``hf:REPO_OR_FOLDER`` and ``clip:NAME_OR_FOLDER``.

Preprocessing of an image in [0,1] follows the preprocessor file: bytes times ``rescale_factor`` r, then normalised,

    (255 r x - image_mean) / image_std   =   (x - image_mean / 255r) / (image_std / 255r)
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bothways.models.adapter import SPEC_LINES
from bothways.models.libraries.hub import Loaded, Text, folder, library, reading
from bothways.models.nets.heads import FEATURES, TOWERS, Head, SingleOutput, head_for
from bothways.numerics.layers import head_of
from bothways.types import ModelSpec, UserError

CLIP_NAMES = {
    "ViT-B/32": "openai/clip-vit-base-patch32",
    "ViT-B/16": "openai/clip-vit-base-patch16",
    "ViT-L/14": "openai/clip-vit-large-patch14",
    "ViT-L/14@336px": "openai/clip-vit-large-patch14-336",
}
CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
PREPROCESSORS = ("processor_config.json", "preprocessor_config.json")  # the first holds the second, where it does
# Pillow's numbers of its filters
FILTERS: dict[Any, str] = dict(enumerate(("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")))
CONVNEXT_CUTS_BELOW = 384  # pixels
UNREAD = ("include_top", "rescale_offset")  # steps that ModelSpec has no words for


def from_clip(name: str, spec: ModelSpec | None, fresh: bool) -> Loaded:
    """Load CLIP by a short name, a repository or a folder."""
    if name not in CLIP_NAMES and "/" not in name and folder(name) is None:
        raise UserError(f"no CLIP {name!r}; type {', '.join(CLIP_NAMES)}, a repository OWNER/NAME, or a folder")
    return from_transformers(CLIP_NAMES.get(name, name), spec, fresh)


def from_transformers(name: str, spec: ModelSpec | None, fresh: bool) -> Loaded:
    """Load a hub repository or a folder in its layout: config.json, model.safetensors, preprocessor_config.json.

    Raises UserError if a file, the architecture or a preprocessing value is missing; nothing is guessed.
    """
    transformers = library("hf")
    name = str(folder(name) or name)
    with reading("hf", name, CONFIG):
        config = transformers.AutoConfig.from_pretrained(name, trust_remote_code=False)
        architecture = (config.architectures or ["none"])[0]
        kind = getattr(transformers, architecture, None)
    head = head_for(kind) if isinstance(kind, type) else None
    if kind is None or head is None:
        raise UserError(_other_kind(name, architecture))
    seen = {} if spec else _seen(name)
    with reading("hf", name, WEIGHTS):
        net, report = kind.from_pretrained(
            name,
            config=config,
            dtype=torch.float32,
            weights_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # reported, and refused below in one line
        )
    _check_whole(name, architecture, report)
    module, text = SingleOutput(net, head), None
    if head is TOWERS:  # keep the vision tower alone; the text tower encodes prompts
        if not hasattr(net, "vision_model"):
            raise UserError(_other_kind(name, architecture))
        module = SingleOutput(net.vision_model, head, getattr(net, "visual_projection", None))
        text = _text(net, name, config.text_config.max_position_embeddings)
    return Loaded(module, spec or _described(seen, module, head, config, name), text)


def _described(seen: dict[str, Any], module: SingleOutput, head: Head, config: Any, name: str) -> ModelSpec:
    """The ModelSpec: preprocessing of the preprocessor file, classes of the config, and the feature layer."""
    classes = [config.id2label[index] for index in range(config.num_labels)] if head.classes else []
    found = head_of(module, len(classes)) if classes else (FEATURES, None)
    return ModelSpec(**seen, classes=classes or 0, feature_layer=found and found[0], source=f"hf:{name}")


def _other_kind(name: str, architecture: str) -> str:
    return (
        f"model 'hf:{name}' is a {architecture}, which is not an image classifier, detector or encoder of "
        "transformers; wrap it in a module of your own, PATH.py:FUNCTION"
    )


def _check_whole(name: str, architecture: str, report: dict[str, Any]) -> None:
    """Refuse incomplete checkpoints, whose missing weights would be random; an encoder's pooler is not used."""
    lacking = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    lacking += sorted(key for key, *_ in report["mismatched_keys"])
    if lacking:
        raise UserError(
            f"model 'hf:{name}': {lacking[0]} ({len(lacking)} such) is missing in the weights or of another shape than "
            f"in the {architecture} of {CONFIG}; give the weights made for it"
        )


def _text(net: Any, name: str, length: int) -> Text:
    def encode(prompts: list[str]) -> Tensor:
        with reading("hf", name, TOKENIZER):
            tokenizer = library("hf").AutoTokenizer.from_pretrained(name, trust_remote_code=False)
            # SigLIP was trained on prompts padded to full length; CLIP is not affected by padding
            tokens = tokenizer(prompts, padding="max_length", truncation=True, max_length=length, return_tensors="pt")
        return net.get_text_features(**tokens).pooler_output

    return encode


# ---- the preprocessor file -----------------------------------------------------------------------------------------


def _seen(name: str) -> dict[str, Any]:
    """size, mean, std and channel_order of the preprocessor file, in the units of a ModelSpec."""
    facts = _preprocessor(name)
    where = f"model 'hf:{name}': its preprocessor file"
    unread = [key for key in UNREAD if facts.get(key)]
    if unread:
        raise UserError(f"{where} has {unread[0]}, which is not supported; {_SPEC}")
    scale = 255 * facts.get("rescale_factor", 1 / 255) if facts.get("do_rescale", True) else 255.0
    normalised = facts.get("do_normalize", True)
    lacking = [key for key in ("image_mean", "image_std") if normalised and facts.get(key) is None]
    size = _size(facts)
    if lacking or size is None:
        raise UserError(f"{where} has no {(lacking or ['size'])[0]}; {_SPEC}")
    mean, std = (_three(facts[key]) for key in ("image_mean", "image_std")) if normalised else ([0.0] * 3, [1.0] * 3)
    order = "BGR" if facts.get("do_flip_channel_order") else "RGB"
    return {
        "size": size,
        "mean": [m / scale for m in mean],
        "std": [s / scale for s in std],
        "channel_order": order,
        **(_resized(facts, size) if facts.get("do_resize", True) else {}),
    }


def _resized(facts: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    """crop, interpolation and squash, as a ModelSpec has them; what the file does not state is left out."""
    stated: Any = facts.get("size")
    stated = stated if isinstance(stated, dict) else {"shortest_edge": stated}
    found: dict[str, Any] = {"squash": {"height", "width"} <= set(stated)}
    high = stated.get("height") or stated.get("shortest_edge")
    if high and facts.get("do_center_crop"):
        found["crop"] = min(1.0, size[0] / high)
    if facts.get("crop_pct"):  # ConvNeXt's: small pictures are cut, large ones squashed
        found |= {"crop": float(facts["crop_pct"])} if size[0] < CONVNEXT_CUTS_BELOW else {"squash": True}
    if facts.get("resample") in FILTERS:
        found["interpolation"] = FILTERS[facts["resample"]]
    return found


_SPEC = f"give spec=, and {SPEC_LINES}"


def _preprocessor(name: str) -> dict[str, Any]:
    from transformers.utils import cached_file

    for file in PREPROCESSORS:
        with reading("hf", name, file):
            path = cached_file(name, file, _raise_exceptions_for_missing_entries=False)
            found = json.loads(Path(path).read_text()) if path else {}
        found = found.get("image_processor", {}) if file == PREPROCESSORS[0] else found
        if found:
            return found
    where = name if folder(name) else f"repository {name!r}"
    raise UserError(
        f"model 'hf:{name}': no preprocessor_config.json in {where}, which states size, mean and std; {_SPEC}"
    )


def _size(facts: dict[str, Any]) -> tuple[int, int] | None:
    """Input size (height, width) of the network: the crop if there is one, else the resize."""
    size: Any = (facts.get("crop_size") if facts.get("do_center_crop") else None) or facts.get("size")
    if isinstance(size, dict):
        edge = size.get("shortest_edge")
        size = (size.get("height", edge), size.get("width", edge))
    elif isinstance(size, int):
        size = (size, size)
    return None if size is None or None in size else (size[0], size[1])


def _three(value: float | list[float]) -> list[float]:
    return [value] * 3 if isinstance(value, int | float) else list(value)
