"""A sweep: every combination a run, one that fails ends no other, a stop costs nothing, the page draws the means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import bothways
from bothways import UserError, evaluate, finetune, registry
from bothways.numerics.intervals import mean_interval, share_interval
from bothways.report import swept
from bothways.runs import RunFolder
from bothways.tasks.finetune.config import FinetuneConfig
from bothways.tasks.sweep.config import parsed_axes, points_of
from bothways.tasks.sweep.numbers import groups_of
from bothways.tasks.sweep.run import begin_sweep
from bothways.tasks.work import Where
from colours import noise, write_pictures
from command import refused, run
from small_flow import write_small_flow

pytestmark = pytest.mark.usefixtures("_rough_samples")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with flow/, and colours/ in one folder a class."""
    folder = tmp_path_factory.mktemp("sweep")
    write_small_flow(folder / "flow", size=4)
    write_pictures(folder / "colours", noise(24))
    return folder


def asked(place: Path, **others: Any) -> dict[str, Any]:
    plain = {"crop": 0, "flip": False, "workers": 0, "average": 0.5}
    fit = {"validation": 8, "batch": 5, "steps": 1, "train_steps": 2}
    return {"flow": str(place / "flow"), "data": str(place / "colours"), **plain, **fit, **others}


OVER: dict[str, list[Any]] = {"beta": [0.0, 10.0], "seed": [0, 1, 2]}


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    found = bothways.sweep("finetune", **asked(place), over=OVER, out=place / "whole")
    assert found["failed"] == 0
    return place / "whole"


def facts(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "measures.json").read_text())["sweep"]


# ---- the runs ------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_combination_is_the_run_that_the_task_alone_makes(place: Path, whole: Path, tmp_path: Path) -> None:
    names = [f"beta-{beta}_seed-{seed}" for beta in ("0.0", "10.0") for seed in range(3)]
    assert [row["folder"] for row in facts(whole)["runs"]] == names
    alone = finetune(**asked(place), beta=10.0, seed=2, out=tmp_path / "alone").measures["classifier"]
    assert RunFolder.open(whole / names[-1]).measures["classifier"] == alone
    row = facts(whole)["runs"][-1]
    assert row["settings"] == {"loss.beta": 10.0, "seed": 2}
    assert row["numbers"]["Accuracy on held-out pictures"]["value"] == alone["accuracy"]
    assert row["numbers"]["Flow-matching loss on them"]["value"] == alone["flow_matching"]
    assert all((whole / name / "report.html").is_file() for name in names)


def test_a_group_is_the_mean_over_seeds_with_students_interval(whole: Path) -> None:
    found = facts(whole)
    assert [group["settings"] for group in found["groups"]] == [{"loss.beta": 0.0}, {"loss.beta": 10.0}]
    for place, group in enumerate(found["groups"]):
        own = found["runs"][3 * place : 3 * place + 3]
        values = [row["numbers"]["Flow-matching loss on them"]["value"] for row in own]
        mean, low, high = mean_interval(values)
        number = group["numbers"]["Flow-matching loss on them"]
        assert max(abs(number["value"] - mean), abs(number["low"] - low), abs(number["high"] - high)) < 1e-12
        reach = 4.302652729911275 * torch.tensor(values, dtype=torch.float64).std().item() / 3**0.5  # t of 2 degrees
        assert abs((high - low) / 2 - reach) < 1e-9
        assert (group["n"], group["over"]) == (3, "3 seeds")


def test_accuracies_over_seeds_stay_inside_0_and_1() -> None:
    def row(seed: int, value: float, loss: float) -> dict[str, Any]:
        numbers = {
            "Accuracy": {"value": value, "low": 0.1, "high": 0.9},
            "Loss": {"value": loss, "low": None, "high": None},
        }
        return {"state": "complete", "settings": {"seed": seed}, "numbers": numbers}

    (group,) = groups_of([row(0, 0.91, 0.2), row(1, 0.98, 0.3), row(2, 0.99, 0.1)], ["Accuracy"])
    found = group["numbers"]["Accuracy"]
    assert (found["value"], found["low"], found["high"]) == share_interval([0.91, 0.98, 0.99])
    assert found["high"] < 1 < mean_interval([0.91, 0.98, 0.99]).high
    assert group["numbers"]["Loss"]["low"] == mean_interval([0.2, 0.3, 0.1]).low
    (equal,) = groups_of([row(0, 1.0, 0.2), row(1, 1.0, 0.2)], ["Accuracy"])
    assert equal["numbers"]["Accuracy"] == {"value": 1.0, "low": 0.1, "high": 0.9}  # that over pictures
    for task in ("evaluate", "finetune", "train"):
        kind = registry.find("task", task).factory
        of_shares = ("Accuracy", "mAP", "AUROC")
        assert set(kind.shares) == {title for title in kind.headlines if title.startswith(of_shares)}


@pytest.mark.parametrize(
    ("target", "of"),
    [("regression", "Mean squared error, R2, Mean absolute error"), ("multi-label", "mAP, AUROC")],
)
def test_scores_of_other_targets_are_numbers_of_the_sweep(place: Path, tmp_path: Path, target: str, of: str) -> None:
    names = [str(file.relative_to(place / "colours")) for file in sorted((place / "colours").rglob("*.png"))]
    rows = [f"{name},{k % 2},{k // 2 % 2}" for k, name in enumerate(names)]
    (tmp_path / "table.csv").write_text("\n".join(["file,round,large", *rows]) + "\n")
    own = asked(place, target=target, labels_csv=str(tmp_path / "table.csv"))
    found = bothways.sweep("finetune", **own, over={"seed": [0, 1]}, out=tmp_path / "out")
    titles = [f"{name} on held-out pictures" for name in of.split(", ")]
    assert list(found["groups"][0]["numbers"]) == [*titles, "Flow-matching loss on them"]
    for row in found["runs"]:
        scores = RunFolder.open(tmp_path / "out" / row["folder"]).measures["classifier"]["scores"]
        means = [one for one in scores if one["output"] == "mean"]
        for title, one in zip(titles, means, strict=True):
            assert row["numbers"][title] == {key: one[key] for key in ("value", "low", "high")}


def test_one_run_keeps_its_own_interval(place: Path, tmp_path: Path) -> None:
    found = bothways.sweep("finetune", **asked(place), over={"depth": [0.2]}, out=tmp_path / "one")
    own = RunFolder.open(tmp_path / "one" / "depth-0.2").measures["classifier"]
    number = found["groups"][0]["numbers"]["Accuracy on held-out pictures"]
    assert [number["value"], number["low"], number["high"]] == [own["accuracy"], own["low"], own["high"]]
    assert found["groups"][0]["over"] == "pictures"


# ---- a failure, a stop ---------------------------------------------------------------------------------------------


def test_a_run_that_fails_ends_no_other_and_is_tried_again(place: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    typed = ["finetune", place / "flow", "--data", place / "colours", "--validation", 8, "--batch", 5, "--steps", 1]
    typed += ["--train-steps", 2, "--workers", 0, "--crop", 0, "--no-flip", "--out", out]
    rates = ["--sweep", "rate=1e30,1e-3", "--set", "clip=0"]
    assert run(*typed, *rates) == 1
    told = capsys.readouterr()
    assert "1 of 2 runs of the sweep failed" in told.err
    assert "rate-1e+30 failed: " in told.out.replace("\n", " ")
    rows = facts(out)["runs"]
    assert [row["state"] for row in rows] == ["failed", "complete"]
    assert "step" in rows[0]["message"]
    assert facts(out)["failed"] == 1
    whole = (out / "rate-0.001" / "frames.jsonl").stat().st_mtime_ns
    assert run("finetune", "--resume", "--out", out) == 1
    assert (out / "rate-0.001" / "frames.jsonl").stat().st_mtime_ns == whole  # the finished one stays
    assert "finetune" in (out / "recipe.toml").read_text()
    assert "failed" in (out / "report.html").read_text()


@pytest.mark.slow
def test_a_stopped_sweep_goes_on_to_the_same_numbers(place: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "stopped"

    class EnoughError(Exception):
        pass

    def stop(frame: Any) -> None:
        if frame.step == 2:
            raise EnoughError

    with pytest.raises(EnoughError):
        bothways.sweep("finetune", **asked(place), over=OVER, out=out, on_frame=stop)
    assert len(list(out.glob("beta-*"))) == 2
    assert RunFolder.open(out).status["state"] == "stopped"
    bothways.sweep("finetune", resume=True, out=out)
    assert {**facts(out)} == {**facts(whole)}


@pytest.mark.slow
def test_a_sweep_that_was_killed_before_it_kept_its_settings_is_typed_whole(
    place: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    out.mkdir()
    (out / "recipe.toml").write_bytes((whole / "recipe.toml").read_bytes())
    with pytest.raises(UserError, match="type its whole command again, with --resume"):
        bothways.sweep("finetune", out=out, resume=True)
    bothways.sweep("finetune", **asked(place), over=OVER, out=out, resume=True)
    assert facts(out) == facts(whole)
    (out / "beta-0.0_seed-1" / "report.html").unlink()  # of a run that was killed before its page was written
    bothways.sweep("finetune", out=out, resume=True)
    assert (out / "beta-0.0_seed-1" / "report.html").is_file()
    (out / "given.json").unlink()
    with pytest.raises(UserError, match=r"over.loss.beta was \[0.0, 10.0\]"):
        bothways.sweep("finetune", **asked(place), over={"seed": [0]}, out=out, resume=True)


def test_a_sweep_that_goes_on_may_have_more_values_and_no_fewer(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    bothways.sweep("finetune", **asked(place), over={"seed": [0, 1]}, out=out)
    before = (out / "seed-0" / "frames.jsonl").stat().st_mtime_ns
    with pytest.raises(UserError, match=r"settings.over.seed was \[0, 1\] when this run began and is \[1\] now"):
        bothways.sweep("finetune", over={"seed": [1]}, out=out, resume=True)
    found = bothways.sweep("finetune", over={"seed": [0, 1, 2]}, out=out, resume=True)
    assert [row["folder"] for row in found["runs"]] == ["seed-0", "seed-1", "seed-2"]
    assert (out / "seed-0" / "frames.jsonl").stat().st_mtime_ns == before
    assert bothways.sweep("finetune", out=out, resume=True) == found
    with pytest.raises(UserError, match="is not the folder of a sweep"):
        bothways.sweep("finetune", over={"seed": [0]}, out=out / "seed-0", resume=True)


def test_overwriting_makes_every_run_again(place: Path, tmp_path: Path) -> None:
    out, one = tmp_path / "out", {"seed": [0]}
    bothways.sweep("finetune", **asked(place), over=one, out=out)
    before = (out / "seed-0" / "frames.jsonl").stat().st_mtime_ns
    with pytest.raises(UserError, match="--overwrite"):
        bothways.sweep("finetune", **asked(place), over=one, out=out)
    bothways.sweep("finetune", **asked(place), over=one, out=out, overwrite=True)
    assert (out / "seed-0" / "frames.jsonl").stat().st_mtime_ns != before


# ---- the axes ------------------------------------------------------------------------------------------------------


def test_values_are_read_and_combined() -> None:
    over = parsed_axes(FinetuneConfig, ["beta=0,1", "solver=euler,heun", "fit.betas=0.9,0.99;0.9,0.999"])
    assert over == {
        "beta": ["0", "1"],
        "solver": ["euler", "heun"],
        "fit.betas": [["0.9", "0.99"], ["0.9", "0.999"]],
    }
    both = points_of(FinetuneConfig, {"flow": "f", "data": "d"}, {"steps": [1], "train_steps": [2]})
    assert [point.name for point in both] == ["features.steps-1_fit.steps-2"]  # not steps-1_steps-2
    points = points_of(FinetuneConfig, {"flow": "f", "data": "d"}, {"steps": [1, 2], "seed": ["0"]})
    assert [point.settings for point in points] == [{"features.steps": n, "seed": 0} for n in (1, 2)]
    assert [point.name for point in points] == ["steps-1_seed-0", "steps-2_seed-0"]
    named = points_of(FinetuneConfig, {"flow": "f"}, {"data": ["фото/a", "写真", "/"]})
    assert [point.name for point in named] == ["data-фото-a", "data-写真", "data-none"]


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        (["beta"], "NAME=VALUE,VALUE"),
        (["beta="], "NAME=VALUE,VALUE"),
        (["beta=1,,2"], "missing between two commas"),
        (["beta=1", "beta=2"], "is there twice"),
        (["betta=1"], "no setting 'betta'"),
        (["beta=1,1.0"], "beta-1.0 twice"),
        (["beta=1,-3"], "beta=-3"),
        (["batch=5,6"], "batch is both set and swept"),
    ],
)
def test_what_cannot_be_swept_is_one_line(
    place: Path, tmp_path: Path, capsys: Any, pairs: list[str], says: str
) -> None:
    typed = ["finetune", place / "flow", "--data", place / "colours", "--batch", 5, "--out", tmp_path / "no"]
    said = refused(capsys, *typed, *(word for pair in pairs for word in ("--sweep", pair)))
    assert says.replace("=-3", "='-3'") in said or says in said
    assert not (tmp_path / "no").exists()


def test_a_dry_run_names_the_runs(place: Path, tmp_path: Path, capsys: Any) -> None:
    typed = ["finetune", place / "flow", "--data", place / "colours", "--sweep", "beta=0,1", "--out", tmp_path / "no"]
    assert run(*typed, "--dry-run") == 0
    assert "beta-0.0, beta-1.0" in capsys.readouterr().out.replace("\n", " ")
    assert not (tmp_path / "no").exists()


@pytest.mark.filterwarnings("ignore:.*was trained on 16")
def test_an_evaluation_is_swept_too_and_its_numbers_are_its_own(place: Path, whole: Path, tmp_path: Path) -> None:
    model, data = str(whole / "beta-0.0_seed-0"), str(place / "colours")
    found = bothways.sweep("evaluate", model, data, split="train", over={"limit": [10, 20]}, out=tmp_path / "out")
    wanted = [evaluate(model, data, split="train", limit=n)["clean"]["top1"]["value"] for n in (10, 20)]
    assert [group["numbers"]["Accuracy"]["value"] for group in found["groups"]] == wanted
    with pytest.raises(UserError, match="has no --sweep"):
        begin_sweep("curves", {}, {"limit": [1]}, Where(), default=False)


# ---- the page ------------------------------------------------------------------------------------------------------


def group(value: float, **settings: Any) -> dict[str, Any]:
    number = {"value": value, "low": value - 0.1, "high": value + 0.2}
    return {"settings": settings, "n": 3, "over": "3 seeds", "numbers": {"Accuracy": number}}


def test_the_chart_has_a_curve_per_other_setting_and_bars_for_intervals() -> None:
    groups = [group(0.1 * k + 0.3 * (s == "heun"), beta=b, solver=s) for s in ("euler", "heun") for k, b in BETAS]
    (chart,) = swept.charts(groups)
    first, second = chart.figure["data"]
    assert first["name"] == "solver euler"
    assert second["y"] == pytest.approx([0.3, 0.4, 0.5])
    assert first["text"] == ["0", "1", "100"]
    assert first["error_y"]["array"] == pytest.approx([0.2] * 3)
    assert first["error_y"]["arrayminus"] == pytest.approx([0.1] * 3)
    assert chart.words == "From 0 at beta 0 to 0.500 at beta 100; bars are 95 % intervals."
    assert swept.charts([group(0.1, beta=1)]) == []
    names = swept.charts([group(0.1, solver="euler"), group(0.2, solver="heun")])[0].figure["layout"]["xaxis"]
    assert names["ticktext"] == ["euler", "heun"]


BETAS = tuple(enumerate((0, 1, 100)))


def test_the_page_of_a_sweep_shows_the_means_and_the_runs(whole: Path) -> None:
    page = (whole / "report.html").read_text()
    assert "6 runs of bothways finetune over loss.beta and seed" in page
    assert "The sweep in numbers: 3 seeds" in page
    assert "beta-10.0_seed-2" in page
