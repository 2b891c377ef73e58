"""Velocity network for points, as images of one pixel whose channels are coordinates."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from bothways.models.nets.unet import sinusoid


class PointNet(nn.Module):
    """Time-conditioned MLP: x (B,C,1,1), time (B,) already scaled -> (B,C,1,1).

    channels: coordinates of a point. width, depth: of the hidden layers. waves: size of the time embedding.
    """

    def __init__(self, channels: int = 3, width: int = 128, depth: int = 4, waves: int = 32) -> None:
        super().__init__()
        self.waves, self.factor = waves, 1
        widths = [channels + waves, *[width] * depth]
        inner = [part for entering, leaving in pairwise(widths) for part in (nn.Linear(entering, leaving), nn.SiLU())]
        self.layers = nn.Sequential(*inner, nn.Linear(width, channels))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        beside = torch.cat([x.flatten(1), sinusoid(time, self.waves).to(x.dtype)], 1)
        return self.layers(beside).view(x.shape)
