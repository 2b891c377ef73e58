"""Plain convolutional network without skip connections (after VGG, arXiv 1409.1556), with batch normalisation."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class PlainNet(nn.Module):
    """VGG-like classifier, (B,3,H,W) -> (B,classes); stages after the first halve the resolution by a stride."""

    def __init__(
        self, classes: int = 10, channels: Sequence[int] = (24, 48, 96, 96), depths: Sequence[int] = (1, 2, 2, 1)
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for index, (wide, depth) in enumerate(zip(channels, depths, strict=True)):
            for place in range(depth):
                stride = 2 if place == 0 and index > 0 else 1
                layers += [nn.Conv2d(width, wide, 3, stride, 1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
                width = wide
        self.layers = nn.Sequential(*layers)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.layers(x)))
