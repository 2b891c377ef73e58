"""Which layers of a classifier are measured, and which is its head."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from bothways.numerics.layers import running_statistics
from bothways.numerics.modules import parts_of


def normalised_layers(parts: Mapping[str, nn.Module]) -> list[str]:
    """What enters the normalisations, "NAME:input" each; where there are none, what leaves the convolutions."""
    norms = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
    inputs = [f"{name}:input" for name, part in parts.items() if isinstance(part, norms) or running_statistics(part)]
    return inputs or [name for name, part in parts.items() if isinstance(part, nn.Conv2d)]


def head_of(module: nn.Module, outputs: int) -> tuple[str, Tensor] | None:
    """("NAME:input", rows (outputs, D)) of the last linear map or 1x1 convolution with a row an output, if any."""
    found = None
    for name, part in parts_of(module).items():
        if not isinstance(part, nn.Linear | nn.Conv2d) or getattr(part, "kernel_size", (1, 1)) != (1, 1):
            continue
        if len(part.weight) == outputs:
            found = f"{name}:input", part.weight.detach().flatten(1)
    return found
