"""The loss: its number in closed form, and that what it learns is the mean velocity."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bothways import registry
from bothways.models.velocity import Flow
from bothways.representation.flow_matching import flow_matching
from bothways.representation.paths import path_of
from bothways.types import Flow as FlowProtocol
from bothways.types import ModelSpec


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_loss_of_a_zero_field_is_half_the_square_of_the_velocity() -> None:
    x, z = drawn(5, 3, 4, 4), drawn(5, 3, 4, 4, seed=1)
    t = torch.linspace(0, 1, 5, dtype=torch.float64)
    found = flow_matching(lambda x, t: torch.zeros_like(x), path_of("linear"), x, z, t)
    assert (found - (x - z).square().sum(1).mean((1, 2)) / 2).abs().max() < 1e-12


@pytest.mark.parametrize("name", registry.names("path"))
def test_the_true_velocity_has_no_loss(name: str) -> None:
    x, z = drawn(4, 3, 2, 2), drawn(4, 3, 2, 2, seed=1)
    t = torch.tensor([0.1, 0.4, 0.7, 0.95], dtype=torch.float64)
    weights = [w.view(-1, 1, 1, 1) for w in path_of(name)(t)]
    assert flow_matching(lambda *_: weights[2] * x + weights[3] * z, path_of(name), x, z, t).max() < 1e-24


@pytest.mark.parametrize("name", registry.names("path"))
def test_least_squares_finds_the_mean_velocity_of_a_gaussian(name: str) -> None:
    """Data N(0, d^2): v(x, t) = (a' a d^2 + s' s) / (a^2 d^2 + s^2) x."""
    count, deviation = 200_000, 0.5
    x, z = deviation * drawn(count, 1, 1, 1), drawn(count, 1, 1, 1, seed=1)
    t = torch.full((count,), 0.6, dtype=torch.float64)
    a, s, da, ds = (float(weight[0]) for weight in path_of(name)(t))
    truth = (da * a * deviation**2 + ds * s) / (a**2 * deviation**2 + s**2)
    slope = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([slope], max_iter=20)

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = flow_matching(lambda x, t: slope * x, path_of(name), x, z, t).mean()
        value.backward()
        return value

    optimizer.step(loss)
    assert abs(slope.item() - truth) < 0.01 * (1 + abs(truth))


def test_half_precision_of_the_network_does_not_reach_the_loss() -> None:
    x, z = drawn(4, 3, 2, 2).float(), drawn(4, 3, 2, 2, seed=1).float()
    t = torch.rand(4)
    found = flow_matching(lambda x, t: (x - z).bfloat16(), path_of("linear"), x, z, t)
    assert found.dtype == torch.float32


class Seen(nn.Module):
    """Keeps the times it was asked for, and answers with its input."""

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        self.time = time
        return x


def test_a_flow_scales_time_and_goes_to_its_own_units_and_back() -> None:
    spec = ModelSpec(size=4, mean=(0.5,) * 3, std=(0.25,) * 3, classes=0, time_scale=1000.0, path="linear")
    flow = Flow(Seen(), spec)
    assert isinstance(flow, FlowProtocol)
    image = torch.rand(2, 3, 4, 4, dtype=torch.float64)
    assert (flow.picture(flow.code(image)) - image).abs().max() < 1e-15
    assert (flow.code(image) - (image - 0.5) / 0.25).abs().max() < 1e-15
    flow(flow.code(image), torch.tensor([0.0, 0.5]))
    assert flow.network.time.tolist() == [0.0, 500.0]
    assert not flow.state_dict()


def test_a_grey_flow_sees_one_channel_and_gives_three() -> None:
    spec = ModelSpec(size=4, mean=(0.5,) * 3, std=(0.5,) * 3, classes=0, channel_order="grey", path="linear")
    flow = Flow(Seen(), spec)
    grey = torch.rand(2, 1, 4, 4, dtype=torch.float64).expand(-1, 3, -1, -1)
    assert flow.code(grey).shape == (2, 1, 4, 4)
    assert (flow.picture(flow.code(grey)) - grey).abs().max() < 1e-15
