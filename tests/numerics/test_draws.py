"""Draws belong to a picture: not to its batch, its place in it, or what was drawn before."""

from __future__ import annotations

import hashlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bothways.numerics.draws import Draws, generator

KINDS = {
    "normal": lambda draws, t=0.0, purpose="x": draws.normal((3, 5), t, purpose),
    "uniform": lambda draws, t=0.0, purpose="x": draws.uniform((3, 5), t, purpose),
    "integers": lambda draws, t=0.0, purpose="x": draws.integers(-500, 500, (3, 5), t, purpose),
}
every_kind = pytest.mark.parametrize("kind", KINDS)


@every_kind
@settings(max_examples=20, deadline=None)
@given(seeds=st.lists(st.integers(0, 10**12), min_size=1, max_size=6), t=st.floats(0, 1))
def test_a_pictures_draws_are_the_same_alone_and_in_any_batch(kind: str, seeds: list[int], t: float) -> None:
    together = KINDS[kind](Draws(seeds), t)
    assert together.shape == (len(seeds), 3, 5)
    for place, seed in enumerate(seeds):
        assert torch.equal(together[place], KINDS[kind](Draws([seed]), t)[0])


@every_kind
def test_order_of_calls_and_global_random_state_do_not_matter(kind: str) -> None:
    draws = Draws([4, 5])
    first = KINDS[kind](draws, 0.25)
    KINDS[kind](draws, 0.5)
    with torch.random.fork_rng():
        torch.manual_seed(99)
        state = torch.random.get_rng_state()
        again = KINDS[kind](draws, 0.25)
        assert torch.equal(state, torch.random.get_rng_state())
    assert torch.equal(first, again)


@every_kind
def test_seed_moment_and_purpose_each_change_the_draws(kind: str) -> None:
    draw = KINDS[kind]
    different: list[Tensor] = [
        draw(Draws([1])),
        draw(Draws([2])),
        draw(Draws([-1])),
        draw(Draws([1]), 0.001),
        draw(Draws([1]), 1 / 10**6),
        draw(Draws([1]), 0.0, "y"),
        draw(Draws([11]), 0.0, ""),
        draw(Draws([1]), 0.0, ""),
    ]
    for i, one in enumerate(different):
        assert all(not torch.equal(one, other) for other in different[i + 1 :])


def test_the_generator_is_the_documented_hash() -> None:
    digest = hashlib.sha256(b"7|0.500000000|roll").digest()
    wanted = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
    assert torch.equal(torch.rand(4, generator=generator(7, 0.5, "roll")), torch.rand(4, generator=wanted))


def test_moments_across_pictures_and_within_one() -> None:
    many = Draws(range(4000))
    for values in (many.normal((4,)), Draws([3]).normal((16000,))[0]):
        flat = values.double().flatten()  # 16000 draws: standard error .008 of the mean, .006 of the deviation
        assert abs(flat.mean()) < 0.04
        assert abs(flat.std() - 1) < 0.03
        assert abs((flat**4).mean() - 3) < 0.3
    flat = many.uniform((4,)).double().flatten()
    assert 0 <= flat.min() < flat.max() < 1
    assert abs(flat.mean() - 0.5) < 0.012
    assert abs(flat.var() - 1 / 12) < 0.004


def test_neighbouring_seeds_and_moments_are_not_correlated() -> None:
    rows = torch.cat([Draws(range(20)).normal((2000,)), *[Draws([0]).normal((2000,), k / 100) for k in range(1, 20)]])
    correlation = torch.corrcoef(rows.double()) - torch.eye(len(rows), dtype=torch.float64)
    assert correlation.abs().max() < 0.11  # 5 standard errors


def test_whole_numbers_reach_both_ends_about_equally_often() -> None:
    found = Draws(range(3000)).integers(-2, 2, (1,)).flatten()
    counts = torch.bincount(found + 2, minlength=5)
    assert counts.shape == (5,)
    assert (counts - 600).abs().max() < 120


def test_length_and_seeds() -> None:
    draws = Draws(torch.tensor([3, 1]))
    assert len(draws) == 2
    assert draws.seeds == (3, 1)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("seeds", [[7], [7, 8, 9], [9, 7, 9, 9, 8]])
def test_large_draws_in_threads_and_pictures_of_one_seed_are_those_drawn_alone(
    seeds: list[int], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    shape = (3, 200, 200)
    together = Draws(seeds).normal(shape, 0.5, "view noise")
    assert together.is_contiguous()
    for drawn, seed in zip(together, seeds, strict=True):
        assert torch.equal(drawn, torch.randn(*shape, generator=generator(seed, 0.5, "view noise")))
