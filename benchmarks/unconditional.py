"""Which way of drawing without a class comes nearest to real pictures?  200 pictures a recipe and seed.

    python benchmarks/unconditional.py [--seeds 0 1 2] [--n 200] [--only sampled ...] [--data FOLDER] [--judge ...]

Every row is drawn by the same model, which no judge is; the judges are of two families. The control is
``statistics_tv``: the network's statistics and smoothness, nothing sampled, by the recipe of that name;
``statistics_tv_same_step`` is the same with the steps and weights of ``sampled``, ``statistics_tv_20_steps`` with the
steps of the rows of the score function.
Each distance stands with the interval of its seeds (mean +- t * sd / sqrt(seeds), 95 %). ``real`` is as many real
pictures, other ones, in place of drawn ones; ``noise`` is the start.
"""

import argparse
import json
import time
from pathlib import Path

import torch

import bothways
from bothways.judging.judges import default_judges
from bothways.judging.references import reference
from bothways.judging.verdicts import judge
from bothways.numerics.intervals import mean_interval
from bothways.runs import to_png

NOTHING_SAMPLED = {"terms.features.weight": 0.0, "terms.decision.weight": 0.0}
# name: (recipe, what differs from it)
ROWS = {
    "noise": ("dsf-paper", {"steps": 0}),
    "statistics_tv": ("statistics-tv", {}),
    "statistics_tv_same_step": (
        "sampled",
        {"statistics": "spread", "terms.features.weight": 0.0, "terms.decision.weight": 0.0},
    ),
    "sampled": ("sampled", {}),
    "sampled_undecided": ("sampled", {"terms.decision.weight": 0.0}),
    "sampled_features_only": ("sampled", {"statistics": "spread", "terms.decision.weight": 0.0}),
    "sampled_statistics_only": ("sampled", {"terms.features.weight": 0.0, "terms.decision.weight": 0.0}),
    "sampled_temperature_1": ("sampled", {"temperature": 1.0}),
    "sampled_independent": ("sampled", {"shrinkage": 1.0}),
    "sampled_fourier": ("sampled", {"canvas.kind": "fourier"}),
    "sampled_cosine_schedule": ("sampled", {"schedule": "cosine"}),
    "statistics_tv_20_steps": ("statistics-tv", {"steps": 20}),
    "dsf_paper": ("dsf-paper", {"steps": 20}),
    "dsf": ("dsf", {"steps": 20}),
    "sampled_dsf": ("sampled", {"terms.dsf.weight": 1.0, "steps": 20}),
    "sampled_20_steps": ("sampled", {"steps": 20}),
}
ENSEMBLE = "sampled_ensemble"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled:cifar10-resnet")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--n", type=int, default=200, help="pictures of each recipe and seed")
    parser.add_argument("--only", nargs="+", default=[*ROWS], choices=[*ROWS], help="rows")
    parser.add_argument("--data", type=Path, help="real pictures with a test split, in place of the features kept")
    parser.add_argument("--judge", nargs="+", default=[], help="more judges")
    parser.add_argument("--partner", nargs="+", default=[], help=f"score models beside it, for the row {ENSEMBLE}")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--out", type=Path, default=Path("runs/unconditional-benchmark"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    model = bothways.load_model(options.model, dtype=options.dtype)
    jury = [bothways.load_model(address) for address in [*default_judges(model), *options.judge]]
    references = {j.name: reference(j, options.data) for j in jury}
    rows = {name: ROWS[name] for name in options.only}
    if options.partner:
        rows[ENSEMBLE] = ("sampled", {"data": options.data})
    found = {}
    for name, (recipe, changes) in rows.items():
        runs = []
        for seed in options.seeds:
            began = time.perf_counter()
            together = {"score": [options.model, *options.partner]}
            who = together if name == ENSEMBLE else {"model": model}
            run = bothways.generate(**who, n=options.n, recipe=recipe, seed=seed, judges=[], **changes)
            runs.append((run.images, time.perf_counter() - began))
            (options.out / f"{name}-{seed}.png").write_bytes(to_png(run.grid(20)))
        found[name] = row(runs, options.seeds, jury, references)
        show(name, found[name])
    found["real"] = real_row(found, jury)
    show("real", found["real"])
    print(json.dumps({"model": options.model, "n": options.n, "seeds": options.seeds, "rows": found}))


def row(runs, seeds, jury, references):
    """By judge, the mean over seeds of each measure; for the distance its interval too."""
    said = {j.name: [] for j in jury}
    for (images, _), seed in zip(runs, seeds, strict=True):
        for verdict in judge(images, None, jury, references, seed=seed):
            said[verdict.judge].append(verdict)
    measures = {"seconds": mean(seconds for _, seconds in runs) / len(runs[0][0])}
    for name, verdicts in said.items():
        near = mean_interval(torch.tensor([v.frechet for v in verdicts]))
        kernel = mean_interval(torch.tensor([v.kernel for v in verdicts]))
        measures[name] = {
            "frechet": near.value,
            "frechet_interval": [near.low, near.high] if len(verdicts) > 1 else None,  # one seed has none
            "frechet_real": mean(v.frechet_real for v in verdicts),
            "kernel": kernel.value,
            "kernel_interval": [kernel.low, kernel.high] if len(verdicts) > 1 else None,
            "diversity": mean(v.diversity for v in verdicts),
            "diversity_real": mean(v.diversity_real for v in verdicts),
            "confidence": mean(v.mean_confidence for v in verdicts),
        }
    return measures


def real_row(found, jury):
    """As many real pictures in place of drawn ones, as the judges of the other rows saw them."""
    first = next(iter(found.values()))
    return {
        j.name: {"frechet": first[j.name]["frechet_real"], "diversity": first[j.name]["diversity_real"]} for j in jury
    }


def mean(values):
    return float(torch.tensor(list(values), dtype=torch.float64).mean())


def show(name, measures):
    for judge_name, said in measures.items():
        if judge_name == "seconds":
            continue
        low, high = said.get("frechet_interval") or (said["frechet"], said["frechet"])
        kernel = (
            "kernel {:.4f} ({:.4f} to {:.4f})  ".format(
                said["kernel"], *(said.get("kernel_interval") or (said["kernel"], said["kernel"]))
            )
            if "kernel" in said
            else ""
        )
        share = said["diversity"] / said.get("diversity_real", said["diversity"])
        print(
            f"{name:26s} {judge_name:28s} Frechet {said['frechet']:6.2f} ({low:.2f} to {high:.2f})  {kernel}diversity "
            f"{said['diversity']:.2f} ({share:.2f} of real)  {measures.get('seconds', 0):.2f} s a picture",
            flush=True,
        )


if __name__ == "__main__":
    main()
