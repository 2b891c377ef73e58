"""The recipes of an audit's portraits: a setting, with defaults that suit the model's size."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import bothways
from bothways import ModelSpec, UserError, explain
from bothways.data.readers.builtin import DIGITS
from bothways.models.adapter import Adapter
from bothways.runs import RunFolder, to_png
from bothways.tasks.explain.section import sentence
from bothways.tasks.shelf import work_of


def model(size: int, *after: nn.Module, classes: int = 10) -> Adapter:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        network = nn.Sequential(*body, nn.Flatten(), nn.Linear(8, 10), *after)
    return bothways.load_model(network.eval(), ModelSpec(size, (0.5,) * 3, (0.5,) * 3, classes))


@pytest.mark.parametrize(
    ("network", "recipes"),
    [
        (model(16), ["icons", "das"]),
        (model(96), ["photographs"]),
        (model(96, nn.ConstantPad1d((0, 1), 0.0), classes=11), ["icons", "das"]),  # no linear head to take a row of
    ],
)
def test_the_default_suits_the_model(network: Adapter, recipes: list[str]) -> None:
    work = work_of("explain", network, data=DIGITS, classes=[0, 1, 2], n=2, real=10, judges=[])
    assert list(work.drawings) == recipes
    assert work.facts["settings"]["recipes"] == recipes
    assert " and ".join(recipes) in work.plan()


def test_recipes_of_ones_own_choice_draw_the_portraits(tmp_path) -> None:
    out = tmp_path / "run"
    options = {"data": DIGITS, "classes": [0, 1, 2], "judges": [], "n": 2, "real": 10, "steps": 2, "out": out}
    found = explain(model(16), recipes=["photographs", "pixels", "das"], **options)
    run = RunFolder.open(out)
    assert {portrait["recipe"] for own in found["classes"] for portrait in own["portraits"]} == {
        "photographs", "pixels", "das",
    }  # fmt: skip
    assert all(len(own["portraits"]) == 6 for own in found["classes"])
    assert run.settings["settings"]["recipes"] == ["photographs", "pixels", "das"]
    assert all(len(list((out / name / "images").iterdir())) >= 6 for name in ("photographs", "pixels", "das"))
    assert "photographs, pixels and das" in sentence(run.measures["audit"])
    with pytest.raises(UserError, match="recipes was"):
        work_of("explain", model(16), recipes=["das"], resume=True, **options)


@pytest.mark.parametrize(
    ("recipes", "said"),
    [(["icnos"], "icons"), (["edit"], "edit"), (["otcfm"], "otcfm")],
)
def test_recipes_that_draw_no_class_are_refused_in_a_line(recipes: list[str], said: str, tmp_path) -> None:
    for label in range(3):
        (tmp_path / str(label)).mkdir()
        for place in range(10):
            picture = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(10 * label + place))
            (tmp_path / str(label) / f"{place}.png").write_bytes(to_png(picture))
    with pytest.raises(UserError) as error:
        work_of("explain", model(16), data=tmp_path, classes=[0, 1, 2], n=2, judges=[], recipes=recipes)
    assert said in str(error.value)
    assert "\n" not in str(error.value)
