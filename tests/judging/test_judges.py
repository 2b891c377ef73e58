"""Judges of a user's own: a function of pictures measures them, a function of nothing builds a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bothways import UserError, sample
from bothways.judging.judges import split_judges
from bothways.judging.measures import image_measures
from bothways.registry import entries
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
