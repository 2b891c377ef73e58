"""A folder in which the command lines of the docs can be run: small stand-ins for what they name."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

import bothways
from bothways.numerics.draws import Draws
from bothways.runs import to_png
from command import run
from hub_parquet import write_hub_parquet

BUNDLED = Path(bothways.__file__).parent / "models/bundled"
CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MODEL_FILE = '''
from dataclasses import dataclass

import torch
from torch import nn

import bothways
from bothways.numerics.solvers import at_time, fixed_grid
from bothways.synthesis.parameterizations import Canvas
from bothways.synthesis.parameterizations.pixels import Pixels

NAMES = ["tench", "goldfish", "great white shark", *(f"class {k}" for k in range(3, 140))]
NAMES[9] = "ostrich, Struthio camelus"


class Net(nn.Module):
    """(B,3,H,W) -> (B,140)."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, len(NAMES))

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


def build():
    with torch.random.fork_rng():
        torch.random.manual_seed(3)
        module = Net()
    facts = bothways.ModelSpec(size=16, mean=(0.5,) * 3, std=(0.25,) * 3, classes=NAMES, feature_layer="features")
    return module, facts


def symmetry(images):
    return -(images - images.flip(-1)).square().mean((1, 2, 3))


def sine(t):
    a, s = torch.sin(torch.pi * t / 2), torch.cos(torch.pi * t / 2)
    return bothways.types.PathWeights(a, s, torch.pi / 2 * s, -torch.pi / 2 * a)


def deep(width, classes):
    return nn.Sequential(nn.Linear(width, 8), nn.ReLU(), nn.Linear(8, classes))


@dataclass(frozen=True)
class Dim:
    by: float = 0.5

    def __call__(self, seen, draws, t):
        return self.by * seen


class Free(Canvas):
    def build(self, start, place):
        return Pixels(start, place.squash)


def stepped(place):
    return 1.0 if place < 0.5 else 0.1


@fixed_grid(calls=1, order=1)
def plain(v, state, t, h):
    (x,) = state
    return (x + h * v(x, at_time(x, t)),)


def reversed_pairs(images, noise):
    return torch.arange(len(images)).flip(0)


def sharpness(images):
    return {"sharpness": float((images[..., 1:] - images[..., :-1]).abs().mean())}
'''

CIFAR_FILE = f"""
NAMES = {CIFAR}
resnet20 = resnet56 = build
"""
TEXT_FILE = """
NAMES = ("sandal", "watches")
words = build
build = lambda: (*words(), lambda prompts: torch.ones(len(prompts), 2))
"""
FLOW_FILE = """
import torch
from torch import nn

import bothways


class Flow(nn.Module):
    def __init__(self):
        super().__init__()
        self.network = nn.Module()
        self.network.b4 = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x, time):
        return self.network.b4(x) * time[:, None, None, None]


def build():
    return Flow(), bothways.ModelSpec(8, 0.5, 0.5, 0, channel_order="grey", path="linear")
"""


NET_FILE = """
import torch
from torch import nn


class Velocity(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.only = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x, t):
        return self.only(x) * t[:, None, None, None]


def build(channels):
    return Velocity(channels)
"""


def write_folder(folder: Path) -> Path:
    """FOLDER with pictures, models and weights; runs are added by ``write_runs``. Returns the folder."""
    for name in ("my.py", "other.py", "examples/squeezenet.py", "examples/mobilenet_v2.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(MODEL_FILE)
    (folder / "net.py").write_text(NET_FILE)
    for name in ("tiniest", "robust", "mlcommons", "resnet"):
        (folder / f"examples/{name}_cifar10.py").write_text(f"{MODEL_FILE}{CIFAR_FILE}")
    (folder / "examples/fashion_clip.py").write_text(f"{MODEL_FILE}{TEXT_FILE}")
    (folder / "examples/fashion_flow.py").write_text(FLOW_FILE)
    for name in ("photo.png", "photo.jpg", "painting.jpg", "cat.png", "wolf.png", "flowers.png"):
        (folder / name).write_bytes(to_png(_pictures(1, 32)[0]))
    (folder / "digit.png").write_bytes(to_png(_pictures(1, 8)[0]))
    hole = torch.zeros(3, 32, 32)
    hole[:, 8:16, 8:16] = 1
    (folder / "hole.png").write_bytes(to_png(hole))
    for place, names, count, side in (
        ("photos", ("tench", "goldfish", "great white shark"), 12, 32),
        ("path/to/pictures", "0123456789", 8, 8),
        ("path/to/tiny-imagenet", ("goldfish", "black stork", "teapot", "bucket", "dumbbell", "ice lolly"), 10, 64),
    ):
        for name in names:
            (folder / place / name).mkdir(parents=True)
            for k, picture in enumerate(_pictures(count, side)):
                (folder / place / name / f"{k}.png").write_bytes(to_png(picture))
    (folder / "faces").mkdir()
    ages = [f"{k}.png,{20 + k}" for k, _ in enumerate(_pictures(30, 8))]
    for k, picture in enumerate(_pictures(30, 8)):
        (folder / "faces" / f"{k}.png").write_bytes(to_png(picture))
    (folder / "ages.csv").write_text("\n".join(["file,age", *ages]) + "\n")
    for split, count in (("train", 100), ("test", 100)):
        place = folder / "path/to/cifar10" / f"{split}.parquet"
        place.parent.mkdir(parents=True, exist_ok=True)
        write_hub_parquet(place, map(to_png, _pictures(count, 32)), [k % 10 for k in range(count)], CIFAR)
    (folder / "runs/resnet").mkdir(parents=True)
    for file in ("cifar10-resnet.json", "cifar10-resnet.safetensors"):  # as bothways train would have left them
        shutil.copy(BUNDLED / file, folder / "runs/resnet")
    return folder


def write_runs(folder: Path) -> None:
    """The runs that the docs go on from. The folder is the present one."""
    quick = ["--steps", 1, "--batch", 8, "--workers", 0, "--validation", 16]
    assert run("pretrain", "--data", "digits", *quick, "--out", "runs/digits") == 0
    assert run("pretrain", "--data", "path/to/pictures", *quick, "--out", "runs/flow") == 0
    head = ["--steps", 1, "--train-steps", 1, "--batch", 8, "--workers", 0, "--validation", 16]
    assert run("finetune", "runs/digits", "--data", "digits", *head, "--out", "runs/walked") == 0
    for name in ("finetuned", "activations", "control", "classifier"):
        shutil.copytree(folder / "runs/walked", folder / "runs" / name)
    drawn = ["generate", "bundled:cifar10-resnet", "--class", "frog", "--steps", 1, "--n", 1]
    assert run(*drawn, "--out", "runs/a") == 0
    assert run(*drawn) == 0
    assert run("sample", "bundled:cifar10-flow", "--n", 1, "--steps", 1, "--out", "runs/drawn-two") == 0
    shutil.copytree(folder / "runs/a", folder / "runs/b")
    few = ["--steps", 1, "--limit", 8, "--test-limit", 4, "--workers", 0]
    data = ["--data", "path/to/cifar10", "--depth", 0.1, 0.5]
    assert run("features", "bundled:cifar10-flow", *data, *few, "--out", "runs/features") == 0
    assert run("spectrum", "--data", "photos/", "--size", 16, "--out", "photos.safetensors") == 0


def write_weights(folder: Path) -> None:
    """weights.safetensors for my.py:build."""
    state = bothways.load_model(f"{folder / 'my.py'}:build").module.state_dict()
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "weights.safetensors")


def _pictures(count: int, side: int) -> torch.Tensor:
    return Draws(range(count)).uniform((3, side, side))
