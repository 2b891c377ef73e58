"""PRG beside its controls: what pretraining, walking and training through the walk are each worth to a classifier.

    python benchmarks/prg_controls.py --data ../shared/data/cifar10-jpeg --labels 500 --seeds 0 1 2
    python benchmarks/prg_controls.py --data ../shared/data/cifar10-jpeg --labels 5000 --arms prg fresh
    python benchmarks/prg_controls.py --set choices --data ../shared/data/cifar10-jpeg --labels 500
    python benchmarks/prg_controls.py --table
    python benchmarks/prg_controls.py --plot runs/prg.html --pictures docs/pictures     the rows of both sets as charts

Every arm of a number of labels sees the same labelled pictures in the same batches, equally often, with the same
augmentation, optimiser, rate and schedule, and is asked about the same test pictures; only what a row names differs.
So an arm that walks calls its network several times a picture and takes as much longer: seconds and calls stand in its
row. No setting was chosen on the test pictures.

Seconds are of one processor core, from the first step to the numbers on the pictures held out.

A row is written when its arm is done, and an arm that is there is not run again; a killed one goes on where it was,
and its seconds are then those since.
Rows: benchmarks/results/prg_controls.csv, or prg_choices.csv for ``--set choices`` (one choice of PRG at a time).
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bothways
from bothways.data.augmentations import StrongAugmentation
from bothways.data.images import batches
from bothways.models.adapter import Adapter
from bothways.models.nets.plain import PlainNet
from bothways.tasks.finetune.config import FinetuneConfig
from bothways.tasks.finetune.plan import Finetuning, plan_of
from bothways.tasks.recipes import configure
from bothways.training.fit import FitState, fit
from bothways.types import ModelSpec
from prg_page import reached, write_page

FLOW = "bundled:cifar10-flow"
RESULTS = Path(__file__).parent / "results"
WALK = {"kind": "walked", "depth": 0.5, "steps": 3}
NEAR = {"kind": "activations", "depth": 0.1}
BOTH = {**WALK, "kind": "both", "activation_depth": 0.1}
FRESH = {"fresh": True}
CONTROLS: dict[str, dict[str, Any]] = {
    "prg": WALK,
    "prg + activations": BOTH,
    "activations": NEAR,
    "activations, 18 epochs": {**NEAR, "epochs": 18},
    "no pretraining": {**WALK, **FRESH},
    "activations, no pretraining": {**NEAR, **FRESH},
    "frozen walked": {**WALK, "frozen": True},
    "frozen activations": {**NEAR, "frozen": True},
    "random walked": {**WALK, "frozen": True, "fresh": True},
    "random activations": {**NEAR, "frozen": True, "fresh": True},
    "pixels": {"kind": "pixels"},
    "plain cnn": {},
    "plain cnn, 72 epochs": {"epochs": 72},  # about as long as the walk takes for 12
}
CHOICES: dict[str, dict[str, Any]] = {
    "gradient exact, 5 steps": {**WALK, "steps": 5},
    "gradient adjoint, 5 steps": {**WALK, "steps": 5, "gradient": "adjoint"},
    "steps 1": {**WALK, "steps": 1},
    "steps 2": {**WALK, "steps": 2},
    "steps 10": {**WALK, "steps": 10},
    "depth 0.1": {**WALK, "depth": 0.1},
    "depth 0.25": {**WALK, "depth": 0.25},
    "depth 0.75": {**WALK, "depth": 0.75},
    "depth 1": {**WALK, "depth": 1.0},
    "beta 0": {**WALK, "beta": 0.0},
    "beta 10": {**WALK, "beta": 10.0},
}
SETS = {"controls": CONTROLS, "choices": CHOICES}
ALL = 47_500  # labels of the training file that are not held out
EQUAL: dict[int, dict[str, Any]] = {  # what is equal over the arms: at so many labels or fewer
    500: {"epochs": 12, "batch": 64},
    5000: {"epochs": 6, "batch": 128},
    ALL: {"epochs": 2, "batch": 128, "average": 0.998},
}
CNN = {"channels": [72, 144, 256, 288], "depths": [1, 2, 2, 2]}  # 2.5 M parameters, as flow and head have
COLUMNS = (
    "arm", "labels", "seed", "accuracy", "low", "high", "pictures", "corrupted", "seconds", "calls", "parameters",
    "epochs", "flow_matching", "flow_matching_before",
)  # fmt: skip


def settings(labels: int) -> dict[str, Any]:
    equal = next(values for most, values in sorted(EQUAL.items()) if labels <= most)
    always = {"flow_batch": equal["batch"] // 4, "rate": 1e-3, "layer_decay": 1.0, "bf16": True}
    return {"average": 0.98, **equal, **always}


def main() -> None:
    asked = arguments()
    file = RESULTS / f"prg_{asked.set}.csv"
    if asked.table:
        print(table(file))
        return
    if asked.plot:
        both = (rows(RESULTS / f"prg_{name}.csv") for name in SETS)
        write_page(Path(asked.plot), *both, CONTROLS | CHOICES, asked.pictures and Path(asked.pictures))
        return
    arms = SETS[asked.set]
    for labels in asked.labels:
        for seed in asked.seeds:
            for arm in asked.arms or arms:
                if (arm, str(labels), str(seed)) in {(r["arm"], r["labels"], r["seed"]) for r in rows(file)}:
                    continue
                row = {"arm": arm, "labels": labels, "seed": seed, **measured(arm, arms[arm], labels, seed, asked)}
                write(file, row)
                print(json.dumps(row), flush=True)
    print(json.dumps({"benchmark": "prg_controls", "set": asked.set, "rows": len(rows(file))}))


def measured(arm: str, how: dict[str, Any], labels: int, seed: int, asked: argparse.Namespace) -> dict[str, Any]:
    """An arm trained and asked: the facts of its row."""
    run = Path(asked.out) / f"{arm.replace(' ', '-').replace(',', '')}-{labels}-{seed}"
    chosen = {**settings(labels), **how, "labels": None if labels == ALL else labels, "seed": seed}
    losses: dict[str, Any] = {}
    if arm.startswith("plain cnn"):
        given = {"flow": FLOW, "data": asked.data, "recipe": "prg-small", "kind": "pixels", "beta": 0.0}
        plan = plan_of(configure(FinetuneConfig, **given, **chosen))
        model, seconds, parameters = plain(plan)
        address: Any = model
    else:
        began = time.process_time()
        made = bothways.finetune(FLOW, asked.data, "prg-small", out=run, resume=run.exists(), workers=0, **chosen)
        model, address = made.model, run
        facts, seconds = made.folder.measures["classifier"], time.process_time() - began
        parameters = facts["trained"]
        losses = {key: round(facts[key], 5) for key in ("flow_matching", "flow_matching_before")}
    ask = partial(bothways.evaluate, address, asked.data, dtype="bf16", overwrite=True)
    clean = ask(limit=asked.test, out=run / "clean")
    found = {"accuracy": clean["clean"]["top1"]["value"], "pictures": clean["clean"]["n"]}
    found |= {key: round(clean["clean"]["top1"][key], 4) for key in ("low", "high")}
    if asked.corrupted:
        worse = ask(limit=asked.corrupted, corruptions="offline", out=run / "corrupted")
        found["corrupted"] = round(worse["corruptions"]["mean"]["value"], 4)
    return {
        **found, "seconds": round(seconds, 1), "calls": calls(model), "parameters": parameters,
        "epochs": chosen["epochs"], **losses,
    }  # fmt: skip


def plain(plan: Finetuning) -> tuple[Adapter, float, int]:
    """A plain convolutional network trained as the arms are."""
    chosen = plan.config
    with torch.random.fork_rng():
        torch.random.manual_seed(chosen.seed)
        network = PlainNet(**CNN).to(memory_format=torch.channels_last)  # type: ignore[arg-type, call-overload]
    how = chosen.fit.model_copy(update={"rate": 1e-3})
    state = FitState(network, how)
    augmentation = StrongAugmentation(**chosen.augmentation.model_dump())
    draw = batches(plan.train, how.batch, chosen.seed, augmentation)

    def loss(net: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        logits = net(2 * batch[0] - 1)
        return F.cross_entropy(logits.float(), batch[1], label_smoothing=chosen.loss.label_smoothing), {}

    began = time.process_time()
    for _ in fit(state, loss, draw, how, seed=chosen.seed):
        pass
    seconds = time.process_time() - began
    spec = ModelSpec(32, (0.5,) * 3, (0.5,) * 3, plan.classes)
    return Adapter(state.result.eval(), spec, name="plain"), seconds, sum(p.numel() for p in network.parameters())


@torch.no_grad()
def calls(model: Adapter) -> int:
    """How often a network is called for one picture."""
    count = 0

    def counted(*_: object) -> None:
        nonlocal count
        count += 1

    network = getattr(model.module, "flow", model.module)
    hook = network.register_forward_pre_hook(counted)
    model.outputs(torch.rand(1, 3, 32, 32))
    hook.remove()
    return count


def rows(file: Path) -> list[dict[str, str]]:
    if not file.is_file():
        return []
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def write(file: Path, row: dict[str, Any]) -> None:
    """Add a row; several processes may."""
    file.parent.mkdir(exist_ok=True)
    new = not file.exists()
    with file.open("a", newline="") as lines:
        writer = csv.DictWriter(lines, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow(row)


def table(file: Path) -> str:
    """Markdown: a row an arm and number of labels; several seeds as their mean, and its t interval over seeds."""
    found: dict[tuple[str, int], list[dict[str, str]]] = {}
    for row in rows(file):
        found.setdefault((row["arm"], int(row["labels"])), []).append(row)
    order = list(dict.fromkeys(arm for arm, _ in found))
    lines = [
        "| labels | arm | seeds | accuracy (95 %) | corrupted | seconds | calls a picture | trained |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (arm, labels), of in sorted(found.items(), key=lambda item: (item[0][1], order.index(item[0][0]))):
        clean, worse = reached(of), reached(of, "corrupted")
        told = f"{worse['value']:.3f}" if worse else ""
        seconds = sum(float(row["seconds"]) for row in of) / len(of)
        share = "{value:.3f} ({low:.3f} to {high:.3f})".format(**clean)
        trained = f"{int(of[0]['parameters']) / 1e6:.2f} M"
        lines.append(
            f"| {labels:,} | {arm} | {len(of)} | {share} | {told} | {seconds:.0f} | {of[0]['calls']} | {trained} |"
        )
    return "\n".join(lines)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="labelled pictures with a test split")
    parser.add_argument("--set", choices=SETS, default="controls")
    parser.add_argument("--labels", type=int, nargs="+", default=[500])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--arms", nargs="+", help="some of them; all where left out")
    parser.add_argument("--test", type=int, default=2000, help="test pictures, evenly spaced")
    parser.add_argument("--corrupted", type=int, default=200, help="test pictures of each corruption; 0 for none")
    parser.add_argument("--out", default="runs/controls", help="run folders of the arms")
    parser.add_argument("--table", action="store_true", help="print the table of the rows there are")
    parser.add_argument("--plot", metavar="FILE.html", help="write the rows of both sets as a page of charts")
    parser.add_argument("--pictures", metavar="FOLDER", help="with --plot: its halves as controls.png and choices.png")
    return parser.parse_args()


if __name__ == "__main__":
    main()
