"""The norm of every picture's parameter gradient by layers, differentiated in the picture without that gradient.

    ||dW||^2 = sum_p,q <a_p, a_q> <d_p, d_q> = || sum_p d_p a_p^T ||^2       of a convolution or a linear map,

a_p: what it sees of the picture for its output at place p, d_p: the gradient of l there. The first form needs the Gram
matrices of the places alone and is taken where they are few; in both the derivatives are products of matrices. Each
picture is a row of one ordinary batch, so that no layer has weights of its own for every picture, as it has under vmap:
those passes are a third of all and the slowest.

It holds of parameters that are used once, by a convolution, a linear map or batch normalisation in eval mode, and of
distances that are functions of norms: ``by_layers_of``.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor
from torch._C import DisableTorchFunction

from bothways.synthesis.dsf.engines import OUT_OF_REACH, Engine, Slopes, gradients, unfused
from bothways.synthesis.dsf.layers import BatchNorm, Convolution, Layer, Linear
from bothways.synthesis.dsf.second_order import BY_LAYERS, ReplacedFunctions, pair_of, scale_and_shift
from bothways.synthesis.dsf.surrogates import SMALL, Loss, Named, by_module
from bothways.synthesis.dsf.windows import Window
from bothways.types import UserError

DISTANCES = ("norm", "log", "layers")
ASKED_ONLY = ("__get__", "dim", "size", "is_floating_point")  # what reads facts of a parameter, and not its numbers
_KNOWN: WeakKeyDictionary[Any, dict[tuple[str, ...], bool]] = WeakKeyDictionary()
"""{model: {(layer, names of theta): whether it holds of them}}, since asking takes a forward pass."""


class _Noted(torch.autograd.Function):
    """A layer whose backward pass notes the norms of its parameters' gradients, with their graph.

    anchor: a leaf that every layer depends on: the gradient in it goes back to the first of them and no further.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, anchor: Tensor, layer: Layer, notes: Notes) -> Tensor:
        ctx.save_for_backward(x)
        ctx.layer, ctx.notes = layer, notes
        return layer.forward(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (x,), layer, notes = ctx.saved_tensors, ctx.layer, ctx.notes
        with DisableTorchFunction():
            if not notes.open:
                return (layer.back(grads[0]) if ctx.needs_input_grad[0] else None), None, None, None
            back, *found = _Back.apply(x, grads[0], layer)
        notes.note(layer, found)
        return back, notes.nothing, None, None


class _Back(torch.autograd.Function):
    """(x, d) -> A^T d, and the squared norms of each picture."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, d: Tensor, layer: Layer) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        back = layer.back(d)
        found, ctx.kept = layer.squares(x, d)
        ctx.layer = layer
        return back, *found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        kept, ctx.kept = ctx.kept, None
        with DisableTorchFunction():
            return *ctx.layer.slopes(grads[0], grads[1:], kept), None


class Notes(ReplacedFunctions):
    """Context in which the layers with a parameter of theta note what its gradient is made of.

    otherwise: whether such a parameter was used in another way, or again.
    """

    def __init__(self, theta: Named, like: Tensor) -> None:
        super().__init__({torch.conv2d: self._conv2d, F.linear: self._linear, F.batch_norm: self._batch_norm})
        self.names = {id(value): name for name, value in theta.items()}
        self.used: set[str] = set()
        self.squares: dict[str, Tensor] = {}
        self.pictures, self.open, self.otherwise = len(like), True, False
        self.nothing = like.new_zeros(())
        self.anchor = torch.zeros_like(self.nothing).requires_grad_()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = (*args, *(kwargs or {}).values())
        inside = (one for some in given if isinstance(some, list | tuple) for one in some)
        found = {self.names[id(one)] for one in (*given, *inside) if id(one) in self.names}
        result = super().__torch_function__(func, types, args, kwargs)
        if func in self.ours:
            self.otherwise |= bool(self.used & found)
            self.used |= found
        elif found and (func.__name__ not in ASKED_ONLY or isinstance(result, Tensor)):
            self.otherwise = True
        return result

    def note(self, layer: Layer, found: Sequence[Tensor]) -> None:
        self.squares.update(zip(filter(None, layer.names), found, strict=True))

    def taken(self) -> dict[str, Tensor]:
        """{parameter: its squared norm (n,)}, and no more notes: a graph that held them would hold itself."""
        found, self.squares, self.open = self.squares, {}, False
        return found

    def _conv2d(
        self, x: Tensor, w: Tensor, b: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
    ) -> Tensor:
        if x.ndim != 4 or isinstance(padding, str):
            self.otherwise = True
            return F.conv2d(x, w, b, stride, padding, dilation, groups)
        stride, padding, dilation = map(pair_of, (stride, padding, dilation))
        window = Window((w.shape[2], w.shape[3]), stride, padding, dilation, groups)
        layer = Convolution(*self._asked(w, b), window, (x.shape[2], x.shape[3]))
        if x.is_contiguous(memory_format=torch.channels_last):  # once, and not at each of its four passes
            layer = replace(layer, weight=w.detach().contiguous(memory_format=torch.channels_last))
        return self._noted(x, layer)

    def _linear(self, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        return self._noted(x, Linear(*self._asked(w, b)))

    def _batch_norm(
        self, x: Tensor, mean: Any, variance: Any, weight: Any, bias: Any, training: bool, momentum: Any, eps: float
    ) -> Tensor:
        if training or mean is None or variance is None:
            self.otherwise = True
            return F.batch_norm(x, mean, variance, weight, bias, training, momentum, eps)
        scale_shift = scale_and_shift(mean, variance, weight, bias, eps)
        return self._noted(x, BatchNorm(*self._asked(weight, bias), mean, (variance + eps).sqrt(), *scale_shift))

    def _asked(self, weight: Any, bias: Any) -> tuple[Any, Any, tuple[str | None, str | None], int]:
        return weight, bias, (self.names.get(id(weight)), self.names.get(id(bias))), self.pictures

    def _noted(self, x: Tensor, layer: Layer) -> Tensor:
        self.otherwise |= torch.is_autocast_enabled(x.device.type)
        self.otherwise |= torch.is_grad_enabled() and not x.requires_grad  # of no picture: nothing goes back to it
        with DisableTorchFunction():  # PyTorch's own, which need no graph
            return _Noted.apply(x, self.anchor, layer, self)


# ---- the engine ----------------------------------------------------------------------------------------------------


def by_layers(loss: Loss, live: Tensor, answer: Tensor, each: bool = False) -> Slopes:
    """The slopes of every picture of a batch, live (n,c,3,H,W) and answer (n,k,D), and ||g|| (n,)."""
    with Notes(loss.theta, live) as noted:
        values = loss.measure(loss.read(loss.theta, live), answer)
    if noted.otherwise:
        raise RuntimeError("a parameter is used in another way than when it was asked")  # each picture alone, then
    torch.autograd.grad(values.mean(1).sum(), noted.anchor, create_graph=True, allow_unused=True)
    squares = noted.taken()
    if not squares:
        raise UserError(OUT_OF_REACH)
    groups = by_module(squares) if loss.distance == "layers" else [squares]
    totals = [torch.stack(list(group.values())).sum(0) for group in groups]
    lengths = [total.detach() + SMALL for total in totals]
    weights = [0.5 / (length if loss.distance == "log" else length.sqrt()) for length in lengths]
    in_live, in_answer = gradients(totals, weights, (live, answer))
    return in_live, in_answer, torch.stack(totals).sum(0).detach().sqrt()


def _in_batches(_: bool) -> ExitStack:
    stack = ExitStack()
    stack.enter_context(unfused(_))
    stack.enter_context(ReplacedFunctions(BY_LAYERS))
    return stack


LAYERED = Engine(by_layers, _in_batches)


def by_layers_of(loss: Loss, image: Tensor) -> bool:
    """Whether the score of pictures can be taken by layers: ``LAYERED`` in place of ``double_backward``."""
    if loss.distance not in DISTANCES or loss.clip is not None:
        return False
    try:
        known = _KNOWN.setdefault(loss.model, {})
    except TypeError:  # a model of the user's that has no hash
        known = {}
    key = (loss.layer, *loss.theta)
    if key not in known:
        known[key] = _used_by_layers(loss, image)
    return known[key]


@torch.no_grad()
def _used_by_layers(loss: Loss, image: Tensor) -> bool:
    with Notes(loss.theta, image) as noted:
        loss.read(loss.theta, image[:1, None])
    return not noted.otherwise
