"""What `bothways plan` says of a training, beside what the training takes; and the costs in the recipes of papers.

    python benchmarks/plan.py [NAME ...]   # tiny trainings of digits -> benchmarks/results/plan.jsonl; NAME adds
    python benchmarks/plan.py --recipes [NAME ...]    # writes [expect.cost] of the recipes in recipes/paper

Memory: the most that torch's allocator has given out in one step, by its own profiler, with weights, average and
optimiser. Time: seconds of the processor in one thread, of the steps after the first, against a probe after them; the
wall clock of a machine that does other work says little. Each case is a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "plan.jsonl"
STEPS = 6  # of each training, the first of which is not timed
ON = "a100-80:4"  # the device of the costs in the recipes, where a step fits
SAYS = "# What bothways plan says"
SMALL = {"data": "digits", "workers": 1}
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "pretrain unet-tiny, 8 px": ("pretrain", {**SMALL, "batch": 128}),
    "pretrain unet-tiny, 8 px, bfloat16": ("pretrain", {**SMALL, "batch": 128, "bf16": True}),
    "pretrain unet-small, 32 px": ("pretrain", {**SMALL, "size": 32, "batch": 24}),
    "finetune unet-tiny, exact, 8 steps": ("finetune", {**SMALL, "batch": 32, "steps": 8}),
    "finetune unet-tiny, direct, 8 steps": ("finetune", {**SMALL, "batch": 32, "steps": 8, "gradient": "direct"}),
    "finetune unet-tiny, exact, 12 steps, beta 0": (
        "finetune",
        {**SMALL, "batch": 32, "steps": 12, "features.solver": "euler", "beta": 0.0},
    ),
    "finetune unet-tiny, exact, 8 steps, last:2": ("finetune", {**SMALL, "batch": 32, "steps": 8, "tune": "last:2"}),
    "finetune unet-tiny, exact, 8 steps, bias, 4 parts": (
        "finetune",
        {**SMALL, "batch": 32, "steps": 8, "tune": "bias", "accumulate": 4},
    ),
    "finetune unet-tiny, exact, 8 steps, blocks again": (
        "finetune",
        {**SMALL, "batch": 32, "steps": 8, "checkpoint_activations": True},
    ),
    "pretrain unet-tiny, 8 px, 4 parts": ("pretrain", {**SMALL, "batch": 128, "accumulate": 4}),
    "pretrain unet-tiny, 8 px, shares of two processes": (
        "pretrain",
        {**SMALL, "batch": 128, "fsdp": True, "steps": STEPS + 1},
    ),
}


def allocated(work: Any) -> float:
    """The most bytes that torch's allocator has given out at one time in a call, beyond those before it."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work()
    events = [event for event in found.profiler.kineto_results.events() if event.name() == "[memory]"]
    now = most = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now)
    return float(most)


def measured(task: str, settings: dict[str, Any], folder: Path) -> dict[str, float]:
    """A training of a few steps: bytes and seconds of a step."""
    from bothways.tasks.shelf import work_of
    from bothways.training.sharded import local

    work = work_of(task, **settings, out=folder / "run")
    frames, seconds = work.run(), []
    for _ in range(STEPS):
        began = time.process_time()
        next(frames)
        seconds.append(time.process_time() - began)
    state = work.training.state  # type: ignore[attr-defined]
    held = sum(local(value).nbytes for value in state.network.state_dict().values()) * (2 if state.average else 1)
    held += sum(value.nbytes for value in state.copy.state_dict().values()) if state.copy is not None else 0
    states = [value for one in state.optimizers for own in one.state.values() for value in own.values()]
    held += sum(local(value).nbytes for value in states)
    state.network.zero_grad(set_to_none=True)
    step = allocated(lambda: next(frames))
    if settings.get("fsdp"):  # a process that stops before the others ends them
        list(frames)
    frames.close()
    return {"memory": held + step, "seconds": sum(seconds[1:]) / (STEPS - 1)}


def planned(task: str, settings: dict[str, Any]) -> dict[str, float]:
    """What the plan says of the same, with its own probe."""
    from bothways.tasks.plan.config import PlanConfig
    from bothways.tasks.plan.estimate import counted
    from bothways.tasks.plan.probe import probed
    from bothways.tasks.plan.subject import subject_of

    subject = subject_of(PlanConfig(command=task, given=settings))
    several = int(os.environ.get("WORLD_SIZE", 1))
    cost = counted(subject, devices=several, sharded=several > 1).cost
    found = {"memory": cost.total, "operations": cost.operations}
    if several > 1:  # a probe is of one process
        return found
    return {**found, "seconds": probed(subject, "cpu", time.process_time).seconds(subject.config.fit.batch)}


def case(name: str, place: str) -> None:
    """One case, in this process; the line of the first goes to the results. place: a folder for its runs."""
    import torch

    import bothways

    torch.set_num_threads(1)
    task, settings = CASES[name]
    if task == "finetune":
        flow = bothways.pretrain(data="digits", steps=1, out=Path(place) / "flow")
        settings = {**settings, "flow": str(flow.folder.path)}
    found = measured(task, settings, Path(place))
    if os.environ.get("RANK", "0") != "0":
        return
    said = planned(task, settings)
    line = {
        "case": name,
        "planned_mb": round(said["memory"] / 1e6, 2),
        "measured_mb": round(found["memory"] / 1e6, 2),
        "memory_ratio": round(said["memory"] / found["memory"], 3),
        "operations": said["operations"],
        "torch": torch.__version__,
    }
    if "seconds" in said:
        line |= {"planned_seconds": round(said["seconds"], 4), "measured_seconds": round(found["seconds"], 4)}
        line["time_ratio"] = round(said["seconds"] / found["seconds"], 3)
    with RESULTS.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(json.dumps(line))


def costs_of(name: str) -> dict[str, dict[str, Any]]:
    """[expect.cost] of a recipe: of itself, and of the fine-tuning that it names; {} where no network is known."""
    from bothways.models.catalogue import BUILDERS
    from bothways.tasks.recipes import expectation

    expect = expectation(name)
    if expect["task"] == "pretrain":
        return {"pretrain": cost_of(name, {}), "finetune": cost_of("finetune", {"flow": name})}
    known = expect.get("network", {}).get("builder") in BUILDERS
    return {"finetune": cost_of(name, {})} if known else {}


def cost_of(command: str, given: dict[str, Any]) -> dict[str, Any]:
    """What a recipe states of a plan: operations and memory in four digits, hours in three."""
    from bothways.tasks.plan.config import PlanConfig
    from bothways.tasks.plan.run import prepare
    from bothways.tasks.work import Where, perform

    plan = perform(prepare(PlanConfig(command=command, given=given, device=ON), Where()))
    if not plan.fits:  # on as many of them as the plan says
        more = plan.facts["advice"][0].rpartition("--device ")[2]
        plan = perform(prepare(PlanConfig(command=command, given=given, device=more), Where()))
    facts = plan.facts
    return {
        "device": facts["device"]["text"],
        "parameters": facts["network"]["parameters"],
        "operations_of_a_step": float(f"{facts['operations']['step']:.4g}"),
        "memory_of_a_device": float(f"{facts['memory']['total']:.4g}"),
        "hours": float(f"{facts['time']['hours']:.3g}"),
    }


def write_costs(only: list[str]) -> None:
    """Write [expect.cost] at the end of the recipes of papers, or of some, in place of an earlier one.

    Path and coupling cost nothing, so that one of a family is counted for the three.
    """
    import tomli_w

    from bothways.tasks.recipes import PAPER, recipe_file, recipes

    counted: dict[str, dict[str, Any]] = {}
    for name in only or [*recipes("pretrain", PAPER), *recipes("finetune", PAPER)]:
        family = re.sub("-(gvp|icfm|otcfm)", "", name)
        costs = counted[family] = counted[family] if family in counted else costs_of(name)
        file = recipe_file(name)
        text = file.read_text().partition(f"\n{SAYS}")[0].rstrip() + "\n"
        if costs:
            text += f"\n{SAYS}, in bytes; hours by its guess of the speed (benchmarks/plan.py --recipes)\n"
            text += tomli_w.dumps({"expect": {"cost": costs}})
        file.write_text(text)
        print(name, costs, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="trainings to measure; all, and the file anew")
    parser.add_argument("--recipes", nargs="*", metavar="NAME", help="write the costs of these recipes, or of all")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if unknown := sorted(set(asked.names) - set(CASES)):
        parser.error(f"no training {unknown[0]!r}; type one of {', '.join(map(repr, CASES))}")
    if asked.recipes is not None:
        write_costs(asked.recipes)
    elif asked.case:
        case(*asked.case)
    else:
        measure(asked.names)


def measure(names: list[str]) -> None:
    """Each training in a process of its own, or two."""
    if not names:
        RESULTS.write_text("")
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name in names or CASES:
        several = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        start = [sys.executable, *(several if CASES[name][1].get("fsdp") else [])]
        with tempfile.TemporaryDirectory() as place:
            subprocess.run([*start, __file__, "--case", name, place], check=True, env=alone)


if __name__ == "__main__":
    main()
