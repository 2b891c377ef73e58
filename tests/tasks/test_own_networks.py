"""The default recipe and ``icons`` on any user's network, without data: with BatchNorm, other normalisations, none."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
import torch

import bothways
from bothways import load_model
from bothways.tasks.shelf import work_of
from command import run

FILE = """
import torch
from torch import nn
from bothways import ModelSpec


class PlacesNorm(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x):
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def build(norm):
    with torch.random.fork_rng():
        torch.random.manual_seed(5)
        body = nn.Sequential(nn.Conv2d(3, 6, 3, 2, 1), norm, nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        module = nn.Sequential(body, nn.Linear(6, 3))
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d) and part.track_running_stats:
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 1.5)
    return module, ModelSpec(size=16, mean=0.5, std=0.25, classes=("ash", "beech", "cedar"), feature_layer="0")


def batch():
    return build(nn.BatchNorm2d(6))


def layer():
    return build(PlacesNorm(6))


def group():
    return build(nn.GroupNorm(2, 6))


def untracked():
    return build(nn.BatchNorm2d(6, track_running_stats=False))


def none():
    return build(nn.Identity())
"""
INSTEAD = {"batch": "BatchNorm's running statistics are matched instead"}
WITHOUT = "no statistics are matched"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("networks") / "mine.py"
    path.write_text(FILE)
    return path


@pytest.mark.filterwarnings("always:no statistics of real")
@pytest.mark.parametrize("kind", ["batch", "layer", "group", "untracked", "none"])
def test_icons_draws_without_data_and_says_in_a_line_what_it_lacks(
    file: Path, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, said, quick = tmp_path / "run", INSTEAD.get(kind, WITHOUT), ["--recipe", "icons", "--n", 2, "--steps", 4]
    assert run("generate", f"{file}:{kind}", "--class", "beech", *quick, "--out", out) == 0
    (told,) = [line for line in capsys.readouterr().err.splitlines() if said in line]
    assert told.startswith("note: no statistics of real pictures are available for model")
    assert "--data FOLDER_OR_PARQUET gives them" in told
    assert ("--recipe photographs" in told) == (kind != "batch")
    if kind != "batch":  # what the line recommends is the default, is drawn, and lacks nothing
        other = ["--n", 1, "--steps", 1, "--out", tmp_path / "other"]
        assert run("generate", f"{file}:{kind}", "--class", "beech", *other) == 0
        assert "notes" not in json.loads((tmp_path / "other/measures.json").read_text())
        assert 'recipe = "photographs"' in (tmp_path / "other/recipe.toml").read_text()
    (note,) = json.loads((out / "measures.json").read_text())["notes"]
    assert told == f"note: {note}"
    assert unescape((out / "report.html").read_text()).count(f"Note: {note}") == 1
    stats = json.loads((out / "frames.jsonl").read_text().splitlines()[-1])["stats"]
    assert ("batch statistics" in stats) == (kind == "batch")
    assert {"log probability", "total variation"} <= set(stats)


def test_what_draws_without_statistics_fits_what_is_drawn(file: Path) -> None:
    model = load_model(f"{file}:none")

    def said(task: str, *given: Any, **chosen: Any) -> str:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            work_of(task, model, *given, **chosen)
        assert WITHOUT in str(told[-1].message)
        return str(told[-1].message)

    assert said("generate", "beech", recipe="icons").endswith("and --recipe photographs draws a class without any")
    assert said("generate", recipe="statistics-tv").endswith("and --recipe sampled draws pictures without any")
    with pytest.warns(UserWarning, match="rows of its head are sampled"):  # what the line recommends is drawn
        assert len(bothways.generate(model, recipe="sampled", n=1, steps=1, judges=[]).images) == 1
    assert "--recipe" not in said("generate", recipe="sampled-photographs")
    assert "--recipe" not in said("generate", recipe="icons", layer="0.0")
    assert "--recipe" not in said("edit", torch.rand(3, 16, 16), classes="beech", recipe="icons")


def test_batch_norm_is_matched_by_its_running_statistics(file: Path) -> None:
    model = load_model(f"{file}:batch")
    with pytest.warns(UserWarning, match="BatchNorm's running"):
        drawing = work_of("generate", model, "beech", n=3, recipe="icons")
    assert "form='batch'" in str(drawing.setup.objective)
    stored = drawing.setup.roles.priors.stored[0]
    norm = model.module[0][1]
    assert torch.equal(stored["0.1:input"][0], norm.running_mean)
    assert torch.equal(stored["0.1:input"][1], norm.running_var)


def test_a_run_that_lacks_nothing_has_no_notes() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = bothways.generate("bundled:cifar10-plain", "frog", n=1, steps=1, judges=[])
    assert "notes" not in result.measures


@pytest.mark.parametrize(("others", "matched"), [(("batch", "batch"), True), (("batch", "none"), False)])
def test_several_networks_fall_back_together(file: Path, others: tuple[str, str], matched: bool) -> None:
    models = [load_model(f"{file}:{kind}") for kind in others]
    with pytest.warns(UserWarning, match=INSTEAD["batch"] if matched else WITHOUT) as told:
        result = bothways.generate(score=models, condition=models, classes="beech", n=2, steps=2, judges=[])
    assert result.measures["notes"] == [str(one.message) for one in told]
    assert ("batch statistics" in result.frames[0].stats) == matched


def test_the_hole_that_is_filled_without_the_model_is_noted(file: Path) -> None:
    with pytest.warns(UserWarning, match="the hole is filled smoothly"):
        result = bothways.inpaint(f"{file}:batch", torch.rand(3, 16, 16), box=(4, 4, 9, 9), judges=[])
    assert result.measures["notes"][0].startswith("no real pictures were given")


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_networks_of_libraries_are_drawn_by_default_too(zoo: Callable[[str], str], kind: str) -> None:
    model = load_model(zoo(kind))
    with pytest.warns(UserWarning, match=INSTEAD["batch"] if kind == "resnet" else WITHOUT):
        result = bothways.generate(model, 1, n=1, steps=2, recipe="icons", judges=[])
    assert result.images.shape == (1, 3, 32, 32)
    by_default = bothways.generate(model, 1, n=1, steps=2, judges=[])  # both have a linear head
    assert "notes" not in by_default.measures
    assert by_default.tables["settings"]["recipe"] == "photographs"
    of_its_canvas = bothways.generate(model, 1, n=1, steps=2, judges=[], **{"canvas.tilt": 0.0})
    assert of_its_canvas.tables["settings"]["recipe"] == "photographs"
