"""One small model of every kind of address, of random weights, saved as its library saves it.

The transformers models are built from their configs and lie in the hub's layout. All are of 32 pixels.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

SIZE = 32
CLASSES = 5
NAMES = ("adder", "badger", "civet", "dingo", "egret")
MEAN, STD = (0.5, 0.45, 0.4), (0.25, 0.3, 0.2)
PACKAGES = {"timm": "timm", "open_clip": "open_clip", "user": "torch"}  # the others are transformers'
CLASSIFIERS = ("resnet", "convnext", "vit", "timm", "user")
WITH_TEXT = ("clip", "siglip", "open_clip")
WORDS = ("a", "photo", "of", "frog", "ship", "red", "the", "deer")


def need(kind: str) -> Any:
    """The library of a kind, offline, or the test is skipped."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    stand_in_for_torchvision()
    return pytest.importorskip(PACKAGES.get(kind, "transformers"))


_DECLARED: list[torch.library.Library] = []


def stand_in_for_torchvision() -> None:
    """Declare two operators of a torchvision that was built for another torch, so that the rest of it imports."""
    try:
        import torchvision  # noqa: F401
    except ImportError:
        return
    except RuntimeError:
        declared = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            declared.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _DECLARED.append(declared)  # it lasts as long as it is held


def stood_in(function: Callable[..., Any], *args: Any) -> Any:
    """``function(*args)`` in another process, which needs the stand-in too."""
    stand_in_for_torchvision()
    return function(*args)


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """A module whose weights are large enough that its layers matter, and the same in every run."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = build().eval()
        for value in module.parameters():
            if value.ndim > 1:
                nn.init.normal_(value, std=0.7 / value[0].numel() ** 0.5)
        for part in module.modules():
            if hasattr(part, "running_mean"):  # a frozen one is of another class
                part.running_mean.normal_(std=0.1)
                part.running_var.uniform_(0.5, 1.5)
    return module


# ---- transformers --------------------------------------------------------------------------------------------------


def saved(folder: Path, module: Any, processor: str, **changes: Any) -> str:
    """In the hub's layout: by the library's own save_pretrained, and what an image processor of that name reads."""
    module.save_pretrained(folder)
    facts = {"do_resize": True, "size": {"height": SIZE, "width": SIZE}, "do_rescale": True, "rescale_factor": 1 / 255}
    facts |= {"do_normalize": True, "image_mean": MEAN, "image_std": STD, "image_processor_type": processor}
    (folder / "preprocessor_config.json").write_text(json.dumps(facts | changes))
    return f"hf:{folder}"


def labels() -> dict[str, Any]:
    return {"num_labels": CLASSES, "id2label": dict(enumerate(NAMES)), "label2id": {n: i for i, n in enumerate(NAMES)}}


def attention(**changes: Any) -> dict[str, Any]:
    """What the vision transformers have in common."""
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    return {**sizes, "image_size": SIZE, "patch_size": 8, **changes}


def tower(**changes: Any) -> dict[str, Any]:
    sizes = {"vocab_size": len(WORDS) + 4, "max_position_embeddings": 12, "pad_token_id": 0}
    return {**attention(), **sizes, "bos_token_id": 1, "eos_token_id": 2, **changes}


def tokenizer(folder: Path) -> None:
    """Words as they stand, with a start and an end."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: i for i, word in enumerate(("<pad>", "<start>", "<end>", "<unknown>", *WORDS))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unknown>"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.post_processor = processors.TemplateProcessing("<start> $A <end>", None, [("<start>", 1), ("<end>", 2)])
    special = {"pad_token": "<pad>", "bos_token": "<start>", "eos_token": "<end>", "unk_token": "<unknown>"}
    PreTrainedTokenizerFast(tokenizer_object=made, **special).save_pretrained(folder)


def resnet(folder: Path) -> str:
    transformers = need("resnet")
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic"}
    config = transformers.ResNetConfig(**sizes, **labels())
    size = {"size": {"shortest_edge": SIZE}}
    return saved(
        folder, seeded(lambda: transformers.ResNetForImageClassification(config)), "ConvNextImageProcessor", **size
    )


def convnext(folder: Path) -> str:
    transformers = need("convnext")
    sizes = {"hidden_sizes": [8, 16], "depths": [1, 1], "num_stages": 2, "patch_size": 4}
    config = transformers.ConvNextConfig(**sizes, layer_scale_init_value=0.5, **labels())
    return saved(folder, seeded(lambda: transformers.ConvNextForImageClassification(config)), "ConvNextImageProcessor")


def vit(folder: Path) -> str:
    transformers = need("vit")
    config = transformers.ViTConfig(**attention(), **labels())
    return saved(folder, seeded(lambda: transformers.ViTForImageClassification(config)), "ViTImageProcessor")


def dinov2(folder: Path) -> str:
    """Of pictures larger than its crop, so that its positions are resized."""
    transformers = need("dinov2")
    config = transformers.Dinov2Config(**attention(image_size=56, mlp_ratio=2), layerscale_value=0.5)
    crop = {"size": {"shortest_edge": 40}, "do_center_crop": True, "crop_size": {"height": SIZE, "width": SIZE}}
    return saved(folder, seeded(lambda: transformers.Dinov2Model(config)), "BitImageProcessor", **crop)


def detr(folder: Path) -> str:
    transformers = need("detr")
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 12], "depths": [1, 1], "layer_type": "basic"}
    layers = {f"{side}_{what}": n for side in ("encoder", "decoder") for what, n in (("layers", 1), ("ffn_dim", 32))}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "d_model": 16, "num_queries": 6}
    backbone = transformers.ResNetConfig(**sizes, out_features=["stage2"])
    config = transformers.DetrConfig(backbone_config=backbone, use_timm_backbone=False, **layers, **heads, **labels())
    size = {"size": {"shortest_edge": SIZE, "longest_edge": 2 * SIZE}}
    return saved(folder, seeded(lambda: transformers.DetrForObjectDetection(config)), "DetrImageProcessor", **size)


def clip(folder: Path) -> str:
    transformers = need("clip")
    config = transformers.CLIPConfig(text_config=tower(), vision_config=attention(), projection_dim=12)
    tokenizer(folder)
    crop = {"size": {"shortest_edge": SIZE}, "do_center_crop": True, "crop_size": SIZE}
    return saved(folder, seeded(lambda: transformers.CLIPModel(config)), "CLIPImageProcessor", **crop).replace(
        "hf:", "clip:"
    )


def siglip(folder: Path) -> str:
    transformers = need("siglip")
    config = transformers.SiglipConfig(text_config=tower(projection_size=16), vision_config=attention())
    tokenizer(folder)
    return saved(folder, seeded(lambda: transformers.SiglipModel(config)), "SiglipImageProcessor")


# ---- the others ----------------------------------------------------------------------------------------------------


def timm(folder: Path) -> str:
    library = need("timm")
    size = {"img_size": SIZE, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    facts = {"pretrained_cfg_overlay": {"input_size": (3, SIZE, SIZE), "mean": MEAN, "std": STD}}
    module = seeded(lambda: library.create_model("vit_tiny_patch16_224", num_classes=CLASSES, **size, **facts))
    names = {"label_names": NAMES}
    library.models.save_for_hf(module, folder, model_config=names, model_args=size, safe_serialization=True)
    return f"timm:local-dir:{folder}"


def open_clip(folder: Path) -> str:
    library = need("open_clip")
    vision = {"image_size": SIZE, "layers": 2, "width": 16, "head_width": 8, "patch_size": 8}
    text = {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
    model = {"embed_dim": 12, "vision_cfg": vision, "text_cfg": text}
    from safetensors.torch import save_file

    module = seeded(lambda: library.CLIP(**model))
    folder.mkdir(exist_ok=True, parents=True)
    save_file(module.state_dict(), folder / "open_clip_model.safetensors")
    facts = {"model_cfg": model, "preprocess_cfg": {"mean": MEAN, "std": STD}}
    (folder / "open_clip_config.json").write_text(json.dumps(facts))
    return f"open_clip:{folder}"


USER_FILE = f"""
import torch
from torch import nn
from bothways import ModelSpec

def build():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = [nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        module = nn.Sequential(*body, nn.Linear(8, {CLASSES}))
    return module, ModelSpec({SIZE}, {MEAN}, {STD}, {NAMES}, feature_layer="2")
"""


def user(folder: Path) -> str:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "mine.py").write_text(USER_FILE)
    return f"{folder / 'mine.py'}:build"


ZOO: dict[str, Callable[[Path], str]] = {
    "resnet": resnet,
    "convnext": convnext,
    "vit": vit,
    "dinov2": dinov2,
    "detr": detr,
    "clip": clip,
    "siglip": siglip,
    "timm": timm,
    "open_clip": open_clip,
    "user": user,
}
