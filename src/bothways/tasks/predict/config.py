"""The settings of ``predict``."""

from __future__ import annotations

from typing import ClassVar, Literal

from bothways.configs import Config, Live, Several, setting
from bothways.registry import register


@register("task", "predict", help="Predict the most probable classes of pictures.")
class PredictConfig(Config):
    """Predict the most probable classes of pictures, with softmax probabilities; a line per picture, in order.

    A picture is resized to the model by its shorter side and centre-cropped. An unreadable file gets an error message
    instead of classes. In Python the pictures may also be a tensor (B,3,H,W) in [0,1].

    Examples
    bothways predict bundled:cifar10-resnet photo.png
    bothways predict timm:convnext_tiny.fb_in1k photos/ --top 3 --json > found.json
    """

    reports: ClassVar[bool] = False

    model: Live = setting(..., "Address of the model, or a run of bothways finetune.", argument=True)
    images: Several = setting(..., "Image files, or folders of them.", argument=True)
    top: int = setting(5, "classes of each picture", ge=1, common=True)
    batch: int = setting(32, "pictures at a time", ge=1)
    weights: Live = setting(None, "a safetensors file for the model")
    spec: Live = setting(None, "the ModelSpec of a live module", live=True)
    preprocess: Literal["model", "ours"] = setting(
        "model", "pictures are resized: model, as its facts state; ours, the shorter side to the size, bicubic"
    )
    device: str = setting("cpu", "cpu, cuda, mps")
    dtype: str = setting("float32", "precision of the network: float32, bf16, float16")
