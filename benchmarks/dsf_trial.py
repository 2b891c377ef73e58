"""The score function's trial: every reading of its paper beside its control, as a direction and by what it draws.

    python benchmarks/dsf_trial.py direction MODEL --data PICTURES [--weights FILE] [--n 60] [--only ...]
    python benchmarks/dsf_trial.py distance  MODEL --data PICTURES [--n 60]
    python benchmarks/dsf_trial.py step      MODEL --data PICTURES [--n 60]
    python benchmarks/dsf_trial.py draw      MODEL [--weights FILE] [--steps 1000] [--n 10] [--short --dtype bf16]
                                             [--device cuda] [--minutes 9] [--claims FOLDER]
    python benchmarks/dsf_trial.py sheet     MODEL [--out ...]

``direction``: the cosine of each score with (clean - noisy), with Student's 95 % interval over the pictures, at white
noise of .1 and .3 and at low-frequency noise (8 x 8 values, enlarged; .1). Controls: a random direction, a random
lambda of the same length, and shrinking to grey. ``distance``: AUROC of ||grad_theta l_aug||, 0.5 is chance. ``step``:
cos(-theta, the sum of loss gradients), from eq. 9 to eq. 10, as ``bothways scorecard`` prints it. ``draw``:
the paper's weights (10, and 20 for the sum of total variation), one norm of the batch, noise, Adam at rate .01; every
row and its controls take the same number of steps: a random direction of the score's length, a random lambda, no score.
The judges' kernel distance to real pictures has its interval. Nothing was tuned on it.

A finished row is a line of ``benchmarks/results/dsf_trial.jsonl``, and is not computed again; one of a GPU names it,
and has its seconds. Several processes share the rows by ``--claims``. Pictures go to --out.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import bothways
from bothways.data.corruptions import corrupt
from bothways.data.splits import evaluation_split
from bothways.judging.judges import find_jury
from bothways.judging.references import find_references
from bothways.judging.verdicts import judge
from bothways.models.adapter import Adapter
from bothways.numerics.association import auroc
from bothways.numerics.draws import Draws, picture_seed
from bothways.numerics.intervals import mean_interval
from bothways.runs import to_png
from bothways.synthesis.ascent import ascend
from bothways.synthesis.dsf.score import dsf_score
from bothways.synthesis.dsf.substitutes import Substitutes
from bothways.synthesis.dsf.surrogates import global_norm
from bothways.synthesis.fields import unit
from bothways.synthesis.objectives.base import as_objective
from bothways.synthesis.objectives.variation import TotalVariation, total_variation
from bothways.tasks.scorecard.run import RealPictures
from bothways.tasks.scorecard.stationarity import AUGMENTED, loss_gradient, step_rows
from bothways.tasks.shelf import work_of

LINE = 14  # pixels of a name on the sheet
RESULTS = Path(__file__).resolve().parent / "results" / "dsf_trial.jsonl"
MANY = {"augmentation": ["crop+colour+flip"], "copies": 8}
READINGS: dict[str, dict[str, Any]] = {
    "score, all live": {},
    "lambda held": {"residual": "held"},
    "random lambda (control)": {"residual": "random"},
    "target detached": {"target": "detached"},
    "theta live on x (eq. 12)": {"live": "original"},
    "inner product": {"distance": "inner"},
    "L2 distance": {"distance": "l2"},
    "angle": {"distance": "angle"},
    "a norm a layer": {"distance": "layers"},
    "one norm of the batch": {"per": "batch"},
    "BatchNorm in train mode": {"per": "batch", "batch_norm": "train"},
    "BatchNorm in train mode, lambda held": {"per": "batch", "batch_norm": "train", "residual": "held"},
    "softplus": {"relu": "softplus"},
    "softplus, lambda held": {"relu": "softplus", "residual": "held"},
    "g clipped at 1e-5": {"gradient_clip": 1e-5},
    "the head alone": {"last": 1},
    "the last six modules": {"last": 6},
    "8 crops and colours": MANY,
    "8 crops and colours, lambda held": MANY | {"residual": "held"},
    "8 crops and colours, random lambda (control)": MANY | {"residual": "random"},
    "KL, lambda held": {"surrogate": "kl", "residual": "held"},
    "features": {"surrogate": "features"},
    "by differences": {"engine": "difference"},
    "by differences, lambda held": {"engine": "difference", "residual": "held"},
    "by differences, random lambda (control)": {"engine": "difference", "residual": "random"},
    "warp, lambda held": {"augmentation": "warp", "residual": "held"},
    "warp, random lambda (control)": {"augmentation": "warp", "residual": "random"},
    "cutout, lambda held": {"augmentation": "cutout", "residual": "held"},
    "cutout, random lambda (control)": {"augmentation": "cutout", "residual": "random"},
    "BatchNorm in train mode, random lambda (control)": {"per": "batch", "batch_norm": "train", "residual": "random"},
    "softplus, random lambda (control)": {"relu": "softplus", "residual": "random"},
}
ADAM = {"ascent.optimizer": "adam", "ascent.rate": 0.01, "ascent.clip": None, "terms.dsf.residual": "live"}
NO_SCORE = {"terms.dsf.weight": 0.0}
SHORT = {"ascent.rate": 0.05, "ascent.schedule": "linear", "ascent.final": 0.025}
SIGN = {"ascent.rate": 1.0, "ascent.clip": 2 / 255, "ascent.clip_by": "sign"}


def terms(**options: Any) -> dict[str, Any]:
    """Adam, with options of the score."""
    return ADAM | {f"terms.dsf.{name}": value for name, value in options.items()}


SOFT, SMOOTH = {"canvas.start": "grey", "canvas.start_noise": 0.05}, {"canvas.start": "low-noise"}
MOMENTUM = {"ascent.optimizer": "momentum", "ascent.rate": None, "ascent.rms": 0.01, "ascent.clip": None}
CLASS = {"condition": "bundled:cifar10-attention"}
FEW = {"augmentation": ["crop+colour+flip"], "copies": 2, "residual": "held"}
LAMBDA, DIRECTION = "random lambda (control)", "random direction (control)"
SCORED: dict[str, dict[str, Any]] = {
    "lambda held": terms(residual="held"),
    "BatchNorm in train mode": terms(batch_norm="train"),
    "2 crops and colours, lambda held": terms(**FEW),
    "8 crops and colours": terms(**MANY),
    "8 crops and colours, lambda held": terms(**MANY, residual="held"),
    "sign descent of 2/255": SIGN | {"terms.dsf.residual": "live"},
    "fixed noise of .02": ADAM | {"ascent.fixed_noise": 0.02},
    "a norm a layer": terms(distance="layers"),
    "softplus": terms(relu="softplus"),
    "g clipped at 1e-5": terms(gradient_clip=1e-5),
    "inner product": terms(distance="inner"),
    "the head alone": terms(last=1),
    "the last six modules": terms(last=6),
    "target detached": terms(target="detached"),
    "by differences": terms(engine="difference"),
    "ten times the weight": terms(weight=100.0),
    "a hundred times the weight": terms(weight=1000.0),
    "from grey and soft noise": ADAM | SOFT,
    "from smooth noise": ADAM | SMOOTH,
    "from smooth noise, ten times the weight": terms(weight=100.0) | SMOOTH,
    "momentum, steps of .01": MOMENTUM | {"terms.dsf.residual": "live"},
    "class of another network": ADAM | CLASS,
}
DRAWINGS: dict[str, dict[str, Any]] = {
    "the start": ADAM | NO_SCORE | {"passes": 0},
    "no score (control)": ADAM | NO_SCORE,
    "statistics-tv, as many passes": {"recipe": "statistics-tv", "passes": 2},
    "score, all live": ADAM,
    DIRECTION: terms(direction="random"),
    LAMBDA: terms(residual="random"),
    **SCORED,
    **{f"{name}, {LAMBDA}": settings | {"terms.dsf.residual": "random"} for name, settings in SCORED.items()},
    **{f"{name}, {DIRECTION}": settings | {"terms.dsf.direction": "random"} for name, settings in SCORED.items()},
    f"six times the weight, {DIRECTION}": terms(weight=60.0, direction="random"),  # as strong a static as by ten times
    "l_aug alone, train mode (control)": ADAM | {"l_aug": True},
    "sign descent of 2/255, no score (control)": SIGN | NO_SCORE,
    "fixed noise of .02, no score (control)": ADAM | NO_SCORE | {"ascent.fixed_noise": 0.02},
    "from grey and soft noise, no score (control)": ADAM | NO_SCORE | SOFT,
    "from smooth noise, the start": ADAM | NO_SCORE | SMOOTH | {"passes": 0},
    "from smooth noise, no score (control)": ADAM | NO_SCORE | SMOOTH,
    "momentum, steps of .01, no score (control)": MOMENTUM | NO_SCORE,
    "class of another network, no score (control)": ADAM | NO_SCORE | CLASS,
    "the paper's clip and step": {},
}


# ---- what was done before ------------------------------------------------------------------------------------------


class LateError(Exception):
    """The minutes are over; the row is left out."""


def done(key: dict[str, Any], results: Path) -> dict[str, Any] | None:
    """The line of a row, if it is there."""
    lines = results.read_text().splitlines() if results.is_file() else []
    optional = dict.fromkeys(("short", "dtype", "size", "device")) | key  # a line without them was made without them
    return next((line for line in map(json.loads, lines) if all(line.get(k) == v for k, v in optional.items())), None)


def keep(key: dict[str, Any], compute: Callable[[], dict[str, Any]], options: Any) -> None:
    """Compute a row and append its line, unless it is there, or claimed by another process; print it."""
    check_time(options)
    key |= ({"size": options.size} if options.size else {}) | named(options.device)
    line = done(key, options.results)
    if line is None:
        if not claimed(key, options.claims):
            return
        on_gpu, began, clock = "device" in key, time.perf_counter(), time.process_time()
        try:
            line = key | compute()
        except (bothways.UserError, bothways.RunError, torch.OutOfMemoryError) as error:
            if isinstance(error, bothways.UserError) and "memory" not in str(error):
                return written(key | {"absent": str(error)}, options.results)
            # of the machine, not of the row
            print(json.dumps(key | {"failed": str(error).splitlines()[0]}), flush=True)
            torch.cuda.empty_cache()
            return
        seconds = time.perf_counter() - began if on_gpu else time.process_time() - clock
        line["gpu_seconds" if on_gpu else "cpu_seconds"] = round(seconds, 1)
        return written(line, options.results)
    print(json.dumps(line), flush=True)


def written(line: dict[str, Any], results: Path) -> None:
    results.parent.mkdir(parents=True, exist_ok=True)
    with results.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(json.dumps(line), flush=True)


def claimed(key: dict[str, Any], claims: Path | None) -> bool:
    """Whether this process is the first to take a row."""
    if claims is None:
        return True
    claims.mkdir(parents=True, exist_ok=True)
    try:
        (claims / hashlib.sha256(json.dumps(key).encode()).hexdigest()).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def named(device: str) -> dict[str, str]:
    """What a line says of the device: nothing of a CPU."""
    return {"device": torch.cuda.get_device_name(device)} if device.startswith("cuda") else {}


def check_time(options: Any) -> None:
    if options.minutes is not None and time.monotonic() - options.began > 60 * options.minutes:
        raise LateError


def rounded(estimate: Any) -> list[float]:
    return [round(float(value), 4) for value in estimate]


# ---- direction and distance ----------------------------------------------------------------------------------------


def noises(images: Tensor, draws: Draws) -> dict[str, Tensor]:
    low = F.interpolate(draws.normal((3, 8, 8), purpose="low noise"), size=images.shape[-2:], mode="bicubic")
    low, white = low.to(images), draws.normal(images.shape[1:], purpose="noise").to(images)
    return {"0.1": 0.1 * white, "0.3": 0.3 * white, "low": 0.1 * low}


def directions(model: Adapter, images: Tensor, seeds: list[int], options: Any) -> None:
    def by_score(reading: dict[str, Any]) -> Callable[[Tensor, Draws], Tensor]:
        return lambda x, draws: dsf_score(model, x, draws=draws, **reading)[0]

    def smoothness(x: Tensor, draws: Draws) -> Tensor:
        seen = x.clone().requires_grad_()
        return torch.autograd.grad(total_variation()(seen).sum(), seen)[0]

    rows = {
        "random direction (control)": lambda x, draws: draws.normal(x.shape[1:], purpose="direction").to(x),
        "shrinking to grey (control)": lambda x, draws: 0.5 - x,
        "total variation": smoothness,
        **{name: by_score(reading) for name, reading in READINGS.items()},
    }
    for name in options.only or rows:
        key = {"part": "direction", "model": options.model, "row": name, "n": len(images), "seed": options.seed}
        keep(key, lambda direction=rows[name]: {"cosine": cosines(direction, images, seeds, options)}, options)


def cosines(direction: Callable[[Tensor, Draws], Tensor], images: Tensor, seeds: list[int], options: Any) -> Any:
    found: dict[str, list[Tensor]] = {}
    batch = 10  # which "one norm of the batch" and BatchNorm in train mode depend on
    for start in range(0, len(images), batch):
        check_time(options)
        part, draws = images[start : start + batch], Draws(seeds[start : start + batch])
        for name, noise in noises(part, draws).items():
            cosine = (unit(direction(part + noise, draws)) * unit(-noise)).sum((1, 2, 3))
            found.setdefault(name, []).append(cosine.double().cpu())
    return {name: rounded(mean_interval(torch.cat(values))) for name, values in found.items()}


def distances(model: Adapter, images: Tensor, seeds: list[int], options: Any) -> None:
    damage = {"noise 0.1": ("noise", 0.1), "noise 0.3": ("noise", 0.3), "noise 0.5": ("noise", 0.5)}
    damage |= {"blur 1.5": ("blur", 1.5), "grey": ("grey", 1.0), "shuffled": ("shuffled", 1.0)}

    def norms(seen: Tensor) -> Tensor:
        on = seen.to(model.device).split(1)
        return torch.stack([global_norm(loss_gradient(model, AUGMENTED, x, None)) for x in on]).double().cpu()

    def compute() -> dict[str, Any]:
        real, draws = norms(images), Draws(seeds)
        found = {
            name: rounded(auroc(norms(corrupt(images, kind, level, draws, clip=kind != "noise")), real, paired=True))
            for name, (kind, level) in damage.items()
        }
        return {"auroc": found}

    key = {"part": "distance", "model": options.model, "row": "norm of grad l_aug", "n": len(images)}
    keep(key | {"seed": options.seed}, compute, options)


def steps(model: Adapter, size: tuple[int, int], options: Any) -> None:
    split = options.split or evaluation_split(options.data)
    found = bothways.load_images(options.data, split=split, size=size, limit=options.n)
    images = (found.images.float() / 255).to(model.device)
    pictures = RealPictures(images, images[:0], split, "", found.labels, found.classes)

    def compute() -> dict[str, Any]:
        rows = step_rows(model, images, pictures.outputs_of(model))
        return {"cosine": {row["loss"]: rounded(row["cosine"]) for row in rows}, "chance": rounded([rows[0]["chance"]])}

    keep(
        {"part": "step", "model": options.model, "row": "eq. 9", "n": len(images), "seed": options.seed},
        compute,
        options,
    )


# ---- drawings ------------------------------------------------------------------------------------------------------


def augmented_loss(images: Tensor, model: Adapter) -> Tensor:
    """-l_aug of each picture (B,), eq. 11, with the statistics of the batch in BatchNorm."""
    layers = Substitutes("relu", "train")
    with layers.used():
        return -0.5 * (model.outputs(images.flip(-1)) - model.outputs(images)).square().sum(1)


def drawn(model: Adapter, name: str, options: Any) -> tuple[Tensor, list[float] | None, list[str] | None]:
    """Pictures (N,3,H,W) of 8 bits on the model's device, ||g|| at the first and last step, and their classes."""
    settings = {"group": options.n, "batch": options.n, "judging.verdicts": False} | DRAWINGS[name]
    recipe, passes = settings.pop("recipe", "dsf-paper"), settings.pop("passes", 1)
    settings |= {"ascent.steps": passes * options.steps, "recipe": recipe, "seed": options.seed, "n": options.n}
    settings |= {"canvas.size": options.size} if options.size else {}
    if options.short and settings.get("ascent.optimizer") == "adam":
        settings |= SHORT
    if settings.pop("l_aug", False):
        settings = {key: value for key, value in settings.items() if not key.startswith("terms.")}
        settings["objective"] = 10 * as_objective(augmented_loss) + 20 * TotalVariation(reduce="sum")
    classes, main = None, model
    if other := settings.pop("condition", None):
        main, classes = bothways.load_model(other, device=model.device), list(range(model.spec.count))
        settings["n"] = options.n // len(classes)
        if settings.get("terms.dsf.weight") != 0:
            main, settings = None, settings | {"score": [model], "condition": [main]}
    work = work_of("generate", main, classes, **settings)
    numbers = range(len(work.request))
    problem = work.setup.problem(
        work.request, work.request.batch(list(numbers), [picture_seed(options.seed, i) for i in numbers])
    )
    norms = []
    for frame in ascend(problem.field, problem.ascent, problem.draws):
        check_time(options)
        norms += [frame.stats["dsf norm"]] if "dsf norm" in frame.stats else []
    with torch.no_grad():
        images = (255 * work.setup.place.inside(problem.ascent.parameterization.image()).float()).round() / 255
    names = classes and [model.spec.class_name(label) for label in work.request.labels]
    return images, norms and rounded([norms[0], norms[-1]]), names


def drawings(model: Adapter, options: Any) -> None:
    jury = find_jury(model, options.judge or None)
    references = find_references(jury, options.data)
    for name in options.only or DRAWINGS:
        key = {"part": "draw", "model": options.model, "row": name, "n": options.n, "seed": options.seed}
        key |= {"steps": options.steps} | ({"short": True} if options.short else {})
        key |= {} if options.dtype == "float32" else {"dtype": options.dtype}
        keep(key, lambda name=name: judged(model, name, jury, references, options), options)


def judged(model: Adapter, name: str, jury: list[Adapter], references: Any, options: Any) -> dict[str, Any]:
    images, norms, names = drawn(model, name, options)
    save(images[: options.shown].cpu(), picture_path(options, name))
    found: dict[str, Any] = {}
    for verdict in judge(images, names, jury, references, seed=options.seed):
        numbers = ("mean_confidence", "kernel", "kernel_real", "diversity", "diversity_real")
        numbers += ("hit_rate",) if names else ()
        measured = {k: getattr(verdict, k) for k in numbers}
        found[verdict.judge] = {k: v if v is None else round(float(v), 4) for k, v in measured.items()}
        found[verdict.judge]["kernel_interval"] = verdict.kernel_interval and rounded(verdict.kernel_interval)
    steep = images[..., 1:] - images[..., :-1]
    look = {"deviation": float(images.std()), "step between neighbours": float(steep.abs().mean())}
    return {"judges": found, "look": {k: round(v, 3) for k, v in look.items()}, "norm": norms or None}


def save(images: Tensor, path: Path) -> None:
    """Pictures in a row, small ones enlarged; as a JPEG where they are large."""
    factor = max(1, 96 // images.shape[-1])
    big = images.repeat_interleave(factor, -2).repeat_interleave(factor, -1)
    row = torch.cat(list(F.pad(big, (0, 4, 0, 4), value=1.0)), -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jpg":
        from PIL import Image

        Image.fromarray((255 * row).round().byte().permute(1, 2, 0).numpy()).save(path, quality=80)
    else:
        path.write_bytes(to_png(row))


def picture_path(options: Any, name: str) -> Path:
    words = "".join(c if c.isalnum() else "-" for c in f"{Path(options.model).name} {options.size or ''} {name}")
    return options.out / f"{words}-{options.seed}-{options.steps}.{'jpg' if options.jpeg else 'png'}"


def sheet(options: Any) -> None:
    """The rows that were drawn, each below its name, in columns, as a JPEG."""
    from PIL import Image, ImageDraw

    named = [(name, picture_path(options, name)) for name in options.only or DRAWINGS]
    shown = [(name, Image.open(path).convert("RGB")) for name, path in named if path.is_file()]
    wide, high = min(options.width, shown[0][1].width), min(options.height, shown[0][1].height)
    whole = Image.new("RGB", (options.columns * wide, math.ceil(len(shown) / options.columns) * (high + LINE)), "white")
    pen = ImageDraw.Draw(whole)
    for at, (name, picture) in enumerate(shown):
        left, top = at % options.columns * wide, at // options.columns * (high + LINE)
        pen.text((left, top), name, "black")
        whole.paste(picture.crop((0, 0, wide, high)), (left, top + LINE))
    whole.save(options.out / "sheet.jpg", quality=options.quality)
    print(options.out / "sheet.jpg")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["direction", "distance", "step", "draw", "sheet"])
    parser.add_argument("model")
    parser.add_argument("--weights")
    parser.add_argument("--data", default=None)
    parser.add_argument("--n", type=int, default=None, help="pictures; 60, or 10 of each drawing")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--short", action="store_true", help="drawings by Adam: rate .05, falling to a fortieth")
    parser.add_argument("--dtype", default="float32", help="of the drawings: float32, bf16")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", default=[], help="rows")
    parser.add_argument("--judge", nargs="+", default=[])
    parser.add_argument("--width", type=int, default=500, help="pixels of each row on the sheet")
    parser.add_argument("--height", type=int, default=100, help="and its height")
    parser.add_argument("--columns", type=int, default=2, help="of rows on the sheet")
    parser.add_argument("--quality", type=int, default=85)
    parser.add_argument("--out", type=Path, default=Path("runs/dsf-trial"))
    parser.add_argument("--shown", type=int, default=10, help="pictures of a row that are written")
    parser.add_argument("--jpeg", action="store_true", help="as a JPEG")
    parser.add_argument("--size", type=int, default=None, help="pixels of a side, other than the model's")
    parser.add_argument("--split", default=None, help="of the data, for step and direction")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--minutes", type=float, default=None, help="after which nothing more is computed")
    parser.add_argument("--claims", type=Path, default=None, help="folder by which several processes share the rows")
    parser.add_argument("--memory", type=float, default=None, help="GiB of the GPU at most")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    options.began = time.monotonic()
    try:
        run(options)
    except LateError:
        print(f"stopped after {options.minutes:g} minutes", flush=True)


def run(options: Any) -> None:
    torch.set_num_threads(1)
    torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = False, True  # sums of a GPU in float32
    if options.part == "sheet":
        return sheet(options)
    if options.memory is not None:
        whole = torch.cuda.get_device_properties(options.device).total_memory
        torch.cuda.set_per_process_memory_fraction(options.memory * 2**30 / whole)
    model = bothways.load_model(options.model, weights=options.weights, dtype=options.dtype, device=options.device)
    options.n = options.n or (10 if options.part == "draw" else 60)
    if options.part == "draw":
        return drawings(model, options)
    size = (options.size, options.size) if options.size else (model.spec.height, model.spec.width)
    if options.part == "step":
        return steps(model, size, options)
    split = options.split or evaluation_split(options.data)
    images = bothways.load_images(options.data, split=split, size=size, limit=options.n).images.float() / 255
    seeds = [picture_seed(options.seed, i) for i in range(len(images))]
    if options.part == "distance":  # corrupted on the CPU
        return distances(model, images, seeds, options)
    directions(model, images.to(model.device), seeds, options)


if __name__ == "__main__":
    main()
