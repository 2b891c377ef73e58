"""Training of the paper's networks on a GPU: pictures a second, an epoch of fine-tuning, memory, and what `plan` says.

    python benchmarks/gpu.py --device cuda --minutes 8            # a line a case -> benchmarks/results/gpu.jsonl
    python benchmarks/gpu.py --device cpu --small                 # the same on a network of 0.2 M, to try it

Cases: pretraining of the 42.4 M and the 52.5 M network (unet-s, unet-m; 32 px, batches of 128 and 512, bfloat16), as it
is and compiled; and an epoch of fine-tuning on 50,000 pictures through walks of 5, 10 and 20 steps, batches of 512 in
bfloat16, without the flow's own loss as in the paper's code, by the exact gradient and by direct. A step is that of
training/fit.py with optimiser, average and checks, on one batch that lies on the device: reading and augmenting, which
workers do, is not in it. An epoch is extrapolated: steps are timed for some seconds, and scaled to 50,000 pictures.

    seconds        of a step, the median; floor_seconds: its operations over --peak, 790e12 a second, measured on an
                   H200 for products of large matrices in bfloat16
    memory_mb      the most that torch's allocator gave out; planned_mb: what bothways plan says
    planned_seconds  of its own probe
The paper's epochs, on four A100: 49, 103 and 187 s for walks of 5, 10 and 20 steps of the 42.4 M network.
A case that is in the file is not run again. Each is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from itertools import repeat
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "gpu.jsonl"
EPOCH = 50_000  # pictures of the paper's epoch
PAPER = {5: 49.0, 10: 103.0, 20: 187.0}  # seconds of one, on four A100
WARM = 3  # steps that are not timed
SLOW = 60.0  # seconds that a case may be timed for, at most, where its steps are long


def cases(small: bool) -> dict[str, dict[str, Any]]:
    """{name: the command that is planned, its settings, and whether its network is compiled}, in the order of worth."""
    found: dict[str, dict[str, Any]] = {}
    if small:
        net: dict[str, Any] = {"recipe": "paper/cifar10-icfm-s", "net": "unet-tiny"}
        found["pretrain unet-tiny, 4"] = {"command": "pretrain", "given": {**net, "fit.batch": 4}}
        walk = {"flow": "bundled:cifar10-flow", "recipe": "paper/cifar10-finetune", "fit.batch": 4, "beta": 0.0}
        for gradient in ("exact", "direct"):
            given = {**walk, "features.steps": 6, "gradient": gradient}
            found[f"finetune 6 steps, {gradient}, 4"] = {"command": "finetune", "given": given}
        return found
    own: dict[str, Any] = {"recipe": "paper/cifar10-icfm-s", "bf16": True}
    tuned = {"flow": "paper/cifar10-icfm-s", "recipe": "paper/cifar10-finetune", "beta": 0.0, "fit.batch": 512}
    for steps, gradient in ((5, "exact"), (20, "exact"), (20, "direct"), (10, "exact"), (10, "direct")):
        given = {**tuned, "features.steps": steps, "gradient": gradient}
        found[f"finetune {steps} steps, {gradient}"] = {"command": "finetune", "given": given, "steps": steps}
    for net in ("unet-s", "unet-m"):
        for batch in (128, 512):
            given = {**own, "net": net, "fit.batch": batch}
            found[f"pretrain {net}, {batch}"] = {"command": "pretrain", "given": given}
    given = {**own, "net": "unet-s", "fit.batch": 512}
    found["pretrain unet-s, 512, compiled"] = {"command": "pretrain", "given": given, "compiled": True}
    given = {**tuned, "features.steps": 5, "gradient": "exact"}
    found["finetune 5 steps, exact, compiled"] = {"command": "finetune", "given": given, "steps": 5, "compiled": True}
    return found


def measured(case: dict[str, Any], device: str, seconds: float, peak: float) -> dict[str, Any]:
    """A case: time, memory and operations of its step, and what is planned of them."""
    import torch

    from bothways.representation.tuning.parts import compile_flow
    from bothways.tasks.plan.config import PlanConfig
    from bothways.tasks.plan.estimate import counted
    from bothways.tasks.plan.probe import probed
    from bothways.tasks.plan.subject import subject_of
    from bothways.training.fit import FitState, fit

    gpu = device != "cpu"
    subject = subject_of(PlanConfig(command=case["command"], given=case["given"]))
    config = subject.config.fit.model_copy(update={"steps": 100_000, "rate": 1e-6})
    cost = counted(subject, gpu=gpu).cost
    torch.manual_seed(0)
    network = subject.network(device, gradient=subject.config.features.gradient if subject.steps else "direct")
    if case.get("compiled"):
        if subject.task == "finetune":
            compile_flow(network)
        else:
            network.network.compile()
    batch = subject.example(config.batch, device)
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    state, times, last = FitState(network, config), list[float](), 0.0
    begun = time.perf_counter()
    for _ in fit(state, subject.loss, repeat(batch), config):
        if gpu:
            torch.cuda.synchronize()
        now = time.perf_counter()
        times.append(now - (last or begun))
        last = now
        if len(times) > WARM + 2 and now - begun > max(seconds, 3 * times[-1]):
            break
    step = statistics.median(times[WARM:])
    memory = torch.cuda.max_memory_allocated() if gpu else float("nan")
    del state, network
    if gpu:
        torch.cuda.empty_cache()
    speed = None if case.get("compiled") else probed(subject, device).seconds(config.batch)
    steps = case.get("steps")
    return {
        "batch": config.batch, "seconds": round(step, 4), "timed": len(times) - WARM,
        "first_seconds": round(times[0], 1),
        "images_per_second": round(config.batch / step, 1), "epoch_seconds": round(step * EPOCH / config.batch, 1),
        "paper_epoch_on_four_a100": PAPER.get(steps), "operations": cost.operations,
        "floor_seconds": round(cost.operations / peak, 4), "times_floor": round(step * peak / cost.operations, 2),
        "memory_mb": round(memory / 1e6, 1), "planned_mb": round(cost.total / 1e6, 1),
        "memory_ratio": round(cost.total / memory, 3), "planned_seconds": speed and round(speed, 4),
        "time_ratio": speed and round(speed / step, 3), "share_of_989": round(cost.operations / step / 989e12, 3),
        "torch": torch.__version__, "device": torch.cuda.get_device_name() if gpu else "cpu",
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda or cpu")
    parser.add_argument("--minutes", type=float, default=8.0, help="no case begins after them")
    parser.add_argument("--seconds", type=float, default=6.0, help="that the steps of a case are timed for, about")
    parser.add_argument("--peak", type=float, default=790e12, help="operations a second of the floor")
    parser.add_argument("--small", action="store_true", help="the same on small networks")
    parser.add_argument("--only", nargs="+", help="some of the cases")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the file of the lines")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    given = parser.parse_args()
    listed = cases(given.small)
    if given.case:
        line = measured(listed[given.case], given.device, given.seconds, given.peak)
        print(json.dumps({"case": given.case, **line}))
        return
    end = time.monotonic() + 60 * given.minutes
    given.out.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line)["case"] for line in given.out.read_text().splitlines()] if given.out.exists() else []
    alone = {**os.environ, "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}
    for name in given.only or listed:
        left = end - time.monotonic()
        if name in done or left < SLOW / 4:
            continue
        options = ["--case", name, "--device", given.device, "--seconds", str(given.seconds), "--peak", str(given.peak)]
        command = [sys.executable, __file__, *options, *["--small"] * given.small]
        try:
            found = subprocess.run(command, env=alone, capture_output=True, text=True, timeout=left, check=True)
        except subprocess.TimeoutExpired:
            print(json.dumps({"left_out": name, "reason": "the time was over"}), flush=True)
            continue
        except subprocess.CalledProcessError as error:
            print(json.dumps({"left_out": name, "reason": error.stderr.splitlines()[-1:]}), flush=True)
            continue
        line = found.stdout.splitlines()[-1]
        print(line, flush=True)
        with given.out.open("a") as file:
            file.write(line + "\n")


if __name__ == "__main__":
    main()
