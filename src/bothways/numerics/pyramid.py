"""Multi-resolution image stack, and the linear operator equivalent to one gradient step on all its levels.

    canvas = sum_i sqrt(w_i) resize(P_i),   resize(P) = A_i^h P (A_i^w)^T
    P_i <- P_i - lr sqrt(w_i) (A_i^h)^T G A_i^w     is, on the canvas,
    canvas <- canvas - lr T(G),   T(G) = sum_i w_i B_i^h G B_i^w,   B_i = A_i A_i^T

The stack is that of DAS (Fort & Whitaker, arXiv 2502.07753, section 3); T follows by algebra for SGD and momentum, not
for Adam.

Low rank: for any orthogonal V, with C_k = sum_i V_ik sqrt(w_i) B_i, T(G) = sum_k C_k^h G C_k^w exactly. V is taken
from the Gram matrices of the B_i, so the terms decay fast and the first few are kept. On a square canvas this is the
best approximation of each rank (the eigenvectors of one Gram matrix); on others V diagonalises the mean of the two,
scaled to trace 1, which is near the singular vectors and, unlike them, exact at full rank whatever the rounding.

B and C are invariant under a rotation by 180 degrees (resizing commutes with a flip): only upper halves are computed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from bothways.types import UserError

STEP_TOLERANCE = 5e-3  # relative Frobenius error of T, so half a per cent of a step along a white gradient
BLOCK_NUMBERS = 2**25  # float64 numbers held at once while the operator is built: 256 MiB

Side = Literal["height", "long"]


def resize_matrix(low: int, high: int) -> Tensor:
    """The matrix of bicubic resizing in one dimension, from ``low`` to ``high`` pixels, float64.

        resized = A x,   x (low,),   A (high, low)

    It is F.interpolate(mode="bicubic", align_corners=False, antialias=False); a single pixel is repeated.
    """
    if low == 1:
        return torch.ones(high, 1, dtype=torch.float64, device="cpu")
    units = torch.eye(low, dtype=torch.float64, device="cpu")[None, None]  # the columns keep their number: not resized
    return F.interpolate(units, size=(high, low), mode="bicubic", align_corners=False)[0, 0]


def enlarge(level: Tensor, height: int, width: int) -> Tensor:
    """Bicubic upsampling (B,C,h,w) -> (B,C,height,width), not clipped, linear in ``level``."""
    if level.shape[-2:] == (1, 1):
        return level.expand(*level.shape[:2], height, width)
    return F.interpolate(level, size=(height, width), mode="bicubic", align_corners=False)


def resize(images: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Bilinear resizing with antialiasing, (B,3,H,W) in [0,1] -> (B,3,h,w) in [0,1]; a no-op at equal size.

    size: pixels, an int for a square, or (height, width).
    """
    target = (size, size) if isinstance(size, int) else tuple(size)
    if tuple(images.shape[-2:]) == target:
        return images
    resized = F.interpolate(images, size=target, mode="bilinear", align_corners=False, antialias=True)
    return resized.clamp(0.0, 1.0)


def geometric_levels(size: int, count: int = 16) -> list[int]:
    """About ``count`` integer resolutions from 1 to ``size`` pixels, geometrically spaced, duplicates removed."""
    if size < 1 or count < 2:
        raise UserError(f"geometric_levels: size={size}, count={count}; type a size from 1 and a count from 2")
    return sorted({round(size ** (i / (count - 1))) for i in range(count)})


def level_weights(levels: Sequence[int]) -> list[float]:
    """Weight of each level: the number of integer resolutions first..last that it represents.

        w_i = (l_{i+1} - l_{i-1}) / 2,   each end reaching half a pixel outwards

    They add up to last - first + 1, so the learning rate of the full stack carries over.

    levels: rising resolutions in pixels.
    """
    if list(levels) != sorted(set(levels)) or not levels:
        raise UserError(f"level_weights: levels={list(levels)}; type rising resolutions such as [1, 2, 4, 8]")
    middles = [(a + b) / 2 for a, b in pairwise(levels)]
    edges = [levels[0] - 0.5, *middles, levels[-1] + 0.5]
    return [upper - lower for lower, upper in pairwise(edges)]


def level_shapes(levels: Sequence[int], height: int, width: int, side: Side = "height") -> list[tuple[int, int]]:
    """Size (height, width) in pixels of each level of a ``height`` x ``width`` canvas.

    side "height": a level r has r x max(1, round(r W / H)) pixels. side "long": its longer side has r.

    Raises UserError where a level is not within 1 and that side of the canvas.
    """
    if side not in ("height", "long"):
        raise UserError(f'stack: side={side!r}; type "height" or "long"')
    top = height if side == "height" else max(height, width)
    wrong = [r for r in levels if not 1 <= r <= top]
    if wrong or not levels:
        raise UserError(f"stack: levels {wrong[:3]} of {len(levels)} do not fit; type whole numbers within 1..{top}")
    return [(max(1, round(r * height / top)), max(1, round(r * width / top))) for r in levels]


def checked_weights(weights: Sequence[float] | None, count: int) -> tuple[float, ...]:
    """Validated level weights: one finite value of at least 0 per level; all 1 for None."""
    values = (1.0,) * count if weights is None else tuple(float(w) for w in weights)
    if len(values) != count or not all(0 <= w < float("inf") for w in values) or not any(values):
        raise UserError(f"stack: {len(values)} weights for {count} levels; type one of at least 0 per level, not all 0")
    return values


def _row_blocks(count: int, high: int) -> Iterator[slice]:
    """Blocks of the upper half of the rows (and the middle one), so that ``count`` products fit in memory."""
    half, step = (high + 1) // 2, max(1, BLOCK_NUMBERS // (count * high))
    return (slice(first, min(first + step, half)) for first in range(0, half, step))


def _products(sizes: Sequence[int], high: int, rows: slice) -> Tensor:
    """The selected rows of every B_i, (levels, rows, high)."""
    block = torch.empty(len(sizes), rows.stop - rows.start, high, dtype=torch.float64, device="cpu")
    for out, low in zip(block, sizes, strict=True):
        A = resize_matrix(low, high)
        torch.mm(A[rows], A.T, out=out)
    return block


def _gram(sizes: Sequence[int], high: int) -> Tensor:
    """Gram matrix of inner products <B_i, B_j>, (levels, levels)."""
    twice = torch.full((high, 1), 2.0**0.5, dtype=torch.float64, device="cpu")  # each row also counts its mirror row
    if high % 2:
        twice[high // 2] = 1.0
    gram = torch.zeros(len(sizes), len(sizes), dtype=torch.float64, device="cpu")
    for rows in _row_blocks(len(sizes), high):
        block = _products(sizes, high, rows).mul_(twice[rows]).flatten(1)
        gram.addmm_(block, block.T)
    return gram


def _mix(sizes: Sequence[int], high: int, coefficients: Tensor) -> Tensor:
    """C_k = sum_i coefficients_ik B_i, (levels, rank) -> (rank, high, high)."""
    C = torch.empty(coefficients.shape[1], high, high, dtype=torch.float64, device="cpu")
    for rows in _row_blocks(len(sizes), high):
        C[:, rows] = torch.tensordot(coefficients.T, _products(sizes, high, rows), dims=1)
    C[:, high - high // 2 :] = C[:, : high // 2].flip(1, 2)
    return C


def _rotation(gram_h: Tensor, gram_w: Tensor) -> tuple[Tensor, Tensor]:
    """V (levels, levels), largest terms first, and the relative Frobenius error of each rank, (levels + 1,).

    || sum_{l>k} C_l^h (x) C_l^w ||^2 = sum_{l,m>k} <C_l^h, C_m^h> <C_l^w, C_m^w>
    """
    V = torch.linalg.eigh(gram_h / gram_h.trace() + gram_w / gram_w.trace()).eigenvectors.flip(1)
    overlaps = (V.T @ gram_h @ V) * (V.T @ gram_w @ V)
    tails = overlaps.flip(0, 1).cumsum(0).cumsum(1).diagonal().flip(0)
    tails = torch.cat([tails, tails.new_zeros(1)]).clamp_min(0.0)
    return V, (tails / tails[0]).sqrt()


@dataclass(frozen=True, eq=False)
class StackOperator:
    """Low-rank operator T: one SGD step on every level of the stack, expressed on the canvas.

        T(G) = sum_k C_k^h G C_k^w,   k = 1..rank

    left (rank,H,H), right (rank,W,W): the C_k.
    error: ||T - kept|| / ||T||, Frobenius: the relative rms error of a step along a white gradient. The stack passes
    low frequencies most, so a gradient with more of them has less error, and one that grows as f has 2-3 times it.
    Build it with :func:`stack_operator`.
    """

    left: Tensor
    right: Tensor
    error: float

    @property
    def rank(self) -> int:
        """Number of terms kept."""
        return self.left.shape[0]

    def __call__(self, grad: Tensor) -> Tensor:
        """Apply T, (B,C,H,W) -> (B,C,H,W); linear, symmetric, 2 rank B C H W (H + W) multiply-adds."""
        slices = grad.reshape(-1, *grad.shape[-2:])
        total = torch.zeros_like(slices)
        for C_h, C_w in zip(self.left, self.right, strict=True):  # one temporary at a time: it stays in the cache
            total.baddbmm_(C_h.expand(len(slices), -1, -1), slices @ C_w)
        return total.reshape(grad.shape)


@lru_cache(maxsize=8)
def _operator(
    shapes: tuple[tuple[int, int], ...], weights: tuple[float, ...], high: tuple[int, int], tolerance: float,
    dtype: torch.dtype, device: torch.device,
) -> StackOperator:  # fmt: skip
    heights, widths = ([shape[axis] for shape in shapes] for axis in (0, 1))
    square = high[0] == high[1] and heights == widths
    with torch.inference_mode(False), torch.no_grad():  # cached: a later call may differentiate through it
        scale = torch.tensor(weights, dtype=torch.float64, device="cpu").sqrt()
        gram_h = _gram(heights, high[0]) * scale * scale[:, None]
        gram_w = gram_h if square else _gram(widths, high[1]) * scale * scale[:, None]
        V, errors = _rotation(gram_h, gram_w)
        rank = int((errors > tolerance).sum()) if tolerance > 0 else len(shapes)
        coefficients = scale[:, None] * V[:, :rank]
        left = _mix(heights, high[0], coefficients).to(device, dtype)
        right = left if square else _mix(widths, high[1], coefficients).to(device, dtype)
    return StackOperator(left, right, float(errors[rank]))


def stack_operator(
    height: int,
    width: int,
    levels: Sequence[int],
    weights: Sequence[float] | None = None,
    *,
    tolerance: float = STEP_TOLERANCE,
    side: Side = "height",
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> StackOperator:
    """Build the operator T of a stack; cached for equal arguments.

        T(G) = sum_i w_i B_i^h G B_i^w

    height, width: of the canvas, in pixels. levels: resolutions, whose shapes are :func:`level_shapes`.
    weights: w_i, at least 0, which are also learning rates per level; 1 for each where None.
    tolerance: the largest relative Frobenius error; 0 keeps every term, exact up to rounding.

    Raises UserError where a level, a weight or the tolerance is not possible.
    """
    if not 0 <= tolerance < 1:
        raise UserError(f"stack: tolerance={tolerance}; type a number within 0 (exact) and 1, such as {STEP_TOLERANCE}")
    shapes = tuple(level_shapes(levels, height, width, side))
    return _operator(
        shapes, checked_weights(weights, len(shapes)), (height, width), float(tolerance), dtype, torch.device(device)
    )
