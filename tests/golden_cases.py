"""Every task at tiny settings: the pictures that they read, the commands, and what is called from Python.

A command is typed as a person would, in a folder of its own, with relative paths alone, so that nothing it writes
names the folder. ``@NAME`` is what the case NAME wrote: that case is then made first.
"""

from __future__ import annotations

import io
import shlex
import shutil
from collections.abc import Callable
from contextlib import chdir, redirect_stdout
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import bothways
from bothways.numerics.draws import Draws
from bothways.runs import to_png
from bothways.synthesis.dsf.engines import ENGINES
from command import run
from hub_parquet import write_hub_parquet
from small_flow import write_small_flow
from zoo import ZOO

PRINTED = "printed.json"  # what a command with --json says
FILE_OF = {"statistics": "/kept.safetensors", "spectrum": "/kept.safetensors"}  # commands that write one file
TOY, OTHER, RESNET = "toy.py:build", "toy.py:other", "bundled:cifar10-resnet"
WORDS = "clip:words"  # a small model that reads text, built when it is asked for: its library takes seconds to import
SOLVERS = ("euler", "heun", "midpoint", "reversible-heun", "rk4")  # those that were there when the values were recorded
CLASSES = ("anchor", "barrel", "candle", "dragon")  # of the toy
LIBRARIES = {"digits": "sklearn", "split": "sklearn", "dopri5": "torchdiffeq", WORDS: "transformers"}  # by a word

TINY = """# Trains next to nothing
task = "train"
seed = 3
[network]
builder = "resnet"
channels = [8, 8]
blocks = [0, 1]
[augmentation]
crop = 2
flip = true
noise = 0.2
[loss]
label_smoothing = 0.05
"""  # what test_train has besides, and how it is fitted, is its own
TRAINING = f"""{TINY}
[spec]
mean = [0.4914, 0.4822, 0.4465]
std = [0.2470, 0.2435, 0.2616]
[holdout]
validation = 4
[fit]
epochs = 2
batch = 8
optimizer = "sgd"
rate = 0.05
weight_decay = 5e-4
warmup = 0.2
schedule = "linear"
average = 0.8
clip = 0.0
"""

FLOW = """# Of so few steps of a processor that a task may ask it a thousand times
import torch
from torch import nn
from bothways import ModelSpec

class Velocity(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x, t):
        return self.last(torch.tanh(self.first(x) + t[:, None, None, None]))

def build():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Velocity(), ModelSpec(4, (0.5,) * 3, (0.5,) * 3, 0, path="linear")
"""

TWO, ONE = "--class anchor dragon --n 1 --steps 3", "--class candle --n 2 --steps 3"
NONE = "--unconditional --n 2 --steps 3"
QUICK = "--data digits --workers 0 --batch 8 --validation 8 --net unet-tiny --steps 4"
TUNED = "@pretrain-otcfm --data digits --workers 0 --batch 8 --validation 8 --train-steps 3"

COMMANDS: dict[str, str] = {
    # ---- drawing
    "icons": f"generate {TOY} {TWO} --recipe icons --data photos",
    "icons-resnet": f"generate {RESNET} --class frog --recipe icons --steps 3 --n 1",
    "das": f"generate {TOY} {TWO} --recipe das",
    "das-paper": f"generate {TOY} {ONE} --recipe das-paper",
    "das-size": f"generate {TOY} {ONE} --recipe das --size 20 --batch 1 --seed 7",
    "das-only": f"generate {TOY} --class anchor dragon --n 2 --steps 3 --recipe das --only 1 2",
    "das-judge": f"generate {TOY} {ONE} --recipe das --judge {OTHER} --data photos",
    "maco": f"generate {TOY} {ONE} --recipe maco",
    "words": f"generate {WORDS} --prompt 'a red frog' --prompt 'the ship:-0.3' --n 1 --steps 3",
    "channel": f"generate {TOY} --layer body.3 --channel 1 5 --n 1 --steps 3",
    "layer": f"generate {TOY} --layer body.0 --n 1 --steps 3 --recipe channel",
    "pixels": f"generate {TOY} {TWO} --recipe pixels",
    "sampled": f"generate {TOY} {NONE} --recipe sampled --data @statistics",
    "sampled-photos": f"generate {TOY} {NONE} --data photos",
    "sampled-photographs": f"generate {TOY} {NONE} --recipe sampled-photographs --data @statistics",
    "sampled-resnet": f"generate {RESNET} --unconditional --steps 3 --n 1 --recipe sampled",
    "statistics-tv": f"generate {TOY} {NONE} --recipe statistics-tv --data @statistics",
    "dsf": f"generate {TOY} {NONE} --recipe dsf",
    "dsf-class": f"generate {TOY} {TWO} --recipe dsf",
    "dsf-resnet": f"generate {RESNET} --unconditional --steps 3 --n 1 --recipe dsf",
    "dsf-paper": f"generate {TOY} {NONE} --recipe dsf-paper",
    "two-models": f"generate --score {OTHER} --condition {TOY} {TWO} --recipe dsf",
    "many-models": f"generate --score {TOY} {OTHER} --condition {TOY} {OTHER} {ONE} --recipe dsf",
    # ---- a photo
    "edit": f"edit {TOY} photo.png --class dragon --box 3 4 11 13 --steps 3 --n 1",
    "edit-mask": f"edit {TOY} photos --class dragon --mask mask.png --steps 3",
    "inpaint": f"inpaint {TOY} photo.png --mask mask.png --steps 3",
    "inpaint-data": f"inpaint {TOY} photo.png --box 3 4 11 13 --data photos --steps 3",
    "inpaint-resnet": f"inpaint {RESNET} photo.png --box 3 4 11 13 --steps 3",
    "inpaint-class": f"inpaint {TOY} photo.png --mask mask.png --recipe edit --class anchor --steps 3",
    "style": f"style {TOY} photo.png photos/03.png --steps 3 --n 1",
    "style-photographs": f"style {TOY} photo.png photos/03.png --recipe style-photographs --steps 3",
    "edit-photographs": f"edit {TOY} photo.png --class dragon --recipe edit-photographs --steps 3",
    "accentuate-photographs": f"accentuate {TOY} photo.png --recipe accentuate-photographs --steps 3",
    "invert": f"invert {TOY} photo.png --steps 3 --n 2",
    "from-features": f"invert {TOY} photo.png --recipe from-features --data photos --steps 3 --n 1",
    "accentuate": f"accentuate {TOY} photo.png --steps 3 --n 1",
    "accentuate-class": f"accentuate {TOY} photo.png --class barrel --steps 3 --n 1",
    # ---- a model, measured
    "statistics": f"statistics {TOY} --data photos --limit 8 --rank 3",
    "spectrum": "spectrum --data photos --size 16 --limit 6",
    "scorecard": f"scorecard {TOY} --data photos --n 2 --no-draw",
    "scorecard-drawn": f"scorecard {TOY} --data photos --n 2 --drawings 1",
    "explain": f"explain {TOY} --data split --n 2 --steps 2 --json",
    "explain-judge": f"explain {TOY} --data split --classes anchor barrel dragon --n 2 --steps 2 --judge {OTHER}",
    "evaluate": f"evaluate {TOY} --data split",
    "evaluate-offline": f"evaluate {TOY} --data split --corruptions offline --limit 4",
    "evaluate-flow": "evaluate @finetune-walked --data digits --limit 12 --batch 5",
    "predict": f"predict {TOY} photos --top 3 --batch 5 --json",
    "predict-resnet": f"predict {RESNET} photo.png --json",
    "predict-flow": "predict @finetune-walked small/anchor --json",
    # ---- training
    "train": "train training.toml --data cifar",
    "pretrain-icfm": f"pretrain icfm {QUICK}",
    "pretrain-otcfm": f"pretrain otcfm {QUICK}",
    "pretrain-gvp": f"pretrain gvp {QUICK}",
    "pretrain-sinkhorn": f"pretrain {QUICK} --coupling sinkhorn",
    "pretrain-vp": f"pretrain {QUICK} --path vp --information 4 --save-every 3",
    "pretrain-colours": "pretrain --data small --workers 0 --batch 4 --validation 4 --net unet-tiny --steps 2",
    "pretrain-points": "pretrain --data swiss-roll --workers 0 --batch 16 --validation 50 --steps 4",
    "finetune-walked": f"finetune {TUNED} --kind walked --depth 0.4 --steps 2",
    "finetune-activations": f"finetune {TUNED} --recipe prg-activations --kind activations",
    "finetune-both": f"finetune {TUNED} --kind both --steps 2 --activation-depth 0.2",
    "finetune-pixels": f"finetune {TUNED} --kind pixels",
    "finetune-frozen": f"finetune {TUNED} --frozen --steps 2 --labels 40",
    "finetune-fresh": f"finetune {TUNED} --fresh --steps 2 --information 4 --save-every 2",
    # ---- a flow
    "curves": "curves @finetune-walked --data digits --limit 12 --steps 1 3 --depth-offsets -0.5 0.5",
    "curves-activations": "curves @finetune-activations --data digits --limit 12 --depth-offsets -0.5 0.5",
    "features": "features flow --data small --kind walked --depth 0.4 1 --steps 4 --workers 0 --probe none",
    "features-probed": "features flow --data split --kind walked activations pixels --depth 0.5 --steps 2 --workers 0",
    "features-noised": "features @pretrain-otcfm --data digits --kind activations --noised --depth 0.3 --limit 20 "
    "--workers 0 --store float16",
    **{f"sample-{solver}": f"sample flow --n 3 --steps 3 --batch 2 --solver {solver}" for solver in SOLVERS},
    "sample-pretrained": "sample @pretrain-otcfm --n 2 --steps 2 --seed 5",
    "sample-vp": "sample @pretrain-vp --n 2 --steps 2",
    "sample-judged": f"sample flow --n 3 --steps 2 --judge {TOY} --data split",
    "likelihood": "likelihood flow --data small --limit 2 --steps 2",
    "likelihood-probes": "likelihood flow --data small --limit 4 --steps 3 --divergence hutchinson --probes 2",
    "likelihood-draws": "likelihood tiny.py:build --data small --limit 3 --steps 2 --draws 2 --solver rk4",
    "likelihood-dopri5": "likelihood tiny.py:build --data small --limit 2 --solver dopri5 --tolerance 0.1",
    "likelihood-digits": "likelihood @pretrain-otcfm --data digits --limit 2 --steps 2",
    "diagnose": "diagnose tiny.py:build --data small --n 2 --steps 3",
}


# ---- what the tasks read ---------------------------------------------------------------------------------------------


def soft(count: int, size: int, seed: int) -> Tensor:
    """Pictures (N,3,H,W) of eight-bit values that are neither flat nor noise alone."""
    draws = Draws(range(1000 * seed, 1000 * seed + count))
    coarse = draws.uniform((3, 4, 4)).repeat_interleave(size // 4, -1).repeat_interleave(size // 4, -2)
    return (255 * (0.8 * coarse + 0.2 * draws.uniform((3, size, size), t=1.0))).round() / 255


def write_folder(folder: Path, pictures: Tensor) -> None:
    folder.mkdir(parents=True)
    for place, picture in enumerate(pictures):
        (folder / f"{place:02d}.png").write_bytes(to_png(picture))


def write_place(place: Path) -> None:
    """All that the commands name: models, photos, labelled pictures of 8, 16 and 32 pixels, a mask, a recipe."""
    shutil.copy(Path(__file__).with_name("toy_model.py"), place / "toy.py")
    write_folder(place / "photos", soft(10, 16, 1))
    (place / "photo.png").write_bytes(to_png(soft(1, 16, 2)[0]))
    mask = torch.zeros(3, 16, 16)
    mask[:, 4:13, 3:11] = 1
    (place / "mask.png").write_bytes(to_png(mask))
    for number, name in enumerate(CLASSES):
        write_folder(place / "split" / "train" / name, soft(6, 16, 10 + number))
        write_folder(place / "split" / "test" / name, soft(10, 16, 20 + number))
        write_folder(place / "small" / name, soft(4, 8, 30 + number))
    (place / "cifar").mkdir()
    for split, seed in (("train", 3), ("test", 4)):
        encoded, names = map(to_png, soft(20, 32, seed)), [f"class {k}" for k in range(10)]
        write_hub_parquet(place / "cifar" / f"{split}.parquet", encoded, [k % 10 for k in range(20)], names)
    (place / "training.toml").write_text(TRAINING)
    write_small_flow(place / "flow", size=8)
    (place / "tiny.py").write_text(FLOW)


# ---- from Python -----------------------------------------------------------------------------------------------------


def walked(solver: str, gradient: str) -> dict[str, Tensor]:
    """There and back, and the gradients of there."""
    flow = bothways.load_flow("flow")
    images = soft(2, 8, 5).requires_grad_()
    there = bothways.encode(flow, images, 0.5, 3, solver, gradient)
    there.square().mean().backward()
    found = {"there": there.detach(), "gradient": images.grad}
    with torch.no_grad():
        found["back"] = bothways.decode(flow, there.detach(), 0.5, 3, solver, gradient)
    return found | {f"gradient.{name}": p.grad for name, p in flow.named_parameters() if p.grad is not None}


def scored(engine: str, **options: str) -> dict[str, Tensor]:
    score, norm = bothways.dsf_score(bothways.load_model(TOY), soft(2, 16, 6), engine=engine, **options)
    return {"score": score, "norm": norm}


PYTHON: dict[str, Callable[[], dict[str, Tensor]]] = {
    **{f"encode-{solver}": partial(walked, solver, "exact") for solver in SOLVERS},
    "encode-direct": partial(walked, "euler", "direct"),
    **{f"score-{engine}": partial(scored, engine) for engine in ENGINES},
    "score-batch": partial(scored, "double_backward", per="batch", surrogate="kl", live="original"),
}
CASES = (*COMMANDS, *PYTHON)


# ---- making them -----------------------------------------------------------------------------------------------------


class Made:
    """What the cases wrote below ``place``, each made when it is first asked for. device: of commands that take one."""

    def __init__(self, place: Path, device: str = "") -> None:
        self.place, self.device = place, device
        self.tensors: dict[str, dict[str, Tensor]] = {}
        write_place(place)

    def folder(self, case: str) -> Path:
        """Where a command wrote, or with what a call gave in ``tensors``."""
        folder = self.place / "made" / case
        if not folder.exists():
            folder.mkdir(parents=True)
            if case in PYTHON:
                with chdir(self.place):
                    self.tensors[case] = PYTHON[case]()
            else:
                self._command(case, folder)
        return folder

    def _command(self, case: str, folder: Path) -> None:
        words = []
        for word in shlex.split(COMMANDS[case]):
            if word.startswith("@"):
                self.folder(word[1:])
                word = f"made/{word[1:]}" + FILE_OF.get(COMMANDS[word[1:]].split()[0], "")
            words.append(word)
        if WORDS in words:
            with chdir(self.place):
                ZOO["clip"](Path(WORDS.removeprefix("clip:")))
        if words[0] != "predict":
            words += ["--out", f"made/{case}" + FILE_OF.get(words[0], "")]
        if self.device and words[0] != "spectrum":
            words += ["--device", self.device]
        said = io.StringIO()
        with chdir(self.place), redirect_stdout(said):
            code = run(*words)
        assert code == 0, f"bothways {shlex.join(words)} ended with {code}"
        if "--json" in words:
            (folder / PRINTED).write_text(said.getvalue())


def libraries(case: str) -> set[str]:
    """The optional libraries without which a case cannot be made."""
    words = COMMANDS.get(case, "").split()
    own = {library for word, library in LIBRARIES.items() if word in words}
    return own.union(*(libraries(word[1:]) for word in words if word.startswith("@")))
