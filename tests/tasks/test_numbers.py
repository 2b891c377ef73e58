"""NaN and infinity in data, weights, loss, gradient or result: found within a step, named, and never printed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import bothways
from bothways import RunError, UserError, finetune
from bothways.configs import validated
from bothways.numerics.draws import generator
from bothways.training.config import FitConfig
from bothways.training.fit import FitState, fit, not_finite
from colours import noise, write_pictures
from command import run
from small_flow import write_small_flow

Batch = tuple[Tensor, ...]
OPTIMIZERS = [
    "sgd",
    "adamw",
    pytest.param("muon", marks=pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="")),
]


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), nn.Linear(48, 12), nn.BatchNorm1d(12), nn.SiLU(), nn.Linear(12, 12))
        net.add_module("head", nn.Linear(12, 3))
    return net


def batch(step: int) -> Batch:
    images = torch.rand(16, 3, 4, 4, generator=generator(5, step, "batch"))
    return images, images.mean((2, 3)).argmax(1)


def loss(net: nn.Module, given: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    return F.cross_entropy(net(given[0]), given[1]), {}


def settings(**others: Any) -> FitConfig:
    own = {"steps": 6, "optimizer": "sgd", "rate": 0.1, "warmup": 0.0, "schedule": "constant", "average": 0.9}
    return validated(FitConfig, {**own, **others})


def line(call: Any, kind: type[Exception] = RunError) -> str:
    with pytest.raises(kind) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_gradient_that_is_not_finite_is_named_before_the_step(clip: float) -> None:
    def steep(net: nn.Module, given: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        value, stats = loss(net, given)
        bias = net[4].bias  # type: ignore[index]
        return value + (0 if state.step < 2 else (bias - bias.detach()).square().sum().sqrt()), stats  # of slope 0 / 0

    chosen = settings(clip=clip)
    state = FitState(network(), chosen)
    frames = fit(state, steep, batch, chosen)
    next(frames), next(frames)
    kept = {name: value.clone() for name, value in state.network.state_dict().items()}
    assert "the gradient of 4.bias is not finite at step 3; lower the rate (0.1)" in line(lambda: next(frames))
    assert state.step == 2
    for name, value in state.network.named_parameters():
        assert torch.equal(value, kept[name])


@pytest.mark.parametrize("rate", [1e38, 3e38, 1e300])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_rate_beyond_all_numbers_is_one_line(rate: float, optimizer: str) -> None:
    chosen = settings(optimizer=optimizer, rate=rate)
    state = FitState(network(), chosen)
    said = line(lambda: list(fit(state, loss, batch, chosen)))
    assert f"lower the rate ({rate}" in said
    assert "finite" in said or "beyond the numbers" in said or "the loss is" in said
    assert state.step <= 2


def test_the_last_step_is_looked_at_too() -> None:
    chosen = settings(steps=1, rate=3e38, clip=0.0)
    steep = lambda net, given: (1e3 * loss(net, given)[0], {})  # noqa: E731
    said = line(lambda: list(fit(FitState(network(), chosen), steep, batch, chosen)))
    assert "is not finite after step 1; lower the rate (3e+38)" in said


def test_data_and_weights_are_named_where_the_loss_is_not_finite() -> None:
    chosen = settings()
    odd = lambda step: (batch(step)[0] * (torch.nan if step == 1 else 1.0), batch(step)[1])  # noqa: E731
    said = line(lambda: list(fit(FitState(network(), chosen), loss, odd, chosen)))
    assert "the loss is nan at step 2; the data of this step hold values that are not finite (part 0" in said
    broken = network()
    broken.head.weight.data[0, 0] = torch.inf  # type: ignore[union-attr]
    said = line(lambda: list(fit(FitState(broken, chosen), loss, batch, chosen)))
    assert "at step 1; head.weight is not finite" in said


def test_the_first_tensor_that_is_not_finite() -> None:
    large = torch.full((4,), 3e38)  # whose square is none
    assert not_finite({"a": large, "whole": torch.arange(3), "none": torch.empty(0)}) == ""
    assert not_finite({"a": large, "b": torch.tensor([0, torch.nan]), "c": torch.tensor([torch.inf])}) == "b"
    assert not_finite({}) == ""


@pytest.mark.usefixtures("_rough_samples")
def test_the_command_ends_with_1_and_says_what_is_kept(capsys, tmp_path: Path) -> None:
    typed = ["pretrain", "--data", "digits", "--steps", 4, "--batch", 8, "--workers", 0, "--rate", "1e38"]
    assert run(*typed, "--out", tmp_path / "run") == 1
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert "lower the rate (1e+38)" in err
    assert "there is no checkpoint yet" in err or "is kept in" in err
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"


# ---- runs whose weights are broken, at every door ------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """flow/, colours/ with a folder a class, and walked/, a classifier of that flow."""
    folder = tmp_path_factory.mktemp("numbers")
    write_small_flow(folder / "flow", size=4)
    for name, digits in (("colours", 2), ("learnt", 3)):
        write_pictures(folder / name, noise(12), digits=digits)
    quick: dict[str, Any] = {"validation": 4, "batch": 4, "crop": 0, "flip": False, "workers": 0, "steps": 2}
    finetune(folder / "flow", folder / "learnt", out=folder / "walked", depth=0.4, train_steps=1, **quick)
    return folder


def rewritten(file: Path, change: Any) -> None:
    save_file({name: change(value).contiguous() for name, value in load_file(file).items()}, file)


DOORS = {
    "sample": lambda own, data: ["sample", own / "flow", "--n", 1, "--steps", 2],
    "likelihood": lambda own, data: ["likelihood", own / "flow", "--data", data, "--limit", 1, "--steps", 2],
    "diagnose": lambda own, data: ["diagnose", own / "flow", "--data", data, "--n", 2],
    "walk": lambda own, data: ["walk", own / "flow", data / "a" / "00.png", "--steps", 2],
    "features": lambda own, data: ["features", own / "flow", "--data", data, "--depth", 0.4, "--workers", 0],
    "predict": lambda own, data: ["predict", own / "walked", data / "a" / "00.png"],
    "evaluate": lambda own, data: ["evaluate", own / "walked", "--data", data],
    "curves": lambda own, data: ["curves", own / "walked", "--data", data, "--steps", 2],
}


@pytest.mark.parametrize("how", ["NaN", "huge"])
@pytest.mark.parametrize("door", list(DOORS))
@pytest.mark.filterwarnings("ignore")
def test_no_door_gives_a_number_that_is_none(capsys, place: Path, tmp_path: Path, door: str, how: str) -> None:
    """Weights that are not finite are a mistake (2); finite ones whose results are not, a failure (1)."""
    for part in ("flow", "walked"):
        shutil.copytree(place / part, tmp_path / part)
    change = (lambda value: value * torch.nan) if how == "NaN" else (lambda value: value * 1e30)
    rewritten(tmp_path / "flow" / "flow.safetensors", change)
    rewritten(tmp_path / "walked" / "classifier.safetensors", change)
    out = [] if door == "predict" else ["--out", tmp_path / "run"]
    typed = DOORS[door](tmp_path, place / "colours")
    assert run(*typed, "--json", *out) == (2 if how == "NaN" else 1)
    printed, err = capsys.readouterr()
    assert printed == ""
    assert "Traceback" not in err
    assert "not finite" in [row for row in err.splitlines() if row.startswith("bothways: ")][-1]
    if (tmp_path / "run" / "status.json").exists():
        assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "failed"
        assert not (tmp_path / "run" / "measures.json").exists()


def test_pictures_that_are_not_finite_are_refused(place: Path) -> None:
    for call in (
        lambda: bothways.predict(place / "walked", torch.full((1, 3, 4, 4), torch.nan)),
        lambda: bothways.encode(place / "flow", torch.full((1, 3, 4, 4), torch.inf)),
        lambda: bothways.likelihood(place / "flow", data=torch.full((2, 3, 4, 4), torch.nan)),
    ):
        assert "holds numbers from" in line(call, UserError)
