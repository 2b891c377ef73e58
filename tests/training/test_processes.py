"""Shares of a batch: all rows once, times spread evenly; what cannot be shared is refused."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn

from bothways.processes.group import Processes, join_processes
from bothways.types import UserError


def batch(step: int) -> tuple[Tensor, Tensor]:
    rows = torch.arange(12.0) + 100 * step
    return rows, -rows


def test_the_shares_hold_every_row_once_and_none_has_only_the_early_ones() -> None:
    shares = [Processes(rank=rank, count=3).share(batch, 12)(2) for rank in range(3)]
    whole = batch(2)
    assert all(len(part) == 4 for share in shares for part in share)
    assert torch.equal(torch.cat([share[0] for share in shares]).sort().values, whole[0])
    assert all(torch.equal(share[0], -share[1]) for share in shares)
    means = torch.stack([share[0].mean() for share in shares])
    assert (means - whole[0].mean()).abs().max() <= 1


def test_one_process_takes_all_and_changes_nothing() -> None:
    alone, network = join_processes("cpu"), nn.Linear(2, 2)
    assert alone.first
    assert alone.share(batch, 12) is batch
    assert alone.wrapped(network) is network
    assert torch.equal(alone.mean(torch.ones(2)), torch.ones(2))
    assert alone.least(3) == 3
    assert alone.any(True)
    assert alone.own([1, 2, 3]) == [1, 2, 3]
    alone.wait()


def test_the_parts_of_the_work_are_each_of_one_process() -> None:
    owned = [Processes(rank=rank, count=3).own(list(range(7))) for rank in range(3)]
    assert owned == [[0, 3, 6], [1, 4], [2, 5]]


def test_fewer_parts_than_processes_are_told_of_by_the_first() -> None:
    with pytest.warns(UserWarning, match="1 part for 2 processes: the others have nothing to do; type less"):
        Processes(rank=0, count=2).tell_of_idle(1, "type less")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Processes(rank=1, count=2).tell_of_idle(1, "type less")
        Processes(rank=0, count=2).tell_of_idle(2, "type less")


def test_a_batch_that_cannot_be_shared_names_one_that_can() -> None:
    with pytest.raises(UserError, match="--batch 13 is not divisible by 4 processes; type --batch 12"):
        Processes(rank=1, count=4).share(batch, 13)


def test_what_the_first_may_not_do_is_said_by_it() -> None:
    def refused() -> None:
        raise UserError("no place")

    with pytest.raises(UserError, match="no place"):
        Processes().on_first(refused)


def test_processes_that_cannot_meet_say_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=r"2 processes .* start them by torchrun"):
        join_processes("cpu")
