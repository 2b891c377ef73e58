"""Pretraining: what it leaves is true, a stop at any moment costs nothing, and what cannot be is one line."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import bothways
from bothways import RunError, UserError, load_flow, pretrain, registry
from bothways.cli import main
from bothways.data.augmentations import StrongAugmentation
from bothways.data.images import Augmentation
from bothways.data.sources import load_images
from bothways.models.catalogue import spec_from
from bothways.models.nets.unet import SIZES, UNet
from bothways.numerics.draws import generator
from bothways.numerics.modules import compile_module
from bothways.report import write_report
from bothways.representation.couplings import coupling_of
from bothways.runs import RunFolder
from bothways.runs.files import replace_file
from bothways.tasks.pretrain.config import PretrainConfig
from bothways.tasks.pretrain.plan import plan_of
from bothways.tasks.pretrain.run import PretrainWork, held_losses
from bothways.tasks.recipes import configure, read_recipe, recipes
from bothways.tasks.shelf import work_of
from bothways.training.along import VALIDATION_SEED
from bothways.training.checkpoint import CHECKPOINT, Training
from bothways.training.fit import rates
from bothways.training.interrupts import deferred_interrupts
from bothways.types import PathWeights
from command import refused

RECIPE = """# Pretrains next to nothing
task = "pretrain"
seed = 3
path = "linear"
coupling = "ot"
[network]
builder = "unet"
width = 8
multiples = [1]
blocks = 1
attention = [1]
dropout = 0.1
[holdout]
validation = 7
[augmentation]
crop = 1
flip = true
[fit]
steps = 10
batch = 8
rate = 2e-3
average = 0.9
"""
SMALL = {"width": 8, "multiples": [1], "blocks": 1, "attention": []}
SAMPLE_STEPS = 8  # of the pictures drawn at the end; tests/test_golden.py holds those of the default
FILES = ("flow.safetensors", "flow.json", "frames.jsonl", "measures.json", "pictures.jsonl")


def write_pictures(
    folder: Path, count: int = 30, *, side: int = 8, grey: bool = True, level: float | None = None
) -> Path:
    """Smooth blobs, or pictures of one level."""
    folder.mkdir()
    source = torch.Generator().manual_seed(1)
    for index in range(count):
        rows, columns = (torch.arange(side) - side * torch.rand(1, generator=source) for _ in range(2))
        blob = torch.exp(-(rows[:, None] ** 2 + columns[None] ** 2) / 8)
        value = blob if level is None else torch.full_like(blob, level)
        shape = value[..., None].expand(-1, -1, 3) * (1 if grey else torch.rand(3, generator=source))
        Image.fromarray((255 * shape).round().byte().numpy()).save(folder / f"{index:03d}.png")
    return folder


@pytest.fixture(scope="module", autouse=True)
def _few_steps() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bothways.tasks.pretrain.run.SAMPLE_STEPS", SAMPLE_STEPS)
        yield


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with grey/, colour/ and tiny.toml."""
    folder = tmp_path_factory.mktemp("pretrain")
    write_pictures(folder / "grey")
    write_pictures(folder / "colour", 12, grey=False)
    (folder / "tiny.toml").write_text(RECIPE)
    return folder


def asked(place: Path, **others: Any) -> dict[str, Any]:
    return {"data": place / "grey", "recipe": str(place / "tiny.toml"), "workers": 0, "save_every": 4, **others}


@pytest.fixture(scope="module")
def whole(place: Path) -> Path:
    """The folder of an uninterrupted run by the command line, with a worker."""
    arguments = ["pretrain", str(place / "tiny.toml"), "--data", str(place / "grey"), "--save-every", "4"]
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--out", str(place / "whole")])
    assert end.value.code == 0
    return place / "whole"


def same(one: Path, other: Path) -> None:
    """Weights, average, optimiser, frames, pictures and loss are equal to the bit."""
    for name in FILES:
        if name == "measures.json":
            assert RunFolder.open(one).measures["flow"] == RunFolder.open(other).measures["flow"]
        else:
            assert (one / name).read_bytes() == (other / name).read_bytes(), name
    for picture in one.glob("images/*.png"):
        assert picture.read_bytes() == (other / "images" / picture.name).read_bytes()
    first, second = (leaves(torch.load(folder / CHECKPOINT, weights_only=True)) for folder in (one, other))
    assert len(first) == len(second) > 50  # and so it does compare something
    assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(first, second, strict=True))


def leaves(state: Any) -> list[Any]:
    if isinstance(state, dict):
        return [leaf for key in sorted(state, key=str) for leaf in leaves(state[key])]
    if isinstance(state, list | tuple):
        return [leaf for part in state for leaf in leaves(part)]
    return [state] if isinstance(state, Tensor | float | int) else []


# ---- what it leaves ------------------------------------------------------------------------------------------------


def rebuilt(folder: Path) -> UNet:
    card = json.loads((folder / "flow.json").read_text())
    network = UNet(**{key: value for key, value in card["network"].items() if key != "name"})
    network.load_state_dict(load_file(folder / "flow.safetensors"))
    return network.eval()


def test_the_files_and_the_truth_of_the_card(place: Path, whole: Path) -> None:
    written = {path.name for path in whole.iterdir()}
    assert written == {
        "recipe.toml",
        "files.txt",
        "given.json",
        ".lock",
        "status.json",
        "images",
        "report.html",
        CHECKPOINT,
        *FILES,
    }
    card, run = json.loads((whole / "flow.json").read_text()), RunFolder.open(whole)
    spec = spec_from(card["spec"])
    assert (spec.size, spec.path, spec.time_scale, spec.channel_order, spec.count) == (8, "linear", 1000.0, "grey", 0)
    assert card["network"]["channels"] == 1
    assert card["parameters"] == sum(p.numel() for p in rebuilt(whole).parameters())
    assert run.status["state"] == "complete"
    assert [frame["step"] for frame in run.frames] == list(range(1, 11))
    assert set(run.frames[0]["stats"]) == {"loss", "rate"}  # no speed: a run repeated has the same file
    assert run.settings["settings"]["fit"]["steps"] == 10
    assert run.settings["data"]["held_out"] == 7
    assert len(run.pictures) == 16


def test_the_weights_kept_are_the_average_and_the_pictures_are_its_own(whole: Path) -> None:
    network, checkpoint = rebuilt(whole), torch.load(whole / CHECKPOINT, weights_only=True)
    kept = {f"module.network.{key}": value for key, value in network.state_dict().items()}
    assert all(torch.equal(value, checkpoint["average"][key]) for key, value in kept.items())
    assert not torch.equal(kept["module.network.stem.weight"], checkpoint["network"]["network.stem.weight"])
    run = RunFolder.open(whole)
    seeds = [record["seed"] for record in run.pictures]
    x = torch.stack([torch.randn(1, 8, 8, generator=generator(seed, 0.0, "noise")) for seed in seeds])
    with torch.no_grad():
        for step in range(SAMPLE_STEPS):
            x = x + network(x, torch.full((16,), 1000 * step / SAMPLE_STEPS)) / SAMPLE_STEPS
    wanted = ((x + 1) / 2).clamp(0, 1).expand(-1, 3, -1, -1)
    found = torch.stack([run.read_picture(record) for record in run.pictures])
    assert (found - wanted).abs().max() < 0.51 / 255


def test_the_loss_is_that_of_the_pictures_held_out(place: Path, whole: Path) -> None:
    """Written out, in float64: sum over channels, mean over pixels, of half the squared error of the velocity."""
    data = load_images(place / "grey")
    held = data.images[torch.randperm(30, generator=generator(3, 0, "validation"))[:7]].float() / 255
    source = generator(VALIDATION_SEED, 0, "pairs")
    x = (
        2 * (held[:, :1] * 255 + torch.rand(7, 1, 8, 8, generator=source)) / 256 - 1
    )  # grey: one draw for three channels
    noise = torch.randn(x.shape, generator=source)
    t = (torch.arange(7) + torch.rand(7, generator=source)) / 7
    noise, t = noise[coupling_of("ot")(x, noise)].double(), t.double()
    with torch.no_grad():
        place_of = t.view(-1, 1, 1, 1) * x + (1 - t.view(-1, 1, 1, 1)) * noise
        error = rebuilt(whole).double()(place_of, 1000 * t) - (x - noise)
    losses = error.square().flatten(1).mean(1) / 2
    found = RunFolder.open(whole).measures["flow"]
    assert abs(found["validation_loss"] - losses.mean().item()) < 1e-5
    assert abs(found["validation_error"] - losses.std().item() / 7**0.5) < 1e-5
    assert found["validation_pictures"] == 7


def test_a_flow_learns_where_the_pictures_are(tmp_path: Path) -> None:
    """Pictures of one level: whatever the noise, the walk ends near it."""
    write_pictures(tmp_path / "level", 20, side=4, level=0.8)
    others = {"steps": 80, "batch": 16, "rate": 5e-3, "validation": 2, "workers": 0}
    small = {**SMALL, "width": 16}
    done = pretrain(tmp_path / "level", "icfm", network=small, average=0.9, out=tmp_path / "out", **others)
    pictures = torch.stack([done.folder.read_picture(record) for record in done.folder.pictures])
    assert abs(pictures.mean() - 0.8) < 0.08
    assert (pictures - 0.8).abs().mean() < 0.15  # of the noise it is .45
    assert done.frames[-1].stats["loss"] < 0.2 * done.frames[0].stats["loss"]


def test_from_python_and_without_a_worker_all_is_the_same(place: Path, whole: Path, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    done = bothways.pretrain(**asked(place), out=tmp_path / "out")
    assert torch.equal(torch.random.get_rng_state(), before)
    same(tmp_path / "out", whole)
    assert isinstance(done, bothways.Pretrained)
    assert [frame.step for frame in done.frames] == list(range(1, 11))
    assert not done.flow.training
    x, t = torch.randn(2, 1, 8, 8), torch.rand(2)
    with torch.no_grad():
        assert (done.flow(x, t) - rebuilt(whole)(x, 1000 * t)).abs().max() < 1e-6


def test_colour_and_bf16(place: Path, tmp_path: Path) -> None:
    others = {"data": place / "colour", "validation": 2, "batch": 4, "steps": 1, "bf16": True, "size": 4}
    done = pretrain(**asked(place, **others), out=tmp_path / "out")
    assert done.flow.spec.channel_order == "RGB"
    assert done.flow.spec.size == 4
    assert rebuilt(tmp_path / "out").stem.weight.shape[1] == 3
    assert {p.dtype for p in done.flow.parameters()} == {torch.float32}


@pytest.mark.parametrize("path", registry.names("path"))
@pytest.mark.parametrize("coupling", registry.names("coupling"))
def test_every_path_goes_with_every_coupling(place: Path, tmp_path: Path, path: str, coupling: str) -> None:
    work = begun(place, tmp_path / "out", path=path, coupling=coupling, epochs=1)
    assert [frame.step for frame in work.run()] == [1, 2]  # 23 pictures, 8 at a time
    assert work.flow.spec.path == path
    assert torch.isfinite(held_losses(work.planned, work.flow, work.planned.held)).all()


# ---- stopped, killed, resumed --------------------------------------------------------------------------------------


def begun(place: Path, out: Path, **changes: Any) -> PretrainWork:
    work = work_of("pretrain", **asked(place, **changes), out=out)
    assert isinstance(work, PretrainWork)
    return work


def test_a_run_closed_between_two_steps_goes_on_to_the_same_flow(place: Path, whole: Path, tmp_path: Path) -> None:
    frames = begun(place, tmp_path / "out").run()
    shown = [next(frames) for _ in range(6)]
    assert [frame.step for frame in shown] == [1, 2, 3, 4, 5, 6]
    assert all(frame.stats["images/s"] > 0 for frame in shown)
    frames.close()
    run = RunFolder.open(tmp_path / "out")
    assert (run.status["state"], run.status["step"]) == ("stopped", 6)
    assert torch.load(run.path / CHECKPOINT, weights_only=True)["step"] == 6
    with pytest.raises(UserError, match="--resume"):
        begun(place, tmp_path / "out")
    work = begun(place, tmp_path / "out", resume=True, workers=1)
    assert work.done == 6
    assert [frame.step for frame in work.run()] == [7, 8, 9, 10]
    work.finish()
    same(run.path, whole)


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_in_the_middle_of_a_step_waits_for_its_end(
    place: Path, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: signal.Signals
) -> None:
    """Also one that comes twice, and again while the checkpoint is written, as from a scheduler and its launcher."""
    work, save = begun(place, tmp_path / "out", save_every=100), Training.save

    def interrupted(network: Any, batch: Any) -> Any:
        if work.training.state.step == 2:
            signal.raise_signal(by)
            signal.raise_signal(by)
        return work.planned.loss(network, batch)

    def saved(training: Training) -> None:
        signal.raise_signal(by)
        save(training)

    work.training.loss = interrupted
    monkeypatch.setattr(Training, "save", saved)

    before = signal.signal(by, signal.default_int_handler)  # a shell's background job ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            list(work.run())
        assert signal.getsignal(by) is signal.default_int_handler
    finally:
        signal.signal(by, before)
    monkeypatch.undo()
    run = RunFolder.open(tmp_path / "out")
    assert run.status["state"] == "stopped"
    assert torch.load(run.path / CHECKPOINT, weights_only=True)["step"] == 3
    pretrain(**asked(place), out=tmp_path / "out", resume=True)
    same(run.path, whole)


def test_a_second_interrupt_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bothways.training.interrupts.SECONDS_APART", -1.0)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with deferred_interrupts() as noted:
            signal.raise_signal(signal.SIGINT)
            assert noted == [signal.SIGINT]
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.slow
def test_a_run_killed_at_once_goes_on_to_the_same_flow(place: Path, whole: Path, tmp_path: Path) -> None:
    """SIGKILL comes after a checkpoint and between two of them; the frames in between are made again."""
    out, program = tmp_path / "out", (
        "import sys, time\n"
        "from bothways.training.checkpoint import Training\n"
        "keep = Training._keep\n"
        "def slowly(self, frame):\n"
        "    told = keep(self, frame)\n"
        "    time.sleep(60 if frame.step == 6 else 0)\n"
        "    return told\n"
        "Training._keep = slowly\n"
        "from bothways.cli import main\n"
        "main(sys.argv[1:])\n"
    )  # fmt: skip
    arguments = ["pretrain", str(place / "tiny.toml"), "--data", str(place / "grey"), "--save-every", "4"]
    process = subprocess.Popen([sys.executable, "-c", program, *arguments, "--out", str(out)])
    try:
        deadline = time.monotonic() + 60
        while len(RunFolder(out).frames) < 6 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
    finally:
        process.kill()
        process.wait()
    run = RunFolder.open(out)
    assert process.returncode == -signal.SIGKILL
    assert run.status["state"] == "running"
    assert len(run.frames) == 6
    assert torch.load(out / CHECKPOINT, weights_only=True)["step"] == 4
    assert load_file(out / "flow.safetensors").keys() == load_file(whole / "flow.safetensors").keys()
    with pytest.raises(SystemExit) as end:
        main([*arguments, "--out", str(out), "--resume"])
    assert end.value.code == 0
    same(out, whole)


def test_a_kill_between_the_two_files_of_the_last_step_loses_neither(
    place: Path, whole: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    work = begun(place, tmp_path / "out")
    written = []

    def killed(path: Path, content: bytes) -> None:
        if work.training.state.step == 10:
            written.append(path.name)
            if len(written) == 2:
                raise KeyboardInterrupt
        replace_file(path, content)

    for module in ("training.checkpoint", "tasks.pretrain.run"):
        monkeypatch.setattr(f"bothways.{module}.replace_file", killed)
    with pytest.raises(KeyboardInterrupt):
        list(work.run())
    monkeypatch.undo()
    assert len(written) == 2
    pretrain(**asked(place), out=tmp_path / "out", resume=True)
    same(tmp_path / "out", whole)


def test_a_complete_run_that_is_resumed_stays_what_it_was(place: Path, whole: Path, tmp_path: Path) -> None:
    shutil.copytree(whole, tmp_path / "out")
    work = begun(place, tmp_path / "out", resume=True, workers=1)
    assert list(work.run()) == []
    work.finish()
    same(tmp_path / "out", whole)
    assert RunFolder.open(tmp_path / "out").status["state"] == "complete"


def test_overwriting_leaves_no_checkpoint_for_another_recipe(
    place: Path, whole: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """Killed before the new recipe is there, it leaves nothing that could be taken up by it."""
    shutil.copytree(whole, tmp_path / "out")

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "_begin", killed)
    with pytest.raises(KeyboardInterrupt):
        begun(place, tmp_path / "out", steps=5, overwrite=True)
    assert [file.name for file in (tmp_path / "out").iterdir()] == [".lock"]


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # within torch.compile
@pytest.mark.slow
def test_a_compiled_network_is_trained_alike_and_resumed(place: Path, tmp_path: Path, monkeypatch: Any) -> None:
    backends = []

    def compiled(network: Any) -> None:
        backends.append(network)
        compile_module(network, "eager")

    monkeypatch.setattr("bothways.tasks.pretrain.run.compile_module", compiled)
    out, given = tmp_path / "out", {"steps": 4, "compile": True}
    plain, other = begun(place, tmp_path / "plain", steps=4), begun(place, out, **given)
    wanted = [frame.stats["loss"] for frame in plain.run()]
    with closing(other.run()) as frames:
        losses = [next(frames).stats["loss"] for _ in range(2)]
    assert backends == [other.planned.flow.network]
    assert other.planned.flow.network._compiled_call_impl is not None
    rest = begun(place, out, **given, resume=True)
    losses += [frame.stats["loss"] for frame in rest.run()]
    assert losses == pytest.approx(wanted, rel=1e-5)
    one, two = (load_file(tmp_path / name / "flow.safetensors") for name in ("plain", "out"))
    assert one.keys() == two.keys()
    assert max((one[key] - two[key]).abs().max().item() for key in one) < 1e-4


@pytest.mark.filterwarnings("ignore:no memory was left")
def test_no_memory_is_one_line_that_says_what_to_type(place: Path, tmp_path: Path) -> None:
    work = begun(place, tmp_path / "out")

    def large(network: Any, batch: Any) -> Any:
        if work.training.state.step == 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return work.planned.loss(network, batch)

    work.training.loss = large
    said = "out of memory with 1 picture at once; take a smaller network, or another --device; the checkpoint of step 4"
    with pytest.raises(RunError, match=f"{said} is kept"):
        list(work.run())


def test_a_flow_without_weights_yet_says_so_and_another_run_is_refused(
    place: Path, tmp_path: Path, capsys: Any
) -> None:
    begun(place, tmp_path / "begun")
    RunFolder.create(tmp_path / "drawn", {"task": "generate", "settings": {"recipe": "das"}})
    for name, says in (("begun", "has no weights yet"), ("drawn", "has no flow.json")):
        with pytest.raises(SystemExit) as end:
            main(["sample", str(tmp_path / name), "--out", str(tmp_path / "out")])
        said = capsys.readouterr().err
        assert end.value.code == 2
        assert says in said
        assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_run_that_was_stopped_is_shown_as_a_training(place: Path, tmp_path: Path) -> None:
    with closing(begun(place, tmp_path / "out").run()) as frames:
        next(frames)
    page = write_report([tmp_path / "out"], tmp_path / "page.html").read_text().split("<script>")[0]
    assert "trained tiny for 1 step in" in page
    assert "Statistics during training" in page
    assert "drew" not in page


def test_what_a_flow_rests_on_is_cited(whole: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit) as end:
        main(["cite", str(whole)])
    said = capsys.readouterr().out
    assert end.value.code == 0
    assert all(key in said for key in ("lipman2023flow", "xue2024pretrained", "tong2024improving"))
    assert "gvp" not in said
    assert "lipman2023flow" in (whole / "report.html").read_text()


def test_a_loss_that_is_not_finite_keeps_the_last_checkpoint_and_names_it(place: Path, tmp_path: Path) -> None:
    work = begun(place, tmp_path / "out")

    def broken(network: Any, batch: Any) -> Any:
        value, stats = work.planned.loss(network, batch)
        return (value * float("nan") if work.training.state.step == 5 else value), stats

    work.training.loss = broken
    with pytest.raises(RunError) as said:
        list(work.run())
    path = tmp_path / "out" / CHECKPOINT
    assert str(said.value).startswith("the loss is nan at step 6; lower the rate")
    assert str(said.value).endswith(f"the checkpoint of step 4 is kept in {path}")
    assert all(bool(torch.isfinite(leaf).all()) for leaf in leaves(torch.load(path)) if isinstance(leaf, Tensor))
    status = RunFolder.open(path.parent).status
    assert (status["state"], status["message"]) == ("failed", str(said.value))


def test_a_run_is_prolonged_and_overwriting_forgets(place: Path, tmp_path: Path) -> None:
    list(begun(place, tmp_path / "out", steps=3).run())
    with pytest.warns(UserWarning, match="its first 3 had the rates of a run of 3"):
        assert len(list(begun(place, tmp_path / "out", steps=5, resume=True).run())) == 2
    assert RunFolder.open(tmp_path / "out").settings["settings"]["fit"]["steps"] == 5
    with pytest.raises(UserError, match=r"settings.fit.steps was 5 when this run began and is 4 now"):
        pretrain(**asked(place, steps=4), out=tmp_path / "out", resume=True)
    begun(place, tmp_path / "out", steps=5, overwrite=True)
    assert not (tmp_path / "out" / CHECKPOINT).exists()
    assert not (tmp_path / "out" / "flow.safetensors").exists()
    assert begun(place, tmp_path / "out", steps=5, resume=True).done == 0
    (tmp_path / "out" / CHECKPOINT).write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match="cannot be loaded") as said:
        begun(place, tmp_path / "out", steps=5, resume=True)
    assert "\n" not in str(said.value)


def test_tensorboard_shows_the_same_numbers(place: Path, tmp_path: Path) -> None:
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    frames = list(begun(place, tmp_path / "out", steps=3, tensorboard=True).run())
    events = reader.EventAccumulator(str(tmp_path / "out" / "tensorboard")).Reload()
    found = {event.step: event.value for event in events.Scalars("loss")}
    assert found.keys() == {1, 2, 3}
    assert max(abs(found[frame.step] - frame.stats["loss"]) for frame in frames) < 1e-7
    begun(place, tmp_path / "out", steps=3, overwrite=True)
    assert list((tmp_path / "out").glob("tensorboard/events*")) == []


def test_without_tensorboard_the_line_says_what_to_install(monkeypatch: Any, place: Path, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UserError, match=r'pip install "bothways\[tensorboard\]"'):
        begun(place, tmp_path / "out", tensorboard=True)
    assert not (tmp_path / "out").exists()


# ---- a path and a coupling of one's own ----------------------------------------------------------------------------

OWN = """
import torch
from bothways.types import PathWeights

def sine(t):
    place = torch.pi / 2 * t
    return PathWeights(place.sin(), place.cos(), torch.pi / 2 * place.cos(), -torch.pi / 2 * place.sin())

def turned(images, noise):
    return torch.arange(len(images)).roll(1)
"""


def sine(t: Tensor) -> PathWeights:
    place = torch.pi / 2 * t
    return PathWeights(place.sin(), place.cos(), torch.pi / 2 * place.cos(), -torch.pi / 2 * place.sin())


def turned(images: Tensor, noise: Tensor) -> Tensor:
    return torch.arange(len(images)).roll(1)


def test_a_recipe_may_name_a_path_and_a_coupling_of_ones_own_file(place: Path, tmp_path: Path) -> None:
    (tmp_path / "my.py").write_text(OWN)
    own = {name: f"{tmp_path / 'my.py'}:{name}" for name in ("sine", "turned")}
    recipe = RECIPE.replace('path = "linear"', f'path = "{own["sine"]}"')
    (tmp_path / "own.toml").write_text(recipe.replace('coupling = "ot"', f'coupling = "{own["turned"]}"'))
    done = pretrain(**asked(place, recipe=tmp_path / "own.toml", steps=1), out=tmp_path / "out")
    settings, card = done.folder.settings["settings"], json.loads((tmp_path / "out" / "flow.json").read_text())
    assert (settings["path"], settings["coupling"]) == (own["sine"], own["turned"])
    assert (card["spec"]["path"], card["recipe"]["coupling"]) == (own["sine"], own["turned"])
    t = torch.tensor([0.2, 0.7])
    assert all(torch.equal(a, b) for a, b in zip(load_flow(tmp_path / "out").path(t), sine(t), strict=True))
    assert not any("albergo2023" in entry for entry in done.measures["citations"])
    with pytest.raises(SystemExit) as end:
        main(["pretrain", str(place / "tiny.toml"), "--data", str(place / "grey"), "--path", own["sine"], "--steps",
              "1", "--workers", "0", "--out", str(tmp_path / "typed")])  # fmt: skip
    assert end.value.code == 0
    assert load_flow(tmp_path / "typed").spec.path == own["sine"]


def test_functions_give_the_flow_of_the_path_that_they_are(place: Path, tmp_path: Path) -> None:
    """The same weights as by the package's gvp, whose path this is, with a worker that pairs too."""
    own = pretrain(**asked(place, path=sine, coupling=turned, workers=1, steps=2), out=tmp_path / "own")
    assert own.folder.settings["settings"]["coupling"] == "turned"
    with pytest.raises(UserError, match=r"'sine' is not known.*give path=sine") as said:
        load_flow(tmp_path / "own")
    assert "\n" not in str(said.value)
    x, t = torch.randn(2, 1, 8, 8), torch.rand(2)
    found = load_flow(tmp_path / "own", path=sine)
    with torch.no_grad():
        assert (found(x, t) - own.flow(x, t)).abs().max() < 1e-6
    assert found.path is sine
    gvp = pretrain(**asked(place, path="gvp", coupling=turned, steps=2), out=tmp_path / "gvp")
    losses = [[frame.stats["loss"] for frame in done.frames] for done in (own, gvp)]
    assert max(abs(a - b) for a, b in zip(*losses, strict=True)) < 1e-5


# ---- recipes and mistakes ------------------------------------------------------------------------------------------


def settings(**given: Any) -> PretrainConfig:
    return configure(PretrainConfig, data="digits", **given)


def test_the_papers_three_differ_in_path_and_coupling_alone() -> None:
    names = {"icfm": ("linear", "independent"), "otcfm": ("linear", "ot"), "gvp": ("gvp", "independent")}
    assert recipes("pretrain").keys() == {*names, "cifar10-flow", "prg-paper-flow"}
    tables = {name: read_recipe(name, "pretrain") for name in names}
    assert {name: (table.pop("path"), table.pop("coupling")) for name, table in tables.items()} == names
    assert tables["icfm"] == tables["otcfm"] == tables["gvp"]
    assert all(settings(recipe=name).recipe == name for name in names)


def test_the_papers_recipe_is_the_papers() -> None:
    """Of the text and the released code: Adam at a constant rate without decay, average or clip."""
    paper = settings(recipe="prg-paper-flow")
    fit, augmentation = paper.fit, paper.augmentation
    assert (fit.optimizer, fit.betas, fit.weight_decay, fit.epochs, fit.batch) == ("adamw", (0.9, 0.999), 0, 1000, 256)
    assert (fit.average, fit.clip) == (0, 0)
    assert {rates(fit.resolved(1024))(step) for step in range(4000)} == {1e-4}
    assert (augmentation.strength, augmentation.erase_chance, augmentation.flip) == (9, 0.25, True)
    assert (paper.path, paper.coupling, paper.net) == ("linear", "independent", "unet-m")
    assert settings(recipe="prg-paper-flow", net="unet-s", coupling="ot").net == "unet-s"


def test_the_pictures_of_a_flow_take_the_strong_augmentation(place: Path) -> None:
    """After the plain one, by the same source; without it the plain one alone, which can be sent to a process."""
    made = {"data": place / "grey", "recipe": "icfm", "validation": 2, "batch": 4, "crop": 1, "flip": True}
    strong, plain = (
        plan_of(configure(PretrainConfig, **made, **own)) for own in ({"strength": 9, "erase_chance": 0.5}, {})
    )
    images = torch.rand(8, 3, 8, 8, generator=generator(4))
    source = generator(5)
    wanted = StrongAugmentation(crop=0, flip=False, strength=9, erase=0.5)(
        Augmentation(crop=1, flip=True)(images, source), source
    )
    assert torch.equal(pickle.loads(pickle.dumps(strong.augmentation))(images, generator(5)), wanted)
    assert plain.augmentation == Augmentation(crop=1, flip=True)
    with pytest.raises(UserError, match="strength=11"):
        plan_of(configure(PretrainConfig, **made, strength=11)).augmentation  # noqa: B018


def test_the_words_that_settings_allow_are_those_that_exist(capsys: Any, monkeypatch: Any) -> None:
    for name in registry.names("path"):
        assert settings(path=name).path == name
    for name in registry.names("coupling"):
        assert settings(coupling=name).coupling == name
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        main(["pretrain", "--help"])
    said = capsys.readouterr().out
    assert all(name in said for name in (*SIZES, "bothways pretrain gvp", "torchrun"))


@pytest.mark.parametrize(("side", "net"), [(8, "unet-tiny"), (16, "unet-tiny"), (32, "unet-small")])
def test_the_network_fits_the_pictures(place: Path, side: int, net: str) -> None:
    plan = plan_of(configure(PretrainConfig, data=place / "grey", recipe="icfm", size=side, validation=2, batch=4))
    assert plan.config.net == net
    assert plan.network["width"] == SIZES[net]["width"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--path", "liner"], "type linear"),
        (["--coupling", "oot"], "type ot"),
        (["--net", "unet-tyni"], "unet-tiny"),
        (["--net", "unet-small", "--size", "10"], "multiples of 4; type --size 8"),
        (["--net", "unet-tiny", "--size", "9"], "multiples of 2; type --size 8"),
        (["--batch", "24"], "more than the 23 pictures"),
        (["--validation", "40"], "more than the 0 pictures"),
        (["--validation", "1"], "validation=1"),
        (["--rate", "-1"], "rate=-1"),
        (["--steps", "3", "--epochs", "2"], "contradict each other"),
        (["--device", "cuda:9"], "type --device cpu"),
        (["--data", "nowhere"], "'nowhere' does not exist"),
        (["--resume", "--overwrite"], "contradict each other"),
    ],
)
def test_what_cannot_be_is_one_line_and_nothing_is_written(
    place: Path, tmp_path: Path, capsys: Any, arguments: list[str], says: str
) -> None:
    given = ["pretrain", str(place / "tiny.toml"), "--data", str(place / "grey"), "--out", str(tmp_path / "out")]
    assert says in refused(capsys, *given, *arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("width = 8", "widht = 8", "widht"),
        ("width = 8", "width = 'wide'", "cannot train"),
        ("width = 8", "width = 9", "gives no velocity"),
        ('builder = "unet"', 'builder = "unett"', "unett"),
        ("crop = 1", "crops = 1", "crops"),
        ("crop = 1", "crop = 8", "less than the side of 8 pixels"),
        ("crop = 1", "crop = 'far'", "augmentation.crop='far'"),
        ("[holdout]\nvalidation = 7", "[[holdout]]\nvalidation = 7", "holdout is no table; write [holdout]"),
        ("rate = 2e-3", "speed = 2e-3", "no setting 'fit.speed'"),
        ("steps = 10", "", "type --epochs"),
        ('task = "pretrain"', 'task = "train"', 'task = "pretrain"'),
    ],
)
def test_a_bad_recipe_is_one_line(place: Path, tmp_path: Path, old: str, new: str, says: str) -> None:
    assert old in RECIPE
    (tmp_path / "bad.toml").write_text(RECIPE.replace(old, new))
    with pytest.raises(UserError) as said:
        pretrain(place / "grey", str(tmp_path / "bad.toml"), out=tmp_path / "out")
    assert says in str(said.value)
    assert "\n" not in str(said.value)
    assert not (tmp_path / "out").exists()


def test_a_dry_run_says_all_and_writes_nothing(place: Path, tmp_path: Path, capsys: Any) -> None:
    with pytest.raises(SystemExit) as end:
        main(["pretrain", "--data", str(place / "grey"), "--validation", "2", "--batch", "8", "--dry-run",
              "--out", str(tmp_path / "out")])  # fmt: skip
    said = capsys.readouterr().out
    assert end.value.code == 0
    assert '"coupling": "ot"' in said
    assert "of unet-tiny would be trained on 28 pictures, 5000 steps of 8" in said
    assert os.listdir(tmp_path) == []  # noqa: PTH208
