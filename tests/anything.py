"""A strategy for every public function: arguments that are good, and arguments that are anything."""

from __future__ import annotations

import inspect
import os
import shutil
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any, get_args

import numpy as np
import torch
from hypothesis import strategies as some

import bothways
from bothways import ModelSpec, RunError, UserError, registry
from bothways.configs import Config, bare, kind_of, leaves
from bothways.numerics.draws import Draws
from golden_cases import soft, write_place
from small_flow import small_unet
from things import thing
from toy_model import seeded, spec

# ---- what is good ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stored:
    """A folder with models, pictures and runs, and what is loaded of them."""

    place: Path

    @classmethod
    def write(cls, place: Path) -> Stored:
        """All that a good argument names, below an empty folder."""
        write_place(place)
        bothways.finetune(
            str(place / "flow"), data=str(place / "split"), out=place / "tuned", train_steps=1, steps=1, kind="walked",
            batch=4, validation=4, workers=0, size=None,
        )  # fmt: skip
        return cls(place)

    def good(self, what: str, draw: Random) -> Any:
        """A good argument of a kind."""

        def at(name: str) -> str:
            return str(self.place / name)

        choices: dict[str, tuple[Callable[[], Any], ...]] = {
            "model": (toy, lambda: at("toy.py:build")),
            "flow": (flow, lambda: at("flow")),
            "run": (lambda: at("tuned"),),
            "data": (lambda: at("small"), lambda: at("split"), lambda: soft(4, 8, 1)),
            "small": (lambda: at("small"),),
            "labelled": (lambda: at("split"),),
            "photo": (lambda: at("photo.png"), lambda: soft(1, 16, 2)),
            "images": (lambda: soft(2, 16, 6),),
            "pictures": (lambda: soft(2, 8, 6),),
            "classes": (lambda: "dragon", lambda: [0, "anchor"]),
            "mask": (lambda: at("mask.png"),),
            "recipe": (lambda: at("training.toml"),),
            "cifar": (lambda: at("cifar"),),
            "command": (lambda: "pretrain", lambda: "finetune", lambda: "train"),
            "draws": (lambda: Draws(range(2)),),
            "task": (lambda: "generate", lambda: "likelihood", lambda: "evaluate"),
            "given": (lambda: {"data": at("small"), "steps": 1}, dict),
            "size": (lambda: 8, lambda: (8, 16)),
            "facts": (lambda: (0.5, 0.5, 0.5),),
        }
        return draw.choice(choices[what])()


@cache
def toy() -> Any:
    return bothways.load_model(seeded(), spec())


@cache
def flow() -> Any:
    return bothways.load_flow(small_unet(), ModelSpec(8, (0.5,) * 3, (0.5,) * 3, 0, path="linear", time_scale=1000.0))


# ---- the functions ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Arguments:
    """Of a public function. needed: {name: a kind of Stored.good, or "" where all good ones take too long}.

    small: settings that keep a good call short. called: the function, if it is not of the same name.
    """

    needed: Mapping[str, str]
    small: Mapping[str, Any] = field(default_factory=dict)
    called: Callable[..., Any] | None = None


DRAWN = {"steps": 1, "n": 1, "judges": [], "classes": "dragon"}
PHOTO = {"model": "model", "photo": "photo"}
TRAINED = {"workers": 0, "batch": 4, "validation": 4}


def _field(model: Any, draws: Any, images: Any, **options: Any) -> Any:
    return bothways.dsf(model, draws, **options)(images, torch.zeros(2))


def _objective(name: Any, **settings: Any) -> Any:
    """An objective of these settings, and a drawing by it."""
    made = registry.find("objective", name).factory(**settings)
    return bothways.generate(toy(), objective=made, **DRAWN)


ARGUMENTS: dict[str, Arguments] = {
    "ModelSpec": Arguments({"size": "size", "mean": "facts", "std": "facts", "classes": "classes"}),
    "RunError": Arguments({"told": "classes"}, called=lambda told: str(RunError(told))),
    "UserError": Arguments({"told": "classes"}, called=lambda told: str(UserError(told))),
    "accentuate": Arguments(PHOTO, {"steps": 1, "n": 1, "judges": []}),
    "curves": Arguments({"run": "run", "data": "labelled"}, {"limit": 4, "limit_long": 2, "steps": 1}),
    "decode": Arguments({"flow": "flow", "encoded": "pictures"}, {"steps": 1}),
    "demo": Arguments({"n": ""}),
    "diagnose": Arguments({"flow": "flow", "data": "small"}, {"n": 2, "steps": 1, "depths": [0.5], "trip_steps": [1]}),
    "dsf": Arguments({"model": "model", "draws": "draws", "images": "images"}, called=_field),
    "dsf_score": Arguments({"model": "model", "images": "images"}),
    "edit": Arguments(PHOTO, DRAWN),
    "encode": Arguments({"flow": "flow", "images": "pictures"}, {"steps": 1}),
    "evaluate": Arguments({"model": "model", "data": "labelled"}, {"limit": 4}),
    "explain": Arguments({"model": "model", "data": "labelled"}, {"n": 1, "steps": 1, "classes": ["anchor", "dragon"]}),
    "export": Arguments({"run": "run"}, {"steps": 1}),
    "features": Arguments({"flow": "flow", "data": "small"}, {"depth": 0.5, "kind": "walked", "steps": 1, "limit": 4,
                                                              "workers": 0, "probes": []}),
    "finetune": Arguments({"flow": "flow", "data": "labelled"}, {"train_steps": 1, "steps": 1, **TRAINED}),
    "generate": Arguments({"model": "model", "classes": "classes"}, {"steps": 1, "n": 1, "judges": []}),
    "inpaint": Arguments({**PHOTO, "mask": "mask"}, {"steps": 1, "n": 1, "judges": []}),
    "invert": Arguments(PHOTO, {"steps": 1, "n": 1, "judges": []}),
    "latents": Arguments({"flow": "flow", "data": "small"}, {"workers": 0, "limit": 2}),
    "layers": Arguments({"model": "model"}),
    "likelihood": Arguments({"flow": "flow", "data": "small"}, {"limit": 1, "steps": 1, "divergence": "hutchinson"}),
    "load_classifier": Arguments({"run": "run"}),
    "load_flow": Arguments({"flow": "flow"}),
    "load_images": Arguments({"address": "data"}),
    "load_model": Arguments({"model": "model"}),
    "objectives": Arguments({"name": ""}, called=_objective),
    "open_images": Arguments({"address": "data"}),
    "plan": Arguments({"command": "command", "given": "given"}),
    "predict": Arguments({"model": "model", "images": "images"}),
    "pretrain": Arguments({"data": "small"}, {"net": "unet-tiny", "fit.steps": 1, **TRAINED}),
    "recipes": Arguments({"task": "task"}),
    "reproduce": Arguments({"name": ""}),
    "sample": Arguments({"flow": "flow"}, {"n": 1, "steps": 1}),
    "scorecard": Arguments({"model": "model", "data": "small"}, {"n": 2, "draw": False}),
    "spectrum": Arguments({"data": "data"}, {"limit": 4}),
    "statistics": Arguments({"model": "model", "data": "labelled"}, {"limit": 4, "rank": 2}),
    "style": Arguments({**PHOTO, "style": "photo"}, {"steps": 1, "n": 1, "judges": []}),
    "sweep": Arguments({"task": "task", "flow": "flow", "over": "given"}, {"data": "small"}),
    "train": Arguments({"recipe": "recipe", "data": "cifar"}, {"epochs": 1, "workers": 0}),
    "walk": Arguments({"flow": "flow", "photo": "photo"}, {"steps": 1}),
}  # fmt: skip
# What a function gives, made by the package alone, and a text.
GIVEN = ("Diagnosis", "EncodedLatents", "ExportedFiles", "FeatureTables", "Finetuned", "Frame", "Likelihood", "Plan",
         "Prediction", "Pretrained", "Result", "Scorecard", "Spectrum", "Statistics", "Trained", "Walked",
         "__version__")  # fmt: skip

# Settings of which a great number takes time and nothing else, or that start processes or a compiler.
LONG = ("steps", "epochs", "train_steps", "probes", "draws", "trip_steps", "offset_steps", "drawings", "copies")
NEVER = ("workers", "compile", "device", "probe", "to", "verdicts", "full", "tolerance")


def settings_of(name: str) -> dict[str, Any]:
    """{setting: its type} of a public function."""
    if name in registry.names("task"):
        kind: type[Config] = registry.find("task", name).factory
        places = {".".join(place): found for place, found in leaves(kind)}
        return places | dict.fromkeys(("out", "overwrite", "resume", "on_frame", "callbacks"))
    if name == "objectives":
        return {}
    call = bothways.dsf_score if name == "dsf" else getattr(bothways, name)
    if name in ("RunError", "UserError"):
        return {}
    own = [one for one in inspect.signature(call).parameters.values() if one.kind is not one.VAR_KEYWORD]
    return {one.name: None for one in own if one.kind is not one.VAR_POSITIONAL and one.default is not one.empty}


def _set(name: str, info: Any, draw: Random) -> Any:
    """A value of a setting: one of its choices, or anything."""
    last = name.rpartition(".")[2]
    if info is not None and draw.randrange(2):
        if kind := kind_of(info):
            return draw.choice(registry.names(kind))
        if texts := [one for one in get_args(bare(info.annotation)) if isinstance(one, str)]:
            return draw.choice(texts)
    value = thing(draw)
    if last in LONG and isinstance(value, int | float) and value > 3:
        return 3
    return value


def drawn(name: str, stored: Stored, draw: Random) -> tuple[str, Callable[[], Any]]:
    """(how it is written, a call of a public function), of which about every other argument is good."""
    of = ARGUMENTS[name]
    wrong = draw.randrange(2)  # in every other call: what is looked at first hides what is wrong in the settings
    needed = {key: thing(draw) if not kind or (wrong and draw.randrange(2)) else stored.good(kind, draw)
              for key, kind in of.needed.items()}  # fmt: skip
    call = of.called or getattr(bothways, name)
    if name == "objectives":
        needed["name"] = draw.choice(registry.names("objective"))
        kind = registry.find("objective", needed["name"]).factory
        known: dict[str, Any] = dict(kind.model_fields)
    else:
        known = settings_of(name)
    if name == "demo":  # a good one takes minutes
        needed["n"] = draw.choice((0, -1, 0.5, "x", [], float("nan")))
    free = sorted(key for key in known if key not in needed and key.rpartition(".")[2] not in NEVER)
    chosen = draw.sample(free, min(len(free), draw.randrange(3)))
    given = {**of.small, **needed}
    for key in chosen:
        given = {k: v for k, v in given.items() if k != key.rpartition(".")[2]} | {key: _set(key, known[key], draw)}
    if name == "sweep":
        given["flow"], given["data"] = stored.good("flow", draw), stored.good("small", draw)
        given |= {"limit": 1, "steps": 1, "task": given["task"] if draw.randrange(2) else "likelihood"}
        if draw.randrange(2):
            given["over"] = {"seed": thing(draw)}
    told = ", ".join(f"{key}={_told(value)}" for key, value in given.items())
    return f"{name}({told})", partial(call, **given)


def _told(value: Any) -> str:
    if isinstance(value, torch.Tensor | np.ndarray):
        return f"<{type(value).__name__} {tuple(value.shape)} {value.dtype} {value.reshape(-1)[:1].tolist()}>"
    return repr(value)[:80]


# ---- what comes of it ------------------------------------------------------------------------------------------------


def answer(told: str, call: Callable[[], Any], stored: Stored) -> str:
    """ "result" or "line" of a call in a new folder. Raises AssertionError, with the call, for anything else."""
    here = stored.place / "here"
    shutil.rmtree(here, ignore_errors=True)
    here.mkdir()
    os.environ["XDG_CACHE_HOME"] = str(here / "cache")
    before = set(_files(stored.place, here))
    with chdir(here), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            call()
            found, line, error = "result", "a result", None
        except (UserError, RunError) as one:
            found, line, error = "line", str(one), one
        except Exception as one:
            raise AssertionError(f"{told}: {type(one).__name__}: {str(one)[:300]}{_where(one)}") from one
    assert line, f"{told}: an error without a text{_where(error)}"
    assert "\n" not in line, f"{told}: several lines: {line[:300]!r}{_where(error)}"
    assert len(line) < 600, f"{told}: {len(line)} characters: {line[:200]}{_where(error)}"
    assert set(_files(stored.place, here)) == before, f"{told}: something was written outside the folder"
    return found


def _where(error: BaseException | None) -> str:
    """The last places of the package that it came through."""
    frames = [one for one in traceback.extract_tb(error and error.__traceback__) if "/bothways/" in one.filename]
    return "".join(f" < {one.filename.rpartition('/bothways/')[2]}:{one.lineno}" for one in reversed(frames[-3:]))


def _files(place: Path, here: Path) -> Iterator[tuple[Path, int, int]]:
    for one in place.iterdir():
        for file in [one, *one.rglob("*")] if one != here else []:
            stat = file.lstat()
            yield file, stat.st_size, 0 if file.is_dir() else stat.st_mtime_ns


def calls(name: str, stored: Stored) -> some.SearchStrategy[tuple[str, Callable[[], Any]]]:
    """The strategy of a public function: (how it is written, the call)."""
    return some.randoms(use_true_random=False).map(partial(drawn, name, stored))
