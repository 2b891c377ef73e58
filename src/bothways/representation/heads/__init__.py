"""Heads: what makes logits of the features of pictures, (B,D) -> (B,classes).

A head is a function (width_in: int, classes: int, **options) -> nn.Module; each is a file here. One of your own is
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
    """The head of a name, of PATH.py:NAME, or itself. Raises UserError for one that is not known."""
    return registry.find("head", name).factory


def last_linear(head: nn.Module) -> str:
    """The name of the last linear layer inside a head; "" for the head itself, where it is one or has none."""
    return next((name for name, part in reversed(list(head.named_modules())) if isinstance(part, nn.Linear)), "")
