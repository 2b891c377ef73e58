"""ResNet-20 for CIFAR-10 with option A shortcuts (He et al., arXiv 1512.03385), for weights with the keys of
github.com/akamaster/pytorch_resnet_cifar10.

    bothways scorecard benchmarks/dsf_resnet20.py:build --weights resnet20.safetensors --data CIFAR10
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from bothways import ModelSpec

NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Block(nn.Module):
    """relu(s(x) + N(W2 relu(N(W1 x)))), s: every second pixel, padded with channels of zeros."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, after // before, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.grows = after > before

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.grows:
            quarter = inner.shape[1] // 4
            x = F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter))
        return F.relu(x + inner)


class ResNet20(nn.Module):
    """(B,3,32,32) -> (B,10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*(Block(16, 16) for _ in range(3)))
        self.layer2 = nn.Sequential(Block(16, 32), Block(32, 32), Block(32, 32))
        self.layer3 = nn.Sequential(Block(32, 64), Block(64, 64), Block(64, 64))
        self.linear = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(x.mean((2, 3)))


def build() -> tuple[nn.Module, ModelSpec]:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    return ResNet20(), ModelSpec(32, mean, std, NAMES, feature_layer="layer3", source="akamaster", licence="BSD-2")
