"""A Python file that only a run folder or a card names does not run, unless the user names it too."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bothways import load_flow, registry
from bothways.cli.code import typed_files
from command import refused, run
from small_flow import write_small_flow

MARKED = """
from pathlib import Path
Path(__file__).with_suffix(".ran").touch()
from bothways.representation.paths.linear import linear as straight
"""


@pytest.fixture
def flow(tmp_path: Path) -> Path:
    """A run folder whose card names a Python file that leaves a mark when it runs."""
    write_small_flow(tmp_path / "flow", size=8)
    (tmp_path / "theirs.py").write_text(MARKED)
    card = tmp_path / "flow" / "flow.json"
    facts = json.loads(card.read_text())
    facts["spec"]["path"] = f"{tmp_path / 'theirs.py'}:straight"
    card.write_text(json.dumps(facts))
    return tmp_path / "flow"


def test_a_card_runs_no_code_that_was_not_typed(flow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs, out = flow.parent / "theirs.py", flow.parent / "out"
    asked = ["sample", flow, "--n", 1, "--steps", 1, "--out", out]
    said = refused(capsys, *asked)
    assert f"{flow / 'flow.json'} names Python code that was not allowed at the start, {theirs}:straight" in said
    assert f"type the same with --allow-code {theirs}" in said
    assert not theirs.with_suffix(".ran").exists()
    assert not out.exists()
    assert run(*asked, "--allow-code", theirs) == 0
    assert theirs.with_suffix(".ran").exists()
    assert registry.allowed_addresses() is None  # afterwards Python runs what it is given, as before
    load_flow(flow)


def test_what_is_typed_may_run(tmp_path: Path) -> None:
    recipe, kept = tmp_path / "mine.toml", tmp_path / "run" / "recipe.toml"
    recipe.write_text('path = "in_recipe.py:sine"')
    kept.parent.mkdir()
    kept.write_text('address = "in_run.py:go"')
    (kept.parent / "status.json").write_text("{}")
    words = [
        "generate",
        "a/b.py:build",
        "--objective",
        "c.py:f:0.5",
        "--set",
        "terms.x.kind=d.py:g",
        "--allow-code",
        "e.py",
    ]
    words += ["--prompt", "a python", str(recipe), str(kept), "runs/x.pyc"]
    assert list(typed_files(words)) == ["a/b.py", "c.py", "d.py", "e.py", "in_recipe.py"]


def test_what_lies_beside_a_recipe_is_found_and_runs_where_it_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs, here = tmp_path / "shared" / "theirs.py", tmp_path / "here"
    theirs.parent.mkdir()
    here.mkdir()
    theirs.write_text(MARKED)
    recipe = theirs.with_name("mine.toml")
    recipe.write_text('task = "pretrain"\nbase = "otcfm"\npath = "theirs.py:straight"\n')
    monkeypatch.chdir(here)
    asked = ["pretrain", recipe, "--data", "digits", "--steps", 1, "--batch", 8, "--validation", 8, "--dry-run"]
    assert (
        f"not allowed at the start, {theirs}:straight; where it is yours, type the same with --allow-code"
        in refused(capsys, *asked)
    )
    assert not theirs.with_suffix(".ran").exists()
    assert run(*asked, "--allow-code", theirs) == 0
    assert theirs.with_suffix(".ran").exists()
