"""Names of files and classes that hold anything: one line each, nothing that moves a terminal, no live markup."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest
import torch

from bothways import ModelSpec, UserError, load_images
from bothways.cli.show import printable, printable_json
from bothways.data.given import pictures_of
from bothways.models.weights import load_weights
from bothways.opening import PIXELS_AT_MOST
from bothways.reading import as_text, check_file, read_bytes, read_toml, table_of
from bothways.report.charts import inert
from bothways.runs import from_png, to_png
from command import refused, run

TOY = Path(__file__).resolve().parents[1] / "toy_model.py"
LONG = "x" * 300
ODD = "a\x1b[31mred\nb"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    (tmp_path / "photo.png").write_bytes(to_png(torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))))
    return tmp_path / "photo.png"


@pytest.mark.parametrize(
    "words",
    [
        ["report", LONG],
        ["cite", LONG],
        ["predict", f"{TOY}:build", "photo.png", "--weights", LONG],
        ["generate", f"{TOY}:build", "--class", "0", "--steps", "1", "--n", "1", "--out", LONG],
        ["statistics", f"{TOY}:build", "--data", ".", "--out", f"{LONG}.safetensors"],
        ["spectrum", "--data", ".", "--out", f"{LONG}.safetensors"],
        ["evaluate", f"{TOY}:build", "--data", LONG, "--out", "out"],
        ["generate", f"{TOY}:build", "--class", "0", "--recipe", f"{LONG}.toml"],
        ["predict", f"{LONG}.py:build", "photo.png"],
        ["predict", f"{LONG}.json", "photo.png"],
    ],
    ids=lambda words: words[0],
)
def test_a_name_of_300_characters_is_one_line(capsys, monkeypatch, photo: Path, words: list[str]) -> None:
    monkeypatch.chdir(photo.parent)
    assert "file name too long" in refused(capsys, *words)
    assert [file.name for file in photo.parent.iterdir()] == ["photo.png"]


def test_control_characters_are_written_out(capsys, tmp_path: Path, photo: Path) -> None:
    (folder := tmp_path / os.fsdecode(b"a\x1b[31m\n\xff")).mkdir()
    shutil.copy(photo, folder / "p\u202e.png")
    assert run("predict", f"{TOY}:build", folder) == 0
    said = capsys.readouterr().out
    line = next(line for line in said.splitlines() if ".png" in line)
    assert r"a\x1b[31m\n\xff/p\u202e.png: " in line
    assert run("predict", f"{TOY}:build", folder, "--json") == 0
    said = capsys.readouterr().out
    assert not set(said) & set("\x1b\u202e\udcff")
    assert json.loads(said)[0]["image"].endswith("\\xff/p\u202e.png")
    assert printable("a\tb\x00\x9b\ud800") == r"a\tb\x00\x9b\ud800"
    assert json.loads(printable_json(json.dumps("\x7f\u2028", ensure_ascii=False))) == "\x7f\u2028"


def test_classes_and_pictures_of_names_that_are_no_utf8_are_read(tmp_path: Path, photo: Path) -> None:
    for name in (b"a\xff", b"b\n"):
        place = tmp_path / "data" / os.fsdecode(name)
        place.mkdir(parents=True)
        shutil.copy(photo, place / os.fsdecode(b"\xfe.png"))
    found = load_images(tmp_path / "data")
    assert list(found.classes) == ["a\\xff", "b\n"]
    assert found.labels.tolist() == [0, 1]
    assert as_text(os.fsdecode(b"\xc3\xa9\xff")) == "é\\xff"


def test_markup_in_a_name_is_inert_in_a_chart() -> None:
    live = '<a href="https://evil.example">c</a>'
    hover = f"{live}<br>%{{x}}<extra></extra>"
    figure = inert({"data": [{"x": [live, "a&b"], "y": [1, None], "hovertemplate": hover}], "layout": {"text": live}})
    assert "<a" not in json.dumps(figure)
    assert figure["data"][0]["x"] == ['&lt;a href="https://evil.example">c&lt;/a>', "a&amp;b"]
    assert figure["data"][0]["hovertemplate"].endswith("&lt;/a><br>%{x}<extra></extra>")
    assert figure["data"][0]["y"] == [1, None]


@pytest.mark.parametrize("kind", ["pipe", "device", "socket", "folder"])
def test_a_special_file_is_refused_before_it_is_opened(tmp_path: Path, monkeypatch, kind: str) -> None:
    import socket

    place = tmp_path / "special.png"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "device":
        place.symlink_to("/dev/zero")
    elif kind == "folder":
        place.mkdir()
    else:
        monkeypatch.chdir(tmp_path)  # the name of a socket has at most 107 bytes
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind("special.png")
    monkeypatch.setattr(os, "open", lambda *given: pytest.fail("it is opened"))
    for read in (read_bytes, read_toml, check_file, lambda path: load_weights(torch.nn.Linear(1, 1), path)):
        with pytest.raises(UserError, match=f"special.png: is a {kind}"):
            read(place)
    if kind != "folder":
        with pytest.raises(UserError, match=f"is a {kind}"):
            pictures_of(place, "photo")


def test_a_size_is_bounded_before_anything_is_read(tmp_path: Path) -> None:
    (large := tmp_path / "large").write_bytes(b"")
    os.truncate(large, 10**12)
    assert stat.S_ISREG(large.stat().st_mode)
    with pytest.raises(UserError, match="1,000,000,000,000 bytes, and at most"):
        read_bytes(large)
    with pytest.raises(UserError, match="have this name"):
        read_bytes(tmp_path / "a\0b")
    header = bytearray(to_png(torch.zeros(3, 1, 1)))
    for side in (0, PIXELS_AT_MOST + 1):
        header[16:20] = side.to_bytes(4, "big")
        with pytest.raises(UserError, match="not a picture"):
            from_png(bytes(header))


def test_json_without_nan_and_not_too_deep() -> None:
    for content, says in ((b"[" * 10**5, "recursion"), (b'{"a": NaN}', "not JSON"), (b"[]", "a list"), (b"", "EOF")):
        with pytest.raises(UserError, match=says):
            table_of(content, "x.json")


@pytest.mark.parametrize(
    "facts", [{"mean": float("nan")}, {"std": float("inf")}, {"size": 10**6}, {"size": (16, -1)}, {"size": "16"}]
)
def test_facts_that_no_model_has(facts: dict) -> None:
    with pytest.raises(UserError, match="ModelSpec: "):
        ModelSpec(**{"size": 16, "mean": 0.5, "std": 0.5, "classes": 2, **facts})
