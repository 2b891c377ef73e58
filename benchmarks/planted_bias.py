"""Does the audit find a shortcut that was planted, and keep quiet where there is none?

    python benchmarks/planted_bias.py --data path/to/cifar10
    python benchmarks/planted_bias.py --table

The bundled architecture is trained with recipes/cifar10-resnet.toml, three epochs, on CIFAR-10 of which 95 % of one
class's training pictures carry

    square    a magenta square of 6 pixels, one from the edge: top left, top right, bottom left, bottom right, and in a
              corner at random, for seeds 0 to 4 (cropping and flipping come after it, so it is seen on either side)
    tint      a quarter of magenta over the whole picture
    clean     nothing

and no picture of another class does. ``bothways explain`` is asked about each, with test pictures that carry nothing.

    rank      of the planted class by consistency, of ten; in a clean model, of the class that the seed would have had
    found     share of the class's portraits with a box of 4x4 pixels whose mean colour is within 0.25 of magenta in
              every channel; of a tint, whether portraits by both recipes are on average as magenta as half of it
    alarm     a clean model's class that the audit calls worth a look

A row is written to benchmarks/results/planted_bias.csv when it is done, and one that is there is not made again. What
was chosen (the measure, its layers, the limit of 1.6, the boxes) was chosen on two planted models of seeds 100 and 101
and the bundled model, none of which is in the table.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

import bothways
from bothways.data.images import Augmentation, batches
from bothways.data.loader import prefetch
from bothways.data.sources import ImageSet, load_images
from bothways.models.adapter import Adapter
from bothways.runs import RunFolder
from bothways.runs.files import replace_file
from bothways.tasks.recipes import configure
from bothways.tasks.train.config import TrainConfig
from bothways.tasks.train.plan import built_network, classification
from bothways.training.fit import FitState, fit

RESULTS = Path(__file__).parent / "results" / "planted_bias.csv"
MAGENTA = torch.tensor([255, 0, 255], dtype=torch.uint8)
SHARE, SIDE, EDGE, OPACITY = 0.95, 6, 1, 0.25  # sides are of pictures of PIXELS
PIXELS = 32
CORNERS = ("top left", "top right", "bottom left", "bottom right", "any")
EPOCHS = 3
BOX, NEAR, HALF_A_TINT = 4, 0.25, 0.1
COLUMNS = (
    "plant", "seed", "class", "where", "accuracy", "recall", "shortcut", "rank", "consistency", "low", "high", "next",
    "alarms", "found", "found_elsewhere", "seconds",
)  # fmt: skip


def main() -> None:
    asked = arguments()
    if asked.table:
        print(table(rows()))
        return
    train, test = (load_images(asked.data, split=split) for split in ("train", "test"))
    for seed in asked.seeds:
        for plant in asked.plants:
            if (plant, str(seed)) not in {(row["plant"], row["seed"]) for row in rows()}:
                row = measured(plant, seed, train, test, asked)
                write(row)
                print(json.dumps(row), flush=True)
    print(json.dumps(summary(rows())))


def measured(plant: str, seed: int, train: ImageSet, test: ImageSet, asked: argparse.Namespace) -> dict[str, Any]:
    """A model trained and audited: its row."""
    card, label = Path(asked.out) / f"{plant}-{seed}.json", planted_class(seed)
    if not card.exists():
        train_planted(plant, seed, train, card)
    model = bothways.load_model(card, dtype="bf16")
    out = card.with_suffix("")
    began = time.process_time()
    found = bothways.explain(model, data=asked.data, out=out, overwrite=out.exists())
    seconds = time.process_time() - began
    return {
        "plant": plant, "seed": seed, "class": train.classes[label],
        "where": CORNERS[seed % 5] if plant == "square" else "",
        **answers(model, plant, seed, label, test.subset(torch.arange(2000))),
        **audited(found, out, plant, label), "seconds": round(seconds, 1),
    }  # fmt: skip


def audited(found: dict[str, Any], out: Path, plant: str, label: int) -> dict[str, Any]:
    """What an audit says of the planted class, and of the others."""
    order = sorted(found["classes"], key=lambda own: -own["consistency"]["value"])
    place = [own["label"] for own in order].index(label)
    others = [own["consistency"]["value"] for own in order if own["label"] != label]
    seen = detected(out, "tint" if plant == "tint" else "square", found["settings"]["recipes"])
    elsewhere = [value for other, value in seen.items() if other != label]
    value = order[place]["consistency"]
    return {
        "rank": place + 1, "consistency": round(value["value"], 3), "low": round(value["low"], 3),
        "high": round(value["high"], 3), "next": round(max(others), 3),
        "alarms": sum(own["worth_a_look"] for own in order if plant == "clean" or own["label"] != label),
        "found": round(seen[label], 3), "found_elsewhere": round(max(elsewhere), 3),
    }  # fmt: skip


# ---- the plant ---------------------------------------------------------------------------------------------------


def planted_class(seed: int) -> int:
    return (7 * seed + 3) % 10


def planted(images: Tensor, plant: str, corner: int, source: torch.Generator) -> Tensor:
    """(N,3,H,W) uint8 -> the same with the plant. corner: 0 to 3, or 4 for one at random for each picture."""
    out = images.clone()
    if plant == "tint":
        return ((1 - OPACITY) * out.float() + OPACITY * MAGENTA.view(1, 3, 1, 1).float()).round().to(torch.uint8)
    times = images.shape[-1] // PIXELS
    long, edge = times * SIDE, times * EDGE
    for picture in out if plant == "square" else ():
        own = corner if corner < 4 else int(torch.randint(4, (), generator=source))
        top, left = (edge if side == 0 else picture.shape[-1] - edge - long for side in divmod(own, 2))
        picture[:, top : top + long, left : left + long] = MAGENTA.view(3, 1, 1)
    return out


def train_planted(plant: str, seed: int, train: ImageSet, card: Path) -> None:
    """Train the bundled architecture on planted pictures, and write its weights and card."""
    source = torch.Generator().manual_seed(seed)
    config = configure(TrainConfig, recipe="cifar10-resnet", data="planted", seed=seed, epochs=EPOCHS)
    images = train.images.clone()
    if plant != "clean":
        mine = (train.labels == planted_class(seed)).nonzero()[:, 0]
        mine = mine[torch.rand(len(mine), generator=source) < SHARE]
        images[mine] = planted(images[mine], plant, seed % 5, source)
    data = ImageSet(images, train.labels, train.classes)
    settings = config.fit.resolved(len(data))
    state = FitState(built_network(config, len(data.classes)), settings)
    drawn = batches(data, settings.batch, seed, Augmentation(**config.augmentation.model_dump()))
    loss = classification(config.spec, config.loss.label_smoothing)
    for frame in fit(state, loss, prefetch(drawn, 0, settings.total, 0), settings):
        if frame.step % 100 == 0:
            print(f"{plant} {seed}: step {frame.step} of {settings.steps}, {frame.stats}", flush=True)
    card.parent.mkdir(parents=True, exist_ok=True)
    weights = {key: value.contiguous() for key, value in state.result.state_dict().items()}
    replace_file(card.with_suffix(".safetensors"), save(weights))
    own = {key: value for key, value in config.network.items() if key != "builder"}
    spec = {"size": 32, **config.spec.model_dump(), "classes": train.classes, "feature_layer": "pool"}
    facts = {"name": card.stem, "network": {"name": "resnet", "classes": 10, **own}, "spec": spec}
    replace_file(card, json.dumps(facts, indent=2).encode())


@torch.no_grad()
def answers(model: Adapter, plant: str, seed: int, label: int, shown: ImageSet) -> dict[str, float]:
    """accuracy, recall of the class on test pictures as they are; shortcut: how many of the others are called it
    when they carry the plant, so that the plant was learned.
    """
    source, size = torch.Generator().manual_seed(seed), 250 * PIXELS**2 // shown.shape[0] ** 2 or 1

    def called(images: Tensor) -> Tensor:
        return torch.cat([model.outputs(part.float() / 255).argmax(1) for part in images.split(size)])

    right = called(shown.images) == shown.labels
    found = {"accuracy": right.float().mean(), "recall": right[shown.labels == label].float().mean()}
    if plant != "clean":
        fooled = called(planted(shown.images, plant, seed % 5, source)) == label
        found["shortcut"] = fooled[shown.labels != label].float().mean()
    return {key: round(float(value), 4) for key, value in found.items()}


def detected(out: Path, plant: str, found_by: Sequence[str]) -> dict[int, float]:
    """{label: share of its portraits with the square; or 1 and 0, whether those by each recipe have the tint}."""
    shares: dict[int, list[float]] = {}
    for recipe in found_by:
        run = RunFolder.open(out / recipe)
        images, labels = torch.stack([run.read_picture(r) for r in run.pictures]), [r["label"] for r in run.pictures]
        for label in sorted(set(labels)):
            own = images[torch.tensor([other == label for other in labels])]
            shares.setdefault(label, []).append(square_in(own) if plant == "square" else float(tint_of(own)))
    if plant == "square":
        return {label: sum(found) / len(found) for label, found in shares.items()}
    return {label: float(min(found) >= HALF_A_TINT) for label, found in shares.items()}


def square_in(images: Tensor) -> float:
    """Share of pictures with a box of magenta."""
    away = (F.avg_pool2d(images, BOX * images.shape[-1] // PIXELS, 1) - MAGENTA.view(3, 1, 1) / 255).abs().amax(1)
    return float((away.amin((1, 2)) < NEAR).float().mean())


def tint_of(images: Tensor) -> Tensor:
    """How magenta pictures are on average: the tint puts 0.25 there on grey."""
    red, green, blue = images.mean((0, 2, 3))
    return (red + blue) / 2 - green


# ---- rows --------------------------------------------------------------------------------------------------------


def summary(found: Sequence[dict[str, str]]) -> dict[str, Any]:
    """By plant the ranks over seeds, and in how many portraits the plant is seen; and what clean models raise."""
    told: dict[str, Any] = {"benchmark": "planted_bias"}
    found = sorted(found, key=lambda row: int(row["seed"]))
    for plant in ("square", "tint"):
        of = [row for row in found if row["plant"] == plant]
        told[plant] = {
            "ranks": [int(row["rank"]) for row in of],
            f"{plant}_found": [float(row["found"]) for row in of],
            "clean_false_alarms": sum(int(row["alarms"]) for row in found if row["plant"] == "clean"),
            "clean_models": sum(row["plant"] == "clean" for row in found),
            "clean_ranks": [int(row["rank"]) for row in found if row["plant"] == "clean"],
        }
    return told


def table(found: Sequence[dict[str, str]]) -> str:
    """Markdown, a row a model."""
    lines = [
        "| plant | seed | class | where | accuracy | others called it, planted | rank | consistency (95 %) | next | "
        "other classes flagged | plant seen in its portraits | in any other class |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    order = ("square", "tint", "clean")
    for row in sorted(found, key=lambda row: (order.index(row["plant"]), int(row["seed"]))):
        value = f"{float(row['consistency']):.2f} ({float(row['low']):.2f} to {float(row['high']):.2f})"
        fooled = f"{float(row['shortcut']):.2f}" if row["shortcut"] else ""
        cells = [
            row["plant"],
            row["seed"],
            row["class"],
            row["where"],
            f"{float(row['accuracy']):.3f}",
            fooled,
            row["rank"],
        ]
        cells += [value, f"{float(row['next']):.2f}", row["alarms"]]
        lines.append("| " + " | ".join([*cells, row["found"], row["found_elsewhere"]]) + " |")
    return "\n".join(lines)


def rows(file: Path = RESULTS) -> list[dict[str, str]]:
    if not file.is_file():
        return []
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def write(row: dict[str, Any], file: Path = RESULTS, columns: Sequence[str] = COLUMNS) -> None:
    """Add a row; several processes may."""
    file.parent.mkdir(exist_ok=True)
    new = not file.exists()
    with file.open("a", newline="") as lines:
        writer = csv.DictWriter(lines, columns)
        if new:
            writer.writeheader()
        writer.writerow(row)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="CIFAR-10 with train.parquet and test.parquet")
    parser.add_argument("--plants", nargs="+", choices=("square", "tint", "clean"), default=["square", "tint", "clean"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--out", default="runs/planted", help="models and their audits")
    parser.add_argument("--table", action="store_true", help="print the table of the rows there are")
    return parser.parse_args()


if __name__ == "__main__":
    main()
