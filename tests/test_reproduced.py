"""docs/reproduced.md says what benchmarks/results/reproduced.jsonl holds."""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def reproduced() -> ModuleType:
    spec = importlib.util.spec_from_file_location("reproduced", ROOT / "benchmarks" / "reproduced.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_made_of_the_lines(reproduced: ModuleType) -> None:
    rows = reproduced.read()
    assert reproduced.PAGE.read_text("utf-8") == reproduced.page(rows, reproduced.absent_of(rows))


def test_a_number_that_changes_changes_the_page(reproduced: ModuleType) -> None:
    rows = reproduced.read()
    for k, row in enumerate(rows):
        claims = [{**claim, "ours": (claim["ours"] or 0) + 1} for claim in row["claims"]]
        assert reproduced.page([*rows[:k], {**row, "claims": claims}, *rows[k + 1 :]]) != reproduced.page(rows)


def test_a_kept_line_is_of_the_recipe_as_it_is_and_its_verdict_of_its_numbers(reproduced: ModuleType) -> None:
    from bothways.tasks.reproduce import recipe
    from bothways.tasks.reproduce.claims import judged

    for row in reproduced.read():
        now = recipe.read(row["name"])
        claims = now.claims(row["form"])
        assert [(one["claim"], one["claimed"]) for one in row["claims"]] == [(c.claim, c.claimed) for c in claims]
        unlike = now.form(row["form"]).unlike
        for one, claim in zip(row["claims"], claims, strict=True):
            found = judged(one["values"], claim.bounds, claim.how, unlike=unlike)
            assert (one["verdict"], one["why"], one["seeds"]) == (found.verdict, found.why, found.seeds)
            kept = [math.nan if number is None else number for number in (one["ours"], one["low"], one["high"])]
            assert kept == pytest.approx(list(found.ours), rel=1e-9, abs=1e-12, nan_ok=True)
        assert row["paper"] == now.paper
        assert row["failed"] == 0


def test_a_line_takes_the_place_of_an_earlier_one(reproduced: ModuleType, tmp_path: Path) -> None:
    one = {"name": "b", "form": "small", "paper": "PRG", "date": 1}
    other = {"name": "a", "form": "small", "paper": "PRG", "date": 1}
    path = tmp_path / "kept.jsonl"
    for row in (one, other, {**one, "date": 2}):
        reproduced.keep(row, path)
    assert reproduced.read(path) == [other, {**one, "date": 2}]
