"""The plan of a training in part, in parts of a batch and in shares, beside what a real step of it takes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as distributed
from torch.distributed.tensor import DTensor
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import bothways
from bothways import UserError
from bothways.processes.group import Processes
from bothways.tasks.plan.config import PlanConfig
from bothways.tasks.plan.devices import BY_NAME, Device
from bothways.tasks.plan.estimate import counted
from bothways.tasks.plan.probe import probed
from bothways.tasks.plan.run import ROOM
from bothways.tasks.plan.subject import Subject, subject_of
from bothways.training.fit import FitState, fit
from command import refused, run
from small_recipe import WITHOUT_ATTENTION
from zoo import stand_in_for_torchvision

BATCH = 32


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("recipes") / "small.toml"
    file.write_text(WITHOUT_ATTENTION)
    return str(file)


@pytest.fixture(autouse=True)
def _peft(request: pytest.FixtureRequest) -> None:
    if "lora " in request.node.name or "adapters" in request.node.name:
        stand_in_for_torchvision()
        pytest.importorskip("peft")


def finetuning(recipe: str, **settings: Any) -> Subject:
    given = {"flow": recipe, "validation": 40, "batch": BATCH, "steps": 2, **settings}
    return subject_of(PlanConfig(command="finetune", given=given))


def most_of(work: Callable[[], Any]) -> int:
    """The most bytes that torch's allocator gave out at one time in a call."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work()
    events = [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return most


def own(tensor: torch.Tensor) -> int:
    """Bytes of a tensor in this process."""
    return (tensor.to_local() if isinstance(tensor, DTensor) else tensor).nbytes


def taken(planned: Subject, devices: int = 1) -> dict[str, float]:
    """Operations and bytes of a real step of a training on this machine, with all that the process holds."""
    config = planned.config.fit
    gradient = planned.config.features.gradient if planned.steps else "direct"
    among = Processes(count=devices) if planned.config.run.fsdp and devices > 1 else None
    state = FitState(planned.network("cpu", gradient=gradient), config, None, among)
    batch = planned.example(config.batch // devices, "cpu")
    frames = fit(state, planned.loss, lambda step: batch, config, processes=among)
    with FlopCounterMode(display=False) as flops:
        next(frames)
    state.network.zero_grad(set_to_none=True)
    states = [value for one in state.optimizers for of in one.state.values() for value in of.values()]
    found = {"optimizer": float(sum(map(own, states)))}
    found["weights"] = float(sum(map(own, state.network.state_dict().values())))
    found["average"] = float(sum(map(own, state.average.module.state_dict().values()))) if state.average else 0.0
    found["copy"] = float(sum(map(own, state.copy.state_dict().values()))) if state.copy is not None else 0.0
    found["total"] = sum(found.values()) + most_of(lambda: next(frames))
    return {**found, "operations": flops.get_total_flops()}


CASES: dict[str, dict[str, Any]] = {
    "last": {"tune": "last:2", "steps": 6},
    "lora again in parts": {"tune": "lora:2", "checkpoint_activations": True, "accumulate": 2, "gradient": "direct"},
    "head in parts": {"tune": "head", "accumulate": 4},
    "again in an exact walk": {"checkpoint_activations": True, "steps": 6, "beta": 0.0},
    "again, bfloat16": {"checkpoint_activations": True, "bf16": True},
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.slow
def test_a_step_takes_what_was_planned(recipe: str, name: str) -> None:
    planned = finetuning(recipe, **CASES[name])
    cost, found = counted(planned).cost, taken(planned)
    assert cost.operations == found["operations"]
    assert (cost.weights, cost.average) == (found["weights"], found["average"])
    assert cost.optimizer == found["optimizer"]
    assert abs(cost.total / found["total"] - 1) < 0.1, (cost, found)


def test_a_step_of_a_pretraining_in_parts_takes_what_was_planned(recipe: str) -> None:
    planned = subject_of(PlanConfig(command="pretrain", given={"recipe": recipe, "accumulate": 2}))
    cost, found = counted(planned).cost, taken(planned)
    assert cost.operations == found["operations"]
    assert abs(cost.total / found["total"] - 1) < 0.1, (cost, found)


# ---- shares --------------------------------------------------------------------------------------------------------


@pytest.fixture
def alone_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Make this process the first of so many: memory is given out as among them, and nothing is sent."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    def summed(output: torch.Tensor, input: torch.Tensor, **_: Any) -> None:
        output.copy_(input[: output.numel()])

    def begin(count: int) -> None:
        distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=count)

    monkeypatch.setattr(distributed, "reduce_scatter_tensor", summed)
    yield begin
    if distributed.is_initialized():
        distributed.destroy_process_group()


SHARED: dict[str, tuple[int, dict[str, Any]]] = {
    "three, in parts": (3, {"accumulate": 2, "average": 0.0, "batch": 36, "flow_batch": 36}),
    "four, last blocks": (4, {"tune": "last:2", "checkpoint_activations": True}),
    "few pictures": (2, {"batch": 2, "beta": 0.0}),
}


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.slow
def test_a_device_takes_its_share(recipe: str, name: str, alone_of: Callable[[int], None]) -> None:
    devices, settings = SHARED[name]
    planned = finetuning(recipe, fsdp=True, **settings)
    alone_of(devices)
    found, cost = taken(planned, devices), counted(planned, devices=devices, sharded=True).cost
    assert (cost.weights, cost.average) == (found["weights"], found["average"])
    assert (cost.optimizer, cost.copy) == (found["optimizer"], found["copy"])
    assert abs(cost.total / found["total"] - 1) < 0.1, (cost, found)


@pytest.mark.slow
def test_what_is_sent_and_shared_by_closed_forms(recipe: str) -> None:
    """Rows are divided and rounded up: a bias of 16 is one of 2 on 8 devices, a kernel of one row is whole on each."""
    settings = {"tune": "last:2", "accumulate": 2}
    planned = finetuning(recipe, **settings)
    network = planned.network()
    shares = {name: -(-p.shape[0] // 8) * p[0].numel() * 4 for name, p in network.named_parameters()}
    trained = {name: p for name, p in network.named_parameters() if p.requires_grad}
    own = sum(shares[name] for name in trained)
    one, whole, part = (counted(planned, devices=n, sharded=s) for n, s in ((1, True), (8, False), (8, True)))
    gradients = 4 * sum(p.numel() for p in trained.values())
    assert one.held.sent == one.cost.copy == one.cost.gathered == 0
    assert whole.held.sent == 2 * gradients * 7 / 8
    assert whole.cost.gathered == whole.cost.copy == 0
    assert part.held.sent == 2 * 7 * (sum(shares.values()) + own)  # for each of two parts, to seven others
    assert part.cost.gathered == 8 * sum(shares.values())
    assert part.cost.weights == part.cost.average == sum(shares.values())
    assert part.cost.optimizer == 2 * own + 4 * len(trained)  # two moments, and a count of steps
    assert part.cost.copy == whole.cost.weights == 4 * sum(p.numel() for p in network.parameters())
    assert part.cost.activations == whole.cost.activations
    assert part.held.files == whole.held.files  # a checkpoint is whole


# ---- parts ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_parts_and_blocks_made_again_by_closed_forms(recipe: str) -> None:
    """The activations of a part are those of its pictures, and blocks that are made again take a forward pass more."""
    whole, quarter, smaller, again = (
        counted(finetuning(recipe, gradient="direct", **settings))
        for settings in ({}, {"accumulate": 4}, {"batch": BATCH // 4}, {"checkpoint_activations": True})
    )
    gradients = whole.held.gradients
    assert quarter.cost.activations == smaller.cost.activations
    assert quarter.cost.operations == whole.cost.operations
    assert smaller.cost.rest < quarter.cost.rest <= smaller.cost.rest + gradients
    assert again.cost.activations < 0.3 * whole.cost.activations
    calls = 2 + 1  # of the walk and of the flow's own loss
    more = (again.cost.operations - whole.cost.operations) / (whole.forward * BATCH * calls)
    assert 0.5 < more < 1  # the last operation of a block is not made again, since nothing needs what it gives
    tensors = len(list(finetuning(recipe).network().parameters()))
    held = 4 * gradients + 4 * tensors  # weights, average and two moments, and a count of steps for each tensor
    assert again.held.files == whole.held.files == held


def test_adapters_by_closed_forms(recipe: str) -> None:
    """lora:R trains R (in k k + out) numbers of each layer and the head; the weights that are written have none."""
    plain, adapted = counted(finetuning(recipe)), counted(finetuning(recipe, tune="lora:3"))
    network = finetuning(recipe).network()
    layers = [part for part in network.flow.modules() if isinstance(part, torch.nn.Linear | torch.nn.Conv2d)]
    own = sum(3 * (part.weight[0].numel() + part.weight.shape[0]) for part in layers)
    head = sum(p.numel() for p in network.head.parameters())
    assert adapted.trained == own + head
    assert adapted.parameters == plain.parameters == plain.trained
    assert adapted.saved_weights == plain.saved_weights
    assert adapted.cost.average == adapted.cost.weights == plain.cost.weights + 4 * own  # the average is of all weights
    assert 8 * adapted.trained < adapted.cost.optimizer < 8 * adapted.trained + 4 * 200
    assert adapted.forward > plain.forward


def test_a_probe_of_parts_takes_as_many_of_each(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now, seen = 0.0, []

    def pretended(state: Any, loss: Any, source: Any, config: Any) -> Iterator[int]:
        nonlocal now
        while True:
            batch = next(source)
            seen.append([len(rows) for rows in batch])
            now += 0.5 + config.accumulate * 0.1 + 0.25 * len(batch[0])
            yield 1

    monkeypatch.setattr("bothways.tasks.plan.probe.fit", pretended)
    speed = probed(finetuning(recipe, accumulate=4, flow_batch=16), "cpu", lambda: now)
    assert (speed.once, speed.each, speed.pictures) == (pytest.approx(0.9), pytest.approx(0.25), (8, 16))
    assert seen[0] == [8, 8, 4, 4, 4]
    with pytest.raises(UserError, match=r"more than 16 pictures.*type --batch 32"):
        probed(finetuning(recipe, accumulate=8, batch=16), "cpu")


# ---- as a user types it --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_what_does_not_fit_says_what_does(recipe: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"flow": recipe, "gradient": "direct", "steps": 10, "batch": 48, "validation": 40}
    taken = counted(subject_of(PlanConfig(command="finetune", given=given)), devices=2, gpu=True).cost.total
    monkeypatch.setitem(BY_NAME, "small", Device("small", 0.75 * taken / ROOM, 1e12, 1e12, "a test"))
    plan = bothways.plan("finetune", given, device="small:2")
    assert not plan.fits
    (line,) = plan.facts["advice"]
    said = dict(way.split(" ", 1) if " " in way else (way, "") for way in line.partition("; type ")[2].split(", or "))
    assert {"--batch", "--accumulate", "--gradient", "--checkpoint-activations", "--device"} <= said.keys()
    typed = {"accumulate": int(said["--accumulate"])}, {"checkpoint_activations": True}, {}
    for changed, device in zip(typed, ("small:2", "small:2", said["--device"]), strict=True):
        assert bothways.plan("finetune", {**given, **changed}, device=device).fits, changed


def test_the_command_counts_its_settings(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    typed = ["plan", "finetune", recipe, "--tune", "last:2", "--set", "fit.accumulate=2", "--batch", "32"]
    typed += ["--checkpoint-activations", "--fsdp", "--device", "h100:8", "--validation", "40"]
    assert run(*typed) == 0
    table = capsys.readouterr().out
    facts = json.loads((tmp_path / "runs" / "plan.json").read_text())
    assert facts["device"]["fsdp"] is True
    assert (facts["device"]["pictures_each"], facts["device"]["pictures_at_once"]) == (4, 2)
    assert facts["network"]["tune"] == "last:2"
    assert f"{facts['network']['trained']:,} trained, last:2" in table
    for words in ("parts of a batch", "of 2 pictures, blocks again", "a share of 8", "whole copy", "gathered weights",
                  "sent by each device", "gradients are"):  # fmt: skip
        assert words in table
    assert max(map(len, table.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--tune", "last:99"], "type --tune last:"),
        (["--tune", "lor"], "type one of all, head, last:N, bias, lora:RANK"),
        (["--accumulate", "3"], "accumulate=3 does not divide --batch 32; type --batch 30"),
        (["--accumulate", "8", "--device", "h100:8"], "not divisible by 8 devices times accumulate=8; type --batch 64"),
        (["--flow-batch", "4", "--device", "h100:8"], "flow-batch=4 is not divisible by 8 devices; type --flow-batch"),
        (["--fsdp", "--set", "fit.optimizer=muon", "--device", "h100:8"], "type --optimizer adamw"),
    ],
)  # fmt: skip
def test_what_cannot_be_planned_is_one_line(
    recipe: str, tmp_path: Path, capsys: Any, monkeypatch: Any, arguments: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert says in refused(capsys, "plan", "finetune", recipe, "--batch", "32", "--validation", "40", *arguments)
    assert list(tmp_path.iterdir()) == []
