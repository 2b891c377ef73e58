"""A network with its facts: its own units and back, its own time, and the precision of what it is given."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bothways.models.velocity import Flow
from bothways.numerics.draws import generator
from bothways.representation.paths import path_of
from bothways.representation.paths.scheduled import scheduled
from bothways.types import Flow as AnyFlow
from bothways.types import ModelSpec, RunError, UserError

MEAN, STD = (0.5, 0.4, 0.3), (0.5, 0.25, 0.2)


def spec(**changes: Any) -> ModelSpec:
    return ModelSpec(**{"size": 4, "mean": MEAN, "std": STD, "classes": 0, "path": "gvp", **changes})


class Told(nn.Module):
    """Answers with the time, so that a test sees what it was told."""

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return torch.zeros_like(x) + time.to(x.dtype)[:, None, None, None]


class Wrapped(Told):
    def forward(self, x: Tensor, time: Tensor) -> Any:
        return SimpleNamespace(sample=super().forward(x, time))


def test_time_is_scaled_and_an_answer_of_diffusers_is_opened() -> None:
    x, t = torch.zeros(2, 3, 4, 4), torch.tensor([0.25, 1.0])
    for network in (Told(), Wrapped()):
        assert Flow(network, spec(time_scale=1000.0))(x, t)[:, 0, 0, 0].tolist() == [250.0, 1000.0]
        assert Flow(network, spec())(x, t)[:, 0, 0, 0].tolist() == [0.25, 1.0]
    assert isinstance(Flow(Told(), spec()), AnyFlow)


def test_no_memory_is_one_line() -> None:
    class Large(nn.Module):
        def forward(self, x: Tensor, time: Tensor) -> Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(RunError, match="no memory is left for 2 pictures; type a smaller --batch"):
        Flow(Large(), spec(), "large")(torch.zeros(2, 3, 4, 4), torch.zeros(2))


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_units_and_back(order: str) -> None:
    flow = Flow(Told(), spec(channel_order=order))
    image = torch.rand(2, 3, 4, 4, generator=generator(1), dtype=torch.float64)
    seen = image.flip(1) if order == "BGR" else image
    wanted = torch.stack([(seen[:, c] - MEAN[c]) / STD[c] for c in range(3)], 1)
    assert (flow.code(image) - wanted).abs().max() < 1e-6
    assert (flow.picture(flow.code(image)) - image).abs().max() < 1e-12
    assert flow.code(image).dtype == torch.float64
    assert flow.shape == (3, 4, 4)
    beyond = torch.full((1, 3, 4, 4), 9.0, requires_grad=True)
    flow.picture(beyond).sum().backward()  # neither clamped nor cut off
    assert beyond.grad is not None
    assert beyond.grad.min() > 0


def test_grey_is_the_mean_of_the_three() -> None:
    flow = Flow(Told(), spec(channel_order="grey", mean=(0.5,) * 3, std=(0.25,) * 3))
    image = torch.rand(2, 3, 4, 4, generator=generator(1))
    assert (flow.code(image) - (image.mean(1, keepdim=True) - 0.5) / 0.25).abs().max() < 1e-6
    assert (flow.picture(flow.code(image)) - image.mean(1, keepdim=True).expand(-1, 3, -1, -1)).abs().max() < 1e-6
    assert flow.shape == (1, 4, 4)


def test_precision_is_that_of_x() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Conv2d(3, 3, 3, padding=1)
    seen: list[torch.dtype] = []
    network.register_forward_hook(lambda _m, _i, out: seen.append(out.dtype))

    class Timed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, x: Tensor, time: Tensor) -> Tensor:
            return self.network(x)

    x, t = torch.rand(1, 3, 4, 4, generator=generator(2)), torch.tensor([0.5])
    exact, rough = (Flow(Timed(), spec(), dtype=dtype)(x, t) for dtype in ("float32", "bf16"))
    assert seen == [torch.float32, torch.bfloat16]
    assert exact.dtype == rough.dtype == torch.float32
    assert 0 < (exact - rough).abs().max() < 0.02
    assert Flow(Timed(), spec()).double()(x.double(), t.double()).dtype == torch.float64
    with pytest.raises(UserError, match="dtype 'half' is not known; type one of float32, bf16, float16"):
        Flow(Timed(), spec(), dtype="half")


def test_the_path_is_the_specs_or_one_that_has_no_name() -> None:
    assert Flow(Told(), spec()).path is path_of("gvp")
    own = scheduled([0.9, 0.5, 0.1])
    assert Flow(Told(), spec(path="scheduled"), path=own).path is own
    for unknown in (None, "straight"):
        with pytest.raises(UserError, match=r"is not known; type .*gvp, linear, vp"):
            Flow(Told(), spec(path=unknown)).path  # noqa: B018


def test_a_flow_leaves_the_autocast_around_it_alone() -> None:
    seen: list[torch.dtype] = []
    network = nn.Conv2d(3, 3, 1)
    network.register_forward_hook(lambda _module, _inputs, output: seen.append(output.dtype))

    class Timeless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network

        def forward(self, x: Tensor, time: Tensor) -> Tensor:
            return self.inner(x)

    flow = Flow(Timeless(), ModelSpec(size=4, mean=(0.5,) * 3, std=(0.5,) * 3, classes=0, path="linear"))
    x, t = torch.rand(1, 3, 4, 4), torch.rand(1)
    flow(x, t)
    with torch.autocast("cpu", torch.bfloat16):
        assert flow(x, t).dtype == torch.float32
    Flow(flow.network, flow.spec, dtype="bf16")(x, t)
    assert seen == [torch.float32, torch.bfloat16, torch.bfloat16]
