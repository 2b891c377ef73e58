"""Every command on CUDA beside the CPU: the same result to rounding. Skipped where there is no CUDA.

Convolutions are computed in full float32 here: CUDA's own default rounds their inputs to 10 bits.
"""

from __future__ import annotations

import json
import math
import shutil
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

import bothways
from bothways.numerics.draws import Draws
from bothways.runs import RunFolder
from bothways.synthesis.sampling import leading_directions
from bothways.tasks.features.files import column_of, facts_in, facts_of_pictures
from bothways.tasks.shelf import work_of
from bothways.training.config import FitConfig
from bothways.training.fit import FitState, fit
from golden_cases import COMMANDS, Made, libraries, soft, write_folder
from small_flow import write_small_flow

CUDA = torch.cuda.is_available()
pytestmark = [
    pytest.mark.skipif(not CUDA, reason="no CUDA here"),
    pytest.mark.filterwarnings("default"),  # what torch says of its own code for a GPU is no error
]
ROUNDING = 2e-3  # of a whole tensor: relative, in the Euclidean norm
NO_PART = 3e-6  # of outputs, relative: how far what a network does not depend on moves them
LOSS = 5e-3  # of the loss of a step, relative
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
        if one.get("l2") != other.get("l2"):
            return  # a linear probe's l2 is the best on a few pictures, where several tie: another fit
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


def compare_tensors(gpu: Path, cpu: Path) -> Iterator[str]:
    """What differs of two files of tensors.

    Of a network, a shift that a normalisation removes has a gradient of rounding alone, of which Adam makes whole
    steps: such a tensor is another one on every device. So a tensor that differs has to be one of which the outputs do
    not depend, and those of the two networks have to be the same.
    """
    one, other = load_file(gpu), load_file(cpu)
    assert one.keys() == other.keys()
    odd = []
    for key, value in other.items():
        if not value.is_floating_point():  # eight bits of a number may be rounded to the next
            apart_by = (one[key].int() - value.int()).abs().max().item() if value.numel() else 0
            if apart_by > (value.dtype == torch.int8):
                yield f"{gpu.name} {key}: {apart_by} apart"
        elif apart(one[key], value) > ROUNDING:
            odd.append(key)
    if odd and not cpu.with_suffix(".json").exists():
        yield from (f"{gpu.name} {key}: {apart(one[key], other[key]):.2g}" for key in odd)
    elif odd:
        known = outputs(cpu.parent)
        moved = apart(outputs(with_tensors(cpu, {**other, **{key: one[key] for key in odd}})), known)
        if moved > NO_PART:
            yield f"{gpu.name} {', '.join(odd)}: outputs are moved by {moved:.2g}"
        if (moved := apart(outputs(gpu.parent), known)) > ROUNDING:
            yield f"outputs of {gpu.name}: {moved:.2g}"


def with_tensors(file: Path, tensors: dict[str, Tensor]) -> Path:
    """A copy of a network's folder with other tensors."""
    copied = file.parent.parent / f"{file.parent.name} with tensors"
    copied.mkdir(exist_ok=True)
    shutil.copy(file.with_suffix(".json"), copied)
    save_file(tensors, copied / file.name)
    return copied


@torch.no_grad()
def outputs(folder: Path) -> Tensor:
    """What a flow gives for fixed points and times, or a classifier made of one for fixed pictures."""
    if (folder / "classifier.json").exists():
        module = bothways.load_classifier(folder)
        return module(soft(4, 8, 9))
    flow = bothways.load_flow(folder)
    return flow(Draws(range(4)).normal(flow.shape), torch.tensor([0.1, 0.4, 0.6, 0.9]))


def compare_features(gpu: Path, cpu: Path) -> Iterator[str]:
    """What differs of two files of features."""
    if facts_of_pictures(gpu)[:2] != facts_of_pictures(cpu)[:2]:
        yield f"{gpu.name}: other pictures"
    for column in facts_in(cpu)["columns"]:
        one, other = (column_of(file, column["column"]) for file in (gpu, cpu))
        moved = apart(one, other) if one.shape == other.shape else math.inf
        if moved > ROUNDING:
            yield f"{gpu.name} {column['column']}: {moved:.2g}"


def compare(gpu: Path, cpu: Path) -> list[str]:
    """What differs of two run folders: tensors, features, pictures, losses and numbers."""
    found = []
    for file in sorted(cpu.rglob("*")):
        own, name = gpu / file.relative_to(cpu), str(file.relative_to(cpu))
        if file.is_dir() or "state" in name or "checkpoint" in name:
            continue
        if not own.exists():
            found.append(f"{name} is missing")
        elif file.suffix == ".safetensors":
            found += compare_tensors(own, file)
        elif file.suffix == ".parquet":
            found += compare_features(own, file)
        elif name == "frames.jsonl":
            one, other = ([row["stats"].get("loss") for row in RunFolder(at.parent).frames] for at in (own, file))
            if [loss for loss in one if loss] != pytest.approx([loss for loss in other if loss], rel=LOSS):
                found.append(f"losses of {name}: {one} and {other}")
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


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_of_training_waits_for_the_gpu_twice(accumulate: int) -> None:
    """For the loss and the gradients before the step, and for the weights after it."""
    config = FitConfig(steps=8, batch=4, average=0.9, accumulate=accumulate)
    state = FitState(torch.nn.Conv2d(3, 3, 3, padding=1).cuda(), config)
    batch, waits = (soft(4, 8, 2).cuda(),), list[int]()
    frames = fit(state, lambda net, given: (net(given[0]).square().mean(), {}), lambda step: batch, config)
    for _ in range(config.total):
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                next(frames)
            finally:
                torch.cuda.set_sync_debug_mode("default")
        waits.append(sum("synchroniz" in str(one.message) for one in said))
    assert max(waits[2:]) <= 2  # what is made once comes in the first


def test_an_augmentation_on_the_gpu_is_that_of_the_cpu() -> None:
    from bothways.data.images import Augmentation

    images, source = soft(16, 32, 4), torch.Generator()
    full = Augmentation(crop=4, blur=0.5, noise=0.5, erase=6)
    one, other = (full(x, source.manual_seed(3)) for x in (images.cuda(), images))
    torch.testing.assert_close(one.cpu(), other, rtol=0, atol=1e-6)


def test_the_directions_of_a_space_are_those_of_the_cpu() -> None:
    for shape in ((12, 30), (300, 40)):
        rows = Draws([1]).normal(shape)[0] * torch.linspace(1, 3, shape[1])
        rows = rows - rows.mean(0)
        one, other = (leading_directions(part, 8) for part in (rows.cuda(), rows))
        torch.testing.assert_close(one.cpu(), other, rtol=0, atol=1e-5)  # their signs too


def test_fewer_pictures_are_taken_where_the_gpu_has_no_memory_left(tmp_path: Path) -> None:
    write_folder(tmp_path / "photos" / "a", soft(512, 32, 5))
    write_folder(tmp_path / "photos" / "b", soft(512, 32, 6))
    given: dict[str, Any] = {"kind": "activations", "depth": 0.1, "batch": 1024, "probes": "none", "workers": 0}
    given["device"] = "cuda"
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    used, total = torch.cuda.memory_allocated(), torch.cuda.get_device_properties(0).total_memory
    free = bothways.features("bundled:cifar10-flow", tmp_path / "photos", out=tmp_path / "free", **given)
    most, said = torch.cuda.max_memory_allocated() - used, list[warnings.WarningMessage]()
    for parts in (2, 4, 8):  # a part of the most is what convolutions may work in, and do without
        torch.cuda.empty_cache()
        try:
            torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + most / parts) / total)
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                few = bothways.features(
                    "bundled:cifar10-flow", tmp_path / "photos", out=tmp_path / f"few-{parts}", **given
                )
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        if any("at once" in str(one.message) for one in said):
            break
    assert any("at once" in str(one.message) for one in said), "the memory was not short: lower the share"
    column, split = few.columns[0], next(iter(few.pictures))
    torch.testing.assert_close(few.array(column, split), free.array(column, split), rtol=1e-3, atol=1e-3)
