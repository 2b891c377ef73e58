"""docs/benchmarks.md says what benchmarks/results/peers.csv holds; and what that file is measured with is right."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
PEERS = ROOT / "benchmarks" / "peers"
MODULES = ("bench", "environments", "page", "pairs")


@pytest.fixture(scope="module")
def peers() -> Iterator[dict[str, ModuleType]]:
    """The modules of benchmarks/peers, whose folder is that of a script."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(PEERS))
        yield {name: __import__(name) for name in MODULES}
    for name in MODULES:
        del sys.modules[name]


# ---- the page --------------------------------------------------------------------------------------------------------


def test_the_page_is_made_of_the_results(peers: dict[str, ModuleType]) -> None:
    page = peers["page"]
    assert page.PAGE.read_text("utf-8") == page.page(page.read())


def test_every_peer_has_its_rows_and_agrees(peers: dict[str, ModuleType]) -> None:
    rows = peers["page"].read()
    requirements = {line for group in peers["environments"].GROUPS.values() for line in group.peers}
    for kind in ("start", "work"):
        assert {f"{row['peer']}=={row['version']}" for row in rows if row["kind"] == kind} == requirements
    works = [row for row in rows if row["kind"] == "work"]
    assert all(int(row["pairs"]) >= 9 for row in works)
    beyond = [row["work"] for row in works if row["tolerance"] and float(row["difference"]) > float(row["tolerance"])]
    assert beyond == []


def row(ratio: float, spread: float, work: str, **more: str) -> dict[str, str]:
    known = {"kind": "work", "peer": "it", "version": "1", "theirs_ms": "2", "ours_ms": "1", "of": "x", "note": ""}
    known |= {"tolerance": "0.1", "difference": "0", "date": "2026-01-02", "python": "3", "torch": "2", "bothways": "0"}
    known |= {"device": "a CPU", "load": "0.1", "error": "", "with": "", "never": ""}
    return known | {"work": work, "ratio": str(ratio), "low": str(ratio - spread), "high": str(ratio + spread)} | more


def test_where_a_library_is_faster_stands_first(peers: dict[str, ModuleType]) -> None:
    rows = [row(0.5, 0.1, "ours"), row(1.3, 0.1, "theirs"), row(1.05, 0.1, "neither"), row(2.0, 0.1, "most")]
    text = peers["page"].page(rows)
    places = [text.index(f"| {name} |") for name in ("most", "theirs", "neither", "ours")]
    assert places == sorted(places)
    headings = [
        text.index(f"## {title}")
        for title in ("Where a library is faster", "Where no difference is shown", "Where bothways is faster")
    ]
    assert headings[0] < places[0] < places[1] < headings[1] < places[2] < headings[2] < places[3]


@pytest.mark.parametrize("key", ["ratio", "low", "high", "theirs_ms", "ours_ms", "difference", "tolerance", "load"])
def test_a_figure_that_changes_changes_the_page(key: str, peers: dict[str, ModuleType]) -> None:
    before = row(0.5, 0.1, "some")
    assert peers["page"].page([before]) != peers["page"].page([before | {key: "7.77"}])


def test_what_does_not_start_is_said_with_its_error(peers: dict[str, ModuleType]) -> None:
    start = row(1, 1, "") | {"kind": "start", "error": "ImportError: no such thing", "with": "thing==2"}
    assert "| it 1 | ImportError: no such thing | thing==2 |" in peers["page"].page([start])


# ---- how it is measured ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "place"), [(6, 0), (8, 0), (9, 1), (12, 2), (20, 5)])
def test_the_interval_of_a_median_is_that_of_the_order_statistics(
    n: int, place: int, peers: dict[str, ModuleType]
) -> None:
    """Places from tables of the sign test at 5 %, two-sided: n = 9 -> second and eighth, n = 20 -> sixth."""
    values = list(np.random.default_rng(n).permutation(n).astype(float))
    found = peers["pairs"].median_interval(values)
    assert found == ((n - 1) / 2, place, n - 1 - place)


def test_five_pairs_have_no_interval(peers: dict[str, ModuleType]) -> None:
    found = peers["pairs"].median_interval([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.value == 3.0
    assert math.isnan(found.low)
    assert math.isnan(found.high)


def test_the_interval_covers_the_median_as_often_as_it_says(peers: dict[str, ModuleType]) -> None:
    drawn = np.random.default_rng(0).lognormal(size=(4000, 9))  # its median is 1
    found = [peers["pairs"].median_interval(values) for values in drawn.tolist()]
    covered = np.mean([low <= 1 <= high for _, low, high in found])
    assert covered == pytest.approx(1 - 2 * 10 / 2**9, abs=0.012)  # 1 - 2 P(Bin(9, 1/2) <= 1), four deviations


def work_of(peers: dict[str, ModuleType], **fields: Any) -> Any:
    known = {"name": "adding", "peer": "torch", "theirs": lambda: 1.0, "ours": lambda: 1.25, "of": "the sum"}
    return peers["pairs"].Work(**{**known, "difference": peers["pairs"].largest, **fields})


def test_results_that_differ_by_more_than_the_tolerance_are_refused(peers: dict[str, ModuleType]) -> None:
    compare = peers["pairs"].compare
    with pytest.raises(ValueError, match=r"adding: torch and bothways differ by 0.25 in the sum, at most 0.2"):
        compare(work_of(peers, tolerance=0.2), pairs=1)
    with pytest.raises(ValueError, match="nan"):
        compare(work_of(peers, ours=lambda: math.nan, tolerance=0.2), pairs=1)
    assert compare(work_of(peers, tolerance=0.3), pairs=1)["difference"] == 0.25


def test_a_ratio_is_ours_by_theirs_and_a_time_that_of_one_unit(
    peers: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    spent = {"theirs": 0.5, "ours": 0.25}  # seconds of a run, of a clock that only these two move
    clock = [0.0]
    order: list[str] = []

    def run(name: str) -> float:
        clock[0] += spent[name]
        order.append(name)
        return 0.0

    monkeypatch.setattr(peers["pairs"].time, "process_time", lambda: clock[0])
    work = work_of(peers, theirs=lambda: run("theirs"), ours=lambda: run("ours"), tolerance=0.0, units=10)
    found = peers["pairs"].compare(work, pairs=9)
    assert (found["ratio"], found["low"], found["high"]) == (0.5, 0.5, 0.5)
    assert (found["theirs_ms"], found["ours_ms"]) == (50.0, 25.0)
    assert order[-18:-14] == ["theirs", "ours", "ours", "theirs"]  # in turns, in an order that turns too


@pytest.mark.parametrize(
    ("script", "needs"), [("torchdiffeq", "torchdiffeq"), ("sklearn", "sklearn"), ("torchcfm", "torchcfm")]
)
@pytest.mark.slow
def test_a_group_runs_and_agrees_at_a_small_size(script: str, needs: str) -> None:
    if find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed")
    done = subprocess.run(
        [sys.executable, PEERS / f"with_{script}.py", "--small", "--pairs", "1"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows
    assert all(row["difference"] <= row["tolerance"] for row in rows)


# ---- the environments ------------------------------------------------------------------------------------------------


def test_every_requirement_is_pinned_and_every_group_has_its_script(peers: dict[str, ModuleType]) -> None:
    groups = peers["environments"].GROUPS
    for group in groups.values():
        assert all(line.count("==") == 1 for line in (*group.peers, *group.besides))
    assert set(peers["bench"].SCRIPTS) == set(groups)
    assert all(script.is_file() for script in peers["bench"].SCRIPTS.values())


def test_what_ends_a_start_is_its_last_line(peers: dict[str, ModuleType]) -> None:
    environments, python = peers["environments"], Path(sys.executable)
    assert environments.error_of(python, "pass") == ""
    assert environments.error_of(python, "import no_such_thing") == (
        "ModuleNotFoundError: No module named 'no_such_thing'"
    )


def test_a_group_that_is_run_again_takes_the_place_of_its_rows(
    peers: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, results = peers["bench"], tmp_path / "peers.csv"
    monkeypatch.setattr(bench, "RESULTS", results)
    monkeypatch.setattr(peers["page"], "RESULTS", results)
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(bench, "PAGE", tmp_path / "benchmarks.md")
    monkeypatch.setattr(bench, "read", lambda: peers["page"].read(results))

    def measured(ratio: float, group: str, why: str = "") -> int:
        found = {k: v for k, v in row(ratio, 0.0, f"work of {group}").items() if k in bench.FIELDS}
        own = {k: found[k] for k in ("kind", "work", "peer", "version", "theirs_ms", "ours_ms", "of", "tolerance")}
        own |= {"ratio": ratio, "low": ratio, "high": ratio, "difference": 0.0, "note": "", "pairs": 9}
        monkeypatch.setattr(bench, "rows_of", lambda *_: ([own], why))
        monkeypatch.setattr(sys, "argv", ["bench", "--groups", group])
        with pytest.raises(SystemExit) as ended:
            bench.main()
        return int(ended.value.code or 0)

    assert measured(0.5, "pot") == 0
    assert measured(0.7, "torchcfm") == 0
    assert measured(0.6, "pot") == 0
    rows = peers["page"].read(results)
    assert [(found["group"], found["ratio"]) for found in rows] == [("torchcfm", "0.7"), ("pot", "0.6")]
    assert "work of pot" in (tmp_path / "benchmarks.md").read_text("utf-8")
    assert measured(0.6, "pot", "two numbers differ") == 1
