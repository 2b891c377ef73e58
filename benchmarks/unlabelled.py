"""Pictures without a label at 224 px: are they near photographs, and does another network name the photograph's class?

    python benchmarks/unlabelled.py --data PHOTOGRAPHS [--n 20] [--rows density ...] [--out runs/unlabelled]

Picture k of every row has seed k. ``density`` and ``gaussian`` differ in how the feature is drawn, ``control`` has
statistics and smoothness in the same canvas and nothing drawn, ``one-photograph`` is drawn from the feature of one
photograph. Judges give no gradient. Each picture is a line of ``benchmarks/results/unlabelled.jsonl``, and a run that
is started again makes what is missing. PHOTOGRAPHS is that of the statistics kept with the model, with labels.

    rank      of the class of the photograph: of the one drawn from (one-photograph), or of the larger share (density)
    kernel    distance in the first judge's features from the photographs, with its 95 % interval over the pictures
"""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

import bothways
from bothways.data.readers.fit import size_of
from bothways.judging.origins import origins
from bothways.judging.verdicts import penultimate
from bothways.numerics.draws import Draws, picture_seed
from bothways.numerics.measures import kernel_distance, kernel_interval
from bothways.runs import to_png
from bothways.synthesis.density import Density, drawn_pair
from bothways.tasks.generate.priors import small_copies
from bothways.tasks.statistics.files import read_space, stored_statistics

ROOT = Path(__file__).resolve().parents[1]
LINES = ROOT / "benchmarks" / "results" / "unlabelled.jsonl"
SQUEEZENET = f"{ROOT / 'examples' / 'squeezenet.py'}:build"
JUDGES = ("imagenet:efficientnet-lite2", "imagenet:efficientnet-lite1", SQUEEZENET)
RECIPE = "sampled-photographs"
CONTROL = {"terms.features.weight": 0.0, "terms.statistics.weight": 1.0, "objectives": ["variation:0.5"]}
ROWS = {
    "density": {"sampling.kind": "density"},
    "gaussian": {"sampling.kind": "gaussian"},
    "control": CONTROL,
    "one-photograph": {},
}
PHOTOGRAPHS = 250  # real ones that the kernel distance is measured against


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="imagenet:efficientnet-lite0")
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--n", type=int, default=20, help="pictures of each row")
    parser.add_argument("--rows", nargs="+", default=[*ROWS], choices=[*ROWS])
    parser.add_argument("--judges", nargs="*", default=JUDGES)
    parser.add_argument("--out", type=Path, default=Path("runs/unlabelled"), help="folder of the pictures")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    model = bothways.load_model(options.model)
    photographs = bothways.load_images(options.data, size=size_of(model.spec))
    for k in range(options.n):
        for row in options.rows:
            file = options.out / f"{row}-{k:03}.png"
            if not file.is_file():
                draw(row, k, model, photographs, file)
    judge(options, model, photographs)
    summary(options, photographs)


def draw(row, k, model, photographs, file) -> None:
    began = time.process_time()
    if row == "one-photograph":
        photo = photographs.images[source(row, k, model, photographs)][None].float() / 255
        found = bothways.invert(model, photo, recipe="from-features", seed=k, judges=[])
    else:
        found = bothways.generate(model, n=1, recipe=RECIPE, seed=k, judges=[], **ROWS[row])
    file.write_bytes(to_png(found.images[0]))
    file.with_suffix(".seconds").write_text(f"{time.process_time() - began:.1f}")
    print(file.stem, file.with_suffix(".seconds").read_text(), "s", flush=True)


def source(row, k, model, photographs):
    """The number of the photograph that picture k is drawn from, or that leads its mixture; None without one."""
    if row == "one-photograph":
        return (149 * k + 7) % len(photographs)
    if row != "density":
        return None
    space = read_space(stored_statistics(model, None))
    own = drawn_pair(space.rows, Draws([picture_seed(k, 0)]), Density()).own.item()
    return photographs.titles.index(space.names[own])


def judge(options, model, photographs) -> None:
    """A line for each picture that has none yet."""
    made = {(line["row"], line["picture"]) for line in lines()}
    todo = [(row, k) for row in options.rows for k in range(options.n) if (row, k) not in made]
    if not todo:
        return
    images = torch.cat([read(options.out / f"{row}-{k:03}.png") for row, k in todo])
    said = {}
    for address in options.judges:
        _, logits = penultimate(bothways.load_model(address), images)
        said[address.rpartition("/")[2].removeprefix("imagenet:").partition(".")[0]] = logits.softmax(1)
    space = replace(read_space(stored_statistics(model, None)), pixels=small_copies(photographs.images))
    near = origins(images, [picture_seed(k, 0) for _, k in todo], [model], space, None)
    with LINES.open("a") as file:
        for place, (row, k) in enumerate(todo):
            own = source(row, k, model, photographs)
            line = {"row": row, "picture": k, "photograph": None if own is None else photographs.names[own]}
            label = None if own is None else int(photographs.labels[own])
            line["class"] = None if label is None else photographs.classes[label]
            line["seconds"] = float((options.out / f"{row}-{k:03}.seconds").read_text())
            line["nearest"] = {key: shortened(value) for key, value in near["pictures"][place].items()}
            for name, chance in said.items():
                p, best = chance[place].max(0)
                rank = None if label is None else 1 + int((chance[place] > chance[place, label]).sum())
                line[name] = {"rank": rank, "first": model.spec.class_name(best.item()), "p": round(p.item(), 3)}
            file.write(json.dumps(line) + "\n")


def shortened(value):
    return round(value, 4) if isinstance(value, float) else value


def lines():
    return [json.loads(text) for text in LINES.read_text().splitlines()] if LINES.is_file() else []


def read(file):
    """(1,3,H,W) in [0,1]."""
    with Image.open(file) as picture:
        pixels = torch.from_numpy(np.array(picture.convert("RGB")))
    return pixels.permute(2, 0, 1)[None].float() / 255


def summary(options, photographs) -> None:
    """Print a row each: kernel distance, highest probability, ranks, seconds; and write a sheet each."""
    critic = bothways.load_model(options.judges[0])
    some = torch.linspace(0, len(photographs) - 1, PHOTOGRAPHS).round().long()
    real, _ = penultimate(critic, photographs.images[some].float() / 255)
    for row in options.rows:
        images = torch.cat([read(options.out / f"{row}-{k:03}.png") for k in range(options.n)])
        features, _ = penultimate(critic, images)
        low, high = kernel_interval(features, real)
        own = [line for line in lines() if line["row"] == row and line["picture"] < options.n]
        names = [name for name in own[0] if isinstance(own[0][name], dict) and "p" in own[0][name]]
        found = {"row": row, "n": len(own), "kernel": kernel_distance(features, real), "interval": [low, high]}
        found["p"] = {name: median(line[name]["p"] for line in own) for name in names}
        if own[0]["class"] is not None:
            ranks = {name: [line[name]["rank"] for line in own] for name in names}
            found["first"] = {name: sum(rank == 1 for rank in ranks[name]) for name in names}
            found["among five"] = {name: sum(rank <= 5 for rank in ranks[name]) for name in names}
            found["median rank"] = {name: median(ranks[name]) for name in names}
        for key in ("feature_distance", "pixel_distance"):
            found[key] = median(line["nearest"][key] for line in own)
        found["seconds"] = median(line["seconds"] for line in own)
        print(json.dumps(found), flush=True)
        result = bothways.Result(images, torch.full((len(images),), -1), [{"index": k} for k in range(len(images))])
        (options.out / f"{row}.png").write_bytes(to_png(result.grid(5)))


if __name__ == "__main__":
    main()
