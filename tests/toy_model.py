"""Small models that a user might hand over, good and bad ones: the address of each is PATH/toy_model.py:FUNCTION."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from bothways import ModelSpec

NAMES = ("anchor", "barrel", "candle", "dragon")
MEAN, STD = (0.5, 0.45, 0.4), (0.25, 0.25, 0.3)
CALLS_BEFORE_NAN = 8  # four looks before the run begins, and four steps


class Toy(nn.Module):
    """(B,3,H,W) -> (B,4), two convolutions with batch normalisation."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        first = [nn.Conv2d(channels, 6, 3, 1, 1, bias=False), nn.BatchNorm2d(6), nn.SiLU()]
        second = [nn.Conv2d(6, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.SiLU()]
        self.body = nn.Sequential(*first, *second)
        self.head = nn.Linear(8, len(NAMES))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


class Broken(nn.Module):
    """Good for some calls, not a number after that."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.calls = seeded(), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.inner(x) * (1.0 if self.calls <= CALLS_BEFORE_NAN else torch.nan)


class Particular(nn.Module):
    """Refuses other sizes by a ValueError, as transformer libraries do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = seeded()

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1] != 16:
            raise ValueError(f"Input image width ({x.shape[-1]}) doesn't match model (16)")
        return self.inner(x)


def seeded(channels: int = 3, seed: int = 11) -> nn.Module:
    """The same weights every time, and BatchNorm statistics that are not 0 and 1."""
    with torch.random.fork_rng():
        torch.random.manual_seed(seed)
        module = Toy(channels)
        for norm in (m for m in module.modules() if isinstance(m, nn.BatchNorm2d)):
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.5, 1.5)
        module.head.weight.data.mul_(4)  # so that a few steps change what is seen
    return module


def spec(size: int = 16) -> ModelSpec:
    return ModelSpec(size=size, mean=MEAN, std=STD, classes=NAMES, feature_layer="body")


def build() -> tuple[nn.Module, ModelSpec]:
    return seeded(), spec()


def other() -> tuple[nn.Module, ModelSpec]:
    return seeded(seed=12), spec()


def broken() -> tuple[nn.Module, ModelSpec]:
    return Broken(), replace(spec(), feature_layer=None)


def particular() -> tuple[nn.Module, ModelSpec]:
    return Particular(), replace(spec(), feature_layer=None)


def one_channel() -> tuple[nn.Module, ModelSpec]:
    return seeded(channels=1), spec()


def flat() -> tuple[nn.Module, ModelSpec]:
    facts = ModelSpec(size=16, mean=MEAN, std=STD, classes=NAMES)
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 4)), facts


def with_text() -> tuple[nn.Module, ModelSpec, Callable[[list[str]], Tensor]]:
    return seeded(), replace(spec(), classes=0), lambda prompts: torch.eye(4)[[len(prompt) % 4 for prompt in prompts]]


def without_norms() -> tuple[nn.Module, ModelSpec]:
    return flat()


def too_few_classes() -> tuple[nn.Module, ModelSpec]:
    return seeded(), ModelSpec(size=16, mean=MEAN, std=STD, classes=9)


def without_spec() -> nn.Module:
    return seeded()


def fails() -> tuple[nn.Module, ModelSpec]:
    raise KeyError("a mistake of mine")
