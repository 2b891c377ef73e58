"""Tasks shared by several processes give what one gives; a lost process ends the run, and fewer go on with it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import bothways
from bothways.runs import RunFolder
from bothways.types import Frame
from small_flow import write_small_flow
from together import End

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"
Call = Callable[..., list[End]]

pytestmark = pytest.mark.filterwarnings("default")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a flow, labelled pictures of 16 and 8 pixels, one of them unreadable, and pictures to train on."""
    folder = tmp_path_factory.mktemp("spread")
    source = torch.Generator().manual_seed(1)
    for split, count in (("train", 7), ("test", 5)):
        for name in ("anchor", "barrel", "candle", "dragon"):
            (folder / "data" / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = torch.randint(0, 256, (16, 16, 3), generator=source).byte().numpy()
                Image.fromarray(pixels).save(folder / "data" / split / name / f"{index}.png")
    (folder / "data" / "test" / "barrel" / "1.png").write_bytes(b"not a picture")
    write_small_flow(folder / "flow")
    return folder


# ---- what the processes run ------------------------------------------------------------------------------------------


def sample(place: str, out: str, **options: Any) -> Any:
    return bothways.sample(f"{place}/flow", 5, steps=2, batch=2, judges=[TOY], data=f"{place}/data", out=out, **options)


def likelihood(place: str, out: str, **options: Any) -> Any:
    data = {"data": f"{place}/data/train", "limit": 5, "steps": 2, "batch": 2}
    return bothways.likelihood(f"{place}/flow", **data, out=out, **options)


def features(place: str, out: str, **options: Any) -> Any:
    bothways.tasks.features.plan.ROWS = 4  # type: ignore[attr-defined]
    read = {"kind": ("walked", "pixels"), "depth": (0.5,), "steps": 2, "batch": 2, "workers": 0}
    return bothways.features(f"{place}/flow", f"{place}/data", **read, out=out, **options)


def evaluate(place: str, out: str, **options: Any) -> Any:
    corrupted = {"corruptions": "offline:contrast", "batch": 3}
    return bothways.evaluate(TOY, f"{place}/data", **corrupted, out=out, **options)


def generate(place: str, out: str, **options: Any) -> Any:
    drawn = {"n": 2, "steps": 3, "batch": 3, "gif": True, "judges": [TOY], "data": f"{place}/data"}
    return bothways.generate(TOY, ["anchor", "dragon", "candle"], **drawn, out=out, **options)


TASKS = {"sample": sample, "likelihood": likelihood, "features": features, "evaluate": evaluate, "generate": generate}


def all_tasks(place: str, out: str) -> None:
    """Every task in one launch; the result of each process is what the run folder holds."""
    for name, task in TASKS.items():
        result = task(place, f"{out}/{name}")
        if name in ("sample", "generate"):
            assert len(result.images) == len(RunFolder.open(f"{out}/{name}").pictures)


def lost_at(place: str, out: str, task: str, rank: int, frame: int, **options: Any) -> None:
    """A task in which one process is killed after so many of its frames."""
    bothways.tasks.generate.drawing.SECONDS_BETWEEN_SAVES = 0.0  # type: ignore[attr-defined]
    seen: list[Frame] = []

    def watched(now: Frame) -> None:
        seen.append(now)
        if len(seen) == frame and int(os.environ["RANK"]) == rank:
            os.kill(os.getpid(), signal.SIGKILL)

    TASKS[task](place, out, on_frame=watched, **options)


def late(place: str, out: str) -> None:
    """An evaluation that the second process comes to when the first could have counted something already."""
    work = bothways.tasks.evaluate.conditions  # type: ignore[attr-defined]
    work.SECONDS_BETWEEN_SAVES, take_up = 0.0, work.ConditionsWork._take_up

    def slowly(self: Any) -> None:
        time.sleep(1.5 * (os.environ["RANK"] == "1"))
        take_up(self)

    work.ConditionsWork._take_up = slowly
    TASKS["evaluate"](place, out)


def again(place: str, out: str, task: str) -> None:
    TASKS[task](place, out, resume=True)


# ---- what a run wrote ------------------------------------------------------------------------------------------------


def written(folder: Path) -> dict[str, Any]:
    """What a run holds, but for times, its own place and the settings."""
    aside = {"recipe.toml", "status.json", "given.json", "files.txt", "report.html", ".lock", "measures.json"}
    found: dict[str, Any] = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in aside):
        if not file.name.startswith("files-") and file.parent.name != "state":
            found[str(file.relative_to(folder))] = file.read_bytes()
    measures = json.loads((folder / "measures.json").read_text())
    return found | {"measures": {key: value for key, value in measures.items() if key != "cost"}}


@pytest.fixture(scope="module")
def alone(place: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one process writes."""
    out = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bothways.tasks.features.plan.ROWS", 4)
        return {name: (task(str(place), str(out / name)), written(out / name))[1] for name, task in TASKS.items()}


@pytest.mark.slow
def test_two_processes_write_what_one_writes(call: Call, place: Path, alone: dict[str, Any], tmp_path: Path) -> None:
    ends = call(2, "tasks/test_spread.py", "all_tasks", place=str(place), out=str(tmp_path))
    assert [end.code for end in ends] == [0, 0], ends
    for name in TASKS:
        now = written(tmp_path / name)
        assert now.keys() == alone[name].keys(), name
        assert [key for key in now if now[key] != alone[name][key]] == [], name
        folder = RunFolder.open(tmp_path / name)
        assert folder.status["state"] == "complete"
        assert not (folder.path / "shares").exists()
        assert folder.status["step"] == folder.status["steps"]


def test_who_comes_late_does_its_share(call: Call, place: Path, alone: dict[str, Any], tmp_path: Path) -> None:
    ends = call(2, "tasks/test_spread.py", "late", place=str(place), out=str(tmp_path / "evaluate"))
    assert [end.code for end in ends] == [0, 0], ends
    assert written(tmp_path / "evaluate") == alone["evaluate"]


@pytest.mark.parametrize(("task", "frame"), [("generate", 2), ("sample", 1), ("evaluate", 4), ("features", 3)])
@pytest.mark.slow
def test_a_lost_process_ends_the_run_and_two_finish_it(
    call: Call, place: Path, alone: dict[str, Any], tmp_path: Path, task: str, frame: int
) -> None:
    out = {"place": str(place), "out": str(tmp_path / "run"), "task": task}
    ends = call(3, "tasks/test_spread.py", "lost_at", **out, rank=1, frame=frame)
    assert [end.code for end in ends] == [1, -signal.SIGKILL, 1], ends
    status = RunFolder.open(tmp_path / "run").status
    assert "process 2 of 3" in ends[0].said
    assert "is lost" in ends[0].said
    assert "--resume" in ends[0].said
    assert status["state"] == "failed"
    assert "process 2 of 3" in status["message"]
    ends = call(2, "tasks/test_spread.py", "again", **out)
    assert [end.code for end in ends] == [0, 0], ends
    now = written(tmp_path / "run")
    assert now.keys() == alone[task].keys()
    assert [key for key in now if now[key] != alone[task][key]] == []
