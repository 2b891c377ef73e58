"""Operations on "meta" that are worked out once give what torch gives; what is written or shared is called."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bothways.models.nets.sit import SiT
from bothways.models.nets.unet import SIZES, UNet
from bothways.numerics import shapes
from bothways.numerics.shapes import Remembered, called

NETWORKS = {
    "unet": (lambda: UNet(channels=3, **SIZES["unet-tiny"]), (3, 16, 16)),
    "sit": (lambda: SiT(channels=4, size=8, width=32, depth=3, heads=4), (4, 8, 8)),
    "norms": (
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(8 * 64, 6), nn.LayerNorm(6), nn.Dropout(), nn.Softmax(1),
        ),
        (3, 16, 16),
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "_GIVEN", {})


class Seen(TorchDispatchMode):
    """What every operation gives: shapes, strides, types and bytes."""

    def __init__(self, call: Any) -> None:
        super().__init__()
        self.call, self.found = call, []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = self.call(func, args, kwargs or {})
        for one in tree_leaves(made):
            if isinstance(one, Tensor):
                self.found.append((str(func), one.shape, one.stride(), one.dtype, one.untyped_storage().nbytes()))
        return made


@pytest.mark.parametrize("name", NETWORKS)
def test_steps_give_the_shapes_of_torch(name: str) -> None:
    build, shape = NETWORKS[name]

    def steps(call: Any) -> list[Any]:
        with torch.device("meta"):
            network = build()
        given = (torch.zeros(2, *shape, device="meta"),)
        given += () if name == "norms" else (torch.zeros(2, device="meta"),)
        with Seen(call) as seen:
            for _ in range(2):
                network(*given).square().sum().backward()
        return seen.found

    wanted = steps(lambda func, args, kwargs: func(*args, **kwargs))
    assert steps(called) == wanted
    assert len(shapes._GIVEN) < len(wanted) / 2


def test_arguments_that_are_equal_and_no_equals_are_told_apart() -> None:
    whole = torch.zeros(3, dtype=torch.int64, device="meta")
    with Remembered():
        found = [(whole + one).dtype for one in (1, 1.0, True, 1)]
        sums = [whole.float().sum(0, keepdim=keep).shape for keep in (False, True)]
        pictures = torch.zeros(2, 3, device="meta")
        strides = [(one * 2).stride() for one in (pictures, pictures.T)]
    assert found == [torch.int64, torch.float32, torch.int64, torch.int64]
    assert sums == [(), (1,)]
    assert strides == [(3, 1), (1, 3)]


def test_what_is_written_shared_or_has_numbers_is_called() -> None:
    x, numbers = torch.zeros(4, device="meta"), torch.arange(4.0)
    with Remembered():
        for _ in range(2):
            assert x.add_(1) is x
            assert x.view(2, 2).untyped_storage()._cdata == x.untyped_storage()._cdata
            assert (numbers + 1).tolist() == [1, 2, 3, 4]
        first, second = x + 1, x + 1
    assert first.untyped_storage()._cdata != second.untyped_storage()._cdata


def test_errors_are_those_of_torch_and_the_kinds_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "MOST", 5)
    with Remembered():
        for size in range(1, 20):
            assert (torch.zeros(size, device="meta") + 1).shape == (size,)
            assert len(shapes._GIVEN) <= 5
        for _ in range(2):
            with pytest.raises(RuntimeError, match="same reduction dim"):
                torch.zeros(2, 3, device="meta") @ torch.zeros(2, 3, device="meta")
