"""Which way of drawing a class from a real network do other networks recognise?  224 px, beside rivals, in one run.

    python benchmarks/imagenet.py [--rows photographs lucent ...] [--calls 192] [--seeds 0] [--classes 40 | --labels 24]
    python benchmarks/imagenet.py --table          the table of what the results file holds so far
    python benchmarks/imagenet.py --sheet FILE --rows photographs lucent horama-fourier     pictures drawn: a line a row

EfficientNet-Lite0 draws; the judges gave no gradient: Lite1 and Lite2 of its family, SqueezeNet 1.1 and MobileNetV2 of
others (examples/). The 40 classes, 12 + 25 k, were fixed before any was drawn, and no setting was chosen on them: 24 +
50 k were used for that. ``photographs`` is a row of real ones, of those of the classes that there are.
A picture is a line of results/imagenet.jsonl, so a stopped run goes on where it was; CPU seconds are of one process
with one thread, loading left out. With ``--device cuda`` the classes and seeds of a row are drawn at once, with the
same draws (Horama's crops are drawn on the GPU); a line then names the GPU and has its seconds, a share of the batch's.
A row of the table is of one device. Rivals are listed in peers/drawing.py with the environment that starts them, and
losses of papers without one in peers/losses.py.

``border``: the share of the evidence for the class in the outer tenth of the picture, whose area is .36 of all; the
evidence is the sum over colours of |(x - mean) dz/dx|, of Lite2's logit z, blurred.
"""

import argparse
import json
import statistics
import time
import warnings
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image

import bothways
import many
from bothways.data.sources import load_images
from bothways.judging.verdicts import mean_blur
from bothways.numerics.intervals import seeds_told, wilson_interval
from bothways.numerics.measures import pixel_std, spectrum_slopes
from bothways.runs import to_png
from peers.drawing import PEERS, lucent_of
from peers.losses import PHOTOGRAPHS, deep_inversion, deep_inversion_of, vital, vital_of

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "imagenet.jsonl"
MODEL = "imagenet:efficientnet-lite0"
EXAMPLES = HERE.parent / "examples"
JUDGES = {
    "lite1": "imagenet:efficientnet-lite1",
    "lite2": "imagenet:efficientnet-lite2",
    "squeezenet": f"{EXAMPLES / 'squeezenet.py'}:build",
    "mobilenet": f"{EXAMPLES / 'mobilenet_v2.py'}:build",
}
CLASSES = [12 + 25 * k for k in range(40)]
# The recipe before 2026-11-30: paler, and without cutout.
BEFORE = {"canvas.bound": 5.0, "canvas.spread": 0.2, "ascent.rate": 0.9, "views.cutout.share": 0.0}
LOG_PROBABILITY = BEFORE | {"terms.class.weight": 1.0, "terms.head-row.weight": 0.0}
# name: (recipe, copies a step, what differs from the recipe)
OURS = {
    "photographs": ("photographs", 2, {}),
    "photographs-before": ("photographs", 2, BEFORE),
    "photographs-log-probability": ("photographs", 2, LOG_PROBABILITY),
    "maco": ("maco", 4, {"canvas.spectrum": "bundled:photographs"}),
    "das": ("das", 4, {}),
    "das-paper": ("das-paper", 16, {}),
    "pixels": ("pixels", 1, {}),
}
LOSSES = {"deep-inversion": deep_inversion, "vital": vital}
ALIKE = {"lucent": lucent_of, "deep-inversion": deep_inversion_of, "vital": vital_of}  # of many at once
REAL = "photographs of the class"
FRAME = 0.1  # of a side
JUDGED = 40  # pictures at once


def ours(name, model, targets, calls):
    recipe, copies, changes = OURS[name]
    settings = {"recipe": recipe, "ascent.steps": max(1, calls // copies)} | changes
    if len(targets) == 1:
        ((label, seed),) = targets
        return bothways.generate(model, [label], n=1, seed=seed, judges=[], **settings).images
    return many.of_classes(model, targets, **settings)


photographs = cache(load_images)


def real(label):
    """The photographs of a class, (N,3,256,256) in [0,1]; none for the odd classes of the samples."""
    found = photographs(PHOTOGRAPHS)
    return found.images[found.labels == label].float() / 255


def pictures(name, model, targets, calls):
    """(one picture (N,3,H,W) of a row for each (class, seed), or none, seconds of them all)."""
    if len(targets) == 1 and name in LOSSES:
        return LOSSES[name](model, *targets[0][:1], calls, targets[0][1])
    clock = many.Clock(model.device)
    if name == REAL:
        images = torch.cat([real(label)[:1] for label, _ in targets])
    elif name in OURS:
        images = ours(name, model, targets, calls)
    elif name in ALIKE:
        images = ALIKE[name](model, targets, calls)
    else:
        images = torch.cat([PEERS[name](model, label, calls, seed) for label, seed in targets])
    return images, clock.seconds()


def looked_at(images, labels, jury):
    """What the judges read from pictures (B,3,H,W), a record each: probability and rank of the class, and blurred."""
    if len(images) > JUDGED:
        return [row for part in range(0, len(images), JUDGED)
                for row in looked_at(images[part : part + JUDGED], labels[part : part + JUDGED], jury)]  # fmt: skip
    shown, each = images.cpu(), range(len(images))
    rows = [{"slope": float(slope)} for slope in spectrum_slopes(shown)]
    wanted = torch.tensor(labels, device=images.device)[:, None]
    with torch.no_grad():
        found = {
            name + blurred: ranked(judge.outputs(fitted(seen, judge)).softmax(1), wanted)
            for blurred, seen in (("", images), ("-blurred", mean_blur(images)))
            for name, judge in jury.items()
        }
    borders, contrasts = border_shares(images, wanted, jury["lite2"]), pixel_std(shown)
    for k in each:
        rows[k]["contrast"] = float(contrasts[k])
        means, spreads = shown[k].mean((1, 2)).tolist(), shown[k].std((1, 2)).tolist()
        rows[k]["colour"] = [round(v, 4) for v in (*means, *spreads)]
        rows[k] |= {name: value[k] for name, value in found.items()}
        rows[k]["border"] = round(borders[k], 4)
    return rows


def fitted(images, judge):
    """The pictures at the size of a judge."""
    return F.interpolate(images, (judge.spec.height, judge.spec.width), mode="bicubic", antialias=True).clamp(0, 1)


def ranked(p, wanted):
    """[probability, rank] of each picture's class (B,1), of the probabilities (B,K)."""
    own = p.gather(1, wanted)
    ranks = 1 + (p > own).sum(1)
    return [[round(value, 5), rank] for value, rank in zip(own[:, 0].tolist(), ranks.tolist(), strict=True)]


def border_shares(images, wanted, judge) -> list[float]:
    """Share of the evidence for the classes (B,1), by a judge, in the outer tenth of pictures (B,3,H,W)."""
    high, wide = judge.spec.height, judge.spec.width
    seen = fitted(images, judge).requires_grad_()
    (gradient,) = torch.autograd.grad(judge.outputs(seen).gather(1, wanted).sum(), seen)
    mean = seen.new_tensor(judge.spec.mean).view(1, 3, 1, 1)
    evidence = mean_blur(((seen.detach() - mean) * gradient).abs().sum(1, keepdim=True), 2 * (high // 40) + 1)
    down, across = round(FRAME * high), round(FRAME * wide)
    inside = evidence[..., down : high - down, across : wide - across].sum((1, 2, 3))
    return (1 - inside / evidence.sum((1, 2, 3)).clamp_min(1e-30)).tolist()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [*OURS, *PEERS, *LOSSES, REAL]
    parser.add_argument("--rows", nargs="+", default=known, choices=known)
    parser.add_argument("--calls", type=int, nargs="+", default=[192], help="model calls a picture")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--classes", type=int, default=len(CLASSES), help="the first so many, evenly spaced, of the 40")
    parser.add_argument("--labels", type=int, nargs="+", help="these classes instead, to try a row on")
    parser.add_argument("--out", type=Path, default=Path("runs/imagenet"), help="folder of the pictures")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing after so many")
    parser.add_argument("--sheet", type=Path, help="a JPEG of ten classes of each row, seed 0, and stop")
    parser.add_argument("--table", action="store_true", help="print the table and stop")
    options = parser.parse_args()
    if options.sheet:
        sheet(options.out, options.rows, options.calls[0]).save(options.sheet, quality=80)
        return
    done = [json.loads(line) for line in options.results.read_text().splitlines()] if options.results.exists() else []
    if not options.table:
        draw(options, done)
    print(table(done))


def draw(options, done) -> None:
    ends = time.monotonic() + 60 * options.minutes
    many.prepared(options.device)
    warnings.simplefilter("ignore")
    options.out.mkdir(parents=True, exist_ok=True)
    model = bothways.load_model(MODEL, device=options.device)
    jury = {name: bothways.load_model(address, device=options.device) for name, address in JUDGES.items()}
    key, device = many.Clock(options.device).key, many.named(options.device)
    for name, calls, targets in todo(options, done, device):
        if time.monotonic() > ends:
            return
        images, seconds = pictures(name, model, targets, calls)
        if not len(images):
            continue
        looks = looked_at(images.to(options.device), [label for label, _ in targets], jury)
        for (label, seed), image, look in zip(targets, images.cpu(), looks, strict=True):
            row = {"row": name, "calls": calls, "seed": seed, "class": label}
            row |= {} if device == "cpu" else {"device": device, "at_once": len(targets)}
            row |= {key: round(seconds / len(targets), 3)} | look
            (options.out / f"{name}-{calls}-{seed}-{label}.png").write_bytes(to_png(image))
            done.append(row)
            with options.results.open("a") as file:
                file.write(json.dumps(row) + "\n")


def todo(options, done, device):
    """(row, calls, (class, seed) of pictures that are drawn at once): on the CPU one, rivals interleaved with ours."""
    kept = {(row.get("device", "cpu"), row["row"], row["calls"], row["seed"], row["class"]) for row in done}
    stride = len(CLASSES) / options.classes
    classes = options.labels or [CLASSES[int(k * stride)] for k in range(options.classes)]
    rows = [(name, calls) for name in options.rows for calls in (options.calls if name != REAL else [0])]
    targets = [(label, seed) for seed in options.seeds for label in classes]
    left = [
        (name, calls, target)
        for target in targets
        for name, calls in rows
        if (device, name, calls, target[1], target[0]) not in kept and not (name == REAL and target[1])
    ]
    if device == "cpu":
        return [(name, calls, [target]) for name, calls, target in left]
    return [
        (name, calls, list(part))
        for name, calls in rows
        for part in many.parts([t for n, c, t in left if (n, c) == (name, calls) and (n != REAL or len(real(t[0])))],
                               1 if name.startswith("horama") else many.CLASSES_AT_ONCE)
    ]  # fmt: skip


def sheet(folder, names, calls, side=112, gap=2):
    """The classes 12 + 100 k of each row, drawn before, none chosen."""
    classes = CLASSES[::4]
    whole = Image.new("RGB", (len(classes) * (side + gap) - gap, len(names) * (side + gap) - gap), "white")
    for row, name in enumerate(names):
        for column, label in enumerate(classes):
            if (file := folder / f"{name}-{calls}-0-{label}.png").is_file():  # a row may be of fewer classes
                drawn = Image.open(file).convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
                whole.paste(drawn, (column * (side + gap), row * (side + gap)))
    return whole


def table(done) -> str:
    """Rows by calls: share ranked first and among five with Wilson intervals, mean probability, spectrum, seconds."""
    of = {(row["row"], row["calls"]): set() for row in done}
    for row in done:
        of[row["row"], row["calls"]].add(row["seed"])
    lines = [
        *([f"*{seeds_told([len(seeds) for seeds in of.values()])}*", ""] if of else []),
        "| row | calls | pictures | " + " | ".join(f"{j}: first, in five, p" for j in JUDGES)
        + " | blurred, lite2 in five | border | slope | contrast | device | s (median) |",
        "|---|" + "---|" * (len(JUDGES) + 8),
    ]  # fmt: skip
    for key in dict.fromkeys((row["row"], row["calls"], row.get("device", "cpu")) for row in done):
        rows = [row for row in done if (row["row"], row["calls"], row.get("device", "cpu")) == key]
        cells = [", ".join((share(rows, j, 1), share(rows, j, 5), f"{mean(rows, j):.2f}")) for j in JUDGES]
        spreads = [spread([row[key] for row in rows if key in row]) for key in ("border", "slope", "contrast")]
        seconds = statistics.median(row.get("gpu_seconds", row.get("cpu_seconds")) for row in rows)
        cells = [*map(str, (*key[:2], len(rows))), *cells, share(rows, "lite2-blurred", 5), *spreads]
        cells += [key[2], f"{seconds:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def spread(values) -> str:
    """Mean and deviation; a line that was written before a value was measured has none."""
    return f"{statistics.mean(values):.2f} ± {statistics.pstdev(values):.2f}" if values else "-"


def share(rows, judge, rank) -> str:
    hits = sum(row[judge][1] <= rank for row in rows)
    low, high = wilson_interval(hits, len(rows))
    return f"{hits / len(rows):.2f} ({low:.2f}–{high:.2f})"


def mean(rows, judge) -> float:
    return sum(row[judge][0] for row in rows) / len(rows)


if __name__ == "__main__":
    main()
