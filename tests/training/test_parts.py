"""Where no memory is left for a step of a training, it is made in more parts, and is the same step."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bothways.numerics.draws import generator
from bothways.processes.group import Processes
from bothways.report import write_report
from bothways.runs import RunFolder
from bothways.runs.files import to_png
from bothways.tasks.pretrain.plan import Pretraining
from bothways.tasks.shelf import work_of
from bothways.training.checkpoint import CHECKPOINT
from bothways.training.config import FitConfig
from bothways.training.fit import FitState, fit
from bothways.types import RunError
from command import run

ROWS, STEPS = 12, 4
KINDS: tuple[Callable[[], Exception], ...] = (
    lambda: torch.OutOfMemoryError("CUDA out of memory"),
    lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:118] err == 0. DefaultCPUAllocator: can't allocate memory"),
    MemoryError,
)


class Full(torch.autograd.Function):
    """Values as they are, for which no memory is left in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")


def network(*more: nn.Module) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), *more, nn.Linear(8, 2)).double()


def batch(step: int) -> tuple[Tensor, ...]:
    """Rows with their classes, and twice as many others."""
    source = generator(1, step, "rows")
    rows, more = (torch.randn(count, 3, generator=source, dtype=torch.float64) for count in (ROWS, 2 * ROWS))
    return rows, (rows[:, 0] > 0).long(), more


class Loss:
    """A loss with room for so many rows from a step on; sizes: the rows that it was given, in turn."""

    def __init__(self, room: int = ROWS, error: Callable[[], Exception] = MemoryError, *, late: bool = False) -> None:
        self.room, self.error, self.late = room, error, late
        self.sizes: list[int] = []

    def __call__(self, net: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        rows, classes, more = given
        self.sizes.append(len(rows))
        logits = net(rows)
        if len(rows) > self.room:
            if not self.late:
                raise self.error()
            logits = Full.apply(logits)
        other = net(more).square().mean()
        return F.cross_entropy(logits, classes) + 0.3 * other, {"other": other}


def made(loss: Loss, *more: nn.Module, **settings: Any) -> tuple[FitState, list[dict[str, float]]]:
    config = FitConfig(steps=STEPS, batch=ROWS, rate=1e-2, average=0.9, clip=0.1, **settings)
    state = FitState(network(*more), config)
    return state, [dict(frame.stats) for frame in fit(state, loss, batch, config)]


def apart(one: nn.Module, other: nn.Module) -> float:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max((a - b).abs().max().item() for a, b in pairs)


# ---- one step after another ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True])
def test_a_step_in_more_parts_is_the_same_step(late: bool) -> None:
    """In float64 to rounding the step of the whole, and to the bit that of a training in so many parts."""
    (whole, once), (parts, planned) = made(Loss()), made(Loss(), accumulate=4)
    loss = Loss(3, lambda: torch.OutOfMemoryError("CUDA out of memory"), late=late)
    with pytest.warns(UserWarning, match="no memory was left") as said:
        halved, stats = made(loss)
    assert [str(one.message) for one in said] == [
        "no memory was left for 12 pictures at once in step 1; from there on a step is made in 4 parts, the same step "
        "but for rounding"
    ]
    assert loss.sizes == [12, 6, *[3] * 4 * STEPS]  # each step after the first in parts from the start
    assert apart(halved.result, whole.result) < 1e-9
    assert apart(halved.result, parts.result) == apart(halved.network, parts.network) == 0.0
    assert stats == planned
    assert all(abs(a[key] - b[key]) < 1e-6 for a, b in zip(stats, once, strict=True) for key in b)


@pytest.mark.parametrize("error", KINDS)
@pytest.mark.filterwarnings("ignore:no memory was left")
def test_every_way_of_saying_so_is_known(error: Callable[[], Exception]) -> None:
    assert made(Loss(6, error))[0].parts == 2
    assert made(Loss(2, error), accumulate=3)[0].parts == 6  # twice as many
    assert made(Loss(1, error), accumulate=4)[0].parts == 12  # the least number from 8 on that divides the rows


def test_nothing_else_is_tried_again() -> None:
    with pytest.raises(RuntimeError, match="something else"):
        made(Loss(6, lambda: RuntimeError("something else")))
    loss = Loss(0)
    with pytest.raises(MemoryError):  # and nothing is said of parts that do not fit either: a warning is an error here
        made(loss)
    assert loss.sizes == [12, 6, 3, 1]


def test_dropout_draws_others_and_the_note_says_so() -> None:
    with pytest.warns(UserWarning, match="the same step but for rounding and the draws of its dropout"):
        halved, _ = made(Loss(6), nn.Dropout(0.5))
    assert apart(halved.network, made(Loss(), nn.Dropout(0.5), accumulate=2)[0].network) == 0.0


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(8), nn.BatchNorm1d(8, track_running_stats=False)])
def test_what_normalises_over_the_batch_is_not_divided(layer: nn.Module) -> None:
    config = FitConfig(steps=STEPS, batch=ROWS, rate=1e-2, average=0.0)
    state = FitState(network(layer), config)
    before = copy.deepcopy(dict(state.network.named_parameters()))
    said = (
        r"out of memory with 12 pictures at once; they are not divided, since 2 \(BatchNorm1d\) normalises over them: "
        "type a smaller --batch, or --accumulate 2 to normalise over fewer"
    )
    with pytest.raises(RunError, match=said):
        list(fit(state, Loss(6), batch, config))
    assert all(torch.equal(value, before[name]) for name, value in state.network.named_parameters())


def test_a_frozen_normalisation_is_divided() -> None:
    class Frozen(nn.BatchNorm1d):
        def train(self, mode: bool = True) -> Frozen:
            return super().train(False)

    with pytest.warns(UserWarning, match="in 2 parts"):
        halved, _ = made(Loss(6), Frozen(8).eval())
    assert apart(halved.network, made(Loss(), Frozen(8).eval())[0].network) < 1e-9


def test_one_of_several_processes_takes_no_more_parts_alone() -> None:
    config = FitConfig(steps=STEPS, batch=ROWS, rate=1e-2)
    with pytest.raises(MemoryError):
        list(fit(FitState(network(), config), Loss(6), batch, config, processes=Processes(0, 2)))


# ---- a run ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parts") / "pictures"
    folder.mkdir()
    for k in range(24):
        (folder / f"{k:02d}.png").write_bytes(to_png(torch.rand(3, 8, 8, generator=generator(3, k, "picture"))))
    return folder


TRAINED = {
    "net": "unet-tiny", "batch": 4, "validation": 8, "workers": 0, "steps": 4, "save_every": 1, "rate": 1e-3,
}  # fmt: skip


def crowded(patch: pytest.MonkeyPatch, when: Callable[[int], bool], room: int = 2) -> list[int]:
    """Room for so many pictures at once in those steps; what is returned fills with the pictures of every try."""
    plain, sizes = Pretraining.loss, list[int]()

    def loss(planned: Pretraining, net: nn.Module, given: tuple[Tensor, ...]) -> Any:
        sizes.append(len(given[0]))
        if len(given[0]) > room and when(len(sizes)):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(planned, net, given)

    patch.setattr(Pretraining, "loss", loss)
    return sizes


def begun(data: Path, out: Path, **more: Any) -> Any:
    return work_of("pretrain", data=data, out=out, **TRAINED, **more)


@pytest.mark.filterwarnings("ignore:no memory was left")
@pytest.mark.slow
def test_a_resumed_run_goes_on_in_as_many_parts(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit that of a run that was not stopped, though there is room again."""
    monkeypatch.setattr("bothways.tasks.pretrain.run.SAMPLE_STEPS", 2)
    for name, stopped in (("whole", None), ("stopped", 3)):
        with monkeypatch.context() as patch:
            crowded(patch, lambda number: number == 2)
            work = begun(pictures, tmp_path / name)
            with closing(work.run()) as frames:
                for frame in frames:
                    if frame.step == stopped:
                        break
            if stopped is None:
                work.finish()
    sizes = crowded(monkeypatch, lambda number: False)
    again = begun(pictures, tmp_path / "stopped", resume=True)
    list(again.run())
    assert sizes == [2, 2]  # of the one step that was left
    again.finish()
    assert (tmp_path / "stopped" / "flow.safetensors").read_bytes() == (
        tmp_path / "whole" / "flow.safetensors"
    ).read_bytes()
    note = "no memory was left for 4 pictures at once in step 2; from there on a step is made in 2 parts"
    for name in ("whole", "stopped"):
        notes = RunFolder(tmp_path / name).measures["notes"]
        assert [one.partition(",")[0] for one in notes] == [note]
        write_report([tmp_path / name], tmp_path / name / "report.html")
        assert note in (tmp_path / name / "report.html").read_text("utf-8")


def test_a_checkpoint_says_parts_only_where_no_memory_was_left(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = begun(pictures, tmp_path / "out")
    list(work.run())
    plain = torch.load(tmp_path / "out" / CHECKPOINT, weights_only=True)
    assert set(plain) == {"step", "network", "optimizers", "average"}


@pytest.mark.filterwarnings("default")  # as a shell has it
def test_the_command_says_so_in_a_line(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("bothways.tasks.pretrain.run.SAMPLE_STEPS", 2)
    crowded(monkeypatch, lambda number: True)
    flags = [part for name, value in TRAINED.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    assert run("pretrain", "--data", pictures, *flags, "--out", tmp_path / "out", "--json") == 0
    said = capsys.readouterr()
    assert said.err.count("note: no memory was left for 4 pictures at once in step 1") == 1
    assert len(json.loads(said.out)["notes"]) == 1


@pytest.mark.parametrize("error", KINDS)
@pytest.mark.filterwarnings("ignore:no memory was left")
@pytest.mark.slow
def test_no_memory_for_one_picture_ends_in_a_line(
    error: Callable[[], Exception], pictures: Path, tmp_path: Path
) -> None:
    work = begun(pictures, tmp_path / "out")

    def full(net: nn.Module, given: tuple[Tensor, ...]) -> Any:
        raise error()

    work.training.loss = full
    with pytest.raises(RunError, match=r"^out of memory with 1 picture at once; take a smaller network, or another"):
        list(work.run())
