"""Accuracy of a fine-tuned flow against the parameters that are trained, and against its calls of the network.

    python benchmarks/tuning.py --data ../shared/data/cifar10-jpeg --seeds 0 1 2
    python benchmarks/tuning.py --table

Every arm of a seed sees the same labelled pictures in the same batches, with the same augmentation, optimiser and rate,
without the flow's own loss, and is tested on the same test pictures; only what a row names differs. One rate, the
default, serves all arms: none was chosen. A row is written when its arm is done, and an arm that is there is not run
again. Seconds are of one processor core, from the first step to the numbers on the pictures held out.

Rows: benchmarks/results/tuning.csv.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path
from typing import Any

import torch

import bothways
from bothways.data.sources import ImageSet
from bothways.numerics.intervals import mean_interval, wilson_interval

FLOW = "bundled:cifar10-flow"
FILE = Path(__file__).parent / "results" / "tuning.csv"
WALK = {"kind": "walked", "depth": 0.5, "steps": 1}
NEAR = {"kind": "activations", "depth": 0.1}
ARMS: dict[str, dict[str, Any]] = {
    "all, walk of 1 step": {**WALK, "tune": "all"},
    "lora:16": {**WALK, "tune": "lora:16"},
    "lora:4": {**WALK, "tune": "lora:4"},
    "last:2": {**WALK, "tune": "last:2"},
    "bias": {**WALK, "tune": "bias"},
    "head": {**WALK, "tune": "head"},
    "head, on frozen activations": {**NEAR, "tune": "head"},
    "all, walk of 3 steps": {**WALK, "steps": 3, "tune": "all"},
    "all, walk of 5 steps": {**WALK, "steps": 5, "tune": "all"},
}
EQUAL = {"train_steps": 64, "batch": 25, "beta": 0.0, "average": 0.9, "bf16": True, "validation": 50, "labels": 500}
COLUMNS = ("arm", "seed", "accuracy", "low", "high", "pictures", "trained", "parameters", "calls", "seconds")
FEW = 3  # seeds from which on their mean has an interval
LABELLED, TESTED, AT_ONCE = 1500, 1000, 100  # pictures to choose the labels from, to test on, and in a batch of it


def main() -> None:
    given = arguments()
    if given.table:
        print(table())
        return
    train = bothways.load_images(given.data, split="train", limit=LABELLED)
    test = bothways.load_images(given.data, split="test", limit=TESTED)
    done = {(row["arm"], row["seed"]) for row in rows()}
    for seed in given.seeds:
        for arm, how in ARMS.items():
            if (arm, str(seed)) in done:
                continue
            out = Path(given.out) / f"{arm.replace(' ', '-').replace(',', '').replace(':', '-')}-{seed}"
            row = {"arm": arm, "seed": seed, **measured(how, seed, train, test, out)}
            write(row)
            print(json.dumps(row), flush=True)


def measured(how: dict[str, Any], seed: int, train: ImageSet, test: ImageSet, out: Path) -> dict[str, Any]:
    """An arm trained and tested: the facts of its row."""
    began = time.process_time()
    made = bothways.finetune(FLOW, train, seed=seed, workers=0, out=out, overwrite=out.exists(), **EQUAL, **how)
    seconds, facts = time.process_time() - began, made.measures["classifier"]
    right = 0
    for images, labels in zip(test.images.split(AT_ONCE), test.labels.split(AT_ONCE), strict=True):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            right += int((made.model.outputs(images.float() / 255).argmax(1) == labels).sum())
    low, high = wilson_interval(right, len(test))
    return {
        "accuracy": right / len(test), "low": round(low, 4), "high": round(high, 4), "pictures": len(test),
        "trained": facts["trained"], "parameters": facts["parameters"],
        "calls": made.model.module.classifier.how.calls, "seconds": round(seconds, 1),
    }  # fmt: skip


def table() -> str:
    """The rows as a table of Markdown: means of three seeds with Student's interval; of fewer each, with Wilson's."""
    head = ["| arm | seeds | accuracy (95 %) | trained | share | calls a picture | seconds |"]
    lines = [*head, "|" + "---|" * 7]
    for arm in ARMS:
        own = [row for row in rows() if row["arm"] == arm]
        if not own:
            continue
        each = [f"{float(row['accuracy']):.3f} ({row['low']} to {row['high']})" for row in own]
        if len(own) >= FEW:
            mean, low, high = mean_interval([float(row["accuracy"]) for row in own])
            each = [f"{mean:.3f} ({low:.3f} to {high:.3f})"]
        trained, parameters = int(own[0]["trained"]), int(own[0]["parameters"])
        seconds = sum(float(row["seconds"]) for row in own) / len(own)
        lines.append(
            f"| {arm} | {len(own)} | {', '.join(each)} | {trained:,} | {trained / parameters:.1%} "
            f"| {own[0]['calls']} | {seconds:.0f} |"
        )
    return "\n".join(lines)


def rows() -> list[dict[str, str]]:
    if not FILE.is_file():
        return []
    with FILE.open(newline="") as lines:
        return list(csv.DictReader(lines))


def write(row: dict[str, Any]) -> None:
    """Add a row."""
    fresh = not FILE.is_file()
    with FILE.open("a", newline="") as lines:
        writer = csv.DictWriter(lines, COLUMNS, lineterminator="\n")
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="", help="CIFAR-10 as a folder with train and test files")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", default="runs/tuning", help="folder of the runs")
    parser.add_argument("--table", action="store_true", help="print the table of the rows and end")
    return parser.parse_args()


if __name__ == "__main__":
    main()
