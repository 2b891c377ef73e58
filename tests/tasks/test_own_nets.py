"""A flow whose network is of the user's own file: v(x, t) or v(t, x), trained, kept and loaded again by its card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from bothways import UserError, finetune, load_classifier, load_flow, pretrain, sample
from bothways.models.nets.own import split_order
from bothways.numerics.draws import generator
from bothways.tasks.pretrain.run import PretrainWork
from bothways.tasks.shelf import work_of
from colours import noise, write_pictures
from command import refused, run

pytestmark = pytest.mark.usefixtures("_rough_samples")

NET = '''
import torch
from torch import nn


class Velocity(nn.Module):
    """v(x, t)."""

    def __init__(self, channels=3, width=4):
        super().__init__()
        self.first, self.last = nn.Conv2d(channels, width, 3, padding=1), nn.Conv2d(width, channels, 3, padding=1)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x, t):
        return self.last(self.dropout(torch.tanh(self.first(x) + t[:, None, None, None])))


class Reversed(Velocity):
    """v(t, x)."""

    def forward(self, t, x):
        return super().forward(x, t)


class Either(nn.Module):
    """Which argument is the time, no shape tells."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, a, b):
        x, t = (a, b) if a.ndim == 4 else (b, a)
        return self.scale * x * t[:, None, None, None]


class Tied(Velocity):
    """A weight by two names."""

    def __init__(self):
        super().__init__()
        self.again = self.last


def build(channels, size):
    assert size == 4
    return Velocity(channels)


def reversed():
    return Reversed()


def wide():
    return Velocity(width=5)


def pair():
    return Velocity(), 3


def broken():
    raise KeyError("weights")


def grows():
    return nn.Sequential(nn.Conv2d(3, 3, 2))


def still():
    return nn.Identity()
'''


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with net.py, and colours/ in one folder a class."""
    folder = tmp_path_factory.mktemp("nets")
    (folder / "net.py").write_text(NET)
    write_pictures(folder / "colours", noise(20))
    return folder


def asked(place: Path, net: str, **others: Any) -> dict[str, Any]:
    plain = {"recipe": "icfm", "validation": 5, "batch": 5, "steps": 3, "average": 0.5, "workers": 0}
    return {"data": place / "colours", "net": f"{place / 'net.py'}:{net}", **plain, **others}


@pytest.mark.parametrize("net", ["build", "reversed"])
def test_it_is_trained_and_loaded_again_as_the_same_function(place: Path, tmp_path: Path, net: str) -> None:
    made = pretrain(**asked(place, net), out=tmp_path / "run")
    again = load_flow(tmp_path / "run")
    x, t = torch.randn(2, 3, 4, 4, generator=generator(0)), torch.tensor([0.2, 0.7])
    assert again.spec.time_first == (net == "reversed")
    assert again.spec.time_scale in (None, 1.0)  # the network's own time goes from 0 to 1
    assert torch.equal(again(x, t), made.flow(x, t))
    given = (t, x) if net == "reversed" else (x, t)
    assert torch.equal(again(x, t), again.network.eval()(*given))
    shift = again.network.first(x) + t[:, None, None, None]
    assert (again(x, t) - again.network.last(torch.tanh(shift))).abs().max() < 1e-6
    card = json.loads((tmp_path / "run" / "flow.json").read_text())
    assert card["network"]["build"] == f"{place / 'net.py'}:{net}"
    assert sample(tmp_path / "run", n=2, steps=2).images.shape == (2, 3, 4, 4)


def test_weights_that_have_two_names_are_kept_under_both(place: Path, tmp_path: Path) -> None:
    made = pretrain(**asked(place, "Tied"), out=tmp_path / "run")
    again = load_flow(tmp_path / "run")
    x, t = torch.randn(2, 3, 4, 4, generator=generator(0)), torch.tensor([0.2, 0.7])
    assert torch.equal(again(x, t), made.flow(x, t))
    assert again.network.again.weight is again.network.last.weight


@pytest.mark.parametrize("net", [torch.nn.Conv2d(3, 3, 1), torch.nn.Identity, lambda: None])
def test_a_network_is_a_name_or_an_address(place: Path, tmp_path: Path, net: Any) -> None:
    with pytest.raises(UserError, match=r"net is .*; type a size such as unet-small, or PATH.py:FUNCTION, by which"):
        pretrain(**asked(place, "build") | {"net": net}, out=tmp_path / "no")


def test_the_weights_are_a_function_of_the_seed_and_a_resume_ends_at_the_same(place: Path, tmp_path: Path) -> None:
    whole = pretrain(**asked(place, "build", seed=4), out=tmp_path / "whole").flow
    state = torch.get_rng_state()
    work = work_of("pretrain", **asked(place, "build", seed=4), out=tmp_path / "part")
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(work, PretrainWork)
    frames = work.run()
    next(frames)
    frames.close()
    resumed = pretrain(resume=True, out=tmp_path / "part").flow
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_the_order_is_told_or_typed_and_never_guessed(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"either order.*Either:xt for v\(x, t\), or .*Either:tx for v\(t, x\)"):
        pretrain(**asked(place, "Either"), out=tmp_path / "no")
    assert not (tmp_path / "no").exists()
    made = pretrain(**asked(place, "Either:tx"), out=tmp_path / "run")
    assert made.flow.spec.time_first
    assert load_flow(tmp_path / "run").spec.time_first
    with pytest.raises(UserError, match="gives no velocity"):
        pretrain(**asked(place, "build:tx"), out=tmp_path / "no")
    assert split_order("a.py:b") == ("a.py:b", None)
    assert split_order("a.py:tx") == ("a.py:tx", None)  # a function of that name
    assert split_order("a.py:b:xt") == ("a.py:b", False)


@pytest.mark.parametrize(
    ("net", "says"),
    [
        ("pair", "returns a tuple; return a torch module alone"),
        ("broken", "fails: KeyError: 'weights'"),
        ("grows", "gives no velocity of x (2, 3, 4, 4) and t (2,)"),
        ("still", "without parameters to train"),
        ("nothing", "has no function 'nothing'"),
    ],
)
def test_what_is_no_velocity_is_one_line(place: Path, tmp_path: Path, capsys: Any, net: str, says: str) -> None:
    typed = ["pretrain", "--data", place / "colours", "--net", f"{place / 'net.py'}:{net}", "--out", tmp_path / "no"]
    assert says in refused(capsys, *typed, "--validation", 5, "--batch", 5, "--steps", 1)
    assert not (tmp_path / "no").exists()


def test_a_run_needs_its_file_as_it_was(place: Path, tmp_path: Path, capsys: Any) -> None:
    shutil.copy(place / "net.py", tmp_path / "mine.py")
    pretrain(**asked(place, "build") | {"net": f"{tmp_path / 'mine.py'}:build"}, out=tmp_path / "run")
    typed = ["sample", tmp_path / "run", "--n", 1, "--steps", 1]
    assert "--allow-code" in refused(capsys, *typed, "--out", tmp_path / "no")
    assert run(*typed, "--allow-code", tmp_path / "mine.py", "--out", tmp_path / "yes") == 0
    (tmp_path / "mine.py").write_text(NET.replace("width=4", "width=6"))
    with pytest.raises(UserError, match=r"do not fit the model \(of another shape: first.weight"):
        load_flow(tmp_path / "run")
    (tmp_path / "mine.py").unlink()
    with pytest.raises(UserError, match=r"needs .*mine.py, which does not exist; put the file there, or into"):
        load_flow(tmp_path / "run")
    (tmp_path / "run" / "mine.py").write_text(NET)
    assert load_flow(tmp_path / "run").network.first.out_channels == 4


def test_a_classifier_is_made_of_it(place: Path, tmp_path: Path) -> None:
    pretrain(**asked(place, "reversed"), out=tmp_path / "run")
    plain = {"crop": 0, "flip": False, "validation": 5, "batch": 5, "train_steps": 2, "steps": 1, "workers": 0}
    read = finetune(
        tmp_path / "run", place / "colours", kind="both", layer="network.first", out=tmp_path / "tuned", **plain
    )
    images = torch.rand(2, 3, 4, 4, generator=generator(2))
    assert torch.equal(load_classifier(tmp_path / "tuned").outputs(images), read.model.outputs(images))
    fresh = finetune(tmp_path / "run", place / "colours", fresh=True, out=tmp_path / "fresh", **plain)
    assert fresh.measures["classifier"]["pretrained"] is False
