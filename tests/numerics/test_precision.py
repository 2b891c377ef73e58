"""A precision that the processor has no arithmetic for is told where it is chosen, and the demo does not choose it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch

import bothways
from bothways import UserError
from bothways.data.sources import ImageSet
from bothways.models.catalogue import check_device
from bothways.numerics import precision
from bothways.numerics.precision import computes_in
from bothways.tasks.demo import run as demo
from bothways.tasks.shelf import work_of
from bothways.tasks.work import Work
from bothways.types import Frame
from command import run

TOLD = "device cpu has no arithmetic in bf16, which takes several times as long .* --dtype float32, of a training --no"


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor with float32 alone."""
    ops = type("Ops", (), {name: staticmethod(lambda: False) for name in precision._OF_CPU.values()})
    monkeypatch.setattr(torch.ops, "mkldnn", ops)


def test_it_says_what_torch_says() -> None:
    assert computes_in("bf16", "cpu") == torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert computes_in("float16", "cpu") == torch.ops.mkldnn._is_mkldnn_fp16_supported()
    assert computes_in("float32", "cpu")
    assert computes_in(["bf16"], "cpu")  # no precision, which others refuse


def test_what_torch_cannot_tell_is_taken_to_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert computes_in("bf16", "cpu")


@pytest.mark.usefixtures("without")
def test_a_slow_precision_is_told_where_it_is_chosen() -> None:
    check_device("cpu")
    with pytest.warns(UserWarning, match=TOLD):
        bothways.load_model("bundled:cifar10-plain", dtype="bf16")
    with pytest.warns(UserWarning, match=TOLD):
        bothways.load_flow("bundled:cifar10-flow", dtype="bf16")
    with pytest.warns(UserWarning, match="no arithmetic in float16"):
        bothways.load_classifier("bundled:cifar10-prg", dtype="float16")


@pytest.mark.usefixtures("without")
@pytest.mark.parametrize("task", ["pretrain", "finetune", "train"])
def test_a_slow_training_is_told(task: str, tmp_path: Path) -> None:
    pictures = torch.randint(0, 256, (40, 3, 32, 32), dtype=torch.uint8)
    data = ImageSet(pictures, torch.arange(40) % 4, ("a", "b", "c", "d"))
    given: dict[str, dict[str, Any]] = {
        "pretrain": {"data": data, "steps": 1, "bf16": True, "batch": 4, "validation": 8, "net": "unet-tiny"},
        "finetune": {
            "data": data,
            "steps": 1,
            "bf16": True,
            "batch": 4,
            "validation": 8,
            "flow": "bundled:cifar10-flow",
        },
        "train": {"recipe": "cifar10-plain", "data": tmp_path},  # which is refused after it, without its two files
    }
    with pytest.warns(UserWarning, match=TOLD), suppress(UserError):
        work_of(task, out=tmp_path / "run", **given[task])


@pytest.mark.usefixtures("without")
def test_the_demo_tests_its_classifier_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: dict[str, Any] = {}
    monkeypatch.setattr(demo.Ten, "of_data", lambda data: None)
    monkeypatch.setattr(demo, "drawings_of", lambda config: {})
    monkeypatch.setattr(demo, "work_of", lambda *given, **options: chosen.update(options))
    demo.prepare(demo.DemoConfig(data="somewhere"), demo.Where())
    assert chosen["dtype"] == "float32"


@pytest.mark.usefixtures("without")
@pytest.mark.filterwarnings("default")  # as a shell has it
def test_the_command_line_says_so_before_the_work(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["sample", "bundled:cifar10-flow", "--n", 1, "--steps", 1, "--dtype", "bf16", "--out", tmp_path / "run"]
    before: list[str] = []

    def made(work: Work) -> Iterator[Frame]:
        before.append(capsys.readouterr().err)
        raise UserError("that is enough")
        yield

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Work, "run", made)
        assert run(*asked) == 2
    assert re.search(f"^note: {TOLD}", before[0], re.MULTILINE)
    assert "no arithmetic" not in capsys.readouterr().err  # once
