"""The image stack as an operator against the stack itself: time, error, memory, and its share of a whole step.

    python benchmarks/stack.py [--quick]

A step is: image from the parameters, its gradient back to them, SGD on all of them. 224 px, 56 levels (4, 8, .., 224),
one picture, float32, one thread, CPU time; medians of interleaved pairs. Expected: at least 10x faster; one step within
1 % truncated and 1e-10 exact in float64; under 5 % of a step whose model is SqueezeNet 1.1 seeing 16 copies (random
weights: they do not change its speed).

Memory: each engine is built and stepped in a process of its own; its peak resident size (ru_maxrss) above what that
process had after importing torch and one small step. Building the operator is inside.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from bothways.synthesis.parameterizations.stack import Engine, ImageStack

SIZE, LEVELS, COPIES = 224, range(4, 225, 4), 16
KIB = 1024 if sys.platform != "darwin" else 1  # ru_maxrss is in KiB on Linux, in bytes on macOS


class Fire(nn.Module):
    """SqueezeNet's block (Iandola et al., arXiv 1602.07360, section 3.1): squeeze, then two widths of expansion."""

    def __init__(self, inputs: int, squeezed: int, expanded: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, 1)
        self.one, self.three = nn.Conv2d(squeezed, expanded, 1), nn.Conv2d(squeezed, expanded, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x).relu()
        return torch.cat([self.one(x).relu(), self.three(x).relu()], 1)


def squeezenet() -> nn.Module:
    """SqueezeNet 1.1 with random weights: (B,3,224,224) -> (B,1000)."""

    def pool() -> nn.Module:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    layers = [nn.Conv2d(3, 64, 3, 2), nn.ReLU(), pool(), Fire(64, 16, 64), Fire(128, 16, 64), pool()]
    layers += [Fire(128, 32, 128), Fire(256, 32, 128), pool()]
    layers += [Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256)]
    layers += [nn.Conv2d(512, 1000, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers).requires_grad_(False)


def stack(engine: Engine, size: int = SIZE, dtype: torch.dtype = torch.float32, **options: float) -> ImageStack:
    levels = [level for level in LEVELS if level <= size]
    return ImageStack(torch.full((1, 3, size, size), 0.5, dtype=dtype), levels, None, engine, "tanh", **options)


def stepper(held: ImageStack, grad: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.SGD(held.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        held.image().backward(grad)
        optimizer.step()

    return step


def viewer(model: nn.Module) -> Callable[[], Tensor]:
    """The gradient of a class at the picture, through 16 shifted copies of it."""
    image = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))

    def view() -> Tensor:
        seen = image.clone().requires_grad_()
        copies = torch.cat([seen.roll((3 * i, -2 * i), (2, 3)) for i in range(COPIES)])
        return torch.autograd.grad(model(copies)[:, 0].mean(), seen)[0]

    return view


def milliseconds(call: Callable[[], object]) -> float:
    """CPU time of this process: on one thread the wall time of an idle machine, whatever else runs."""
    start = time.process_time()
    call()
    return 1e3 * (time.process_time() - start)


def step_error(operator: ImageStack, explicit: ImageStack, grad: Tensor) -> float:
    """Of one SGD step on the canvas, relative L2 distance."""
    moved = []
    for held in (operator, explicit):
        gradients = torch.autograd.grad(held.image(), held.parameters(), grad.to(held.start.dtype))
        moved.append(held.canvas(gradients).double())
    return float((moved[0] - moved[1]).norm() / moved[1].norm())


def peak(engine: Engine) -> float:
    """MiB above the baseline; the current process must be fresh."""
    stepper(stack(engine, 16), torch.ones(1, 3, 16, 16))()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step = stepper(stack(engine), torch.ones(1, 3, SIZE, SIZE))
    for _ in range(2):
        step()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * KIB / 2**20


def peak_elsewhere(engine: Engine) -> float:
    command = [sys.executable, str(Path(__file__).resolve()), "--peak", engine]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def measure(pairs: int) -> dict[str, float]:
    peaks = {engine: peak_elsewhere(engine) for engine in ("operator", "explicit")}  # first, while this one is small
    white = torch.randn(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    calls: dict[str, Callable[[], object]] = {
        "operator": stepper(stack("operator"), white),
        "explicit": stepper(stack("explicit"), white),
        "model": viewer(squeezenet().eval()),
    }
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(pairs):
        for name, call in calls.items():
            times[name].append(milliseconds(call))
    medians = {name: statistics.median(values) for name, values in times.items()}

    explicit, exact = stack("explicit", dtype=torch.float64), stack("operator", dtype=torch.float64, tolerance=0.0)
    seen = viewer(squeezenet().eval())()
    return {
        "ms_operator": medians["operator"],
        "ms_stack": medians["explicit"],
        "ms_model": medians["model"],
        "rank": stack("operator").operator.rank,
        "error_model_gradient": step_error(stack("operator"), explicit, seen),
        "speedup": statistics.median(e / o for e, o in zip(times["explicit"], times["operator"], strict=True)),
        "error_truncated": step_error(stack("operator"), explicit, white),
        "error_exact64": step_error(exact, explicit, white),
        "share": medians["operator"] / (medians["operator"] + medians["model"]),
        "peak_mb_operator": peaks["operator"],
        "peak_mb_stack": peaks["explicit"],
    }


ROWS = (
    ("operator, one step", "ms_operator", "{:.1f} ms", ""),
    ("explicit stack, one step", "ms_stack", "{:.1f} ms", ""),
    ("SqueezeNet 1.1, 16 copies", "ms_model", "{:.1f} ms", ""),
    ("terms kept", "rank", "{}", ""),
    ("speedup", "speedup", "{:.1f}x", ">= 10x"),
    ("error of a step, float32", "error_truncated", "{:.2e}", "< 1e-2"),
    ("  along the model's gradient", "error_model_gradient", "{:.2e}", ""),
    ("error of a step, float64, all terms", "error_exact64", "{:.1e}", "< 1e-10"),
    ("share of a whole step", "share", "{:.1%}", "< 5 %"),
    ("peak memory, operator", "peak_mb_operator", "{:.0f} MiB", ""),
    ("peak memory, explicit stack", "peak_mb_stack", "{:.0f} MiB", ""),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="3 pairs instead of 9")
    parser.add_argument("--peak", choices=("operator", "explicit"), help="only print one engine's peak memory in MiB")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.peak:
        print(peak(options.peak))
        return
    found = measure(3 if options.quick else 9)
    for label, key, form, goal in ROWS:
        print(f"{label:38}{form.format(found[key]):>12}   {goal}")
    keys = ("speedup", "error_truncated", "error_exact64", "share", "peak_mb_operator", "peak_mb_stack")
    print(json.dumps({key: found[key] for key in keys}))


if __name__ == "__main__":
    main()
