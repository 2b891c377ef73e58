"""One setting at a time at 224 px: views, canvases, objectives, one network or two.

    python benchmarks/choices224.py [--rows before cutout ...] [--seeds 0 1 2] [--classes 10] [--device cuda]
    python benchmarks/choices224.py --table
    python benchmarks/choices224.py --sheet FILE --rows before growth ...      a line a row, seed 0

The classes are of those on which settings are chosen (24 + 50 k), none of the 40 of imagenet.py, whose judges and lines
these are. ``before`` is the recipe ``photographs`` before its contrast and cutout, and every other row of that recipe
differs from it in what its name says. Every row is 192 calls a picture of the network that draws, EfficientNet-Lite0;
two networks share them. Rows with a judge that gave a gradient have no line of that judge in the table; "beside
`before`" has the exact sign test of what SqueezeNet has among its five.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

from PIL import Image
from scipy.stats import binomtest

import bothways
import many
from bothways.runs import to_png
from imagenet import BEFORE, EXAMPLES, JUDGES, MODEL, PHOTOGRAPHS, looked_at, mean, share, spread

RESULTS = Path(__file__).resolve().parent / "results" / "choices224.jsonl"
SQUEEZENET = f"{EXAMPLES / 'squeezenet.py'}:build"
CLASSES = [24 + 50 * k for k in range(20)]
MATCHED = {"terms.matching.kind": "matching", "terms.matching.weight": 1.0}
CONTRAST = {"canvas.bound": 6.5, "canvas.spread": 0.25, "ascent.rate": 1.2}
WINDOWS = {"canvas.size": 448, "views.window.smallest": 1.0, "views.window.largest": 2.0}
ROWS = {
    "before": {},
    "contrast": CONTRAST,
    "contrast and cutout": CONTRAST | {"views.cutout.share": 0.1},
    "contrast of 1.25": {"canvas.bound": 6.25, "canvas.spread": 0.25, "ascent.rate": 1.125},
    "weaker decay": {"ascent.decay": 0.08},
    "growth": {"ascent.grow": 0.5},
    "cutout": {"views.cutout.share": 0.1},
    "cutout of a third": {"views.cutout.share": 0.33},
    "colours": {"views.colour.reach": 0.4},
    "colours and hue": {"views.colour.reach": 0.2, "views.colour.hue": 30.0},
    "windows of 448 px": WINDOWS,
    "matching": MATCHED,
    "matching of photographs": MATCHED | {"data": PHOTOGRAPHS},
    "four copies": {"views.copies": 4, "ascent.steps": 48},
    "no focus": {"canvas.focus": 0.0},
    "no tilt": {"canvas.tilt": 0.0},
    "shift of .25": {"views.warp.reach": 0.25},
    "zoom .7 to 1.1": {"views.warp.smallest": 0.7, "views.warp.largest": 1.1},
    "reflected edges": {"views.warp.padding": "reflect"},
    "SqueezeNet alone": {},
    "two networks": {"ascent.steps": 48},
    "das": {"recipe": "das", "ascent.steps": 48},
    "das, colours of photographs": {"recipe": "das", "ascent.steps": 48, "canvas.colours": "bundled:photographs"},
}
DREW = {"SqueezeNet alone": ("squeezenet",), "two networks": ("squeezenet",)}  # beside EfficientNet-Lite0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", default=[*ROWS], choices=[*ROWS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--classes", type=int, default=10, help="the first so many, evenly spaced, of the 20")
    parser.add_argument("--steps", type=int, help="of the ascent, to try it with few")
    parser.add_argument("--out", type=Path, default=Path("runs/choices224"), help="folder of the pictures")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing after so many")
    parser.add_argument("--sheet", type=Path, help="a JPEG of the rows, seed 0, and stop")
    parser.add_argument("--table", action="store_true", help="print the table and stop")
    options = parser.parse_args()
    if options.sheet:
        sheet(options).save(options.sheet, quality=85)
        return
    done = [json.loads(line) for line in options.results.read_text().splitlines()] if options.results.exists() else []
    if not options.table:
        draw(options, done)
    print(table(done))


def chosen(options) -> list[int]:
    return [CLASSES[k * len(CLASSES) // options.classes] for k in range(options.classes)]


def draw(options, done) -> None:
    ends = time.monotonic() + 60 * options.minutes
    many.prepared(options.device)
    warnings.simplefilter("ignore")
    options.out.mkdir(parents=True, exist_ok=True)
    lite, squeezenet = (bothways.load_model(address, device=options.device) for address in (MODEL, SQUEEZENET))
    jury = {name: bothways.load_model(address, device=options.device) for name, address in JUDGES.items()}
    device = many.named(options.device)
    kept = {(row["row"], row["seed"], row["class"], row["device"]) for row in done}
    for name in options.rows:
        targets = [(label, seed) for seed in options.seeds for label in chosen(options)]
        targets = [t for t in targets if (name, t[1], t[0], device) not in kept]
        for part in many.parts(targets, many.CLASSES_AT_ONCE if device != "cpu" else 1):
            if time.monotonic() > ends:
                return
            settings = {"recipe": "photographs"} | ({} if "recipe" in ROWS[name] else BEFORE) | ROWS[name]
            settings |= {"ascent.steps": options.steps} if options.steps else {}
            clock, model = many.Clock(options.device), squeezenet if name == "SqueezeNet alone" else lite
            if name == "two networks":
                model, settings = None, settings | {"condition": [lite, squeezenet]}
            images = many.of_classes(model, part, **settings)
            each = clock.seconds() / len(part)
            looks = looked_at(images, [label for label, _ in part], jury)
            for (label, seed), image, look in zip(part, images.cpu(), looks, strict=True):
                row = {"row": name, "seed": seed, "class": label, "device": device, clock.key: round(each, 3)} | look
                (options.out / f"{name}-{seed}-{label}.png").write_bytes(to_png(image))
                done.append(row)
                with options.results.open("a") as file:
                    file.write(json.dumps(row) + "\n")


def sheet(options, side=160, gap=2):
    """The classes of each row, seed 0, none chosen."""
    classes = chosen(options)
    whole = Image.new("RGB", (len(classes) * (side + gap) - gap, len(options.rows) * (side + gap) - gap), "white")
    for row, name in enumerate(options.rows):
        for column, label in enumerate(classes):
            if (file := options.out / f"{name}-0-{label}.png").is_file():
                drawn = Image.open(file).convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
                whole.paste(drawn, (column * (side + gap), row * (side + gap)))
    return whole


def table(done) -> str:
    """A row each: ranked first and among five of each judge that gave no gradient, and what needs no judge."""
    lines = ["| row | device | pictures | " + " | ".join(f"{j}: first, in five, p" for j in JUDGES)
             + " | beside `before` | border | slope | contrast |", "|---|" + "---|" * (len(JUDGES) + 6)]  # fmt: skip
    for name, device in dict.fromkeys((row["row"], row["device"]) for row in done):
        rows = [row for row in done if (row["row"], row["device"]) == (name, device)]
        cells = [", ".join((share(rows, j, 1), share(rows, j, 5), f"{mean(rows, j):.2f}")) for j in JUDGES]
        cells = ["" if j in DREW.get(name, ()) else cell for j, cell in zip(JUDGES, cells, strict=True)]
        cells += [beside([row for row in done if row["row"] == "before"], rows)]
        cells += [spread([row[key] for row in rows]) for key in ("border", "slope", "contrast")]
        lines.append(f"| {name} | {device} | {len(rows)} | {' | '.join(cells)} |")
    return "\n".join(lines)


def beside(before, rows) -> str:
    """How many pictures SqueezeNet has among its five in these rows only, or before only, class by class."""
    sides = [{(r["class"], r["seed"]): r["squeezenet"][1] <= 5 for r in side} for side in (rows, before)]
    both = [(sides[0][key], sides[1][key]) for key in sides[0].keys() & sides[1].keys()]
    here, there = sum(a > b for a, b in both), sum(b > a for a, b in both)
    chance = binomtest(here, here + there).pvalue if here + there else 1.0
    return f"{here} only here, {there} only there, p = {chance:.3f}"


if __name__ == "__main__":
    main()
