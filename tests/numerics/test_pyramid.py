"""The stack as an operator against the stack itself, run by torch level by level."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from bothways.numerics.pyramid import (
    enlarge,
    geometric_levels,
    level_shapes,
    level_weights,
    resize,
    resize_matrix,
    stack_operator,
)
from bothways.types import UserError


def white(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def far(a, b):
    return (a - b).abs().max().item()


def explicit_step(grad, levels, weights, side="height"):
    """sum_i w_i A_i A_i^T G, through autograd on F.interpolate."""
    height, width = grad.shape[-2:]
    total = torch.zeros_like(grad)
    for (h, w), weight in zip(level_shapes(levels, height, width, side), weights, strict=True):
        level = torch.zeros(*grad.shape[:2], h, w, dtype=grad.dtype, requires_grad=True)
        (down,) = torch.autograd.grad(enlarge(level, height, width), level, grad)
        total += weight * enlarge(down, height, width)
    return total


@pytest.mark.parametrize(("low", "high"), [(1, 7), (2, 7), (5, 17), (8, 16), (13, 13), (31, 64)])
def test_the_matrix_is_torchs_resizing(low, high):
    level = white(2, 3, low, low)
    A = resize_matrix(low, high)
    assert A.shape == (high, low)
    assert far(A @ level @ A.T, F.interpolate(level, size=(high, high), mode="bicubic", align_corners=False)) < 1e-13


def test_one_pixel_is_repeated_and_dtypes_are_kept():
    assert torch.equal(resize_matrix(1, 5), torch.ones(5, 1, dtype=torch.float64))
    assert torch.equal(enlarge(torch.full((1, 3, 1, 1), 0.7), 4, 5), torch.full((1, 3, 4, 5), 0.7))


def test_levels_are_geometric_and_weights_count_the_resolutions_they_stand_for():
    levels = geometric_levels(336, 16)
    assert levels[0] == 1
    assert levels[-1] == 336
    assert 14 <= len(levels) <= 16
    assert sum(level_weights(levels)) == 336
    assert level_weights(range(1, 9)) == [1.0] * 8
    assert level_weights([1, 5, 9]) == [2.5, 4.0, 2.5]
    assert geometric_levels(1) == [1]


def test_weighted_geometric_levels_follow_all_of_them():
    size, grad = 96, white(1, 3, 96, 96)
    levels = geometric_levels(size)
    every = stack_operator(size, size, range(1, size + 1), tolerance=0, dtype=torch.float64)(grad)
    weighted = stack_operator(size, size, levels, level_weights(levels), tolerance=0, dtype=torch.float64)(grad)
    assert F.cosine_similarity(every.flatten(), weighted.flatten(), dim=0) > 0.99


@pytest.mark.parametrize(
    ("height", "width", "side"),
    [(24, 24, "height"), (21, 21, "long"), (18, 30, "height"), (18, 31, "long"), (31, 18, "long")],
)
def test_the_operator_is_one_step_on_the_stack(height, width, side):
    top = height if side == "height" else max(height, width)
    levels = list(range(1, top + 1, 2))
    weights = [1 / r**0.5 for r in levels]
    operator = stack_operator(height, width, levels, weights, tolerance=0, side=side, dtype=torch.float64)
    grad = white(2, 3, height, width)
    assert operator.rank == len(levels)
    assert operator.error < 1e-12
    assert far(operator(grad), explicit_step(grad, levels, weights, side)) < 1e-10


@pytest.mark.parametrize(("height", "width"), [(48, 48), (40, 64)])
def test_the_stated_error_is_the_frobenius_error(height, width):
    levels = range(2, 41, 2)
    kept = stack_operator(height, width, levels, dtype=torch.float64)
    whole = stack_operator(height, width, levels, tolerance=0, dtype=torch.float64)
    cross = [  # <S, T> = sum_kl <S_k, T_l> <S_k', T_l'>, from the terms themselves
        (torch.einsum("kij,lij->kl", a.left, b.left) * torch.einsum("kij,lij->kl", a.right, b.right)).sum()
        for a, b in ((kept, kept), (kept, whole), (whole, whole))
    ]
    truth = ((cross[0] - 2 * cross[1] + cross[2]) / cross[2]).sqrt()
    assert kept.rank < whole.rank
    assert kept.error < 5e-3
    assert abs(kept.error - truth) < 1e-6


def test_truncation_of_the_notebooks_84_levels_stays_under_a_per_cent():
    levels = range(1, 334, 4)
    operator = stack_operator(336, 336, levels)
    grad = white(1, 1, 336, 336).float()
    truth = sum((B := A @ A.T) @ grad.double() @ B for A in (resize_matrix(r, 336) for r in levels))
    assert operator.rank <= 12
    assert operator.error < 5e-3
    assert (operator(grad) - truth).norm() / truth.norm() < 0.01


def test_no_bicubic_term_is_lost_when_built_in_blocks(monkeypatch):
    arguments = {"tolerance": 0.0, "dtype": torch.float64}
    whole = stack_operator(19, 19, range(1, 20), **arguments)
    monkeypatch.setattr("bothways.numerics.pyramid.BLOCK_NUMBERS", 19 * 19 * 3)
    blocks = stack_operator(19, 19, range(1, 20), [1.0 + 1e-15] + [1.0] * 18, **arguments)  # another key of the cache
    grad = white(1, 3, 19, 19)
    assert blocks is not whole
    assert far(whole(grad), blocks(grad)) < 1e-10


def test_the_operator_is_symmetric_differentiable_and_kept():
    operator = stack_operator(12, 12, [1, 4, 12], tolerance=0, dtype=torch.float64)
    a, b = white(1, 2, 12, 12), white(1, 2, 12, 12, seed=1)
    assert abs((operator(a) * b).sum() - (a * operator(b)).sum()) < 1e-10
    assert torch.autograd.gradcheck(operator, (a[:, :1].requires_grad_(),))
    assert stack_operator(12, 12, (1, 4, 12), [1, 1, 1], tolerance=0, dtype=torch.float64) is operator
    with torch.inference_mode():
        inside = stack_operator(13, 13, [1, 13])
    assert not inside.left.is_inference()


def test_resizing_of_images_keeps_the_promise():
    images = torch.from_numpy(np.random.default_rng(0).random((2, 3, 20, 30), dtype=np.float32))
    assert resize(images, (20, 30)) is images
    small = resize(images, 8)
    truth = F.interpolate(images.double(), size=(8, 8), mode="bilinear", antialias=True)
    assert far(small, truth) < 1e-6
    assert small.min() >= 0
    assert small.max() <= 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: stack_operator(8, 8, [0, 4]), r"within 1\.\.8"),
        (lambda: stack_operator(8, 8, [9]), r"within 1\.\.8"),
        (lambda: stack_operator(8, 8, []), r"within 1\.\.8"),
        (lambda: stack_operator(8, 8, [2], [1, 2]), "one of at least 0 per level"),
        (lambda: stack_operator(8, 8, [2], [-1]), "one of at least 0 per level"),
        (lambda: stack_operator(8, 8, [2], tolerance=2), "tolerance=2"),
        (lambda: stack_operator(8, 8, [2], side="width"), '"height" or "long"'),
        (lambda: level_weights([4, 2]), "rising"),
        (lambda: geometric_levels(0), "size=0"),
    ],
)
def test_mistakes_are_told(call, words):
    with pytest.raises(UserError, match=words):
        call()
