"""Work in a process of its own: whatever a model does, the next job is done, Stop stops, and the folder is whole."""

from __future__ import annotations

import importlib.util
import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bothways import registry
from bothways.runs import RunFolder
from bothways.studio import child, jobs
from bothways.studio.child import IMPORTED_AHEAD, Child, EndedError, answer, make_ready
from bothways.studio.jobs import KEPT, WAITING_AT_MOST, Job, Jobs
from bothways.studio.models import about
from bothways.studio.requests import Request, draw_request
from bothways.types import UserError
from held_work import Held, wait

TESTS = Path(__file__).resolve().parents[1]
TOY, STUBBORN = f"{TESTS / 'toy_model.py'}:build", f"{TESTS / 'stubborn_model.py'}"


def drawn(model: str, **more: object) -> Request:
    told = {"prompts": "", "n": 1, "steps": 8, "seed": 0, "data": "", "changes": "batch=1", "recipe": "das"}
    return draw_request(model, ("anchor",), **{**told, **more})  # type: ignore[arg-type]


def ended(job: Job) -> Job:
    assert wait(lambda: not job.active, 120), f"{job.name} is still {job.state} at step {job.step}"
    return job


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "PATIENCE", 0.5)
    monkeypatch.setattr(child, "GRACE", 3.0)


@pytest.fixture
def one(tmp_path: Path, impatient: None) -> Iterator[Jobs]:
    found = Jobs(tmp_path / "runs")
    yield found
    found.close()


def resumed(folder: Path) -> RunFolder:
    """Go on in a terminal, with a model that is well again."""
    from bothways.tasks.shelf import work_of
    from bothways.tasks.work import perform

    settings = RunFolder.open(folder).settings
    told = {"recipe": "das", "n": 1, "steps": 8, "seed": 0, "batch": 1}
    perform(work_of("generate", settings["model"]["address"], ["anchor"], out=folder, resume=True, **told))
    return RunFolder.open(folder)


@pytest.mark.parametrize("model", ["stuck", "deaf"])
def test_stop_works_in_an_endless_loop_and_the_folder_goes_on(one: Jobs, monkeypatch, model: str) -> None:
    job = one.submit(drawn(f"{STUBBORN}:{model}"))
    assert wait(lambda: job.step == 3, 120)
    time.sleep(0.3)
    assert job.active
    job.stop()
    assert (ended(job).state, job.message) == ("stopped", "what was drawn so far is kept")
    status = RunFolder.open(job.folder).status
    assert (status["state"], "--resume" in status["message"]) == ("stopped", True)
    assert ended(one.submit(drawn(TOY))).state == "complete"
    stubborn = registry.load_attribute(f"{STUBBORN}:{model}", "model").__globals__
    monkeypatch.setitem(stubborn, "CALLS", 10_000)
    folder = resumed(job.folder)
    assert folder.status["state"] == "complete"
    assert [frame["step"] for frame in folder.frames] == list(range(1, 9))


@pytest.mark.parametrize("model", ["never", "stuck"])
def test_what_takes_too_long_is_stopped(tmp_path: Path, impatient: None, monkeypatch, model: str) -> None:
    late = threading.Event()
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 3600 * late.is_set())
    monkeypatch.setattr(jobs, "time", clock)
    short = Jobs(tmp_path / "runs", minutes=45)
    try:
        job = short.submit(drawn(f"{STUBBORN}:{model}"))
        assert wait(lambda: job.state == "preparing" if model == "never" else job.step == 3, 120)
        late.set()
        assert ended(job).state == "stopped"
        assert job.message == "45 minutes are the most; what was drawn so far is kept"
        assert job.folder.exists() == (model == "stuck")
        if model == "stuck":
            assert RunFolder.open(job.folder).status["state"] == "stopped"
            assert RunFolder.open(job.folder).load_state() is not None
    finally:
        short.close()


@pytest.mark.parametrize(
    ("model", "says"),
    [("leaves", "SystemExit: I leave"), ("leaves_in_time", "SystemExit: 3"), ("falls", "ended with exit code 7")],
)
def test_a_model_that_leaves_stops_only_its_own_job(one: Jobs, model: str, says: str) -> None:
    job, following = one.submit(drawn(f"{STUBBORN}:{model}")), one.submit(drawn(TOY))
    assert says in ended(job).message
    assert (job.state, "\n" in job.message) == ("failed", False)
    assert ended(following).state == "complete"
    if model == "leaves_in_time":
        assert RunFolder.open(job.folder).status["state"] != "running"


@pytest.mark.parametrize(
    ("model", "says"),
    [("leaves", "I leave"), ("falls", "exit code 7"), ("never", "no answer in"), ("fails", "no function 'fails'")],
)
def test_a_form_that_asks_for_a_stubborn_model_is_told(impatient: None, monkeypatch, model: str, says: str) -> None:
    monkeypatch.setattr(answer, "__kwdefaults__", {"seconds": 15.0 if model == "never" else 120.0})
    with pytest.raises(UserError, match=says) as refusal:
        about(f"{STUBBORN}:{model}")
    assert "\n" not in str(refusal.value)


def test_what_fell_is_not_left_running(one: Jobs, tmp_path: Path) -> None:
    """Killed in the middle, a run says in its folder that it failed."""
    job = one.submit(held := Held(tmp_path / "signs"))
    assert wait(lambda: held.begun, 120)
    (pid,) = jobs_processes()
    child.os.kill(pid, child.signal.SIGKILL)
    assert ended(job).state == "failed"
    status = RunFolder.open(job.folder).status
    assert (status["state"], "exit code -9" in status["message"]) == ("failed", True)


def processes_of(pid: int | str) -> list[int]:
    tasks = Path(f"/proc/{pid}/task")
    if not tasks.is_dir():
        pytest.skip("/proc is not here")
    return [int(pid) for task in tasks.iterdir() for pid in (task / "children").read_text().split()]


def origin() -> int:
    """The process that those of the jobs are forked from."""
    make_ready()
    found = forkserver._forkserver._forkserver_pid
    assert found in processes_of("self")
    return found


def jobs_processes() -> list[int]:
    return processes_of(origin())


def test_nothing_is_left_when_the_server_ends(one: Jobs, tmp_path: Path) -> None:
    job = one.submit(held := Held(tmp_path / "signs"))
    assert wait(lambda: held.begun, 120)
    one.close()
    assert (job.state, held.closed) == ("stopped", True)
    assert wait(lambda: not jobs_processes())


def test_a_process_runs_only_what_its_server_may() -> None:
    registry.allow_only([f"{STUBBORN}:stuck"])
    try:
        with pytest.raises(UserError, match="was not allowed at the start"):
            answer(registry.load_attribute, TOY, "model")
        with pytest.raises(UserError, match="was not allowed at the start"):
            about(TOY)
    finally:
        registry.allow_only(None)


# ---- what a process begins with -------------------------------------------------------------------------------------


def begun_with(mark: str) -> dict[str, object]:
    """Of the process that this runs in. mark: what it leaves behind, where another might find it."""
    facts = {
        "parent": os.getppid(), "session": os.getsid(0), "threads": len(list(Path("/proc/self/task").iterdir())),
        "siblings": len(list(Path(f"/proc/{os.getppid()}/task").iterdir())), "marks": getattr(registry, "marks", ""),
        "drawn": float(np.random.rand()), "blocked": signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "files": [str(file.readlink()) for file in Path("/proc/self/fd").glob("*") if file.is_symlink()],
    }  # fmt: skip
    registry.marks = mark  # type: ignore[attr-defined]
    product = torch.rand(200, 200) @ torch.rand(200, 200)  # which waits for ever where a library was forked at work
    return {**facts, "finite": bool(np.isfinite(np.ones((200, 200)) @ product.numpy()).all())}


def test_processes_share_what_is_imported_and_nothing_else() -> None:
    first, second = answer(begun_with, "a mark"), answer(begun_with, "a mark")
    assert first["parent"] == second["parent"] == origin()
    maps = Path(f"/proc/{origin()}/maps").read_text()
    assert "libtorch" in maps  # imported before the fork
    for one in (first, second):
        assert (one["threads"], one["siblings"], one["marks"]) == (2, 1, "")  # its own, and one that listens
        assert (one["blocked"], one["finite"]) == (False, True)
        assert one["session"] not in (os.getsid(0), one["parent"])
    assert first["drawn"] != second["drawn"]
    assert len(second["files"]) == len(first["files"])  # no process holds what is another's


def test_what_is_imported_ahead_can_be() -> None:
    for module in IMPORTED_AHEAD:  # the process that forks takes one that is missing for none
        assert importlib.util.find_spec(module)


@pytest.mark.slow
def test_an_interrupt_of_the_terminal_leaves_it_and_when_it_is_killed_another_is_started() -> None:
    first = origin()
    assert answer(os.getppid) == first
    os.kill(first, signal.SIGINT)  # a terminal sends it to every process of its group
    assert answer(os.getppid) == first
    os.kill(first, signal.SIGKILL)
    assert wait(lambda: "Z" in Path(f"/proc/{first}/stat").read_text().rpartition(")")[2])
    second = origin()
    os.kill(second, signal.SIGINT)  # while it imports
    assert answer(os.getppid) == second != first


def test_where_no_process_starts_a_job_says_so(one: Jobs, monkeypatch, tmp_path: Path) -> None:
    def full() -> None:
        raise OSError("no process is left")

    monkeypatch.setattr(child, "make_ready", full)
    with pytest.raises(UserError, match="no process can be started: no process is left"):
        answer(os.getppid)
    job = ended(one.submit(Held(tmp_path / "signs")))
    assert (job.state, job.message) == ("failed", "no process can be started: no process is left")
    monkeypatch.undo()
    assert answer(os.getppid) == origin()


def test_a_process_that_is_no_more_says_so() -> None:
    gone = Child()
    gone.begin(time.sleep)  # it cannot: another argument is given than it takes
    assert wait(lambda: gone.message(0.1) is not None)
    with pytest.raises(EndedError, match="exit code 0"):
        wait(lambda: gone.message(0.1) is not None)
    gone.stop()
    gone.end()


def test_the_queue_has_an_end_and_what_ended_is_let_go(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(jobs, "Child", lambda: pytest.fail("nothing is to begin"))
    found = Jobs.__new__(Jobs)
    found.__dict__.update(runs=tmp_path, kept=KEPT, all=[], _waiting=jobs.Queue(), _adding=jobs.threading.Lock())
    photo = torch.rand(3, 4, 4)
    request = Request("photo", "edit", {"photo": photo})
    for _ in range(WAITING_AT_MOST):
        found.submit(request)
    with pytest.raises(UserError, match=f"{WAITING_AT_MOST} runs wait already") as refusal:
        found.submit(request)
    assert "\n" not in str(refusal.value)
    assert len(found.all) == WAITING_AT_MOST
    for job in found.all:
        job.stop()
    for _ in range(3 * KEPT):
        found.submit(request).stop()
    assert len(found.all) == KEPT + 1
    assert [job.name for job in found.all] == sorted(job.name for job in found.all)


def test_a_photo_comes_whole_to_the_process() -> None:
    photo = torch.rand(3, 4, 5)
    request = Request("photo", "edit", {"photo": photo, "mask": None, "n": 1})
    again = Request.__new__(Request)
    again.__setstate__(request.__getstate__())
    assert torch.equal(again.values["photo"], photo)
    assert {name: value for name, value in again.values.items() if name != "photo"} == {"mask": None, "n": 1}
    assert request.__getstate__()["values"]["photo"].shape == (3, 4, 5)
