"""A few kills, and a few broken disks, at points of some long commands; benchmarks/torture/kills.py tries all."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import bothways
import toy_model
from bothways.data.rows.stored import open_images
from bothways.runs import RunFolder
from disk import Disk, forked
from golden_cases import Made
from killed import Command, half_written, spread

# Commands that save in different ways: a state, conditions, pictures, one file.
KILLED = ("generate", "evaluate", "sample", "statistics")
KILLS = 2


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Command]:
    made = Made(tmp_path_factory.mktemp("kills"))
    return cache(lambda name: Command(name, made))


@pytest.mark.parametrize("name", KILLED)
@pytest.mark.slow
def test_a_killed_command_goes_on_to_the_same_bits(name: str, commands: Callable[[str], Command]) -> None:
    command = commands(name)
    for at in spread(command.points, KILLS):
        assert list(command.faults("kill", at)) == [], f"killed at {at} of {command.points}"
        assert command.ended.code == -9


@pytest.mark.parametrize("what", ["full", "input-output", "read-only"])
def test_a_broken_disk_is_one_line_and_spoils_nothing(what: str, commands: Callable[[str], Command]) -> None:
    command, codes = commands("sample"), set()
    for at in spread(command.points, KILLS):
        assert list(command.faults(what, at)) == [], f"{what} at {at} of {command.points}"
        codes.add(command.ended.code)
    assert codes & {1, 2}
    assert list(commands("statistics").faults(what, 8)) == []


def test_a_clock_that_jumps_and_a_second_process(commands: Callable[[str], Command]) -> None:
    command = commands("sample")
    assert list(command.faults("clock", 0)) == []
    assert list(command.faults_of_two()) == []


def test_a_kill_between_two_removals_can_be_overwritten(commands: Callable[[str], Command]) -> None:
    command = commands("generate-overwritten")
    assert list(command.faults("kill", 16)) == []  # within the removal of the earlier run


def test_a_stop_before_the_checkpoint_is_removed_leaves_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pictures are whole by then, so that the run that goes on has no batch to draw."""
    run, drawn = tmp_path / "run", {"classes": ["anchor"], "n": 1, "steps": 2, "recipe": "das"}

    def stopped(folder: RunFolder) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("bothways.tasks.generate.drawing.SECONDS_BETWEEN_SAVES", 0.0)
        patch.setattr(RunFolder, "clear_state", stopped)
        with pytest.raises(KeyboardInterrupt):
            bothways.generate(f"{toy_model.__file__}:build", **drawn, out=run)
    assert RunFolder(run).load_state() is not None
    bothways.generate(f"{toy_model.__file__}:build", **drawn, out=run, resume=True)
    assert RunFolder(run).status["state"] == "complete"
    assert [file.name for file in (run / "state").glob("*")] == []


def test_unpacked_pictures_of_a_killed_run_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill while they are unpacked leaves one hidden file, which the next run writes over."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "place").mkdir()
    source = Made(tmp_path / "place").place / "cifar"

    def unpack() -> None:
        assert len(open_images(str(source), in_memory=0)) == 20

    def kept() -> list[str]:
        return [file.suffix for file in sorted((tmp_path / "cache").rglob("*")) if file.is_file()]

    at = next(at for at in range(1, 9) if forked(unpack, Disk(tmp_path / "cache", "kill", at)) and ".partial" in kept())
    assert at > 1
    assert forked(unpack).code == 0
    assert kept() == [".arrow", ".lock"]


# ---- the harness itself ----------------------------------------------------------------------------------------------


def test_a_write_that_is_not_atomic_is_found(tmp_path: Path) -> None:
    def plain() -> None:
        with (tmp_path / "run" / "status.json").open("w") as file:
            file.write('{"state": "running"}')

    (tmp_path / "run").mkdir()
    alone = forked(plain, Disk(tmp_path / "run"))
    assert (alone.code, alone.points) == (0, 2)  # it is opened, and written
    assert list(half_written(tmp_path / "run")) == []
    assert forked(plain, Disk(tmp_path / "run", "kill", 2)).code == -9
    assert (tmp_path / "run" / "status.json").read_text() == '{"state": '
    assert [line.partition(":")[0] for line in half_written(tmp_path / "run")] == ["status.json is not whole"]


def test_points_are_of_one_folder_and_an_error_is_said(tmp_path: Path) -> None:
    def elsewhere() -> None:
        (tmp_path / "other").write_text("x")
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "a").write_text("x")
        (tmp_path / "run" / "a").replace(tmp_path / "run" / "b")
        (tmp_path / "run" / "b").unlink()

    ended = forked(elsewhere, Disk(tmp_path / "run", "input-output", 4))
    assert (ended.code, ended.points) == (70, 4)
    assert "Input/output error" in ended.said
    assert (tmp_path / "run" / "b").exists()
