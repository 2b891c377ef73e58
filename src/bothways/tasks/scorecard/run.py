"""A model's scorecard: which label-free quantities of it measure the distance from real pictures or point to them.

Real pictures -> corruptions -> quantities -> scorecard.json, one row after the other, so that a killed run goes on;
then a few pictures by recipe, with what the judges say of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bothways.data.corruptions import corrupt
from bothways.data.sources import load_images
from bothways.data.splits import held_out
from bothways.models.adapter import Adapter
from bothways.models.catalogue import kept_statistics
from bothways.models.loader import load_model
from bothways.numerics.draws import Draws, generator, picture_seed
from bothways.runs.files import plain, read_json, reason, write_json
from bothways.runs.provenance import versions
from bothways.synthesis.statistics import Spread, measure_spread
from bothways.tasks.scorecard.attempts import ATTEMPTS, Attempt, attempted, how_many
from bothways.tasks.scorecard.quantities import CONTROL, Condition, Quantity, chunks, label_free, score_quantity
from bothways.tasks.statistics.files import read_spread
from bothways.types import Frame, ModelSpec, RunError, UserError

FILE = "scorecard.json"
LEVELS = (0.05, 0.1, 0.2, 0.3, 0.5)  # of Gaussian noise, in units of the [0, 1] image
SPREAD_PICTURES = 2000  # other real ones that channel statistics are measured on
DAMAGE = {"blur 1.5": ("blur", 1.5), "grey": ("grey", 1.0), "shuffled": ("shuffled", 1.0)}


@dataclass(frozen=True)
class Scorecard:
    """What was found of one model. facts: model, data, settings, versions; a row a quantity and a row a recipe."""

    facts: dict[str, Any]
    quantities: list[dict[str, Any]]
    pictures: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """What ``scorecard.json`` holds: plain numbers, strings, lists and tables."""
        return plain({**self.facts, "quantities": self.quantities, "pictures": self.pictures})


# ---- what is measured, and on what ---------------------------------------------------------------------------------


def conditions() -> list[Condition]:
    """Gaussian noise, not clipped, at every level of LEVELS; then what DAMAGE lists."""

    def by(kind: str, level: float, clip: bool) -> Callable[[Tensor, Draws], Tensor]:
        return lambda images, draws: corrupt(images, kind, level, draws, clip=clip)

    noise = [Condition(f"noise {level:g}", by("noise", level, False), level) for level in LEVELS]
    return noise + [Condition(name, by(kind, level, True)) for name, (kind, level) in DAMAGE.items()]


@dataclass(frozen=True)
class RealPictures:
    """images (N,3,H,W) to be scored, others (M,3,H,W) for the spread of channel statistics, both in [0,1]."""

    images: Tensor
    others: Tensor
    source: str
    other_source: str


def real_pictures(data: str | Path, size: tuple[int, int], n: int, seed: int) -> RealPictures:
    """n pictures of the test split and others of the training split; of a single split, at most a half is scored."""
    if n < 2:
        raise UserError(f"--n {n}: intervals over pictures need two or more; type --n 200")
    split = held_out(data)
    if split == "test" and (Path(data) / "train.parquet").is_file():
        scored = load_images(data, split="test", size=size, limit=n).images
        others = load_images(data, split="train", size=size, limit=SPREAD_PICTURES).images
        sources = ("its test split", "its training split")
    else:
        found = load_images(data, split=split, size=size, limit=n + SPREAD_PICTURES).images
        order = torch.randperm(len(found), generator=generator(seed, purpose="halves"))
        half = min(n, len(found) // 2)
        scored, others = found[order[:half]], found[order[half:]]
        sources = ("a part of it", "the rest of it")
    if len(scored) < 2 or len(others) < 2:
        raise UserError(f"data {str(data)!r} holds too few pictures; a scorecard needs two to score and two others")
    return RealPictures(scored.float() / 255, others.float() / 255, *sources)


def channel_spread(model: Adapter, pictures: RealPictures) -> tuple[dict[str, Spread], str]:
    """The spread of the model's channel statistics over other real pictures, and which those were."""
    kept = read_spread(kept_statistics(model.name))
    if kept:
        found = {layer: Spread(*(part.to(model.device) for part in astuple(facts))) for layer, facts in kept.items()}
        return found, "training pictures, kept with the model"
    layers = model.statistics_layers()
    if not layers:
        return {}, "not measured: the model has no normalisation and no convolution"
    found = measure_spread(model, pictures.others.to(model.device), layers)
    return found, f"{len(pictures.others)} pictures of {pictures.other_source}"


# ---- the run -------------------------------------------------------------------------------------------------------


@dataclass
class Scoring:
    """A scorecard in the making: ``run`` measures, ``draw`` draws, ``card`` holds what is done so far."""

    model: Adapter
    images: Tensor
    quantities: list[Quantity]
    facts: dict[str, Any]
    data: str | Path
    attempts: tuple[Attempt, ...] = ()
    out: Path | None = None
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    drawn: dict[str, dict[str, Any]] = field(default_factory=dict)

    def unmeasured(self) -> list[Quantity]:
        return [quantity for quantity in self.quantities if quantity.name not in self.rows]

    def undrawn(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.name not in self.drawn]

    @property
    def steps(self) -> int:
        """How many frames ``run`` has still to yield."""
        return len(self.unmeasured()) * len(chunks(self.images)) * (1 + len(conditions()))

    def run(self) -> Iterator[Frame]:
        """Yield a frame after every chunk of pictures, numbered within its quantity; a finished quantity is saved."""
        seeds = [picture_seed(self.facts["settings"]["seed"], i) for i in range(len(self.images))]
        for quantity in self.unmeasured():
            began = time.monotonic()
            row: dict[str, Any] = {"name": quantity.name, "control": quantity.name == CONTROL}
            try:
                row |= (yield from score_quantity(quantity, self.images, conditions(), seeds))._asdict()
            except (UserError, RunError) as error:
                row["absent"] = str(error)
            self.rows[quantity.name] = row | {"seconds": time.monotonic() - began}
            self.save()

    def draw(self) -> Iterator[Frame]:
        """Yield a frame after every recipe, of ``len(undrawn())``; each is saved."""
        todo = self.undrawn()
        for step, attempt in enumerate(todo, start=1):
            self.drawn[attempt.name] = attempted(self.model, attempt, self.data, self.out, **self.facts["drawings"])
            self.save()
            yield Frame(step, step / len(todo))

    def card(self) -> Scorecard:
        """The rows that are finished, in the order of the quantities and of the recipes."""
        quantities = [self.rows[q.name] for q in self.quantities if q.name in self.rows]
        return Scorecard(self.facts, quantities, [self.drawn[a.name] for a in ATTEMPTS if a.name in self.drawn])

    def save(self) -> None:
        """Replace the file by what is done so far."""
        if self.out is not None:
            write_json(self.out / FILE, self.card().as_dict())


def prepare_scorecard(
    model: str | Path | nn.Module | Adapter,
    data: str | Path,
    *,
    spec: ModelSpec | None = None,
    weights: str | Path | None = None,
    device: str = "cpu",
    n: int = 200,
    seed: int = 0,
    out: str | Path | None = None,
    draw: bool = True,
    drawings: int | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> Scoring:
    """Everything of ``scorecard`` that can be refused, and the spread, before the first quantity is measured."""
    if not isinstance(model, Adapter):
        model = load_model(model, spec, weights=weights, device=device)
    pictures = real_pictures(data, (model.spec.height, model.spec.width), n, seed)
    spread, measured_on = channel_spread(model, pictures)
    quantities = label_free(model, spread, model.batch_norm_statistics())
    facts = {
        "model": _model_facts(model),
        "data": {"address": str(data), "scored": pictures.source, "pictures": len(pictures.images)}
        | {"spread": measured_on},
        "settings": {"n": n, "seed": seed},
        "drawings": {"n": drawings or how_many(model), "seed": seed},
        "versions": versions(),
    }
    attempts = ATTEMPTS if draw else ()
    scoring = Scoring(model, pictures.images.to(model.device), quantities, facts, data, attempts)
    return scoring if out is None else _in_folder(scoring, Path(out), overwrite, resume)


def _in_folder(scoring: Scoring, out: Path, overwrite: bool, resume: bool) -> Scoring:
    """Take up what an earlier run left, where that is wanted and it asked the same."""
    scoring.out, saved = out, read_json(out / FILE)
    if saved and not (resume or overwrite):
        raise UserError(f"{out / FILE} is there already; type --resume to go on with it, or another --out")
    if saved and resume:
        asked = plain(scoring.facts)
        for part in ("model", "data", "settings", "drawings"):
            if saved.get(part) != asked[part]:
                raise UserError(f"{out / FILE} was made with another {part}; type the same again, or another --out")
        scoring.rows, scoring.drawn = (
            {row["name"]: row for row in saved[part] if "absent" not in row} for part in ("quantities", "pictures")
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: {reason(error)}; choose a folder that can be written") from error
    scoring.save()
    return scoring


def _model_facts(model: Adapter) -> dict[str, Any]:
    spec = model.spec
    parameters = sum(value.numel() for value in model.module.parameters())
    facts = {"name": model.name, "size": [spec.height, spec.width], "classes": spec.count, "parameters": parameters}
    return {**facts, "feature_layer": spec.feature_layer, "source": spec.source, "licence": spec.licence}


def scorecard(
    model: str | Path | nn.Module | Adapter,
    data: str | Path,
    *,
    on_frame: Callable[[Frame], None] | None = None,
    **options: Any,
) -> Scorecard:
    """Measure every label-free quantity of a model on real pictures, and draw some by recipe.

    model: an address, an ``nn.Module`` with ``spec``, or what ``load_model`` gave. data: real pictures.
    options: n (200) pictures to score, seed (0), out (a folder; None writes nothing), draw (True), drawings (pictures
    of each recipe), overwrite, resume, spec, weights, device. on_frame: called after every chunk and every recipe.
    Raises UserError for what cannot be asked. A quantity or a recipe that the model cannot do has a row that says why.
    """
    scoring = prepare_scorecard(model, data, **options)
    for frames in (scoring.run(), scoring.draw()):
        for frame in frames:
            if on_frame is not None:
                on_frame(frame)
    return scoring.card()
