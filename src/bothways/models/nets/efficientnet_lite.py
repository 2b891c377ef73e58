"""EfficientNet-Lite (arXiv 1905.11946 without squeeze-and-excitation, ReLU6 in place of swish), as TensorFlow runs it.

    y = N(P s(N(D s(N(E x)))))    E: 1x1 to 6 times the channels, D: depthwise, P: 1x1; + x where the shapes agree

s is ReLU6, N is batch normalisation with epsilon .001. A convolution of stride 2 pads right and below first, as
TensorFlow's "same" does: with the symmetric padding of torch the trained weights lose several points.
"""

from __future__ import annotations

from collections import OrderedDict
from math import ceil

from torch import Tensor, nn
from torch.nn import functional as F

STAGES = (  # (blocks, kernel, stride, expansion, channels) at width 1 and depth 1
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
STEM, HEAD = 32, 1280  # channels; neither they nor the depths of the first and last stage are scaled


class SameConv2d(nn.Conv2d):
    """Convolution padded to ceil(size / stride) as in TensorFlow: the odd pixel of padding is right and below."""

    def forward(self, x: Tensor) -> Tensor:
        (bottom, top), (right, left) = (
            self._split(size, self.kernel_size[axis], self.stride[axis]) for axis, size in enumerate(x.shape[-2:])
        )
        if (bottom, right) == (top, left):  # no copy of x
            return F.conv2d(x, self.weight, self.bias, self.stride, (top, left), self.dilation, self.groups)
        return super().forward(F.pad(x, (left, right, top, bottom)))

    @staticmethod
    def _split(size: int, kernel: int, stride: int) -> tuple[int, int]:
        """(pixels of padding after, before) along one axis."""
        total = max((ceil(size / stride) - 1) * stride + kernel - size, 0)
        return total - total // 2, total // 2


def _normalized(conv: nn.Conv2d, rectified: bool = True) -> OrderedDict[str, nn.Module]:
    parts = OrderedDict(conv=conv, norm=nn.BatchNorm2d(conv.out_channels, eps=1e-3))
    return parts | {"relu": nn.ReLU6()} if rectified else parts


def _conv(before: int, after: int, kernel: int = 1, stride: int = 1, rectified: bool = True) -> nn.Sequential:
    return nn.Sequential(_normalized(SameConv2d(before, after, kernel, stride, bias=False), rectified))


class InvertedBottleneck(nn.Module):
    """Expansion, depthwise convolution, projection; (B,C,H,W) -> (B,C',H/stride,W/stride)."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = before * expansion
        depthwise = SameConv2d(wide, wide, kernel, stride, groups=wide, bias=False)
        parts = OrderedDict[str, nn.Module](expand=_conv(before, wide)) if expansion > 1 else OrderedDict()
        parts["depthwise"] = nn.Sequential(_normalized(depthwise))
        parts["project"] = _conv(wide, after, rectified=False)
        self.inner = nn.Sequential(parts)
        self.shortcut = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        return x + self.inner(x) if self.shortcut else self.inner(x)


class EfficientNetLite(nn.Module):
    """Classifier, (B,3,H,W) -> (B,classes). width, depth: multipliers of the channels and of the blocks of a stage."""

    def __init__(self, classes: int = 1000, width: float = 1.0, depth: float = 1.0) -> None:
        super().__init__()
        self.stem = _conv(3, STEM, 3, 2)
        blocks, before = [], STEM
        for place, (count, kernel, stride, expansion, channels) in enumerate(STAGES):
            after = _eighths(channels * width)
            for index in range(count if place in (0, len(STAGES) - 1) else ceil(depth * count)):
                blocks.append(InvertedBottleneck(before, after, kernel, stride if index == 0 else 1, expansion))
                before = after
        self.blocks = nn.Sequential(*blocks)
        self.last = _conv(before, HEAD)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(HEAD, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.last(self.blocks(self.stem(x)))))


def _eighths(channels: float) -> int:
    """The nearest multiple of 8 that is at least 90 % of ``channels``."""
    near = max(8, int(channels + 4) // 8 * 8)
    return near + 8 if near < 0.9 * channels else near
