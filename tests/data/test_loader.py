"""Batches made ahead: the same, in order, from any step on, in another process; its failures are one line."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import bothways
from bothways.data.images import Augmentation, batches
from bothways.data.loader import prefetch
from bothways.data.sources import ImageSet
from bothways.models.velocity import Flow
from bothways.representation.couplings.ot import ot
from bothways.training.pairs import pairs
from bothways.types import ModelSpec, RunError, UserError


def paired() -> object:
    images = torch.randint(0, 256, (12, 3, 4, 4), generator=torch.Generator().manual_seed(3)).byte()
    code = Flow(nn.Identity(), ModelSpec(4, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 0)).code
    return pairs(batches(ImageSet(images, torch.arange(12), ("all",)), 4, 1, Augmentation(crop=1)), code, ot, 2)


def facts(step: int) -> tuple[Tensor, ...]:
    return (torch.tensor([step, os.getpid(), torch.get_num_threads()]),)


def failing(error: Exception, step: int) -> tuple[Tensor, ...]:
    if step == 2:
        raise error
    return (torch.zeros(1),)


def dying(step: int) -> tuple[Tensor, ...]:
    if step == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return (torch.zeros(1),)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_are_those_made_in_line_from_any_step_on(workers: int) -> None:
    batch, state = paired(), torch.random.get_rng_state()
    found = list(prefetch(batch, 3, 9, workers=workers))
    assert len(found) == 6
    for step, made in enumerate(found, start=3):
        assert all(torch.equal(one, other) for one, other in zip(made, batch(step), strict=True))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert list(prefetch(batch, 4, 4, workers=workers)) == []


def test_another_process_of_one_thread_makes_them() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        found = [made[0].tolist() for made in prefetch(facts, 0, 5)]
        assert [step for step, _, _ in found] == list(range(5))
        assert {threads for _, _, threads in found} == {1}
        assert len({pid for _, pid, _ in found} | {os.getpid()}) == 2
        assert {pid for _, pid, _ in (made[0].tolist() for made in prefetch(facts, 0, 5, workers=0))} == {os.getpid()}
    finally:
        torch.set_num_threads(threads)


@pytest.fixture
def _spawning() -> Iterator[None]:
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.usefixtures("_spawning")
@pytest.mark.slow
def test_they_can_be_made_by_a_process_that_shares_no_memory() -> None:
    batch = paired()
    (made,) = prefetch(batch, 5, 6)
    assert all(torch.equal(one, other) for one, other in zip(made, batch(5), strict=True))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("error", [ValueError("two\nlines"), UserError("no picture"), RuntimeError("odd")])
def test_a_batch_that_cannot_be_made_is_one_line(error: Exception, workers: int) -> None:
    with closing(prefetch(partial(failing, error), 0, 9, workers=workers)) as made:
        next(made), next(made)
        with pytest.raises(RunError) as said:
            next(made)
    told = f"{type(error).__name__}: {' '.join(str(error).split())}"
    assert str(said.value) == f"the batch of step 3 could not be made: {told}"


def test_a_worker_that_is_killed_is_one_line() -> None:
    with pytest.raises((RunError, RuntimeError)) as said:
        list(prefetch(dying, 0, 9))
    assert "\n" not in str(said.value).strip()
    assert "DataLoader worker" in str(said.value)


@pytest.mark.usefixtures("_spawning")
def test_what_cannot_be_sent_to_a_process_is_one_line() -> None:
    with pytest.raises(RunError, match=r"^the batches cannot be made by another process .*; type workers=0$") as said:
        list(prefetch(lambda step: (torch.zeros(1),), 0, 2))
    assert "\n" not in str(said.value)


SCRIPT = """
import multiprocessing
import bothways

multiprocessing.set_start_method({method!r}, force=True)
{guard}bothways.pretrain("swiss-roll", out={out!r}, steps=1, batch=8, validation=8, workers={workers}, overwrite=True)
"""


def run_script(place: Path, **options: object) -> subprocess.CompletedProcess[str]:
    (place / "script.py").write_text(SCRIPT.format(out=str(place / "run"), **options))
    path = {"PYTHONPATH": str(Path(bothways.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, place / "script.py"], env=os.environ | path, text=True, capture_output=True, check=False
    )


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.slow
def test_a_script_without_a_guard_is_told_of_one(tmp_path: Path, method: str) -> None:
    found = run_script(tmp_path, method=method, guard="", workers=1)
    assert found.returncode == 1
    told = [line for line in found.stderr.splitlines() if line.startswith("bothways.types.")]
    assert len(told) >= 2  # of the process that was started, and of the one that started it
    assert all('below if __name__ == "__main__":, or type workers=0' in line for line in (told[0], told[-1]))
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"  # not begun anew


@pytest.mark.slow
def test_a_script_with_a_guard_goes_through(tmp_path: Path) -> None:
    method = "spawn"
    assert run_script(tmp_path, method=method, guard='if __name__ == "__main__": ', workers=1).returncode == 0


def test_stopping_ends_the_worker() -> None:
    made = prefetch(facts, 0, 100)
    pid = next(made)[0][1].item()
    made.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_worker_outlives_what_a_scheduler_sends_to_all() -> None:
    made = prefetch(facts, 0, 100, depth=2)
    pid = next(made)[0][1].item()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        os.kill(pid, number)
    for _ in range(20):
        assert next(made)[0][1].item() == pid
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(RunError, match="a data worker process ended"):
        list(made)


def hangs(step: int) -> tuple[Tensor, ...]:
    if step == 1:
        time.sleep(100)
    return facts(step)


def test_a_worker_that_hangs_is_ended_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.2)
    made = prefetch(hangs, 0, 100)
    pid = next(made)[0][1].item()
    begun = time.monotonic()
    made.close()
    while time.monotonic() < begun + 50:  # it is told, not waited for
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        multiprocessing.active_children()  # takes the ended ones away
        time.sleep(0.05)
    raise AssertionError("the worker is still there")
