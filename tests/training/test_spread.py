"""Trainings of several processes, whole or sharded, are those of one; fewer go on when one is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import bothways
from bothways.processes.group import Processes
from bothways.runs import RunFolder
from bothways.training.sharded import sharding
from bothways.types import Frame, UserError
from hub_parquet import write_hub_parquet
from small_flow import write_small_flow
from together import End

Call = Callable[..., list[End]]

# By plain descent, unclipped: Adam would hide a gradient that is a sum and not a mean.
FIT = {"fit.steps": 6, "fit.batch": 12, "optimizer": "sgd", "rate": 0.02, "clip": 0.0, "average": 0.9}
RUN = {"workers": 0, "save_every": 2}
PRETRAIN = """task = "pretrain"
path = "linear"
coupling = "ot"
[network]
width = 8
multiples = [1]
blocks = 1
attention = []
[holdout]
validation = 5
"""
TRAIN = """task = "train"
[network]
builder = "plain"
channels = [4, 6]
depths = [1, 1]
[holdout]
validation = 10
"""

pytestmark = [pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("_rough_samples")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    source = torch.Generator().manual_seed(1)
    for index in range(30):
        where = folder / "pictures" / ("light", "dark")[index % 2]
        where.mkdir(parents=True, exist_ok=True)
        Image.fromarray(torch.randint(0, 256, (8, 8, 3), generator=source).byte().numpy()).save(where / f"{index}.png")
    (folder / "data").mkdir()
    encoded = [file.read_bytes() for file in sorted((folder / "pictures").glob("*/*.png"))]
    for split in ("train", "test"):
        write_hub_parquet(folder / "data" / f"{split}.parquet", encoded, [k % 2 for k in range(30)], ["a", "b"])
    (folder / "flow.toml").write_text(PRETRAIN)
    (folder / "tiny.toml").write_text(TRAIN)
    write_small_flow(folder / "flow")
    return folder


# ---- what the processes run ------------------------------------------------------------------------------------------


def pretrain(place: str, out: str, **options: Any) -> Any:
    settings = {**FIT, **RUN, **options}
    return bothways.pretrain(f"{place}/pictures", recipe=f"{place}/flow.toml", out=out, **settings)


def train(place: str, out: str, **options: Any) -> Any:
    return bothways.train(f"{place}/tiny.toml", data=f"{place}/data", out=out, **{**FIT, **RUN}, **options)


def finetune(place: str, out: str, **options: Any) -> Any:
    settings = {**FIT, **RUN, "validation": 6, "kind": "walked", "features.steps": 2, **options}
    return bothways.finetune(f"{place}/flow", data=f"{place}/pictures", out=out, **settings)


def all_trainings(place: str, out: str) -> None:
    for name, task in {"train": train, "finetune": finetune}.items():
        task(place, f"{out}/{name}")
        task(place, f"{out}/{name}-sharded", fsdp=True)
    pretrain(place, f"{out}/pretrain-sharded", fsdp=True, information=2)


def killed_at(place: str, out: str, rank: int, step: int, **options: Any) -> None:
    def watched(frame: Frame) -> None:
        if frame.step == step and int(os.environ["RANK"]) == rank:
            os.kill(os.getpid(), signal.SIGKILL)

    pretrain(place, out, on_frame=watched, **options)


def stopped_at(place: str, out: str, step: int) -> None:
    """A training of which one process gets an interrupt, as Ctrl-C gives it to all."""

    def watched(frame: Frame) -> None:
        if frame.step == step and os.environ["RANK"] == "1":
            signal.raise_signal(signal.SIGINT)

    pretrain(place, out, on_frame=watched)


# ---- tests -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def alone(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same by one process."""
    out = tmp_path_factory.mktemp("alone")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bothways.tasks.pretrain.run.SAMPLE_STEPS", 2)
        for name, task in {"pretrain": pretrain, "train": train, "finetune": finetune}.items():
            task(str(place), str(out / name))
    return out


def gap(first: Path, second: Path) -> float:
    """The greatest difference of the losses and of the weights of two runs."""
    losses = [[line["stats"]["loss"] for line in RunFolder.open(run).frames] for run in (first, second)]
    assert len(losses[0]) == len(losses[1]) == FIT["fit.steps"]
    found = [abs(a - b) for a, b in zip(*losses, strict=True)]
    names = sorted(path.name for path in first.glob("*.safetensors") if "statistics" not in path.name)
    assert names
    for name in names:
        one, other = load_file(first / name), load_file(second / name)
        assert one.keys() == other.keys()
        found += [(one[key].float() - other[key].float()).abs().max().item() for key in one]
    return max(found)


@pytest.mark.slow
def test_the_trainings_of_two_processes_whole_and_sharded_are_those_of_one(
    call: Call, place: Path, alone: Path, tmp_path: Path
) -> None:
    ends = call(2, "training/test_spread.py", "all_trainings", place=str(place), out=str(tmp_path))
    assert [end.code for end in ends] == [0, 0], ends
    halves = 1e-3  # train and finetune save their weights in half precision
    for name in ("train", "train-sharded", "finetune", "finetune-sharded"):
        assert gap(alone / name.removesuffix("-sharded"), tmp_path / name) < halves, name
        assert RunFolder.open(tmp_path / name).status["state"] == "complete"
    assert gap(alone / "pretrain", tmp_path / "pretrain-sharded") < 1e-5
    assert (tmp_path / "pretrain-sharded" / "along.jsonl").read_text().count("\n") == 4


@pytest.mark.slow
def test_two_go_on_where_one_of_three_was_killed(call: Call, place: Path, alone: Path, tmp_path: Path) -> None:
    out = {"place": str(place), "out": str(tmp_path / "run")}
    ends = call(3, "training/test_spread.py", "killed_at", **out, rank=2, step=5)
    assert [end.code for end in ends] == [1, 1, -signal.SIGKILL], ends
    status = RunFolder.open(tmp_path / "run").status
    assert "process 3 of 3" in ends[0].said
    assert status["state"] == "failed"
    assert "process 3 of 3" in status["message"]
    ends = call(2, "training/test_spread.py", "pretrain", **out, resume=True)
    assert [end.code for end in ends] == [0, 0], ends
    assert gap(alone / "pretrain", tmp_path / "run") < 1e-5


def test_one_process_reads_the_checkpoint_of_a_sharded_training(
    call: Call, place: Path, alone: Path, tmp_path: Path
) -> None:
    out = {"place": str(place), "out": str(tmp_path / "run")}
    ends = call(2, "training/test_spread.py", "killed_at", **out, rank=0, step=5, fsdp=True)
    assert [end.code for end in ends] == [-signal.SIGKILL, 1], ends
    assert "process 1 of 2" in ends[1].said  # the next one speaks for the first, and writes how the run stands
    assert "process 1 of 2" in RunFolder.open(tmp_path / "run").status["message"]
    pretrain(**out, resume=True)
    assert gap(alone / "pretrain", tmp_path / "run") < 1e-5


def test_an_interrupt_of_one_stops_all(call: Call, place: Path, tmp_path: Path) -> None:
    out = {"place": str(place), "out": str(tmp_path / "run")}
    ends = call(2, "training/test_spread.py", "stopped_at", **out, step=3)
    assert [end.code for end in ends] == [130, 130], ends
    assert RunFolder.open(tmp_path / "run").status["state"] == "stopped"


def test_what_is_sharded() -> None:
    two = Processes(count=2)
    assert sharding(True, "adamw", two) is two
    assert sharding(False, "adamw", two) is None
    assert sharding(True, "muon", Processes()) is None  # one process has all
    with pytest.raises(UserError, match="--optimizer adamw"):
        sharding(True, "muon", two)
