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
    "open_clip": ("-c", "import open_clip; open_clip.CLIP"),
    "probes": ("-c", "import sklearn.linear_model"),
    "serve": ("-c", "import bothways.serve.app, bothways.serve.metrics, uvicorn"),
    "studio": ("-c", "import bothways.studio.page, gradio"),
    "tensorboard": ("-c", "import torch.utils.tensorboard"),
    "timm": ("-c", "import timm; timm.create_model('resnet18')"),
    "video": ("-c", "import imageio_ffmpeg; imageio_ffmpeg.get_ffmpeg_exe()"),
    "wandb": ("-c", "import accelerate, wandb"),
}


def extras() -> list[str]:
    """Those of pyproject.toml, but for what is for developers."""
    table = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return [name for name in table["project"]["optional-dependencies"] if name != "dev"]


def commands(extra: str) -> list[tuple[str, ...]]:
    """What is tried of an environment with an extra, after its installation."""
    own = OF_EXTRA.values() if extra == "all" else [OF_EXTRA[extra]] if extra in OF_EXTRA else []
    return [*TRIES, *own]


def tried(wheel: Path, extra: str) -> str:
    """What fails of a clean environment with an extra; "" for nothing. extra: a name, none or all."""
    chosen = {"none": "", "all": f"[{','.join(extras())}]"}.get(extra, f"[{extra}]")
    with tempfile.TemporaryDirectory() as kept:
        venv.create(f"{kept}/venv", with_pip=True)
        python = f"{kept}/venv/bin/python"
        install = ("-m", "pip", "install", "-q", "--no-input", "-c", str(ROOT / "constraints.txt"), f"{wheel}{chosen}")
        for arguments in (install, *commands(extra)):
            found = subprocess.run([python, *arguments], cwd=kept, capture_output=True, text=True, check=False)
            if found.returncode != 0:
                told = (found.stderr + found.stdout).strip().splitlines() or ["no word"]
                return f"{' '.join(arguments[:4])}: {told[-1]}"
    return ""


def record(name: str, tried: int, fault: str, well: str) -> None:
    """Keep what an environment came to, for docs/reliability.md."""
    sys.path.insert(0, str(ROOT / "tests"))
    from reliability import record as kept

    row = {"part": "supply", "kind": "environment", "name": name, "tried": tried, "answered": fault or well}
    kept([{**row, "broken": int(bool(fault))}])


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
        fault = tried(told.wheel.resolve(), extra)
        failed += bool(fault)
        print(f"{extra}: {fault or WELL}", flush=True)
        if told.record:
            record(extra, len(commands(extra)), fault, WELL)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
