"""The memory that a computation takes, measured where it is small and scaled to where it is large.

    bytes(pictures, area) = pictures * (linear * area + square * area^2)

Measured is the most that is alive at one time of the tensors that a computation makes, those kept for its gradient
included; what a library allocates inside an operation is not seen. The square is that of attention over places.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

SLACK = 1.25  # of what is measured: buffers inside operations, and what an allocator keeps
ROUNDING = 1.05  # growth of the bytes of a pixel that is rounding at the edges and not a square term


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
