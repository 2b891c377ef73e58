"""Whatever is asked wrongly: exit code 2, one line on stderr that says what to type, and nothing written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from bothways import ModelSpec, UserError, generate, load_model
from bothways.cli import main

FILE = Path(__file__).resolve().parent / "toy_model.py"
TOY = f"{FILE}:build"
QUICK = ["--class", "anchor", "--recipe", "das", "--steps", "1", "--n", "1"]


def said_of(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line of an exit with code 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert end.value.code == 2, err
    assert "Traceback" not in err + out
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("bothways: ")
    return lines[0]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("bundled:cifar11", "no bundled model 'cifar11'"),
        ("resnet50", "PATH.py:FUNCTION"),
        ("nowhere.py:build", "'nowhere.py' does not exist"),
        (FILE, "names a file but no function"),
        (f"{FILE}:biuld", "type build"),
        (f"{FILE}:fails", "KeyError: 'a mistake of mine'"),
        (f"{FILE}:without_spec", "ModelSpec(size="),
        (f"{FILE}:one_channel", "3 channels"),
        (f"{FILE}:too_few_classes", "4 outputs"),
        ("nowhere.json", "'nowhere.json' does not exist"),
        ("", "not known"),
    ],
)
def test_a_model_that_cannot_be(capsys, out: Path, model: str, says: str) -> None:
    assert says in said_of(capsys, "generate", model, *QUICK, "--out", out)
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--class", "dragn"], "nearest are dragon"),
        (["--class", "4"], "type a name or 0 to 3"),
        (["--class", "²"], "no class '²'"),
        (["--recipe", "dsa"], "type dsf, das"),
        (["--recipe", "cifar10-resnet"], "no recipe"),
        (["--steps", "-1"], "steps=-1: Input should be greater than or equal to 0"),
        (["--n", "0"], "n=0"),
        (["--size", "0"], "size=0"),
        (["--dtype", "foo"], "type one of float32, bf16, float16"),
        (["--statistics", "some"], "'spread', 'batch' or 'sampled'"),
        (["--noise", "nan"], "view 'noise'"),
        (["--noise", "-1"], "level is 0 or more"),
        (["--jitter", "-3"], "reach is a share below 1, or from 0"),
        (["--set", "views.shift.reach=1e30"], "reach is a share below 1, or from 0"),
        (["--set", "views.flip.chance=often"], "chance='often': type a finite number"),
        (["--set", "views.flip.chance=5"], "chance is from 0 to 1"),
        (["--set", "views.noise.distribution=gauss"], 'distribution "normal" or "uniform"'),
        (["--set", "views.colour.reach=2"], "reach is from 0 to 1"),
        (["--set", "views.crop.share=0"], "share is above 0"),
        (["--set", "views.warp.degrees=x"], "degrees='x': type a finite number"),
        (["--set", "views.flip=no"], "type views.flip.SETTING=VALUE"),
        (["--device", "abacus"], "device 'abacus'"),
        (["--device", "cuda:77"], "--device cpu"),
        (["--set", "rms"], "NAME=VALUE"),
        (["--set", "rmss=1"], "type one of ascent.rms"),
        (["--set", "rms=0"], "rms='0'"),
        (["--set", "recipe=das"], "--recipe das"),
        (["--set", "model=x"], "is a positional argument; type x alone"),
        (["--set", "canvas.levels=1,x"], "levels"),
        (["--set", "canvas.levels=0,4"], "level"),
        (["--set", "canvas.levels=4,99"], "level"),
        (["--set", "optimizer=adam"], "--set canvas.engine=explicit"),
        (["--size", "10000000"], "--size"),
        (["--judge", "bundled:nobody"], "judge bundled:nobody: no bundled model"),
        (["--judge", f"{FILE}:biuld"], "type build"),
        (["--judge", f"{FILE}:one_channel"], "3 channels"),
        (["--data", "nowhere"], "data 'nowhere' does not exist"),
        (["--data", FILE], "parquet"),
        (["--only", "1"], "pictures 0 to 0"),
        (["--only", "-1"], "--only -1"),
        (["--weights", "nowhere.safetensors"], "do not exist"),
        (["--unconditional"], "not both"),
        (["--score", TOY, "--condition", TOY], "has no role"),
        (["--recipe", "dsf", "--score", "bundled:nobody"], "no bundled model 'nobody'"),
        (["--recipe", "dsf", "--set", "terms.dsf.augmentation=flip,flop"], "'flop'"),
        (["--recipe", "dsf", "--set", "terms.dsf.parameters=tail*"], "the nearest are"),
        (["--set", "clip_by=length"], "'value', 'norm' or 'sign'"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["", "dry"])
def test_an_option_that_cannot_be(capsys, out: Path, arguments: list, says: str, dry: list[str]) -> None:
    assert says in said_of(capsys, "generate", TOY, *QUICK, *arguments, *dry, "--out", out)
    assert not out.exists()


def test_a_drawing_of_nothing(capsys) -> None:
    assert "or --unconditional for none" in said_of(capsys, "generate")


def test_sizes_that_a_model_cannot_take(capsys, out: Path) -> None:
    for name in ("flat", "particular"):
        said = said_of(capsys, "generate", f"{FILE}:{name}", *QUICK, "--size", "24", "--out", out)
        assert "24x24" in said
        assert "--size 16" in said
    assert not out.exists()


def test_weights_that_do_not_fit(capsys, out: Path, tmp_path: Path) -> None:
    own = {key: value.contiguous() for key, value in load_model(TOY).module.state_dict().items()}
    torch.save(own, tmp_path / "pickle.pt")
    assert "pickle is never read" in said_of(capsys, *given(tmp_path / "pickle.pt"), "--out", out)
    (tmp_path / "empty.safetensors").write_bytes(b"")
    assert "not a safetensors file" in said_of(capsys, *given(tmp_path / "empty.safetensors"), "--out", out)
    other = {key: value for key, value in own.items() if not key.startswith("head")}
    save_file({**other, "tail.weight": torch.ones(4)}, tmp_path / "other.safetensors")
    said = said_of(capsys, *given(tmp_path / "other.safetensors"), "--out", out)
    assert "missing in the file: head.weight, head.bias" in said
    assert "not in the model: tail.weight" in said
    save_file({**own, "head.weight": torch.ones(5, 8)}, tmp_path / "wide.safetensors")
    said = said_of(capsys, *given(tmp_path / "wide.safetensors"), "--out", out)
    assert "head.weight (5, 8) for (4, 8)" in said
    assert not out.exists()


def given(weights: Path) -> list[object]:
    return ["generate", TOY, *QUICK, "--weights", weights]


def test_a_place_that_cannot_be_written(capsys, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    both = ["--overwrite", "--resume", "--out", tmp_path / "out"]
    assert "contradict" in said_of(capsys, "generate", TOY, *QUICK, *both)
    assert "a file is in the way" in said_of(capsys, "generate", TOY, *QUICK, "--out", file)
    assert "choose a folder" in said_of(capsys, "generate", TOY, *QUICK, "--out", file / "below" / "run")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    for how in ([], ["--overwrite"], ["--resume"]):
        assert "not empty" in said_of(capsys, "generate", TOY, *QUICK, "--out", tmp_path / "full", *how)
    assert file.read_text() == "mine"
    assert [entry.name for entry in (tmp_path / "full").iterdir()] == ["mine"]
    data = tmp_path / "none"
    assert "train.parquet" in said_of(capsys, "train", "cifar10-resnet", "--data", data, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_runs_that_are_not_there(capsys, tmp_path: Path) -> None:
    for command in ("report", "cite"):
        assert "no such folder" in said_of(capsys, command, tmp_path / "none")
        assert "recipe.toml is missing" in said_of(capsys, command, tmp_path)
    (tmp_path / "recipe.toml").write_text("settings = [")
    assert "not TOML" in said_of(capsys, "cite", tmp_path)
    (tmp_path / "recipe.toml").write_text("[settings]\nfuture = 1\n")
    assert "before 0.2" in said_of(capsys, "cite", tmp_path)
    assert "no recipe 'dass'" in said_of(capsys, "train", "dass", "--data", tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", TOY, "--class", "0", "--colour", "red"],
        ["generate", TOY, "--class", "0", "--n", "many"],
        ["generate", TOY, "--class=0", "1"],
        ["report"],
        ["train", "cifar10-resnet"],
    ],
)
def test_usage_that_is_not_known(capsys, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert "Usage: " in err


def test_the_same_from_python(tmp_path: Path) -> None:
    module, facts = load_model(TOY).module, load_model(TOY).spec
    assert len(generate(module, 0, 1, "das", spec=facts, steps=1)) == 1
    for call, says in (
        (lambda: generate(module, 0), "ModelSpec(size="),
        (lambda: generate(TOY, [], recipe="das"), "no class was given"),
        (lambda: generate(TOY, 0, recipe="das", stepz=1), "type one of ascent.steps"),
        (lambda: generate(TOY, 0, 1, "das", judges=["nobody"], out=tmp_path / "out"), "judge nobody"),
        (lambda: generate(TOY, 0, 1, "das", only=[4], out=tmp_path / "out"), "pictures 0 to 0"),
        (lambda: ModelSpec(16, (0.5,), (1, 1, 1), 4), "images have 3 channels"),
    ):
        with pytest.raises(UserError) as error:
            call()
        assert says in str(error.value)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()
