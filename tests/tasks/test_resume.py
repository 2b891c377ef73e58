"""A run that is cut short, by whatever, is gone on with to the same pictures, frames and verdicts, bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import bothways
from bothways import RunError, UserError, generate, load_model
from bothways.__main__ import main as begin
from bothways.cli import main
from bothways.report import write_report
from bothways.report.sections import Run
from bothways.runs import RunFolder
from bothways.synthesis import ascent as loop
from bothways.tasks.generate import drawing as drawing_room
from bothways.tasks.shelf import work_of

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"
CHOICES = ["--class", "anchor", "candle", "dragon", "--n", "2", "--batch", "2", "--recipe", "das", "--steps", "8"]
COMMAND = ["generate", TOY, *CHOICES, "--set", "ascent.optimizer=momentum", "--set", "ascent.step_noise=0.1", "--gif"]
STEPS, BATCHES = 8, 3

# The command line, saving after every step, and waiting for its end after a given number of frames.
HELD = """
import signal, sys, time
import torch
from safetensors.torch import save_file
signal.signal(signal.SIGINT, signal.default_int_handler)  # a process that was begun in the background ignores it
torch.set_num_threads(1)
from bothways.cli import main
from bothways.tasks.generate import drawing
from bothways.__main__ import main as begin
from bothways.runs import RunFolder
drawing.SECONDS_BETWEEN_SAVES = 0.0
frames_left, append = [int(sys.argv[1])], RunFolder.append_frame
def held(folder, frame):
    append(folder, frame)
    frames_left[0] -= 1
    if not frames_left[0]:
        sys.stderr.write("here"); sys.stderr.flush()
        time.sleep(100)
RunFolder.append_frame = held
main(sys.argv[2:])
"""


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as end:
        main([*map(str, arguments)])
    return int(end.value.code or 0)


def end_by(which: signal.Signals, out: Path, frames: int) -> tuple[int, str]:
    """Start the command in a process of its own and send it a signal after so many frames -> exit code, stderr."""
    environment = {**os.environ, "PYTHONPATH": str(Path(bothways.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", HELD, str(frames), *COMMAND, "--out", str(out)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=pipe, text=True, env=environment) as process:
        assert process.stderr is not None
        assert process.stderr.read(4) == "here"
        process.send_signal(which)
        return process.wait(), process.stderr.read()


def assert_same(found: Path, wanted: Path) -> None:
    """Everything but times and memory."""
    one, two = RunFolder.open(found), RunFolder.open(wanted)
    assert (one.status["state"], one.status["pictures"], one.status["of"]) == ("complete", 6, 6)
    names = sorted(p.name for p in (wanted / "images").iterdir())
    assert sorted(p.name for p in (found / "images").iterdir()) == names
    for name in names:
        assert (found / "images" / name).read_bytes() == (wanted / "images" / name).read_bytes()
    assert (found / "drawing.gif").read_bytes() == (wanted / "drawing.gif").read_bytes()
    for name in ("frames.jsonl", "pictures.jsonl", "recipe.toml"):
        assert (found / name).read_text() == (wanted / name).read_text()
    measured = [{key: value for key, value in folder.measures.items() if key != "cost"} for folder in (one, two)]
    assert measured[0] == measured[1]
    assert one.load_state() is None


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "run"
    assert run(*COMMAND, "--out", out) == 0
    frames = RunFolder.open(out).frames
    assert [(f["batch"], f["step"]) for f in frames] == [(b, s + 1) for b in range(BATCHES) for s in range(STEPS)]
    return out


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_end(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, _ = end_by(signal.SIGKILL, out, frames=STEPS + 5)  # in the middle of the second batch
    assert code == -signal.SIGKILL
    left = RunFolder.open(out)
    assert left.status["state"] == "running"
    assert [r["index"] for r in left.pictures if not r.get("unfinished")] == [0, 1]
    state = left.load_state()
    assert state is not None
    assert (state[1]["batch"], state[1]["step"]) == (1, 4)
    with (out / "frames.jsonl").open("ab") as file:
        file.write(b'{"batch": 1, "st')  # as a kill leaves a line
    assert run(*COMMAND, "--out", out, "--resume") == 0
    assert_same(out, whole)


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.slow
def test_an_interrupted_run_is_whole_and_goes_on_to_the_same_end(
    whole: Path, tmp_path: Path, by: signal.Signals
) -> None:
    out = tmp_path / "run"
    code, said = end_by(by, out, frames=STEPS + 3)
    assert code == 130
    assert "Traceback" not in said
    assert "--resume" in said
    left = RunFolder.open(out)
    assert left.status["state"] == "stopped"
    assert [r.get("unfinished", False) for r in left.pictures] == [False, False, True, True]
    assert {r["step"] for r in left.pictures if r.get("unfinished")} <= {2, 3}
    for record in left.pictures:
        assert left.read_picture(record).shape == (3, 16, 16)
    write_report([out], tmp_path / "page.html")
    assert run(*COMMAND, "--out", out, "--resume") == 0
    assert_same(out, whole)


def test_a_stop_before_there_is_a_run_promises_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It said to type --resume, which was then refused; while modules were imported it was a traceback."""

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    class Stopped:
        __getattr__ = stop

    with monkeypatch.context() as patched:
        patched.setattr("bothways.cli.run.begin", stop)
        assert run(*COMMAND, "--out", tmp_path / "run") == 130
        assert capsys.readouterr().err.strip() == "bothways: stopped"
        patched.setattr("bothways.cli.entry.expand_flags", stop)
        assert run(*COMMAND, "--out", tmp_path / "run") == 130
        assert capsys.readouterr().err.strip() == "bothways: stopped"
        patched.setitem(sys.modules, "bothways.cli", Stopped())
        with pytest.raises(SystemExit) as end:
            begin()
        assert end.value.code == 130


@pytest.mark.parametrize("place", ["_scaled", "step_length", "draws", "save"])
def test_an_interrupt_at_any_point_of_a_step_spoils_nothing(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A signal comes between any two instructions: half a step made must not be taken for a whole one."""
    owners = {"draws": (loop.Draws, "normal"), "save": (RunFolder, "append_frame")}
    owner, name = owners.get(place, (loop, place))
    original, calls = getattr(owner, name), [0]

    def interrupted(*arguments, **keywords):
        calls[0] += 1
        if calls[0] == 2 * STEPS + 5:
            raise KeyboardInterrupt
        return original(*arguments, **keywords)

    out = tmp_path / "run"
    with monkeypatch.context() as patched:
        patched.setattr(owner, name, interrupted)
        assert run(*COMMAND, "--out", out) == 130
    assert RunFolder.open(out).status["state"] == "stopped"
    assert run(*COMMAND, "--out", out, "--resume") == 0
    assert_same(out, whole)


def test_stopping_to_look_leaves_a_whole_folder(whole: Path, tmp_path: Path) -> None:
    """Whoever iterates may stop, and an error in what is done with a frame stops as well."""
    settings = {"n": 2, "batch": 2, "steps": STEPS, "optimizer": "momentum", "step_noise": "0.1", "gif": True}

    def enough(frame: bothways.Frame) -> None:
        if (frame.batch, frame.step) == (1, 4):
            raise LookupError("enough")

    out, model = tmp_path / "run", load_model(TOY)
    with pytest.raises(LookupError):
        generate(model, [0, 2, 3], recipe="das", out=out, on_frame=enough, **settings)
    assert RunFolder.open(out).status["state"] == "stopped"
    again = generate(model, [0, 2, 3], recipe="das", out=out, resume=True, **settings)
    assert_same(out, whole)
    kept = [(f["batch"], f["stats"]) for f in RunFolder.open(whole).frames]
    assert [(frame.batch, frame.stats) for frame in again.frames] == kept


def test_a_resumed_run_that_was_complete_draws_nothing(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a finished batch is drawn again")

    before = (whole / "frames.jsonl").read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(drawing_room, "ascend", refused)
        assert run(*COMMAND, "--out", whole, "--resume") == 0
    assert (whole / "frames.jsonl").read_bytes() == before
    assert_same(whole, whole)


def test_other_settings_are_no_resume(whole: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(*COMMAND, "--seed", "1", "--out", whole, "--resume") == 2
    assert "settings.seed was 0" in capfd.readouterr().err
    assert RunFolder.open(whole).status["state"] == "complete"


def test_a_model_that_fails_on_the_way(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    broken = TOY.replace(":build", ":broken")
    assert run("generate", broken, "--class", "1", "--n", "1", "--recipe", "pixels", "--steps", "9", "--out", out) == 1
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert "step 5" in lines[0]
    left = RunFolder.open(out)
    assert left.status["state"] == "failed"
    assert "step 5" in left.status["message"]
    assert [f["step"] for f in left.frames] == [1, 2, 3, 4]
    assert [(r["unfinished"], r["step"]) for r in left.pictures] == [(True, 4)]
    state = left.load_state()
    assert state is not None
    assert state[1]["step"] == 4
    assert all(bool(torch.isfinite(value).all()) for value in state[0].values())
    good = generate(TOY, 1, 1, "pixels", steps=9, out=tmp_path / "good")
    assert [f.stats["logit"] for f in good.frames[:4]] == [f["stats"]["logit"] for f in left.frames]
    json.loads((out / "status.json").read_text())
    write_report([out], tmp_path / "page.html")


def test_a_disk_that_is_full_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append, calls = RunFolder.append_frame, [0]

    def full(folder: RunFolder, frame: bothways.Frame) -> None:
        calls[0] += 1
        if calls[0] == 3:
            raise RunError("frames.jsonl: no space left on device; what was saved before is kept")
        append(folder, frame)

    monkeypatch.setattr(RunFolder, "append_frame", full)
    with pytest.raises(RunError, match="no space left"):
        generate(TOY, 0, 1, "das", steps=4, out=tmp_path / "run")
    assert RunFolder.open(tmp_path / "run").status["state"] == "failed"
    with pytest.raises(UserError, match="resume"):
        generate(TOY, 0, 1, "das", steps=4, out=tmp_path / "run")


def test_a_run_goes_on_with_the_weights_that_it_began_with(tmp_path: Path, capsys) -> None:
    held = load_model(TOY).module.state_dict()
    files = [tmp_path / name for name in ("one.safetensors", "two.safetensors")]
    for k, file in enumerate(files):
        save_file({key: value + k if value.is_floating_point() else value for key, value in held.items()}, file)
    out = tmp_path / "run"
    began = ["generate", TOY, "--class", "anchor", "--n", "1", "--steps", "1", "--recipe", "das", "--out", out]
    assert run(*began, "--weights", files[0]) == 0
    recipe = RunFolder.open(out).settings
    assert recipe["drawn"]["weights"] == str(files[0])
    again = ["generate", "--resume", "--out", out, "--allow-code", TOY.removesuffix(":build")]
    assert run(*again, "--weights", files[1]) == 2
    assert "drawn.weights was" in capsys.readouterr().err
    assert run(*again) == 0
    files[0].write_bytes(files[1].read_bytes())
    assert run(*again) == 2
    assert "model.weights was" in capsys.readouterr().err


def test_pictures_that_are_drawn_later_have_their_own_verdicts_on_the_page(tmp_path: Path) -> None:
    given = {"n": 1, "steps": 6, "recipe": "icons", "batch": 1, "judges": [], "out": tmp_path / "run"}
    names = ["frog", "cat", "ship"]
    generate("bundled:cifar10-resnet", names, only=[2], **given)
    work = work_of("generate", "bundled:cifar10-resnet", names, resume=True, **given)
    with closing(work.run()) as frames:
        next(frames)
    assert RunFolder.open(tmp_path / "run").measures == {}  # that of one picture says nothing of three
    result = generate("bundled:cifar10-resnet", names, resume=True, **given)
    run = Run.read(RunFolder.open(tmp_path / "run"))
    assert [record["class"] for record in run.pictures] == names
    shown = [run.section.calls_of(run.measures, place, record)[0] for place, record in enumerate(run.pictures)]
    assert [call["name"] for call in shown] == result.measures["judges"][0]["called_names"] == names
    assert all(call["hit"] for call in shown)
