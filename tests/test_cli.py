"""The command line: what it prints, writes and leaves alone."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from bothways import __version__, load_model
from bothways.models.cards import bundled_names
from bothways.numerics.draws import Draws
from bothways.runs import RunFolder, to_png
from command import run

TOY = f"{Path(__file__).resolve().parent / 'toy_model.py'}:build"
QUICK = ["--recipe", "das", "--steps", "2", "--n", "1"]
COMMANDS = ["generate", "demo", "models", "recipes", "train", "report", "cite", "scorecard", "statistics", "spectrum"]
COMMANDS += ["features", "latents", "pretrain", "sample", "likelihood", "diagnose", "edit", "inpaint"]
COMMANDS += ["style", "invert", "accentuate", "walk", "finetune", "evaluate", "curves", "predict", "explain", "studio"]
COMMANDS += ["registry"]
OTHER = TOY.replace(":build", ":other")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs of the toy."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        arguments = ["generate", TOY, "--class", "anchor", "dragon", *QUICK, "--seed", seed]
        assert run(*arguments, "--out", folder / f"{seed}") == 0
    return [folder / "0", folder / "1"]


# ---- saying what there is ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(command, "--help") == 0
    said = capsys.readouterr().out
    if command not in ("models", "recipes"):
        assert f"bothways {command} " in said


def test_help_of_the_whole_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("-h") == 0
    said = capsys.readouterr().out
    assert all(re.search(rf"\W{command}  ", said) for command in COMMANDS)
    assert run("--version") == 0
    assert capsys.readouterr().out == f"bothways {__version__}\n"


def test_recipes_and_models(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("recipes") == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("das", "dsf-paper", "icons", "pixels", "sampled", "cifar10-resnet"))
    monkeypatch.setenv("COLUMNS", "80")  # an address is there to be copied
    assert run("models") == 0
    said = capsys.readouterr().out
    assert "PATH.py:FUNCTION" in said
    assert all(f"bundled:{name}" in said for name in bundled_names())


def test_bundled_models_are_what_their_cards_say() -> None:
    if not bundled_names():
        pytest.skip("no bundled models in this tree: they are trained by recipes/cifar10-*.toml")
    for name in bundled_names():
        model = load_model(f"bundled:{name}")
        assert (model.spec.count, model.spec.height) == (10, 32)
        assert model.name == f"bundled:{name}"


# ---- drawing -------------------------------------------------------------------------------------------------------


def test_a_run_is_written_and_its_place_told(
    runs: list[Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    folder = RunFolder.open(runs[0])
    assert folder.status["state"] == "complete"
    assert [record["class"] for record in folder.pictures] == ["anchor", "dragon"]
    assert folder.settings["drawn"]["classes"] == ["anchor", "dragon"]
    assert (runs[0] / "report.html").read_text().startswith("<!doctype html>")
    long = tmp_path / ("a rather long name of a folder " * 4).strip() / "[run]"
    assert run("generate", TOY, "--class", "3", *QUICK, "--out", long) == 0
    said = capsys.readouterr().out
    assert f"1 picture in {long}/images\n" in said
    assert f"the report is {long}/report.html\n" in said


def test_only_some_pictures(runs: list[Path], tmp_path: Path) -> None:
    arguments = ["generate", TOY, "--class", "anchor", "dragon", *QUICK, "--only", "1"]
    assert run(*arguments, "--out", tmp_path / "one") == 0
    assert [record["index"] for record in RunFolder.open(tmp_path / "one").pictures] == [1]


def placed_in(whole: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    """The values of ``whole`` at the places of ``part``."""
    return {k: placed_in(whole[k], v) if isinstance(v, dict) else whole[k] for k, v in part.items()}


def test_options_and_set_reach_the_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more = ["--size", "20", "--copies", "3", "--jitter", "2", "--noise", "0.3", "--seed", "9", "--batch", "1"]
    changes = ["--set", "canvas.levels=1,5,20", "--set", "optimizer=momentum", "--set", "final=0.5"]
    out = tmp_path / "never"
    assert run("generate", TOY, "--class", "0", *QUICK, *more, *changes, "--dry-run", "--out", out) == 0
    said = capsys.readouterr().out
    settings = json.loads(said[: said.rindex("}") + 1])
    wanted = {"n": 1, "seed": 9, "batch": 1, "recipe": "das"}
    wanted |= {"canvas": {"size": 20, "levels": ["1", "5", "20"]}, "ascent": {"steps": 2, "final": 0.5}}
    wanted |= {"views": {"copies": 3, "roll": {"reach": 2.0}, "noise": {"level": 0.3}}}
    assert placed_in(settings, wanted) == wanted
    assert "1 pictures in 1 batches" in said
    assert list(tmp_path.iterdir()) == []


def test_weights_of_ones_own(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    other = load_model(TOY.replace(":build", ":other"))
    save_file({k: v.contiguous() for k, v in other.module.state_dict().items()}, tmp_path / "other.safetensors")
    arguments = ["generate", TOY, "--class", "1", *QUICK, "--weights", tmp_path / "other.safetensors"]
    assert run(*arguments, "--out", tmp_path / "a") == 0
    assert run("generate", other.name, "--class", "1", *QUICK, "--out", tmp_path / "b") == 0
    first, second = (next((tmp_path / name / "images").iterdir()).read_bytes() for name in "ab")
    assert first == second


def test_a_judge_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    judge = TOY.replace(":build", ":other")
    assert run("generate", TOY, "--class", "1", *QUICK, "--judge", judge, "--out", tmp_path / "run") == 0
    judges = RunFolder.open(tmp_path / "run").measures["judges"]
    assert [(v["judge"], v["gave_gradient"]) for v in judges] == [(judge, False), (TOY, True)]
    assert "gave the gradient" in capsys.readouterr().out


def test_an_earlier_run_is_kept_unless_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", TOY, "--class", "1", *QUICK, "--out", tmp_path / "run"]
    assert run(*arguments) == 0
    (tmp_path / "run" / "mine.txt").write_text("mine")
    assert run(*arguments, "--seed", "5") == 2
    said = capsys.readouterr().err
    assert "--overwrite" in said
    assert "Traceback" not in said
    before = (tmp_path / "run" / "recipe.toml").read_text()
    # what is refused is refused before the earlier run is removed
    for bad in (["--judge", "nobody"], ["--data", tmp_path / "none"], ["--set", "optimizer=adam"], ["--only", "7"]):
        assert run(*arguments, "--overwrite", *bad) == 2
    assert (tmp_path / "run" / "recipe.toml").read_text() == before
    assert run(*arguments, "--seed", "5", "--overwrite") == 0
    assert RunFolder.open(tmp_path / "run").settings["settings"]["seed"] == 5
    assert (tmp_path / "run" / "mine.txt").read_text() == "mine"


# ---- without a class, and by several models ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twelve pictures."""
    folder = tmp_path_factory.mktemp("photos")
    for i, image in enumerate(Draws(range(12)).uniform((3, 16, 16))):
        (folder / f"{i:02}.png").write_bytes(to_png(image))
    return folder


def test_pictures_of_no_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["--recipe", "dsf", "--steps", "2", "--n", "3"]
    assert run("generate", TOY, "--unconditional", *quick, "--out", tmp_path / "run") == 0
    assert f"3 pictures in {tmp_path / 'run'}/images" in capsys.readouterr().out
    folder = RunFolder.open(tmp_path / "run")
    assert [(r["class"], r["label"]) for r in folder.pictures] == [(None, None)] * 3
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000
    assert run("generate", TOY, "--unconditional", *quick, "--resume", "--out", folder.path) == 0


@pytest.mark.filterwarnings("default")  # as a shell has it
def test_without_a_recipe_features_are_sampled_and_what_is_missing_is_noted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("generate", TOY, "--unconditional", "--steps", "1", "--n", "1", "--out", tmp_path / "run") == 0
    assert RunFolder.open(tmp_path / "run").settings["settings"]["recipe"] == "sampled"
    (note,) = capsys.readouterr().err.strip().splitlines()
    assert note.startswith("note: no real pictures are available for model")


@pytest.mark.filterwarnings("ignore:no real pictures")
def test_a_further_objective_goes_with_unconditional_as_it_goes_alone(tmp_path: Path) -> None:
    for number, none in enumerate([["--unconditional"], []]):
        given = [TOY, *none, "--objective", "symmetry:0.5", "--steps", "2", "--n", "1", "--no-verdicts"]
        assert run("generate", *given, "--out", tmp_path / str(number)) == 0
    one, other = (RunFolder.open(tmp_path / number) for number in "01")
    assert one.settings == other.settings
    assert torch.equal(one.read_picture(one.pictures[0]), other.read_picture(other.pictures[0]))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([TOY], "or --unconditional for none; not both"),
        ([TOY, "--class", "anchor", "--unconditional"], "or --unconditional for none; not both"),
        ([TOY, "--class", "anchor", "--unconditional", "--objective", "symmetry"], "for none; not both"),
        (["--unconditional"], "no model was given"),
        ([TOY, "--unconditional", "--condition", OTHER], "type --class NAME too"),
        ([TOY, "--unconditional", "--score", OTHER], "has no role"),
        ([TOY, "--unconditional", "--recipe", "das"], "no objective for a picture without a class"),
        ([TOY, "--unconditional", "--recipe", "sampled", "--data", "nowhere.safetensors"], "does not exist"),
    ],
)
def test_what_is_drawn_by_whom_must_be_clear(
    arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("generate", "--recipe", "dsf", *arguments, "--steps", "1", "--out", tmp_path / "run") == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert says in line
    assert list(tmp_path.iterdir()) == []


def test_one_model_scores_and_another_names_the_class(tmp_path: Path) -> None:
    roles = ["--score", OTHER, "--condition", TOY, "--class", "dragon"]
    assert run("generate", *roles, "--recipe", "dsf", "--steps", "1", "--n", "1", "--out", tmp_path / "run") == 0
    folder = RunFolder.open(tmp_path / "run")
    drawn = {"classes": ["dragon"], "score": [OTHER], "condition": [TOY]}
    assert folder.settings["drawn"].items() >= drawn.items()
    assert {"dsf norm", "log probability"} <= set(folder.frames[0]["stats"])


def test_statistics_are_measured_once_and_drawn_from(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "kept" / "toy.safetensors"
    arguments = ["statistics", TOY, "--data", photos, "--limit", "8", "--rank", "3", "--out", file]
    assert run(*arguments) == 0
    said = capsys.readouterr().out
    assert f"over 8 pictures, the features of 8 of them, {file.stat().st_size / 1000:,.0f} kB in {file}" in said
    assert f"bothways generate {TOY} --unconditional --data {file}" in said
    assert run(*arguments) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert run(*arguments, "--overwrite") == 0
    quick = ["--steps", "1", "--n", "1"]
    assert run("generate", TOY, "--unconditional", "--data", file, *quick, "--out", tmp_path / "run") == 0
    assert RunFolder.open(tmp_path / "run").settings["settings"]["terms"]["statistics"]["form"] == "sampled"
    assert "note:" not in capsys.readouterr().err
    for bad in (["--limit", "1"], ["--rank", "0"], ["--out", tmp_path / "toy.bin"], ["--data", file]):
        assert run("statistics", TOY, "--data", photos, "--out", tmp_path / "new.safetensors", *bad) == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kept", "run"]


# ---- looking back --------------------------------------------------------------------------------------------------


def test_a_report_of_two_runs(runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "both.html"
    assert run("report", *runs, "--out", page) == 0
    assert f"Open {page}" in capsys.readouterr().out
    assert page.read_text().count("data:image/png;base64,") >= 4
    assert run("report", *runs) == 0  # each keeps its own page
    both = runs[0].parent / f"comparison-{runs[0].name}-{runs[1].name}.html"
    assert f"Open {both}" in capsys.readouterr().out
    assert both.is_file()
    assert run("report", runs[1]) == 0
    assert f"Open {runs[1] / 'report.html'}" in capsys.readouterr().out


def test_a_report_replaces_nothing_but_a_report(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, thesis, link, pipe = (tmp_path / name for name in ("page.html", "thesis.txt", "link.html", "pipe.html"))
    assert run("report", runs[0], "--out", page) == run("report", runs[0], "--out", page) == 0
    thesis.write_text("mine")
    link.symlink_to(page)
    os.mkfifo(pipe)
    for place in (thesis, link, pipe, Path(os.devnull)):
        capsys.readouterr()
        assert run("report", runs[0], "--out", place) == 2
        said = capsys.readouterr().err
        assert "type" in said
        assert "\n" not in said.strip()
    assert thesis.read_text() == "mine"


def test_a_file_that_bothways_did_not_write_is_not_overwritten(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights.safetensors"
    save_file({"layer.weight": torch.ones(3)}, weights)
    before = weights.read_bytes()
    for arguments in (["statistics", TOY], ["spectrum"]):
        asked = [*arguments, "--data", photos, "--limit", "8", "--out"]
        assert run(*asked, weights, "--overwrite") == 2
        assert "bothways did not write it" in capsys.readouterr().err
        own = tmp_path / f"{arguments[0]}.safetensors"
        assert run(*asked, own) == run(*asked, own, "--overwrite") == 0
    assert weights.read_bytes() == before


def test_cite_prints_bibtex(runs: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("cite", runs[0]) == 0
    said = capsys.readouterr().out
    entries = re.findall(r"^@\w+\{(\w+),$", said, re.MULTILINE)
    assert "fort2025direct" in entries
    assert len(entries) == len(set(entries)) == said.count("\n}")


def test_a_run_that_has_not_ended_cites_nothing(
    runs: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs[0], tmp_path / "run")
    RunFolder.open(tmp_path / "run").write_status("stopped", "")
    assert run("cite", tmp_path / "run") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "is stopped" in err
    assert err.count("\n") == 1
