"""What fills a hole in a picture best?  A 12 x 12 hole in each of 200 test pictures, every row in the same holes.

    python benchmarks/inpainting.py --data FOLDER_WITH_TRAIN_AND_TEST_PARQUET [--n 200] [--only harmonic predicted ...]

``psnr`` is over the hole, its interval Student's over pictures; ``judge_accuracy`` the share of filled pictures that
each judge still calls by their label, Wilson's; only models that gave the row no gradient judge it. ``*_gain`` is the
difference to the harmonic fill in the same pictures, Student's, with its p by Holm over all rows (accuracy and loss:
the bundled judges' mean, and that of judges by other authors, jury.py, as ``others_*``).
``seconds`` is of the filling of one picture, not of what was measured of training pictures before. No row sees a label.
``dsf`` has its paper's boundary condition, and ``dsf_control`` the same steps without the score.
"""

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F

import bothways
from bothways.models.catalogue import kept_statistics
from bothways.models.loader import load_model
from bothways.numerics.draws import Draws
from bothways.numerics.fill import Smoothness, harmonic_fill, tension_fill
from bothways.numerics.intervals import holm, mean_interval, paired_difference, wilson_interval
from bothways.runs import to_png
from bothways.synthesis.ascent import Ascent, ascend
from bothways.synthesis.config import AscentConfig
from bothways.synthesis.das import toward
from bothways.synthesis.dsf.score import dsf
from bothways.synthesis.fields import Combined, Unit
from bothways.synthesis.inpainting import Smoothed, boundary_consistency, predict_statistics
from bothways.synthesis.objectives.certainty import certainty
from bothways.synthesis.objectives.variation import total_variation
from bothways.synthesis.parameterizations.fourier import Fourier
from bothways.synthesis.parameterizations.masked import Masked
from bothways.synthesis.parameterizations.pixels import Pixels
from bothways.synthesis.parameterizations.stack import ImageStack
from bothways.synthesis.statistics import spread_statistics
from bothways.synthesis.views import Views
from bothways.synthesis.views.flip import Flip
from bothways.synthesis.views.noise import Noise
from bothways.synthesis.views.shift import Shift
from bothways.tasks.statistics.files import read_spread
from jury import others

SIZE, HOLE, BATCH = 32, 12, 50
FAMILIES = ("resnet", "attention", "plain")
LEARN_SEED = 1_000_000  # holes of the training pictures, not those of the test
NUGGET = 1e-4  # variance added to each pixel of the covariance
SHEET = ("mean", "harmonic", "predicted_certainty", "statistics", "dsf", "dsf_control")


@dataclass(frozen=True)
class Row:
    """A fill to start from, and what is wanted of it by whom; no weights: the fill itself.

    rms: of the first step, in the hole, on the canvas; steps fall linearly to 0.
    """

    start: str
    weights: Mapping[str, float] = field(default_factory=dict)
    models: tuple[str, ...] = ("resnet",)
    held: str = "pixels"
    smooth: bool = True
    steps: int = 8
    rms: float = 0.02
    views: bool = False

    @property
    def judges(self) -> list[str]:
        return [name for name in FAMILIES if name not in self.models]


def free(held: str = "stack", **weights: float) -> Row:
    """From the mean of the known pixels, as the recipes draw: random views, plain steps."""
    return Row("mean", {**weights, "variation": 0.25}, held=held, smooth=False, steps=20, rms=0.06, views=True)


ROWS = {
    "mean": Row("mean"),
    "harmonic": Row("harmonic"),
    "biharmonic": Row("biharmonic"),
    "tension": Row("tension"),
    "kriging": Row("kriging"),
    "dsf": free(dsf=1.0, boundary=0.5),
    "dsf_control": free(boundary=0.5),
    "statistics": free(average=1.0),
    "statistics_fourier": free("fourier", average=1.0),
    "statistics_boundary": free(average=1.0, boundary=0.5),
    "surround": free(surround=1.0),
    "near_statistics": Row("tension", {"average": 1.0}),
    "near_statistics_two": Row("tension", {"average": 1.0}, ("resnet", "plain")),
    "near_certainty": Row("tension", {"certainty": 1.0}),
    "predicted": Row("tension", {"predicted": 1.0}),
    "predicted_two": Row("tension", {"predicted": 1.0}, ("resnet", "plain")),
    "predicted_certainty": Row("tension", {"predicted": 1.0, "certainty": 0.3}),
    "kriging_predicted": Row("kriging", {"predicted": 1.0}),
    "kriging_predicted_certainty": Row("kriging", {"predicted": 1.0, "certainty": 0.3}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a folder with train.parquet and test.parquet")
    parser.add_argument("--n", type=int, default=200, help="test pictures, evenly spaced")
    parser.add_argument("--learn", type=int, default=4000, help="training pictures that predictions are learned from")
    parser.add_argument("--only", nargs="+", default=[*ROWS], choices=[*ROWS], help="rows; harmonic is always measured")
    parser.add_argument("--dtype", default="bf16", help="of the models that draw; judges are float32")
    parser.add_argument("--out", type=Path, default=Path("runs/inpainting-benchmark"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    world = World(options.data, options.learn, options.dtype)
    test = bothways.load_images(options.data, split="test", limit=options.n)
    photos, masks = test.images.float() / 255, holes(range(len(test)))
    strangers = others()
    judges = {name: load_model(f"bundled:cifar10-{name}") for name in FAMILIES} | strangers
    said = {name: answers(judge, photos, test.labels) for name, judge in judges.items()}
    found = {"untouched": {"judge_accuracy": {name: share(right) for name, (right, _) in said.items()}}}
    pictures, base = {}, None
    for name in dict.fromkeys(["harmonic", *options.only]):
        pictures[name], seconds = filled(ROWS[name], photos, masks, world)
        verdicts = {j: answers(judges[j], pictures[name], test.labels) for j in [*ROWS[name].judges, *strangers]}
        near = psnr(pictures[name], photos, masks)
        base = base or (near, verdicts)
        found[name] = measures(near, verdicts, base) | {"seconds": seconds}
        print(line(name, found[name]), flush=True)
        (options.out / "inpainting.json").write_text(json.dumps({"n": len(test), "rows": found}, indent=1))
    adjust(found)
    (options.out / "inpainting.json").write_text(json.dumps({"n": len(test), "rows": found}, indent=1))
    columns = [photos, photos * (1 - masks), *(pictures[name] for name in SHEET if name in pictures)]
    (options.out / "inpainting.png").write_bytes(to_png(sheet(columns)))
    print(json.dumps({"n": len(test), "rows": found}))


@dataclass(frozen=True)
class World:
    """What the rows may know: training pictures, holes in them, and models."""

    data: Path
    learn: int
    dtype: str

    @cached_property
    def images(self) -> torch.Tensor:
        return bothways.load_images(self.data, split="train").images

    @cached_property
    def examples(self) -> torch.Tensor:
        """(learn,3,H,W), evenly spaced."""
        return self.images[torch.linspace(0, len(self.images) - 1, self.learn).long()].float() / 255

    @cached_property
    def models(self) -> dict:
        return {name: load_model(f"bundled:cifar10-{name}", dtype=self.dtype) for name in FAMILIES}

    @cached_property
    def known(self) -> dict:
        """{(start, model): Prediction}, filled by ``prediction``."""
        return {}

    def prediction(self, start: str, model: str):
        if (start, model) not in self.known:
            masks = holes(range(LEARN_SEED, LEARN_SEED + self.learn))
            filled, net = start_fill(start, self.examples, masks, self), self.models[model]
            self.known[start, model] = predict_statistics(net, self.examples, filled, net.statistics_layers())
        return self.known[start, model]

    @cached_property
    def gaussian(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean (D,) and precision (D,D) of whole training pictures, D = 3 H W."""
        rows = self.images.flatten(1)
        mean = sum(part.float().sum(0) for part in rows.split(5000)) / len(rows) / 255
        covariance = torch.zeros(len(mean), len(mean))
        for part in rows.split(5000):
            centred = part.float() / 255 - mean
            covariance += centred.T @ centred / (len(rows) - 1)
        return mean, torch.linalg.inv(covariance.double() + NUGGET * torch.eye(len(mean))).float()


def holes(seeds) -> torch.Tensor:
    """(B,1,H,W): a square at a place that belongs to the picture's seed."""
    masks = torch.zeros(len(seeds), 1, SIZE, SIZE)
    for mask, (top, left) in zip(masks, Draws(seeds).integers(0, SIZE - HOLE, (2,), purpose="hole"), strict=True):
        mask[:, top : top + HOLE, left : left + HOLE] = 1
    return masks


def start_fill(start: str, photos, masks, world):
    if start == "mean":
        known = (photos * (1 - masks)).sum((2, 3), keepdim=True) / (1 - masks).sum((2, 3), keepdim=True)
        return torch.where(masks.bool(), known, photos)
    if start == "kriging":
        return kriging(photos, masks, *world.gaussian)
    return {
        "harmonic": harmonic_fill,
        "tension": tension_fill,
        "biharmonic": lambda photo, mask: tension_fill(photo, mask, 0.0),
    }[start](photos, masks)


def kriging(photos, masks, mean, precision):
    """E[hole | known] of a Gaussian with precision P: m_h - P_hh^-1 P_ho (x_o - m_o), the best linear prediction."""
    filled = photos.flatten(1).clone()
    for row, mask in zip(filled, masks, strict=True):
        hole = mask.expand(3, SIZE, SIZE).flatten().bool()
        known = (row - mean)[~hole]
        row[hole] = mean[hole] - torch.linalg.solve(precision[hole][:, hole], precision[hole][:, ~hole] @ known)
    return filled.view_as(photos).clamp(0, 1)


def filled(row: Row, photos, masks, world):
    """The filled pictures, and seconds a picture."""
    _ = world.gaussian if row.start == "kriging" else None
    if "predicted" in row.weights:
        _ = [world.prediction(row.start, name) for name in row.models]
    began, done = time.perf_counter(), []
    for seeds in torch.arange(len(photos)).split(BATCH):
        done.append(draw(row, photos[seeds], masks[seeds], Draws(seeds.tolist()), world))
    return torch.cat(done), (time.perf_counter() - began) / len(photos)


def draw(row: Row, photos, masks, draws, world):
    start = start_fill(row.start, photos, masks, world)
    if not row.weights:
        return start
    views = Views(1, [Shift(3), Flip(), Noise(0.05)]) if row.views else Views()
    parts = []
    for name, weight in row.weights.items():
        if name == "dsf":
            parts += [(weight, Unit(dsf(world.models[model], draws))) for model in row.models]
            continue
        for term in terms(name, row, photos, masks, start, world):
            parts.append((weight, toward(term, draws, views, normalize=True)))
    direction = Combined(parts)
    if row.smooth:
        direction = Smoothed(direction, Smoothness(masks))
    inner = {
        "pixels": lambda: Pixels(start),
        "stack": lambda: ImageStack(start, [1, 2, 4, 8, 16, 32], [(SIZE / r) ** -0.5 for r in (1, 2, 4, 8, 16, 32)]),
        "fourier": lambda: Fourier(start),
    }[row.held]()
    rms = row.rms * HOLE / SIZE  # of the whole canvas, where only the hole moves
    ascent = Ascent(Masked(inner, photos, masks), AscentConfig(steps=row.steps, rms=rms))
    for frame in ascend(direction, ascent, draws):
        image = frame.image
    return image


def terms(name, row, photos, masks, start, world):
    """The terms of one name: one of the picture itself, or one of each model."""
    if name == "boundary":
        return [boundary_consistency(photos, masks)]
    if name == "variation":
        return [total_variation()]
    models = {model: world.models[model] for model in row.models}
    if name == "certainty":
        return [certainty(model) for model in models.values()]
    if name == "predicted":
        return [world.prediction(row.start, key).term(model, start) for key, model in models.items()]
    spreads = {key: read_spread(kept_statistics(model.name)) for key, model in models.items()}
    wanted = {key: surround(model, start, masks) if name == "surround" else None for key, model in models.items()}
    return [spread_statistics(model, spreads[key], wanted[key]) for key, model in models.items()]


@torch.no_grad()
def surround(model, start, masks):
    """{layer: (B,2C)}: the channel statistics of the positions that see mostly known pixels."""
    found = {}
    for layer, value in model.features(start, model.statistics_layers()).items():
        weight = F.interpolate(1 - masks, size=value.shape[-2:], mode="area")
        weight = weight / weight.sum((2, 3), keepdim=True)
        mean = (weight * value).sum((2, 3), keepdim=True)
        variance = (weight * (value - mean).square()).sum((2, 3))
        found[layer] = torch.cat([mean[..., 0, 0], 0.5 * (variance + 1e-5).log()], 1)
    return found


def psnr(images, photos, masks):
    """(B,): -10 log10 of the mean squared error over the hole."""
    error = ((images - photos).double().square() * masks).sum((1, 2, 3)) / (3 * HOLE**2)
    return -10 * error.log10()


@torch.no_grad()
def answers(judge, images, labels):
    """Whether each picture is called by its label, and its cross-entropy, (B,) each."""
    logits = judge.outputs(images)
    return (logits.argmax(1) == labels).double(), F.cross_entropy(logits, labels, reduction="none").double()


def share(right):
    low, high = wilson_interval(int(right.sum()), len(right))
    return [float(right.mean()), low, high]


def interval(values):
    found = mean_interval(values.numpy())
    return [found.value, found.low, found.high]


def measures(near, verdicts, base):
    """Each with its 95 % interval: [value, low, high]."""
    base_near, base_verdicts = base
    found = {
        "psnr": interval(near),
        "psnr_gain": gain(near, base_near),
        "judge_accuracy": {name: share(right) for name, (right, _) in verdicts.items()},
        "judge_loss": {name: interval(loss) for name, (_, loss) in verdicts.items()},
    }
    for whose, several in (("judge", [j for j in verdicts if j in FAMILIES]),
                           ("others", [j for j in verdicts if j not in FAMILIES])):  # fmt: skip
        for k, what in enumerate(("accuracy", "loss")) if several else ():
            own, harmonic = (torch.stack([of[j][k] for j in several]).mean(0) for of in (verdicts, base_verdicts))
            found[f"{whose}_{what}_gain"] = gain(own, harmonic)
    return found


def gain(values, base):
    """[value, low, high, p] of the mean difference in the same pictures."""
    return list(paired_difference(values, base))


def adjust(found):
    """Put the p of each gain, adjusted by Holm for the number of rows, in place of its own, and print it."""
    for key in ("psnr_gain", "judge_accuracy_gain", "judge_loss_gain", "others_accuracy_gain", "others_loss_gain"):
        rows = [name for name, row in found.items() if key in row and name != "harmonic"]
        for name, p in zip(rows, holm([found[name][key][3] for name in rows]), strict=True):
            found[name][key][3] = p
        if rows:
            print(f"{key}, p by Holm: " + ", ".join(f"{name} {found[name][key][3]:.3f}" for name in rows), flush=True)


def line(name, found):
    accuracy = found["judge_accuracy"].items()
    judged = "  ".join(f"{judge} {v:.3f} ({low:.3f} to {high:.3f})" for judge, (v, low, high) in accuracy)
    gains = "  ".join(
        f"{key} {v:+.3f} ({low:+.3f} to {high:+.3f})"
        for key in ("psnr_gain", "judge_accuracy_gain", "judge_loss_gain", "others_accuracy_gain", "others_loss_gain")
        if key in found
        for v, low, high in [found[key][:3]]
    )
    return f"{name:28s} psnr {found['psnr'][0]:5.2f}  {judged}  {gains}  {found['seconds']:.3f} s"


def sheet(columns, rows=8, enlarge=2, gap=2):
    """One picture (3,H,W): a column for each of ``columns`` (N,3,h,w), their first rows."""
    tiles = [F.pad(column[:rows].repeat_interleave(enlarge, 2).repeat_interleave(enlarge, 3), [gap] * 4, value=1.0)
             for column in columns]  # fmt: skip
    return torch.cat([torch.cat(list(column), 1) for column in tiles], 2)


if __name__ == "__main__":
    main()
