"""Do other networks recognise what the bundled classifier draws?  100 pictures a recipe and seed, 10 a class.

    python benchmarks/icons.py [--seeds 0 1 2] [--recipes icons pixels] [--model bundled:cifar10-resnet]

Each picture is judged as it is and after a 3x3 mean, which undoes what is carried by pixel noise; the intervals are
Wilson's over all pictures of all seeds. Beside the Frechet distance, which is biased by the number of pictures, stand
that of the start (noise) and of as many real pictures, and the kernel distance with Student's interval over seeds,
in the same judge's features. The judges never supply a gradient.
"""

import argparse
import json
from pathlib import Path

import torch

import bothways
from bothways.judging.judges import default_judges
from bothways.judging.references import reference
from bothways.judging.verdicts import judge, mean_blur
from bothways.numerics.intervals import mean_interval, wilson_interval
from bothways.runs import to_png


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled:cifar10-resnet")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipes", nargs="+", default=["icons", "pixels"])
    parser.add_argument("--n", type=int, default=10, help="pictures of each class")
    parser.add_argument("--set", nargs="*", default=[], help="NAME=VALUE for every recipe")
    parser.add_argument("--out", type=Path, default=Path("runs/icons-benchmark"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    changes = dict(pair.split("=") for pair in options.set)
    model = bothways.load_model(options.model)
    jury = [bothways.load_model(address) for address in default_judges(model)]
    references = {j.name: reference(j, None) for j in jury}
    found = {
        "hit_rate": {},
        "hit_rate_blurred": {},
        "frechet": {},
        "frechet_start": {},
        "frechet_real": {},
        "kernel": {},
        "diversity": {},
    }
    found["seconds_per_picture"] = {}
    for recipe in [*options.recipes, "start"]:
        runs, seconds = [], []
        for seed in options.seeds:
            how = (
                {"recipe": "pixels", "start": "noise", "steps": 0}
                if recipe == "start"
                else {"recipe": recipe, **changes}
            )
            run = bothways.generate(model, range(10), n=options.n, seed=seed, judges=[], **how)
            (options.out / f"{recipe}-{seed}.png").write_bytes(to_png(run.grid()))
            runs.append(run)
            seconds.append(run.measures["cost"]["seconds_per_picture"])
        clear, blurred = verdicts(runs, jury, references), verdicts(runs, jury, references, blur=True)
        for name in clear:
            if recipe == "start":
                found["frechet_start"][name] = mean(v.frechet for v in clear[name])
                found["frechet_real"][name] = mean(v.frechet_real for v in clear[name])
                continue
            for key, said in (("hit_rate", clear), ("hit_rate_blurred", blurred)):
                found[key].setdefault(recipe, {})[name] = pooled(said[name])
            found["frechet"].setdefault(recipe, {})[name] = mean(v.frechet for v in clear[name])
            found["kernel"].setdefault(recipe, {})[name] = over_seeds(v.kernel for v in clear[name])
            found["diversity"].setdefault(recipe, {})[name] = mean(v.diversity for v in clear[name])
        found["seconds_per_picture"][recipe] = mean(seconds)
        show(recipe, clear, blurred)
    print(json.dumps(found))


def verdicts(runs, jury, references, *, blur=False):
    """{judge: one verdict a seed}."""
    said = {j.name: [] for j in jury}
    for seed, run in enumerate(runs):
        names = [record["class"] for record in run.records]
        images = mean_blur(run.images) if blur else run.images
        for verdict in judge(images, names, jury, references, seed=seed):
            said[verdict.judge].append(verdict)
    return said


def pooled(said):
    """The hit-rate over all seeds, its interval, and that of each seed."""
    n, hits = sum(v.n for v in said), sum(round(v.hit_rate * v.n) for v in said)
    low, high = wilson_interval(hits, n)
    return {"rate": hits / n, "low": low, "high": high, "by_seed": [v.hit_rate for v in said]}


def mean(values):
    return float(torch.tensor(list(values)).mean())


def over_seeds(values):
    """[value, low, high]: the mean over seeds and Student's interval of them, which one seed has not."""
    found = mean_interval(torch.tensor(list(values), dtype=torch.float64))
    return [found.value, found.low, found.high]


def show(recipe, clear, blurred):
    for name, said in clear.items():
        a, b = pooled(said), pooled(blurred[name])
        kernel = "{:.4f} ({:.4f} to {:.4f})".format(*over_seeds(v.kernel for v in said))
        print(
            f"{recipe:10s} {name:28s} {a['rate']:.3f} ({a['low']:.3f} to {a['high']:.3f})  blurred {b['rate']:.3f} "
            f"({b['low']:.3f} to {b['high']:.3f})  Frechet {mean(v.frechet for v in said):.2f} "
            f"(real {mean(v.frechet_real for v in said):.2f})  kernel {kernel}  "
            f"diversity {mean(v.diversity for v in said):.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
