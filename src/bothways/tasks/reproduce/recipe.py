"""The recipes of tables and figures: what a paper claims, the runs of both forms, and which measures the claims are of.

    [[run]]      name, form, task, seeds and settings by name; "@NAME" is the folder of an earlier run of the same seed,
                 "$NAME" an input that the user gives (--with NAME=ADDRESS)
    [[expect]]   claim, form, measure "RUN: PLACE", and minus or over a second one; paper and within, or above or below

``small_of = "NAME"`` takes the runs and claims of the small form from another recipe.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bothways import registry
from bothways.configs import Config, place_of
from bothways.reading import is_there, read_toml
from bothways.registry import nearest
from bothways.tasks.recipes import configure, recipe_folder
from bothways.tasks.reproduce.claims import Bounds
from bothways.types import UserError
from bothways.version import __version__

FOLDER = "reproduce"  # of the recipes
FORMS = ("full", "small")
PAPERS = {
    "DSF": "Your Discriminative Model is Secretly a Generative Model (submitted to ICLR 2026)",
    "DAS": "Direct Ascent Synthesis (arXiv 2502.07753)",
    "PRG": "Pretrained Reversible Generation (arXiv 2412.01787)",
}


class Part(BaseModel):
    """A table of a recipe; nothing besides what is named."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Form(Part):
    """What a form needs and takes.

    unlike: why its numbers cannot be set beside the paper's. absent: why there is no such form.
    """

    needs: str = ""
    takes: str = ""
    unlike: str = ""
    absent: str = ""


class Run(Part):
    """A run of a task with its settings by name, once a seed."""

    name: str
    form: Literal["full", "small", "both"] = "both"
    task: str
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1)
    settings: dict[str, Any] = Field({}, alias="with")


SHARES = ("hit_rate", "accuracy", "top1/value", "corruptions/mean/value")  # ends of the places of shares


class Expect(Part):
    """A claim on a measure of a run, or on its difference from another (minus) or the quotient of both (over).

    paper: the paper's number, and within: the difference from it that does not matter. above, below: of an order.
    """

    claim: str
    form: Literal["full", "small", "both"] = "both"
    measure: str
    minus: str = ""
    over: str = ""
    paper: float | None = None
    within: float | None = Field(None, ge=0)
    above: float | None = None
    below: float | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Expect:
        if self.minus and self.over:
            raise ValueError("minus and over contradict each other")
        if (self.paper is None) != (self.within is None):
            raise ValueError("paper needs within, the difference that does not matter, and within needs paper")
        if self.paper is not None and not (self.above is self.below is None):
            raise ValueError("a claim has a number of the paper or a bound, not both")
        return self

    @property
    def how(self) -> str:
        """The quantity: mean, share (a mean inside 0 and 1), difference or ratio."""
        if self.minus or self.over:
            return "difference" if self.minus else "ratio"
        return "share" if self.measure.endswith(SHARES) else "mean"

    @property
    def bounds(self) -> Bounds:
        return Bounds(self.paper, self.within, self.above, self.below)

    @property
    def references(self) -> list[tuple[str, str]]:
        """(run, place) of its one or two measures."""
        return [split_measure(text) for text in (self.measure, self.minus or self.over) if text]

    @property
    def claimed(self) -> str:
        """What is claimed, in words."""
        if self.paper is not None:
            return f"{self.paper:g} ± {self.within:g}"
        words = [
            f"{word} {value:g}" for word, value in (("above", self.above), ("below", self.below)) if value is not None
        ]
        return " and ".join(words) or "no number known here"


def split_measure(text: str) -> tuple[str, str]:
    """ "walked: classifier/accuracy" -> ("walked", "classifier/accuracy")."""
    run, _, place = text.partition(":")
    return run.strip(), place.strip()


class Recipe(Part):
    """A table or figure. where: which one it is in the paper. reading: which of several readings is run, and why."""

    task: Literal["reproduce"]
    title: str
    paper: Literal["DSF", "DAS", "PRG"]
    where: str
    reading: str = ""
    inputs: dict[str, str] = {}
    full: Form = Form()
    small: Form = Form()
    small_of: str = ""
    run: tuple[Run, ...] = ()
    expect: tuple[Expect, ...] = ()

    def form(self, form: str) -> Form:
        return self.full if form == "full" else self.small

    def runs(self, form: str) -> list[Run]:
        return [run for run in self.run if run.form in (form, "both")]

    def claims(self, form: str) -> list[Expect]:
        return [claim for claim in self.expect if claim.form in (form, "both")]


def names() -> list[str]:
    """The names of the recipes."""
    return [path.stem for path in sorted((recipe_folder() / FOLDER).glob("*.toml"))]


def read(name: str) -> Recipe:
    """A recipe by its name or the path of a .toml file. Raises UserError where it is none."""
    path = Path(name) if name.endswith(".toml") else recipe_folder() / FOLDER / f"{name}.toml"
    if not is_there(path):
        if name.endswith(".toml"):
            raise UserError(f"{path} is not there; type the path of a .toml file, or a name that --list has")
        raise UserError(f"no table or figure {name!r}; {nearest(name, names())}, or type bothways reproduce --list")
    try:
        recipe = Recipe(**read_toml(path))
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{path}: {'.'.join(map(str, first['loc'])) or 'recipe'}: {first['msg']}") from error
    if recipe.small_of:
        other = read(recipe.small_of)
        runs = tuple(run.model_copy(update={"form": "small"}) for run in other.runs("small"))
        claims = tuple(claim.model_copy(update={"form": "small"}) for claim in other.claims("small"))
        recipe = recipe.model_copy(update={"run": (*runs, *recipe.run), "expect": (*claims, *recipe.expect)})
    _check(recipe, path)
    return recipe


def _check(recipe: Recipe, path: Path) -> None:
    """Raise UserError for a claim or a reference to a run that is not there."""
    for form in FORMS:
        seen: dict[str, Run] = {}
        for run in recipe.runs(form):
            registry.check("task", run.task)
            for mark, known, what in (("@", set(seen), "an earlier run"), ("$", set(recipe.inputs), "an input")):
                for name in _marked(run.settings, mark):
                    if name not in known:
                        raise UserError(f"{path}: run {run.name!r} has {mark}{name}, which is not {what}")
                    _check_seeds(run, seen.get(name, run), path)
            if run.name in seen:
                raise UserError(f"{path}: two runs of the form {form} are called {run.name!r}")
            seen[run.name] = run
        for claim in recipe.claims(form):
            for name, place in claim.references:
                if name not in seen or not place:
                    raise UserError(f"{path}: {claim.measure!r} names no run of the form {form}; write RUN: PLACE")
                _check_seeds(seen[claim.references[0][0]], seen[name], path)


def _check_seeds(run: Run, other: Run, path: Path) -> None:
    """Raise UserError where another run lacks a seed of a run; one of a single seed stands beside all."""
    if len(other.seeds) > 1 and (lacking := sorted(set(run.seeds) - set(other.seeds))):
        raise UserError(f"{path}: {other.name!r} has no seed {lacking[0]} of {run.name!r}; give both the same seeds")


def _marked(value: Any, mark: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for one in value:
            yield from _marked(one, mark)
    elif isinstance(value, str) and value.startswith(mark):
        yield value[1:].split("/")[0]


# ---- the single runs -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Made:
    """A run with one seed. folder: its name, which depends on its settings. given: by name, for its Config."""

    name: str
    task: str
    seed: int
    folder: str
    given: dict[str, Any]


def made_of(recipe: Recipe, form: str, addresses: Mapping[str, str], device: str | None, base: Path) -> list[Made]:
    """The runs of a form in order, a seed each, their references as paths below ``base``.

    addresses: of the inputs. Raises UserError for an input that is missing, unknown or of the other form alone, and for
    invalid settings.
    """
    if unknown := sorted(set(addresses) - set(recipe.inputs)):
        known = f"type one of {', '.join(recipe.inputs)}" if recipe.inputs else "leave --with out"
        raise UserError(f"--with {unknown[0]}: it has no such input; {known}")
    taken = inputs_of(recipe, form)
    if idle := sorted(set(addresses) - set(taken)):
        other = " --full, or leave it out" if form == "small" else f" --with for {', '.join(taken)} alone"
        raise UserError(f"--with {idle[0]}: the {form} form does not take it; type{other}")
    found: dict[tuple[str, int], Made] = {}
    for run in recipe.runs(form):
        for name in _marked(run.settings, "$"):
            if name not in addresses:
                raise UserError(f"the {form} form needs {name}, {recipe.inputs[name]}; type --with {name}=ADDRESS")
        for seed in run.seeds:
            found[run.name, seed] = _made(run, seed, found, addresses, device, base)
    return list(found.values())


def _made(
    run: Run,
    seed: int,
    before: Mapping[tuple[str, int], Made],
    addresses: Mapping[str, str],
    device: str | None,
    base: Path,
) -> Made:
    kind: type[Config] = registry.find("task", run.task).factory

    def folder_of(name: str) -> str:
        own = before.get((name, seed)) or next(one for (other, _), one in before.items() if other == name)
        return own.folder

    def filled(value: Any, root: str) -> Any:
        if isinstance(value, list | tuple):
            return [filled(one, root) for one in value]
        if not isinstance(value, str) or value[:1] not in ("@", "$"):
            return value
        name, slash, rest = value[1:].partition("/")
        return (addresses[name] if value[0] == "$" else f"{root}{folder_of(name)}") + slash + rest

    settings = dict(run.settings)
    if "seed" in kind.model_fields and "seed" not in settings:
        settings["seed"] = seed
    if device is not None and (place := _device_of(kind)):
        settings.setdefault(place, device)
    text = json.dumps([__version__, run.task, {n: filled(v, "") for n, v in settings.items()}], sort_keys=True)
    folder = f"{run.task}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"
    given = {name: filled(value, f"{base.as_posix()}/") for name, value in settings.items()}
    configure(kind, **given)
    return Made(run.name, run.task, seed, folder, given)


def _device_of(kind: type[Config]) -> str:
    """The dotted name of the device of a task; "" where it has none."""
    try:
        return ".".join(place_of(kind, "device"))
    except UserError:
        return ""


def inputs_of(recipe: Recipe, form: str) -> list[str]:
    """The names of the inputs that the runs of a form take."""
    return list(dict.fromkeys(name for run in recipe.runs(form) for name in _marked(run.settings, "$")))
