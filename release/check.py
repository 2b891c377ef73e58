"""Install the wheel in clean environments and try the command: without extras, with each alone, and with all.

    python release/check.py WHEEL [--extras none timm ... all]
    python release/check.py --list                     what can stand there, as JSON
    python release/check.py WHEEL --record             keep what is found for docs/reliability.md

Packages are downloaded, about a gigabyte for each environment; each is removed before the next is made.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WELL = "installed, and it draws"
TRIES = (
    ("-m", "pip", "check"),
    ("-c", "import bothways; print(bothways.__version__)"),
    ("-m", "bothways", "--version"),
    ("-m", "bothways", "models"),
    ("-m", "bothways", "generate", "bundled:cifar10-resnet", "--class", "frog", "--steps", "1", "--n", "1"),
)
DRAW, FLOW = ("-m", "bothways", "generate"), "bundled:cifar10-flow"
UNFIT = ("-m", "bothways", "layers", "timm:resnet18")  # its line, where torchvision was built for another torch
MISFIT = "but torchvision, which was built for another torch, does not run here, as bothways says in a line"
OF_EXTRA: dict[str, tuple[str, ...]] = {  # what is tried of each beside TRIES: a command, or that the library is there
    "datasets": ("-c", "import datasets; datasets.load_dataset"),
    "diffusers": ("-c", "import diffusers; diffusers.UNet2DModel"),
    "digits": ("-m", "bothways", "spectrum", "--data", "digits", "--size", "16", "--limit", "6"),
    "docs": ("-c", "import mkdocs, mkdocstrings, material"),
    "hf": ("-c", "import transformers; transformers.ViTModel"),
    "imagenet": (*DRAW, "imagenet:efficientnet-lite0", "--class", "ostrich", "--steps", "1", "--n", "1"),
    "lora": ("-c", "import peft; peft.LoraConfig"),
    "onnx": ("-m", "bothways", "export", FLOW, "--to", "onnx", "--steps", "1", "--out", "exported"),
    "ode": ("-c", "import torchdiffeq; torchdiffeq.odeint"),
    "open-clip": ("-c", "import open_clip; open_clip.CLIP"),
    "probes": ("-c", "import sklearn.linear_model"),
    "serve": ("-c", "import bothways.serve.app, bothways.serve.metrics, uvicorn"),
    "studio": ("-c", "import bothways.studio.page, gradio"),
    "tensorboard": ("-c", "import torch.utils.tensorboard"),
    "timm": ("-c", "import timm; timm.create_model('resnet18')"),
    "video": ("-c", "import imageio_ffmpeg; imageio_ffmpeg.get_ffmpeg_exe()"),
    "wandb": ("-c", "import accelerate, wandb"),
}

# These import torchvision where it is there, and fail where it was built for another torch.
BY_TORCHVISION = [OF_EXTRA[name] for name in ("diffusers", "hf", "lora", "open-clip", "timm")]


def extras() -> list[str]:
    """Those of pyproject.toml, but for what is for developers."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [name for name in table["project"]["optional-dependencies"] if name != "dev"]


def commands(extra: str) -> list[tuple[str, ...]]:
    """What is tried of an environment with an extra, after its installation."""
    own = OF_EXTRA.values() if extra == "all" else [OF_EXTRA[extra]] if extra in OF_EXTRA else []
    return [*TRIES, *own]


def tried(wheel: Path, extra: str) -> tuple[bool, str]:
    """(whether all is well, what was found) of a clean environment with an extra. extra: a name, none or all."""
    chosen = {"none": "", "all": f"[{','.join(extras())}]"}.get(extra, f"[{extra}]")
    with tempfile.TemporaryDirectory() as kept:
        venv.create(f"{kept}/venv", with_pip=True)
        python = f"{kept}/venv/bin/python"
        install = ("-m", "pip", "install", "-q", "--no-input", "-c", str(ROOT / "constraints.txt"), f"{wheel}{chosen}")
        well = WELL
        for arguments in (install, *commands(extra)):
            found = run(python, arguments, kept)
            if found.returncode != 0 and arguments in BY_TORCHVISION and misfit(python, kept):
                well = f"{WELL}, {MISFIT}"
            elif found.returncode != 0:
                told = (found.stderr + found.stdout).strip().splitlines() or ["no word"]
                return False, f"{' '.join(arguments[:4])}: {told[-1]}"
    return True, well


def run(python: str, arguments: tuple[str, ...], place: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, *arguments], cwd=place, capture_output=True, text=True, check=False)


def misfit(python: str, place: str) -> bool:
    """Whether torchvision is there and cannot be imported, and bothways says so in one line."""
    if run(python, ("-c", "import importlib.util as i; assert i.find_spec('torchvision')"), place).returncode:
        return False
    if run(python, ("-c", "import torchvision"), place).returncode == 0:
        return False
    found = run(python, UNFIT, place)
    lines = [line for line in found.stderr.splitlines() if line.startswith("bothways: ")]
    return found.returncode == 2 and len(lines) == 1 and "does not fit torch" in lines[0]


def record(name: str, tried: int, found: str, good: bool) -> None:
    """Keep what an environment came to, for docs/reliability.md."""
    sys.path.insert(0, str(ROOT / "tests"))
    from reliability import record as kept

    row = {"part": "supply", "kind": "environment", "name": name, "tried": tried, "answered": found}
    kept([{**row, "broken": int(not good)}])


def main() -> None:
    whole = ["none", *extras(), "all"]
    given = argparse.ArgumentParser()
    given.add_argument("wheel", type=Path, nargs="?")
    given.add_argument("--extras", nargs="*", default=whole, choices=whole)
    given.add_argument("--record", action="store_true", help="keep what is found in benchmarks/results")
    given.add_argument("--list", action="store_true", help="print what --extras can be, and end")
    told = given.parse_args()
    if told.list:
        print(json.dumps(whole))
        return
    if told.wheel is None or not told.wheel.is_file():
        given.error(
            f"{told.wheel or 'WHEEL'} is not there; type the path of a wheel, such as make wheel writes to dist/"
        )
    failed = 0
    for extra in told.extras:
        good, found = tried(told.wheel.resolve(), extra)
        failed += not good
        print(f"{extra}: {found}", flush=True)
        if told.record:
            record(extra, len(commands(extra)), found, good)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
