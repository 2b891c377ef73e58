"""A text model of a user's own: from a file whose function returns three things, and from Python."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import bothways
from bothways import ModelSpec, UserError, load_model
from bothways.types import TextModel
from command import run

FILE = """
import torch
from torch import nn
from bothways import ModelSpec

COLOURS = {"red": (3.0, 0.0, 0.0), "green": (0.0, 3.0, 0.0), "blue": (0.0, 0.0, 3.0)}


class Colour(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return self.scale * x.mean((2, 3))


def text(prompts):
    return torch.tensor([COLOURS[prompt.split()[-1]] for prompt in prompts])


FACTS = ModelSpec(size=16, mean=0.5, std=0.5, classes=0)


def build():
    return Colour(), FACTS, text


def mapping():
    return Colour(), {"size": 16, "mean": 0.5, "std": 0.5, "classes": 0}, text


def without():
    return Colour(), FACTS, None


def table():
    return Colour(), FACTS, COLOURS


def narrow():
    return Colour(), FACTS, lambda prompts: torch.ones(len(prompts), 1)


def one_row():
    return Colour(), FACTS, lambda prompts: torch.ones(1, 3)


def listed():
    return Colour(), FACTS, lambda prompts: [[1.0, 0.0, 0.0] for _ in prompts]


def nothing():
    return Colour(), FACTS, lambda prompts: torch.zeros(len(prompts), 3)
"""
SPEC = ModelSpec(size=16, mean=0.5, std=0.5, classes=0)


class Colour(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "colours.py"
    path.write_text(FILE)
    return path


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as said:
        call()
    assert "\n" not in str(said.value)
    return str(said.value)


@pytest.mark.parametrize("function", ["build", "mapping"])
def test_a_prompt_is_drawn_by_ones_own_text_model(file: Path, function: str, tmp_path: Path) -> None:
    """The mean of the picture over the page turns towards the colour of the prompt, and away from a negative one."""
    model = load_model(f"{file}:{function}")
    assert isinstance(model, TextModel)
    assert model.reads_text
    assert torch.equal(model.text(["a red", "green"]), torch.tensor([[1.0, 0, 0], [0, 1, 0]]))
    result = bothways.generate(model, prompts=["something blue", "red:-0.5"], n=1, judges=[])
    colour = 2 * result.images[0].mean((1, 2)) - 1
    wanted = torch.tensor([-0.5, 0.0, 1.0])
    assert torch.cosine_similarity(colour, wanted, dim=0) > 0.8
    if function == "build":
        out = tmp_path / "run"
        words = ["--prompt", "something blue", "--prompt", "red:-0.5", "--n", 1]
        assert run("generate", f"{file}:build", *words, "--out", out) == 0
        assert "something blue" in (out / "report.html").read_text()


def test_a_live_module_reads_text_by_a_function() -> None:
    model = load_model(Colour(), SPEC, text=lambda prompts: torch.eye(3)[: len(prompts)])
    assert torch.equal(model.text(["one", "two"]), torch.eye(3)[:2])
    assert not load_model(Colour(), SPEC).reads_text
    assert "text is a dict" in refused(lambda: load_model(Colour(), SPEC, text={}))


def test_a_text_that_cannot_be_compared_is_refused_in_a_line(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {
        function: refused(lambda function=function: load_model(f"{file}:{function}").text(["red", "blue"]))
        for function in ("without", "table", "narrow", "one_row", "listed", "nothing")
    }
    assert "reads no text" in said["without"]
    assert "return (module, spec, text)" in said["without"]
    assert "returns a dict as its text" in said["table"]
    assert "Tensor (2, 1) for 2 prompts; give a tensor (2, 3)" in said["narrow"]
    assert "Tensor (1, 3) for 2 prompts" in said["one_row"]
    assert "gives list for 2 prompts" in said["listed"]
    assert "rows of zeros" in said["nothing"]
    assert run("generate", f"{file}:build", "--prompt", "a cow", "--out", tmp_path / "run") == 2
    assert "its text fails on 'a cow' (KeyError: 'cow' (colours.py, line" in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "run").exists()
