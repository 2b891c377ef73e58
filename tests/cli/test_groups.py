"""The commands stand in groups, and a word that is no command gets the one that is meant."""

from __future__ import annotations

import pytest
from typer.main import get_command

from bothways import registry
from bothways.cli.entry import GROUPS, OTHERS, app, grouped
from command import run


def test_every_command_stands_in_one_group() -> None:
    commands = get_command(app).list_commands(None)  # type: ignore[attr-defined, arg-type]
    named = [name for names in GROUPS.values() for name in names]
    assert sorted(named) == sorted(commands)
    assert set(registry.names("task")) <= set(named)


def test_what_stands_in_no_group_comes_last() -> None:
    assert grouped(["walk", "own", "generate"]) == {"Draw": ["generate"], "Flows": ["walk"], OTHERS: ["own"]}


def test_the_help_shows_the_groups_in_their_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    said = capsys.readouterr().out
    places = [said.index(f"─ {title} ─") for title in GROUPS]
    assert places == sorted(places)
    assert OTHERS not in said
    assert said.index("─ Draw ─") < said.index(" inpaint ") < said.index("─ Flows ─") < said.index(" likelihood ")


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("generat", "type generate"),
        ("draw", "type generate"),  # begins its line of help
        ("audit", "type explain"),
        ("shortcuts", "type explain"),
        ("xqzzy", "type bothways --help"),
        ("a", "type bothways --help"),
    ],
)
def test_a_word_that_is_no_command_gets_the_one_that_is_meant(
    typed: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(typed) == 2
    assert f"No such command '{typed}'; {says}" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["finetune", "generate", "layers", "studio"])
def test_a_flag_shows_no_value(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, "--help") == 0
    flags = [line for line in capsys.readouterr().out.splitlines() if "<bool>" in line]
    assert [line for line in flags if "--help" not in line] == []
