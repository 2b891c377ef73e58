"""Two processes and one train the same flow on the same batches, and only the first of two writes and speaks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from bothways import pretrain
from bothways.cli import main
from bothways.runs import RunFolder
from bothways.training.checkpoint import CHECKPOINT

# By plain descent, unclipped: Adam would hide a gradient that is a sum and not a mean.
RECIPE = """# Pretrains next to nothing
task = "pretrain"
path = "linear"
coupling = "ot"
[network]
width = 16
multiples = [1]
blocks = 1
attention = [1]
[holdout]
validation = 5
[fit]
steps = 8
batch = 10
optimizer = "sgd"
rate = 0.02
clip = 0.0
average = 0.9
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures/ and tiny.toml."""
    folder = tmp_path_factory.mktemp("processes")
    (folder / "pictures").mkdir()
    source = torch.Generator().manual_seed(1)
    for index in range(25):
        pixels = torch.randint(0, 256, (4, 4, 3), generator=source).byte().numpy()
        Image.fromarray(pixels).save(folder / "pictures" / f"{index:02d}.png")
    (folder / "tiny.toml").write_text(RECIPE)
    return folder


def by_two(place: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in two processes that torchrun starts on this machine; they speak by gloo over the loopback."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [
        "-m",
        "bothways",
        "pretrain",
        str(place / "tiny.toml"),
        "--data",
        str(place / "pictures"),
        *arguments,
    ]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": "lo", "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run([*torchrun, *command], capture_output=True, text=True, env=environment, check=False)


@pytest.mark.slow
def test_two_processes_give_the_losses_and_the_average_of_one(place: Path, tmp_path: Path) -> None:
    said = by_two(place, "--out", str(tmp_path / "two"), "--workers", "0", "--save-every", "3", "--information", "2")
    assert said.returncode == 0, said.stderr
    assert said.stdout.count("held-out pictures") == 1
    assert "Traceback" not in said.stderr
    one = pretrain(place / "pictures", str(place / "tiny.toml"), out=tmp_path / "one", workers=0)
    two = RunFolder.open(tmp_path / "two")
    assert [line["step"] for line in two.frames] == list(range(1, 9))
    along = [json.loads(line) for line in (two.path / "along.jsonl").read_text().splitlines()]
    assert [line["step"] for line in along] == [0, 3, 6, 8]  # a line each, by the first
    for frame, line in zip(one.frames, two.frames, strict=True):
        assert abs(frame.stats["loss"] - line["stats"]["loss"]) < 1e-5
    first, second = (load_file(tmp_path / name / "flow.safetensors") for name in ("one", "two"))
    assert first.keys() == second.keys()
    assert max((first[key] - second[key]).abs().max().item() for key in first) < 1e-5
    assert torch.load(two.path / CHECKPOINT, weights_only=True)["step"] == 8
    assert two.status["state"] == "complete"
    assert abs(two.measures["flow"]["validation_loss"] - one.folder.measures["flow"]["validation_loss"]) < 1e-5


def test_a_mistake_is_told_by_the_first_alone(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("bothways.cli.run.SECONDS_TO_PRINT", 0)
    arguments = ["pretrain", str(place / "tiny.toml"), "--data", str(place / "pictures"), "--batch", "21"]
    for rank, lines in (("1", 0), ("0", 1)):
        monkeypatch.setenv("RANK", rank)
        with pytest.raises(SystemExit) as end:
            main([*arguments, "--out", str(tmp_path / "out")])
        assert end.value.code == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", lines)
    assert not (tmp_path / "out").exists()
