"""A few kills, and a few broken disks, at points of every long command; benchmarks/torture/kills.py tries them all."""

from __future__ import annotations

import pytest

from golden_cases import Made
from killed import COMMANDS, Command, spread

KILLS = 2


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("kills"))


@pytest.mark.parametrize("name", COMMANDS)
def test_killed(name: str, made: Made) -> None:
    command = Command(name, made)
    for at in spread(command.points, KILLS):
        assert list(command.faults("kill", at)) == [], f"killed at {at} of {command.points}"
