"""Do other networks recognise what the bundled classifier draws?  100 pictures a recipe and seed, 10 a class.

    python benchmarks/icons.py [--seeds 0 1 2] [--recipes icons pixels] [--model bundled:cifar10-resnet] [--data FOLDER]

Each picture is judged as it is and after a 3x3 mean, which undoes what is carried by pixel noise; the intervals are
Wilson's over all pictures of all seeds. Beside the Frechet distance, which is biased by the number of pictures, stand
that of the start (noise) and of as many real pictures, and the kernel distance of the pictures of all seeds, with its
interval by the bootstrap over drawn and real pictures, in the same judge's features; of judges by other authors
(jury.py) only with --data. No judge supplies a gradient.
"""

import argparse
import json
from pathlib import Path

import torch

import bothways
from bothways.judging.verdicts import judge, mean_blur, penultimate
from bothways.numerics.distances import kernel_bootstrap
from bothways.numerics.intervals import seeds_told, wilson_interval
from bothways.runs import to_png
from jury import jury, references_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled:cifar10-resnet")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--recipes", nargs="+", default=["icons", "pixels"])
    parser.add_argument("--n", type=int, default=10, help="pictures of each class")
    parser.add_argument("--set", nargs="*", default=[], help="NAME=VALUE for every recipe")
    parser.add_argument("--data", type=Path, help="real pictures with a test split, for judges that keep none")
    parser.add_argument("--out", type=Path, default=Path("runs/icons-benchmark"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    changes = dict(pair.split("=") for pair in options.set)
    model = bothways.load_model(options.model)
    judges = list(jury(model).values())
    references = references_of(judges, options.data)
    print(f"{options.n * 10} pictures a seed, {seeds_told([len(options.seeds)])}")
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
        clear, blurred = verdicts(runs, judges, references), verdicts(runs, judges, references, blur=True)
        for name in clear:
            if recipe == "start":
                found["frechet_start"][name] = mean(v.frechet for v in clear[name])
                found["frechet_real"][name] = mean(v.frechet_real for v in clear[name])
                continue
            for key, said in (("hit_rate", clear), ("hit_rate_blurred", blurred)):
                found[key].setdefault(recipe, {})[name] = pooled(said[name])
            found["frechet"].setdefault(recipe, {})[name] = mean(v.frechet for v in clear[name])
            found["diversity"].setdefault(recipe, {})[name] = mean(v.diversity for v in clear[name])
        found["seconds_per_picture"][recipe] = mean(seconds)
        far = apart(runs, judges, references)
        found["kernel"][recipe] = far
        show(recipe, clear, blurred, far)
    print(json.dumps(found))


def verdicts(runs, judges, references, *, blur=False):
    """{judge: one verdict a seed}."""
    said = {j.name: [] for j in judges}
    for seed, run in enumerate(runs):
        names = [record["class"] for record in run.records]
        images = mean_blur(run.images) if blur else run.images
        for verdict in judge(images, names, judges, references, seed=seed):
            said[verdict.judge].append(verdict)
    return said


def pooled(said):
    """The hit-rate over all seeds, its interval, and that of each seed."""
    n, hits = sum(v.n for v in said), sum(round(v.hit_rate * v.n) for v in said)
    low, high = wilson_interval(hits, n)
    return {"rate": hits / n, "low": low, "high": high, "by_seed": [v.hit_rate for v in said]}


def mean(values):
    """None where a judge has no real pictures to compare with."""
    known = list(values)
    return None if None in known else float(torch.tensor(known).mean())


def apart(runs, judges, references):
    """{judge: [kernel distance, low, high]} of the pictures of all seeds, of the judges with real pictures."""
    images = torch.cat([run.images for run in runs])
    return {
        j.name: list(kernel_bootstrap(penultimate(j, images)[0], references[j.name].features))
        for j in judges
        if references[j.name] is not None
    }


def show(recipe, clear, blurred, far):
    for name, said in clear.items():
        a, b = pooled(said), pooled(blurred[name])
        frechet = mean(v.frechet for v in said)
        told = "" if frechet is None else f"Frechet {frechet:.2f} (real {mean(v.frechet_real for v in said):.2f})  "
        told += "kernel {:.4f} ({:.4f} to {:.4f})  ".format(*far[name]) if name in far else ""
        print(
            f"{recipe:10s} {name:28s} {a['rate']:.3f} ({a['low']:.3f} to {a['high']:.3f})  blurred {b['rate']:.3f} "
            f"({b['low']:.3f} to {b['high']:.3f})  {told}"
            f"diversity {mean(v.diversity for v in said):.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
