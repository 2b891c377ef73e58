"""The memory that a computation takes, measured where it is small and scaled to where it is large.

    bytes(pictures, area) = pictures * (linear * area + square * area^2)

Measured is the most that is alive at one time of the tensors that a computation makes, those kept for its gradient
included; what a library allocates inside an operation is not seen. The square is that of attention over places.

``tally`` counts operations too, and what is kept for the gradient. It works on the device "meta", whose tensors have a
shape and no numbers, so that a step of any size is counted without being computed. ``Precision`` does there what
autocast and the fused attention of a GPU do, which torch has not for that device.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only
from torch.utils.flop_counter import flop_registry

from bothways.numerics.shapes import called

SLACK = 1.25  # of what is measured: buffers inside operations, and what an allocator keeps
ROUNDING = 1.05  # growth of the bytes of a pixel that is rounding at the edges and not a square term

# What autocast computes in bfloat16 on every device, and beside that in float32 on a GPU; and what in the widest type
# of its inputs. Of torch's lists those operations that networks of pictures use.
NARROW = {
    "conv1d",
    "conv2d",
    "conv3d",
    "conv_transpose2d",
    "linear",
    "matmul",
    "__matmul__",
    "__rmatmul__",
    "bmm",
    "mm",
}
NARROW |= {"addmm", "baddbmm", "scaled_dot_product_attention"}
WIDE = {"group_norm", "layer_norm", "softmax", "log_softmax", "cross_entropy", "nll_loss", "mse_loss", "norm", "exp"}
WIDE |= {"normalize", "log", "pow", "__pow__", "rsqrt", "sum", "cosine_similarity", "softplus", "prod", "cumsum"}
WIDEST = {"addcmul", "addcdiv", "cat", "stack"}


class _Peak(TorchDispatchMode):
    """Follows the storages that operations make, until each is freed."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.most = 0, 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for given in tree_leaves((args, kwargs)):  # a view of what was there before is not new
            if isinstance(given, Tensor) and given.layout == torch.strided:
                storage = given.untyped_storage()
                if storage._cdata not in self._known:
                    self._known.add(storage._cdata)
                    weakref.finalize(storage, self._known.discard, storage._cdata)
        found = func(*args, **(kwargs or {}))
        for made in tree_leaves(found):
            if isinstance(made, Tensor) and made.layout == torch.strided:
                self._add(made.untyped_storage())
        return found

    def _add(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def peak_bytes(work: Callable[[], Any]) -> int:
    """The most bytes alive at one time of the tensors that ``work`` makes. It is done once, as it is."""
    with _Peak() as peak:
        work()
    return peak.most


@dataclass(frozen=True)
class Footprint:
    """Bytes of a computation on pictures of ``area`` pixels: linear and square in it, a picture; SLACK is in them."""

    linear: float
    square: float = 0.0

    def of(self, pictures: int, area: int) -> float:
        """Bytes of so many pictures of so many pixels."""
        return pictures * (self.linear * area + self.square * float(area) ** 2)


def footprint(
    made: Callable[[tuple[int, int]], Callable[[], Any]], shapes: Sequence[tuple[int, int]], room: float = math.inf
) -> Footprint | None:
    """The Footprint of a computation on one picture, from one or two shapes of it; None where it fails.

    made: (height, width) -> what is measured. room: bytes that are free; a shape that might not fit is left out.
    """
    try:
        area = math.prod(shapes[0])
        linear = peak_bytes(made(shapes[0])) / area
        for larger in shapes[1:]:
            next_area = math.prod(larger)
            if linear * next_area * next_area / area > room:
                break
            next_linear = peak_bytes(made(larger)) / next_area
            if next_linear > ROUNDING * linear:
                square = (next_linear - linear) / (next_area - area)
                return Footprint(SLACK * (linear - square * area), SLACK * square)
            linear, area = next_linear, next_area
    except Exception:  # whatever a network raises at a size: who runs it at its own size says so
        return None
    return Footprint(SLACK * linear)


@dataclass(frozen=True)
class Tally:
    """What a computation does.

    operations: of matrix products and convolutions, a multiplication and an addition being two. peak: the most bytes
    alive at one time of what it makes. saved: bytes kept for its gradient, without those that were there before.
    """

    operations: float
    peak: int
    saved: int


class _Tally(TorchDispatchMode):
    """Counts operations, and the bytes of the storages that they make until each is freed."""

    def __init__(self, held: Iterable[Tensor]) -> None:
        super().__init__()
        self.operations, self.now, self.most = 0, 0, 0
        self.held = {tensor.untyped_storage()._cdata for tensor in held}
        self.kept: dict[int, int] = {}
        self._alive: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = called(func, args, kwargs or {})
        if (count := flop_registry.get(func._overloadpacket)) is not None:
            self.operations += count(*args, **(kwargs or {}), out_val=found)
        for made in tree_leaves(found):
            if isinstance(made, Tensor):
                self._add(made.untyped_storage())
        return found

    def _add(self, storage: Any) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.held or key in self._alive:
            return

        def drop(_: Any) -> None:
            self.now -= size
            del self._alive[key]

        self.now += size
        self.most = max(self.most, self.now)
        self._alive[key] = weakref.ref(storage, drop)

    def keep(self, tensor: Tensor) -> Tensor:
        """Note what autograd keeps; its graph holds it until the end of the backward pass."""
        storage = tensor.untyped_storage()
        if storage._cdata not in self.held:
            self.kept[storage._cdata] = storage.nbytes()
        return tensor.detach()  # itself, where it is an output, would hold the graph that holds it


def tally(work: Callable[[], Any], held: Iterable[Tensor] = ()) -> Tally:
    """The Tally of ``work``, which is done once, as it is. held: tensors that were there before, such as weights."""
    with _Tally(held) as counts, saved_tensors_hooks(counts.keep, lambda tensor: tensor):
        work()
    return Tally(counts.operations, counts.most, sum(counts.kept.values()))


class Precision(TorchFunctionMode):
    """What a device makes of a forward pass, on the device "meta": autocast to bfloat16, and a GPU's fused attention.

    On a CPU, a convolution whose weights lie channels last gives what lies so too. bf16: whether the pass is within
    autocast. gpu: whether the device is one.
    """

    def __init__(self, *, bf16: bool, gpu: bool) -> None:
        super().__init__()
        self.bf16, self.gpu = bf16, gpu
        self._weights: dict[int, Tensor] = {}  # autocast casts a weight once

    def __exit__(self, *error: Any) -> None:
        self._weights.clear()
        super().__exit__(*error)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, name = kwargs or {}, getattr(func, "__name__", "")
        if self.gpu and func == torch.Tensor.is_cuda.__get__:  # type: ignore[attr-defined]
            return True
        if self.bf16 and name in NARROW:
            args, kwargs = tree_map_only(Tensor, self._narrowed, (args, kwargs))
        elif self.bf16 and name in WIDE and self.gpu:
            args, kwargs = tree_map_only(Tensor, _widened, (args, kwargs))
        elif self.bf16 and name in WIDEST:
            args, kwargs = _alike((args, kwargs))
        if self.gpu and name == "scaled_dot_product_attention" and len(args) == 3 and kwargs.get("attn_mask") is None:
            return torch.ops.aten._scaled_dot_product_flash_attention(*args)[0]
        found = func(*args, **kwargs)
        if name == "conv2d" and not self.gpu and len(args) > 1 and _lies_channels_last(args[1]):
            return found.contiguous(memory_format=torch.channels_last)
        return found

    def _narrowed(self, tensor: Tensor) -> Tensor:
        if tensor.dtype != torch.float32:
            return tensor
        if not (tensor.is_leaf and tensor.requires_grad):
            return tensor.bfloat16()
        if id(tensor) not in self._weights:
            self._weights[id(tensor)] = tensor.bfloat16()
        return self._weights[id(tensor)]


def _lies_channels_last(weight: Tensor) -> bool:
    """Whether the channels of a pixel are adjacent, as torch tells it, also where a weight has one channel."""
    return weight.stride(1) == 1 and weight.stride(3) >= weight.shape[1]


def _widened(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype == torch.bfloat16 else tensor


def _alike(given: Any) -> Any:
    mixed = any(isinstance(one, Tensor) and one.dtype == torch.float32 for one in tree_leaves(given))
    return tree_map_only(Tensor, _widened, given) if mixed else given
