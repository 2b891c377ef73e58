"""Batch normalisation with constant statistics, folded into the convolution in front of it: a pass over the maps less.

    N(W x + b) = W' x + b',   W' = s W,   b' = s (b - mean) + beta,   s = gamma / sqrt(variance + eps)

A step of a drawing on a processor is bound by memory, and a normalisation reads and writes its maps twice forward and
twice backward for one product and one sum.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.fusion import fuse_conv_bn_weights

from bothways.numerics.layers import INPUT, running_statistics
from bothways.numerics.modules import evaluating, parts_of

CLOSE = 1e-4  # of the largest output: rounding, where a pair is what it seems
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class Pair(NamedTuple):
    """Dotted names of a convolution and of the normalisation that what it gives enters."""

    convolution: str
    normalisation: str


class Folded(NamedTuple):
    """module: the copy. changed: the layers, as ``recorded`` names them, whose values are not those of the original."""

    module: nn.Module
    changed: frozenset[str]


class _Passed:
    """What a call of a module passed between its parts."""

    def __init__(self) -> None:
        self.entered: dict[str, Tensor] = {}
        self.left: dict[str, Tensor] = {}
        self.calls: dict[str, int] = {}

    @contextmanager
    def seen(self, module: nn.Module) -> Iterator[None]:
        with ExitStack() as hooks:
            for name, part in parts_of(module).items():
                hooks.callback(part.register_forward_pre_hook(self._entering(name)).remove)
                hooks.callback(part.register_forward_hook(self._leaving(name)).remove)
            yield

    def pairs(self, parts: dict[str, nn.Module]) -> list[Pair]:
        """Every normalisation that keeps statistics with the convolution in front of it, each called once."""
        givers = {id(value): name for name, value in self.left.items() if _is_plain(parts[name])}
        found = []
        for name, value in self.entered.items():
            giver = givers.get(id(value))
            once = giver is not None and self.calls[name] == self.calls[giver] == 1
            if once and giver is not None and _keeps_all(parts[name]):
                found.append(Pair(giver, name))
        return found

    def layers_of(self, pairs: list[Pair]) -> frozenset[str]:
        """Every name of what the convolutions of the pairs give."""
        lost = {id(self.left[pair.convolution]) for pair in pairs}
        gone = {name for name, value in self.left.items() if id(value) in lost}
        return frozenset(gone | {name + INPUT for name, value in self.entered.items() if id(value) in lost})

    def _entering(self, name: str) -> Any:
        def keep(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            self.calls[name] = self.calls.get(name, 0) + 1
            if len(inputs) == 1 and isinstance(inputs[0], Tensor):
                self.entered[name] = inputs[0]

        return keep

    def _leaving(self, name: str) -> Any:
        def keep(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, Tensor):
                self.left[name] = output

        return keep


def folded(module: nn.Module, x: Tensor) -> Folded | None:
    """A copy of a module in which batch normalisations are folded; it shares all other tensors with the original.

    x: what the module takes, two pictures or more by which the pairs are found and the copy is checked: its outputs are
    those of the original to ``CLOSE`` of the largest. None where there is no pair, or where the copy cannot be made or
    is not the same function, as with a weight that is computed at every call.
    """
    passed = _Passed()
    try:
        with torch.no_grad(), evaluating(module):
            with passed.seen(module):
                module(x)
            pairs = passed.pairs(parts_of(module))
            if not pairs:
                return None
            made = _copy_of(module, {pair.convolution for pair in pairs})
            for pair in pairs:
                _fold(made, pair)
            other = x.flip(0)  # a hook of the module's may keep in the original what the copy then answers with
            found = made.eval()(other)
            expected = module(other)
    except Exception:  # whatever a module of a user's raises when it is called so, copied, or lacks a part
        return None
    if not (isinstance(found, Tensor) and isinstance(expected, Tensor) and found.shape == expected.shape):
        return None
    near = CLOSE * max(1.0, float(expected.abs().max()))
    same = float((found - expected).abs().max()) <= near
    return Folded(made, passed.layers_of(pairs)) if same else None


def _is_plain(part: nn.Module) -> bool:
    return isinstance(part, CONVOLUTIONS) and not parametrize.is_parametrized(part)


def _keeps_all(part: nn.Module) -> bool:
    """Whether a normalisation has constant statistics and what else the formula reads."""
    return running_statistics(part) is not None and all(hasattr(part, name) for name in ("eps", "weight", "bias"))


def _copy_of(module: nn.Module, convolutions: set[str]) -> nn.Module:
    own = {id(value) for name in convolutions for value in module.get_submodule(name).parameters()}
    shared = {id(value): value for value in (*module.parameters(), *module.buffers()) if id(value) not in own}
    return copy.deepcopy(module, dict(shared))


def _fold(module: nn.Module, pair: Pair) -> None:
    convolution: Any = module.get_submodule(pair.convolution)
    norm: Any = module.get_submodule(pair.normalisation)
    mean, variance = norm.running_mean, norm.running_var
    weight, bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, mean, variance, norm.eps, norm.weight, norm.bias
    )
    convolution.weight, convolution.bias = (nn.Parameter(value.detach(), False) for value in (weight, bias))
    module.set_submodule(pair.normalisation, nn.Identity())
