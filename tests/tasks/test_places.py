"""Where a run goes when no folder is named, what is refused before anything is loaded, and what a resume takes over."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from bothways import UserError, generate, sample
from bothways.models import loader
from bothways.runs import RunFolder
from bothways.runs.inventory import lock
from bothways.runs.numbered import next_folder
from bothways.studio.shelf import Shelf
from bothways.tasks.shelf import work_of
from bothways.types import RunError
from command import refused, run
from small_flow import write_small_flow

pytestmark = pytest.mark.usefixtures("_rough_samples")

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"
QUICK = ("--class", "anchor", "--recipe", "das", "--steps", "1", "--n", "1", "--no-verdicts")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses of the models and flows that are read."""
    found: list[str] = []
    for name in ("read_model", "read_flow"):
        read = getattr(loader, name)
        monkeypatch.setattr(
            loader, name, lambda address, *more, read=read: found.append(address) or read(address, *more)
        )
    return found


# ---- the default folder --------------------------------------------------------------------------------------------


def test_each_run_without_a_name_gets_the_next_number_and_latest_is_the_newest(capsys: Any) -> None:
    for number in ("001", "002"):
        assert run("generate", TOY, *QUICK) == 0
        assert f"runs/generate-{number}/report.html" in capsys.readouterr().out
        assert Path("runs/latest").readlink() == Path(f"generate-{number}")
    Path("runs/generate-007").mkdir()
    assert run("generate", TOY, *QUICK) == 0
    assert RunFolder.open("runs/latest").path.resolve().name == "generate-008"
    assert run("report", "runs/latest", "runs/generate-001", "--out", "both.html") == 0
    assert set(Shelf(Path("runs")).runs()) == {"generate-001", "generate-002", "generate-008"}


def test_a_run_with_a_name_in_runs_is_the_latest_too_and_one_elsewhere_is_not() -> None:
    assert run("generate", TOY, *QUICK, "--out", "runs/cats") == 0
    assert run("generate", TOY, *QUICK, "--out", "elsewhere") == 0
    assert Path("runs/latest").readlink() == Path("cats")


@pytest.mark.filterwarnings("default")  # as a shell has it: what a command notes is no error
@pytest.mark.parametrize("linked", [True, False])
def test_what_a_user_calls_latest_stays(linked: bool, capsys: Any) -> None:
    mine = Path("elsewhere" if linked else "runs/latest").absolute()
    mine.mkdir(parents=True)
    (mine / "thesis.txt").write_text("mine")
    Path("runs").mkdir(exist_ok=True)
    if linked:
        Path("runs/latest").symlink_to(mine)
    assert run("generate", TOY, *QUICK) == 0
    assert "runs/latest is not a link to a run in runs, so it stays as it is" in capsys.readouterr().err
    assert Path("runs/latest/thesis.txt").read_text() == "mine"


@pytest.mark.parametrize("typed", [("--out=~/mine",), ("--out", "~/mine")])
def test_a_home_that_the_shell_left_alone_is_found(typed: tuple[str, ...], tmp_path: Path, monkeypatch: Any) -> None:
    """bash does not expand --out=~/mine: a folder called ~ was made here, which nobody removes with a light heart."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert run("generate", TOY, *QUICK, *typed) == 0
    assert run("generate", "--resume", "--allow-code", TOY.partition(":")[0], *typed) == 0
    assert RunFolder.open(tmp_path / "home" / "mine").status["state"] == "complete"
    again = generate(TOY, "anchor", 1, "das", steps=1, judges=[], out="~/other")
    assert again.images.shape[0] == 1
    assert (tmp_path / "home" / "other" / "recipe.toml").is_file()
    assert not Path("~").exists()


@pytest.mark.parametrize(
    "typed",
    [
        ("walk", "bundled:cifar10-flow", "~nosuch/a.png"),
        ("evaluate", "bundled:cifar10-resnet", "--data", "~nosuch/pictures"),
        ("edit", TOY, "~nosuch/a.png", "--class", "anchor"),
        ("generate", "~nosuch/my.py:build", "--class", "anchor"),
        ("generate", "~nosuch/run", "--class", "anchor"),
        ("generate", TOY, *QUICK, "--weights", "~nosuch/a.safetensors"),
        ("sample", "sit:~nosuch/a.pt"),
    ],
)
def test_the_home_of_nobody_is_a_place_that_is_not_there(typed: tuple[str, ...], capsys: Any) -> None:
    """It was a traceback, wherever a path is typed."""
    assert "~nosuch" in refused(capsys, *typed)


def test_where_the_report_finds_no_room_the_run_is_complete(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    """The line told to choose another place, as of a mistake in the command."""

    def full(path: Path, content: bytes) -> None:
        raise RunError(f"{path}: no space left on device; earlier work is saved, so fix this and type --resume")

    with monkeypatch.context() as patched:
        patched.setattr("bothways.report.template.replace_file", full)
        assert run("generate", TOY, *QUICK, "--out", "a run") == 1
    said = capsys.readouterr().err
    cure = "the run itself is complete: mend this and type bothways report 'a run'"
    assert f"bothways: a run/report.html: no space left on device; {cure}" in said.replace("\n", " ")
    assert RunFolder.open("a run").status["state"] == "complete"
    assert run("report", tmp_path / "a run") == 0


def test_nothing_is_left_of_what_was_refused_or_only_planned(capsys: Any) -> None:
    refused(capsys, "generate", "bundled:nothing", *QUICK)
    assert not list(Path("runs").glob("generate-*"))
    assert run("generate", TOY, *QUICK, "--dry-run") == 0
    assert "nothing is written" in capsys.readouterr().out
    assert not list(Path("runs").glob("generate-*"))
    assert not Path("runs/latest").is_symlink()


def test_no_two_processes_get_one_number(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as several:
        made = list(several.map(lambda _: next_folder(tmp_path / "runs", "sample"), range(40)))
    assert sorted(folder.name for folder in made) == [f"sample-{number:03d}" for number in range(1, 41)]


def test_what_latest_means_is_kept_by_the_run_that_was_made_from_it(tmp_path: Path) -> None:
    write_small_flow(Path("runs/flow"))
    Path("runs/latest").symlink_to("flow")
    assert run("sample", "runs/latest", "--n", 1, "--steps", 1) == 0  # which is now the latest
    assert run("sample", "--resume", "--n", 2) == 0
    assert RunFolder.open("runs/sample-001").settings["model"]["address"] == "runs/flow"


# ---- refused before anything is loaded -----------------------------------------------------------------------------


def test_a_place_that_cannot_be_used_is_refused_before_a_model_is_loaded(loaded: list[str], capsys: Any) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("mine")
    Path("file").write_text("")
    Path("run").mkdir()
    for out, says in (("mine", "is not empty"), ("file", "a file is in the way"), ("file/below", "choose a folder")):
        assert says in refused(capsys, "generate", TOY, *QUICK, "--out", out)
        assert says in refused(capsys, "sample", "bundled:cifar10-flow", "--out", out)
    held = lock(Path("run"))
    assert "another run writes there" in refused(capsys, "generate", TOY, *QUICK, "--out", "run")
    held.release()
    with pytest.raises(UserError, match="is not empty"):
        generate(TOY, "anchor", out="mine")
    assert loaded == []


@pytest.mark.parametrize("how", [("--out", "none"), ()])
def test_a_resume_of_nothing_says_so(loaded: list[str], capsys: Any, how: tuple[str, ...]) -> None:
    said = refused(capsys, "generate", TOY, *QUICK, "--resume", *how)
    assert ("no run is there to resume; type the command without --resume" in said) == bool(how)
    assert ("no run of bothways generate is in runs" in said) != bool(how)
    assert not Path("none").exists()
    assert loaded == []


# ---- the run's own settings ----------------------------------------------------------------------------------------


def test_a_resume_takes_the_settings_of_the_run(loaded: list[str], capsys: Any) -> None:
    quick = ("--class", "dragon", "barrel", "--recipe", "das", "--steps", "3", "--n", "1", "--set", "ascent.rms=0.07")
    assert run("generate", TOY, *quick, "--batch", 1, "--only", 0, "--out", "part") == 0
    assert run("generate", TOY, *quick, "--batch", 1, "--out", "whole") == 0
    capsys.readouterr()
    said = refused(capsys, "generate", "--resume", "--out", "part")
    assert "part/given.json names Python code" in said  # a file of a run never runs code that was not typed
    assert run("generate", "--resume", "--out", "part", "--allow-code", TOY.partition(":")[0]) == 0
    for record in RunFolder.open("whole").pictures:
        assert torch.equal(*(RunFolder.open(out).read_picture(record) for out in ("whole", "part")))
    loaded.clear()
    capsys.readouterr()
    again = ("generate", TOY, "--resume", "--out", "part")
    other = refused(capsys, *again, "--set", "ascent.rms=0.08")
    assert "settings.ascent.rms was 0.07 when this run began and is 0.08 now" in other
    assert "settings.ascent.steps was 3" in refused(capsys, *again, "--steps", 9)
    assert "a run of bothways generate, not of edit" in refused(capsys, "edit", "--resume", "--out", "part")
    assert loaded == []


def test_the_newest_run_of_a_command_is_resumed(capsys: Any) -> None:
    assert run("generate", "bundled:cifar10-plain", "--class", "frog", *QUICK[2:]) == 0
    assert run("sample", "bundled:cifar10-flow", "--n", 1, "--steps", 1) == 0
    capsys.readouterr()
    assert run("generate", "--resume") == 0
    assert "runs/generate-001/report.html" in capsys.readouterr().out


def test_what_a_run_named_from_another_folder_is_said_to_lie_there(
    tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    """The line told to type a path, which was refused in turn, since it was not what the run had been given."""
    write_small_flow(tmp_path / "flow", size=8, channel_order="grey")
    assert run("sample", "flow", "--n", 1, "--steps", 1, "--out", tmp_path / "drawn") == 0
    assert run("likelihood", "flow", "--data", "digits", "--limit", 1, "--steps", 1, "--out", tmp_path / "bits") == 0
    capsys.readouterr()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    for task, name in (("sample", "drawn"), ("likelihood", "bits")):
        said = refused(capsys, task, "--resume", "--out", tmp_path / name)
        assert f"'flow' is not known here; the run in {tmp_path / name} named it from the folder in which it" in said
    with pytest.raises(UserError, match="bothways pretrain"):  # a run that begins has no such folder
        sample("flow", n=1)


def test_a_python_object_is_given_again(tmp_path: Path) -> None:
    def bright(images: torch.Tensor) -> torch.Tensor:
        return images.mean((1, 2, 3))

    out = tmp_path / "run"
    generate(TOY, "anchor", 1, objective=bright, steps=1, recipe="das", verdicts=False, out=out)
    with pytest.raises(UserError, match="objective was a Python object when this run began; give it again"):
        work_of("generate", out=out, resume=True)
    assert work_of("generate", out=out, resume=True, objective=bright).steps == 1


# ---- a run that is prolonged ---------------------------------------------------------------------------------------


def test_more_pictures_are_those_of_the_longer_run(tmp_path: Path) -> None:
    flow = str(write_small_flow(tmp_path / "flow"))
    sample(flow, 2, steps=2, out="part")
    more = sample(out="part", n=5, resume=True)
    assert torch.equal(more.images, sample(flow, 5, steps=2, out="whole").images)
    assert RunFolder.open("part").settings["settings"]["n"] == 5
    with pytest.raises(UserError, match=r"settings\.n was 5 when this run began and is 4 now"):
        sample(out="part", n=4, resume=True)


def test_more_pictures_of_a_class_are_those_of_the_longer_run(capsys: Any) -> None:
    own = ("bundled:cifar10-plain", "--recipe", "das", "--steps", 2, "--batch", 2, "--no-verdicts", "--class", "frog")
    assert run("generate", *own, "--n", 3, "--out", "part") == 0
    assert run("generate", "--resume", "--out", "part", "--n", 5) == 0
    assert run("generate", *own, "--n", 5, "--out", "whole") == 0
    for record in RunFolder.open("whole").pictures:
        assert torch.equal(*(RunFolder.open(out).read_picture(record) for out in ("whole", "part")))
    assert RunFolder.open("part").frames == RunFolder.open("whole").frames
    assert run("generate", *own, "ship", "--n", 1, "--out", "two") == 0
    capsys.readouterr()
    assert "one target alone" in refused(capsys, "generate", "--resume", "--out", "two", "--n", 2)


@pytest.mark.slow
def test_more_steps_at_a_constant_rate_are_those_of_the_longer_run(recwarn: pytest.WarningsRecorder) -> None:
    """With a schedule that depends on the length, a warning says that they are not."""
    own = ("--data", "digits", "--batch", 4, "--workers", 0, "--validation", 8, "--save-every", 2)
    constant = ("--set", "fit.schedule=constant", "--set", "fit.warmup=0")
    assert run("pretrain", *own, *constant, "--steps", 2, "--out", "short") == 0
    shutil.copytree("short", "long")
    assert run("pretrain", "--resume", "--steps", 4, "--out", "long") == 0
    assert run("pretrain", *own, *constant, "--steps", 4, "--out", "whole") == 0
    assert Path("long/flow.safetensors").read_bytes() == Path("whole/flow.safetensors").read_bytes()
    assert RunFolder.open("long").frames == RunFolder.open("whole").frames
    assert Path("short/flow.safetensors").read_bytes() != Path("whole/flow.safetensors").read_bytes()
    assert not [w for w in recwarn if "rates" in str(w.message)]
    assert json.loads(Path("long/given.json").read_text())["settings"]["fit"]["steps"] == 4


@pytest.mark.slow
def test_more_epochs_and_the_model_behind_the_judges() -> None:
    own = ("--data", "digits", "--batch", 512, "--workers", 0, "--validation", 8, "--save-every", 2)
    assert run("pretrain", *own, "--epochs", 1, "--out", "run") == 0
    assert run("pretrain", "--resume", "--epochs", 2, "--out", "run") == 0
    assert RunFolder.open("run").settings["settings"]["fit"]["steps"] == 4
    again = ("generate", "--out", "drawn", *QUICK, "--judge", "bundled:cifar10-resnet", TOY)
    assert run(*again) == run(*again, "--resume") == 0


@pytest.mark.slow
def test_epochs_that_are_fewer_steps_are_refused(capsys: Any) -> None:
    own = ("--data", "digits", "--batch", 512, "--workers", 0, "--validation", 8, "--save-every", 2)
    assert run("pretrain", *own, "--steps", 4, "--out", "run") == 0
    capsys.readouterr()
    said = refused(capsys, "pretrain", "--resume", "--epochs", 1, "--out", "run")
    assert "4 steps are made already; type --steps 5, or more" in said
    assert RunFolder.open("run").settings["settings"]["fit"]["steps"] == 4
