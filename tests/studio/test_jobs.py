"""Jobs: one at a time, watched and stopped from outside; the folder is whole whatever happens."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bothways.runs import RunFolder
from bothways.studio import child
from bothways.studio.fragments import status
from bothways.studio.jobs import Job, Jobs
from bothways.studio.requests import (
    Request,
    draw_request,
    explain_request,
    photo_request,
    photo_tasks,
    read_box,
    read_changes,
    read_lines,
    takes,
)
from bothways.studio.tabs.walk import ask as walk_of
from bothways.tasks.shelf import work_of
from bothways.tasks.work import perform
from bothways.types import UserError
from held_work import Held, wait
from small_flow import write_small_flow
from toy_model import seeded

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"
TASKS = photo_tasks()


def drawn(model: str, classes: tuple[str, ...] = (), recipe: str | None = "das", seed: int = 0, **more) -> Request:
    """The request of a form that draws quickly."""
    told = {"prompts": "", "n": 1, "steps": 6, "data": "", "changes": "batch=1", **more}
    return draw_request(model, classes, recipe=recipe, seed=seed, **told)


def changed(task: str, photo: torch.Tensor, mask=None, style=None, classes: tuple[str, ...] = ()) -> Request:
    told = {"prompts": "", "n": 1, "steps": 6, "seed": 0, "data": "", "changes": "batch=1"}
    return photo_request(task, photo, mask, None, style, TOY, classes, **told)


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    found = Jobs(tmp_path / "runs")
    yield found
    found.close()


def ended(job: Job, soon: Callable[[Job], bool] = lambda job: not job.active) -> Job:
    for _ in range(6000):
        if soon(job):
            return job
        threading.Event().wait(0.01)
    raise AssertionError(f"{job.name} is still {job.state} at step {job.step}")


def test_one_at_a_time_in_order_and_found_again(jobs: Jobs, tmp_path: Path) -> None:
    first, second, never = (Held(tmp_path / name) for name in ("first", "second", "never"))
    one, two = jobs.submit(first), jobs.submit(second)
    assert (one.name, two.name) == ("held-001", "held-002")
    assert wait(lambda: first.begun)
    assert not second.begun
    assert (two.state, jobs.before(two)) == ("waiting", 1)
    assert jobs.latest("held") is one  # what a page that is opened now shows
    first.go_on(1)
    ended(one, lambda job: job.step == 1)
    jobs.submit(never).stop()
    assert jobs.all[-1].state == "stopped"  # at once, though another is at work
    assert (one.state, one.total, one.captions) == ("running", 3, {0: "one"})
    assert wait(lambda: 0 in one.pictures)  # it comes after its step
    assert (one.pictures[0] - 1 / 3).abs().max() < 1e-6
    first.go_on(2)
    assert ended(one).state == "complete"
    assert wait(lambda: second.begun)
    assert jobs.latest("held") is two
    assert jobs.find("held-001") is one
    assert jobs.latest("other") is None
    second.go_on(3)
    assert ended(two).state == "complete"
    jobs.close()
    assert not never.begun


def test_a_name_that_is_on_disk_is_not_taken(jobs: Jobs, tmp_path: Path) -> None:
    (jobs.runs / "held-007").mkdir(parents=True)
    (jobs.runs / "held-notes").mkdir()
    job = jobs.submit(request := Held(tmp_path / "signs"))
    assert job.name == "held-008"
    request.go_on(3)
    ended(job)


def test_close_stops_what_runs_and_what_waits(tmp_path: Path) -> None:
    jobs, first, second = Jobs(tmp_path / "runs"), Held(tmp_path / "first"), Held(tmp_path / "second")
    one, two = jobs.submit(first), jobs.submit(second)
    assert wait(lambda: first.begun)
    first.go_on(3)
    jobs.close()
    assert (one.active, two.state) == (False, "stopped")
    assert first.closed
    assert not second.begun
    assert not two.folder.exists()


def test_a_drawing_is_that_of_the_command_line(jobs: Jobs, tmp_path: Path) -> None:
    job = ended(jobs.submit(drawn(TOY, ("anchor", "barrel"), seed=3)))
    assert (job.state, job.message) == ("complete", "")
    assert job.step == job.total == 12
    told = {"n": 1, "steps": 6, "batch": 1, "seed": 3}
    same = work_of("generate", TOY, ["anchor", "barrel"], recipe="das", out=tmp_path / "same", **told)
    perform(same)
    records = RunFolder.open(job.folder).pictures
    assert [record["seed"] for record in records] == [3_000_000, 3_000_001]
    assert job.captions == {0: "anchor, seed 3000000", 1: "barrel, seed 3000001"}
    for record in records:
        shown = RunFolder.open(job.folder).read_picture(record)
        assert (shown - same.images[record["index"]]).abs().max() == 0
        assert (shown - job.pictures[record["index"]]).abs().max() < 1 / 255
    assert (job.folder / "report.html").is_file()


def test_stop_keeps_what_is_there(jobs: Jobs) -> None:
    job = jobs.submit(drawn(TOY, ("anchor",), steps=100_000))
    ended(job, lambda job: job.step > 2)
    job.stopping.set()
    assert ended(job).state == "stopped"
    folder = RunFolder.open(job.folder)
    assert folder.status["state"] == "stopped"
    (record,) = folder.pictures
    assert record["unfinished"]
    assert 2 < record["step"] < 100_000
    assert (folder.read_picture(record) - job.pictures[0]).abs().max() < 1 / 255
    assert (job.folder / "report.html").is_file()
    assert folder.load_state() is not None  # the command line can go on with --resume


def test_what_fails_says_so_and_the_next_is_done(jobs: Jobs) -> None:
    wrong = jobs.submit(drawn(TOY, ("no such thing",)))
    broken = jobs.submit(drawn(f"{TOY.rpartition(':')[0]}:fails"))
    right = jobs.submit(drawn(TOY, ("anchor",)))
    assert ended(right).state == "complete"
    assert wrong.state == broken.state == "failed"
    assert "no class 'no such thing'" in wrong.message
    assert "a mistake of mine" in broken.message
    assert "\n" not in wrong.message + broken.message
    assert not wrong.folder.exists()


def test_a_hole_is_filled_and_nothing_else_changes(jobs: Jobs) -> None:
    photo, mask = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)), torch.zeros(16, 16)
    photo = (255 * photo).round() / 255
    mask[4:9, 5:12] = 1
    job = ended(jobs.submit(changed("edit", photo, mask, classes=("barrel",))))
    assert job.message == ""
    folder = RunFolder.open(job.folder)
    moved = (folder.read_picture(folder.pictures[0]) - photo).abs().amax(0) > 0
    assert moved[mask > 0].any()
    assert not moved[mask == 0].any()


@pytest.mark.parametrize("task", ["style", "invert", "accentuate"])
def test_a_photo_is_restyled_rebuilt_and_accentuated(jobs: Jobs, task: str) -> None:
    photo, painting = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    with pytest.raises(UserError, match=f"{task} may change the whole photo; clear the mask"):
        changed(task, photo, torch.ones(16, 16), painting, ("barrel",))  # painted for another task
    job = ended(jobs.submit(changed(task, photo, None, painting, ("barrel",))))
    assert job.message == ""
    settings = RunFolder.open(job.folder).settings
    assert (settings["task"], settings["settings"]["recipe"]) == (task, task)
    assert ("style" in settings["drawn"], "mask" in settings["drawn"]) == (task == "style", False)


def test_a_walk_goes_there_and_back(jobs: Jobs, tmp_path: Path) -> None:
    flow = write_small_flow(tmp_path / "flow")
    photo = torch.rand(3, 10, 14, generator=torch.Generator().manual_seed(1))
    job = ended(jobs.submit(Request("walk", "walk", {"flow": str(flow), "photo": photo, "steps": 3})))
    assert job.message == ""
    assert [record["depth"] for record in RunFolder.open(job.folder).pictures] == pytest.approx(
        [0, 1 / 3, 2 / 3, 1, 1, 2 / 3, 1 / 3, 0], abs=1e-4
    )


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: drawn(""), "no model was chosen"),
        (lambda: drawn(TOY, recipe="dass"), "no recipe 'dass'; type das"),
        (lambda: drawn(TOY, steps=-1), '"Steps" is -1; fill in a whole number, 0 or more'),
        (lambda: drawn(TOY, n=0), '"Count" is 0; fill in a whole number, 1 to 200'),
        (lambda: drawn(TOY, n=201), '"Count" is 201; fill in'),
        (lambda: drawn(TOY, n=float("inf")), '"Count" is inf; fill in a whole number, 1 to 200'),
        (lambda: drawn(TOY, seed=-1), '"Seed" is -1; fill in a whole number, 0 or more'),
        (lambda: walk_of("bundled:cifar10-prg", torch.zeros(3, 8, 8), 501, None, None), '"Steps each way" is 501'),
        (lambda: explain_request(TOY, "x", (), 1, None, None, 0), '"Portraits" is 1; fill in a whole number, 2 or'),
        (lambda: changed("edit", torch.zeros(3, 8, 8)), "edit needs a target"),
        (lambda: changed("inpaint", torch.zeros(3, 8, 8)), "needs a hole to fill"),
        (
            lambda: changed("accentuate", torch.zeros(3, 8, 8), torch.ones(8, 8)),
            "may change the whole photo; clear",
        ),
        (lambda: changed("style", torch.zeros(3, 8, 8)), "no style picture was given"),
    ],
)
def test_a_mistake_is_refused_before_it_waits(ask: Callable[[], Request], says: str) -> None:
    with pytest.raises(UserError, match=says):
        ask()


def test_a_form_shows_what_its_task_takes() -> None:
    shown = {name: tuple(takes(task, field) for field in ("classes", "mask", "style")) for name, task in TASKS.items()}
    assert shown == {
        "Edit": (True, True, False),
        "Inpaint": (True, True, False),
        "Style": (False, False, True),
        "Invert": (False, False, False),
        "Accentuate": (True, False, False),
    }


def test_a_form_has_the_weights_of_a_file_model(jobs: Jobs, tmp_path: Path) -> None:
    save_file(seeded(seed=12).state_dict(), tmp_path / "own.safetensors")
    job = ended(jobs.submit(drawn(TOY, ("anchor",), weights=str(tmp_path / "own.safetensors"))))
    assert job.message == ""
    same = work_of("generate", f"{TOY.rpartition(':')[0]}:other", ["anchor"], recipe="das", n=1, steps=6, batch=1)
    perform(same)
    (record,) = RunFolder.open(job.folder).pictures
    assert torch.equal(RunFolder.open(job.folder).read_picture(record), same.images[0])


def test_again_asks_for_the_next_seed() -> None:
    first = drawn(TOY, ("anchor",), seed=3)
    assert first.again().values == {**first.values, "seed": 4}


def test_fields_are_read() -> None:
    assert read_lines(" a\n\n b:-0.3 ") == ("a", "b:-0.3")
    assert read_lines(None) == ()
    assert read_changes("generate", "rms = 0.04\ncanvas.levels=1,2") == {"rms": "0.04", "canvas.levels": ["1", "2"]}
    assert read_box("8, 8 20 20") == (8, 8, 20, 20)
    assert read_box("") is None
    for text in ("8 8 20", "a b c d", "-1 0 4 4"):
        with pytest.raises(UserError, match="left, top, right and bottom"):
            read_box(text)
    with pytest.raises(UserError, match="no setting 'rmss'"):
        read_changes("generate", "rmss=1")
    with pytest.raises(UserError, match="seed has its own field"):
        read_changes("generate", "seed=1")


def test_a_job_says_what_is_being_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple] = []

    class Heard:
        stopping = threading.Event()

        def tell(self, *message: object) -> None:
            told.append(message)

    monkeypatch.setattr(child, "BETWEEN_STAGES", 0.001)
    assert child.follow(drawn(TOY, ("anchor",)), tmp_path / "run", Heard())[0] == "complete"  # type: ignore[arg-type]
    kinds = [message[0] for message in told]
    assert "doing" in kinds[: kinds.index("begun")]  # while it is prepared
    assert {message[1] for message in told if message[0] == "doing"} & {"preparing", "loading models"}
    job = Job("generate-001", tmp_path, drawn(TOY), state="preparing")
    job._hear("doing", "reading pictures, 20 of 500")
    assert "is being prepared: reading pictures, 20 of 500" in status(job)
