"""Where no memory is left, half as many pictures are taken at once, and what comes out is the same.

It is to the bit where the network's kernels add alike for fewer pictures, and else to the rounding of float32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bothways
from bothways import ModelSpec, RunError, load_flow, load_model
from bothways.budget import AtOnce
from bothways.representation.divergence import with_divergence
from bothways.runs import RunFolder
from bothways.types import Flow, VisionModel
from golden_cases import CLASSES, soft, write_folder
from small_flow import small_unet
from toy_model import seeded, spec

KINDS: tuple[Callable[[], Exception], ...] = (
    lambda: torch.OutOfMemoryError("CUDA out of memory"),
    lambda: RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried"),
    MemoryError,
    lambda: RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    lambda: RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    lambda: RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    lambda: RuntimeError("MPS backend out of memory (MPS allocated: 17.88 GB, other allocations: 384.00 KB)"),
)
ALL = 10**9
ROUNDING = {"likelihood": 1e-6, "features": 1e-6}
FLOW = ModelSpec(8, (0.5,) * 3, (0.5,) * 3, 0, path="linear", time_scale=1000.0)


class Narrow(nn.Module):
    """A network with memory for so many pictures at once. asked: how many it was given each time."""

    def __init__(self, inner: nn.Module, error: Callable[[], Exception] = KINDS[0]) -> None:
        super().__init__()
        self.inner, self.room, self.error = inner, ALL, error
        self.asked: list[int] = []

    def forward(self, x: Tensor, *time: Tensor) -> Tensor:
        self.asked.append(len(x))
        if len(x) > self.room:
            raise self.error()
        return self.inner(x, *time)


def flow_of(network: nn.Module) -> Flow:
    return load_flow(network, FLOW)


def model_of(module: nn.Module) -> VisionModel:
    return load_model(module, replace(spec(), feature_layer="inner.body"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("data")
    for number, name in enumerate(CLASSES):
        write_folder(place / name, soft(4, 16, 30 + number))
    return place


def features(network: nn.Module, data: Path, out: Path) -> dict[str, Any]:
    made = bothways.features(
        flow_of(network), data=data, kind=["walked", "activations"], layers=["network.inner.middle"], depth=[0.5],
        steps=2, batch=8, probes=["none"], workers=0, out=out,
    )  # fmt: skip
    return {name: made.array(name, split) for split in made.pictures for name in made.columns}


def evaluate(network: nn.Module, data: Path, out: Path) -> dict[str, Any]:
    found = bothways.evaluate(model_of(network), data=data, batch=8, out=out)
    return {"nll": found["clean"]["nll"], "top1": found["clean"]["top1"]["value"], "ece": found["clean"]["ece"]}


def likelihood(network: nn.Module, data: Path, out: Path) -> dict[str, Any]:
    found = bothways.likelihood(
        flow_of(network), data=data, limit=6, steps=2, batch=6, divergence="hutchinson", out=out
    )
    return {"bits": found.bits_per_dim, "given": found.given_noise.nats_per_dim}


def sample(network: nn.Module, data: Path, out: Path) -> dict[str, Any]:
    return {"images": bothways.sample(flow_of(network), n=7, steps=3, batch=7, solver="heun", out=out).images}


def generate(network: nn.Module, data: Path, out: Path) -> dict[str, Any]:
    found = bothways.generate(
        model_of(network), classes=["anchor", "dragon"], n=4, steps=3, recipe="das", batch=8, judges=[], out=out,
        **{"views.copies": 1},
    )  # fmt: skip
    own = [record["own_probability"] for record in found.records]
    return {"images": found.images, "own": own, "frames": len(RunFolder(out).frames) // 3}


TASKS = {
    "features": (features, small_unet),
    "evaluate": (evaluate, seeded),
    "likelihood": (likelihood, small_unet),
    "sample": (sample, small_unet),
    "generate": (generate, seeded),
}


@pytest.mark.filterwarnings("ignore:pictures of")
@pytest.mark.parametrize("task", TASKS)
def test_half_as_many_at_once_give_the_same(task: str, data: Path, tmp_path: Path, recwarn: Any) -> None:
    run, build = TASKS[task]
    wide, narrow = Narrow(build()), Narrow(build())
    wanted = run(wide, data, tmp_path / "wide")
    most = max(wide.asked)
    assert most >= 6
    recwarn.clear()
    with pytest.warns(UserWarning, match=f"no memory was left for {most} pictures at once; {most // 2} are taken"):
        found = run(_roomy(narrow, 3), data, tmp_path / "narrow")
    frames = wanted.pop("frames", 0), found.pop("frames", 0)
    assert frames in ((0, 0), (1, 4))  # four batches in place of one, and no frame of the one that failed
    for name, value in wanted.items():
        apart = (torch.as_tensor(value).double() - torch.as_tensor(found[name]).double()).abs().max()
        assert apart <= ROUNDING.get(task, 0.0), name
    status = RunFolder(tmp_path / "narrow").status
    assert (status["state"], status["step"]) == ("complete", status["steps"])


def _roomy(network: Narrow, room: int) -> Narrow:
    network.room = room
    return network


@pytest.mark.parametrize("error", KINDS)
def test_the_number_is_halved_until_it_fits_and_stays(error: Callable[[], Exception]) -> None:
    asked: list[slice] = []

    def work(part: slice) -> list[int]:
        asked.append(part)
        if part.stop - part.start > 2:
            raise error()
        return list(range(10))[part]

    at_once = AtOnce("pictures")
    with pytest.warns(UserWarning, match="no memory was left"):
        found = at_once.parts(10, work)
    assert [one for part in found for one in part] == list(range(10))
    assert [part.stop - part.start for part in asked] == [10, 5, 2, 2, 2, 2, 2]
    assert len(at_once.parts(4, work)) == 2  # it is not tried anew
    assert at_once.parts(0, work) == [[]]


def test_another_error_and_a_single_picture_are_raised() -> None:
    def fails(part: slice) -> None:
        raise RuntimeError("shapes do not match")

    with pytest.raises(RuntimeError, match="shapes"):
        AtOnce("pictures").parts(4, fails)

    def full(part: slice) -> None:
        raise RunError("no memory is left for 1 picture") from MemoryError()

    with pytest.raises(RunError, match="for 1 picture"), pytest.warns(UserWarning, match="no memory was left"):
        AtOnce("pictures").parts(4, full)


def test_no_picture_fits(tmp_path: Path, data: Path) -> None:
    narrow = _roomy(Narrow(seeded()), ALL)
    model = model_of(narrow)
    narrow.room = 0
    with pytest.raises(RunError, match="no memory is left"), pytest.warns(UserWarning, match="no memory was left"):
        bothways.evaluate(model, data=data, batch=8, out=tmp_path / "run")
    assert RunFolder(tmp_path / "run").status["state"] == "failed"


def test_the_directions_of_a_divergence_are_halved(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = torch.randn(5, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x, directions = torch.zeros(3, 5, dtype=torch.float64), torch.eye(5, dtype=torch.float64)[:, None].expand(-1, 3, -1)
    plain, asked = torch.autograd.grad, []

    def limited(velocity: Tensor, of: Tensor, some: Tensor, **options: Any) -> Any:
        count = len(some) if options.get("is_grads_batched") else 1
        asked.append(count)
        if count > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(velocity, of, some, **options)

    monkeypatch.setattr(torch.autograd, "grad", limited)
    with pytest.warns(UserWarning, match="5 directions of the divergence at once; 2 are taken"):
        _, trace = with_divergence(lambda x, t: x @ matrix.T, x, torch.zeros(3), directions)
    assert asked == [5, 2, 2, 1]
    assert (trace - matrix.trace()).abs().max() < 1e-12
