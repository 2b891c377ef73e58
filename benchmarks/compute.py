"""What the bundled classifiers took to train, pretraining included, beside their accuracy.

    python benchmarks/compute.py --data PICTURES_OF_CIFAR10

Operations are those of matrix products and convolutions of every step, a backward pass as two forward ones; what
`bothways plan` says of the two trainings of the flow, and torch's counter times the pictures seen of the plain
networks. Accuracies, with Wilson's 95 % interval, are those of the cards: on the 10,000 test pictures.
"""

import argparse
import json
import tomllib
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

import bothways
from bothways.models.cards import BUNDLED

ROOT = Path(__file__).resolve().parents[1]
PASSES = 3  # forward, and backward as two


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="the training pictures, train.parquet")
    given = parser.parse_args()
    flow = planned("pretrain", "cifar10-flow", given.data) + planned("finetune", "cifar10-prg", given.data)
    for name in ("prg", "resnet", "attention", "plain"):
        card = json.loads((BUNDLED / f"cifar10-{name}.json").read_text(encoding="utf-8"))
        spent = flow if name == "prg" else trained(name, given.data)
        low, high = card["accuracy_interval"]
        print(f"cifar10-{name}: {spent:.3g} operations ({spent / flow:.3f}), {card['accuracy']:.4f} ({low} to {high})")


def planned(command: str, recipe: str, data: Path) -> float:
    """Operations of a whole training of the flow or of its classifier."""
    of = {"flow": "bundled:cifar10-flow"} if command == "finetune" else {}
    return float(bothways.plan(command, {"recipe": recipe, "data": str(data), **of}).facts["operations"]["all"])


def trained(name: str, data: Path) -> float:
    """Operations of the training of a plain network by its recipe."""
    recipe = tomllib.loads((ROOT / "recipes" / f"cifar10-{name}.toml").read_text(encoding="utf-8"))
    pictures = len(bothways.open_images(data)) - recipe["holdout"]["validation"]
    model = bothways.load_model(f"bundled:cifar10-{name}")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.outputs(torch.rand(1, 3, 32, 32))
    return counter.get_total_flops() * PASSES * pictures * recipe["fit"]["epochs"]


if __name__ == "__main__":
    main()
