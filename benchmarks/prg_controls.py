"""PRG beside its controls: what pretraining, walking and training through the walk are each worth to a classifier.

    python benchmarks/prg_controls.py --data path/to/cifar10 --labels 500 --seeds 0 1 2
    python benchmarks/prg_controls.py --data ... --labels 5000 --seeds 0 1 2 --device cuda --processes 6 --minutes 9
    python benchmarks/prg_controls.py --data ... --labels 47500 --rates-of 5000 --device cuda --processes 6
    python benchmarks/prg_controls.py --set choices --data ... --labels 500 --rates-of 5000 --seeds 0 1 2 --corrupted 0
    python benchmarks/prg_controls.py --set moved --data ... --labels 5000 --seeds 0 1 2      after the first
    python benchmarks/prg_controls.py --table [--set choices]
    python benchmarks/prg_controls.py --plot runs/prg.html --pictures docs/pictures     the rows of both sets as charts

Every arm of a number of labels sees the same labelled pictures in the same batches, equally often, with the same
augmentation, optimiser and schedule, and is tested on the same test pictures; only what a row names differs. The rate
of each arm is that of RATES whose accuracy on the 2,500 pictures held out is the highest, with the first seed alone;
--more-rates tries others too, for an arm whose best is the highest or lowest. --rates-of takes the rates that another
number of labels chose. The choices of PRG have the rate of the arm "prg" in prg_controls.csv, and are compared with the
same arm trained beside them. No setting was chosen on the test pictures.

The plain networks have as many parameters as flow and head. Arms of equal operations are trained for as many as "prg"
(matrix products and convolutions, counted in a step of each), one plain network for those of the flow's pretraining
too; these two plain networks in batches of 512.

Arms are trained in bfloat16; --precision float32 is for a processor without its arithmetic, where that takes several
times as long. Seconds are of the steps alone: of one processor core, or on a GPU by the clock, where other processes
share it. A row is written when its arm is done, and an arm that is there is not run again; a killed one goes on where
it was.
Rows: prg_controls.csv, prg_choices.csv and prg_moved.csv below --results. Moved are the arms "prg" and
"prg + activations", with other steps, depths and solvers than those they were trained with.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import bothways
from bothways.data.augmentations import StrongAugmentation
from bothways.data.corruptions import SEVERITIES, corrupt
from bothways.data.images import batches
from bothways.data.sources import ImageSet
from bothways.models.adapter import Adapter
from bothways.models.classifiers import features_config, flow_in, reading
from bothways.models.loader import adapted_classifier, load_flow
from bothways.numerics.draws import Draws, picture_seed
from bothways.numerics.intervals import holm, paired_difference, seeds_told, wilson_interval
from bothways.processes.allocator import keep_freed_memory
from bothways.tasks.finetune.config import FinetuneConfig
from bothways.tasks.finetune.plan import Finetuning, plan_of
from bothways.tasks.recipes import configure
from bothways.tasks.shelf import work_of
from bothways.tasks.work import perform
from bothways.training.fit import FitState, fit
from bothways.types import ModelSpec, RunError
from prg_arms import (
    ALL,
    CHOICES,
    CONTROLS,
    HELD,
    SETS,
    few_of,
    name_of,
    operations_of,
    operations_of_step,
    pretraining,
    settings,
    sized,
)
from prg_page import losses_of, reached, write_page
from workers import spread

FLOW = "bundled:cifar10-flow"
RESULTS = Path(__file__).parent / "results"
RATES = (3e-4, 1e-3, 3e-3)
COLUMNS = (
    "arm", "labels", "seed", "accuracy", "low", "high", "pictures", "corrupted", "seconds", "calls", "parameters",
    "epochs", "flow_matching", "flow_matching_before", "rate", "held", "batch", "size", "operations",
    "operations_a_picture", "flow", "device", "precision",
)  # fmt: skip
MOVED = ("arm", "labels", "seed", "what", "value", "accuracy", "low", "high", "pictures", "calls", "flow", "device")
STEPS = (1, 2, 3, 5, 10, 20, 50, 100, 1000)
OFFSETS = (-0.2, -0.1, -0.05, 0.05, 0.1, 0.2)
SOLVERS = ("heun", "midpoint", "ab2", "rk4")
MANY = 100  # steps from which on fewer pictures are walked
Rows = Sequence[Mapping[str, Any]]


class Job(NamedTuple):
    """An arm to train at a rate. epochs: of a network that is trained for what others took; 0 for those of all."""

    arm: str
    labels: int
    seed: int
    rate: float
    epochs: int = 0


class Pictures(NamedTuple):
    """train, test: in memory. corrupted: (kind, severity, pictures (N,3,H,W) uint8, labels (N,)) of each condition."""

    train: ImageSet
    test: ImageSet
    corrupted: list[tuple[str, int, Tensor, Tensor]]


# ---- which arms are left -------------------------------------------------------------------------------------------


def chosen_rate(rows: Rows, arm: str, labels: int, seed: int, rates: Sequence[float] = RATES) -> float | None:
    """Of those tried, the rate with the highest accuracy on pictures held out, with this seed; None until all were."""
    tried = {
        float(row["rate"]): float(row["held"])
        for row in rows
        if (row["arm"], int(row["labels"]), int(row["seed"])) == (arm, labels, seed) and row.get("rate")
    }
    return max(sorted(tried), key=lambda rate: tried[rate]) if set(rates) <= set(tried) else None


def found(rows: Rows, arm: str, labels: int, seed: int, rate: float | None) -> Mapping[str, Any] | None:
    """The row of an arm at a rate, if it is done."""
    for row in rows:
        if (row["arm"], int(row["labels"]), int(row["seed"])) == (arm, labels, seed) and float(
            row["rate"] or 0
        ) == rate:
            return row
    return None


def remaining(
    rows: Rows, arms: Mapping[str, Mapping[str, Any]], names: Sequence[str], labels: int, seeds: Sequence[int],
    rate_of: Callable[[str], float | None] | None = None, pretrained: float = 0.0, rates: Sequence[float] = RATES,
) -> list[Job]:  # fmt: skip
    """The jobs that can begin now: all rates of the first seed, then the other seeds at the rate that is chosen.

    rate_of: of an arm, where it was chosen elsewhere. pretrained: operations of the flow's pretraining.
    """
    jobs = []
    for place, seed in enumerate(seeds):
        for arm in names:
            rate = rate_of(arm) if rate_of is not None else chosen_rate(rows, arm, labels, seeds[0], rates)
            now = [rate] if rate is not None else [] if rate_of is not None or place else rates
            epochs = epochs_of(rows, arms[arm], labels, seed, seeds[0], rate_of, pretrained)
            if epochs is not None:
                jobs += [Job(arm, labels, seed, one, epochs) for one in now if not found(rows, arm, labels, seed, one)]
    return jobs


def epochs_of(
    rows: Rows, how: Mapping[str, Any], labels: int, seed: int, first: int,
    rate_of: Callable[[str], float | None] | None, pretrained: float,
) -> int | None:  # fmt: skip
    """The epochs of an arm: 0 for those of all; of one that has the operations of "prg", None until these are known.

    epochs = round((operations of "prg" [+ of the flow's pretraining]) / operations of an epoch of the base)
    """
    if "base" not in how:
        return 0
    pair = []
    for arm in ("prg", how["base"]):
        rate = rate_of(arm) if rate_of is not None else chosen_rate(rows, arm, labels, first)
        pair.append(found(rows, arm, labels, seed, rate))
    walked, base = pair
    if walked is None or base is None or not walked["operations"] or not base["operations"]:
        return None
    whole = float(walked["operations"]) + (pretrained if how.get("pretraining") else 0.0)
    return max(1, round(whole / float(base["operations"]) * int(base["epochs"])))


def chosen(rows: Rows) -> list[Mapping[str, Any]]:
    """The rows at the rates that were chosen: those of each arm that stand for it.

    An arm that was tried at fewer rates than RATES, where others of its number of labels were, is not done, and left
    out.
    """
    first = {(r["arm"], r["labels"]): r["seed"] for r in reversed(rows)}  # the seed of the first row
    tried: dict[tuple[str, str], dict[str, Mapping[str, Any]]] = {key: {} for key in first}
    for row in rows:
        if row["seed"] == first[row["arm"], row["labels"]]:
            tried[row["arm"], row["labels"]][row["rate"]] = row
    whole = {labels: min(len(RATES), max(len(own) for (_, of), own in tried.items() if of == labels))
             for _, labels in tried}  # fmt: skip
    best = {key: max(own, key=lambda rate: float(own[rate]["held"] or 0))
            for key, own in tried.items() if len(own) >= whole[key[1]]}  # fmt: skip
    return [row for row in rows if best.get((row["arm"], row["labels"])) == row["rate"]]


# ---- training and testing ------------------------------------------------------------------------------------------


def measured(job: Job, how: Mapping[str, Any], asked: argparse.Namespace, pictures: Pictures) -> dict[str, Any]:
    """An arm trained and tested: the facts of its row."""
    given = {key: value for key, value in how.items() if key not in ("base", "pretraining")}
    equal = settings(job.labels) | {"bf16": asked.precision == "bf16"}
    given |= {**equal, "rate": job.rate, "seed": job.seed, "validation": asked.held, "device": asked.device}
    given |= {"labels": None if job.labels == ALL else job.labels, "workers": int(asked.device != "cpu"), **given}
    given |= {"epochs": asked.epochs or job.epochs or equal["epochs"], "save_every": 1000}
    if asked.device != "cpu":
        torch.backends.cudnn.benchmark = True
    if job.arm.startswith("plain cnn"):
        batch = how.get("batch", given["batch"])
        model, facts = plain(given, min(batch, job.labels), asked, pictures.train)
    else:
        model, facts = walked(job, given, asked, pictures.train)
    right, low, high = tested(model, pictures.test)
    row = {"accuracy": round(right, 4), "low": round(low, 4), "high": round(high, 4), "pictures": len(pictures.test)}
    if pictures.corrupted:
        row["corrupted"] = round(corrupted_accuracy(model, pictures), 4)
    one = torch.full((1, 3, *pictures.test.shape), 0.5, device=model.device)
    row |= {"operations_a_picture": operations_of(lambda: model.outputs(one)), "calls": calls(model)}
    return {
        **row,
        **facts,
        "rate": job.rate,
        "epochs": given["epochs"],
        "flow": asked.flow,
        "device": device_name(asked),
        "precision": asked.precision,
    }


def walked(
    job: Job, given: dict[str, Any], asked: argparse.Namespace, train: ImageSet
) -> tuple[Adapter, dict[str, Any]]:
    """A classifier made of the flow."""
    out = Path(asked.out) / name_of(*job[:4], asked.epochs)
    work: Any = work_of("finetune", asked.flow, train, "prg-small", out=out, resume=out.exists(), **given)
    planned: Finetuning = work.planned
    whole, steps = planned.config.fit.batch, planned.config.fit.total
    batch = few_of(planned, planned.batch()(0))
    of_step = operations_of_step(planned.classifier, planned.loss, batch, whole, planned.config.fit.bf16)
    clock = clock_of(asked.device)
    times = [clock()]
    made = perform(work, lambda frame: times.append(clock()))
    facts = made.measures["classifier"]
    return made.model.adapter if hasattr(made.model, "adapter") else made.model, {
        "seconds": round(seconds_of(times, steps), 3), "parameters": facts["trained"], "size": planned.parameters,
        "held": round(facts["accuracy"], 4), "batch": whole, "operations": of_step * steps,
        **{key: round(facts[key], 5) for key in ("flow_matching", "flow_matching_before")},
    }  # fmt: skip


def plain(
    given: dict[str, Any], batch: int, asked: argparse.Namespace, train: ImageSet
) -> tuple[Adapter, dict[str, Any]]:
    """A plain convolutional network of as many parameters as flow and head, trained as the arms are."""
    config = configure(FinetuneConfig, flow=asked.flow, data=train, recipe="prg-small", **{**given, "batch": batch})
    plan = plan_of(config)
    chosen, device = plan.config, torch.device(asked.device)
    with torch.random.fork_rng(devices=[]):
        torch.random.manual_seed(chosen.seed)
        network = sized(plan.parameters, len(plan.train.classes)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network, how = network.to(device), chosen.fit
    state = FitState(network, how)
    augmentation = StrongAugmentation(**chosen.augmentation.model_dump(exclude={"mixup", "cutmix"}))
    held = plan.train.loaded()
    on_device = replace(held, images=held.images.to(device), labels=held.labels.to(device))
    draw = batches(on_device, how.batch, chosen.seed, augmentation)

    def loss(net: nn.Module, part: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        x = (2 * part[0] - 1).contiguous(memory_format=torch.channels_last)
        return F.cross_entropy(net(x).float(), part[1], label_smoothing=chosen.loss.label_smoothing), {}

    few = tuple(part[:8] for part in draw(0))
    of_step = operations_of_step(network, loss, few, how.batch, how.bf16)
    clock = clock_of(asked.device)
    times = [clock()]
    for _ in fit(state, loss, draw, how, seed=chosen.seed):
        times.append(clock())
    spec = ModelSpec(plan.train.shape[0], (0.5,) * 3, (0.5,) * 3, plan.train.classes)
    model = Adapter(state.result.eval(), spec, name="plain", device=asked.device)
    size = sum(p.numel() for p in network.parameters())
    return model, {
        "seconds": round(seconds_of(times, how.total), 3), "parameters": size, "size": size,
        "held": round(tested(model, plan.held)[0], 4), "batch": how.batch, "operations": of_step * how.total,
    }  # fmt: skip


def clock_of(device: str) -> Callable[[], float]:
    """Seconds of this process's processor; on a GPU those of the clock, which every step of a training waits for."""
    return time.process_time if device == "cpu" else time.perf_counter


def seconds_of(times: Sequence[float], steps: int) -> float:
    """Seconds of so many steps, from the moments before the first and after each of those that were made.

    The first is left out where there are others: a GPU chooses its kernels in it.
    """
    first = 1 if len(times) > 2 else 0
    return (times[-1] - times[first]) * steps / max(1, len(times) - 1 - first)


def device_name(asked: argparse.Namespace) -> str:
    return "cpu" if asked.device == "cpu" else torch.cuda.get_device_name()


@torch.no_grad()
def hits(model: Adapter, images: Tensor, labels: Tensor) -> Tensor:
    """Which pictures (N,3,H,W) uint8 are classified rightly, (N,) bool."""
    size = 100 if model.device == "cpu" else 1000
    parts = zip(images.split(size), labels.split(size), strict=True)
    return torch.cat([(model.outputs(x.to(model.device).float() / 255).argmax(1).cpu() == y) for x, y in parts])


def tested(model: Adapter, data: ImageSet) -> tuple[float, float, float]:
    """Accuracy and its interval, Wilson's 95 %."""
    right = hits(model, data.images, data.labels)
    return float(right.float().mean()), *wilson_interval(int(right.sum()), len(right))


def corrupted_accuracy(model: Adapter, pictures: Pictures) -> float:
    """The mean over corruptions of the mean over severities, as ``bothways evaluate --corruptions offline`` has it."""
    by_kind: dict[str, list[float]] = {}
    for kind, _, images, labels in pictures.corrupted:
        by_kind.setdefault(kind, []).append(float(hits(model, images, labels).float().mean()))
    means = [sum(values) / len(values) for values in by_kind.values()]
    return sum(means) / len(means)


@torch.no_grad()
def calls(model: Adapter) -> int:
    """How often a network is called for one picture."""
    count = 0

    def counted(*_: object) -> None:
        nonlocal count
        count += 1

    network = getattr(model.module, "flow", model.module)
    hook = network.register_forward_pre_hook(counted)
    model.outputs(torch.rand(1, 3, 32, 32, device=model.device))
    hook.remove()
    return count


# ---- other steps, depths and solvers than those of the training ----------------------------------------------------


class Move(NamedTuple):
    """A trained arm with one thing changed. value: of what; "trained" for nothing."""

    arm: str
    labels: int
    seed: int
    rate: float
    what: str
    value: str


def moves(rows: Rows, done: Rows, labels: int, seeds: Sequence[int]) -> list[Move]:
    """Those that are left of the arms whose rate is chosen."""
    ways = [("trained", ""), *(("steps", str(n)) for n in STEPS)]
    both = [*ways, *((what, str(by)) for what in ("depth", "activation depth", "both depths") for by in OFFSETS)]
    offsets = [("depth", str(by)) for by in OFFSETS]
    long = [("depth at 1000 steps", str(by)) for by in (-0.2, 0.2)]
    by_solver = [("solver", name) for name in SOLVERS]
    kept = {(r["arm"], int(r["labels"]), int(r["seed"]), r["what"], r["value"]) for r in done}
    found = []
    for arm, of in (("prg", [*ways, *offsets, *by_solver, *long]), ("prg + activations", [*both, *by_solver])):
        rate = chosen_rate(rows, arm, labels, seeds[0])
        if rate is not None:
            found += [Move(arm, labels, seed, rate, *way) for seed in seeds for way in of
                      if (arm, labels, seed, *way) not in kept]  # fmt: skip
    return found


def moved(move: Move, asked: argparse.Namespace, test: ImageSet) -> dict[str, Any]:
    """The row of a trained arm with one thing changed."""
    model = _loaded(
        str(Path(asked.out) / name_of(move.arm, move.labels, move.seed, move.rate, asked.epochs)), asked.device
    )
    how = features_config(model)
    if move.what == "steps":
        how = replace(how, walk=replace(how.walk, steps=int(move.value)))
    elif move.what == "solver":
        how = replace(how, walk=replace(how.walk, solver=move.value))
    elif move.what != "trained":
        times = 1 + float(move.value)
        if move.what != "activation depth":
            how = replace(how, depth=times * how.depth)
        if move.what in ("activation depth", "both depths"):
            how = replace(how, activation_depth=times * how.activation_depth)
    if move.what.endswith("1000 steps"):
        how = replace(how, walk=replace(how.walk, steps=1000))
    if how.walk.steps > MANY:
        test = test.subset(torch.linspace(0, len(test) - 1, max(1, len(test) // 5)).long())
    value, low, high = tested(reading(model, how), test)
    return {
        "accuracy": round(value, 4), "low": round(low, 4), "high": round(high, 4), "pictures": len(test),
        "calls": how.calls, "flow": asked.flow, "device": device_name(asked),
    }  # fmt: skip


_KEPT: dict[str, Adapter] = {}


def _loaded(run: str, device: str) -> Adapter:
    """The classifier of a run; the last one is kept, since its changes follow one another."""
    if run not in _KEPT:
        _KEPT.clear()
        _KEPT[run] = adapted_classifier(run, device=device)
        flow_in(_KEPT[run])  # it is one of a flow
    return _KEPT[run]


# ---- the whole -----------------------------------------------------------------------------------------------------


def main(name: str = "controls", said: str | None = __doc__) -> None:
    asked = arguments(name, said)
    file = file_of(asked, asked.set)
    if asked.table:
        print(table(file, asked.flow))
        return
    if asked.plot:
        both = (
            [row for row in chosen(rows(file_of(asked, name), asked.flow)) if row["arm"] in CONTROLS | CHOICES]
            for name in ("controls", "choices")
        )
        write_page(Path(asked.plot), *both, CONTROLS | CHOICES, asked.pictures and Path(asked.pictures))
        return
    keep_freed_memory()  # as a command does
    end = time.monotonic() + 60 * asked.minutes
    method = "fork" if asked.device == "cpu" and not asked.spawn else "spawn"
    pictures = pictures_of(asked)
    given = pictures if method == "fork" else saved(pictures, Path(asked.out))
    controls = file_of(asked, "controls")
    for labels in asked.labels:
        minutes = (end - time.monotonic()) / 60
        if asked.set == "moved":
            failures = spread(
                lambda labels=labels: moves(rows(controls, asked.flow), rows(file, asked.flow), labels, asked.seeds),
                partial(_moved, asked=asked, pictures=given), partial(keep, file, MOVED), asked.processes, minutes,
                method,
            )  # fmt: skip
        else:
            failures = spread(
                partial(ready, asked, file, controls, labels, pretrained_of(asked)),
                partial(_measured, asked=asked, pictures=given), partial(keep, file, COLUMNS), asked.processes, minutes,
                method,
            )  # fmt: skip
        print(json.dumps({"benchmark": "prg_controls", "set": asked.set, "labels": labels,
                          "rows": len(rows(file, asked.flow)), "left_out": failures}), flush=True)  # fmt: skip


def file_of(asked: argparse.Namespace, name: str) -> Path:
    """The rows of a set."""
    return Path(asked.results) / ("tuning.csv" if name == "tuning" else f"prg_{name}.csv")


def _measured(job: Job, asked: argparse.Namespace, pictures: Pictures | Path) -> dict[str, Any]:
    pictures = loaded(pictures) if isinstance(pictures, Path) else pictures
    try:
        return measured(job, SETS[asked.set][job.arm], asked, pictures)
    except RunError as error:  # of a rate that is too high: the row says so, and another rate is chosen
        if "finite" not in str(error):
            raise
        return {"held": 0.0, "flow": asked.flow, "device": device_name(asked)}


def _moved(move: Move, asked: argparse.Namespace, pictures: Pictures | Path) -> dict[str, Any]:
    return moved(move, asked, (loaded(pictures) if isinstance(pictures, Path) else pictures).test)


def saved(pictures: Pictures, folder: Path) -> Path:
    """A file of all pictures, which other processes read."""
    folder.mkdir(parents=True, exist_ok=True)
    sets = {name: [each.images, each.labels, list(each.classes)] for name, each in pictures._asdict().items()
            if isinstance(each, ImageSet)}  # fmt: skip
    path = folder / f"pictures-{os.getpid()}.pt"
    torch.save({**sets, "corrupted": [list(one) for one in pictures.corrupted]}, path)
    return path


@cache
def loaded(path: Path) -> Pictures:
    """The pictures of a file of ``saved``."""
    found = torch.load(path, weights_only=True)
    train, test = (ImageSet(x, y, tuple(names)) for x, y, names in (found["train"], found["test"]))
    return Pictures(train, test, [(kind, severity, x, y) for kind, severity, x, y in found["corrupted"]])


def keep(file: Path, columns: Sequence[str], job: Any, row: dict[str, Any]) -> None:
    """Write the row of a job."""
    told = {key: value for key, value in job._asdict().items() if key in columns}
    write(file, columns, {**told, **row})
    print(json.dumps({**told, **row}), flush=True)


def ready(asked: argparse.Namespace, file: Path, controls: Path, labels: int, pretrained: float) -> list[Job]:
    """The arms that can be trained now."""
    arms, before = SETS[asked.set], rows(controls, asked.flow)
    names = asked.arms or list(arms)
    rate_of: Callable[[str], float | None] | None = None
    if asked.set == "choices":
        rate_of = lambda arm: chosen_rate(before, "prg", asked.rates_of or labels, asked.seeds[0])  # noqa: E731
    elif asked.rates_of:
        rate_of = lambda arm: chosen_rate(before, arm_of_rate(arm), asked.rates_of, asked.seeds[0])  # noqa: E731
    rates = (*RATES, *asked.more_rates)
    return remaining(rows(file, asked.flow), arms, names, labels, asked.seeds, rate_of, pretrained, rates)


def arm_of_rate(arm: str) -> str:
    """The arm whose rate another takes: one plain network's stands for all."""
    return "plain cnn" if arm.startswith("plain cnn") else arm


def pretrained_of(asked: argparse.Namespace) -> float:
    """Operations of the flow's pretraining; counted here, on the processor, before any process is forked."""
    return pretraining(load_flow(asked.flow), asked.pretrained)


def pictures_of(asked: argparse.Namespace) -> Pictures:
    """Read all pictures, and make the corrupted ones."""
    train = bothways.load_images(asked.data, split="train", limit=asked.train)
    test = bothways.load_images(asked.data, split="test", limit=asked.test)
    few = test.subset(torch.linspace(0, len(test) - 1, min(asked.corrupted, len(test))).long())
    conditions = [(kind, n, level) for kind, levels in SEVERITIES.items() for n, level in enumerate(levels, start=1)]
    if asked.set == "moved" or not asked.corrupted:
        conditions = []
    made = []
    for kind, severity, level in conditions:
        draws = Draws([picture_seed(0, place) for place in range(len(few))])
        made.append((kind, severity, (255 * corrupt(few.floats(), kind, level, draws)).round().byte(), few.labels))
    return Pictures(train, test, made)


def rows(file: Path, flow: str = FLOW) -> list[dict[str, str]]:
    """The rows of arms of one flow; a row without one is of FLOW."""
    if not file.is_file():
        return []
    with file.open(newline="") as lines:
        found = [{**dict.fromkeys(COLUMNS, ""), **row} for row in csv.DictReader(lines)]
    return [row for row in found if (row["flow"] or FLOW) == flow]


def write(file: Path, columns: Sequence[str], row: dict[str, Any]) -> None:
    """Add a row. Raises ValueError for a file of other columns."""
    file.parent.mkdir(parents=True, exist_ok=True)
    new = not file.exists()
    if not new and file.read_text().partition("\n")[0].strip().split(",") != list(columns):
        raise ValueError(f"{file} has other columns; give --results FOLDER, or move it away")
    with file.open("a", newline="") as lines:
        writer = csv.DictWriter(lines, columns, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def table(file: Path, flow: str = FLOW) -> str:
    """Markdown: a row an arm, the best of a number of labels first.

    Several seeds stand as their mean, and its t interval over seeds. Beside them the difference from "prg" over the
    seeds that both have, with its t interval and Holm's p over the rows of that number of labels. Without corrupted
    pictures, the flow-matching loss has their column.
    """
    by_arm: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for row in chosen(rows(file, flow)):
        by_arm.setdefault((row["arm"], int(row["labels"])), []).append(row)
    corrupted = any(row["corrupted"] for of in by_arm.values() for row in of) or not by_arm
    lines = [
        *([f"*{seeds_told([len(own) for own in by_arm.values()])}*", ""] if by_arm else []),
        f"| labels | arm | seeds | accuracy (95 %) | less prg's, points (95 %; p) "
        f"| {'corrupted' if corrupted else 'flow-matching loss (before)'} | rate | epochs | seconds "
        "| 10^15 operations | calls a picture | trained |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    apart = beside(by_arm)
    for (arm, labels), of in sorted(by_arm.items(), key=lambda item: (item[0][1], -reached(item[1])["value"])):
        clean, worse = reached(of), reached(of, "corrupted")
        told = f"{worse['value']:.3f}" if worse else ""
        if not corrupted and (loss := losses_of(of)):
            told = f"{loss['loss']:.3f} ({loss['before']:.3f})"
        timed = [row for row in of if row["device"] in ("cpu", "")] or of  # seconds of a GPU are others
        seconds = sum(float(row["seconds"]) for row in timed) / len(timed)
        work = f"{float(of[0]['operations']) / 1e15:.3g}" if of[0]["operations"] else ""
        share = "{value:.3f} ({low:.3f} to {high:.3f})".format(**clean)
        cells = [f"{labels:,}", arm, len(of), share, apart.get((arm, labels), ""), told, of[0]["rate"], of[0]["epochs"]]
        cells += [f"{seconds:.0f}", work, of[0]["calls"], f"{int(of[0]['parameters']) / 1e6:.2f} M"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def beside(by_arm: Mapping[tuple[str, int], Rows], base: str = "prg") -> dict[tuple[str, int], str]:
    """What is said of each arm's difference from ``base``; nothing of one that shares fewer than two seeds with it."""
    found = {}
    for labels in {labels for _, labels in by_arm}:
        own = {row["seed"]: float(row["accuracy"]) for row in by_arm.get((base, labels), [])}
        pairs = {}
        for (arm, of), rows in by_arm.items():
            both = [(float(row["accuracy"]), own[row["seed"]]) for row in rows if row["seed"] in own]
            if of == labels and arm != base and len(both) > 1:
                pairs[arm] = paired_difference(*zip(*both, strict=True))
        for (arm, one), p in zip(pairs.items(), holm([one.p for one in pairs.values()]), strict=True):
            points = [f"{100 * value:+.1f}" for value in (one.value, one.low, one.high)]
            found[arm, labels] = f"{points[0]} ({points[1]} to {points[2]}; {p:.2g})"
    return found


def arguments(name: str, said: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=said, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="labelled pictures with a test split")
    parser.add_argument("--set", choices=[*SETS, "moved"], default=name)
    parser.add_argument("--flow", default=FLOW, help="address of the flow")
    parser.add_argument("--labels", type=int, nargs="+", default=[500])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--arms", nargs="+", help="some of them; all where left out")
    parser.add_argument("--rates-of", type=int, help="take the rates that so many labels chose, and try none")
    parser.add_argument("--more-rates", type=float, nargs="+", default=[], help="rates to try beside those of RATES")
    parser.add_argument("--pretrained", type=float, help="pictures of the flow's pretraining; of its card if left out")
    parser.add_argument("--epochs", type=int, help="of every arm, to try the benchmark; those of its number of labels")
    parser.add_argument("--held", type=int, default=HELD, help="pictures held out, by which rates are chosen")
    parser.add_argument("--train", type=int, help="pictures of the training file; all where left out")
    parser.add_argument("--test", type=int, default=2000, help="test pictures, evenly spaced")
    parser.add_argument("--corrupted", type=int, default=200, help="test pictures of each corruption; 0 for none")
    parser.add_argument("--out", default="runs/controls", help="run folders of the arms")
    parser.add_argument("--results", default=str(RESULTS), help="folder of the rows")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--precision", choices=["bf16", "float32"], default="bf16", help="of the training of all arms")
    parser.add_argument("--processes", type=int, default=0, help="arms at once, each in a process; 0 for this one")
    parser.add_argument("--spawn", action="store_true", help="begin the processes anew, as for a GPU")
    parser.add_argument("--minutes", type=float, default=1e4, help="no longer than this; an arm under way is stopped")
    parser.add_argument("--table", action="store_true", help="print the table of the rows there are")
    parser.add_argument("--plot", metavar="FILE.html", help="write the rows of both sets as a page of charts")
    parser.add_argument("--pictures", metavar="FOLDER", help="with --plot: its halves as controls.png and choices.png")
    return parser.parse_args()


if __name__ == "__main__":
    main()
