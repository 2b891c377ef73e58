"""The settings of ``train``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from bothways.configs import Config, Live, setting
from bothways.registry import register
from bothways.training.config import AugmentationConfig, FitConfig, HoldoutConfig, RunConfig, TrainingConfig


class SmoothingConfig(Config):
    """The loss: cross-entropy with label smoothing."""

    label_smoothing: float = setting(0.0, "label smoothing: share of the target spread over all classes", ge=0, lt=1)


class InputConfig(Config):
    """The input normalisation of the network: (picture - mean) / std."""

    mean: tuple[float, float, float] | None = setting(None, "mean per channel; if unset, of the training pictures")
    std: tuple[float, float, float] | None = setting(None, "std per channel; if unset, of the training pictures")


@register("task", "train", help="Train a classifier of the catalogue.")
class TrainConfig(TrainingConfig):
    """Train a classifier of the catalogue on labelled pictures, to draw with or to judge drawings.

    The run folder holds NAME.safetensors, the card NAME.json, and NAME.statistics.safetensors with the image-prior
    statistics; NAME is that of the recipe.

    Examples
    bothways train cifar10-resnet --data path/to/cifar10
    """

    gives: ClassVar[str] = "a Trained: the model, with averaged weights, its card, frames, folder and measures"
    recipe_task: ClassVar[str] = "train"
    headlines: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Accuracy on test pictures": ("network.accuracy", "low", "high")
    }
    shares: ClassVar[tuple[str, ...]] = ("Accuracy on test pictures",)
    processes: ClassVar[bool] = True

    recipe: str = setting(..., "Recipe: a name (see bothways recipes) or a .toml file", argument=True)
    data: Live = setting(..., "folder with train.parquet and test.parquet")
    network: dict[str, Any] = setting({}, "network: builder (resnet, plain or attention) and its options")
    seed: int = setting(0, "random seed of the initial weights, data order and augmentation", ge=0, common=True)
    spec: InputConfig = InputConfig()
    holdout: HoldoutConfig = HoldoutConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    loss: SmoothingConfig = SmoothingConfig()
    fit: FitConfig = FitConfig()
    run: RunConfig = RunConfig()
