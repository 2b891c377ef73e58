"""The engines of the Discriminative Score Function: time and memory against one gradient in x, and how they agree.

    python benchmarks/dsf.py [--quick] [--only resnet|attention|squeezenet]

Batch 16, float32, one thread, CPU time: the median over interleaved rounds of one call / one plain forward and backward
in x of the same pictures. By counting passes, 4.5 is the least that any engine can reach (double_backward and
difference: 9 passes of the plain 2; jvp: 11). Expected: with one norm of the batch no engine above 8, with a norm for
each picture none above 9; difference within .6 of double_backward's memory. The cosine is to double_backward, a
picture, on smooth pictures.

Memory: each engine is called in a process of its own; the peak of its resident size during a call above the size right
before it, after a call to warm up. Linux alone can set a peak back, so elsewhere the first call is measured.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from bothways import load_model
from bothways.models.adapter import Adapter
from bothways.numerics.draws import generator
from bothways.synthesis.dsf.score import ENGINES, dsf_score

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "squeezenet.py"
MODELS = ("bundled:cifar10-resnet", "bundled:cifar10-attention", f"{EXAMPLE}:build")
FORMS = ("image", "batch")
BATCH = 16
KIB = 1024 if sys.platform != "darwin" else 1  # ru_maxrss is in KiB on Linux, in bytes on macOS
# glibc gives freed blocks above this size back at once, so that the resident size is what is in use
RETURN_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def name_of(address: str) -> str:
    return address.rpartition(":")[2] if address.startswith("bundled") else "squeezenet"


def pictures(size: int) -> Tensor:
    """(16,3,size,size): noise of an eighth of the resolution, enlarged, and a little of the full one."""
    made = generator(0, purpose="benchmark")
    coarse = torch.rand(BATCH, 3, size // 8, size // 8, generator=made)
    return (
        F.interpolate(coarse, size=size, mode="bilinear") + 0.05 * torch.randn(BATCH, 3, size, size, generator=made)
    ).clamp(0, 1)


def gradient(model: Adapter, image: Tensor) -> Tensor:
    seen = image.clone().requires_grad_()
    return torch.autograd.grad(model.outputs(seen).square().sum() / 2, seen)[0]


def caller(model: Adapter, image: Tensor, engine: str, per: str) -> Callable[[], Tensor]:
    return lambda: dsf_score(model, image, engine=engine, per=per)[0]


def seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


def resident(field: str) -> int:
    """Bytes: VmRSS, what is resident now, or VmHWM, the most since the peak was set back."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def peak(address: str, engine: str, per: str) -> float:
    """MiB above what the process had; the current process must be fresh."""
    model = load_model(address)
    call = caller(model, pictures(model.spec.height), engine, per)
    if sys.platform.startswith("linux"):
        call()
        before = resident("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")
        call()
        return (resident("VmHWM") - before) / 2**20
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB
    call()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB - before) / 2**20


def peak_elsewhere(address: str, engine: str, per: str) -> float:
    command = [sys.executable, str(Path(__file__).resolve()), "--peak", address, engine, per]
    found = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **RETURN_MEMORY})
    return float(found.stdout.split()[-1])


def measure(address: str, rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """{form: {engine: what was measured}} of one model."""
    model = load_model(address)
    image = pictures(model.spec.height)
    calls = {(per, engine): caller(model, image, engine, per) for per in FORMS for engine in ENGINES}
    scores = {key: call().flatten(1) for key, call in calls.items()}
    plain = partial(gradient, model, image)
    plain()
    ratios: dict[tuple[str, str], list[float]] = {key: [] for key in calls}
    for _ in range(rounds):
        for key, call in calls.items():  # a plain one on each side, since the machine's pace drifts
            before, taken, after = seconds(plain), seconds(call), seconds(plain)
            ratios[key].append(2 * taken / (before + after))
    found: dict[str, dict[str, dict[str, float]]] = {per: {} for per in FORMS}
    for (per, engine), values in ratios.items():
        cosine = F.cosine_similarity(scores[per, engine], scores[per, "double_backward"]).mean()
        found[per][engine] = {
            "time_ratio": round(statistics.median(values), 2),
            "memory_mb": round(peak_elsewhere(address, engine, per), 1),
            "cosine": round(float(cosine), 4),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="3 rounds instead of 9")
    parser.add_argument("--only", default="", help="a part of the name of the one model to measure")
    parser.add_argument("--peak", nargs=3, help="only print the peak memory in MiB of: model, engine, form")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        print(peak(*options.peak))
        return
    image, batch = {}, {}
    print(f"{'model':18}{'engine':18}{'form':8}{'time':>8}{'memory':>12}{'cosine':>9}")
    for address in MODELS:
        name = name_of(address)
        if options.only not in name:
            continue
        try:
            found = measure(address, 3 if options.quick else 9)
        except FileNotFoundError as error:
            print(f"{name:18}skipped: no weights at {error.filename}")
            continue
        image[name], batch[name] = found["image"], found["batch"]
        for per, engines in found.items():
            for engine, row in engines.items():
                time_ratio, memory = f"{row['time_ratio']:.1f}x", f"{row['memory_mb']:.0f} MiB"
                print(f"{name:18}{engine:18}{per:8}{time_ratio:>8}{memory:>12}{row['cosine']:>9.4f}", flush=True)
    print(json.dumps({**batch, "per_image": image}))


if __name__ == "__main__":
    main()
