"""Other layers for a model with the same weights, inside a ``with`` block; its module is left as it is.

relu="softplus"      softplus(x) = log(1 + exp(10 x)) / 10 in place of max(x, 0); ReLU6 is the difference of two
batch_norm="train"   (x - mean) / sqrt(var + eps) by the mean and variance of the batch; none is kept
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bothways.synthesis.dsf.second_order import ReplacedFunctions, batch_norm
from bothways.synthesis.dsf.surrogates import check_choice
from bothways.types import UserError

BETA = 10.0  # sharpness of the softplus: it differs from ReLU by .07 at most
WORDS = {"relu": ('relu="softplus"', "no ReLU"), "batch_norm": ('batch_norm="train"', "no BatchNorm")}


def softplus(x: Tensor, inplace: bool = False) -> Tensor:
    """Drop-in for ``F.relu``; the result is always a new tensor."""
    return F.softplus(x, BETA)


def softplus_(x: Tensor) -> Tensor:
    """Drop-in for ``F.relu_``, which writes its result into x."""
    return x.copy_(softplus(x.clone()))  # autograd keeps the clone, which is not written over


def soft_clamp(x: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """Drop-in for ``F.hardtanh``: the difference of two softpluses."""
    return min_val + softplus(x - min_val) - softplus(x - max_val)


def soft_relu6(x: Tensor, inplace: bool = False) -> Tensor:
    """Drop-in for ``F.relu6``."""
    return soft_clamp(x, 0.0, 6.0)


RELUS: dict[Any, Callable[..., Tensor]] = {
    **dict.fromkeys((F.relu, torch.relu, Tensor.relu), softplus),
    **dict.fromkeys((F.relu_, torch.relu_, Tensor.relu_), softplus_),
    F.relu6: soft_relu6,
    F.hardtanh: soft_clamp,
}
BATCH_NORMS: dict[Any, Callable[..., Tensor]] = {F.batch_norm: batch_norm}


class Substitutes(ReplacedFunctions):
    """Context with the layers by name, see the module. Records which of them the model called."""

    def __init__(self, relu: str, batch_norm: str) -> None:
        check_choice("relu", relu, ("relu", "softplus"))
        check_choice("batch_norm", batch_norm, ("eval", "train"))
        self.chosen = {"relu": RELUS} if relu == "softplus" else {}
        self.chosen |= {"batch_norm": BATCH_NORMS} if batch_norm == "train" else {}
        self.met: set[str] = set()
        super().__init__({func: ours for table in self.chosen.values() for func, ours in table.items()})

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.met |= {name for name, table in self.chosen.items() if func in table}
        return super().__torch_function__(func, types, args, kwargs)

    def used(self) -> AbstractContextManager[Any]:
        """Itself, or nothing where no layer is chosen."""
        return self if self.chosen else nullcontext()

    def check(self, model: str) -> None:
        """Raise UserError for a chosen layer of which the model has none."""
        for name in self.chosen:
            if name not in self.met:
                option, none = WORDS[name]
                raise UserError(f"dsf: {option} changes nothing in model {model!r}, which has {none}; leave it out")
