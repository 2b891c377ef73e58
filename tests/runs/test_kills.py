"""A few kills, and a few broken disks, at points of some long commands; benchmarks/torture/kills.py tries all."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

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
