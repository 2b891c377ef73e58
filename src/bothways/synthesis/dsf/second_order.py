"""Twice-differentiable layers that replace PyTorch's own inside a ``with`` block.

    convolution       y = W * x + b,   dW = x * dy and dx = W^T * dy as two operations
    normalisation     y = (x - mean) / sqrt(var + eps) * weight + bias

PyTorch 2.13 treats mean and variance of its fused layer and instance normalisation as constants in reverse over forward
mode, and under vmap in reverse over reverse: the gradient is wrong by up to half its size and more, without an error.
Group normalisation fails in forward mode on channels-last maps. And the backward pass of a convolution is always
differentiated in W too, needed or not, which costs a tenth of the time, and with groups far more: a loop over them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

Pair = tuple[int, int]


# ---- convolution ---------------------------------------------------------------------------------------------------


class _Convolution(torch.autograd.Function):
    """Convolution whose backward pass is two separate operations, so that only the needed one is differentiated."""

    @staticmethod
    def forward(
        x: Tensor, w: Tensor, b: Tensor | None, stride: Pair, padding: Pair, dilation: Pair, groups: int
    ) -> Tensor:
        return F.conv2d(x, w, b, stride, padding, dilation, groups)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        x, w, _, *ctx.how = inputs
        ctx.save_for_backward(x, w)

    @staticmethod
    def vmap(info: Any, in_dims: Any, x: Tensor, w: Tensor, b: Tensor | None, *how: Any) -> tuple[Tensor, int]:
        if in_dims[0] is None or any(dim is not None for dim in in_dims[1:]):  # weights of their own
            return torch.func.vmap(lambda *given: F.conv2d(*given, *how), in_dims[:3])(x, w, b), 0
        x = x.movedim(in_dims[0], 0)
        return _Convolution.apply(x.flatten(0, 1), w, b, *how).unflatten(0, x.shape[:2]), 0

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        (x, w), (stride, padding, dilation, groups) = ctx.saved_tensors, ctx.how
        dx = dw = db = None
        if ctx.needs_input_grad[0]:
            dx = transposed(dy, w, x.shape[2:], *ctx.how)
        if ctx.needs_input_grad[1]:
            how = (stride, padding, dilation, False, (0, 0), groups, (False, True, False))
            dw = torch.ops.aten.convolution_backward(dy, x, w, None, *how)[1]
        if ctx.needs_input_grad[2]:
            db = dy.sum((0, 2, 3))
        return dx, dw, db, None, None, None, None


def transposed(
    dy: Tensor, w: Tensor, size: Sequence[int], stride: Pair, padding: Pair, dilation: Pair, groups: int
) -> Tensor:
    """The gradient in the input, of ``size`` = (height, width), of a convolution from that in its output."""
    rest = [  # rows and columns that the stride did not reach
        size[i] - (dy.shape[2 + i] - 1) * stride[i] + 2 * padding[i] - dilation[i] * (w.shape[2 + i] - 1) - 1
        for i in (0, 1)
    ]
    return F.conv_transpose2d(dy, w, None, stride, padding, rest, groups, dilation)


def pair_of(size: int | Sequence[int]) -> Pair:
    """(rows, columns) of one number, or of one or two in a sequence."""
    first, *others = (size, size) if isinstance(size, int) else size
    return first, others[0] if others else first


def conv2d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | str | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Tensor:
    """Drop-in for ``F.conv2d``."""
    if x.ndim != 4 or isinstance(padding, str) or torch.is_autocast_enabled(x.device.type):
        return F.conv2d(x, w, b, stride, padding, dilation, groups)
    return _Convolution.apply(x, w, b, *map(pair_of, (stride, padding, dilation)), groups)


def grouped_conv2d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    stride: int | Pair = 1,
    padding: int | str | Pair = 0,
    dilation: int | Pair = 1,
    groups: int = 1,
) -> Tensor:
    """``conv2d`` where there are groups, else PyTorch's own."""
    return (F.conv2d if groups == 1 else conv2d)(x, w, b, stride, padding, dilation, groups)


# ---- rectifier -----------------------------------------------------------------------------------------------------


class _Relu(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        y = torch.relu(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return _Where.apply(grads[0], *ctx.saved_tensors)


class _Where(torch.autograd.Function):
    """The numbers at which y > 0. PyTorch's own has a gradient of zeros in y, which are made and added."""

    @staticmethod
    def forward(ctx: Any, d: Tensor, y: Tensor) -> Tensor:
        ctx.save_for_backward(y)
        return torch.ops.aten.threshold_backward(d, y, 0)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return _Where.apply(grads[0], *ctx.saved_tensors), None


def relu(x: Tensor, inplace: bool = False) -> Tensor:
    """Drop-in for ``F.relu``."""
    return torch.relu_(x) if inplace else _Relu.apply(x)


# ---- normalisations ------------------------------------------------------------------------------------------------


def _standard(x: Tensor, over: Sequence[int], eps: float) -> Tensor:
    centred = x - x.mean(dim=tuple(over), keepdim=True)
    return centred * (centred.square().mean(dim=tuple(over), keepdim=True) + eps).rsqrt()


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None, shape: Sequence[int]) -> Tensor:
    if weight is not None and bias is not None:
        return torch.addcmul(bias.reshape(shape), x, weight.reshape(shape))
    x = x if weight is None else x * weight.reshape(shape)
    return x if bias is None else x + bias.reshape(shape)


def _channels(x: Tensor) -> tuple[int, ...]:
    return (-1, *[1] * (x.ndim - 2))


def layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: Any,
) -> Tensor:
    """Drop-in for ``F.layer_norm``."""
    return _affine(_standard(x, range(-len(normalized_shape), 0), eps), weight, bias, normalized_shape)


def group_norm(
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *_: Any,
) -> Tensor:
    """Drop-in for ``F.group_norm``."""
    groups = x.reshape(x.shape[0], num_groups, -1)
    return _affine(_standard(groups, (2,), eps).reshape(x.shape), weight, bias, _channels(x))


def instance_norm(
    x: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Drop-in for ``F.instance_norm``."""
    if not use_input_stats:
        return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    return _affine(_standard(x, range(2, x.ndim), eps), weight, bias, _channels(x))


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Drop-in for ``F.batch_norm`` in train mode that leaves the running statistics as they are."""
    return _affine(_standard(x, (0, *range(2, x.ndim)), eps), weight, bias, _channels(x))


def scale_and_shift(
    mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """Batch normalisation in eval mode as one scale and one shift a channel, (C,) each: y = scale x + shift."""
    scale = (variance + eps).rsqrt() if weight is None else weight * (variance + eps).rsqrt()
    return scale, -mean * scale if bias is None else bias - mean * scale


def frozen_batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Drop-in for ``F.batch_norm``: in eval mode one scale and one shift a channel."""
    if training or running_mean is None or running_var is None:
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    scale, shift = scale_and_shift(running_mean, running_var, weight, bias, eps)
    return _affine(x, scale, shift, _channels(x))


NORMS: dict[Any, Callable[..., Tensor]] = {
    F.layer_norm: layer_norm,
    torch.layer_norm: layer_norm,
    F.instance_norm: instance_norm,
}
REVERSE_OVER_REVERSE = {**NORMS, torch.conv2d: conv2d}
OF_ONE_PICTURE = {**NORMS, torch.conv2d: grouped_conv2d}
RELUS = dict.fromkeys((F.relu, torch.relu, Tensor.relu), relu)
BY_LAYERS: dict[Any, Callable[..., Tensor]] = {**REVERSE_OVER_REVERSE, **RELUS, F.batch_norm: frozen_batch_norm}
REVERSE_OVER_FORWARD = {**NORMS, F.group_norm: group_norm, torch.group_norm: group_norm}


class ReplacedFunctions(TorchFunctionMode):
    """Context that replaces torch functions: ``with ReplacedFunctions({function: ours}): ...``."""

    def __init__(self, ours: Mapping[Any, Callable[..., Tensor]]) -> None:
        super().__init__()
        self.ours = ours

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return self.ours.get(func, func)(*args, **(kwargs or {}))
