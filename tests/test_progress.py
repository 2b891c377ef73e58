"""Stages of work: who hears of them, how long each took, and what a run folder says of them while a run goes on."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import torch

import bothways
from bothways.data.sources import load_images
from bothways.progress import Ledger, counted, listening, stage
from bothways.report import write_report
from bothways.runs import RunFolder
from bothways.runs import experiment as life
from bothways.runs.experiment import Experiment
from bothways.tasks.generate import drawing
from bothways.tasks.shelf import work_of
from small_flow import write_small_flow

MODEL = "bundled:cifar10-plain"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_stage_takes_its_time_without_that_of_the_stages_within() -> None:
    clock = Clock()
    with listening(Ledger(clock)) as ledger:
        clock.now += 100  # outside all stages
        with stage("measuring"):
            clock.now += 1
            with stage("reading pictures"):
                clock.now += 2
            for _ in counted([1, 2, 3], "judging"):
                clock.now += 4
            clock.now += 8
            assert ledger.seconds == {"measuring": 9.0, "reading pictures": 2.0, "judging": 12.0}
        with stage("reading pictures"):
            clock.now += 16
            assert ledger.seconds["reading pictures"] == 18.0  # not finished
    assert sum(ledger.seconds.values()) == 39.0


def test_items_are_counted_as_they_are_done() -> None:
    with listening(Ledger()) as ledger:
        seen = [
            (found.stage.name, found.stage.done, found.stage.total)
            for _ in counted("abc", "reading")
            for found in ledger.shown()
        ]
        assert seen == [("reading", 0, 3), ("reading", 1, 3), ("reading", 2, 3)]
        unknown = [ledger.shown()[0].stage.total for _ in counted(iter("ab"), "reading")]
        assert unknown == [0, 0]
    assert ledger.shown() == []


def test_the_time_left_falls_while_a_step_goes_on() -> None:
    clock = Clock()
    with listening(Ledger(clock)) as ledger, stage("evaluating", 3) as now:

        def left() -> float | None:
            return ledger.shown()[0].left

        clock.now += 10
        assert left() is None  # no step was made
        now.advance()
        assert left() == 20
        clock.now += 4
        assert left() == 16
        clock.now += 36  # longer than the first: 50 seconds for two
        assert left() == 25
        now.advance()
        assert left() == 25
        clock.now += 100
        assert left() is None  # the last takes longer than those before, and nothing says how long


def test_the_time_left_goes_by_the_weights_of_the_steps() -> None:
    clock = Clock()
    with listening(Ledger(clock)) as ledger, stage("evaluating", 3) as now:
        now.weights = (1, 4, 5)
        clock.now += 2
        now.advance()
        assert ledger.shown()[0].left == 18
        clock.now += 8
        assert ledger.shown()[0].left == 10
        clock.now += 10
        assert ledger.shown()[0].left == 20  # 20 seconds for the weight of 5
        now.advance(2)
        assert ledger.shown()[0].left == 0


def test_a_stage_ends_where_the_work_fails() -> None:
    with listening(Ledger()) as ledger:
        with pytest.raises(ValueError, match="broken"), stage("judging"):
            raise ValueError("broken")
        assert ledger.shown() == []


def test_only_the_thread_that_listens_is_heard() -> None:
    with listening(Ledger()) as ledger:
        other = threading.Thread(target=lambda: list(counted("ab", "reading")))
        other.start()
        other.join()
        assert ledger.seconds == {}


def test_pictures_are_counted_while_they_are_read() -> None:
    found: list[tuple[str, int]] = []

    class Heard(Ledger):
        def end(self, stage) -> None:
            found.append((stage.name, stage.done))
            super().end(stage)

    pictures = torch.rand(5, 3, 8, 8)
    with listening(Heard()):
        load_images(pictures)
        load_images(pictures, limit=3)
        load_images(pictures, first=2)
    assert found == [("reading pictures", 5), ("reading pictures", 3), ("reading pictures", 2)]


# ---- what the run folder says --------------------------------------------------------------------------------------


def status(folder: Path) -> dict:
    return json.loads((folder / "status.json").read_text())


def test_the_status_says_what_is_done_at_once_and_while_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life, "SECONDS_BETWEEN_WRITES", 0.01)
    run = Experiment.begin("generate", {}, tmp_path / "a", of=8)
    with run.making("drawing", 400, 100) as steps:
        first = status(tmp_path / "a")
        assert (first["state"], first["of"], first["step"], first["steps"]) == ("running", 8, 100, 400)
        assert first["doing"] == {"name": "drawing", "done": 100, "total": 400}
        steps.advance(20)
        with stage("reading pictures", 50) as reading:
            reading.advance(7)
            wait_for(tmp_path / "a", "doing", {"name": "reading pictures", "done": 7, "total": 50})
            told = status(tmp_path / "a")
            assert (told["step"], told["steps"]) == (120, 400)
            assert set(told["stages"]) == {"drawing", "reading pictures"}
            assert told["seconds"] == pytest.approx(sum(told["stages"].values()))
    with run.measuring(), stage("judging"):
        wait_for(tmp_path / "a", "doing", {"name": "judging", "done": 0, "total": 0})
    run.complete({})
    last = status(tmp_path / "a")
    assert (last["state"], last["doing"], last["step"], last["steps"]) == ("complete", None, 120, 400)
    assert last["seconds"] == pytest.approx(sum(last["stages"].values()))
    assert {"drawing", "reading pictures", "measuring", "judging"} == set(last["stages"])


def wait_for(folder: Path, key: str, value: object) -> None:
    for _ in range(3000):
        if status(folder)[key] == value:
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"{key} stays {status(folder)[key]}")


def test_a_run_that_is_stopped_while_it_is_measured_says_so(tmp_path: Path) -> None:
    run = Experiment.begin("generate", {}, tmp_path / "a")
    with pytest.raises(KeyboardInterrupt), run.measuring("drawn"):
        raise KeyboardInterrupt
    told = status(tmp_path / "a")
    assert (told["state"], told["doing"]) == ("stopped", None)
    assert told["message"] == "drawn but not measured (stopped); type --resume to continue"


def test_a_resumed_run_adds_to_the_seconds_of_each_stage(tmp_path: Path) -> None:
    run = Experiment.begin("generate", {}, tmp_path / "a")
    run.prepared({"preparing": 3.0, "reading pictures": 10.0})
    with run.making("drawing", 2):
        pass
    assert run.folder is not None
    run.folder.release()
    again = Experiment.begin("generate", {}, tmp_path / "a", resume=True)
    again.prepared({"preparing": 2.0, "loading models": 1.0})
    assert {name: again.stages[name] for name in again.stages if name != "drawing"} == {
        "preparing": 5.0, "reading pictures": 10.0, "loading models": 1.0,
    }  # fmt: skip
    assert again.cost["seconds"] == pytest.approx(sum(again.cost["stages"].values()))


def test_a_run_of_an_older_version_keeps_its_seconds(tmp_path: Path) -> None:
    run = Experiment.begin("generate", {}, tmp_path / "a")
    assert run.folder is not None
    run.folder.write_status("stopped", seconds=60.0)
    run.folder.release()
    assert Experiment.begin("generate", {}, tmp_path / "a", resume=True).cost["seconds"] == 60.0


def test_a_run_that_is_lost_keeps_its_seconds_by_stage(tmp_path: Path) -> None:
    run = Experiment.begin("generate", {}, tmp_path / "a")
    run.prepared({"preparing": 3.0})
    with run.making("drawing", 2):
        pass
    Experiment.lost(tmp_path / "a", "it was killed", stopped=False, seconds=100.0)
    told = status(tmp_path / "a")
    assert (told["state"], told["doing"], told["seconds"]) == ("failed", None, pytest.approx(100.0))
    assert sum(told["stages"].values()) == pytest.approx(100.0)


# ---- whole runs ----------------------------------------------------------------------------------------------------


def test_the_time_of_a_drawing_is_all_of_it(tmp_path: Path) -> None:
    data = (torch.rand(8, 3, 32, 32), torch.arange(8))
    result = bothways.generate(MODEL, "frog", n=2, recipe="icons", steps=2, data=data, out=tmp_path / "a")
    cost = result.measures["cost"]
    assert set(cost["stages"]) >= {
        "preparing", "loading models", "reading pictures", "statistics of pictures", "reference pictures", "drawing",
        "judging", "measuring",
    }  # fmt: skip
    assert cost["seconds"] == pytest.approx(sum(cost["stages"].values()))
    assert status(tmp_path / "a")["seconds"] >= cost["seconds"]
    text = write_report([tmp_path / "a"], tmp_path / "report.html").read_text()
    assert "Time by stage" in text
    assert "reference pictures" in text


def test_the_time_of_statistics_is_all_of_it() -> None:
    with listening(Ledger()) as ledger:
        bothways.statistics(MODEL, data=torch.rand(6, 3, 32, 32))
    assert set(ledger.seconds) >= {"loading models", "reading pictures", "measuring", "fitting the space of statistics"}


def test_loading_a_flow_is_a_stage() -> None:
    with listening(Ledger()) as ledger:
        bothways.load_flow("bundled:cifar10-flow")
    assert list(ledger.seconds) == ["loading models"]


def test_a_training_says_when_it_draws_samples(tmp_path: Path) -> None:
    work = work_of("pretrain", "digits", out=tmp_path / "a", steps=2, batch=8, validation=8, workers=0)
    for _ in work.run():
        pass
    work.finish()
    stages = status(tmp_path / "a")["stages"]
    assert set(stages) >= {"training", "drawing samples", "loss on held-out pictures", "reading pictures"}


def test_a_run_that_goes_on_has_its_pictures_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drawing, "SECONDS_BETWEEN_SAVES", -1.0)  # after every step
    work = work_of("generate", MODEL, "frog", n=2, steps=4, out=tmp_path / "a")
    frames = work.run()
    next(frames), next(frames)
    folder = RunFolder(tmp_path / "a")
    assert [(one["index"], one["step"], one["unfinished"]) for one in folder.pictures] == [(0, 2, True), (1, 2, True)]
    assert folder.read_picture(folder.pictures[1]).shape == (3, 32, 32)
    text = write_report([tmp_path / "a"], tmp_path / "report.html").read_text()
    assert "Not finished after 0 of 2 pictures at step" in text
    assert text.count("<img") >= 2
    for _ in frames:
        pass
    whole = work.finish()
    assert [one.get("unfinished") for one in folder.pictures] == [None, None]
    alone = bothways.generate(MODEL, "frog", n=2, steps=4)
    assert torch.equal(whole.images, alone.images)


def test_samples_so_far_are_no_finished_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = write_small_flow(tmp_path)
    monkeypatch.setattr("bothways.tasks.sample.run.SECONDS_BETWEEN_SAVES", -1.0)
    work = work_of("sample", flow, n=2, steps=3, judges=[], out=tmp_path / "a")
    frames = work.run()
    next(frames), next(frames)
    assert all(record["unfinished"] for record in RunFolder(tmp_path / "a").pictures)
    frames.close()
    again = bothways.sample(flow, n=2, steps=3, judges=[], out=tmp_path / "a", resume=True)
    assert torch.equal(again.images, bothways.sample(flow, n=2, steps=3, judges=[]).images)
    assert [record.get("unfinished") for record in RunFolder(tmp_path / "a").pictures] == [None, None]
