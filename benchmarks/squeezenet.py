"""DAS on a real ImageNet classifier at 224 px: how many of 20 fixed classes does the model itself recognise?

    python benchmarks/squeezenet.py [--recipe das] [--out runs/squeezenet]

The model that gives the gradient is also the one that is asked, so ``hits`` says that the drawing converged, not that
a person would recognise it: open the sheet. The classes were fixed before any was drawn.
"""

import argparse
import json
import time
from pathlib import Path

import bothways
from bothways.runs import to_png

CLASSES = {
    1: "goldfish", 7: "cock", 14: "indigo bunting", 22: "bald eagle", 76: "tarantula", 88: "macaw", 107: "jellyfish",
    130: "flamingo", 145: "king penguin", 207: "golden retriever", 291: "lion", 323: "monarch", 340: "zebra",
    387: "lesser panda", 409: "analog clock", 417: "balloon", 817: "sports car", 948: "Granny Smith", 985: "daisy",
    992: "agaric",
}  # fmt: skip
MODEL = str(Path(__file__).resolve().parents[1] / "examples" / "squeezenet.py") + ":build"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="das")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", default=None, help="real photographs, for recipes with channel statistics")
    parser.add_argument("--only", type=int, nargs="*", default=list(CLASSES), help="these classes")
    parser.add_argument("--out", type=Path, default=Path("runs/squeezenet"))
    parser.add_argument("--set", nargs="*", default=[], help="NAME=VALUE of the recipe")
    options = parser.parse_args()
    changes = dict(pair.split("=") for pair in options.set)
    began = time.monotonic()
    result = bothways.generate(
        MODEL, options.only, n=1, recipe=options.recipe, seed=options.seed, data=options.data, judges=[],
        out=options.out, overwrite=True, on_frame=progress(began), **changes,
    )  # fmt: skip
    sheet = options.out / "sheet.png"
    sheet.write_bytes(to_png(result.grid(columns=5)))
    for record in result.records:
        print(f"{record['label']:4d} {CLASSES[record['label']]:18s} {record['own_probability']:.3f}")
    own = [record["own_probability"] for record in result.records]
    images = result.measures["images"]
    print(f"spectrum slope {images['spectrum_slope']:.2f}, of the null {images['spectrum_slope_null']:.2f}")
    found = {
        "hits": sum(p > 0.9 for p in own),
        "of": len(own),
        "mean_probability": sum(own) / len(own),
        "seconds_per_picture": result.measures["cost"]["seconds_per_picture"],
        "sheet": str(sheet),
    }
    print(json.dumps(found))


def progress(began: float):
    def show(frame: bothways.Frame) -> None:
        if frame.t == 1:
            print(f"picture {frame.batch + 1}: {time.monotonic() - began:.0f} s", flush=True)

    return show


if __name__ == "__main__":
    main()
