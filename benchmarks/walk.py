"""The gradient of a walk: the exact discrete adjoint against backpropagation, checkpoints and the continuous adjoint.

    python benchmarks/walk.py [--quick] [--device cuda]

Eight pictures of 16 px are walked half way to noise by Euler's steps through the U-Net "unet-tiny" with random weights
(float32, one thread), and the gradient is taken of the input and of every parameter. Time: of the process, medians of
ratios to direct backpropagation over interleaved rounds; on a GPU by its clock. Memory: the peak of a fresh process
above what it held after the gradient of one step for one picture (resident size, Linux; on a GPU torch's own counter).
Error: relative, L2, of all gradients together, to direct backpropagation in the same precision.

The floor: with F one forward pass, N steps cost 3 N F with their gradient if a backward pass costs 2 F, and the exact
walk (4N - keep) F: 1 to 1.3 times that for the default, keep = 5, and 1.27 to 1.33 for keep = 1. A backward pass that
costs less makes the ratio larger: 1 + F / (F + B). Expected: at most 1.35 times direct at every N, no error beyond
rounding, at 50 steps at most 1.3 times the memory of 5, and less time than the continuous adjoint, whose gradients are
off by O(1 / N): 13 % at 5. The rows "checkpoint" are torch.utils.checkpoint on all but the last steps.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bothways.models.nets.unet import SIZES, UNet
from bothways.numerics.discrete_adjoint import KEEP
from bothways.numerics.solvers import grid
from bothways.numerics.solvers.euler import euler
from bothways.representation.encode import Walk, walk

PICTURES, SIZE, DEPTH = 8, 16, 0.5
Walker = Callable[[nn.Module, Tensor, int], Tensor]


class Velocity(nn.Module):
    """unet-tiny whose layers that begin at zero are drawn too, so that the field bends."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.network = UNet(**SIZES["unet-tiny"])
            for parameter in self.network.parameters():
                if parameter.ndim > 1 and not parameter.any():
                    nn.init.xavier_uniform_(parameter)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.network(x, 1000 * t)


def walker(**options: object) -> Walker:
    return lambda v, x, steps: walk(v, x, 1.0, 1.0 - DEPTH, Walk(steps=steps, **options))


def checkpointed(keep: int) -> Walker:
    """torch's own checkpoints of all but the last steps: what could stand in for the exact walk."""

    def walked(v: nn.Module, x: Tensor, steps: int) -> Tensor:
        for place, (t, following) in enumerate(pairwise(grid(1.0, 1.0 - DEPTH, steps))):
            step = partial(euler_step, v, t, following - t)
            x = checkpoint(step, x, use_reentrant=False) if place < steps - keep else step(x)
        return x

    return walked


def euler_step(v: nn.Module, t: float, h: float, x: Tensor) -> Tensor:
    return euler(v, (x,), t, h)[0]


METHODS: dict[str, Walker] = {
    "direct": walker(gradient="direct"),
    "exact": walker(),
    "exact, keep 1": walker(keep=1),
    "checkpoint": checkpointed(KEEP),
    "checkpoint, keep 1": checkpointed(1),
    "adjoint": walker(gradient="adjoint"),
}


def start(device: str, pictures: int = PICTURES) -> Tensor:
    x = torch.randn(pictures, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    return x.to(device, memory_format=torch.channels_last)


def gradients(method: str, v: nn.Module, steps: int, device: str, pictures: int = PICTURES) -> Tensor:
    x = start(device, pictures).requires_grad_()
    loss = METHODS[method](v, x, steps).square().sum()
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss, [x, *v.parameters()])])


def seconds(call: Callable[[], object], device: str) -> float:
    """CPU time of this process, since others share the machine; on a GPU the time until it is done."""
    if device == "cpu":
        clock = time.process_time
    else:
        clock = time.perf_counter
        torch.cuda.synchronize()
    begun = clock()
    call()
    if device != "cpu":
        torch.cuda.synchronize()
    return clock() - begun


def forward(v: nn.Module, device: str) -> None:
    with torch.no_grad():
        v(start(device), torch.ones(PICTURES, device=device))


def peak(method: str, steps: int, device: str) -> float:
    """MiB above the model's own; the current process must be fresh."""
    v = Velocity().to(device)
    gradients(method, v, 1, device, pictures=1)
    if device == "cpu":
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is that of importing torch: forget it
        before = resident("VmRSS")
        gradients(method, v, steps, device)
        return resident("VmHWM") - before
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() / 2**20
    gradients(method, v, steps, device)
    return torch.cuda.max_memory_allocated() / 2**20 - before


def resident(name: str) -> float:
    """MiB of this process: VmRSS now, VmHWM at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) / 1024


def peak_elsewhere(method: str, steps: int, device: str) -> float:
    command = [sys.executable, str(Path(__file__).resolve()), "--peak", method, str(steps), "--device", device]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure(steps: int, rounds: int, device: str) -> dict[str, dict[str, float]]:
    """Of every method: the time and its ratio to direct's, the floor's ratio, memory and error."""
    memory = {method: peak_elsewhere(method, steps, device) for method in METHODS}
    v = Velocity().to(device)
    truth = gradients("direct", v, steps, device)
    times: dict[str, list[float]] = {method: [] for method in METHODS}
    passes = []
    for _ in range(rounds):
        passes.append(seconds(lambda: forward(v, device), device))
        for method in METHODS:
            times[method].append(seconds(lambda name=method: gradients(name, v, steps, device), device))
    floor = 3 * steps * statistics.median(passes)
    return {
        method: {
            "seconds": statistics.median(found),
            "time_ratio": statistics.median(a / b for a, b in zip(found, times["direct"], strict=True)),
            "floor_ratio": statistics.median(found) / floor,
            "memory_mb": memory[method],
            "gradient_error": float((gradients(method, v, steps, device) - truth).norm() / truth.norm()),
        }
        for method, found in times.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="5 and 20 steps, 3 rounds instead of 5")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--steps", type=int, nargs="+", default=None, help="numbers of steps; 5 10 20 50 where absent")
    parser.add_argument("--peak", nargs=2, metavar=("METHOD", "STEPS"), help="only print one method's peak memory, MiB")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        print(peak(options.peak[0], int(options.peak[1]), options.device))
        return
    found = {}
    print(f"{'steps':>5}  {'method':19}{'seconds':>9}{'to direct':>11}{'to 3NF':>8}{'memory':>11}{'error':>10}")
    for steps in options.steps or ((5, 20) if options.quick else (5, 10, 20, 50)):
        found[steps] = measure(steps, 3 if options.quick else 5, options.device)
        for method, row in found[steps].items():
            ratios = f"{row['time_ratio']:>11.3f}{row['floor_ratio']:>8.2f}"
            print(
                f"{steps:>5}  {method:19}{row['seconds']:>9.2f}{ratios}{row['memory_mb']:>7.0f} MiB"
                f"{row['gradient_error']:>10.1e}",
                flush=True,
            )
    keys = ("time_ratio", "memory_mb", "gradient_error")
    print(json.dumps({n: {m: {key: row[key] for key in keys} for m, row in rows.items()} for n, rows in found.items()}))


if __name__ == "__main__":
    main()
