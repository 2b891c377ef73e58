"""Operations with leaner gradients, against torch's own: the same to the bit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bothways.numerics.draws import Draws
from bothways.numerics.fast import clipped, laid_out, rolled
from bothways.synthesis.views.flip import Flip
from bothways.synthesis.views.noise import Noise

OFFSETS = [[[0, 0], [3, -2], [-9, 13]], [[5, 0], [-1, -7], [8, 10]]]


def with_gradient(call: Callable[[Tensor], Tensor], at: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    at = at.clone().requires_grad_()
    found = call(at)
    return found.detach(), torch.autograd.grad(found, at, weight)[0]


def same(ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor], at: Tensor, weight: Tensor) -> None:
    for own, other in zip(with_gradient(ours, at, weight), with_gradient(theirs, at, weight), strict=True):
        assert torch.equal(own, other)


def copies(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(2, 3, 3, 8, 10, dtype=dtype, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_gradient_of_a_clip_passes_at_both_ends_and_nowhere_outside(dtype: torch.dtype) -> None:
    kind = torch.finfo(dtype)
    ends = [-1.0, -kind.smallest_normal, -0.0, 0.0, kind.smallest_normal, 0.5, 1 - kind.eps / 2, 1.0, 1 + kind.eps, 2.0]
    at = torch.cat([torch.tensor(ends, dtype=dtype), copies(dtype).flatten()])
    same(clipped, lambda x: x.clamp(0, 1), at, torch.linspace(1, 2, len(at), dtype=dtype))


def test_copies_are_rolled_each_by_its_own_offset() -> None:
    def theirs(seen: Tensor) -> Tensor:
        each = zip(seen.flatten(0, 1), (one for some in OFFSETS for one in some), strict=True)
        return torch.stack([torch.roll(copy, tuple(offset), (1, 2)) for copy, offset in each]).view_as(seen)

    same(lambda seen: rolled(seen, OFFSETS), theirs, copies(), copies().flip(0))


def test_a_gradient_in_channels_last_is_laid_out() -> None:
    at, weight = copies()[0], copies()[1].contiguous(memory_format=torch.channels_last)
    same(laid_out, torch.clone, at, weight)
    assert with_gradient(laid_out, at, weight)[1].is_contiguous()


def test_a_mirrored_copy_and_a_noisy_one_are_those_of_where_and_clamp() -> None:
    draws, seen = Draws([4, 9]), copies() + 0.5
    mirrored = draws.uniform((3, 1, 1, 1), 0.5, "flip") < 0.5
    assert 0 < mirrored.sum() < mirrored.numel()
    same(lambda x: Flip()(x, draws, 0.5), lambda x: torch.where(mirrored, x.flip(-1), x), seen, copies())
    noise = draws.normal(seen.shape[1:], 0.5, "view noise")
    same(lambda x: Noise(0.3)(x, draws, 0.5), lambda x: (x + 0.3 * noise).clamp(0, 1), seen, copies())
