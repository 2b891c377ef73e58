"""How often do other models see the class that photos were edited towards?  At one distance from the photos for all.

    python benchmarks/editing.py [--n 200] [--psnr 28] [--only edit das ...] [--seed 0] [--data FOLDER]

Each photo of the test file gets another class at random. Every method has its steps' length set on 24 photos of the
training file, so that the mean PSNR to the photo is the same; then it edits the test photos. A hit: a judge, none of
which is the model that edits, says the class asked for; before and after a 3x3 mean and noise of .05. ``photo`` is the
photo itself. Intervals are 95 % over photos (Wilson), of one seed. Beside each row stands how many more photos a judge
calls the target class after the blur than of ``edit``, in the same photos (Student), and its p by Holm. Expected: the
default edit's blurred hit-rate is at least twice that of the naive ascent.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import bothways
from bothways.models.adapter import Adapter
from bothways.numerics.draws import generator
from bothways.numerics.intervals import holm, paired_difference, seeds_told, wilson_interval
from bothways.runs import to_png
from jury import jury

PHOTO = {"start": "photo", "start_noise": 0.0}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {  # name: (recipe, what differs from it)
    "naive": ("pixels", PHOTO),
    "das": ("das", PHOTO),
    "icons": ("icons", PHOTO),
    "edit": ("edit", {}),
    "edit_dsf": ("edit", {"terms.dsf.weight": 1.0}),
    "edit_statistics": ("edit", {"statistics": "spread", "terms.statistics.weight": 2.0}),
    "edit_without_nearness": ("edit", {"terms.nearness.weight": 0.0}),
    "edit_once_seen": ("edit", {"copies": 1, "shift": 0.0, "views.flip.chance": 0.0, "noise": 0.0}),
    "accentuate": ("accentuate", {}),
}
BASE = "edit"  # that the others are compared with
TUNED_ON, TRIALS = 24, 5


def others(labels: Tensor, seed: int) -> Tensor:
    """A class for each photo that is not its own."""
    return (labels + torch.randint(1, 10, labels.shape, generator=generator(seed, purpose="target"))) % 10


def edited(model: Adapter, photos: Tensor, targets: Tensor, method: str, strength: float, seed: int) -> Tensor:
    """(N,3,H,W): each photo edited towards its own class."""
    recipe, changes = METHODS[method]
    images = torch.empty_like(photos)
    for label in targets.unique().tolist():
        chosen = targets == label
        given = {"strength": strength, "seed": seed, "judges": [], "n": 1, **changes}
        images[chosen] = bothways.edit(model, photos[chosen], label, recipe=recipe, **given).images
    return images


def psnr(images: Tensor, photos: Tensor) -> Tensor:
    """(N,): dB, for numbers in [0, 1]."""
    return -10 * (images - photos).square().mean((1, 2, 3)).clamp_min(1e-12).log10()


def strength_for(model: Adapter, photos: Tensor, targets: Tensor, method: str, wanted: float, seed: int) -> float:
    """By the secant rule in the logarithm of the strength, from 20 dB for ten times the strength on."""
    place, slope, move, found = 0.0, -20.0, 0.0, math.inf
    for trial in range(TRIALS):
        before, found = found, float(psnr(edited(model, photos, targets, method, 10**place, seed), photos).mean())
        if abs(found - wanted) < 0.1:
            break
        if trial:
            slope = min(-4.0, (found - before) / move)
        move = max(-1.0, min(1.0, (wanted - found) / slope))
        place += move
    return 10**place


def seen_by(judge: Adapter, images: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([judge.outputs(part).argmax(1) for part in images.split(50)])


def damaged(images: Tensor, seed: int) -> dict[str, Tensor]:
    """The pictures, blurred by a 3x3 mean, and with noise of .05."""
    noise = torch.randn(images.shape, generator=generator(seed, purpose="damage"))
    blurred = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return {"hit": images, "hit_blurred": blurred, "hit_noisy": (images + 0.05 * noise).clamp(0, 1)}


def row(
    images: Tensor, photos: Tensor, targets: Tensor, judges: dict[str, Adapter], seconds: float, seed: int
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What is printed of a row, and by judge which photos are called the target class after the blur."""
    blurred = {}
    measures: dict[str, Any] = {"psnr": round(float(psnr(images, photos).mean()), 2), "seconds": round(seconds, 3)}
    for kind, shown in damaged(images, seed).items():
        for name, judge in judges.items():
            called = (seen_by(judge, shown) == targets).double()
            right = int(called.sum())
            share = [right / len(images), *wilson_interval(right, len(images))]
            measures.setdefault(name, {})[kind] = [round(value, 3) for value in share]
            if kind == "hit_blurred":
                blurred[name] = called
    return measures, blurred


def compare(blurred: dict[str, dict[str, Tensor]]) -> dict[str, Any]:
    """By judge, each row less ``BASE`` in the same photos, with its interval and its p by Holm over the rows."""
    found: dict[str, Any] = {}
    others = [name for name in blurred if name not in (BASE, "photo")]
    for judge in blurred[BASE] if BASE in blurred and others else ():
        each = [paired_difference(blurred[name][judge], blurred[BASE][judge]) for name in others]
        for name, apart, p in zip(others, each, holm([one.p for one in each]), strict=True):
            found.setdefault(name, {})[judge] = [*apart[:3], p]
            ends = f"({apart.low:+.2f} to {apart.high:+.2f})"
            print(
                f"{name:26}{judge:20} blurred, less {BASE}: {apart.value:+.2f} {ends}, p {p:.3f} of {len(others)} rows"
            )
    return found


def show(name: str, measures: dict[str, Any]) -> None:
    said = f"{name:26}{measures['psnr']:7.2f} dB"
    for judge in (key for key, value in measures.items() if isinstance(value, dict)):
        values = (measures[judge][kind] for kind in ("hit", "hit_blurred", "hit_noisy"))
        said += f"  {judge} " + " ".join(f"{value:.2f} ({low:.2f}-{high:.2f})" for value, low, high in values)
    print(f"{said}  {measures['seconds']:.2f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--psnr", type=float, default=28.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[*METHODS], choices=[*METHODS])
    parser.add_argument("--split", default="test", help="train to try things out")
    parser.add_argument("--model", default="bundled:cifar10-resnet")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--data", type=Path, default=Path(__file__).resolve().parents[2] / "shared/data/cifar10-jpeg")
    parser.add_argument("--out", type=Path, default=Path("runs/editing-benchmark"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    model = bothways.load_model(options.model, dtype=options.dtype)
    judges = jury(model)
    print(f"{options.n} photos, {seeds_told([1])}")
    split, tuning = (bothways.load_images(options.data, split=s, limit=2 * n) for s, n in (
        (options.split, options.n), ("train", TUNED_ON)
    ))  # fmt: skip
    photos, labels = split.images[1::2].float() / 255, split.labels[1::2]
    small, small_labels = tuning.images[::2].float() / 255, tuning.labels[::2]
    targets, small_targets = others(labels, options.seed), others(small_labels, options.seed)
    found, blurred = {}, {}
    found["photo"], blurred["photo"] = row(photos, photos, targets, judges, 0.0, options.seed)
    show("photo", found["photo"])
    for name in options.only:
        strength = strength_for(model, small, small_targets, name, options.psnr, options.seed)
        began = time.perf_counter()
        images = edited(model, photos, targets, name, strength, options.seed)
        seconds = (time.perf_counter() - began) / len(photos)
        found[name], blurred[name] = row(images, photos, targets, judges, seconds, options.seed)
        found[name]["strength"] = round(strength, 4)
        show(name, found[name])
        side = torch.stack([photos[:20], images[:20]]).permute(2, 0, 3, 1, 4).reshape(3, 64, 640)
        (options.out / f"{name}.png").write_bytes(to_png(side.repeat_interleave(2, 1).repeat_interleave(2, 2)))
    print(
        json.dumps(
            {"model": options.model, "n": options.n, "psnr": options.psnr, "rows": found, "apart": compare(blurred)}
        )
    )


if __name__ == "__main__":
    main()
