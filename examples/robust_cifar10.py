"""A residual network without normalisation, trained on adversarial pictures of 2/255 (CIFAR-10; alpha-beta-CROWN).

bothways generate examples/robust_cifar10.py:build --class frog --judge bundled:cifar10-attention
"""

from pathlib import Path

from safetensors.torch import load_file
from torch import Tensor, nn

from bothways import ModelSpec

WEIGHTS = Path(__file__).resolve().parents[2] / "shared" / "weights" / "resnet4b_cifar10_robust" / "model.safetensors"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, 1)
        self.conv2 = nn.Conv2d(out, out, 3, 1, 1)
        changes = stride > 1 or channels != out
        self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride)) if changes else nn.Sequential()

    def forward(self, x: Tensor) -> Tensor:
        return (self.conv2(self.conv1(x).relu()) + self.shortcut(x)).relu()


class RobustNet(nn.Module):
    """(B,3,32,32) -> (B,10) logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 2, 1)
        self.layer1 = nn.Sequential(Block(16, 32, 2), Block(32, 32, 1))
        self.layer2 = nn.Sequential(Block(32, 32, 2), Block(32, 32, 1))
        self.linear1, self.linear2 = nn.Linear(512, 100), nn.Linear(100, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer2(self.layer1(self.conv1(x).relu()))
        return self.linear2(self.linear1(x.flatten(1)).relu())


def build() -> tuple[nn.Module, ModelSpec]:
    module = RobustNet()
    module.load_state_dict(load_file(WEIGHTS))
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    told = {"source": "github.com/Verified-Intelligence/alpha-beta-CROWN", "licence": "BSD-3-Clause"}
    return module, ModelSpec(size=32, mean=mean, std=std, classes=CLASSES, feature_layer="linear2:input", **told)
