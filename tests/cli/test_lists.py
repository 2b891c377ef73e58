"""What there is: entries of the registry, recipes and their files."""

from __future__ import annotations

import json
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest

from bothways import registry
from bothways.cli.show import console
from command import refused, run


@pytest.mark.parametrize("kind", registry.PLACES)
def test_every_entry_is_listed_with_its_file(
    kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "width", 250)  # so that no cell is broken
    assert run("registry", kind) == 0
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in capsys.readouterr().out.splitlines()]
    listed = {row[0]: row[1:] for row in rows if row}
    assert set(listed) == set(registry.names(kind))
    for name, entry in registry.entries(kind).items():
        text, paper, module = listed[name]
        assert text == entry.help
        assert paper == (entry.reference.split("{")[1].split(",")[0] if "{" in entry.reference else entry.reference)
        assert f"bothways.{module}" == entry.module


def test_all_kinds_are_listed_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("registry") == 0
    said = capsys.readouterr().out
    assert all(f" {name} " in said for kind in registry.PLACES for name in registry.names(kind))
    assert "type solver" in refused(capsys, "registry", "solvr")


def test_a_recipe_is_printed_as_its_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run("recipes", "das") == 0
    assert tomllib.loads(capsys.readouterr().out)["ascent"]["steps"] == 60
    assert "type dsf, das" in refused(capsys, "recipes", "dsa")


def test_the_layers_of_a_model_are_listed(capsys: Any) -> None:
    assert run("layers", "bundled:cifar10-plain") == 0
    out = capsys.readouterr().out
    assert "layers.0" in out
    assert "BatchNorm2d" in out
    typed = next(line for line in out.splitlines() if line.startswith("bothways generate"))
    quick = ["--recipe", "channel", "--steps", "1", "--n", "1", "--no-verdicts", "--dry-run"]
    assert run(*shlex.split(typed)[1:], *quick) == 0
    capsys.readouterr()
    assert run("layers", "bundled:cifar10-plain", "--text", "head", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row == {"name": "head", "kind": "Linear", "shape": [10], "parameters": 970, "channels": 10}
    assert run("layers", "bundled:cifar10-plain", "--text", "nowhere") == 0
    assert "no layer of bundled:cifar10-plain has 'nowhere'" in capsys.readouterr().out
    said = refused(capsys, "generate", "bundled:cifar10-plain", "--layer", "zzz", "--channel", 0)
    assert "bothways layers bundled:cifar10-plain lists all" in said
