"""The settings of ``evaluate``."""

from __future__ import annotations

from bothways.configs import Config, Live, setting
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
    """

    model: Live = setting(..., "Address of the model, or a run of bothways finetune.", argument=True)
    data: Live = setting(..., "labelled pictures (see bothways pretrain); the test split is used, if any")
    corruptions: Live = setting(None, "corruptions: offline, or a folder of CIFAR-10-C or Tiny-ImageNet-C", common=True)
    limit: int | None = setting(None, "maximum number of pictures, evenly spaced; if unset, all", ge=1, common=True)
    seed: int = setting(0, "random seed of the offline corruptions", ge=0)
    batch: int = setting(100, "pictures per batch", ge=1)
    weights: Live = setting(None, "safetensors file of weights for the model")
    spec: Live = setting(None, "ModelSpec of a live module", live=True)
    device: str = setting("cpu", "compute device: cpu, cuda, mps")
    dtype: str = setting("float32", "precision of the network: float32, bf16, float16")
