"""Pictures without a label at 224 px: are they near photographs, and does another network name the photograph's class?

    python benchmarks/unlabelled.py --data PHOTOGRAPHS [--n 20] [--rows density ...] [--out runs/unlabelled]

Picture k of every row has seed k. ``density`` is the recipe of today, ``pale density`` the same without its contrast
and cutout. ``plain density`` has the settings before these: no reading by the head, wider, of all photographs, no
growth; ``gaussian`` differs from it in how the feature is drawn. ``control`` has statistics and smoothness in the same
canvas and nothing drawn, ``statistics-tv`` is the recipe of that name, the same in the stack, and ``one-photograph`` is
drawn from the feature of one photograph. With ``--device cuda`` many are drawn at once, each with its own draws; lines
then name the GPU and have its seconds. Judges give no gradient. Each picture is a line of
``benchmarks/results/unlabelled.jsonl``, and a run that is started again makes what is missing. PHOTOGRAPHS is that of
the statistics kept with the model, with labels.

    rank      of the class of the photograph: of the one drawn from (one-photograph), or of the larger share (densities)
    kernel    distance in the first judge's features from 250 photographs, with its 95 % interval over the pictures
    apart     the same from 250 of those that no picture of these rows was drawn from

``--reads N`` draws no picture: of N points of each density (seeds 1000 and up), for how many the class that the head
reads is that of the photograph with the larger share, and how near directions of photographs are to their class's row.
"""

import argparse
import json
import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

import bothways
import many
from bothways.data.readers.fit import size_of
from bothways.judging.origins import origins, small_copies
from bothways.judging.verdicts import penultimate
from bothways.numerics.draws import Draws, picture_seed
from bothways.numerics.measures import kernel_distance, kernel_interval
from bothways.runs import to_png
from bothways.synthesis.density import drawn_pair, sample_rows
from bothways.synthesis.directions import read_direction
from bothways.tasks.generate.problem import density_of
from bothways.tasks.statistics.files import read_space, stored_statistics

ROOT = Path(__file__).resolve().parents[1]
LINES = ROOT / "benchmarks" / "results" / "unlabelled.jsonl"
SQUEEZENET = f"{ROOT / 'examples' / 'squeezenet.py'}:build"
MOBILENET = f"{ROOT / 'examples' / 'mobilenet_v2.py'}:build"
JUDGES = ("imagenet:efficientnet-lite2", "imagenet:efficientnet-lite1", SQUEEZENET, MOBILENET)
RECIPE = "sampled-photographs"
PALE = {"canvas.bound": 5.0, "canvas.spread": 0.2, "ascent.rate": 0.9, "views.cutout.share": 0.0}
PLAIN = PALE | {"terms.features.head": 0.0, "sampling.share": 0.5, "sampling.width": 0.2, "sampling.unsure": 0.0}
PLAIN |= {"ascent.grow": 0.0}
CONTROL = PLAIN | {"terms.features.weight": 0.0, "terms.statistics.weight": 1.0, "objectives": ["variation:0.5"]}
ROWS = {
    "density": {"sampling.kind": "density"},
    "pale density": {"sampling.kind": "density"} | PALE,
    "plain density": {"sampling.kind": "density"} | PLAIN,
    "gaussian": {"sampling.kind": "gaussian"} | PLAIN,
    "control": CONTROL,
    "statistics-tv": {"recipe": "statistics-tv", "ascent.steps": 192},
    "one-photograph": {},
}
AT_ONCE = 60  # pictures on a GPU
PHOTOGRAPHS = 250  # real ones that the kernel distance is measured against


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="imagenet:efficientnet-lite0")
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--n", type=int, default=20, help="pictures of each row")
    parser.add_argument("--rows", nargs="+", default=[*ROWS], choices=[*ROWS])
    parser.add_argument("--judges", nargs="*", default=JUDGES)
    parser.add_argument("--out", type=Path, default=Path("runs/unlabelled"), help="folder of the pictures")
    parser.add_argument("--results", type=Path, default=LINES)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--drawn-on", help="device of pictures drawn elsewhere: none is drawn, all are judged")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing after so many")
    parser.add_argument("--reads", type=int, help="of so many points of each density, what the head reads, and stop")
    options = parser.parse_args()
    ends = time.monotonic() + 60 * options.minutes
    many.prepared(options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    model = bothways.load_model(options.model, device=options.device)
    photographs = bothways.load_images(options.data, size=size_of(model.spec))
    if options.reads:
        reads(options.reads, model, photographs)
        return
    if not options.drawn_on:
        draw_all(options, model, photographs, ends)
    options.drawn_on = options.drawn_on or many.named(options.device)
    judge(options, model, photographs)
    summary(options, model, photographs)


def draw_all(options, model, photographs, ends) -> None:
    """Draw the pictures that are not there yet."""
    every = [(row, k) for k in range(options.n) for row in options.rows]
    left = [(row, k) for row, k in every if not (options.out / f"{row}-{k:03}.png").is_file()]
    if options.device == "cpu":
        batches = [[one] for one in left]
    else:
        by_row = [[(name, k) for name, k in left if name == row] for row in options.rows]
        batches = [list(part) for own in by_row for part in many.parts(own, AT_ONCE)]
    for batch in batches:
        if time.monotonic() > ends:
            break
        draw(batch[0][0], [k for _, k in batch], model, photographs, options)


def draw(row, numbers, model, photographs, options) -> None:
    """Draw pictures of a row, of these numbers, and keep each with its seconds."""
    clock = many.Clock(model.device)
    if row == "one-photograph":
        photos = photographs.images[[source(row, k, model, photographs) for k in numbers]].float() / 255
        work = many.planned("invert", model, photos, recipe="from-features")
        places = range(len(numbers))
    else:
        settings = {"recipe": RECIPE} | ROWS[row]
        work = many.planned("generate", model, n=1, **settings)
        places = [0] * len(numbers)
    images = many.drawn(work, places, [picture_seed(k, 0) for k in numbers])
    seconds = clock.seconds() / len(numbers)
    for k, image in zip(numbers, images.cpu(), strict=True):
        file = options.out / f"{row}-{k:03}.png"
        file.write_bytes(to_png(image))
        file.with_suffix(".seconds").write_text(f"{seconds:.2f}")
        print(file.stem, f"{seconds:.2f} s", flush=True)


def source(row, k, model, photographs):
    """The number of the photograph that picture k is drawn from, or that leads its mixture; None without one."""
    return next(iter(sources(row, k, model, photographs)), None)


def sources(row, k, model, photographs) -> list[int]:
    """The numbers of the photographs that picture k is drawn from, that of the larger share first."""
    if row == "one-photograph":
        return [(149 * k + 7) % len(photographs)]
    if "density" not in row:
        return []
    space, density = of_density(row, model)
    pair = drawn_pair(space.rows, Draws([picture_seed(k, 0)]), density)
    return [photographs.titles.index(space.names[number.item()]) for number in (pair.own, pair.other)]


@cache
def of_density(row, model):
    """The Space that a row is drawn from, and the density over it."""
    setup = many.planned("generate", model, n=1, recipe=RECIPE, **ROWS[row]).setup
    space = setup.roles.priors.space
    return space, density_of(setup.config.sampling, space)


def reads(count, model, photographs) -> None:
    """Print what the head reads in points of each density, and the cosine of directions with the row of the class."""
    seeds = [picture_seed(k, 0) for k in range(1000, 1000 + count)]
    of = dict(zip(photographs.titles, photographs.labels.tolist(), strict=True))
    for row in ("plain density", "density"):
        space, density = of_density(row, model)
        (name, rows), (head,) = *space.rows.items(), space.heads.values()
        points, own = (
            sample_rows(space.rows, Draws(seeds), density)[name],
            drawn_pair(space.rows, Draws(seeds), density).own,
        )
        labels = torch.tensor([of[space.names[number]] for number in own.tolist()])
        print(row, int(((points @ head.T).argmax(1) == labels).sum()), "of", count)
    labels, apart = torch.tensor([of[name] for name in space.names]), rows - rows.mean(0)
    every = {"plain": apart, "read": read_direction(rows, head)}
    spread = apart.T @ apart / (len(apart) - 1)
    for share in (0.1, 0.3, 0.6):
        shrunk = (1 - share) * spread + share * spread.diagonal().mean() * torch.eye(len(spread))
        every[f"whitened, shrunk by {share}"] = torch.linalg.solve(shrunk, apart.T).T
    for name, directions in every.items():
        near = torch.cosine_similarity(directions, (head - head.mean(0))[labels], dim=1)
        print(f"{name}: cosine with the row of the class, median {near.median():.2f}")


def judge(options, model, photographs) -> None:
    """A line for each picture that has none yet."""
    device = options.drawn_on
    made = {(line["row"], line["picture"], line.get("device", "cpu")) for line in lines(options)}
    todo = [(row, k) for row in options.rows for k in drawn(options, row) if (row, k, device) not in made]
    if not todo:
        return
    images = torch.cat([read(options.out / f"{row}-{k:03}.png") for row, k in todo])
    said = {}
    for address in options.judges:
        _, logits = penultimate(bothways.load_model(address, device=options.device), images.to(options.device))
        said[address.rpartition("/")[2].removeprefix("imagenet:").partition(".")[0]] = logits.softmax(1)
    space = replace(read_space(stored_statistics(model, None)), pixels=small_copies(photographs.images))
    space = space.to(model.device)
    near = origins(images, [picture_seed(k, 0) for _, k in todo], [model], space, None)
    with options.results.open("a") as file:
        for place, (row, k) in enumerate(todo):
            own = source(row, k, model, photographs)
            line = {"row": row, "picture": k} | ({} if device == "cpu" else {"device": device})
            line |= {"photograph": None if own is None else photographs.names[own]}
            label = None if own is None else int(photographs.labels[own])
            line["class"] = None if label is None else photographs.classes[label]
            if (taken := options.out / f"{row}-{k:03}.seconds").is_file():
                line["seconds"] = float(taken.read_text())
            line["nearest"] = {key: shortened(value) for key, value in near["pictures"][place].items()}
            for name, chance in said.items():
                p, best = chance[place].max(0)
                rank = None if label is None else 1 + int((chance[place] > chance[place, label]).sum())
                line[name] = {"rank": rank, "first": model.spec.class_name(best.item()), "p": round(p.item(), 3)}
            file.write(json.dumps(line) + "\n")


def spaced(numbers) -> list[int]:
    """As many as the kernel distance is measured against, evenly spaced; all where there are fewer."""
    places = torch.linspace(0, len(numbers) - 1, min(PHOTOGRAPHS, len(numbers))).round().long()
    return [numbers[place] for place in places]


def shortened(value):
    return round(value, 4) if isinstance(value, float) else value


def lines(options):
    file = options.results
    return [json.loads(text) for text in file.read_text().splitlines()] if file.is_file() else []


def drawn(options, row):
    """The numbers of a row's pictures that are there."""
    return [k for k in range(options.n) if (options.out / f"{row}-{k:03}.png").is_file()]


def read(file):
    """(1,3,H,W) in [0,1]."""
    with Image.open(file) as picture:
        pixels = torch.from_numpy(np.array(picture.convert("RGB")))
    return pixels.permute(2, 0, 1)[None].float() / 255


def summary(options, model, photographs) -> None:
    """Print a row each: kernel distances, highest probability, ranks, seconds; and write a sheet each."""
    critic, device = bothways.load_model(options.judges[0], device=options.device), options.drawn_on
    used = {n for row in options.rows for k in drawn(options, row) for n in sources(row, k, model, photographs)}
    unused = [n for n in range(len(photographs)) if n not in used]
    real, apart = (
        penultimate(critic, (photographs.images[spaced(numbers)].float() / 255).to(options.device))[0]
        for numbers in (range(len(photographs)), unused)
    )
    for row in options.rows:
        if len(there := drawn(options, row)) < 5:  # fewer have no kernel distance
            continue
        images = torch.cat([read(options.out / f"{row}-{k:03}.png") for k in there])
        features, _ = penultimate(critic, images.to(options.device))
        own = [line for line in lines(options) if line["row"] == row and line["picture"] in there]
        own = [line for line in own if line.get("device", "cpu") == device]
        names = [name for name in own[0] if isinstance(own[0][name], dict) and "p" in own[0][name]]
        found = {"row": row, "n": len(own), "device": device}
        found |= {"kernel": kernel_distance(features, real), "interval": kernel_interval(features, real)}
        found |= {"apart": kernel_distance(features, apart), "apart_interval": kernel_interval(features, apart)}
        found["p"] = {name: median(line[name]["p"] for line in own) for name in names}
        if own[0]["class"] is not None:
            ranks = {name: [line[name]["rank"] for line in own] for name in names}
            found["first"] = {name: sum(rank == 1 for rank in ranks[name]) for name in names}
            found["among five"] = {name: sum(rank <= 5 for rank in ranks[name]) for name in names}
            found["median rank"] = {name: median(ranks[name]) for name in names}
        for key in ("feature_distance", "pixel_distance"):
            found[key] = median(line["nearest"][key] for line in own)
        if all("seconds" in line for line in own):
            found["seconds"] = median(line["seconds"] for line in own)
        print(json.dumps(found), flush=True)
        images = images[:60]
        result = bothways.Result(images, torch.full((len(images),), -1), [{"index": k} for k in range(len(images))])
        (options.out / f"{row}.png").write_bytes(to_png(result.grid(5)))


if __name__ == "__main__":
    main()
