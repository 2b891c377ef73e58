"""Classification heads: features (B,D) -> logits (B,classes).

A head is a function (width_in: int, classes: int, **options) -> nn.Module; each is a file here. A custom one is
``PATH.py:NAME`` or a Python object.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bothways import registry
from bothways.faults import call
from bothways.numerics.modules import is_finite
from bothways.types import UserError

HeadFactory = Callable[..., nn.Module]
"""(D, classes) -> the module that maps (B,D) to (B,classes)."""


def head_of(name: Any) -> HeadFactory:
    """Head factory from a name, PATH.py:NAME or a callable. Raises UserError for an unknown name."""
    return registry.find("head", name).factory


def built_head(factory: HeadFactory, features: Tensor, classes: int) -> nn.Module:
    """Build the head of features (1,D). Raises UserError if it does not map them to (1,classes)."""
    name = registry.name_of(factory)
    if isinstance(factory, nn.Module):
        raise UserError(f"head {name!r} is a module already; give what builds one, a function of (width, classes)")
    if not is_finite(features):
        raise UserError(
            "the features that the head reads are not finite; look at the flow's weights, and at a solver or a path of "
            "your own"
        )
    head = call("head", factory, features.shape[1], classes)
    if not isinstance(head, nn.Module):
        raise UserError(f"head {name!r} gives a {type(head).__name__}; return a torch.nn.Module")
    with torch.no_grad():  # in eval mode: normalisation over a batch of one would fail
        if not features.is_meta and any(value.is_meta for value in head.state_dict().values()):
            raise UserError(f"head {name!r} has parameters on meta, which have no numbers; build them on the CPU")
        logits = call("head", head.to(features).eval(), features)
    if not isinstance(logits, Tensor) or logits.shape != (1, classes):
        what = f"a tensor {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise UserError(
            f"head {name!r} gives {what} of features {tuple(features.shape)}; return a module that maps (B,D) to "
            f"(B,{classes})"
        )
    if not logits.is_floating_point() or not is_finite(logits):
        raise UserError(f"head {name!r} gives {logits.dtype} that are not finite floats; mend what builds it")
    return head.train()


def last_linear(head: nn.Module) -> str:
    """Name of the last linear layer inside a head; "" for the head itself, if it is linear or has none."""
    return next((name for name, part in reversed(list(head.named_modules())) if isinstance(part, nn.Linear)), "")
