"""The arms of benchmarks/prg_controls.py: which are left, at which rate, of which size, and what they take."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from bothways.models.velocity import Flow
from bothways.types import ModelSpec

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import prg_arms
import prg_controls
import prg_page
import workers

HELD = {3e-4: 0.5, 1e-3: 0.7, 3e-3: 0.6}
ARMS = ("prg", "plain cnn")


def row(arm: str, seed: int, rate: float, **more: Any) -> dict[str, Any]:
    facts = {
        "held": HELD[rate],
        "accuracy": 1 - HELD[rate],
        "operations": 1e15,
        "seconds": 20.0,
        "epochs": 6,
        "device": "cpu",
        **more,
    }
    return {"arm": arm, "labels": "5000", "seed": str(seed), "rate": str(rate), **facts}


def left(rows: list[dict[str, Any]], *arms: str, **more: Any) -> list[prg_controls.Job]:
    return prg_controls.remaining(rows, prg_arms.CONTROLS, arms, 5000, [0, 1], **more)


def test_the_rate_is_that_of_the_held_out_pictures_and_not_of_the_test() -> None:
    rows = [row("prg", 0, rate) for rate in HELD]
    assert [job.rate for job in left([], "prg")] == list(HELD)  # no other seed before the rate is chosen
    assert left(rows[:2], "prg") == [prg_controls.Job("prg", 5000, 0, 3e-3)]
    assert left(rows, "prg") == [prg_controls.Job("prg", 5000, 1, 1e-3)]
    assert left([*rows, row("prg", 1, 1e-3)], "prg") == []
    assert [r["rate"] for r in prg_controls.chosen([*rows, row("prg", 1, 1e-3)])] == ["0.001", "0.001"]


def test_an_arm_whose_rates_are_not_all_tried_does_not_stand_in_the_table() -> None:
    rows = [row("prg", 0, rate) for rate in HELD]
    others = [{**row("plain cnn", 0, 1e-3), "labels": "47500"}]  # of a rate that another number of labels chose
    kept = prg_controls.chosen([*rows, row("frozen walked", 0, 3e-4), *others])
    assert [(r["arm"], r["rate"]) for r in kept] == [("prg", "0.001"), ("plain cnn", "0.001")]


def test_a_rate_beyond_the_others_is_tried_too() -> None:
    rows = [row("prg", 0, rate) for rate in HELD]
    further = left(rows, "prg", rates=(*prg_controls.RATES, 1e-2))
    assert further == [prg_controls.Job("prg", 5000, 0, rate) for rate in (1e-2,)]
    rows += [{**row("prg", 0, 1e-3), "rate": "0.01", "held": 0.8}, *(row("plain cnn", 0, rate) for rate in HELD)]
    assert left(rows, "prg") == [prg_controls.Job("prg", 5000, 1, 1e-2)]
    assert [(r["arm"], r["rate"]) for r in prg_controls.chosen(rows)] == [("prg", "0.01"), ("plain cnn", "0.001")]


def test_the_table_has_the_best_first_and_seconds_of_one_device(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    more = {"low": 0.1, "high": 0.9, "pictures": 100, "calls": 3, "parameters": 7_000_000, "flow": prg_controls.FLOW}
    for facts in (
        row("plain cnn", 0, 1e-3, **{**more, "accuracy": 0.5}),
        row("prg", 0, 1e-3, **{**more, "accuracy": 0.6, "seconds": 2.0, "device": "a GPU"}),
        row("prg", 1, 1e-3, **{**more, "accuracy": 0.7, "seconds": 40.0}),
    ):
        prg_controls.write(file, prg_controls.COLUMNS, facts)
    cells = [[cell.strip() for cell in line.split("|")] for line in prg_controls.table(file).splitlines()[-2:]]
    assert [(line[2], line[3], line[5], line[9]) for line in cells] == [
        ("prg", "2", "", "40"),
        ("plain cnn", "1", "", "20"),
    ]


def test_arms_are_compared_over_the_seeds_that_they_share() -> None:
    def rows(arm: str, *accuracies: float) -> list[dict[str, Any]]:
        return [row(arm, seed, 1e-3, accuracy=value) for seed, value in enumerate(accuracies)]

    arms = {"prg": (0.6, 0.7, 0.8), "plain cnn": (0.5, 0.62, 0.71), "pixels": (0.3, 0.38), "activations": (0.9,)}
    found = prg_controls.beside({(arm, 5000): rows(arm, *values) for arm, values in arms.items()})
    assert set(found) == {("plain cnn", 5000), ("pixels", 5000)}
    assert found["pixels", 5000].startswith("-31.0 (")  # of the seeds 0 and 1
    apart = np.subtract(arms["plain cnn"], arms["prg"])
    low, high = stats.t.interval(0.95, 2, 100 * apart.mean(), 100 * stats.sem(apart))
    p = min(1.0, 2 * stats.ttest_rel(arms["plain cnn"], arms["prg"]).pvalue)  # of two rows, if it is the smaller
    assert found["plain cnn", 5000] == f"{100 * apart.mean():+.1f} ({low:+.1f} to {high:+.1f}; {p:.2g})"


def test_the_charts_are_over_what_differs() -> None:
    def charts(*labels: str, **more: Any) -> dict[str, Any]:
        facts = {"low": 0.1, "high": 0.9, "pictures": 100, "corrupted": "0.4", **more}
        rows = [{**row(arm, 0, 1e-3, **facts), "labels": of} for of in labels for arm in ARMS]
        return {chart.title: chart for chart in prg_page.controls_half(rows, prg_arms.CONTROLS)[2]}

    first = charts("5000")
    assert next(iter(first)).startswith("Accuracy over operations of the training, 5,000 labels, one seed")
    assert [trace["x"] for trace in next(iter(first.values())).figure["data"]] == [[1e15], [1e15]]
    assert "Accuracy over labels" not in first  # a single number of labels is no curve
    old = charts("500", "5000", operations="")
    assert next(iter(old)) == "Accuracy over labels"
    assert not any("operations" in title for title in old)  # older rows counted none


CHOSEN = ("prg", "steps 1", "steps 5", "depth 0.1", "solver heun", "gradient adjoint, 5 steps")


def of_choices(**more: Any) -> list[dict[str, Any]]:
    facts = {"low": 0.1, "high": 0.9, "pictures": 100, "calls": 3, "parameters": 7_000_000, "flow": prg_controls.FLOW}
    losses = {"flow_matching": 0.3, "flow_matching_before": 0.2}
    return [row(arm, seed, 1e-3, **{**facts, **losses, **more}) for arm in CHOSEN for seed in (0, 1)]


def test_a_choice_stands_in_the_chart_of_that_choice_alone() -> None:
    charts = {chart.title: chart for chart in prg_page.choices_half(of_choices(), prg_arms.CHOICES)[2]}
    over = {title: len(chart.figure["data"][-1]["y"]) for title, chart in charts.items() if "over" in title}
    assert over["Accuracy over the depth, 5,000 labels"] == 2  # not those of another solver or gradient
    assert over["Accuracy over the steps of the walk, 5,000 labels"] == 3
    bars = {title: chart.figure["data"][0]["y"] for title, chart in charts.items() if "by" in title}
    assert bars == {
        "Accuracy by gradient, 5,000 labels": ["exact, 5 steps", "adjoint, 5 steps"],
        "Accuracy by solver, 5,000 labels": ["euler, 3 steps", "heun, 3 steps"],
    }


def test_choices_are_compared_with_prg_of_the_same_set(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    for place, facts in enumerate(of_choices()):
        prg_controls.write(file, prg_controls.COLUMNS, {**facts, "accuracy": 0.5 + 0.01 * place})
    lines = [[cell.strip() for cell in line.split("|")] for line in prg_controls.table(file).splitlines()]
    assert "flow-matching loss (before)" in lines[2]
    found = {line[2]: line for line in lines[4:]}
    assert found["prg"][5] == ""
    assert found["steps 1"][5].startswith("+2.0 (")
    assert found["steps 1"][6] == "0.300 (0.200)"


def test_a_dashed_line_is_seen_to_be_one_in_the_legend() -> None:
    """Of its 30 pixels the mark hides the middle; "dash" and "longdash" leave no whole dash and gap beside it."""
    trace = prg_page.arm_curve("prg + activations", [{"at": 1.0, "value": 0.5}], {"kind": "both"}, "at")
    assert trace["marker"]["symbol"] == "diamond"
    assert "dashed with diamonds: both" in prg_page.COLOURS_TOLD
    lengths = [int(length.removesuffix("px")) for length in trace["line"]["dash"].split(",")]
    assert sum(lengths) <= 15 - trace["marker"]["size"] / 2


def test_rows_of_another_flow_are_left_out(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    for flow, arm in ((prg_controls.FLOW, "prg"), ("runs/mine", "prg"), ("", "pixels")):
        prg_controls.write(file, prg_controls.COLUMNS, {"arm": arm, "labels": 5000, "seed": 0, "flow": flow})
    assert [(r["arm"], r["flow"]) for r in prg_controls.rows(file)] == [("prg", prg_controls.FLOW), ("pixels", "")]
    assert [(r["arm"], r["flow"]) for r in prg_controls.rows(file, "runs/mine")] == [("prg", "runs/mine")]


def test_a_rate_that_fails_is_not_chosen() -> None:
    rows = [row("prg", 0, rate) for rate in (3e-4, 1e-3)]
    rows.append({**row("prg", 0, 3e-3), "held": 0.0, "accuracy": ""})
    assert left(rows, "prg") == [prg_controls.Job("prg", 5000, 1, 1e-3)]


def test_rates_of_elsewhere_are_taken_and_none_is_tried() -> None:
    assert left([], "prg", rate_of=lambda arm: 3e-3) == [prg_controls.Job("prg", 5000, seed, 3e-3) for seed in (0, 1)]
    assert left([], "prg", rate_of=lambda arm: None) == []


def test_arms_of_equal_operations_take_those_of_prg() -> None:
    plain = [f"plain cnn, equal operations{more}" for more in ("", ", equal batches")]
    plain.append("plain cnn, operations of pretraining too")
    arms = [*plain, "activations, equal operations"]
    walked = [row("prg", 0, rate, operations=8e15) for rate in HELD]
    assert left(walked, *arms) == []  # before the base of any is done
    rows = [*walked, *(row("plain cnn", 0, rate) for rate in HELD)]
    found = {job.arm: job.epochs for job in left(rows, *arms, pretrained=40e15)}
    assert found == dict(zip(plain, (8 * 6, 8 * 6, 48 * 6), strict=True))
    rows += [row("activations", 0, rate, operations=2e15) for rate in HELD]
    assert {job.arm: job.epochs for job in left(rows, arms[-1])} == {arms[-1]: 4 * 6}


def test_sizes_are_equal() -> None:
    def size(network: nn.Module) -> int:
        return sum(p.numel() for p in network.parameters())

    walked = size(prg_arms.PRGHead(prg_arms.POOLED, 10))
    for width in (64, 80, 256, 768):
        assert size(prg_arms.equal_head(width, 10)) == pytest.approx(walked, rel=2e-3)
    for parameters in (300_000, 2_544_620, 7_000_000):
        network = prg_arms.sized(parameters, 10)
        assert size(network) == pytest.approx(parameters, rel=0.05)
        assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    with pytest.raises(ValueError, match="at least"):
        prg_arms.sized(100, 10)


def test_operations_are_those_of_the_closed_form() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 64, 10))
    conv, linear = 64 * 4 * 27, 256 * 10  # multiply-adds of a picture
    batch = torch.zeros(2, 3, 8, 8), torch.zeros(2, dtype=torch.int64)

    def loss(net: nn.Module, part: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, dict[str, Any]]:
        return nn.functional.cross_entropy(net(part[0]), part[1]), {}

    forward = 2 * (conv + linear)
    assert prg_arms.operations_of(lambda: network(batch[0])) == 2 * forward
    # backwards twice as many, but for the gradient in the pictures, which nobody needs
    assert prg_arms.operations_of_step(network, loss, batch, 16, False) == 16 * (3 * forward - 2 * conv)
    assert network[0].weight.grad is None


def test_pretraining_is_three_passes_for_each_picture() -> None:
    class Velocity(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 3, 1)

        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return self.layer(x)

    flow = Flow(Velocity(), ModelSpec(4, (0.5,) * 3, (0.5,) * 3, 0, path="linear"))
    assert prg_arms.pretraining(flow, 100) == 3 * 100 * 2 * 16 * 9
    with pytest.raises(ValueError, match="--pretrained"):
        prg_arms.pretraining(flow)


@pytest.mark.parametrize("processes", [0, 2])
def test_jobs_that_fail_leave_the_others(processes: int) -> None:
    done: list[tuple[int, int]] = []

    def work(job: int) -> int:
        if job == 2:
            raise ValueError("not two")
        return job**2

    def ready() -> list[int]:
        return [1, 2, 3] + [4] * bool(done)  # the last is ready when another is done

    failures = workers.spread(ready, work, lambda job, found: done.append((job, found)), processes, minutes=1)
    assert sorted(done) == [(1, 1), (3, 9), (4, 16)]
    assert len(failures) == 1
    assert "not two" in failures[0]
