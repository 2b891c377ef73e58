"""The settings of ``predict``."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, PlainSerializer

from bothways.configs import Config, Live, recorded, setting
from bothways.registry import register


def _whole(given: Any) -> Any:
    """One picture, or one array of several, as a list of one."""
    return given if isinstance(given, list | tuple) else [given]


Pictures = Annotated[list[Any], BeforeValidator(_whole), PlainSerializer(recorded)]


@register("task", "predict", help="Predict the most probable classes of pictures.")
class PredictConfig(Config):
    """Predict the most probable classes of pictures, with softmax probabilities; a line per picture, in order.

    A file is resized to the model by its shorter side and centre-cropped. An unreadable file gets an error message
    instead of classes. In Python the pictures may also be of PIL, numpy or torch, in [0,1] or bytes; a tensor keeps its
    own size.

    Examples
    bothways predict bundled:cifar10-resnet photo.png
    bothways predict timm:convnext_tiny.fb_in1k photos/ --top 3 --json > found.json
    """

    gives: ClassVar[str] = "a list of Prediction: image, and answers with name, number and probability; or an error"
    reports: ClassVar[bool] = False

    model: Live = setting(..., "Address of the model, or a run of bothways finetune.", argument=True)
    images: Pictures = setting(..., "Image files, or folders of them.", argument=True)
    top: int = setting(5, "classes of each picture", ge=1, common=True)
    batch: int = setting(32, "pictures at a time", ge=1)
    weights: Live = setting(None, "a safetensors file for the model")
    spec: Live = setting(None, "the ModelSpec of a live module", live=True)
    preprocess: Literal["model", "ours"] = setting(
        "model", "pictures are resized: model, as its facts state; ours, the shorter side to the size, bicubic"
    )
    device: str = setting("cpu", "cpu, cuda, mps")
    dtype: str = setting("float32", "precision of the network: float32, bf16, float16")
