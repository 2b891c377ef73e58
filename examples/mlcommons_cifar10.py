"""The large ResNet of MLPerf Tiny (CIFAR-10): BatchNorm folded into the weights, pictures as 0..255, not divided.

bothways generate bundled:cifar10-resnet --class frog --judge examples/mlcommons_cifar10.py:build
"""

from pathlib import Path

import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from bothways import ModelSpec

SHARED = Path(__file__).resolve().parents[2] / "shared" / "weights"
WEIGHTS = SHARED / "mlcommons_pretrainedResnet_large_float_cifar10" / "model.safetensors"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut; halving pads a row and a column at the end, as TensorFlow does."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.halves = out > channels
        self.conv1 = nn.Conv2d(channels, out, 3, 2, 0) if self.halves else nn.Conv2d(channels, out, 3, 1, 1)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1)
        self.shortcut = nn.Conv2d(channels, out, 1, 2) if self.halves else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (0, 1, 0, 1)) if self.halves else x
        return (self.conv2(self.conv1(padded).relu()) + self.shortcut(x)).relu()


class ResNet(nn.Module):
    """(B,3,32,32) -> (B,10) logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 40, 3, 1, 1)
        self.body = nn.Sequential(Block(40, 40), Block(40, 80), Block(80, 160))
        self.fc = nn.Linear(160, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.body(self.conv(x).relu()).mean((2, 3)))


def build() -> tuple[nn.Module, ModelSpec]:
    stored, module = load_file(WEIGHTS), ResNet()
    own = (f"{layer}.{part}" for layer in sorted({key[:2] for key in stored}) for part in ("weight", "bias"))
    by_number = {f"{key[:2]}.{key.rpartition('.')[2]}": value for key, value in stored.items()}
    module.load_state_dict(dict(zip(module.state_dict(), map(by_number.__getitem__, own), strict=True)))
    told = {"source": "github.com/mlcommons/tiny", "licence": "Apache-2.0"}
    return module, ModelSpec(size=32, mean=0, std=1 / 255, classes=CLASSES, feature_layer="body", **told)
