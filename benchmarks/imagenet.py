"""Which way of drawing a class from a real network do other networks recognise?  224 px, beside rivals, in one run.

    python benchmarks/imagenet.py [--rows photographs lucent ...] [--calls 192] [--seeds 0] [--classes 40 | --labels 24]
    python benchmarks/imagenet.py --table          the table of what the results file holds so far
    python benchmarks/imagenet.py --sheet FILE --rows photographs lucent horama-fourier     pictures drawn: a line a row

EfficientNet-Lite0 draws; the judges gave no gradient: Lite1 and Lite2 of its family, SqueezeNet 1.1 and MobileNetV2 of
others (examples/). The 40 classes, 12 + 25 k, were fixed before any was drawn, and no setting was chosen on them: 24 +
50 k were used for that. ``photographs`` is a row of real ones, of those of the classes that there are.
A picture is a line of results/imagenet.jsonl, so a stopped run goes on where it was; CPU seconds are of one process
with one thread, loading left out. Rivals are listed in peers/drawing.py with the environment that starts them, and
losses of papers without one in peers/losses.py.

``border``: the share of the evidence for the class in the outer tenth of the picture, whose area is .36 of all; the
evidence is the sum over colours of |(x - mean) dz/dx|, of Lite2's logit z, blurred.
"""

import argparse
import json
import statistics
import time
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image

import bothways
from bothways.data.sources import load_images
from bothways.judging.verdicts import mean_blur
from bothways.numerics.intervals import wilson_interval
from bothways.numerics.measures import pixel_std, spectrum_slopes
from bothways.runs import to_png
from peers.drawing import PEERS
from peers.losses import PHOTOGRAPHS, deep_inversion, vital

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
# name: (recipe, copies a step, what differs from the recipe)
OURS = {
    "photographs": ("photographs", 2, {}),
    "photographs-log-probability": ("photographs", 2, {"terms.class.weight": 1.0, "terms.head-row.weight": 0.0}),
    "maco": ("maco", 4, {"canvas.spectrum": "bundled:photographs"}),
    "das": ("das", 4, {}),
    "das-paper": ("das-paper", 16, {}),
    "pixels": ("pixels", 1, {}),
}
LOSSES = {"deep-inversion": deep_inversion, "vital": vital}
REAL = "photographs of the class"
FRAME = 0.1  # of a side


def ours(name, model, label, calls, seed):
    recipe, copies, changes = OURS[name]
    steps = max(1, calls // copies)
    drawn = bothways.generate(
        model, [label], n=1, recipe=recipe, seed=seed, judges=[], **{"ascent.steps": steps} | changes
    )
    return drawn.images


def real(label):
    """The photographs of a class, (N,3,256,256) in [0,1]; none for the odd classes of the samples."""
    found = load_images(PHOTOGRAPHS)
    return found.images[found.labels == label].float() / 255


def picture(name, model, label, calls, seed):
    """(the picture (1,3,H,W) of a row, or none, CPU seconds)."""
    began = time.process_time()
    if name in LOSSES:
        return LOSSES[name](model, label, calls, seed)
    if name == REAL:
        images = real(label)[:1]
    else:
        images = ours(name, model, label, calls, seed) if name in OURS else PEERS[name](model, label, calls, seed)
    return images, time.process_time() - began


def looked_at(images, label, jury):
    """What the judges read from one picture (1,3,H,W): probability and rank of the class, as drawn and after a blur."""
    row = {"slope": float(spectrum_slopes(images)[0]), "contrast": float(pixel_std(images)[0])}
    row["colour"] = [round(v, 4) for v in (*images.mean((0, 2, 3)).tolist(), *images.std((0, 2, 3)).tolist())]
    for blurred, seen in (("", images), ("-blurred", mean_blur(images))):
        for name, judge in jury.items():
            size = (judge.spec.height, judge.spec.width)
            fitted = F.interpolate(seen, size, mode="bicubic", antialias=True).clamp(0, 1)
            p = judge.outputs(fitted).detach().softmax(1)[0]
            row[name + blurred] = [round(float(p[label]), 5), 1 + int((p > p[label]).sum())]
    row["border"] = round(border_share(images, label, jury["lite2"]), 4)
    return row


def border_share(images, label, judge) -> float:
    """Share of the evidence for a class, by a judge, in the outer tenth of one picture (1,3,H,W)."""
    high, wide = judge.spec.height, judge.spec.width
    seen = F.interpolate(images, (high, wide), mode="bicubic", antialias=True).clamp(0, 1).requires_grad_()
    (gradient,) = torch.autograd.grad(judge.outputs(seen)[0, label], seen)
    mean = seen.new_tensor(judge.spec.mean).view(1, 3, 1, 1)
    evidence = mean_blur(((seen.detach() - mean) * gradient).abs().sum(1, keepdim=True), 2 * (high // 40) + 1)
    down, across = round(FRAME * high), round(FRAME * wide)
    inside = evidence[..., down : high - down, across : wide - across].sum()
    return float(1 - inside / evidence.sum().clamp_min(1e-30))


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
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    options.out.mkdir(parents=True, exist_ok=True)
    model = bothways.load_model(MODEL)
    jury = {name: bothways.load_model(address) for name, address in JUDGES.items()}
    kept = {(row["row"], row["calls"], row["seed"], row["class"]) for row in done}
    stride = len(CLASSES) / options.classes
    classes = options.labels or [CLASSES[int(k * stride)] for k in range(options.classes)]
    for seed in options.seeds:
        for label in classes:  # rivals are interleaved with ours
            for name in options.rows:
                for calls in options.calls if name != REAL else [0]:
                    if (name, calls, seed, label) in kept or (name == REAL and seed):
                        continue
                    images, seconds = picture(name, model, label, calls, seed)
                    if not len(images):
                        continue
                    row = {"row": name, "calls": calls, "seed": seed, "class": label, "cpu_seconds": round(seconds, 2)}
                    row |= looked_at(images, label, jury)
                    (options.out / f"{name}-{calls}-{seed}-{label}.png").write_bytes(to_png(images[0]))
                    done.append(row)
                    with options.results.open("a") as file:
                        file.write(json.dumps(row) + "\n")


def sheet(folder, names, calls, side=112, gap=2):
    """The classes 12 + 100 k of each row, drawn before, none chosen."""
    classes = CLASSES[::4]
    whole = Image.new("RGB", (len(classes) * (side + gap) - gap, len(names) * (side + gap) - gap), "white")
    for row, name in enumerate(names):
        for column, label in enumerate(classes):
            drawn = Image.open(folder / f"{name}-{calls}-0-{label}.png").convert("RGB")
            whole.paste(
                drawn.resize((side, side), Image.Resampling.LANCZOS), (column * (side + gap), row * (side + gap))
            )
    return whole


def table(done) -> str:
    """Rows by calls: share ranked first and among five with Wilson intervals, mean probability, spectrum, seconds."""
    lines = [
        "| row | calls | pictures | " + " | ".join(f"{j}: first, in five, p" for j in JUDGES)
        + " | blurred, lite2 in five | border | slope | CPU s (median) |",
        "|---|" + "---|" * (len(JUDGES) + 6),
    ]  # fmt: skip
    for key in dict.fromkeys((row["row"], row["calls"]) for row in done):
        rows = [row for row in done if (row["row"], row["calls"]) == key]
        cells = [", ".join((share(rows, j, 1), share(rows, j, 5), f"{mean(rows, j):.2f}")) for j in JUDGES]
        spreads = [spread([row[key] for row in rows if key in row]) for key in ("border", "slope")]
        seconds = statistics.median(row["cpu_seconds"] for row in rows)
        cells = [*map(str, (*key, len(rows))), *cells, share(rows, "lite2-blurred", 5), *spreads, f"{seconds:.1f}"]
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
