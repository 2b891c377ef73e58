"""Damaged files by the thousand, and what a user's own file may do: how many give a result, how many one line.

    PYTHONPATH=tests python benchmarks/torture/inputs.py [--pictures 5000] [--weights 2000] [--tables 2000]
        [--recipes 1000] [--cards 1000] [--runs 1000] [--hubs 400] [--models 200] [--names 500]
        [--anything 4000] [--first 0] [--only KIND ...]

pictures, weights, tables   encoded pictures, safetensors and parquet files (tests/mutated.py)
recipes, cards, runs        a recipe, a flow.json, any file of a run folder: another value inside, a key less, torn, a
                            pipe, an endless device, a folder, a circle of links, 3 TB (tests/hostile.py)
hubs                        the same for a folder of transformers, timm or diffusers; weights that are a pickle
models                      functions of a user's file that raise, leave, or return something else
anything                    the public functions in turn, each with arguments that are good or anything
                            (tests/anything.py)
names                       paths with a newline, markup, an escape, a NUL, 300 characters, bytes that are no UTF-8

Every file is a function of its number. Each is read in turn in a child process with limits on its time and memory; a
number whose file hangs, takes too much, or raises anything but one line is printed as "broken", and the child goes on
with the next. The figures go to benchmarks/results/torture.jsonl and docs/reliability.md; the exit code is 1 where one
is broken.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import sys
import tempfile
import tomllib
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

import torch

from anything import ARGUMENTS, Stored, answer, drawn
from bothways import budget, load_classifier, load_flow, load_images, load_model, registry
from bothways.data.readers.decoding import decode_image
from bothways.models.classifiers import trained_on
from bothways.models.weights import load_weights
from bothways.report import write_report
from bothways.runs import RunFolder, from_png
from bothways.tasks.pretrain import run as pretrain
from bothways.tasks.recipes import configure
from golden_cases import Made
from guard import BrokenError, guarded, outcome
from hostile import IN_PLACE, rewritten
from latent_flows import latent_unet
from mutated import mutated_parquet, mutated_picture, mutated_weights
from reliability import record
from small_flow import write_small_flow
from toy_model import seeded
from zoo import ZOO, need

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
TOGETHER = 50  # files of a child
SECONDS, MEGABYTES = 20, 1_100  # of a child
SLOW = {"hubs": 10, "anything": 20}  # files of a child, where reading one takes long


def picture(number: int, folder: Path) -> str:
    suffix, content = mutated_picture(number)
    found = outcome(lambda: decode_image(content))
    outcome(lambda: from_png(content))
    return f"{found} {suffix}"


def weights(number: int, folder: Path) -> str:
    module, file = seeded(), folder / "mine.safetensors"
    file.write_bytes(mutated_weights(number, {k: v.contiguous() for k, v in module.state_dict().items()}))
    found = outcome(lambda: load_weights(module, file), str(file))
    broken = [name for name, value in module.state_dict().items() if not bool(value.isfinite().all())]
    if broken:
        raise AssertionError(f"{broken[0]} was loaded and is not finite")
    return found


def table(number: int, folder: Path) -> str:
    file = folder / "mine.parquet"
    mutated_parquet(number, file)
    return outcome(lambda: load_images(file, size=8), str(file))


def changed(file: Path, number: int) -> None:
    """Another value, or something else in its place, as the number has it."""
    draw = Random(number)
    inside = file.suffix in (".toml", ".json", ".jsonl") and draw.random() < 0.7
    (rewritten if inside else draw.choice(IN_PLACE))(file, draw)


def fresh(folder: Path) -> Path:
    place = folder / "place"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    return place


def recipe(number: int, folder: Path) -> str:
    whole = sorted(RECIPES.glob("*.toml"))
    file = fresh(folder) / "mine.toml"
    shutil.copyfile(whole[number % len(whole)], file)
    kind: Any = registry.find("task", tomllib.loads(file.read_text())["task"]).factory
    needed = {name: "x" for name, field in kind.model_fields.items() if field.is_required() and name != "recipe"}
    changed(file, number)
    return outcome(lambda: configure(kind, recipe=str(file), **needed))


def card(number: int, folder: Path) -> str:
    place = write_small_flow(fresh(folder) / "flow")
    changed(place / "flow.json", number)
    found = outcome(lambda: load_flow(str(place)))
    outcome(lambda: trained_on(str(place)))
    return found


RUNS = ("das-judge", "evaluate", "pretrain-otcfm", "finetune-walked", "features", "likelihood", "explain", "style")
READERS: dict[str, Callable[[str], object]] = {"pretrain-otcfm": load_flow, "finetune-walked": load_classifier}


@cache
def whole_runs() -> list[Path]:
    """A run of every shape, which the parent has made."""
    made = Made(Path(tempfile.mkdtemp(prefix="runs-", dir=os.environ["TORTURE_PLACE"])))
    return [made.folder(name) for name in RUNS]


def run_folder(number: int, folder: Path) -> str:
    whole = whole_runs()[number % len(RUNS)]
    files = [file for file in sorted(whole.rglob("*")) if file.is_file()]
    file, place = files[number // len(RUNS) % len(files)], fresh(folder) / "run"
    shutil.copytree(whole, place, copy_function=os.link)
    mine = place / file.relative_to(whole)
    mine.unlink()
    shutil.copyfile(file, mine)
    changed(mine, number)
    before = outside(folder, place)
    found = outcome(lambda: write_report([place], place / "report.html"), place.name)
    outcome(lambda: READERS.get(whole.name, RunFolder.open)(str(place)))
    if outside(folder, place) != before:
        raise AssertionError("something was written outside the run folder")
    return found


def outside(folder: Path, place: Path) -> set[str]:
    return {file.as_posix() for file in folder.rglob("*") if not file.is_relative_to(place)}


BODIES = (  # of a function that should build a model
    "return {}['size']", "return [][3]", "raise OSError('first\\nsecond\\x1b[31m')", "import sys; sys.exit()",
    "import sys; sys.exit('bye')", "return None", "return 'a text'", "return 3, 4", "return torch.nn.Identity()",
    "return torch.nn.Identity(), None", "return torch.nn.Identity(), {'size': 'x'}",
    "return torch.nn.Identity(), ModelSpec(8, .5, .5, 3)", "return torch.nn.Linear(3, 3), ModelSpec(8, .5, .5, 3)",
    "return torch.nn.Flatten(), ModelSpec(8, .5, .5, 192)", "return None, ModelSpec(8, .5, .5, 3)",
    "return torch.nn.Flatten(), ModelSpec(8, .5, .5, 5)", "return torch.nn.Flatten(), ModelSpec(10**9, .5, .5, 5)",
    "def build(): build()\n    build()", "raise MemoryError", "raise StopIteration", "assert False",
    "class Own(torch.nn.Module):\n        def forward(self, x): return [x]\n    return Own(), ModelSpec(8, .5, .5, 3)",
    "class Own(torch.nn.Module):\n        def forward(self): return 1\n    return Own(), ModelSpec(8, .5, .5, 3)",
    "class Own(torch.nn.Module):\n        def forward(self, x): return x.sum()\n    return Own(), "
    "ModelSpec(8, .5, .5, 3)",
    "class Own(torch.nn.Module):\n        def forward(self, x): return x.flatten(1)[:, :3] / 0 * 0\n    return Own(), "
    "ModelSpec(8, .5, .5, 3)",
)  # fmt: skip
DOORS = (load_model, load_flow, load_classifier)


def model(number: int, folder: Path) -> str:
    file = fresh(folder) / f"mine{number}.py"
    body = BODIES[number % len(BODIES)]
    head = "import torch\nfrom bothways import ModelSpec\n\n\ndef build():\n"
    text = f"{head}    {body}\n"
    if number >= 2 * len(BODIES):  # bytes that are other than they were
        content = bytearray(text.encode())
        draw = Random(number)
        for _ in range(draw.randrange(1, 4)):
            content[draw.randrange(len(content))] = draw.randrange(256)
        file.write_bytes(content)
    else:
        file.write_text(text)
    return outcome(lambda: DOORS[number // len(BODIES) % 2](f"{file}:build"))


HUBS = (("resnet", load_model), ("timm", load_model), ("clip", load_model), ("diffusers", load_flow))
LARGER = 10_000  # times: a number of a config that asks for more memory than there is


class Evil:
    """An object that writes a file where it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return Path.touch, (self.file,)


@cache
def whole_hubs() -> dict[str, str]:
    """{kind: address} of a small model of each library in the layout of the hub, which the parent has made."""
    above = Path(tempfile.mkdtemp(prefix="hubs-", dir=os.environ["TORTURE_PLACE"]))
    found = {kind: ZOO[kind](above / kind) for kind, _ in HUBS if kind in ZOO}
    found["diffusers"] = f"diffusers:{latent_unet(above / 'diffusers')}"
    for kind, load in HUBS:
        load(found[kind])  # what it imports, its forks have then
    return found


def hub(number: int, folder: Path) -> str:
    """A file of a folder changed, weights that are a pickle, a link out of it, or a number that is far too large."""
    draw, (kind, load) = Random(number), HUBS[number % len(HUBS)]
    address, mark = whole_hubs()[kind], folder / "unpickled"
    whole, place = Path(address.rpartition(":")[2]), fresh(folder) / "hub"
    shutil.copytree(whole, place)
    file = draw.choice([file for file in sorted(place.rglob("*")) if file.is_file()])
    way = draw.random()
    if file.suffix == ".safetensors" and way < 0.4:
        torn = file.with_name(draw.choice((file.name, "pytorch_model.bin", "diffusion_pytorch_model.bin")))
        file.unlink()
        torch.save({"weight": Evil(mark)}, torn)
    elif file.suffix == ".json" and way < 0.3:
        times = draw.randrange(9)
        file.write_text(
            re.sub(r"\b([1-9]\d*)\b", lambda found: str(int(found[1]) * LARGER), file.read_text(), count=times)
        )
    elif way < 0.4:
        file.rename(folder / "outside")
        file.symlink_to(folder / "outside")
    else:
        changed(file, number)
    found = outcome(lambda: load(address.replace(str(whole), str(place))))
    if mark.exists():
        raise AssertionError("a pickle ran")
    return found


PARTS = (
    "a\nb", "<script>alert(1)</script>", "\x1b[31mred", "n" * 300, "a\0b", "\udcff\udcfe", "..", "../../etc",
    "~", "$HOME",    "a" * 255, "-rf", "*", "%s%n", "\u202etxt", "\ud800", "CON", " ", ".", "",
)  # fmt: skip


def name(number: int, folder: Path) -> str:
    draw, place = Random(number), fresh(folder)
    path = str(
        place
        / (
            draw.choice(("", "x", "x/y"))
            + draw.choice(PARTS)
            + draw.choice(("", ".png", ".json", ".toml", ".parquet", ".py:build"))
        )
    )
    door: Callable[[str], object] = draw.choice(
        (load_images, load_model, load_flow, load_classifier, RunFolder.open, trained_on,
         lambda given: write_report([given], place / "report.html"),
         lambda given: configure(registry.find("task", "generate").factory, model="x", recipe=given))
    )  # fmt: skip
    return outcome(lambda: door(path))


@cache
def whole_place() -> Stored:
    """Models, pictures and a run that good arguments name, which the parent has made."""
    return Stored.write(Path(tempfile.mkdtemp(prefix="anything-", dir=os.environ["TORTURE_PLACE"])))


def anything(number: int, folder: Path) -> str:
    names = sorted(ARGUMENTS)
    pretrain.SAMPLE_STEPS = 2  # in this child: of more steps the time, not the outcome
    return answer(*drawn(names[number % len(names)], whole_place(), Random(number)), whole_place())


KINDS: dict[str, tuple[Callable[[int, Path], str], int]] = {
    "pictures": (picture, 5_000),
    "weights": (weights, 2_000),
    "tables": (table, 2_000),
    "recipes": (recipe, 1_000),
    "cards": (card, 1_000),
    "runs": (run_folder, 1_000),
    "hubs": (hub, 400),
    "models": (model, 200),
    "anything": (anything, 4_000),
    "names": (name, 500),
}


def several(read: Callable[[int, Path], str], numbers: range, folder: Path) -> list[tuple[int, str]]:
    """(number, outcome) of each, in this process."""
    warnings.simplefilter("ignore")
    if read is not anything:  # what bounds a file is the file, however much is free
        budget.free_memory = lambda device="cpu": float("inf")
    return [(number, _one(read, number, folder)) for number in numbers]


def _one(read: Callable[[int, Path], str], number: int, folder: Path) -> str:
    try:
        return read(number, folder)
    except Exception as error:
        return f"broken: {type(error).__name__}: {' '.join(str(error).split())[:300]}"


def outcomes(
    read: Callable[[int, Path], str], first: int, count: int, folder: Path, together: int = TOGETHER
) -> dict[int, str]:
    found: dict[int, str] = {}
    for start in range(first, first + count, together):
        numbers = range(start, min(start + together, first + count))
        try:
            found |= dict(guarded(partial(several, read, numbers, folder), seconds=SECONDS, megabytes=MEGABYTES))
        except BrokenError:  # one of them: each in a child of its own
            for number in numbers:
                try:
                    call: Any = partial(several, read, range(number, number + 1), folder)
                    found |= dict(guarded(call, seconds=SECONDS, megabytes=MEGABYTES))
                except BrokenError as error:
                    found[number] = f"broken: {error}"
    return found


def main() -> int:
    typed = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for kind, (_, usual) in KINDS.items():
        typed.add_argument(f"--{kind}", type=int, default=usual, help=f"how many {kind} (default {usual:,})")
    typed.add_argument("--first", type=int, default=0, help="the first number")
    typed.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), help="these alone (default: all)")
    given = typed.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as place:
        os.environ["TORTURE_PLACE"] = place
        if "anything" in given.only:
            whole_place()
        if "hubs" in given.only:
            need("timm")
            whole_hubs()
        if "runs" in given.only:
            with redirect_stdout(io.StringIO()):
                whole_runs()
        for kind in given.only:
            count, own = getattr(given, kind), Path(place) / kind
            own.mkdir()
            found = outcomes(KINDS[kind][0], given.first, count, own, SLOW.get(kind, TOGETHER))
            counts = Counter(text.partition(" ")[0].rstrip(":") for text in found.values())
            told = ", ".join(f"{counts[name]:,} {name}" for name in ("result", "line", "broken"))
            print(f"{kind}: {count:,} files: {told}", flush=True)
            for number, text in found.items():
                if text.startswith("broken"):
                    print(f"  {kind} {number}: {text}")
            bad += counts["broken"]
            facts = {name: counts[name] for name in ("result", "line", "broken")}
            record([{"part": "inputs", "kind": "files", "name": kind, "first": given.first, "tried": count, **facts}])
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
