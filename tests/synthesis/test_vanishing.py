"""An objective without a gradient, and a drawing of no steps, are told in a warning."""

import warnings

import pytest
import torch

import bothways
from bothways import ModelSpec


class Still(torch.nn.Module):
    """A layer whose activation never moves: dead (ReLU) or saturated (sigmoid)."""

    def __init__(self, last: torch.nn.Module, bias: float) -> None:
        super().__init__()
        self.conv, self.last = torch.nn.Conv2d(3, 4, 3), last
        torch.nn.init.constant_(self.conv.bias, bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.conv(x)).mean((2, 3))


SPEC = ModelSpec(size=16, mean=(0.5,) * 3, std=(0.25,) * 3, classes=4)


def draw(module: torch.nn.Module, layer: str, steps: int = 1) -> list[str]:
    model = bothways.load_model(module, spec=SPEC)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        bothways.generate(model, layer=layer, channels=[1], n=2, steps=steps, verdicts=False)
    return [str(one.message) for one in caught]


@pytest.mark.parametrize(("last", "bias"), [(torch.nn.ReLU(), -100.0), (torch.nn.Sigmoid(), 200.0)])
def test_a_vanishing_objective_is_told_and_the_layer_before_has_a_gradient(last, bias):
    told = [line for line in draw(Still(last, bias), "last") if "gradient is zero" in line]
    assert len(told) == 1
    assert "layer last" in told[0]
    assert "2 of 2 pictures" in told[0]
    assert not [line for line in draw(Still(last, bias), "conv") if "gradient is zero" in line]


def test_no_steps_is_told():
    assert [line for line in draw(Still(torch.nn.ReLU(), 0.0), "conv", 0) if line.startswith("--steps 0")]
