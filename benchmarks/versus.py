"""How many times as often as a rival's are the pictures of a row recognised?  From the lines of imagenet.py.

    python benchmarks/versus.py [--row photographs] [--calls 192] [--rivals lucent horama-fourier] [--rival-calls 192]

Pictures of the same classes and seeds are compared. The interval (95 %) of a ratio is of 10,000 bootstrap samples of
the classes, seed 0; "only one" has the exact sign test of the pictures that a judge recognises of one row alone. Any
row may stand for a rival. ``--devices`` compares the pictures that a row has on the CPU with those of the same classes
and seeds on a GPU.
"""

import argparse
import json

import numpy as np
from scipy.stats import binomtest

from imagenet import JUDGES, RESULTS

DRAWS = 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--row", default="photographs")
    parser.add_argument("--calls", type=int, default=192)
    parser.add_argument("--rivals", nargs="+", default=["lucent", "horama-fourier"])
    parser.add_argument("--rival-calls", type=int, default=192)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"], help="of the lines")
    parser.add_argument("--devices", action="store_true", help="the CPU beside the GPU, and no rivals")
    options = parser.parse_args()
    lines = [json.loads(text) for text in RESULTS.read_text().splitlines()]
    own = chosen(lines, options.row, options.calls, options.device)
    if options.devices:
        devices(options.row, options.calls, *(chosen(lines, options.row, options.calls, d) for d in ("cpu", "cuda")))
        return
    for rival in options.rivals:
        theirs = chosen(lines, rival, options.rival_calls, options.device)
        for judge in JUDGES:
            for rank in (1, 5):
                print(f"{options.row} {options.calls}, {rival} {options.rival_calls}, {judge}, rank {rank}: "
                      + compared(own, theirs, judge, rank) + "; " + only_one(own, theirs, judge, rank))  # fmt: skip


def chosen(lines, row, calls, device):
    """{(class, seed): line} of a row, drawn on the CPU or on a GPU."""
    return {
        (line["class"], line["seed"]): line
        for line in lines
        if (line["row"], line["calls"]) == (row, calls) and ("device" in line) == (device == "cuda")
    }


def compared(own, theirs, judge, rank) -> str:
    """Both counts, of how many, and their ratio with the interval of a bootstrap of the classes."""
    both = sorted(own.keys() & theirs.keys())
    classes = sorted({label for label, _ in both})
    counts = np.zeros((len(classes), 2))
    for label, seed in both:
        hits = [side[label, seed][judge][1] <= rank for side in (own, theirs)]
        counts[classes.index(label)] += hits
    sums = counts.sum(0)
    picked = np.random.default_rng(0).integers(0, len(classes), (DRAWS, len(classes)))
    drawn = counts[picked].sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):  # inf where the rival has none
        low, high = np.nanpercentile(drawn[:, 0] / drawn[:, 1], [2.5, 97.5], method="nearest")
        ratio = sums[0] / sums[1]
    return f"{sums[0]:.0f} and {sums[1]:.0f} of {len(both)}, {ratio:.2f} times ({low:.2f} to {high:.2f})"


def devices(row, calls, cpu, gpu) -> None:
    both = sorted(cpu.keys() & gpu.keys())
    for judge in JUDGES:
        for rank in (1, 5):
            one, other = (sum(side[key][judge][1] <= rank for key in both) for side in (cpu, gpu))
            print(f"{row} {calls}, {judge}, rank {rank}: CPU {one}, GPU {other} of {len(both)}; "
                  + only_one(cpu, gpu, judge, rank))  # fmt: skip


def only_one(own, theirs, judge, rank) -> str:
    """Of how many pairs a judge ranks the one picture alone, or the other alone, and the exact sign test."""
    both = sorted(own.keys() & theirs.keys())
    pairs = [[side[key][judge][1] <= rank for side in (own, theirs)] for key in both]
    here, there = sum(a > b for a, b in pairs), sum(b > a for a, b in pairs)
    chance = binomtest(here, here + there).pvalue if here + there else 1.0
    return f"only one {here} and {there}, p = {chance:.3f}"


if __name__ == "__main__":
    main()
