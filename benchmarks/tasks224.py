"""The tasks on a photo at 224 px by EfficientNet-Lite0: a line a picture, so that a run that was stopped goes on.

    python benchmarks/tasks224.py inpaint --data PHOTOGRAPHS [--n 100]
    python benchmarks/tasks224.py style --data PHOTOGRAPHS
    python benchmarks/tasks224.py edit --data PHOTOGRAPHS --n 8        (and accentuate, invert)
    python benchmarks/tasks224.py tables

PHOTOGRAPHS: 500 of ImageNet, one of every second class, with labels. Every fifth is kept for these measures: what a
fill learns is of the others, and nothing was tuned on the photographs of a task's table (two of those with a hole
served to tune `edit` and `accentuate`). With ``--device cuda`` edit, accentuate and invert draw many
at once, each with the draws of its number, and a line names the GPU. The mean magnitudes and colours of the canvas
`photographs`, and for `invert` the statistics kept with the network, are of all 500. Lite1 and Lite2, of the family,
and SqueezeNet, of another, gave no gradient.
`tables` prints what stands in docs/tasks.md and docs/inpainting.md.
"""

import argparse
import json
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

import bothways
import many
from bothways.models.loader import load_model
from bothways.numerics.draws import Draws, picture_seed
from bothways.numerics.fill import Smoothness, harmonic_fill, tension_fill
from bothways.numerics.intervals import mean_interval, seeds_told, wilson_interval
from bothways.runs import to_png
from bothways.synthesis.ascent import Ascent, ascend
from bothways.synthesis.config import AscentConfig
from bothways.synthesis.das import toward
from bothways.synthesis.fields import Combined
from bothways.synthesis.inpainting import Smoothed, predict_statistics
from bothways.synthesis.objectives.certainty import certainty
from bothways.synthesis.objectives.likeness import style, style_statistics
from bothways.synthesis.parameterizations.masked import Masked
from bothways.synthesis.parameterizations.pixels import Pixels
from bothways.synthesis.resized import Resized
from bothways.tasks.recipes import read_recipe

SIZE, HOLE = 224, 64
PLACE = slice((SIZE - HOLE) // 2, (SIZE + HOLE) // 2)  # in the middle, where the subject mostly is
LEARNED = 300  # photographs that the prediction of statistics is learned from
NETWORK, SQUEEZENET = "imagenet:efficientnet-lite0", "examples/squeezenet.py:build"
JUDGES = {"lite2": "imagenet:efficientnet-lite2", "lite1": "imagenet:efficientnet-lite1"}
RESULTS = Path(__file__).parent / "results" / "tasks224.jsonl"
PAIRS = ((0, 160), (80, 470), (120, 285), (270, 55), (385, 480), (215, 400))  # photo, style: numbers in the data
TARGETS = (292, 88, 417, 340, 949, 985, 22, 555)  # what eight of the photographs are edited towards
AT_ONCE = 50  # photographs on a GPU
TASKS = ("inpaint", "style", "edit", "accentuate", "invert")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=[*TASKS, "tables"])
    parser.add_argument("--data", type=Path, help="the 500 photographs")
    parser.add_argument("--n", type=int, default=100, help="photographs, of those kept")
    parser.add_argument("--out", type=Path, default=Path("runs/tasks224"), help="folder of the pictures")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the file of lines")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing after so many")
    options = parser.parse_args()
    if options.task == "tables":
        return tables(lines(options.results))
    options.out.mkdir(parents=True, exist_ok=True)
    many.prepared(options.device)
    photos = bothways.load_images(options.data, size=(SIZE, SIZE))
    device = many.named(options.device)
    done = {(line["task"], line["number"]) for line in lines(options.results) if line.get("device", "cpu") == device}
    for line in {"inpaint": inpaint, "style": styles}.get(options.task, towards)(options, photos, done):
        with options.results.open("a", encoding="utf-8") as file:
            where = {} if device == "cpu" else {"device": device}
            file.write(json.dumps({"task": options.task, **where, **line}) + "\n")
        print(json.dumps(line), flush=True)


def lines(file: Path) -> list[dict]:
    return [json.loads(text) for text in file.read_text("utf-8").splitlines()] if file.is_file() else []


@cache
def judge(name: str, device: str = "cpu"):
    return Resized(load_model(JUDGES.get(name, name), device=device))


def kept(photos, n: int) -> list[int]:
    """Numbers of every fifth photograph, n of them, spread over the classes."""
    every = list(range(0, len(photos), 5))
    return [every[k * len(every) // n] for k in range(n)]


def inpaint(options, photos, done) -> Iterator[dict]:
    """A line a photograph: PSNR in the hole, and whether it is still called by its label."""
    mask = torch.zeros(1, 1, SIZE, SIZE)
    mask[..., PLACE, PLACE] = 1
    model, recipe = load_model(NETWORK), read_recipe("inpaint")
    prediction = learned(model, photos, mask, options.out / "prediction.pt")
    settings = AscentConfig(**{**recipe["ascent"], "rms": recipe["ascent"]["rms"] * HOLE / SIZE})
    for number in kept(photos, options.n):
        if ("inpaint", number) in done:
            continue
        photo, label = photos.images[number][None].float() / 255, int(photos.labels[number])
        start, began = tension_fill(photo, mask), time.process_time()
        parts = [
            (recipe["terms"]["prediction"]["weight"], prediction.term(model, start)),
            (recipe["terms"]["certainty"]["weight"], certainty(model)),
        ]
        draws = Draws([number])
        field = Combined([(weight, toward(term, draws, normalize=True)) for weight, term in parts])
        ascent = Ascent(Masked(Pixels(start), photo, mask), settings)
        for frame in ascend(Smoothed(field, Smoothness(mask)), ascent, draws):
            drawn = frame.image
        seconds = time.process_time() - began
        rows = {
            "photograph": photo,
            "grey": torch.where(mask.bool(), 0.5, photo),
            "harmonic": harmonic_fill(photo, mask),
            "tension": start,
            "inpaint": drawn,
        }
        (options.out / f"inpaint-{number}.png").write_bytes(to_png(torch.cat(list(rows.values()), 3)[0]))
        yield {
            "number": number,
            "label": label,
            "seconds": round(seconds, 2),
            **{name: verdict(image, photo, mask, label) for name, image in rows.items()},
        }


def learned(model, photos, mask, file: Path):
    """The prediction of channel statistics, from photographs that are not measured; kept in a file."""
    if file.is_file():
        return torch.load(file, weights_only=False)  # one's own file, of a run before
    others = [number for number in range(len(photos)) if number % 5]
    held = set(others[::4])
    chosen = [number for number in others if number not in held][:LEARNED]
    images = photos.images[chosen].float() / 255
    found = predict_statistics(model, images, tension_fill(images, mask), model.statistics_layers())
    torch.save(found, file)
    return found


@torch.no_grad()
def verdict(image, photo, mask, label: int) -> dict:
    error = float(((image - photo).double().square() * mask).sum() / (3 * mask.sum()))
    found: dict = {"psnr": None if error == 0 else round(-10 * np.log10(error), 3)}
    for name in JUDGES:
        logits = judge(name).outputs(image)
        loss = float(F.cross_entropy(logits, torch.tensor([label])))
        found[name] = [int(logits.argmax(1)) == label, round(loss, 4)]
    return found


def styles(options, photos, done) -> Iterator[dict]:
    """A line a pair: distances of styles before, by colours alone, and after."""
    drawing, other = load_model(NETWORK), load_model(SQUEEZENET)
    for number, (first, second) in enumerate(PAIRS):
        if ("style", number) in done:
            continue
        photo, wanted = (photos.images[k][None].float() / 255 for k in (first, second))
        began = time.process_time()
        drawn = bothways.style(drawing, photo, wanted, n=1, **{"judging.verdicts": False}).images
        seconds = time.process_time() - began
        rows = {"photo": photo, "colours": with_colours(photo, wanted), "style": drawn}
        shown = torch.cat([photo, wanted, rows["colours"], drawn], 3)[0]
        (options.out / f"style-{number}.png").write_bytes(to_png(shown))
        yield {
            "number": number,
            "pair": [first, second],
            "seconds": round(seconds, 1),
            **{name: distances(image, wanted, drawing, other) for name, image in rows.items()},
            "wanted": {"fine": fine(wanted)},
        }


def with_colours(photo, wanted):
    """The photo with the mean and the covariance of the colours of another picture, (1,3,H,W)."""
    own, others = photo[0].flatten(1).double(), wanted[0].flatten(1).double()

    def power(colours, exponent: float):
        values, axes = torch.linalg.eigh(torch.cov(colours) + 1e-6 * torch.eye(3))
        return axes @ torch.diag(values**exponent) @ axes.T

    moved = power(others, 0.5) @ power(own, -0.5) @ (own - own.mean(1, keepdim=True)) + others.mean(1, keepdim=True)
    return moved.view_as(photo).clamp(0, 1).float()


def distances(image, wanted, drawing, other) -> dict:
    found = {"fine": fine(image)}
    for name, model in (("own", drawing), ("squeezenet", other)):
        for form in ("moments", "gram"):
            targets = style_statistics(model, wanted, tuple(model.statistics_layers()), form)
            with torch.no_grad():
                found[f"{name} {form}"] = round(-float(style(model, targets, form)(image)), 4)
    return found


def fine(image) -> float:
    """Decibels of the mean power of grey waves of 16 to 112 cycles a side."""
    grey = image[0].mean(0)
    power = torch.fft.fft2(grey - grey.mean(), norm="ortho").abs().square()
    cycles = torch.fft.fftfreq(SIZE) * SIZE
    radius = torch.hypot(cycles[:, None], cycles[None])
    return round(10 * float(power[(radius >= 16) & (radius < 112)].mean().log10()), 2)


def towards(options, photos, done) -> Iterator[dict]:
    """A line a photo of edit, accentuate and invert: probability and rank of the class before and after."""
    task, ends = options.task, time.monotonic() + 60 * options.minutes
    model = load_model(NETWORK, device=options.device)
    numbers = kept(photos, options.n)
    aims = {number: int(photos.labels[number]) for number in numbers}
    if task == "edit":
        aims = {number: TARGETS[k % len(TARGETS)] for k, number in enumerate(numbers)}
    left = [number for number in numbers if (task, number) not in done]
    for part in many.parts(left, AT_ONCE if options.device != "cpu" else 1):
        if time.monotonic() > ends:
            return
        photo, wanted = photos.images[list(part)].float() / 255, [aims[number] for number in part]
        clock = many.Clock(options.device)
        target = (wanted[:1],) if task in ("edit", "accentuate") else ()  # each has its own below
        work = many.planned(task, model, photo, *target, n=1)
        seeds = [picture_seed(number, 0) for number in part]
        drawn = many.drawn(work, range(len(part)), seeds, wanted if target else None)
        seconds = clock.seconds() / len(part)
        before, after = (ranks(images.to(options.device), wanted) for images in (photo, drawn))
        for k, number in enumerate(part):
            image = drawn[k].cpu()
            (options.out / f"{task}-{number}.png").write_bytes(to_png(torch.cat([photo[k], image], 2)))
            yield {
                "number": number,
                "class": wanted[k],
                "seconds": round(seconds, 2),
                "psnr": round(-10 * np.log10(float((image - photo[k]).square().mean())), 2),
                "before": before[k],
                "after": after[k],
            }


@torch.no_grad()
def ranks(images, labels: list[int]) -> list[dict]:
    """{judge: [rank of the class, its probability]} of each picture."""
    found: list[dict] = [{} for _ in labels]
    for name in (*JUDGES, SQUEEZENET):
        chances = judge(name, str(images.device)).outputs(images).softmax(1)
        own = chances.gather(1, torch.tensor(labels, device=images.device)[:, None])
        for record, rank, chance in zip(found, (chances > own).sum(1).tolist(), own[:, 0].tolist(), strict=True):
            record[name] = [1 + rank, round(chance, 4)]
    return found


def tables(found: list[dict]) -> None:
    """Print the tables of the docs."""
    for task, device in dict.fromkeys((task, line.get("device", "cpu")) for task in TASKS for line in found):
        own = [line for line in found if line["task"] == task and line.get("device", "cpu") == device]
        if own:
            seconds = np.median([line["seconds"] for line in own])
            print(f"\n{task}, {len(own)} pictures, {device}, {seeds_told([1])}, {seconds:.1f} s (median)")
            {"inpaint": table_of_fills, "style": table_of_styles}.get(task, table_of_ranks)(own)


def heading(*names: str) -> None:
    print(f"| {' | '.join(names)} |\n|{'---|' * len(names)}")


def table_of_fills(found: list[dict]) -> None:
    heading("row", "PSNR, dB", "gain over harmonic", "lite2", "lite1", "accuracy gain", "loss gain")
    for row in ("photograph", "grey", "harmonic", "tension", "inpaint"):
        near = [line[row]["psnr"] for line in found]
        cells = ["", ""]
        if row != "photograph":
            gained = np.array(near) - [line["harmonic"]["psnr"] for line in found]
            cells = [interval(near, ".2f"), interval(gained, "+.2f")]
        for name in JUDGES:
            right = sum(line[row][name][0] for line in found)
            low, high = wilson_interval(right, len(found))
            cells.append(f"{right / len(found):.2f} ({low:.2f} to {high:.2f})")
        for part in (0, 1):
            apart = [np.mean([float(line[row][j][part]) - line["harmonic"][j][part] for j in JUDGES]) for line in found]
            cells.append(interval(apart, "+.3f"))
        print(f"| `{row}` | {' | '.join(cells)} |")


def interval(values, form: str) -> str:
    found = mean_interval(np.asarray(values, float))
    return f"{found.value:{form}} ({found.low:{form}} to {found.high:{form}})"


def table_of_styles(found: list[dict]) -> None:
    keys = ("squeezenet moments", "squeezenet gram", "own moments", "own gram", "fine")
    heading("row", *keys)
    for line in found:
        for row in ("photo", "colours", "style"):
            print(f"| {line['number']} {row} | {' | '.join(f'{line[row][key]:.2f}' for key in keys)} |")
        print(f"| {line['number']} wanted | | | | | {line['wanted']['fine']:.2f} |")


def table_of_ranks(found: list[dict]) -> None:
    heading("judge", "first before", "after", "among five before", "after", "probability before", "after")
    for name in (*JUDGES, SQUEEZENET):
        cells = []
        for most in (1, 5):
            for when in ("before", "after"):
                right = sum(line[when][name][0] <= most for line in found)
                low, high = wilson_interval(right, len(found))
                cells.append(f"{right} ({low:.2f} to {high:.2f})")
        cells += [f"{np.mean([line[when][name][1] for line in found]):.2f}" for when in ("before", "after")]
        print(f"| {name} | {' | '.join(cells)} |")
    print(f"PSNR {np.mean([line['psnr'] for line in found]):.1f} dB")


if __name__ == "__main__":
    main()
