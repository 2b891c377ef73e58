"""Which way of drawing without a class comes nearest to real pictures?  200 pictures a recipe and seed.

    python benchmarks/unconditional.py [--seeds 0 1 2] [--n 200] [--only sampled ...] [--data FOLDER] [--judge ...]
    python benchmarks/unconditional.py --seeds 0 1 --n 60 --only sampled sampled_density ... --statistics FILE

Every row is drawn by the same model, which no judge is; the judges are of two families. The control is
``statistics_tv``: the network's statistics and smoothness, nothing sampled, by the recipe of that name;
``statistics_tv_same_step`` is the same with the steps and weights of ``sampled``, ``statistics_tv_20_steps`` with the
steps of the rows of the score function.
Each Frechet distance stands with the interval of its seeds (mean +- t * sd / sqrt(seeds), 95 %), each kernel distance
with that of the pictures of all seeds together, by the bootstrap over drawn and real pictures. ``control`` of a row is
the row of as many steps without what it adds (``CONTROLS``): the difference of the two kernel distances, by the same
bootstrap, and the p of the paired t test over the seeds, adjusted by Holm for the number of rows. ``real`` is as many
real pictures, other ones, in place of drawn ones; ``noise`` is the start. Rows of ``OF_FILE`` are drawn from features
of single pictures, which stand in FILE:

    bothways statistics bundled:cifar10-resnet --data PICTURES --features pool stages.1 stages.2.1 --out FILE
"""

import argparse
import json
import time
from pathlib import Path

import torch

import bothways
from bothways.judging.verdicts import judge, penultimate
from bothways.numerics.distances import kernel_bootstrap, kernel_difference
from bothways.numerics.intervals import holm, mean_interval, paired_difference, seeds_told
from bothways.runs import to_png
from jury import jury, references_of

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
    "dsf": ("dsf", {"steps": 20}),
    "sampled_dsf": ("sampled", {"terms.dsf.weight": 1.0, "steps": 20}),
    "sampled_20_steps": ("sampled", {"steps": 20}),
}
ONE, SEVERAL = {"terms.features.layers": "pool"}, {"terms.features.layers": ["pool", "stages.1", "stages.2.1"]}
OF_FILE = {
    "sampled_gaussian": ("sampled", {"sampling.kind": "gaussian", **ONE}),
    "sampled_density": ("sampled", {"sampling.kind": "density", **ONE}),
    "sampled_density_temperature_1": ("sampled", {"sampling.kind": "density", "temperature": 1.0, **ONE}),
    "sampled_density_layers": ("sampled", {"sampling.kind": "density", "temperature": 1.0, **SEVERAL}),
    "photographs_density": ("sampled-photographs", ONE),
    "photographs_density_layers": ("sampled-photographs", SEVERAL),
}
ENSEMBLE = "sampled_ensemble"
CONTROLS = {"dsf": "statistics_tv_20_steps", "sampled_dsf": "sampled_20_steps"}
CONTROL = "statistics_tv"  # of the other rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="bundled:cifar10-resnet")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--n", type=int, default=200, help="pictures of each recipe and seed")
    parser.add_argument("--only", nargs="+", default=[*ROWS], choices=[*ROWS, *OF_FILE], help="rows")
    parser.add_argument("--statistics", type=Path, help="a file of bothways statistics, for the rows drawn from one")
    parser.add_argument("--data", type=Path, help="real pictures with a test split, in place of the features kept")
    parser.add_argument("--judge", nargs="+", default=[], help="more judges")
    parser.add_argument("--partner", nargs="+", default=[], help=f"score models beside it, for the row {ENSEMBLE}")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--out", type=Path, default=Path("runs/unconditional-benchmark"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    model = bothways.load_model(options.model, dtype=options.dtype)
    judges = list(jury(model, options.judge).values())
    references = references_of(judges, options.data)
    judges = [j for j in judges if references[j.name] is not None]  # without --data those that keep real pictures
    print(f"{options.n} pictures a seed, {seeds_told([len(options.seeds)])}")
    rows = {name: (ROWS | OF_FILE)[name] for name in options.only}
    if not options.statistics and OF_FILE.keys() & rows.keys():
        parser.error(f"{', '.join(OF_FILE.keys() & rows.keys())}: type --statistics FILE")
    if options.partner:
        rows[ENSEMBLE] = ("sampled", {"data": options.data})
    found, drawn = {}, {}
    for name, (recipe, changes) in rows.items():
        runs = []
        for seed in options.seeds:
            began = time.perf_counter()
            together = {"score": [options.model, *options.partner]}
            who = together if name == ENSEMBLE else {"model": model}
            who |= {"data": options.statistics} if name in OF_FILE else {}
            run = bothways.generate(**who, n=options.n, recipe=recipe, seed=seed, judges=[], **changes)
            runs.append((run.images, time.perf_counter() - began))
            (options.out / f"{name}-{seed}.png").write_bytes(to_png(run.grid(20)))
        found[name] = row(runs, options.seeds, judges, references)
        drawn[name] = torch.cat([images for images, _ in runs])
        show(name, found[name])
    found["real"] = real_row(found, judges)
    show("real", found["real"])
    beside_controls(found, drawn, judges, references)
    print(json.dumps({"model": options.model, "n": options.n, "seeds": options.seeds, "rows": found}))


def row(runs, seeds, judges, references):
    """By judge, the mean over seeds of each measure, with intervals of the distances."""
    said = {j.name: [] for j in judges}
    for (images, _), seed in zip(runs, seeds, strict=True):
        for verdict in judge(images, None, judges, references, seed=seed):
            said[verdict.judge].append(verdict)
    together = torch.cat([images for images, _ in runs])
    far = {j.name: kernel_bootstrap(penultimate(j, together)[0], references[j.name].features) for j in judges}
    measures = {"seconds": mean(seconds for _, seconds in runs) / len(runs[0][0])}
    for name, verdicts in said.items():
        near = mean_interval([v.frechet for v in verdicts]) if verdicts[0].frechet is not None else None
        measures[name] = {
            "frechet": near and near.value,  # none of fewer than 50 pictures
            "frechet_interval": [near.low, near.high] if near and len(verdicts) > 1 else None,  # one seed has none
            "frechet_real": near and mean(v.frechet_real for v in verdicts),
            "kernel_of_seeds": [v.kernel for v in verdicts],
            "kernel": far[name].value,
            "kernel_interval": list(far[name][1:]),
            "kernel_real": mean(v.kernel_real for v in verdicts),
            "diversity": mean(v.diversity for v in verdicts),
            "diversity_real": mean(v.diversity_real for v in verdicts),
            "confidence": mean(v.mean_confidence for v in verdicts),
        }
    return measures


def beside_controls(found, drawn, judges, references):
    """Add to each row how much further from real pictures it is than its control, and print it; by judge."""
    pairs = {name: CONTROLS.get(name, CONTROL) for name in drawn}
    pairs = {name: control for name, control in pairs.items() if control in drawn and control != name}
    for j in judges:
        features = {name: penultimate(j, drawn[name])[0] for name in {*pairs, *pairs.values()}}
        each = {name: [found[one][j.name]["kernel_of_seeds"] for one in pair] for name, pair in
                ((name, (name, control)) for name, control in pairs.items())}  # fmt: skip
        adjusted = holm([paired_difference(*values).p for values in each.values()])
        for (name, control), p in zip(pairs.items(), adjusted, strict=True):
            apart = kernel_difference(features[name], features[control], references[j.name].features)
            found[name][j.name] |= {"control": control, "apart": list(apart), "p_over_seeds_holm": p}
            print(
                f"{name:26s} {j.name:28s} kernel distance less that of {control}: {apart.value:+.4f} "
                f"({apart.low:+.4f} to {apart.high:+.4f}); over seeds p {p:.3f}, by Holm of {len(pairs)} rows",
                flush=True,
            )


def real_row(found, judges):
    """As many real pictures in place of drawn ones, as the judges of the other rows saw them."""
    first = next(iter(found.values()))
    return {
        j.name: {"frechet": first[j.name]["frechet_real"], "diversity": first[j.name]["diversity_real"]} for j in judges
    }


def mean(values):
    return float(torch.tensor(list(values), dtype=torch.float64).mean())


def show(name, measures):
    for judge_name, said in measures.items():
        if judge_name == "seconds":
            continue
        low, high = said.get("frechet_interval") or (said["frechet"], said["frechet"])
        frechet = "" if said["frechet"] is None else f"Frechet {said['frechet']:6.2f} ({low:.2f} to {high:.2f})  "
        share = said["diversity"] / said.get("diversity_real", said["diversity"])
        kernel = (
            ""
            if "kernel" not in said
            else "kernel {:.4f} ({:.4f} to {:.4f})  ".format(said["kernel"], *said["kernel_interval"])
        )
        print(
            f"{name:26s} {judge_name:28s} {frechet}{kernel}diversity "
            f"{said['diversity']:.2f} ({share:.2f} of real)  {measures.get('seconds', 0):.2f} s a picture",
            flush=True,
        )


if __name__ == "__main__":
    main()
