"""Classification heads: features (B,D) -> logits (B,classes).

A head is a function (width_in: int, classes: int, **options) -> nn.Module; each is a file here. A custom one is
``PATH.py:NAME`` or a Python object.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from bothways import registry

HeadFactory = Callable[..., nn.Module]
"""(D, classes) -> the module that maps (B,D) to (B,classes)."""


def head_of(name: Any) -> HeadFactory:
    """Head factory from a name, PATH.py:NAME or a callable. Raises UserError for an unknown name."""
    return registry.find("head", name).factory


def last_linear(head: nn.Module) -> str:
    """Name of the last linear layer inside a head; "" for the head itself, if it is linear or has none."""
    return next((name for name, part in reversed(list(head.named_modules())) if isinstance(part, nn.Linear)), "")
