"""A convolutional network of 97,530 parameters with LayerNorm in place of BatchNorm (CIFAR-10, by xvel and Thales).

bothways generate examples/tiniest_cifar10.py:build --class frog --judge bundled:cifar10-attention
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from bothways import ModelSpec

WEIGHTS = Path(__file__).resolve().parents[2] / "shared" / "weights" / "tiniest_cifar10" / "model.safetensors"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of each place of a map (B,C,H,W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.ln = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.ln(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Block(nn.Module):
    """rs x + mix(x): a quarter of the channels each left, 3x3, 7x7, and 7x7 dilated; then a gated map of the channels.

    The gate of the halves a and b of the wide map is tanh(exp a) a b.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        part = channels // 4
        self.dwconv1 = nn.Conv2d(part, part, 3, padding=1, groups=part)
        self.dwconv2 = nn.Conv2d(part, part, 7, padding=3, groups=part)
        self.dwconv3 = nn.Conv2d(part, part, 7, padding=9, dilation=3, groups=part)
        self.ln = ChannelNorm(channels)
        self.fc1 = nn.Conv2d(channels, 2 * channels, 1)
        self.fc2 = nn.Conv2d(channels, channels, 1)
        self.rs = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        left, near, far, spread = x.chunk(4, 1)
        parts = [left, self.dwconv1(near), self.dwconv2(far), self.dwconv3(F.avg_pool2d(spread, 3, 1, 1))]
        a, b = self.fc1(self.ln(torch.cat(parts, 1))).chunk(2, 1)
        return self.rs * x + self.fc2(torch.tanh(a.exp()) * a * b)


class Tiniest(nn.Module):
    """(B,3,32,32) -> (B,10) logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.ln1 = nn.Conv2d(3, 48, 3, padding=1), ChannelNorm(48)
        self.l1, self.l2, self.l3 = Block(48), Block(48), Block(48)
        self.dsconv, self.ln2 = nn.Conv2d(48, 80, 4, 2, 1, groups=16), ChannelNorm(80)
        self.l4, self.l5, self.l6 = Block(80), Block(80), Block(80)
        self.fc = nn.Linear(80, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.l3(self.l2(self.l1(self.ln1(self.conv1(x)))))
        x = self.l6(self.l5(self.l4(self.ln2(self.dsconv(x)))))
        return self.fc(x.mean((2, 3)))


def build() -> tuple[nn.Module, ModelSpec]:
    module = Tiniest()
    module.load_state_dict(load_file(WEIGHTS))
    told = {"source": "github.com/ThalesGroup/scio", "licence": "MIT"}
    return module, ModelSpec(size=32, mean=0.5, std=1, classes=CLASSES, feature_layer="l6", **told)
