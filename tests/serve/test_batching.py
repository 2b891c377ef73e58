"""Pictures that are answered together: the same answers as alone, each to who asked, and a bound on who waits."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

import pytest
import torch
from torch import Tensor

from bothways import load_model
from bothways.serve.batching import Batcher, FullError
from bothways.types import UserError
from held_work import wait
from toy_model import seeded, spec


class Slow:
    """Sums of pictures times the key; the first batch waits until it is let go."""

    def __init__(self) -> None:
        self.free, self.begun = threading.Event(), threading.Event()
        self.batches: list[tuple[Any, int]] = []

    def __call__(self, key: Any, images: Tensor) -> Sequence[Any]:
        self.batches.append((key, len(images)))
        self.begun.set()
        assert self.free.wait(60)
        if key == "refused":
            raise UserError("not this")
        if bool(images.isnan().any()):
            raise RuntimeError("a picture that breaks it")
        return [key * float(image.sum()) for image in images]


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def held(slow: Slow) -> Iterator[Batcher]:
    """A batcher that is at work on one picture."""
    found = Batcher(slow, most=4, room=10)
    first = found.submit(1, torch.ones(3, 1, 1))
    assert slow.begun.wait(60)
    yield found
    slow.free.set()
    assert first.result(60) == 3
    found.close()


def asked(batcher: Batcher, key: Any, *values: float) -> list[Future[Any]]:
    return [batcher.submit(key, torch.full((3, 1, 1), value)) for value in values]


def test_the_oldest_comes_first_and_only_one_key_is_in_a_batch(held: Batcher, slow: Slow) -> None:
    told = [*asked(held, 2, 1, 2), *asked(held, 5, 1), *asked(held, 2, 3, 4, 5)]
    assert held.waiting == 6
    slow.free.set()
    assert [one.result(60) for one in told] == [6, 12, 15, 18, 24, 30]
    assert slow.batches == [(1, 1), (2, 4), (5, 1), (2, 1)]


def test_no_more_wait_than_there_is_room_for(held: Batcher, slow: Slow) -> None:
    told = asked(held, 1, *range(10))
    with pytest.raises(FullError, match="10 pictures wait already") as refusal:
        held.submit(1, torch.ones(3, 1, 1))
    assert "\n" not in str(refusal.value)
    slow.free.set()
    assert [one.result(60) for one in told] == [3 * value for value in range(10)]


def test_who_no_longer_waits_is_not_computed(held: Batcher, slow: Slow) -> None:
    first, second, third = asked(held, 1, 1, 2, 3)
    assert second.cancel()
    slow.free.set()
    assert (first.result(60), third.result(60)) == (3, 9)
    assert slow.batches[1:] == [(1, 2)]


def test_one_that_fails_takes_no_other_with_it(held: Batcher, slow: Slow) -> None:
    good, bad, last = asked(held, 1, 1, float("nan"), 2)
    refused = asked(held, "refused", 1, 2)
    slow.free.set()
    assert (good.result(60), last.result(60)) == (3, 6)
    with pytest.raises(RuntimeError, match="breaks it"):
        bad.result(60)
    for one in refused:
        with pytest.raises(UserError, match="not this"):
            one.result(60)
    assert slow.batches[1:] == [(1, 3), (1, 1), (1, 1), (1, 1), ("refused", 2)]
    assert held.alive


def test_what_waits_is_answered_before_it_ends(held: Batcher, slow: Slow) -> None:
    told = asked(held, 1, 1, 2, 3, 4, 5)
    ending = threading.Thread(target=held.close)
    ending.start()
    assert wait(lambda: not held.alive)
    with pytest.raises(FullError, match="stopping"):
        held.submit(1, torch.ones(3, 1, 1))
    slow.free.set()
    ending.join(60)
    assert [one.result(0) for one in told] == [3, 6, 9, 12, 15]


def test_together_is_as_alone() -> None:
    """Against each picture alone in float64."""
    model, exact = load_model(seeded(), spec=spec()), load_model(seeded().double(), spec=spec())
    images = torch.rand(24, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    sizes: list[int] = []

    def answer(key: Any, batch: Tensor) -> Sequence[Any]:
        with torch.no_grad():
            return list(model.outputs(batch))

    batcher = Batcher(answer, most=8, room=24, told=sizes.append)
    with batcher._changed:  # all are there before the first batch
        told = [batcher.submit(0, image) for image in images]
    found = torch.stack([one.result(60) for one in told])
    batcher.close()
    assert sizes == [8, 8, 8]
    with torch.no_grad():
        alone = torch.cat([exact.outputs(image[None].double()) for image in images])
    assert (found - alone).abs().max() < 1e-5
