"""Operations, bytes alive and bytes kept, by closed forms and beside the same computation with numbers."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bothways.models.nets.unet import Attention, UNet
from bothways.numerics.discrete_adjoint import integrate_exact
from bothways.numerics.footprint import Precision, Tally, tally
from bothways.numerics.solvers import grid, solver_of

TINY = {"width": 16, "multiples": (1, 2), "blocks": 1, "attention": (2,)}


def of_step(network: nn.Module, inputs: tuple[Tensor, ...], *modes) -> Tally:
    """The tally of a forward and a backward pass to the mean square of what the network gives."""

    def work() -> None:
        with ExitStack() as stack:
            for mode in modes:
                stack.enter_context(mode)
            value = network(*inputs).square().mean()
        value.backward()

    return tally(work, [*network.parameters(), *network.buffers(), *inputs])


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_two_layers_by_their_closed_forms(device: str) -> None:
    batch, entering, inside, leaving = 8, 6, 10, 4
    network = nn.Sequential(nn.Linear(entering, inside), nn.Tanh(), nn.Linear(inside, leaving)).to(device)
    x = torch.zeros(batch, entering, device=device)
    first, second = 2 * batch * entering * inside, 2 * batch * inside * leaving
    found = of_step(network, (x,))
    assert found.operations == 2 * first + 3 * second  # x needs no gradient
    assert found.saved == 4 * batch * (inside + leaving)  # of tanh, and of the square; x was there before
    with torch.no_grad():
        forward = tally(lambda: network(x), [*network.parameters(), x])
    assert forward == Tally(first + second, 4 * batch * (2 * inside), 0)


def test_a_step_without_numbers_counts_as_one_with_them() -> None:
    def counted(device: str, *modes) -> Tally:
        network = UNet(**TINY, scale_shift=True).to(device)
        return of_step(network, (torch.zeros(32, 3, 8, 8, device=device), torch.zeros(32, device=device)), *modes)

    plain, empty = counted("cpu"), counted("meta", Precision(bf16=False, gpu=False))
    assert (empty.operations, empty.saved) == (plain.operations, plain.saved)
    assert abs(empty.peak / plain.peak - 1) < 0.01
    half = counted("cpu", torch.autocast("cpu", torch.bfloat16))
    assumed = counted("meta", Precision(bf16=True, gpu=False))
    assert assumed.operations == half.operations == plain.operations
    assert abs(assumed.saved / half.saved - 1) < 0.02
    assert abs(assumed.peak / half.peak - 1) < 0.05
    assert half.saved < 0.75 * plain.saved  # else nothing was halved


def test_precision_is_that_of_autocast_on_a_gpu() -> None:
    """Of torch's lists for CUDA: products in bfloat16, normalisation and softmax in float32, the widest of a sum."""
    x, weight = torch.zeros(2, 4, 8, 8, device="meta"), torch.zeros(4, 4, 3, 3, device="meta", requires_grad=True)
    for gpu in (False, True):
        with Precision(bf16=True, gpu=gpu):
            inside = F.conv2d(x, weight, padding=1)
            assert inside.dtype == torch.bfloat16
            assert F.group_norm(inside, 2).dtype == (torch.float32 if gpu else torch.bfloat16)
            assert torch.softmax(inside, 1).dtype == (torch.float32 if gpu else torch.bfloat16)
            assert (inside.flatten(2) @ inside.flatten(2).mT).dtype == torch.bfloat16
            assert torch.addcmul(inside, x, x).dtype == torch.float32
            assert inside.is_cuda is gpu
        assert not inside.is_cuda
    with Precision(bf16=False, gpu=True):
        assert F.conv2d(x, weight).dtype == torch.float32


def test_a_weight_is_cast_once() -> None:
    """As autocast keeps the cast of a weight until it ends: another pass adds no copy of it."""
    layer, x = nn.Linear(64, 64, bias=False).to("meta"), torch.zeros(1, 64, device="meta")

    def passes(count: int) -> None:
        with Precision(bf16=True, gpu=True):
            for _ in range(count):
                layer(x)

    held = [*layer.parameters(), x]
    cast = 2 * 64 * 64
    assert cast < tally(lambda: passes(1), held).peak <= tally(lambda: passes(3), held).peak < 1.1 * cast


def test_attention_of_a_gpu_keeps_no_square_of_the_places() -> None:
    places, heads, batch = 256, 4, 2
    square = 4 * batch * heads * places**2

    def kept(gpu: bool) -> Tally:
        network, x = Attention(32, 8).to("meta"), torch.zeros(batch, 32, 16, 16, device="meta")
        return of_step(network, (x,), Precision(bf16=False, gpu=gpu))

    assert kept(False).saved > square > kept(True).saved
    # forward two products of the square, backward four; the fused one makes the scores again
    both = 2 * batch * heads * places * places * 8
    assert kept(True).operations - kept(False).operations == both


def test_what_a_walk_recomputes_is_freed() -> None:
    """The exact gradient of more steps takes the memory of their states and no more; the hooks hold no graph."""

    def peak(steps: int) -> int:
        network = UNet(**TINY)
        x = torch.zeros(2, 3, 8, 8, requires_grad=True)

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            return network(x, t)

        def work() -> None:
            (after,) = integrate_exact(network, (x,), grid(1.0, 0.5, steps), solver_of("euler"), keep=2)
            after.square().mean().backward()

        return tally(work, [*network.parameters(), x]).peak

    state = 4 * 2 * 3 * 8 * 8
    assert 0 <= peak(10) - peak(6) <= 5 * state
