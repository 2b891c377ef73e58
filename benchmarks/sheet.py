"""Eight ImageNet classes at 224 px by several recipes on one sheet, to be looked at: rows are recipes, columns classes.

    python benchmarks/sheet.py --data PHOTOGRAPHS [--recipes maco das icons] [--out runs/sheet]

The classes and the seed were fixed before any was drawn. Beside each recipe stands what the model that gave the
gradient says of its own pictures: that tells that a drawing converged, not that a person would name it. PHOTOGRAPHS
(for recipes that match channel statistics) is a parquet or a folder.
"""

import argparse
import json
from pathlib import Path

import torch

import bothways
from bothways.runs import to_png

CLASSES = {
    1: "goldfish", 14: "indigo bunting", 22: "bald eagle", 107: "jellyfish", 130: "flamingo", 323: "monarch",
    340: "zebra", 387: "lesser panda",
}  # fmt: skip
MODEL = str(Path(__file__).resolve().parents[1] / "examples" / "squeezenet.py") + ":build"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipes", nargs="+", default=["maco", "das", "icons"])
    parser.add_argument("--data", default=None, help="real photographs, for recipes with channel statistics")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/sheet"), help="an interrupted sheet is gone on with")
    options = parser.parse_args()
    rows, found = [], {}
    for recipe in options.recipes:
        result = bothways.generate(
            MODEL, list(CLASSES), n=1, recipe=recipe, seed=options.seed, data=options.data, judges=[],
            out=options.out / recipe, resume=(options.out / recipe).exists(), on_frame=progress(recipe),
        )  # fmt: skip
        rows.append(result.grid(columns=len(CLASSES)))
        if result.alphas is not None:
            rows.append(on_white(result).grid(columns=len(CLASSES)))
        own = {CLASSES[record["label"]]: round(record["own_probability"], 3) for record in result.records}
        found[recipe] = {"own": own, "seconds_per_picture": result.measures["cost"]["seconds_per_picture"]}
        print(recipe, json.dumps(found[recipe]), flush=True)
        (options.out / "sheet.png").write_bytes(to_png(torch.cat(rows, 1)))
    print(json.dumps(found))


def on_white(result: bothways.Result) -> bothways.Result:
    """The pictures as far as they are opaque, on white."""
    shown = result.images * result.alphas + (1 - result.alphas)
    return bothways.Result(shown, result.labels, result.records)


def progress(recipe: str):
    def show(frame: bothways.Frame) -> None:
        if frame.t == 1:
            print(f"{recipe}: batch {frame.batch + 1}", flush=True)

    return show


if __name__ == "__main__":
    main()
