"""The table of layers: names that --layer takes, and shapes that are those of the features."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bothways import ModelSpec, load_model
from bothways.models.layers_of import LayerRow, layers
from toy_model import build

MEAN, STD = (0.0,) * 3, (1.0,) * 3


class Last(nn.Module):
    """(B,3,8,8) -> (B,8,8,8) with the channels last, of pictures of 8 x 8 alone: nothing tells where they are."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.unused = nn.Linear(3, 8), nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-2:] != (8, 8):
            raise ValueError("8 x 8 alone")
        return self.linear(x.permute(0, 2, 3, 1))


class Tokens(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)


def test_the_layers_of_a_small_network_are_these() -> None:
    module, spec = build()
    assert layers(load_model(module, spec=spec)) == [
        LayerRow("body", "Sequential", (8, 8, 8), 162 + 12 + 432 + 16),
        LayerRow("body.0", "Conv2d", (6, 16, 16), 162),
        LayerRow("body.1", "BatchNorm2d", (6, 16, 16), 12),
        LayerRow("body.2", "SiLU", (6, 16, 16), 0),
        LayerRow("body.3", "Conv2d", (8, 8, 8), 432),
        LayerRow("body.4", "BatchNorm2d", (8, 8, 8), 16),
        LayerRow("body.5", "SiLU", (8, 8, 8), 0),
        LayerRow("head", "Linear", (4,), 36),
    ]


@pytest.mark.parametrize("name", ["bundled:cifar10-resnet", "bundled:cifar10-attention"])
def test_every_shape_is_that_of_the_features(name: str) -> None:
    model = load_model(name)
    rows = [row for row in layers(model) if row.shape]
    assert len(rows) > 10
    image = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        seen = model.features(image, [row.name for row in rows])
    assert {row.name: row.shape for row in rows} == {name: tuple(v.shape[1:]) for name, v in seen.items()}


def test_channels_that_are_last_are_put_in_front_and_tokens_keep_theirs() -> None:
    net = nn.Sequential(nn.Conv2d(3, 5, 4, 4), Tokens(), nn.Linear(5, 7), nn.Flatten(), nn.Linear(28, 4)).eval()
    found = {row.name: row for row in layers(load_model(net, ModelSpec(8, MEAN, STD, 4)))}
    assert [found[name].shape for name in "01234"] == [(5, 2, 2), (4, 5), (4, 7), (28,), (4,)]
    assert [found[name].channels for name in "01234"] == [5, 5, 7, 28, 4]


def test_a_layer_that_gives_nothing_to_draw_is_listed_without_a_shape() -> None:
    net = nn.Sequential(Last(), nn.Flatten(), nn.Linear(512, 4)).eval()
    rows = layers(load_model(net, ModelSpec(8, MEAN, STD, 4)))
    assert [(row.name, row.shape, row.channels) for row in rows] == [
        ("0", (), 0), ("0.linear", (8, 8, 8), 8), ("0.unused", (), 0), ("1", (512,), 512), ("2", (4,), 4)
    ]  # fmt: skip
