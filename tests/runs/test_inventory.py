"""What a run may remove of a folder, and that only one process writes it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bothways.runs import RunFolder
from bothways.types import Frame, UserError

TABLES = {"task": "generate"}


def records(first: int, count: int) -> list[dict[str, object]]:
    return [{"index": index, "class": "frog", "seed": index} for index in range(first, first + count)]


def drawn(path: Path, first: int = 0, **how: bool) -> RunFolder:
    """A run of two pictures, which has ended."""
    folder = RunFolder.create(path, TABLES, **how)
    folder.save_pictures(torch.zeros(2, 3, 4, 4), records(first, 2))
    folder.save_state({"x": torch.ones(2)}, {"step": 1})
    folder.release()
    return folder


def test_files_of_the_user_in_folders_of_the_run_stay(tmp_path: Path) -> None:
    folder = drawn(tmp_path / "run")
    mine = [folder.path / name for name in ("images/mine.png", "state/statement.txt", "report.html", "thesis.txt")]
    for file in mine:
        file.write_text("mine")
    again = RunFolder.create(tmp_path / "run", TABLES, overwrite=True)
    assert [file.read_text() for file in mine] == ["mine"] * 4
    assert (again.pictures, again.load_state()) == ([], None)
    assert [file.name for file in again.path.glob("images/*")] == ["mine.png"]


def test_what_a_link_leads_to_stays(tmp_path: Path) -> None:
    """The picture folder of a run as a link to one's photographs, one picture as a link, and a name that leads out."""
    photos = tmp_path / "photos"
    photos.mkdir()
    folder = drawn(tmp_path / "run")
    for record in folder.pictures:
        (photos / Path(record["file"]).name).write_text("a photograph")
    first = folder.image_path(folder.pictures[0])
    first.unlink()
    first.symlink_to(photos / first.name)
    drawn(tmp_path / "run", 5, overwrite=True)
    assert first.is_symlink()

    (folder.path / "images").rename(tmp_path / "moved")
    (folder.path / "images").symlink_to(photos)
    for name in ("0005-frog.png", "0006-frog.png"):
        (photos / name).write_text("a photograph")
    with (folder.path / "files.txt").open("a") as names:
        names.write(f"../photos/{first.name}\n{photos / first.name}\n\n/\n..\n")
    RunFolder.create(tmp_path / "run", TABLES, overwrite=True)
    assert [file.read_text() for file in photos.iterdir()] == ["a photograph"] * 4
    assert (folder.path / "images").is_symlink()


def test_every_file_of_a_run_is_in_its_list_once(tmp_path: Path) -> None:
    folder = drawn(tmp_path / "run")
    for step in (1, 2):
        folder.append_frame(Frame(step, step / 2), batch=0)
    folder.save_state({"x": torch.ones(2)}, {"step": 2})
    folder.write_measures({})
    folder.write_status("complete")
    lines = (folder.path / "files.txt").read_text().splitlines()
    assert len(set(lines)) == len(lines)
    there = {file.relative_to(folder.path).as_posix() for file in folder.path.rglob("*") if file.is_file()}
    assert there - {"files.txt", ".lock"} == set(lines) - {"state/state-000001.safetensors"}


@pytest.mark.parametrize("half", ["a", "images/0002-fr", "images/0002-frog.png"])
def test_a_name_that_was_cut_off_takes_no_other_with_it(tmp_path: Path, half: str) -> None:
    """What stays of the name, of the user's own file too, is no name of the run; the next one is whole."""
    folder = drawn(tmp_path / "run")
    (folder.path / "a").write_text("mine")
    names = folder.path / "files.txt"
    whole = names.read_text()
    names.write_text(whole + half)
    folder.write_measures({})
    assert names.read_text() == f"{whole}measures.json\n"
    RunFolder.create(tmp_path / "run", TABLES, overwrite=True)
    assert not (folder.path / "measures.json").exists()
    assert (folder.path / "a").read_text() == "mine"


def test_a_kill_before_the_first_file_leaves_a_folder_that_can_be_taken(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for name in ("files.txt", ".lock", ".recipe.toml.partial"):
        (tmp_path / "run" / name).touch()
    assert RunFolder.create(tmp_path / "run", TABLES).settings == TABLES


# ---- two writers ---------------------------------------------------------------------------------------------------

WRITER = """
import sys, time
from bothways.runs import RunFolder
folder = RunFolder.create(sys.argv[1], {"task": "generate"})
print("begun", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("how", [{"overwrite": True}, {"resume": True}])
def test_a_folder_has_one_writer_at_a_time(tmp_path: Path, how: dict[str, bool]) -> None:
    """Another process is refused as long as the first lives, and no longer, though that one was killed."""
    place, refusal = tmp_path / "run", "another run writes there; wait until it ends, or type another folder"
    with subprocess.Popen([sys.executable, "-c", WRITER, str(place)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"begun\n"
        before = {file: file.stat().st_mtime_ns for file in place.rglob("*")}
        with pytest.raises(UserError, match=refusal):
            RunFolder.create(place, TABLES, **how)
        assert {file: file.stat().st_mtime_ns for file in place.rglob("*")} == before
        assert RunFolder.open(place).status["state"] == "running"
        writer.send_signal(signal.SIGKILL)
    folder = RunFolder.create(place, TABLES, **how)
    with pytest.raises(UserError, match=refusal):
        RunFolder.create(place, TABLES, **how)
    folder.release()
    RunFolder.create(place, TABLES, **how)


def test_a_run_that_is_refused_leaves_the_folder_to_others(tmp_path: Path) -> None:
    drawn(tmp_path / "run")
    with pytest.raises(UserError, match="task was 'generate'"):
        RunFolder.create(tmp_path / "run", {"task": "sample"}, resume=True)
    RunFolder.create(tmp_path / "run", TABLES, resume=True)
