"""Channels and layers as wishes, against what a model of known activations must give."""

import pytest
import torch
from torch import Tensor, nn

from bothways.models.adapter import Adapter
from bothways.numerics.draws import Draws
from bothways.synthesis.das import toward
from bothways.synthesis.objectives.layers import channel_activation, layer_energy
from bothways.synthesis.views import Views
from bothways.synthesis.views.noise import Noise
from bothways.types import ModelSpec, UserError

MIX = torch.tensor([[1.0, 0, 0], [0, 2, 0], [0, 0, -3], [1, 1, 1]], dtype=torch.float64)  # four channels of R, G, B


class Tokens(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        return maps.flatten(2).transpose(1, 2)


class Known(nn.Module):
    """maps (B,4,H,W) = MIX times the colours, tokens (B,HW,4) the same, and four outputs, their means."""

    def __init__(self) -> None:
        super().__init__()
        self.maps = nn.Conv2d(3, 4, 1, bias=False, dtype=torch.float64)
        self.maps.weight.data = MIX[:, :, None, None]
        self.tokens = Tokens()

    def forward(self, x: Tensor) -> Tensor:
        return self.tokens(self.maps(x)).mean(1)


@pytest.fixture
def model() -> Adapter:
    return Adapter(Known(), ModelSpec(6, (0.0,) * 3, (1.0,) * 3, 4), name="known")


def pictures(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("layer", ["maps", "tokens", "outputs", "tokens:input"])
def test_each_picture_is_asked_for_its_own_channel(model: Adapter, layer: str) -> None:
    image, channels = pictures(), torch.tensor([2, 0, 3])
    colours = image.mean((2, 3))
    wanted = torch.stack([-3 * colours[0, 2], colours[1, 0], colours[2].sum()])
    assert (channel_activation(model, layer, channels)(image) - wanted).abs().max() < 1e-14


def test_the_energy_of_a_layer_is_its_mean_square(model: Adapter) -> None:
    image = pictures()
    r, g, b = image.unbind(1)
    wanted = (r**2 + 4 * g**2 + 9 * b**2 + (r + g + b) ** 2).mean((1, 2)) / 4
    for layer in ("maps", "tokens"):
        assert (layer_energy(model, layer)(image) - wanted).abs().max() < 1e-13
    outputs = image.mean((2, 3)) @ MIX.T
    assert (layer_energy(model, "outputs")(image) - outputs.square().mean(1)).abs().max() < 1e-14


@pytest.mark.parametrize("make", [lambda m: channel_activation(m, "maps", torch.tensor([1, 1, 1])),
                                  lambda m: layer_energy(m, "maps")])  # fmt: skip
def test_the_value_is_the_mean_over_the_copies_of_a_picture_and_the_gradient_its_own(model: Adapter, make) -> None:
    term, image = make(model), pictures()
    seen = Views(5, [Noise(0.01)])(image, Draws([1, 2, 3]), 0.0)
    term_values = term.measure(model.features(seen, ["maps"]), 3)
    each = [term.measure(model.features(seen.view(3, 5, 3, 6, 6)[:, j], ["maps"]), 3) for j in range(5)]
    assert (term_values - torch.stack(each).mean(0)).abs().max() < 1e-13
    direction = toward(term, Draws([1, 2, 3]))(image, torch.zeros(3))
    if term.name.startswith("channel"):
        wanted = torch.zeros_like(image)
        wanted[:, 1] = 2 / 36
    else:
        r, g, b = image.unbind(1)
        wanted = torch.stack([r + r + g + b, 4 * g + r + g + b, 9 * b + r + g + b], 1) * 2 / (4 * 36)
    assert (direction - wanted).abs().max() < 1e-14


def test_terms_of_one_layer_add(model: Adapter) -> None:
    image, channels = pictures(), torch.tensor([0, 1, 2])
    parts = channel_activation(model, "maps", channels), layer_energy(model, "maps")
    total = (2.0 * parts[0] + 0.5 * parts[1])(image)
    assert (total - 2 * parts[0](image) - 0.5 * parts[1](image)).abs().max() < 1e-13


def test_mistakes_are_told(model: Adapter) -> None:
    image, channels = pictures(), torch.tensor([0, 1, 2])
    with pytest.raises(UserError, match=r"no layer 'map'; the nearest are maps"):
        channel_activation(model, "map", channels)(image)
    with pytest.raises(UserError, match=r"no layer 'map'; the nearest are maps"):
        layer_energy(model, "map")(image)
    with pytest.raises(UserError, match=r"'maps' has 4 channels and none is number 4; type 0 to 3"):
        channel_activation(model, "maps", torch.tensor([0, 4, 1]))(image)
    for bad in (torch.tensor([0, -1, 2]), torch.tensor([0.0, 1, 2]), torch.tensor([[0, 1]])):
        with pytest.raises(UserError, match="one integer from 0 per picture"):
            channel_activation(model, "maps", bad)
