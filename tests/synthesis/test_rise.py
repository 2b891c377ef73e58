"""The rise of an objective: told in a line, and a warning where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bothways import ModelSpec, generate
from bothways.synthesis.rise import Rise, rises
from bothways.types import Frame
from command import run

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"
QUICK: dict[str, Any] = {"recipe": "das", "n": 1, "verdicts": False}


def test_the_values_are_the_means_of_the_first_and_last_quarter_over_batches() -> None:
    values = {0: [1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0], 1: [0.0, 4.0]}
    frames = [Frame(k, 0.0, None, {"logit": v}, batch) for batch, own in values.items() for k, v in enumerate(own)]
    assert rises(frames, ["logit", "absent"]) == [Rise("logit", (2.0 + 0.0) / 2, (14.0 + 4.0) / 2, 8)]
    assert rises(frames[:1], ["logit"]) == []


def test_a_drawing_tells_its_rise(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    own = ["--class", "dragon", "--recipe", "das", "--steps", 12, "--n", 1, "--no-verdicts", "--out", tmp_path / "run"]
    assert run("generate", TOY, *own) == 0
    assert "log probability rose: " in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore:objective .* its gradient is zero")
def test_a_class_that_does_not_move_is_a_warning(tmp_path: Path) -> None:
    class Constant(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 0 * x.mean((1, 2, 3))[:, None] + torch.tensor([[1.0, 2.0, 3.0]])

    spec = ModelSpec(8, 0.5, 0.5, 3)
    with pytest.warns(UserWarning, match="log probability did not rise"):
        generate(Constant(), 1, spec=spec, steps=8, **QUICK)
