"""Small residual network for small images (He et al. 2016, arXiv 1512.03385), with batch normalisation.

    y = relu(x + N(W2 relu(N(W1 x))))

Departure from the paper: a stage begins with a strided 3x3 convolution instead of a projected shortcut, so that
all of its residual blocks are alike.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class Convolution(nn.Sequential):
    """3x3 convolution, batch normalisation, ReLU."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1) -> None:
        super().__init__(
            nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
        )


class Residual(nn.Module):
    """Residual block: relu(x + two convolutions of x)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            Convolution(channels, channels),
            nn.Conv2d(channels, channels, 3, 1, 1, bias=False),
            nn.BatchNorm2d(channels),
        )
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(x + self.inner(x))


class ResNet(nn.Module):
    """Residual classifier, (B,3,H,W) -> (B,classes).

    channels, blocks: width of each stage, and how many residual blocks follow its first convolution; every stage
    but the first halves the resolution.
    """

    def __init__(self, classes: int = 10, channels: Sequence[int] = (32, 64, 128), blocks: Sequence[int] = (0, 2, 2)):
        super().__init__()
        stages, width = [], 3
        for index, (wide, count) in enumerate(zip(channels, blocks, strict=True)):
            first = Convolution(width, wide, stride=1 if index == 0 else 2)
            stages.append(nn.Sequential(first, *[Residual(wide) for _ in range(count)]))
            width = wide
        self.stages = nn.Sequential(*stages)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.stages(x)))
