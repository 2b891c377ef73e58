"""The scorecard of a model: its label-free quantities, tested as distances from real pictures and by their gradients.

Real pictures -> corruptions -> quantities -> scorecard.json, saved row by row, so that a killed run can be resumed;
then a few pictures by recipe, with judge metrics.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from bothways.data.readers.fit import Size, size_of
from bothways.data.sources import load_images
from bothways.data.splits import evaluation_split, is_split
from bothways.judging.classes import check_target, outputs_of_labels
from bothways.models.adapter import Adapter
from bothways.models.catalogue import kept_with
from bothways.models.loader import load_model
from bothways.numerics.draws import generator, picture_seed
from bothways.runs.citations import cited
from bothways.runs.experiment import Experiment
from bothways.runs.files import plain, read_json, write_json
from bothways.runs.provenance import model_facts, versions
from bothways.synthesis.statistics import Spread, measure_spread
from bothways.tasks.held_out import tell_of_training
from bothways.tasks.measures import Measures
from bothways.tasks.scorecard.attempts import ATTEMPTS, Attempt, Source, attempt_row, pictures_per_recipe
from bothways.tasks.scorecard.config import ScorecardConfig
from bothways.tasks.scorecard.damage import conditions
from bothways.tasks.scorecard.quantities import (
    CONTROL,
    CONTROLS,
    Condition,
    Quantity,
    chunks,
    label_free_quantities,
    score_quantity,
)
from bothways.tasks.scorecard.result import Scorecard, ScorecardFile
from bothways.tasks.scorecard.stationarity import step_rows
from bothways.tasks.statistics.files import read_spread
from bothways.tasks.work import Grid, Where, Work
from bothways.types import Frame, RunError, UserError

FILE = "scorecard.json"
SPREAD_PICTURES = 2000  # other real pictures for the channel statistics


# ---- pictures ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RealPictures:
    """images (N,3,H,W) to score, others (M,3,H,W) for the spread of channel statistics, both in [0,1].

    labels: (N,) of the images, -1 if unknown; classes: their names.
    """

    images: Tensor
    others: Tensor
    source: str
    other_source: str
    labels: Tensor
    classes: tuple[str, ...]

    def outputs_of(self, model: Adapter) -> Tensor | None:
        """The model's output for each picture's label; None if it is not known, or not a class of the model."""
        if not model.spec.count or len(self.labels) == 0 or int(self.labels.min()) < 0:
            return None
        try:
            outputs, _ = outputs_of_labels(model.spec, model.name, self.classes, "the pictures")
        except UserError:
            return None
        return outputs[self.labels] if int(self.labels.max()) < len(outputs) else None


def real_pictures(data: str | Path, size: Size, n: int, seed: int, split: str | None = None) -> RealPictures:
    """n pictures of the test split and others of the training split; of a single split, at most a half is scored.

    split: that is scored, in place of the test split.
    """
    split = split or evaluation_split(data)
    if split != "train" and is_split(data, "train"):
        found = load_images(data, split=split, size=size, limit=n)
        scored, labels = found.images, found.labels
        others = load_images(data, split="train", size=size, limit=SPREAD_PICTURES).images
        sources = (f"its {split} split", "its training split")
    else:
        found = load_images(data, split=split, size=size, limit=n + SPREAD_PICTURES)
        order = torch.randperm(len(found), generator=generator(seed, purpose="halves"))
        half = min(n, len(found) // 2)
        scored, others, labels = found.images[order[:half]], found.images[order[half:]], found.labels[order[:half]]
        sources = ("a part of it", "the rest of it")
    if len(scored) < 2 or len(others) < 2:
        raise UserError(f"data {str(data)!r} holds too few pictures; a scorecard needs two to score and two others")
    return RealPictures(scored.float() / 255, others.float() / 255, *sources, labels, found.classes)


def channel_spread(model: Adapter, pictures: RealPictures) -> tuple[dict[str, Spread], str]:
    """The spread of the model's channel statistics over other real pictures, and a description of these."""
    stored = kept_with(model)
    kept = {} if "names" in stored else read_spread(stored)  # pictures of users, which may be among the scored ones
    if kept:
        found = {layer: Spread(*(part.to(model.device) for part in astuple(facts))) for layer, facts in kept.items()}
        return found, "training pictures, kept with the model"
    layers = model.statistics_layers()
    if not layers:
        return {}, "not measured: the model has no normalisation and no convolution"
    found = measure_spread(model, pictures.others.to(model.device), layers)
    return found, f"{len(pictures.others)} pictures of {pictures.other_source}"


# ---- the run -------------------------------------------------------------------------------------------------------


@final
@dataclass
class Scoring(Work):
    """A run of ``scorecard``. images: real pictures (N,3,H,W) to score, labels: the model's outputs for them, if known.

    rows, drawn: finished rows by name. step: finished rows of eq. 9 to eq. 10.
    """

    images: Tensor
    labels: Tensor | None
    quantities: list[Quantity]
    attempts: tuple[Attempt, ...]
    source: Source
    facts: dict[str, Any]
    experiment: Experiment
    conditions: list[Condition] = field(default_factory=conditions)
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    drawn: dict[str, dict[str, Any]] = field(default_factory=dict)
    step: list[dict[str, Any]] = field(default_factory=list)
    schema = Measures
    doing = "measuring"
    done_word = "measured"

    def unmeasured(self) -> list[Quantity]:
        return [quantity for quantity in self.quantities if quantity.name not in self.rows]

    def undrawn(self) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.name not in self.drawn]

    def _frames_of(self, quantities: int, attempts: int) -> int:
        return quantities * len(chunks(self.images)) * (1 + len(self.conditions)) + attempts

    @property
    def steps(self) -> int:
        return self._frames_of(len(self.quantities), len(self.attempts))

    @property
    def done(self) -> int:
        return self.steps - self._frames_of(len(self.unmeasured()), len(self.undrawn()))

    def frames(self) -> Iterator[Frame]:
        """Yield a frame after every chunk of pictures, numbered within its quantity, and after every recipe.

        Finished quantities and recipes are saved.
        """
        seeds = [picture_seed(self.source.seed, i) for i in range(len(self.images))]
        self.step = self.step or plain(step_rows(self.source.model, self.images, self.labels))
        for quantity in self.unmeasured():
            began = time.monotonic()
            row: dict[str, Any] = {"name": quantity.name, "control": quantity.name in CONTROLS}
            row |= {"beside": quantity.beside} if quantity.beside != CONTROL else {}
            try:
                row |= (yield from score_quantity(quantity, self.images, self.conditions, seeds))._asdict()
            except (UserError, RunError) as error:
                row["absent"] = str(error)
            self.rows[quantity.name] = plain(row | {"seconds": time.monotonic() - began})
            self.save()
        out = None if self.experiment.folder is None else self.experiment.folder.path
        todo = self.undrawn()
        for step, attempt in enumerate(todo, start=1):
            self.drawn[attempt.name] = plain(attempt_row(self.source, attempt, out))
            self.save()
            yield Frame(step, step / len(todo))

    def card(self) -> Scorecard:
        """The finished rows, in the order of the quantities and recipes."""
        quantities = [self.rows[q.name] for q in self.quantities if q.name in self.rows]
        pictures = [self.drawn[a.name] for a in ATTEMPTS if a.name in self.drawn]
        return Scorecard(**self.facts, quantities=quantities, pictures=pictures, step=self.step)

    def save(self) -> None:
        """Write the finished rows to the file."""
        if self.experiment.folder is not None:
            write_json(self.experiment.folder.path / FILE, self.card().as_dict())

    def measures(self) -> dict[str, Any]:
        return {"citations": cited("dsf", *(["frechet", "kernel"] if self.drawn else []))}

    def result(self, measures: dict[str, Any]) -> Scorecard:
        return self.card()

    def as_json(self, result: Scorecard) -> dict[str, Any]:
        return result.as_dict()

    def plan(self) -> str:
        measured = f"{len(self.quantities)} quantities would be measured on {len(self.images)} pictures"
        return f"{measured}, and {self.source.n} drawn by each of {len(self.attempts)} recipes"

    def summary(self, result: Scorecard, out: Path | None) -> Iterator[str | Grid]:
        yield quantity_grid(result)
        yield from map(step_line, result.step)
        yield from (f"{row['name']}: {row['absent']}" for row in result.quantities if row.get("absent"))

    def page(self, out: Path | None) -> Path | None:
        if out is None:
            return None
        from bothways.tasks.scorecard.section import write_scorecard

        return write_scorecard(out)


def step_line(row: dict[str, Any]) -> str:
    """A row of eq. 9 to eq. 10 in words."""
    value, low, high = row["cosine"]
    around = f" ({low:.4f} to {high:.4f})" if low is not None else ""
    return (
        f"cos(-theta, sum of gradients of {row['loss']}): {value:.4f}{around}; a random direction: {row['chance']:.4f}"
    )


def quantity_grid(card: Scorecard) -> Grid:
    """A short table of the quantities; the page has all columns."""
    rows: list[tuple[str, ...]] = []
    for row in card.quantities:
        if row.get("absent"):
            rows.append((row["name"], *"-----"))
            continue
        far = [row["auroc"][key][0] for key in ("noise 0.1", "noise 0.5", "blur 1.5")]
        values = [row["spearman"][0], *far, row["cosine"]["0.1"][0]]
        rows.append((row["name"], *("-" if value is None else f"{value:.2f}" for value in values)))
    caption = "Cosine with (clean - noisy); compare with the control."
    return Grid(("quantity", "Spearman", "noise .1", "noise .5", "blur", "cosine at .1"), rows, caption=caption)


def prepare(config: ScorecardConfig, where: Where) -> Scoring:
    """Prepare a run of ``scorecard`` and measure the spread. Raises UserError for invalid input."""
    every = conditions(config.damage)
    model = load_model(config.model, config.spec, weights=config.weights, device=config.device)
    check_target(model)
    tell_of_training(model.name, config.data, config.split or evaluation_split(config.data))
    pictures = real_pictures(config.data, size_of(model.spec), config.n, config.seed, config.split)
    spread, measured_on = channel_spread(model, pictures)
    quantities = label_free_quantities(model, spread, model.batch_norm_statistics())
    source = Source(model, config.data, config.drawings or pictures_per_recipe(model), config.seed)
    facts = {
        "model": _model_facts(model),
        "data": {"address": str(config.data), "scored": pictures.source, "pictures": len(pictures.images)}
        | {"spread": measured_on},
        "settings": {"n": config.n, "seed": config.seed},
        "drawings": {"n": source.n, "seed": config.seed},
        "versions": versions(),
    }
    settings = config.model_dump(exclude={"model", "spec", "draw"}) | {"drawings": source.n, "device": model.device}
    tables = {"settings": settings, "data": facts["data"], "model": model_facts(model) | facts["model"]}
    experiment = Experiment.begin("scorecard", tables, **where.as_options(), device=model.device)
    attempts = ATTEMPTS if config.draw else ()
    scoring = Scoring(
        pictures.images.to(model.device),
        pictures.outputs_of(model),
        quantities,
        attempts,
        source,
        facts,
        experiment,
        every,
    )
    if (folder := experiment.folder) is not None:
        saved = read_json(folder.path / FILE, ScorecardFile)
        scoring.rows, scoring.drawn = (
            {row["name"]: row for row in saved.get(part, []) if "absent" not in row}
            for part in ("quantities", "pictures")
        )
        scoring.step = saved.get("step", [])
        scoring.save()
    return scoring


def _model_facts(model: Adapter) -> dict[str, Any]:
    spec = model.spec
    parameters = sum(value.numel() for value in model.module.parameters())
    facts = {"name": model.name, "size": [spec.height, spec.width], "classes": spec.count, "parameters": parameters}
    return {**facts, "feature_layer": spec.feature_layer, "source": spec.source, "licence": spec.licence}
