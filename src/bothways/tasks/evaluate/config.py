"""The settings of ``evaluate``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from bothways.configs import Config, Live, chosen, setting
from bothways.data.config import MEASURED
from bothways.registry import register


@register("task", "evaluate", help="Accuracy and calibration of a classifier on clean and corrupted pictures.")
class EvaluateConfig(Config):
    """Accuracy and calibration of a classifier on clean and corrupted pictures.

    Labels are matched to the model's classes by name if both have names. "offline" corrupts the test pictures on the
    fly and is NOT CIFAR-10-C; a folder is the published CIFAR-10-C or Tiny-ImageNet-C. Unreadable pictures are skipped
    and listed.

    Examples
    bothways evaluate bundled:cifar10-resnet --data path/to/cifar10
    bothways evaluate bundled:cifar10-resnet --data path/to/cifar10 --corruptions offline --limit 1000
    bothways evaluate runs/finetuned --data path/to/cifar10 --corruptions path/to/CIFAR-10-C --out runs/corrupted
    bothways evaluate runs/walked --data digits --solver dopri5 --tolerance 1e-3
    """

    gives: ClassVar[str] = "a dict, the content of measures['evaluation']: accuracies with their intervals"
    headlines: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "Accuracy": ("evaluation.clean.top1.value", "low", "high"),
        "Accuracy, corrupted": ("evaluation.corruptions.mean.value", "low", "high"),
    }
    shares: ClassVar[tuple[str, ...]] = ("Accuracy", "Accuracy, corrupted")
    processes: ClassVar[bool] = True

    model: Live = setting(..., "The model's address, or a run of bothways finetune.", argument=True)
    data: Live = setting(..., "labelled pictures (see bothways pretrain)")
    corruptions: Live = setting(
        None,
        "offline, offline:KIND,KIND (of its six, fog, roll), or a folder of CIFAR-10-C or Tiny-ImageNet-C",
        common=True,
    )
    limit: int | None = setting(None, "pictures at most, evenly spaced; else all", ge=1, common=True)
    solver: chosen("solver") | None = setting(  # type: ignore[valid-type]
        None, "another ODE solver for the walk of a flow classifier; if unset, that of its training"
    )
    tolerance: float | None = setting(None, "relative and absolute error of an adaptive solver; if unset, 1e-5", gt=0)
    seed: int = setting(0, "of the noise of offline", ge=0)
    batch: int = setting(100, "pictures at a time", ge=1)
    weights: Live = setting(None, "a safetensors file for the model")
    spec: Live = setting(None, "the ModelSpec of a live module", live=True)
    preprocess: Literal["model", "ours"] = setting(
        "model", "pictures are resized: model, as its facts state; ours, the shorter side to the size, bicubic"
    )
    device: str = setting("cpu", "cpu, cuda, mps")
    dtype: str = setting("float32", "precision of the network: float32, bf16, float16")
    split: str | None = setting(None, MEASURED, common=True)
