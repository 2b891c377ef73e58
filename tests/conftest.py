"""What all tests share: one thread, so that sums are added in one order, and the way to the shared folder."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

# Before torch is imported, and inherited by the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Before the hub's library is, which reads it once: no test waits for a network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Before a test imports it by itself.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import pytest
import torch
import torch.nn.functional as F

from bothways import load_images, registry
from bothways.data.sources import ImageSet
from bothways.numerics.draws import Draws
from bothways.runs import to_png
from together import End, together
from zoo import ZOO

SHARED = Path(__file__).resolve().parents[2] / "shared"
# Files of tests that take longest, begun first: one that is begun last keeps one process busy and the others idle.
LONGEST = (
    "test_docs",
    "studio/test_page",
    "test_golden",
    "tasks/test_pretrain",
    "tasks/test_finetune",
    "tasks/test_processes",
)


def pytest_configure() -> None:
    torch.set_num_threads(1)
    os.fsync = lambda handle: None  # no test fails the power, and the disk takes 5 ms for each of some ten thousand


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {Path(__file__).parent / f"{name}.py": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(LONGEST)))


@pytest.fixture(autouse=True)
def _plain_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wide and without colour, so that what a command prints can be read line by line, however busy the machine is."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("bothways.cli.show.SECONDS_BETWEEN_LINES", 3600.0)


@pytest.fixture(scope="module", autouse=True)
def _any_file_may_run() -> Iterator[None]:
    """What a server allowed is of its own tests alone."""
    yield
    registry.allow_only(None)
    if (places := sys.modules.get("bothways.studio.files.places")) is not None:
        places.open_only(None)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of data and weights beside the repository; a test that asks for it is skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("no folder named shared beside the repository: its data and weights are not here")
    return SHARED


@pytest.fixture(scope="session")
def cifar_test(shared: Path) -> ImageSet:
    """The 10,000 test pictures of CIFAR-10, which no test changes."""
    return load_images(shared / "data" / "cifar10-jpeg", split="test")


@pytest.fixture(scope="session")
def soft_pictures(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """A number -> a folder of as many soft pictures of 16 pixels, 00.png and on, which no test changes."""

    @cache
    def folder(count: int) -> Path:
        made = tmp_path_factory.mktemp("soft")
        soft = F.interpolate(Draws(range(count)).uniform((3, 4, 4)), size=(16, 16), mode="bilinear")
        for i, image in enumerate(soft):
            (made / f"{i:02}.png").write_bytes(to_png(image))
        return made

    return folder


@pytest.fixture(scope="module")
def _rough_samples() -> Iterator[None]:
    """Two steps for the pictures that a pretraining draws at its end, in a file of tests that does not look at them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bothways.tasks.pretrain.run.SAMPLE_STEPS", 2)
        yield


@pytest.fixture(scope="session")
def call() -> Iterator[Callable[..., list[End]]]:
    """(number of processes, file of tests, function, settings) -> how each ended; they share one that imports."""
    with together() as function:
        yield function


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The name of a kind of model -> the address of a small one, built once; skips where its library is missing."""
    return cache(lambda kind: ZOO[kind](tmp_path_factory.mktemp("zoo") / kind))
