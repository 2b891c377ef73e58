"""Heads: what makes logits of the features of pictures, (B,D) -> (B,classes).

A head is a function (width_in: int, classes: int, **options) -> nn.Module; each is a file here. One of your own is
``PATH.py:NAME`` or a Python object.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bothways import registry
from bothways.types import UserError

HeadFactory = Callable[..., nn.Module]
"""(D, classes) -> the module that maps (B,D) to (B,classes)."""


def head_of(name: Any) -> HeadFactory:
    """The head of a name, of PATH.py:NAME, or itself. Raises UserError for one that is not known."""
    return registry.find("head", name).factory


def built_head(factory: HeadFactory, features: Tensor, classes: int) -> nn.Module:
    """The head of features like these, (1,D). Raises UserError where it gives no (1, classes) of them."""
    head = registry.call("head", factory, features.shape[1], classes)
    name = registry.name_of(factory)
    if not isinstance(head, nn.Module):
        raise UserError(f"head {name!r} gives a {type(head).__name__}; return a torch.nn.Module")
    with torch.no_grad():  # in evaluation, since what normalises over a batch of one would fail
        logits = registry.call("head", head.to(features).eval(), features)
    if not isinstance(logits, Tensor) or logits.shape != (1, classes):
        what = f"a tensor {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise UserError(
            f"head {name!r} gives {what} of features {tuple(features.shape)}; return a module that maps (B,D) to "
            f"(B,{classes})"
        )
    return head.train()


def last_matrix(head: nn.Module) -> str:
    """The name of the last linear layer inside a head; "" for the head itself, where it is one or has none."""
    return next((name for name, part in reversed(list(head.named_modules())) if isinstance(part, nn.Linear)), "")
