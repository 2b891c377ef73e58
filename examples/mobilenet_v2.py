"""MobileNetV2 of 224 pixels (ImageNet, trained by Google for 8-bit arithmetic), as a judge or to draw with.

    bothways generate imagenet:efficientnet-lite0 --class 9 --recipe photographs --judge examples/mobilenet_v2.py:build

The weights are bytes with a scale and a zero point a layer, w = scale (q - zero point), and BatchNorm is folded into
them. The activations stay in floating point: the file holds no ranges to round them by. The first of its 1,001 outputs,
the background, is left out, so that the others are ImageNet's 1,000 classes in order.
"""

from collections.abc import Mapping
from pathlib import Path

import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from bothways import ModelSpec

SHARED = Path(__file__).resolve().parents[2] / "shared" / "weights"
WEIGHTS = SHARED / "coral_mobilenet_v2_1.0_224_quant" / "model.safetensors"
STAGES = (  # channels, blocks, stride of the first block
    (16, 1, 1),
    (24, 2, 2),
    (32, 3, 2),
    (64, 4, 2),
    (96, 3, 1),
    (160, 3, 2),
    (320, 1, 1),
)


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's padding: ceil(size / stride) places, the odd row and column at the end."""

    def forward(self, x: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        down, across = (max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[-2:])
        return super().forward(F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2)))


class Block(nn.Module):
    """Inverted residual: 1x1 to six times the channels, 3x3 of each channel, 1x1 back; added to x where it fits."""

    def __init__(self, channels: int, out: int, stride: int, wide: int) -> None:
        super().__init__()
        widen = [SameConv2d(channels, wide, 1), nn.ReLU6()] if wide > channels else []
        each = [SameConv2d(wide, wide, 3, stride, groups=wide), nn.ReLU6()]
        self.body = nn.Sequential(*widen, *each, SameConv2d(wide, out, 1))
        self.adds = stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.adds else self.body(x)


class MobileNetV2(nn.Module):
    """(B,3,H,W) in [-1, 1] -> (B,1000) logits."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [SameConv2d(3, 32, 3, 2), nn.ReLU6()]
        channels, wider = 32, 1
        for out, count, stride in STAGES:
            for k in range(count):
                layers.append(Block(channels, out, stride if k == 0 else 1, wider * channels))
                channels, wider = out, 6
        self.features = nn.Sequential(*layers, SameConv2d(channels, 1280, 1), nn.ReLU6())
        self.classifier = nn.Conv2d(1280, 1000, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3), keepdim=True)).flatten(1)


def dequantised(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """{"NN_kind.weight", "NN_kind.bias": float32} in the order of layers, of bytes q: w = scale (q - zero point)."""
    found = {}
    for name in sorted({key.rpartition(".")[0] for key in stored}):
        zero, scale = stored[f"{name}.zero_point"], stored[f"{name}.scale"]
        found[f"{name}.weight"] = scale * (stored[f"{name}.weight"].float() - zero.float())
        found[f"{name}.bias"] = stored[f"{name}.bias"]
    return found


def build() -> tuple[nn.Module, ModelSpec]:
    module, found = MobileNetV2(), list(dequantised(load_file(WEIGHTS)).values())
    found[-2:] = [value[1:] for value in found[-2:]]  # without the background
    module.load_state_dict(dict(zip(module.state_dict(), found, strict=True)))
    facts = {"crop": 0.875, "interpolation": "bilinear", "feature_layer": "features"}
    told = {"source": "github.com/google-coral/test_data", "licence": "Apache-2.0"}
    return module, ModelSpec(size=224, mean=0.5, std=0.5, classes="imagenet", **facts, **told)
