"""Every command on CUDA beside the CPU: the same result to rounding. Skipped where there is no CUDA.

Convolutions are computed in full float32 here: CUDA's own default rounds their inputs to 10 bits.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

import bothways
from bothways.tasks.shelf import work_of
from golden_cases import COMMANDS, Made, libraries, soft, write_folder
from small_flow import write_small_flow

CUDA = torch.cuda.is_available()
pytestmark = [
    pytest.mark.skipif(not CUDA, reason="no CUDA here"),
    pytest.mark.filterwarnings("default"),  # what torch says of its own code for a GPU is no error
]
ROUNDING = 2e-3  # of a whole tensor: relative, in the Euclidean norm
LEVELS = 1.5  # of 255, the mean over a picture's pixels
NUMBERS = 0.02  # of a number in measures.json, relative, and of 1
COST = ("cost", "seconds", "memory", "peak", "device", "path", "out", "speed", "images/s", "stages", "git", "versions")
# Digits of a probability that is near 0 or 1, ranks and worst cases jump where two values are near one another.
JUMPS = ("rank", "worst", "least", "most", "first", "p_value", "order")


@pytest.fixture(autouse=True)
def _full_precision() -> Iterator[None]:
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
        yield


@pytest.fixture(scope="module")
def by_device(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "200")
        return {device: Made(tmp_path_factory.mktemp(device), device) for device in ("cpu", "cuda")}


def apart(one: Tensor, other: Tensor) -> float:
    """Relative distance of two tensors."""
    one, other = (x.detach().cpu().double() for x in (one, other))
    return float((one - other).norm() / other.norm().clamp_min(1e-6))


def compare_numbers(one: Any, other: Any, place: str = "") -> Iterator[str]:
    """What differs of two trees of numbers."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in one.keys() & other.keys():
            if not any(word in str(key) for word in (*COST, *JUMPS)):
                yield from compare_numbers(one[key], other[key], f"{place}.{key}")
    elif isinstance(one, list) and isinstance(other, list):
        for number, pair in enumerate(zip(one, other, strict=False)):
            yield from compare_numbers(*pair, f"{place}[{number}]")
    elif isinstance(one, float) and isinstance(other, float) and differ(one, other):
        yield f"{place}: {one} and {other}"


def differ(one: float, other: float) -> bool:
    """Whether two numbers are not the same to rounding; of what is not finite nothing is said."""
    return math.isfinite(other) and not math.isclose(one, other, rel_tol=NUMBERS, abs_tol=NUMBERS)


def compare(gpu: Path, cpu: Path) -> list[str]:
    """What differs of two run folders: tensors, pictures and numbers."""
    found = []
    for file in sorted(cpu.rglob("*")):
        own, name = gpu / file.relative_to(cpu), str(file.relative_to(cpu))
        if file.is_dir() or "state" in name or "checkpoint" in name:
            continue
        if not own.exists():
            found.append(f"{name} is missing")
        elif file.suffix == ".safetensors":
            one, other = load_file(own), load_file(file)
            assert one.keys() == other.keys()
            for key, value in other.items():
                if value.is_floating_point() and apart(one[key], value) > ROUNDING:
                    found.append(f"{name} {key}: {apart(one[key], value):.2g}")
        elif file.suffix == ".png" and file.parent.name == "images":
            one, other = (np.asarray(Image.open(path)).astype(float) for path in (own, file))
            if one.shape != other.shape or np.abs(one - other).mean() > LEVELS:
                found.append(f"{name}: {np.abs(one - other).mean() if one.shape == other.shape else 'of another size'}")
        elif file.name == "measures.json":
            found += compare_numbers(*(json.loads(path.read_text()) for path in (own, file)))
    return found


@pytest.mark.parametrize("case", COMMANDS)
def test_command_gives_on_cuda_what_it_gives_on_the_cpu(case: str, by_device: dict[str, Made]) -> None:
    for library in libraries(case):
        if find_spec(library) is None:
            pytest.skip(f"{library} is not installed")
    cpu, gpu = (by_device[device].folder(case) for device in ("cpu", "cuda"))
    differences = compare(gpu, cpu)
    assert not differences, "\n".join(differences[:10])


# ---- what a GPU is for ----------------------------------------------------------------------------------------------


TINY: dict[str, Any] = {"workers": 0, "batch": 8, "validation": 8}


def flow_losses(run: Any) -> list[float]:
    return [frame.stats["loss"] for frame in run.frames]


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_flow(tmp_path_factory.mktemp("flow") / "flow", size=8)


@pytest.mark.parametrize(
    "options",
    [
        {"bf16": True},
        {"compile": True},
        {"checkpoint_activations": True},
        {"accumulate": 2},
        {"gradient": "direct"},
        {"tune": "last:2"},
        {"checkpoint_activations": True, "steps": 8},
        {"compile": True, "steps": 8},
    ],
    ids=str,
)
def test_finetune_is_that_of_the_cpu_by_every_option(options: dict[str, Any], flow: Path, tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    steps = {"steps": options.get("steps", 3), "train_steps": 3}
    plain = bothways.finetune(flow, "digits", out=tmp_path / "cpu", device="cpu", **TINY, **steps)
    other = bothways.finetune(flow, "digits", out=tmp_path / "gpu", device="cuda", **TINY, **{**steps, **options})
    most = 0.05 if options.get("bf16") else 5e-3
    if "tune" in options:
        assert all(map(math.isfinite, flow_losses(other)))
        return
    assert flow_losses(other) == pytest.approx(flow_losses(plain), rel=most)


@pytest.mark.parametrize("dtype", ["float32", "bf16"])
def test_walks_and_logits_have_the_precision_that_is_chosen(dtype: str) -> None:
    x = soft(4, 32, 3)
    most = 2e-3 if dtype == "float32" else 0.1
    ways = ("cuda", dtype), ("cpu", "float32")
    one, other = (bothways.load_flow("bundled:cifar10-flow", device=d, dtype=k) for d, k in ways)
    assert apart(bothways.encode(one, x.cuda(), 0.5, 4), bothways.encode(other, x, 0.5, 4)) < most
    model, same = (bothways.load_model("bundled:cifar10-resnet", device=d, dtype=k) for d, k in ways)
    assert apart(model.outputs(x.cuda()), same.outputs(x)) < most


@pytest.mark.parametrize("task", ["pretrain", "finetune", "train"])
def test_a_run_begun_on_the_cpu_goes_on_on_the_gpu(
    task: str, flow: Path, by_device: dict[str, Made], tmp_path: Path
) -> None:
    pytest.importorskip("sklearn")
    place = by_device["cpu"].place
    given: dict[str, Any] = {**TINY, "data": "digits", "average": 0.9}
    given |= {"flow": flow, "train_steps": 6, "steps": 2} if task == "finetune" else {"steps": 6}
    if task == "train":
        given |= {"recipe": place / "training.toml", "data": place / "cifar", "validation": 4}
    whole = work_of(task, out=tmp_path / "whole", **given)
    frames = [frame.stats["loss"] for frame in whole.run()]
    begun = work_of(task, out=tmp_path / "run", **given)
    made = begun.run()
    for _ in range(3):
        next(made)
    made.close()
    rest = work_of(task, out=tmp_path / "run", resume=True, **given, device="cuda")
    later = [frame.stats["loss"] for frame in rest.run()]
    rest.finish()
    assert later == pytest.approx(frames[3:], rel=5e-3)


def test_an_augmentation_on_the_gpu_is_that_of_the_cpu() -> None:
    from bothways.data.images import Augmentation

    images, source = soft(16, 32, 4), torch.Generator()
    full = Augmentation(crop=4, blur=0.5, noise=0.5, erase=6)
    one, other = (full(x, source.manual_seed(3)) for x in (images.cuda(), images))
    torch.testing.assert_close(one.cpu(), other, rtol=0, atol=1e-6)


def test_fewer_pictures_are_taken_where_the_gpu_has_no_memory_left(tmp_path: Path) -> None:
    write_folder(tmp_path / "photos" / "a", soft(64, 32, 5))
    write_folder(tmp_path / "photos" / "b", soft(64, 32, 6))
    given: dict[str, Any] = {"kind": "activations", "depth": 0.1, "batch": 128, "probes": "none", "workers": 0}
    free = bothways.features("bundled:cifar10-flow", tmp_path / "photos", out=tmp_path / "free", device="cuda", **given)
    torch.cuda.empty_cache()
    used, total = torch.cuda.memory_allocated(), torch.cuda.get_device_properties(0).total_memory
    before = torch.cuda.memory_stats().get("num_ooms", 0)
    try:
        torch.cuda.set_per_process_memory_fraction((used + 60e6) / total)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            few = bothways.features(
                "bundled:cifar10-flow", tmp_path / "photos", out=tmp_path / "few", device="cuda", **given
            )
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert torch.cuda.memory_stats()["num_ooms"] > before, "the memory was not short: lower the share"
    assert any("at once" in str(one.message) for one in said)
    column, split = few.columns[0], next(iter(few.pictures))
    torch.testing.assert_close(few.array(column, split), free.array(column, split), rtol=1e-3, atol=1e-3)
