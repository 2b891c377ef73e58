"""Judges of a user's own: a function of pictures measures them, a function of nothing builds a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from bothways import ModelSpec, UserError, generate, load_model, sample
from bothways.judging import references
from bothways.judging.judges import find_jury, same_network, split_judges
from bothways.judging.measures import image_measures
from bothways.registry import entries
from bothways.runs import to_png
from bothways.tasks.generate.section import image_table
from bothways.tasks.pictures import told_of_pictures
from command import run
from small_flow import write_small_flow

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"
KEYS = ["spectrum_slope", "spectrum", "flip_symmetry", "pixel_std", "collapsed"]
MINE = """
def brightness(images):
    return images.mean()

def both(images):
    return {"least": images.min(), "most": images.max()}

def pixel_std(images):
    return 0.0

def each(images):
    return images.mean((1, 2, 3))
"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


def brightness(images: Tensor) -> Tensor:
    return images.mean()


def test_the_measures_of_the_package_are_entries() -> None:
    assert list(entries("judge")) == ["spectrum", "symmetry", "contrast", "collapse"]
    assert list(image_measures(torch.rand(2, 3, 8, 8))) == KEYS


def test_pictures_too_small_for_a_spectrum_have_none() -> None:
    found = image_measures(torch.rand(2, 3, 3, 300))
    assert list(found) == KEYS
    assert (found["spectrum_slope"], found["spectrum"]) == (None, None)
    assert found["pixel_std"] > 0


def test_a_function_of_pictures_measures_and_one_of_nothing_builds(mine: Path) -> None:
    models, measures = split_judges([TOY, f"{mine}:both", brightness, "bundled:cifar10-resnet"])
    assert models == [TOY, "bundled:cifar10-resnet"]
    images = torch.rand(2, 3, 8, 8)
    found = image_measures(images, measures)
    assert list(found) == [*KEYS, "both", "brightness"]
    assert found["brightness"] == float(images.mean())
    assert found["both"] == {"least": float(images.min()), "most": float(images.max())}
    assert split_judges(None) == (None, [])


@pytest.mark.parametrize(("name", "said"), [("pixel_std", "rename the function"), ("each", "return a number")])
def test_a_measure_that_cannot_be_kept_is_one_line(mine: Path, name: str, said: str) -> None:
    _, measures = split_judges([f"{mine}:{name}"])
    with pytest.raises(UserError, match=said) as error:
        image_measures(torch.rand(2, 3, 8, 8), measures)
    assert "\n" not in str(error.value)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        split_judges([f"{tmp_path}/none.py:sharpness"])


def test_it_judges_from_python_and_from_the_command_line(mine: Path, tmp_path: Path) -> None:
    flow = str(write_small_flow(tmp_path / "flow"))
    drawn = sample(flow, 3, steps=1, judges=[brightness])
    assert drawn.measures["images"]["brightness"] == pytest.approx(float(drawn.images.mean()))
    assert drawn.measures["judges"] == []
    out = tmp_path / "run"
    assert run("sample", flow, "--n", 3, "--steps", 1, "--judge", f"{mine}:brightness", "--out", out) == 0
    assert '"brightness"' in (out / "measures.json").read_text()


# ---- whether a judge gave the gradient -----------------------------------------------------------------------------


def linear(seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 2))


SPEC = ModelSpec(8, 0.5, 0.5, ["frog", "ship"])


def test_another_network_of_the_same_name_judges_and_the_same_one_is_there_once() -> None:
    model, other, again = (load_model(linear(seed), SPEC) for seed in (0, 1, 0))
    jury = find_jury(model, [other, again, other])
    assert [judge.name for judge in jury] == ["Sequential (2)", "Sequential"]
    assert jury[0].module is other.module
    assert jury[1] is model
    assert other.name == "Sequential"


def test_the_same_weights_give_the_gradient_by_whatever_name() -> None:
    class Wrapped(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, images: Tensor) -> Tensor:
            return self.inner(images)

    model, wrapped, other = (load_model(net, SPEC) for net in (linear(0), Wrapped(linear(0)), linear(1)))
    assert same_network(model, wrapped)
    assert not same_network(model, other)
    found = generate(model, "frog", n=1, recipe="pixels", steps=1, judges=[wrapped, other]).measures["judges"]
    gave = {verdict["judge"]: verdict["gave_gradient"] for verdict in found}
    assert gave == {"Wrapped": True, "Sequential (2)": False, "Sequential": True}


def test_condition_models_of_one_name_are_told_apart() -> None:
    models = [load_model(linear(seed), SPEC) for seed in (0, 1)]
    result = generate(condition=models, classes="frog", n=1, recipe="pixels", steps=1, judges=[])
    assert result.tables["drawn"]["condition"] == ["Sequential", "Sequential (2)"]


def test_a_reference_holds_every_class_of_a_folder_that_is_larger(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(references, "REFERENCE_AT_MOST", 4)
    for name in ("frog", "ship"):
        (tmp_path / name).mkdir()
        for k in range(4):
            (tmp_path / name / f"{k}.png").write_bytes(to_png(torch.rand(3, 8, 8)))
    found = references.reference(load_model(linear(0), SPEC), tmp_path)
    assert found is not None
    assert found.labels.tolist() == [0, 0, 1, 1]


def test_measures_of_ones_own_stand_on_the_page_and_on_the_terminal(mine: Path) -> None:
    result = generate(load_model(linear(0), SPEC), "frog", n=1, steps=1, recipe="pixels", judges=[f"{mine}:both"])
    table = image_table(result.measures)
    assert [*table.columns[-2:]] == ["both.least", "both.most"]
    values = [cell.value for cell in table.rows[0][-2:]]
    assert values == [float(result.images.min()), float(result.images.max())]
    assert f"both.least {values[0]:.4g}, both.most {values[1]:.4g}" in list(told_of_pictures(result, None))
