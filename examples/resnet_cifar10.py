"""ResNet-20 and ResNet-56 (CIFAR-10, after He et al., by akamaster), with BatchNorm whose running statistics are kept.

bothways generate examples/resnet_cifar10.py:resnet20 --class frog --judge examples/resnet_cifar10.py:resnet56
"""

from pathlib import Path

import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from bothways import ModelSpec

WEIGHTS = Path(__file__).resolve().parents[2] / "shared" / "weights"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut without weights: every second place, and zeros for new channels."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.stride, self.new = out // channels, (out - channels) // 2
        self.conv1 = nn.Conv2d(channels, out, 3, self.stride, 1, bias=False)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(out), nn.BatchNorm2d(out)

    def forward(self, x: Tensor) -> Tensor:
        short = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.new, self.new))
        return (self.bn2(self.conv2(self.bn1(self.conv1(x)).relu())) + short).relu()


class ResNet(nn.Module):
    """(B,3,32,32) -> (B,10) logits, of three stages of so many blocks: 6 blocks + 2 layers with weights."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(Block(16, 16) for _ in range(blocks)))
        self.layer2 = nn.Sequential(Block(16, 32), *(Block(32, 32) for _ in range(blocks - 1)))
        self.layer3 = nn.Sequential(Block(32, 64), *(Block(64, 64) for _ in range(blocks - 1)))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(self.bn1(self.conv1(x)).relu())))
        return self.linear(x.mean((2, 3)))


def build(name: str, blocks: int) -> tuple[nn.Module, ModelSpec]:
    module = ResNet(blocks)
    module.load_state_dict(load_file(WEIGHTS / f"{name}-cifar10.safetensors"))
    facts = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "feature_layer": "layer3"}
    told = {"source": "github.com/akamaster/pytorch_resnet_cifar10", "licence": "BSD-2-Clause"}
    return module, ModelSpec(size=32, classes=CLASSES, **facts, **told)


def resnet20() -> tuple[nn.Module, ModelSpec]:
    return build("resnet20", 3)


def resnet56() -> tuple[nn.Module, ModelSpec]:
    return build("resnet56", 9)
