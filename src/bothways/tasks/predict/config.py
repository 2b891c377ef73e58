"""The settings of ``predict``."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, PlainSerializer

from bothways.configs import Config, Live, setting, spoken
from bothways.registry import register


def _whole(given: Any) -> Any:
    """One picture, or one array of several, as a list of one."""
    return given if isinstance(given, list | tuple) else [given]


Pictures = Annotated[list[Any], BeforeValidator(_whole), PlainSerializer(spoken)]


@register("task", "predict", help="The most probable classes of pictures.")
class PredictConfig(Config):
    """The most probable classes of pictures, by the softmax of the model's outputs; a line a picture, in their order.

    A file is resized so that its shorter side fits the model, and the centre is cut out; one that cannot be read has no
    classes and says why. In Python the pictures may be of PIL, numpy or torch
    too, in [0,1] or bytes; a tensor is seen in its own size.

    Examples
    bothways predict bundled:cifar10-resnet photo.png
    bothways predict timm:convnext_tiny.fb_in1k photos/ --top 3 --json > found.json
    """

    reports: ClassVar[bool] = False

    model: Live = setting(..., "The model's address, or a run of bothways finetune.", argument=True)
    images: Pictures = setting(..., "Image files, or folders of them.", argument=True)
    top: int = setting(5, "classes of each picture", ge=1, common=True)
    batch: int = setting(32, "pictures at a time", ge=1)
    weights: Live = setting(None, "a safetensors file for the model")
    spec: Live = setting(None, "the ModelSpec of a live module", live=True)
    device: str = setting("cpu", "cpu, cuda, mps")
    dtype: str = setting("float32", "precision of the network: float32, bf16, float16")
