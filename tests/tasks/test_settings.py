"""Recipes and settings: what may be said, and that what may not is refused in one line."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import pytest

from bothways import UserError
from bothways.runs.citations import citations
from bothways.tasks.generate.config import TASKS, DrawSettings, checked, described, draw_settings, spoken_changes
from bothways.tasks.recipes import read_recipe, recipe_folder, recipes

BAD = {
    "n": 0,
    "steps": -1,
    "size": 0,
    "seed": -1,
    "batch": 0,
    "group": 0,
    "dtype": "foo",
    "device": 7,
    "parameterization": "canvas",
    "engine": "steam",
    "levels": "some",
    "level_power": "high",
    "squash": "logistic",
    "start": "black",
    "start_noise": -0.1,
    "start_photo": 3,
    "spectrum": 3,
    "alpha": "perhaps",
    "optimizer": "lbfgs",
    "rms": 0,
    "rate": 0.0,
    "schedule": "sometimes",
    "final": -1,
    "step_noise": -1,
    "fixed_noise": -0.1,
    "fill": "black",
    "strength": 0,
    "text_weight": "much",
    "channel_weight": "much",
    "embedding_weight": "much",
    "embedding_layer": 3,
    "content_weight": "much",
    "content_layer": 3,
    "style_weight": "much",
    "nearness_weight": "much",
    "prediction_weight": "much",
    "certainty_weight": "much",
    "smooth": "rather",
    "clip": 0,
    "clip_by": "length",
    "copies": 0,
    "border": -1,
    "jitter": math.inf,
    "shift": math.nan,
    "flip": "perhaps",
    "noise": -1,
    "noise_kind": "pink",
    "objective": "beauty",
    "class_weight": math.inf,
    "statistics": "all",
    "statistics_weight": math.nan,
    "feature_weight": "much",
    "decision_weight": math.inf,
    "temperature": -1,
    "shrinkage": 1.5,
    "dsf_weight": math.inf,
    "dsf_surrogate": "logit",
    "dsf_engine": "steam",
    "dsf_per": "pixel",
    "dsf_live": "both",
    "dsf_distance": "cosine",
    "dsf_augmentation": "flip",
    "dsf_parameters": 3,
    "variation_weight": "much",
    "variation_power": 0,
    "normalize": 3,
    "recipe": 1,
}


def refused(call, *arguments, **keywords) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments, **keywords)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_every_setting_has_a_bad_value_here() -> None:
    assert set(BAD) == set(DrawSettings.model_fields)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_value_is_refused_in_one_line(name: str) -> None:
    said = refused(checked, {name: BAD[name]})
    assert said.startswith(f"{name}={BAD[name]!r}: ")


DRAWING = ["das", "das-paper", "dsf", "dsf-paper", "icons", "maco", "pixels", "sampled", "statistics-tv"]


@pytest.mark.parametrize("name", DRAWING)
def test_recipes_that_draw_are_valid(name: str) -> None:
    settings = draw_settings(name)
    assert settings.recipe == name
    stated = tomllib.loads((recipe_folder() / f"{name}.toml").read_text())
    for key, value in stated.items():
        assert key == "task" or getattr(settings, key) == value
    assert any("@article{heusel2017gans" in entry for entry in citations(settings))


def test_recipes_are_listed_by_task_with_their_first_line() -> None:
    drawing, training = recipes(), recipes("train")
    assert set(DRAWING) <= set(drawing)
    assert {"cifar10-resnet", "cifar10-plain", "cifar10-attention"} <= set(training)
    assert not set(drawing) & set(training)
    assert all(len(text) > 20 for text in {**drawing, **training}.values())


def test_changes_go_on_top_and_none_changes_nothing() -> None:
    own = draw_settings("das")
    assert draw_settings("das", steps=None, n=None) == own
    changed = draw_settings("das", steps=3, size=24, flip=True)
    assert (changed.steps, changed.size, changed.flip, changed.copies) == (3, 24, True, own.copies)
    with pytest.raises(ValueError, match="frozen"):
        changed.steps = 4


def test_a_length_is_a_share_below_one_and_pixels_from_one_on() -> None:
    settings = draw_settings("pixels", jitter=0.25, shift=3)
    assert (settings.pixels("jitter", 32), settings.pixels("shift", 32)) == (8, 3)


def test_a_toml_file_is_a_recipe(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('# mine\ntask = "generate"\nsteps = 7\nlevels = [1, 2, 4]\n')
    settings = draw_settings(str(file), copies=2)
    assert (settings.recipe, settings.steps, settings.levels, settings.copies) == (str(file), 7, [1, 2, 4], 2)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"steps = ", "cannot be read as TOML"),
        (b"\xff\xfe", "cannot be read as TOML"),
        (b"steps = 7", 'task = "generate"'),
        (b'task = "train"', 'task = "generate"'),
        (b'task = "generate"\nstep = 7', "steps"),
        (b'task = "generate"\n[fit]\nsteps = 7', "'fit'"),
        (b'task = "generate"\nsteps = "many"', "steps='many'"),
    ],
)
def test_a_bad_toml_file_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(content)
    assert says in refused(draw_settings, str(file))


def test_unknown_names_bring_the_nearest() -> None:
    assert "type one of das-paper, dsf-paper" in refused(read_recipe, "das-papr")
    assert all(name in refused(read_recipe, "zzz") for name in DRAWING)
    assert "no recipe 'cifar10-resnet'" in refused(read_recipe, "cifar10-resnet")
    assert "cifar10-resnet" in refused(read_recipe, "cifar-resnet", "train")
    assert "no recipe" in refused(read_recipe, "nowhere/mine.toml")
    assert "type one of rms" in refused(draw_settings, "das", rmss=1)
    assert "variation_weight" in refused(draw_settings, "das", variation_wieght=1)


def test_spoken_changes() -> None:
    assert spoken_changes(["rms=0.02", "levels=1,2,4", "levels=all"]) == {"rms": "0.02", "levels": "all"}
    settings = draw_settings("das", **spoken_changes(["rms=0.02", "levels=1,2,4", "flip=true"]))
    assert (settings.rms, settings.levels, settings.flip) == (0.02, [1, 2, 4], True)
    assert "NAME=VALUE" in refused(spoken_changes, ["rms"])
    assert "type one of rms" in refused(spoken_changes, ["rm=1"])
    assert "--recipe das" in refused(spoken_changes, ["recipe=das"])
    for name in ("model", "classes", "out", "spec", "weights", "="):
        assert "no setting" in refused(spoken_changes, [f"{name}=1"])
    assert refused(checked, spoken_changes(["levels=1,two"])).startswith("levels=")


def test_the_help_of_a_setting_names_the_value_of_each_recipe() -> None:
    assert described("seed").endswith("[default: 0]")
    values = {name: read_recipe(name)["steps"] for name in recipes()}
    assert all(f"{name} {steps}" in described("steps") for name, steps in values.items() if name not in TASKS)
    assert all(described("steps", task).endswith(f"[default: {values[task]}]") for task in TASKS)
    assert all(described(name) for name in DrawSettings.model_fields)


def test_citations_follow_the_parts() -> None:
    keys = {
        "parameterization=fourier": "olah2017",
        "statistics=batch": "yin2020dreaming",
        "variation_weight=1": "mahendran2015",
        "copies=4": "fort2025direct",
    }
    for change, key in keys.items():
        with_it = "".join(citations(draw_settings("pixels", **spoken_changes([change]))))
        assert key in with_it
        assert key not in "".join(citations(draw_settings("pixels")))
        assert with_it.count("{") == with_it.count("}")
