"""First words: an option, a model or data by the name that they have elsewhere is answered by the one here."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

import bothways
from bothways import generate
from bothways.brief import brief
from bothways.models.cards import UNETS
from bothways.models.nets.unet import SIZES, UNet
from command import refused, run


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (("pretrain", "--data", "digits", "--lr", "1"), "--rate"),
        (("pretrain", "--data", "digits", "--batch_size", "1"), "--batch"),
        (("pretrain", "--data", "digits", "--lr-floor", "0"), "--rate-floor"),
        (("generate", "x", "--iters", "1"), "--steps"),
        (("generate", "x", "--output", "y"), "--out"),
        (("finetune", "x", "--data", "digits", "--iterations", "1"), "--train-steps"),
        (("generate", "x", "--stepps", "1"), "--steps"),
    ],
)
def test_an_option_by_another_name(typed: tuple[str, ...], meant: str, capsys: Any) -> None:
    assert run(*typed) == 2
    said = capsys.readouterr().err
    assert meant in said.partition("ossible option")[2]
    assert "--help" not in said.partition("No such option")[2]


def test_an_option_that_means_nothing_gets_no_advice(capsys: Any) -> None:
    assert run("generate", "x", "--zzzz", "1") == 2
    assert "ossible option" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("torchvision:resnet18", "timm:resnet18"),
        ("resnet50", "timm:resnet50"),
        ("openai/clip-vit-base-patch32", "hf:openai/clip-vit-base-patch32"),
        ("model.pt", "type MODEL --weights FILE.safetensors"),
        ("cifar10-resnt", "bundled:cifar10-resnet"),
        ("bundle:cifar10-plain", "bundled:cifar10-plain"),
    ],
)
def test_a_model_by_another_name(typed: str, meant: str, capsys: Any) -> None:
    assert meant in refused(capsys, "generate", typed, "--class", 0)


@pytest.mark.parametrize(
    ("typed", "meant"), [("mnist", "hub:ylecun/mnist"), ("my_data", "such as hub:uoft-cs/cifar10")]
)
def test_data_by_another_name(typed: str, meant: str, capsys: Any) -> None:
    assert meant in refused(capsys, "pretrain", "--data", typed)


@pytest.mark.parametrize(("typed", "says"), [("foo=1", "--dry-run lists them"), ("ascent.stepps=3", "ascent.steps")])
def test_a_setting_that_is_none_gets_the_nearest_or_nothing(typed: str, says: str, capsys: Any) -> None:
    said = refused(capsys, "generate", "bundled:cifar10-plain", "--class", "frog", "--set", typed)
    assert says in said
    assert "smooth" not in said


@pytest.mark.parametrize("typed", [["models"], ["recipes"], ["registry"], ["generate", "--help"], ["finetune", "-h"]])
def test_lists_and_help_wait_for_no_torch(typed: list[str]) -> None:
    program = f"""
import sys
from bothways.cli import main
try:
    main({typed!r})
except SystemExit as end:
    assert not end.code
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_the_listed_numbers_of_parameters_are_true() -> None:
    with torch.device("meta"):
        counts = {name: sum(p.numel() for p in UNet(**SIZES[name]).parameters()) for name in SIZES}  # type: ignore[arg-type]
    assert {name: count for name, (count, _) in UNETS.items()} == counts


def test_bothways_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "bothways", "--version"], check=True, capture_output=True, text=True)
    assert done.stdout.startswith("bothways ")


def test_what_python_users_see(tmp_path: Any) -> None:
    assert set(bothways.__all__) <= set(dir(bothways))
    result = generate("bundled:cifar10-plain", "frog", 1, steps=1, verdicts=False)
    assert str(result) == repr(result)
    assert "\n" not in str(result)
    assert "images=(1, 3, 32, 32)" in str(result)
    assert len(str(result)) < 400
    assert "data:image/png" in (result.save(tmp_path / "run") / "report.html").read_text()
    assert brief([0.5] * 100) == "100 of float"
    assert brief({"a": 1, "b": 2}) == "{a, b}"
