"""What a whole step costs beside the calls of the network that it cannot do without.

    python benchmarks/overhead.py [--rounds N] [--only WORD ...] [--data path/to/cifar10]

A step of a task, with its run folder, and its floor, in turn: floor, step, floor. The ratio of a pair is
2 step / (floor + floor) in CPU time of this process, on one thread; the table has the median over the rounds, the
lowest and the highest. The floors:

    generate    forward and backward of the bare network, in its input, of as many copies as the step shows it
    pretrain    forward, loss and backward of the bare network of the same batch, which is in memory
    finetune    forward, loss and backward of the same classifier with direct backpropagation through its walk
    features    the bare calls of the network of the same pictures, which are in memory (benchmarks/features.py)
    dsf         forward and backward of the bare network, in its input, of as many pictures (benchmarks/dsf.py)

A step of a training is drawing the batch with its pairs, the floor, the checks, the optimiser and the average of the
weights. Operations: multiplications and additions of matrix products and convolutions, as torch counts them. Bytes: of
the tensors that operators read and write, one by one, whatever a cache saves; a view is neither.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

import dsf
import features
from bothways import load_model
from bothways.synthesis.dsf.score import dsf_score
from bothways.tasks.shelf import work_of

MANY = 10_000  # steps of a run, more than are made
SMALL, LARGE = "bundled:cifar10-resnet", "imagenet:efficientnet-lite0"
CLASSES = {SMALL: list(range(10)), LARGE: [9, 88]}
FLOW = "bundled:cifar10-flow"
NETWORK = {"width": 40, "multiples": [1, 2, 2], "blocks": 1, "attention": [2, 4], "patch": 2}
BATCH = {"pretrain": 64, "finetune": 8}


@dataclass(frozen=True)
class Pair:
    """A step, its floor, and the ratio that it is to stay under."""

    step: Callable[[], object]
    floor: Callable[[], object]
    goal: float


class Counts(TorchDispatchMode):
    """Sums the operations of the operators and the bytes of the tensors that they read and write."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        if func._overloadpacket is torch.ops.aten.convolution_backward and not args[7]:
            # by itself: torch counts the gradient of the weights of a grouped one as if it had one group
            self.operations += 2 * args[0].numel() * args[2][0].numel() * sum(args[10][:2])
        elif (operations := flop_registry.get(_not_in_place(func._overloadpacket))) is not None:
            self.operations += operations(*args, **kwargs, out_val=found)
        if not func.is_view:
            tensors = [leaf for leaf in tree_leaves((args, kwargs, found)) if torch.is_tensor(leaf)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return found


def _not_in_place(packet: Any) -> Any:
    """The operator that does the same, and makes a tensor of its own: torch counts those alone."""
    name = packet.__name__
    return getattr(torch.ops.aten, name[:-1], packet) if name.endswith("_") and not name.endswith("__") else packet


def counted(call: Callable[[], object]) -> tuple[float, float]:
    """(operations / 1e9, bytes / 1e6) of a call."""
    with Counts() as counts:
        call()
    return counts.operations / 1e9, counts.bytes / 1e6


def seconds(call: Callable[[], object]) -> float:
    began = time.process_time()
    call()
    return time.process_time() - began


# ---- the pairs -----------------------------------------------------------------------------------------------------


def backward(network: Any, seen: Tensor) -> None:
    """Forward and backward of the bare network in its input."""
    seen = seen.detach().requires_grad_()
    torch.autograd.grad(network(seen)[:, 0].sum(), seen)


@contextmanager
def drawing(address: str, recipe: str, place: Path) -> Iterator[Pair]:
    chosen = {"classes": CLASSES[address], "n": 1, "recipe": recipe, "ascent.steps": MANY, "verdicts": False}
    work: Any = work_of("generate", address, **chosen, out=place)
    model, config = work.model, work.config
    copies = len(CLASSES[address]) * config.views.copies
    layout = torch.channels_last if model.channels_last else torch.contiguous_format
    bare = torch.rand(copies, 3, model.spec.height, model.spec.width).contiguous(memory_format=layout)
    with closing(work.run()) as frames:
        yield Pair(lambda: next(frames), partial(backward, model.module, bare), 1.15)


@contextmanager
def training(task: str, place: Path, goal: float) -> Iterator[Pair]:
    data = torch.randint(0, 256, (1000, 3, 32, 32), generator=torch.Generator().manual_seed(0)).byte()
    labels = [k % 10 for k in range(len(data))]
    run = {"workers": 0, "save_every": MANY, "fit.steps": MANY, "fit.batch": BATCH[task], "validation": 100}
    if task == "pretrain":
        work: Any = work_of(task, (data, labels), network=NETWORK, **run, out=place)
        network, loss = work.planned.flow, work.planned.loss
    else:
        work = work_of(task, FLOW, (data, labels), **run, out=place)
        network, loss = direct(work.planned.classifier), work.planned.loss
    batch = work.training.batch(0)

    def floor() -> None:
        network.zero_grad(set_to_none=True)
        loss(network, batch)[0].backward()

    with closing(work.run()) as frames:
        yield Pair(lambda: next(frames), floor, goal)


def direct(classifier: Any) -> Any:
    """The same classifier, with the same weights, whose walk is differentiated through all of its steps."""
    other = copy.copy(classifier)
    other.how = replace(classifier.how, walk=replace(classifier.how.walk, gradient="direct"))
    return other


@contextmanager
def scoring(address: str) -> Iterator[Pair]:
    model = load_model(address)
    image = dsf.pictures(model.spec.height)
    seen = model.module_input(image)
    yield Pair(lambda: dsf_score(model, image), partial(backward, model.module, seen), 5.0)


def pairs(place: Path) -> dict[str, Callable[[], Any]]:
    """{row: what opens its pair}."""
    drawn = {
        f"generate {recipe}, {size} px": partial(drawing, address, recipe, place / f"{recipe}-{size}")
        for address, size in ((SMALL, 32), (LARGE, 224))
        for recipe in ("das", "photographs")
    }
    trained = {
        task: partial(training, task, place / task, goal) for task, goal in (("pretrain", 1.1), ("finetune", 1.3))
    }
    return {**drawn, **trained, **{f"dsf {address}": partial(scoring, address) for address in dsf.MODELS}}


# ---- measuring -----------------------------------------------------------------------------------------------------


def measured(pair: Pair, rounds: int) -> dict[str, float]:
    for call in (pair.step, pair.floor):
        call()
    operations, traffic = zip(counted(pair.step), counted(pair.floor), strict=True)
    ratios, floors = [], []
    for _ in range(rounds):
        before, taken, after = seconds(pair.floor), seconds(pair.step), seconds(pair.floor)
        ratios.append(2 * taken / (before + after))
        floors.append((before + after) / 2)
    return {
        "ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios), "goal": pair.goal,
        "floor_ms": 1e3 * statistics.median(floors), "gflop": operations[0], "floor_gflop": operations[1],
        "mb": traffic[0], "floor_mb": traffic[1],
    }  # fmt: skip


def of_features(data: str, rounds: int, dtype: str) -> Iterator[tuple[str, dict[str, float]]]:
    """Rows of features: 1 / ratio of benchmarks/features.py."""
    asked = argparse.Namespace(data=data, rounds=rounds, batch=128, dtype=dtype)
    for kind in features.KINDS:
        yield f"features {kind}, {dtype}", {"ratio": 1 / features.measured(kind, asked)["ratio"], "goal": 1 / 0.95}


def row_of(name: str, found: dict[str, float]) -> str:
    """A row of the table in Markdown."""
    if "low" not in found:
        return f"| {name} | | | | {found['ratio']:.2f} | | {found['goal']:.2f} |"
    return (
        f"| {name} | {found['gflop']:.1f} / {found['floor_gflop']:.1f} | {found['mb']:,.0f} / {found['floor_mb']:,.0f} "
        f"| {found['floor_ms']:.0f} | {found['ratio']:.2f} | {found['low']:.2f} to {found['high']:.2f} "
        f"| {found['goal']:.2f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", nargs="+", default=[""], help="rows with one of these words in their name")
    parser.add_argument("--data", help="pictures of 32 pixels with a test split, for the rows of features")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print("| step | 1e9 operations, step / floor | MB, step / floor | floor, ms | ratio | lowest to highest | goal |")
    print("|---|---|---|---|---|---|---|")
    everything: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as place:
        for name, opened in pairs(Path(place)).items():
            if any(word in name for word in asked.only):
                try:
                    with opened() as pair:
                        everything[name] = measured(pair, asked.rounds)
                except FileNotFoundError as error:
                    print(f"{name}: skipped, no weights at {error.filename}")
                    continue
                print(row_of(name, everything[name]), flush=True)
    for dtype in ("float32", "bf16") if asked.data and any(word in "features" for word in asked.only) else ():
        for name, found in of_features(asked.data, asked.rounds, dtype):
            everything[name] = found
            print(row_of(name, found), flush=True)
    print(json.dumps(everything))


if __name__ == "__main__":
    main()
