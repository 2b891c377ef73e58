"""The recipes of an audit's portraits: a setting, with defaults that suit the model's size."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

import bothways
from bothways import ModelSpec, UserError, evaluate, explain
from bothways.data.readers.builtin import DIGITS
from bothways.models.adapter import Adapter
from bothways.runs import RunFolder, to_png
from bothways.tasks.explain.entanglement import recognised
from bothways.tasks.explain.section import sentence
from bothways.tasks.shelf import work_of


def model(size: int, *after: nn.Module, classes: int = 10) -> Adapter:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        network = nn.Sequential(*body, nn.Flatten(), nn.Linear(8, 10), *after)
    return bothways.load_model(network.eval(), ModelSpec(size, (0.5,) * 3, (0.5,) * 3, classes))


class Turned(nn.Module):
    """The outputs of a network in reverse, after one of a class that it never calls."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.network(x).flip(1)
        return torch.cat([found.amin(1, keepdim=True) - 1, found], 1)


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


def test_recognised_is_the_largest_of_the_audited_outputs() -> None:
    logits = torch.tensor([[9.0, 1, 0, 0], [9.0, 0, 1, 0], [9.0, 0, 1, 0], [9.0, 0, 0, 3], [9.0, 5, 0, 3]])
    targets = torch.tensor([1, 1, 2, 3, 3])  # output 0 is of a class that is not audited
    assert recognised(logits, targets, [1, 2, 3]) == [
        {"value": 0.5, "n": 2}, {"value": 1.0, "n": 1}, {"value": 0.5, "n": 2},
    ]  # fmt: skip
    assert recognised(logits, torch.tensor([1, 1, -1, 3, 3]), [1, -1, 3])[1] is None
    assert recognised(logits, torch.full((5,), -1), [-1, -1, 1]) == [None] * 3
    assert recognised(logits, torch.tensor([1, 1, 3, 3, 3]), [1, 2, 3])[1] is None  # no picture of it


def test_other_models_recognise_the_portraits_or_not(tmp_path) -> None:
    """A judge of more classes in another order reads the same portraits: by names, among the audited ones."""
    names = tuple("abcdefghij")
    drawn = replace(model(16).spec, classes=names)
    audited = bothways.load_model(model(16).module, drawn)
    twin = copy.deepcopy(model(16).module)  # of other weights, or it is the model itself under another name
    with torch.no_grad():
        list(twin.parameters())[-1].add_(1e-6)
    judge = bothways.load_model(Turned(twin), replace(drawn, classes=("z", *names[::-1])))
    data = tmp_path / "data"
    for name in names[:3]:
        (data / name).mkdir(parents=True)
        for place in range(10):
            picture = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(place))
            (data / name / f"{place}.png").write_bytes(to_png(picture))
    found = explain(audited, data=data, classes=list(names[:3]), n=2, steps=3, judges=[judge], recipes=["das"])
    other, own = found["entanglement"]
    assert not other["own"]
    assert other["recognised"] == own["recognised"]
    assert other["recognised_real"] == own["recognised_real"]
    assert all(share["n"] == 2 for share in own["recognised"])
    assert sum(share["value"] for share in own["recognised_real"]) == pytest.approx(
        1
    )  # the same pictures in each class


def test_other_classes_of_the_data_do_not_matter(tmp_path) -> None:
    """Data of more classes than the model's, one of which it has twice, as ImageNet has two cranes."""
    names = (*"abcdefgh", "crane", "crane")
    network = bothways.load_model(model(16).module, replace(model(16).spec, classes=names))
    for name in ("a", "b", "c", "crane", "zebra"):
        (tmp_path / name).mkdir()
        for place in range(10):
            picture = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(place))
            (tmp_path / name / f"{place}.png").write_bytes(to_png(picture))
    work = work_of("explain", network, data=tmp_path, classes=["a", "b", "c"], n=2, judges=[])
    assert work.real.labels.bincount().tolist() == [10, 10, 10]
    with pytest.raises(UserError, match=r"2 of 5 classes of data .* are not classes of model"):
        evaluate(network, tmp_path)
    with pytest.raises(UserError, match="0 readable pictures of class 'd'"):
        work_of("explain", network, data=tmp_path, classes=["a", "b", "d"], n=2, judges=[])
