"""What networks that others trained draw at 32 px: does a robust one, or one without BatchNorm, draw better?

    python benchmarks/strangers.py [--draw tiniest robust] [--recipes icons das photographs] [--out runs/strangers]

Twenty pictures a row (ten classes, seeds 0 and 1), judged by networks that gave no gradient, as they are and after a
3x3 mean. A sheet of each row: a column a class, a row a seed. With --data the recipe icons also matches the channel
statistics of those real pictures, as a row of its own.
"""

import argparse
import json
from pathlib import Path

import torch

import bothways
from bothways.judging.verdicts import mean_blur
from bothways.numerics.intervals import seeds_told, wilson_interval
from bothways.runs import to_png
from jury import EXAMPLES, OTHERS

NETWORKS = {
    **OTHERS,
    "robust": f"{EXAMPLES / 'robust_cifar10.py'}:build",
    "resnet20": f"{EXAMPLES / 'resnet_cifar10.py'}:resnet20",
    "attention": "bundled:cifar10-attention",
}
JURY = ("attention", "resnet56", "mlcommons", "tiniest", "robust")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", nargs="+", default=["tiniest", "robust", "resnet20"], choices=list(NETWORKS))
    parser.add_argument("--recipes", nargs="+", default=["icons", "das", "photographs"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--data", help="real pictures, for icons with statistics")
    parser.add_argument("--out", type=Path, default=Path("runs/strangers"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    print(f"ten pictures a seed, {seeds_told([len(options.seeds)])}")
    models = {name: bothways.load_model(address) for name, address in NETWORKS.items()}
    ways = [(recipe, {}) for recipe in options.recipes]
    ways += [("icons with statistics", {"recipe": "icons", "data": options.data})] if options.data else []
    found = {}
    for drawer in options.draw:
        for recipe, how in ways:
            runs = [
                bothways.generate(models[drawer], range(10), n=1, seed=s, judges=[], **{"recipe": recipe, **how})
                for s in options.seeds
            ]
            images, labels = (torch.cat([getattr(run, part) for run in runs]) for part in ("images", "labels"))
            label = f"{drawer}, {recipe}"
            (options.out / f"{label.replace(', ', '-').replace(' ', '-')}.png").write_bytes(to_png(sheet(images)))
            found[label] = {
                **{name: verdict(models[name], images, labels) for name in JURY if name != drawer},
                "seconds_per_picture": sum(run.measures["cost"]["seconds_per_picture"] for run in runs) / len(runs),
            }
            print(label, json.dumps(found[label]), flush=True)
    (options.out / "strangers.json").write_text(json.dumps(found, indent=1))


@torch.no_grad()
def verdict(judge, images: torch.Tensor, labels: torch.Tensor) -> dict:
    """How many are recognised, as they are and blurred, and the mean probability of the class."""
    probability = judge.outputs(images).softmax(1)
    clear = int((probability.argmax(1) == labels).sum())
    blurred = int((judge.outputs(mean_blur(images)).argmax(1) == labels).sum())
    return {
        "recognised": clear, "interval": wilson_interval(clear, len(labels)),
        "blurred": blurred, "blurred_interval": wilson_interval(blurred, len(labels)),
        "probability": probability.gather(1, labels[:, None]).mean().item(), "of": len(labels),
    }  # fmt: skip


def sheet(images: torch.Tensor, columns: int = 10, enlarged: int = 3) -> torch.Tensor:
    big = images.repeat_interleave(enlarged, 2).repeat_interleave(enlarged, 3)
    return torch.cat([torch.cat(list(part), 2) for part in big.split(columns)], 1)


if __name__ == "__main__":
    main()
