"""Folded batch normalisations: the same function in float64, by autograd of the original, and when none is made."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bothways.numerics.folding import folded


def normalised(channels: int) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(channels).double()
    for value in made.state_dict().values():
        if value.is_floating_point():
            value.uniform_(0.5, 2)
    return made


class Block(nn.Module):
    """Two convolutions with their normalisations, the first within a container of its own; and a sum around them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False).double())
        self.norm = normalised(8)
        self.second = nn.Conv2d(8, 8, 3, padding=1, groups=2).double()
        self.after = normalised(8)
        self.head = nn.Linear(8, 5).double()

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.first(x)).relu()
        return self.head((y + self.after(self.second(y))).mean((2, 3)))


class Branched(nn.Module):
    """What the convolution gives is read beside its normalisation too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3).double(), normalised(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return (self.norm(y) + y).mean((2, 3))


class Standardised(nn.Conv2d):
    """Its weight is standardised at every call, so that no factor of it counts."""

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.weight - self.weight.mean((1, 2, 3), keepdim=True)) / self.weight.std((1, 2, 3), keepdim=True)
        return nn.functional.conv2d(x, weight, self.bias)


class Twice(nn.Module):
    """One convolution before two normalisations."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one, self.two = nn.Conv2d(3, 4, 3).double(), normalised(4), normalised(4)

    def forward(self, x: Tensor) -> Tensor:
        return (self.one(self.conv(x)) + self.two(self.conv(x))).mean((2, 3))


class Uncopied(Block):
    def __deepcopy__(self, memo: Any) -> Any:
        raise TypeError("this module cannot be copied")


@pytest.fixture
def x() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 3, 12, 12, dtype=torch.float64)


def test_same_function_and_gradient(x: Tensor) -> None:
    module = Block().train()
    kept = {name: value.clone() for name, value in module.state_dict().items()}
    found = folded(module, x)
    assert found is not None
    assert module.training
    assert all(torch.equal(value, kept[name]) for name, value in module.state_dict().items())
    assert not any(isinstance(part, nn.BatchNorm2d) for part in found.module.modules())
    seen = x.clone().requires_grad_()
    module.eval()
    (expected,) = torch.autograd.grad(module(seen).square().sum(), seen)
    (made,) = torch.autograd.grad(found.module.eval()(seen).square().sum(), seen)
    assert (module(x) - found.module(x)).abs().max() < 1e-12
    assert not found.module.training
    assert (expected - made).abs().max() < 1e-12


def test_names_what_is_changed(x: Tensor) -> None:
    found = folded(Block(), x)
    assert found is not None
    assert found.changed == {"first", "first.0", "norm:input", "second", "after:input"}


def test_shares_what_it_does_not_change(x: Tensor) -> None:
    module = Block()
    found = folded(module, x)
    assert found is not None
    made: Any = found.module
    assert made.head.weight is module.head.weight
    assert made.second.weight is not module.second.weight


@pytest.mark.parametrize("module", [Branched(), Twice(), Uncopied(), nn.Sequential(nn.Conv2d(3, 4, 3).double())])
def test_none_where_there_is_no_copy_of_the_same_function(module: nn.Module, x: Tensor) -> None:
    assert folded(module, x) is None


def test_none_for_a_weight_that_is_computed(x: Tensor) -> None:
    module = nn.Sequential(Standardised(3, 4, 3).double(), normalised(4))
    assert folded(module, x) is None


def test_none_where_a_hook_keeps_what_it_saw_in_the_original(x: Tensor) -> None:
    class Hooked(Block):
        def __init__(self) -> None:
            super().__init__()
            self.kept = None
            self.head.register_forward_hook(lambda part, given, found: setattr(self, "kept", found))

        def forward(self, x: Tensor) -> Tensor:
            super().forward(x)
            return self.kept

    assert folded(Hooked(), x) is None  # the copy would answer with what the original last gave


def test_none_for_statistics_of_the_batch(x: Tensor) -> None:
    norm = nn.BatchNorm2d(4, track_running_stats=False).double()
    assert folded(nn.Sequential(nn.Conv2d(3, 4, 3).double(), norm), x) is None
