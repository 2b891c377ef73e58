"""The run folder: what is written is read back, and a kill at any byte loses nothing that was finished."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bothways.runs import RunFolder, from_png, to_png
from bothways.runs import files as run_files
from bothways.types import Frame, RunError, UserError

SETTINGS = {
    "task": "generate",
    "settings": {"recipe": "icons", "lr": 0.1, "classes": [0, 1], "layer": None},
    "model": {"name": "resnet20"},
    "versions": {"bothways": "0.1.0"},
}


def _records(first: int, count: int) -> list[dict]:
    return [{"index": i, "label": 6, "class": "tree frog", "seed": 100 + i} for i in range(first, first + count)]


def test_every_kind_of_fact_is_read_back(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "a" / "run", SETTINGS)
    folder.append_frame(Frame(1, 0.5, torch.zeros(1, 3, 2, 2), {"score": 1.5, "bad": math.nan}), batch=0)
    images = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))
    written = folder.save_pictures(images, _records(0, 2))
    folder.write_measures({"hit": math.inf, "n": np.int64(3), "rate": torch.tensor([0.5])})
    folder.write_status("complete", "done", seconds=1.5, of=2, peak_mb=math.nan)

    read = RunFolder.open(str(tmp_path / "a" / "run"))
    assert read.settings["settings"] == {"recipe": "icons", "lr": 0.1, "classes": [0, 1]}
    assert read.settings == tomllib.loads((folder.path / "recipe.toml").read_text())
    assert read.frames == [{"batch": 0, "step": 1, "t": 0.5, "stats": {"score": 1.5, "bad": None}}]
    assert read.pictures == written
    assert written[1]["file"] == "images/0001-tree-frog.png"
    assert read.measures == {"hit": None, "n": 3, "rate": [0.5]}
    assert {"state": "complete", "message": "done", "pictures": 2, "of": 2}.items() <= read.status.items()
    assert read.status["peak_mb"] is None
    saved = torch.stack([from_png(read.image_path(record).read_bytes()) for record in read.pictures])
    assert (saved - images).abs().max() <= 0.5 / 255 + 1e-6
    assert not list(folder.path.rglob("*.partial"))


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("great white shark", "great-white-shark"),
        ("猫、犬", "猫-犬"),
        ("Рыжая кошка", "рыжая-кошка"),
        ("cafe\u0301 no. 5", "caf\u00e9-no-5"),  # composed
        ("บ้าน", "บ้าน"),  # with the marks that stand above its letters
        ("\u2764\ufe0f ../a\u202eb\ud800", "a-b"),
        ("!?", "picture"),
        ("x" * 99, "x" * 40),
        ("猫" * 99, "猫" * 40),
        ("𐐨" * 99, "𐐨" * 30),  # four bytes each
    ],
)
def test_the_name_of_a_picture_keeps_the_letters_of_any_script(tmp_path: Path, word: str, name: str) -> None:
    folder = RunFolder.create(tmp_path / "run", SETTINGS)
    [written] = folder.save_pictures(torch.zeros(1, 3, 2, 2), [{"index": 7, "class": word}], torch.ones(1, 1, 2, 2))
    assert written["file"] == f"images/0007-{name}.png"
    assert written["alpha"] == f"images/0007-{name}-alpha.png"
    assert folder.read_picture(RunFolder.open(folder.path).pictures[0]).shape == (3, 2, 2)


def test_a_letter_that_the_file_system_cannot_name_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "latin-1")
    folder = RunFolder.create(tmp_path / "run", SETTINGS)
    words = [{"index": 0, "class": "猫 né"}, {"index": 1, "class": "猫"}]
    written = folder.save_pictures(torch.zeros(2, 3, 2, 2), words)
    assert [record["file"] for record in written] == ["images/0000-né.png", "images/0001-picture.png"]


def test_png_holds_the_nearest_of_256_levels_as_pillow_reads_them() -> None:
    levels = torch.arange(256).reshape(1, 16, 16).expand(3, 16, 16) / 255
    assert torch.equal(from_png(to_png(levels)), levels)
    odd = torch.tensor([-0.2, 1.7, math.nan, 100.4 / 255, 100.6 / 255, 0.25]).reshape(1, 1, 6).expand(3, 1, 6)
    pixels = np.asarray(Image.open(io.BytesIO(to_png(odd))))
    assert pixels[0, :, 0].tolist() == [0, 255, 0, 100, 101, 64]
    with pytest.raises(UserError, match="not a picture"):
        from_png(b"\x89PNG\r\n\x1a\nrubbish")
    with pytest.raises(UserError, match="\\(3, H, W\\)"):
        to_png(torch.zeros(1, 3, 4, 4))


def test_a_taken_path_is_refused_in_one_line(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    RunFolder.create(taken, SETTINGS)
    with pytest.raises(UserError, match=r"--resume.*--overwrite"):
        RunFolder.create(taken, SETTINGS)
    with pytest.raises(UserError, match="contradict"):
        RunFolder.create(taken, SETTINGS, overwrite=True, resume=True)

    (tmp_path / "file").write_text("mine")
    with pytest.raises(UserError, match="a file is in the way"):
        RunFolder.create(tmp_path / "file", SETTINGS, overwrite=True)
    with pytest.raises(UserError, match="choose a folder that can be written"):
        RunFolder.create(tmp_path / "file" / "below", SETTINGS)

    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    for choice in ("overwrite", "resume"):
        with pytest.raises(UserError, match="not a run folder") as caught:
            RunFolder.create(mine, SETTINGS, **{choice: True})
        assert "\n" not in str(caught.value)
    assert (mine / "thesis.txt").read_text() == "mine"


def test_no_permission_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match="permission denied; choose a folder"):
        RunFolder.create(tmp_path / "run", SETTINGS)


def test_overwrite_removes_the_run_and_nothing_beside_it(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", SETTINGS)
    folder.save_pictures(torch.zeros(2, 3, 4, 4), _records(0, 2))
    folder.save_state({"x": torch.ones(2)}, {"step": 1})
    (folder.path / "notes.txt").write_text("mine")
    folder.release()
    again = RunFolder.create(tmp_path / "run", {**SETTINGS, "model": {"name": "other"}}, overwrite=True)
    assert (again.pictures, again.frames, again.load_state()) == ([], [], None)
    assert not list(again.path.glob("images/*"))
    assert again.settings["model"]["name"] == "other"
    assert (again.path / "notes.txt").read_text() == "mine"


def test_resume_names_the_first_setting_that_differs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run is there to resume; type the command without --resume"):
        RunFolder.create(tmp_path / "run", SETTINGS, resume=True)
    assert not (tmp_path / "run").exists()
    RunFolder.create(tmp_path / "run", SETTINGS)
    same = {**SETTINGS, "settings": {**SETTINGS["settings"], "classes": (0, 1)}}
    RunFolder.create(tmp_path / "run", same, resume=True)
    other = {**SETTINGS, "settings": {**SETTINGS["settings"], "lr": 0.2}}
    with pytest.raises(UserError, match=r"settings\.lr was 0\.1 .* 0\.2 now"):
        RunFolder.create(tmp_path / "run", other, resume=True)
    more = {**SETTINGS, "settings": {**SETTINGS["settings"], "layer": "layer4"}}
    with pytest.raises(UserError, match=r"settings\.layer was not set .* 'layer4' now"):
        RunFolder.create(tmp_path / "run", more, resume=True)


def test_open_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        RunFolder.open(tmp_path / "none")
    with pytest.raises(UserError, match=r"recipe\.toml is missing"):
        RunFolder.open(tmp_path)
    (tmp_path / "recipe.toml").write_text("= broken")
    with pytest.raises(UserError, match="not TOML"):
        RunFolder.open(tmp_path)
    (tmp_path / "recipe.toml").write_text('task = "sample"')
    (tmp_path / "measures.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        _ = RunFolder.open(tmp_path).measures


@pytest.mark.parametrize(
    ("versions", "writer"), [('[versions]\nbothways = "0.1.0"', "bothways 0.1.0,"), ("", "bothways before 0.2,")]
)
def test_a_run_of_another_layout_is_refused_by_the_version_that_wrote_it(
    tmp_path: Path, versions: str, writer: str
) -> None:
    (tmp_path / "recipe.toml").write_text(f'[settings]\ncommand = "sample"\n{versions}')
    for read in (RunFolder.open, lambda path: RunFolder.create(path, SETTINGS, resume=True)):
        with pytest.raises(UserError, match=writer) as refused:
            read(tmp_path)
        assert "\n" not in str(refused.value)
    with pytest.raises(UserError, match=r"no files\.txt"):  # which of its files are its own is not known
        RunFolder.create(tmp_path, SETTINGS, overwrite=True)
    assert (tmp_path / "recipe.toml").read_text().startswith("[settings]")


def test_a_line_torn_at_any_byte_is_ignored_and_cut(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", SETTINGS)
    for step in (1, 2):
        folder.append_frame(Frame(step, step / 2, None, {"score": float(step)}), batch=0)
    folder.release()
    path = folder.path / "frames.jsonl"
    content = path.read_bytes()
    first = content.index(b"\n") + 1
    for size in range(first, len(content)):
        path.write_bytes(content[:size])
        assert [frame["step"] for frame in folder.frames] == [1]
        resumed = RunFolder.create(folder.path, SETTINGS, resume=True)
        assert path.read_bytes() == content[:first]
        resumed.append_frame(Frame(2, 1.0, None, {"score": 2.0}), batch=0)
        resumed.release()
        assert path.read_bytes() == content
    path.write_bytes(content[:first] + b"\0" * 20 + b"\n")  # power loss: the length without the bytes
    assert len(folder.frames) == 1
    path.write_bytes(b"{broken}\n" + content)
    with pytest.raises(UserError, match="line 1 is not JSON"):
        _ = folder.frames


def test_frames_beyond_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", SETTINGS)
    for batch, step in [(0, 1), (0, 2), (1, 1), (1, 2), (1, 3)]:
        folder.append_frame(Frame(step, 0.0), batch)
    folder.drop_frames_after(1, 2)
    assert [(f["batch"], f["step"]) for f in folder.frames] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    folder.drop_frames_after(0)
    assert [(f["batch"], f["step"]) for f in folder.frames] == [(0, 1), (0, 2)]


def test_a_batch_saved_twice_is_there_once(tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "run", SETTINGS)
    folder.save_pictures(torch.zeros(3, 3, 4, 4), _records(0, 3))
    folder.save_pictures(torch.ones(3, 3, 4, 4), _records(2, 3))
    assert [record["index"] for record in folder.pictures] == [0, 1, 2, 3, 4]
    assert from_png(folder.image_path(folder.pictures[2]).read_bytes()).min() == 1
    with pytest.raises(UserError, match="outside the run folder"):
        folder.save_pictures(torch.zeros(1, 3, 4, 4), [{"index": 9, "file": "../../there.png"}])


def test_the_checkpoint_is_one_pair_wherever_the_kill_falls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder.create(tmp_path / "run", SETTINGS)
    assert folder.load_state() is None
    shared = torch.arange(6.0).reshape(2, 3)
    folder.save_state({"x": shared.T, "view": shared[1]}, {"step": 1, "loss": math.nan})

    def killed(path: Path, value: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("bothways.runs.folder.write_json", killed)
    with pytest.raises(KeyboardInterrupt):  # the tensors of step 2 are on disk, the line that names them is not
        folder.save_state({"x": torch.zeros(3, 2)}, {"step": 2})
    monkeypatch.undo()
    state = folder.load_state()
    assert state is not None
    assert torch.equal(state[0]["x"], shared.T)
    assert torch.equal(state[0]["view"], shared[1])
    assert state[1] == {"step": 1, "loss": None}
    folder.save_state({"x": torch.zeros(3, 2)}, {"step": 3})
    assert len(list(folder.path.glob("state/*.safetensors"))) == 1
    folder.clear_state()
    assert folder.load_state() is None
    assert not list(folder.path.glob("state/*"))


def test_a_full_disk_takes_the_half_line_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder.create(tmp_path / "run", SETTINGS)
    folder.append_frame(Frame(1, 0.0), 0)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_files.os, "fsync", full)
    with pytest.raises(RunError, match="no space left on device"):
        folder.write_measures({"n": 1})
    assert not list(folder.path.rglob("*.partial"))
    assert (folder.measures, len(folder.frames)) == ({}, 1)


WRITER = """
import sys, torch
from bothways.runs import RunFolder
from bothways.types import Frame
folder = RunFolder.create(sys.argv[1], {"task": "generate", "settings": {"n": 1}})
for step in range(1, 100000):
    folder.append_frame(Frame(step, 0.0, None, {"pad": "x" * 500}), 0)
    folder.save_pictures(torch.full((1, 3, 8, 8), 0.5), [{"index": step, "class": "frog", "seed": step}])
    folder.save_state({"x": torch.full((64, 64), float(step))}, {"step": step})
    if step == 4:
        sys.stdout.write("going"); sys.stdout.flush()
"""


def test_a_killed_run_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run"
    source = str(Path(run_files.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.read(5) == b"going"
        process.send_signal(signal.SIGKILL)
    folder = RunFolder.open(path)
    state = folder.load_state()
    assert state is not None
    step = state[1]["step"]
    assert step >= 3
    assert bool((state[0]["x"] == step).all())
    RunFolder.create(path, {"task": "generate", "settings": {"n": 1}}, resume=True).drop_frames_after(0, step)
    assert [frame["step"] for frame in folder.frames] == list(range(1, step + 1))
    assert [record["index"] for record in folder.pictures][:step] == list(range(1, step + 1))
    for record in folder.pictures:
        assert from_png(folder.image_path(record).read_bytes()).shape == (3, 8, 8)
    json.loads((path / "status.json").read_bytes())
