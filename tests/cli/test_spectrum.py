"""``bothways spectrum``: what it prints, writes and refuses, and that ``generate`` takes its file."""

from __future__ import annotations

from pathlib import Path

import pytest

from bothways.numerics.draws import Draws
from bothways.runs import RunFolder, to_png
from bothways.tasks.spectrum.files import read_spectrum
from command import run

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, image in enumerate(Draws(range(5)).uniform((3, 20, 24))):
        (folder / f"{i}.png").write_bytes(to_png(image))
    return folder


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("spectrum", "--help") == 0
    said = capsys.readouterr().out
    for word in ("bothways spectrum --data photos/", "--size", "--limit", "--overwrite", "if unset, all"):
        assert word in said


def test_a_spectrum_is_measured_told_and_drawn_with(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "own.safetensors"
    assert run("spectrum", "--data", photos, "--size", "16", "--limit", "4", "--out", out) == 0
    said = capsys.readouterr().out
    assert f"16 x 16 over 4 pictures, 1 kB in {out}" in said
    assert f"--recipe maco --set canvas.spectrum={out}" in said
    assert (read_spectrum(out).size, read_spectrum(out).count) == (16, 4)
    arguments = ["generate", TOY, "--class", "candle", "--n", "1", "--steps", "2", "--recipe", "maco"]
    assert run(*arguments, "--set", f"canvas.spectrum={out}", "--out", tmp_path / "run") == 0
    folder = RunFolder.open(tmp_path / "run")
    assert folder.settings["settings"]["canvas"]["spectrum"] == str(out)
    assert folder.pictures[0]["alpha"] == "images/0000-candle-alpha.png"
    assert (tmp_path / "run" / "images" / "0000-candle-alpha.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "type --size 224"),  # not square
        (["--size", "3"], "type --size 16 or more"),
        (["--size", "16", "--limit", "0"], "limit=0"),
        (["--size", "16", "--data", "nowhere"], "does not exist"),
        (["--size", "16", "--out", "spectrum.npy"], "type the name of a .safetensors file"),
    ],
)
def test_mistakes_are_one_line(
    arguments: list[str], said: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["spectrum", "--data", photos, "--out", tmp_path / "a.safetensors", *arguments]
    assert run(*given) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert not (tmp_path / "a.safetensors").exists()


def test_an_earlier_file_is_kept_unless_told(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a.safetensors"
    given = ["spectrum", "--data", photos, "--size", "16", "--out", out]
    assert run(*given) == 0
    first = out.read_bytes()
    assert run(*given, "--limit", "2") == 2
    assert "type --overwrite" in capsys.readouterr().err
    assert out.read_bytes() == first
    assert run(*given, "--limit", "2", "--overwrite") == 0
    assert read_spectrum(out).count == 2
