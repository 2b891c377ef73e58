"""The settings of ``train``."""

from __future__ import annotations

from typing import Any, ClassVar

from bothways.configs import Config, Live, setting
from bothways.registry import register
from bothways.training.config import AugmentationConfig, FitConfig, HoldoutConfig, RunConfig, TrainingConfig


class SmoothingConfig(Config):
    """Cross-entropy."""

    label_smoothing: float = setting(0.0, "share of the target spread over all classes", ge=0, lt=1)


class InputConfig(Config):
    """What a picture goes through before the network: (picture - mean) / std."""

    mean: tuple[float, float, float] | None = setting(None, "of each channel; none for that of the training pictures")
    std: tuple[float, float, float] | None = setting(None, "of each channel; none for that of the training pictures")


@register("task", "train", help="Train a network of the catalogue.")
class TrainConfig(TrainingConfig):
    """Train a network of the catalogue on labelled pictures: a classifier that draws, or judges drawings.

    It leaves NAME.safetensors, the card NAME.json, and NAME.statistics.safetensors with what the network measures of
    real pictures; NAME is the recipe's.

    Examples
    bothways train cifar10-resnet --data path/to/cifar10
    """

    recipe_task: ClassVar[str] = "train"

    recipe: str = setting(..., "A training recipe (see bothways recipes) or a .toml file", argument=True)
    data: Live = setting(..., "A folder with train.parquet and test.parquet")
    network: dict[str, Any] = setting({}, "builder: resnet, plain or attention, and its options")
    seed: int = setting(0, "of the first weights, the order and augmentation", ge=0, common=True)
    spec: InputConfig = InputConfig()
    holdout: HoldoutConfig = HoldoutConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    loss: SmoothingConfig = SmoothingConfig()
    fit: FitConfig = FitConfig()
    run: RunConfig = RunConfig()
