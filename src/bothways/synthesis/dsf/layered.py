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

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from bothways.synthesis.dsf.engines import OUT_OF_REACH, Engine, Slopes, gradients, unfused
from bothways.synthesis.dsf.second_order import BY_LAYERS, ReplacedFunctions, pair_of, scale_and_shift, transposed
from bothways.synthesis.dsf.squares import ByGrams, ByWeights, Square, Sums, Window, of_vectors
from bothways.synthesis.dsf.surrogates import SMALL, Loss, Named, by_module
from bothways.types import UserError

DISTANCES = ("norm", "log", "layers")
ASKED_ONLY = ("__get__", "dim", "size", "is_floating_point")  # what reads facts of a parameter, and not its numbers
Squares = Callable[[Tensor, Tensor, int], Named]
"""(input, gradient in the output, pictures) -> {parameter: its squared norm, (pictures,)}."""
_KNOWN: WeakKeyDictionary[Any, dict[tuple[str, ...], bool]] = WeakKeyDictionary()
"""{model: {(layer, names of theta): whether it holds of them}}, since asking takes a forward pass."""


# ---- layers --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Layer:
    """A layer with parameters: its map, the transpose of it, and the norms of its parameters' gradients."""

    forward: Callable[[Tensor], Tensor]
    back: Callable[[Tensor], Tensor]
    squares: Squares
    noted: Notes


class _Noted(torch.autograd.Function):
    """A layer that notes its input and the gradient in its output, with the graph of both.

    anchor: a leaf that every layer depends on: the gradient in it goes back to the first of them and no further.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, anchor: Tensor, layer: _Layer) -> Tensor:
        ctx.save_for_backward(x, anchor)
        ctx.layer = layer
        return layer.forward(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, None]:
        (x, anchor), layer = ctx.saved_tensors, ctx.layer
        layer.noted.note(layer.squares, x, grads[0])
        return (layer.back(grads[0]) if ctx.needs_input_grad[0] else None), torch.zeros_like(anchor), None


class Notes(ReplacedFunctions):
    """Context in which the layers with a parameter of theta note what its gradient is made of.

    otherwise: whether such a parameter was used in another way, or again.
    """

    def __init__(self, theta: Named, like: Tensor) -> None:
        super().__init__({torch.conv2d: self._conv2d, F.linear: self._linear, F.batch_norm: self._batch_norm})
        self.names = {id(value): name for name, value in theta.items()}
        self.used: set[str] = set()
        self.notes: list[tuple[Squares, Tensor, Tensor]] = []
        self.open, self.otherwise = True, False
        self.anchor = like.new_zeros(()).requires_grad_()

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

    def note(self, squares: Squares, x: Tensor, d: Tensor) -> None:
        if self.open:
            self.notes.append((squares, x, d))

    def taken(self) -> list[tuple[Squares, Tensor, Tensor]]:
        """The notes, which are closed: a graph that held them and that they hold would wait for the next sweep."""
        found, self.notes, self.open = self.notes, [], False
        return found

    def _conv2d(
        self, x: Tensor, w: Tensor, b: Any = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1, groups: int = 1
    ) -> Tensor:
        if x.ndim != 4 or isinstance(padding, str):
            self.otherwise = True
            return F.conv2d(x, w, b, stride, padding, dilation, groups)
        weight, bias, size = self.names.get(id(w)), self.names.get(id(b)), x.shape[2:]
        stride, padding, dilation = map(pair_of, (stride, padding, dilation))
        window = Window((w.shape[2], w.shape[3]), stride, padding, dilation, groups)

        def squares(x: Tensor, d: Tensor, pictures: int) -> Named:
            found = {} if bias is None else {bias: of_vectors(d.sum((2, 3)), pictures)}
            if weight is None:
                return found
            grams = len(x) == pictures and window.by_grams(x.shape, d.shape)
            x, d = (part.permute(0, 2, 3, 1) for part in (x, d))
            own = ByGrams.apply(x, d, window) if grams else ByWeights.apply(x, d, window, pictures)
            return {**found, weight: own}

        return self._noted(
            x,
            lambda x: F.conv2d(x, w, b, stride, padding, dilation, groups),
            lambda d: transposed(d, w, size, stride, padding, dilation, groups),
            squares,
        )

    def _linear(self, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
        weight, bias = self.names.get(id(w)), self.names.get(id(b))

        def squares(x: Tensor, d: Tensor, pictures: int) -> Named:
            x, d = (part.reshape(pictures, -1, part.shape[-1]) for part in (x, d))  # of all its views
            found = {} if bias is None else {bias: of_vectors(d.sum(1), pictures)}
            return found if weight is None else {**found, weight: Square.apply(x, d)}

        return self._noted(x, lambda x: F.linear(x, w, b), lambda d: d @ w, squares)

    def _batch_norm(
        self, x: Tensor, mean: Any, variance: Any, weight: Any, bias: Any, training: bool, momentum: Any, eps: float
    ) -> Tensor:
        if training or mean is None or variance is None:
            self.otherwise = True
            return F.batch_norm(x, mean, variance, weight, bias, training, momentum, eps)
        w, b = self.names.get(id(weight)), self.names.get(id(bias))
        scale, shift = (
            part.reshape(-1, *[1] * (x.ndim - 2)) for part in scale_and_shift(mean, variance, weight, bias, eps)
        )

        def squares(x: Tensor, d: Tensor, pictures: int) -> Named:
            plain, with_x = Sums.apply(d, x)
            found = {} if b is None else {b: of_vectors(plain, pictures)}
            if w is None:
                return found
            return {**found, w: of_vectors((with_x - mean * plain) * (variance + eps).rsqrt(), pictures)}

        return self._noted(x, lambda x: torch.addcmul(shift, x, scale), lambda d: d * scale, squares)

    def _noted(
        self, x: Tensor, forward: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor], squares: Squares
    ) -> Tensor:
        self.otherwise |= torch.is_autocast_enabled(x.device.type)
        self.otherwise |= torch.is_grad_enabled() and not x.requires_grad  # of no picture: nothing goes back to it
        return _Noted.apply(x, self.anchor, _Layer(forward, back, squares, self))


# ---- the engine ----------------------------------------------------------------------------------------------------


def by_layers(loss: Loss, live: Tensor, answer: Tensor, each: bool = False) -> Slopes:
    """The slopes of every picture of a batch, live (n,c,3,H,W) and answer (n,k,D), and ||g|| (n,)."""
    with Notes(loss.theta, live) as noted:
        values = loss.measure(loss.read(loss.theta, live), answer)
    if noted.otherwise:
        raise RuntimeError("a parameter is used in another way than when it was asked")  # each picture alone, then
    torch.autograd.grad(values.mean(1).sum(), noted.anchor, create_graph=True, allow_unused=True)
    squares = {name: own for of, x, d in noted.taken() for name, own in of(x, d, len(live)).items()}
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
