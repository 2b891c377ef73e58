"""What is not finite is no result: one line with the step, exit code 1, and no run that says it is complete."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import bothways
from bothways import ModelSpec, RunError, UserError, load_flow, load_model
from bothways.numerics.draws import generator
from command import run

FLOW = ModelSpec(4, (0.5,) * 3, (0.5,) * 3, 0, path="linear")
MODEL = ModelSpec(8, (0.5,) * 3, (0.5,) * 3, ("anchor", "barrel", "candle"), feature_layer="body")
FILES = """
import torch
from bothways import ModelSpec

class Velocity(torch.nn.Module):
    def forward(self, x, time):
        bad = (time > {after}) & (time < 0.99)
        return -x / torch.where(bad, {value}, 1.0)[:, None, None, None]

def flow():
    return Velocity(), ModelSpec(4, (.5,) * 3, (.5,) * 3, 0, path="linear")
"""


class Velocity(nn.Module):
    """-x, and not a number where the time is between ``after`` and .99."""

    def __init__(self, after: float, value: float = torch.nan) -> None:
        super().__init__()
        self.after, self.value = after, value
        self.layer = nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        bad = (time > self.after) & (time < 0.99)
        return self.layer(-x * torch.where(bad, self.value, 1.0)[:, None, None, None])


class Net(nn.Module):
    """Not a number for pictures whose mean is ``above``."""

    def __init__(self, value: float = torch.nan, above: float = 0.5) -> None:
        super().__init__()
        self.body, self.head, self.value, self.above = nn.Conv2d(3, 4, 3), nn.Linear(4, 3), value, above

    def forward(self, x: Tensor) -> Tensor:
        bright = x.mean((1, 2, 3), keepdim=True) > self.above
        return self.head(torch.where(bright, self.value, self.body(x)).mean((2, 3)))


def images(size: int = 4) -> Tensor:
    return torch.rand(2, 3, size, size, generator=generator(1))


def line(call: Callable[[], object]) -> str:
    with pytest.raises(RunError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def status(folder: Path) -> str:
    return json.loads((folder / "status.json").read_text())["state"]


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_walk_ends_with_the_step_that_is_not_finite(value: float) -> None:
    flow = load_flow(Velocity(0.5, value), FLOW)
    # encoding by Euler from t = 1 in tenths: the third step starts at .8, the second, at .9, is bad
    said = line(lambda: bothways.encode(flow, images(), 1.0, 10))
    assert "flow 'Velocity': step 2 of 10 (t = 0.8) gives values that are not finite" in said
    # decoding from t = 0: the first step that starts after .5 is the seventh
    said = line(lambda: bothways.decode(flow, torch.ones(2, 3, 4, 4), 1.0, 10))
    assert "step 7 of 10 (t = 0.7)" in said
    assert "step 7 of 10" in line(lambda: bothways.decode(Velocity(0.5, value), torch.ones(2, 3, 4, 4), 1.0, 10))
    assert torch.isfinite(bothways.decode(flow, torch.ones(2, 3, 4, 4), 1.0, 1)).all()
    with pytest.raises(UserError, match="holds numbers from nan to nan"):
        bothways.encode(flow, images() * torch.nan)
    with torch.enable_grad():
        asked = images().requires_grad_()
        assert "step 2 of 10" in line(lambda: bothways.encode(flow, asked, 1.0, 10))


def test_sampling_keeps_nothing_as_complete(tmp_path: Path) -> None:
    flow = load_flow(Velocity(0.5), FLOW)
    said = line(lambda: bothways.sample(flow, n=2, steps=10, solver="euler", out=tmp_path / "run"))
    assert "step 7 of 10 (t = 0.7)" in said
    assert status(tmp_path / "run") == "failed"
    assert not list((tmp_path / "run").glob("images/*.png"))
    assert not (tmp_path / "run" / "measures.json").exists()


def photo_folder(folder: Path) -> Path:
    from PIL import Image

    for label, shade in (("anchor", 60), ("barrel", 240)):
        (folder / label).mkdir(parents=True)
        for k in range(3):
            Image.new("RGB", (8, 8), (shade, shade - 10 * k, shade)).save(folder / label / f"{k}.png")
    return folder


@pytest.mark.parametrize(
    "task",
    [
        lambda flow, out, data: bothways.likelihood(flow, data=data, limit=2, steps=4, out=out),
        lambda flow, out, data: bothways.diagnose(flow, data=data, n=2, out=out),
        lambda flow, out, data: bothways.walk(flow, images()[0], steps=4, out=out),
        lambda flow, out, data: bothways.features(
            flow, data=data, kind=["walked"], depth=[0.5], out=out, probes=["knn"], workers=0
        ),
    ],
    ids=["likelihood", "diagnose", "walk", "features"],
)
@pytest.mark.filterwarnings("ignore")
def test_every_task_of_a_flow_fails(task: Callable[..., object], tmp_path: Path) -> None:
    flow, data = load_flow(Velocity(0.2), FLOW), photo_folder(tmp_path / "photos")
    said = line(lambda: task(flow, tmp_path / "run", data))
    assert "not finite" in said
    assert "step" in said
    begun = (tmp_path / "run").exists()  # features tries the flow on one picture before a run begins
    assert not begun or status(tmp_path / "run") == "failed"


@pytest.mark.filterwarnings("ignore")
def test_the_command_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.py").write_text(FILES.format(after=0.2, value="float('nan')"))
    data = ["--data", photo_folder(tmp_path / "photos"), "--limit", 1]
    for task, more in {"sample": [], "likelihood": data}.items():
        assert run(task, f"{tmp_path}/mine.py:flow", *more, "--steps", 4, "--out", tmp_path / task) == 1
        assert "not finite" in capsys.readouterr().err
        assert status(tmp_path / task) == "failed"


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.filterwarnings("ignore")
def test_every_task_of_a_model_fails(value: float, tmp_path: Path) -> None:
    model, data = load_model(Net(value).eval(), MODEL), photo_folder(tmp_path / "photos")
    bright = torch.ones(1, 3, 8, 8)
    assert "model 'Net' gives outputs" in line(lambda: bothways.predict(model, bright))
    assert "not finite" in line(lambda: bothways.evaluate(model, data=data, out=tmp_path / "e"))
    assert status(tmp_path / "e") == "failed"
    assert "not finite" in line(lambda: bothways.statistics(model, data=data))
    with torch.no_grad():
        assert "gives body" in line(lambda: model.features(bright * torch.nan, ["body"]))


def test_a_drawing_fails_at_the_step_and_keeps_what_was_good(tmp_path: Path) -> None:
    net = Net(above=10.0)
    model = load_model(net.eval(), MODEL)
    options = {"classes": [0], "n": 1, "steps": 4, "recipe": "pixels", "out": tmp_path / "run"}
    said = line(lambda: bothways.generate(model, on_frame=lambda _: setattr(net, "above", -2.0), **options))
    assert "not finite at step 2" in said
    assert status(tmp_path / "run") == "failed"
    record = json.loads((tmp_path / "run" / "pictures.jsonl").read_text())
    assert record["unfinished"] is True
    assert "own_probability" not in record


@pytest.mark.filterwarnings("ignore")
def test_a_judge_that_gives_none_is_no_verdict(tmp_path: Path) -> None:
    fine = load_model(nn.Sequential(nn.Conv2d(3, 3, 8), nn.Flatten()), replace(MODEL, feature_layer=None))
    judge = load_model(Net(above=-2.0).eval(), MODEL)
    options = {"classes": [0], "n": 1, "steps": 2, "recipe": "pixels", "judges": [judge], "out": tmp_path / "run"}
    assert "model 'Net' gives" in line(lambda: bothways.generate(fine, **options))
    assert status(tmp_path / "run") == "failed"
