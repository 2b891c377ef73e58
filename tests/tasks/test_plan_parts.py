"""The plan of a training in part, in parts of a batch and in shares, beside what a real step of it takes."""

from __future__ import annotations

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
from bothways.tasks.plan.estimate import counted
from bothways.tasks.plan.probe import probed
from bothways.tasks.plan.run import PlanWork
from bothways.tasks.plan.subject import Subject, subject_of
from bothways.training.fit import FitState, fit
from command import refused, run
from zoo import stand_in_for_torchvision

SMALL = """# a small U-Net of 8 x 8 grey pictures
task = "pretrain"
[network]
builder = "unet"
width = 16
multiples = [1, 2]
blocks = 1
attention = [1]
[fit]
steps = 20
batch = 16
[expect]
pictures = 600
size = 8
channels = 1
classes = 10
finetune = "prg-small"
"""
BATCH = 32


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("recipes") / "small.toml"
    file.write_text(SMALL)
    return str(file)


@pytest.fixture(autouse=True)
def _peft(request: pytest.FixtureRequest) -> None:
    if "lora" in request.node.name:
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
    "bias": {"tune": "bias", "gradient": "direct", "steps": 3},
    "last": {"tune": "last:3", "steps": 8},
    "lora": {"tune": "lora:4", "steps": 3},
    "head": {"tune": "head", "accumulate": 4},
    "parts": {"accumulate": 4, "gradient": "direct"},
    "parts of an exact walk": {"accumulate": 2, "steps": 7, "beta": 0.0},
    "again": {"checkpoint_activations": True, "gradient": "direct", "steps": 3},
    "again in an exact walk": {"checkpoint_activations": True, "steps": 8, "beta": 0.0},
    "again, bfloat16": {"checkpoint_activations": True, "steps": 3, "bf16": True},
    "lora again in parts": {"tune": "lora:2", "checkpoint_activations": True, "accumulate": 2, "steps": 7},
}


@pytest.mark.parametrize("name", CASES)
def test_a_step_takes_what_was_planned(recipe: str, name: str) -> None:
    planned = finetuning(recipe, **CASES[name])
    cost, found = counted(planned).cost, taken(planned)
    assert cost.operations == found["operations"]
    assert (cost.weights, cost.average) == (found["weights"], found["average"])
    assert cost.optimizer == found["optimizer"]
    assert abs(cost.total / found["total"] - 1) < 0.1, (cost, found)


# ---- shares --------------------------------------------------------------------------------------------------------


@pytest.fixture
def alone_of(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], None]]:
    """Make this process the first of so many: memory is given out as among them, and nothing is sent."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    def summed(output: torch.Tensor, input: torch.Tensor, **_: Any) -> None:  # noqa: A002 - torch's own name
        output.copy_(input[: output.numel()])

    def begin(count: int) -> None:
        distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=count)

    monkeypatch.setattr(distributed, "reduce_scatter_tensor", summed)
    yield begin
    if distributed.is_initialized():
        distributed.destroy_process_group()


SHARED: dict[str, tuple[int, dict[str, Any]]] = {
    "two": (2, {"gradient": "direct"}),
    "four, in parts": (4, {"accumulate": 2, "average": 0.0}),
    "three, lora": (4, {"tune": "lora:2", "checkpoint_activations": True}),
    "few pictures": (2, {"batch": 2, "beta": 0.0}),
}


@pytest.mark.parametrize("name", SHARED)
def test_a_device_takes_its_share(recipe: str, name: str, alone_of: Callable[[int], None]) -> None:
    devices, settings = SHARED[name]
    planned = finetuning(recipe, fsdp=True, **settings)
    alone_of(devices)
    found, cost = taken(planned, devices), counted(planned, devices=devices, sharded=True).cost
    assert (cost.weights, cost.average) == (found["weights"], found["average"])
    assert (cost.optimizer, cost.copy) == (found["optimizer"], found["copy"])
    assert abs(cost.total / found["total"] - 1) < 0.1, (cost, found)
