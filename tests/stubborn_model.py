"""Models that end the process that they are in, or never end: PATH/stubborn_model.py:FUNCTION."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace

from torch import Tensor, nn

from bothways import ModelSpec
from toy_model import seeded, spec

CALLS = 7  # that it makes well: four looks before the run begins, and three steps


class Stuck(nn.Module):
    """Good for some calls, then it never comes back. deaf: not even when it is interrupted."""

    def __init__(self, deaf: bool) -> None:
        super().__init__()
        self.inner, self.deaf, self.calls = seeded(), deaf, 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        while self.calls > CALLS:
            try:
                time.sleep(0.01)
            except KeyboardInterrupt:
                if not self.deaf:
                    raise
        return self.inner(x)


def facts() -> ModelSpec:
    return replace(spec(), feature_layer=None)


def stuck() -> tuple[nn.Module, ModelSpec]:
    return Stuck(deaf=False), facts()


def deaf() -> tuple[nn.Module, ModelSpec]:
    return Stuck(deaf=True), facts()


def never() -> tuple[nn.Module, ModelSpec]:
    while True:
        pass


def leaves() -> tuple[nn.Module, ModelSpec]:
    raise SystemExit("I leave")


def leaves_in_time() -> tuple[nn.Module, ModelSpec]:
    class Leaving(Stuck):
        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return self.inner(x) if self.calls <= CALLS else sys.exit(3)

    return Leaving(deaf=False), facts()


def falls() -> tuple[nn.Module, ModelSpec]:
    os._exit(7)
