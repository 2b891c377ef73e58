"""The audit of a classifier: portraits of its classes by some recipes, compared with real pictures.

OUT/RECIPE             run folders of the portraits, as ``bothways generate`` writes them
OUT/real, OUT/traits   the nearest real pictures; maps of the shared trait in each portrait
OUT/measures.json      {"audit": ...}, from which ``tasks/explain/section.py`` makes OUT/audit.html
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from bothways.brief import joined
from bothways.data.splits import evaluation_split
from bothways.judging.classes import check_target
from bothways.judging.judges import find_jury
from bothways.models.adapter import Adapter
from bothways.models.loader import load_model
from bothways.progress import counted
from bothways.runs import to_png
from bothways.runs.experiment import Experiment
from bothways.runs.files import plain, replace_file
from bothways.runs.provenance import model_facts
from bothways.tasks.explain import measures as measure
from bothways.tasks.explain.config import LARGE, SMALL, ExplainConfig, read_limits
from bothways.tasks.explain.entanglement import entanglement, independent, viewers
from bothways.tasks.explain.limits import exceeded_limits
from bothways.tasks.explain.real import real_pictures
from bothways.tasks.explain.result import AuditMeasures
from bothways.tasks.generate.config import PHOTOGRAPHS
from bothways.tasks.generate.drawing import Drawing
from bothways.tasks.generate.roles import find_classes
from bothways.tasks.held_out import tell_of_training
from bothways.tasks.pictures import Result
from bothways.tasks.shelf import work_of
from bothways.tasks.work import Grid, Where, Work
from bothways.types import Frame, RunError, UserError

SIDE_OF_DAS = 64  # side in pixels below which ``das``, tuned for large pictures, takes fewer and longer steps
DAS_OF_SMALL: dict[str, Any] = {"ascent.steps": 40, "ascent.rms": 0.08, "views.copies": 2}
CLASSES_AT_MOST = 20  # that are audited by default
CLASSES_AT_LEAST = 3  # a class is compared with the median class
REAL_FOLDER, TRAIT_FOLDER = "real", "traits"
PAIRS_SHOWN = 8


@final
@dataclass
class AuditWork(Work):
    """A run of ``explain``. labels: classes. real: real pictures. jury: viewers. drawings: {recipe: portraits}."""

    config: ExplainConfig
    model: Adapter
    labels: list[int]
    real: measure.LabelledPictures
    jury: list[Adapter]
    drawings: dict[str, Drawing]
    facts: dict[str, Any]
    experiment: Experiment
    drawn: dict[str, Result] = field(default_factory=dict)
    schema = AuditMeasures
    doing = "drawing"
    done_word = "drawn"

    @property
    def steps(self) -> int:
        return sum(drawing.steps for drawing in self.drawings.values())

    @property
    def done(self) -> int:
        return sum(drawing.done for drawing in self.drawings.values())

    def frames(self) -> Iterator[Frame]:
        """Yield a frame after every step of every batch, those of a recipe after those of the one before."""
        before = 0
        for recipe, drawing in self.drawings.items():
            with closing(drawing.run()) as frames:
                for frame in frames:
                    yield replace(frame, batch=before + frame.batch)
            before += len(drawing.batches())
            self.drawn[recipe] = drawing.finish()

    def measures(self) -> dict[str, Any]:
        found = plain({**self.facts, **self._measured()})
        papers = [entry for result in self.drawn.values() for entry in result.measures["citations"]]
        return {"audit": found, "citations": list(dict.fromkeys(papers))}

    def result(self, measures: dict[str, Any]) -> dict[str, Any]:
        return measures["audit"]

    def plan(self) -> str:
        by = joined(list(self.drawings))
        return f"{self.config.n} portraits of {len(self.labels)} classes would be drawn by {by}"

    def summary(self, result: dict[str, Any], out: Path | None) -> Iterator[str | Grid]:
        return audit_summary(result)

    def page(self, out: Path | None) -> Path | None:
        if out is None:
            return None
        from bothways.tasks.explain.section import write_audit

        return write_audit(out, hide_data=self.config.hide_data)

    def check(self, result: dict[str, Any], page: Path | None) -> None:
        exceeded = exceeded_limits(result, read_limits(self.config.fail_on or ()))
        if exceeded:
            raise RunError("; ".join(exceeded) + (f"; see {page}" if page is not None else ""))

    # ---- measures --------------------------------------------------------------------------------------------------

    def _measured(self) -> dict[str, Any]:
        drawn = measure.LabelledPictures(
            torch.cat([result.images for result in self.drawn.values()]),
            torch.cat([result.labels for result in self.drawn.values()]),
            tuple(recipe for recipe, result in self.drawn.items() for _ in range(len(result))),
        )
        records = [record | {"recipe": recipe} for recipe, r in self.drawn.items() for record in r.records]
        layers = measure.audit_layers(self.model)
        of_drawn, of_real = (measure.features_of(self.model, s.images, layers) for s in (drawn, self.real))
        of = measure.Compared(drawn, of_drawn, self.real, of_real, self.labels, layers)
        placed = measure.placed_layers(self.model, drawn.images[0], layers)
        classes = [
            self._class(of, label, facts, placed, records)
            for label, facts in counted(
                zip(self.labels, measure.consistency(of), strict=True), "traits of classes", len(self.labels)
            )
        ]
        return {
            "layers": layers,
            "worth_a_look": measure.WORTH_A_LOOK,
            "control": measure.control(of),
            "classes": classes,
            "entanglement": list(entanglement(self.model, self.jury, drawn, self.real, self.labels)),
        }

    def _class(
        self, of: measure.Compared, label: int, facts: dict[str, Any], placed: list[str], records: list[dict[str, Any]]
    ) -> dict[str, Any]:
        rows, features = of.drawn.rows(label), of.layers[-1]
        layer, trait = measure.strongest_trait(of, label, facts["by_layer"], placed)
        near = measure.nearest(of.of_drawn[features][rows], of.of_real[features])
        portraits = [self._portrait(int(row), records[row], own) for row, own in zip(rows, near, strict=True)]
        if layer in placed and self.experiment.folder is not None:
            maps = measure.trait_maps(self.model, of.drawn.images[rows], layer, trait)
            for row, portrait, where in zip(rows.tolist(), portraits, maps, strict=True):
                portrait["trait"] = self._kept(TRAIT_FOLDER, row, torch.cat([of.drawn.images[row], where[None]]))
        return {
            "name": self.model.spec.class_name(label),
            "label": label,
            "consistency": facts,
            "worth_a_look": facts["value"] > measure.WORTH_A_LOOK,
            "layer": layer,
            "gap": trait.gap,
            "spread": trait.spread,
            "accuracy": measure.accuracy(of.of_real["outputs"][of.real.rows(label)], label),
            "portraits": portraits,
        }

    def _portrait(self, row: int, record: dict[str, Any], near: tuple[int, float]) -> dict[str, Any]:
        place, cosine = near
        label = int(self.real.labels[place])
        found = {key: record[key] for key in ("recipe", "index", "class", "seed", "own_probability")}
        found |= {"number": row, "nearest": {"class": self.model.spec.class_name(label), "cosine": cosine}}
        if self.experiment.folder is not None:
            found |= {key: f"{record['recipe']}/{record[key]}" for key in ("file", "alpha")}
            found["nearest"]["file"] = self._kept(REAL_FOLDER, place, self.real.images[place])
        return found

    def _kept(self, folder: str, number: int, picture: Tensor) -> str:
        """Write a picture to the run folder, which has to be there, and return its name."""
        run = self.experiment.folder
        assert run is not None
        name = f"{folder}/{number:05d}.png"
        (run.path / folder).mkdir(exist_ok=True)
        replace_file(run.path / name, to_png(picture))
        return name


def audit_summary(found: dict[str, Any]) -> Iterator[str | Grid]:
    """A table with a row per class, highest consistency first, and a line for each of the clearest pairs."""
    rows: list[tuple[str, ...]] = []
    for own in sorted(found["classes"], key=lambda own: -own["consistency"]["value"]):
        facts, right = own["consistency"], own["accuracy"]
        bounds = f" ({facts['low']:.2f}-{facts['high']:.2f})" if facts["low"] is not None else ""
        flag = "worth a look" if own["worth_a_look"] else ""
        rows.append(
            (own["name"], f"{facts['value']:.2f}{bounds}", flag, f"{right['value']:.0%}", by_others(own, found))
        )
    yield Grid(
        ("class", "consistency (95 %)", "", "accuracy on real pictures", "portraits recognised by other models"),
        rows, "highest first",
    )  # fmt: skip
    pairs = [(viewer, pair) for viewer in found["entanglement"] for pair in viewer["pairs"]]
    for viewer, pair in sorted(pairs, key=lambda both: both[1]["p"])[:PAIRS_SHOWN]:
        by = "the model itself" if viewer["own"] else viewer["viewer"]
        share, real = pair["share"], pair["real_share"]
        yield f"{pair['seen']} in {share:.0%} of portraits of {pair['class']} ({real:.0%} of real ones), viewer: {by}"


def by_others(own: dict[str, Any], found: dict[str, Any]) -> str:
    """The mean share of a class's portraits that the other viewers recognise, in words; "" without such a viewer."""
    place = [one["label"] for one in found["classes"]].index(own["label"])
    shares = [viewer["recognised"][place] for viewer in found["entanglement"] if not viewer["own"]]
    known = [share["value"] for share in shares if share]
    return f"{sum(known) / len(known):.0%}" if known else ""


def prepare(config: ExplainConfig, where: Where) -> AuditWork:
    """Prepare a run of ``explain``. Raises UserError for invalid input, before a run folder is written."""
    model = load_model(config.model, config.spec, weights=config.weights, device=config.device, dtype=config.dtype)
    labels = audited_classes(model, config.classes)
    split = config.split or evaluation_split(config.data)
    tell_of_training(model.name, config.data, split)
    real, skipped = real_pictures(model, labels, config.data, split, config.real, config.preprocess)
    jury = viewers(independent(find_jury(model, config.judges), model))
    names, recipes = [model.spec.class_name(label) for label in labels], recipes_of(config, model)
    facts = {
        "data": {"address": str(config.data), "split": split, "skipped": skipped}
        | {"pictures": {name: len(real.rows(label)) for name, label in zip(names, labels, strict=True)}},
        "settings": {"n": config.n, "real": config.real, "seed": config.seed, "recipes": recipes},
    }
    settings = config.model_dump(exclude={"model", "spec", "hide_data", "fail_on"})
    settings |= {"classes": names, "recipes": recipes, "judges": [judge.name for judge in jury]}
    settings |= {"device": model.device, "dtype": model.dtype}
    drawings = {recipe: portraits(config, model, labels, recipe) for recipe in recipes}
    tables = {"settings": settings, "model": model_facts(model)}
    experiment = Experiment.begin("explain", tables, **where.as_options(), device=model.device)
    if where.out is not None:
        for recipe, drawing in drawings.items():
            drawing.begin(where.part(recipe))
    return AuditWork(config, model, labels, real, jury, drawings, facts, experiment)


def recipes_of(config: ExplainConfig, model: Adapter) -> list[str]:
    """The recipes of the portraits, by default those that suit the model."""
    large = min(model.spec.height, model.spec.width) >= PHOTOGRAPHS and model.head() is not None
    return list(dict.fromkeys(config.recipes or (LARGE if large else SMALL)))


def portraits(config: ExplainConfig, model: Adapter, labels: Sequence[int], recipe: str) -> Drawing:
    """The drawing of all portraits by a recipe, without a folder yet and without judges."""
    small = recipe == "das" and max(model.spec.height, model.spec.width) < SIDE_OF_DAS
    how = dict(DAS_OF_SMALL) if small else {}
    if config.steps is not None:
        how["ascent.steps"] = config.steps
    how |= {"models.device": model.device, "models.dtype": model.dtype, "judging.verdicts": False, "ascent.alpha": True}
    drawing = work_of(
        "generate", model, labels, n=config.n, recipe=recipe, seed=config.seed, data=config.data, **how
    )  # fmt: skip
    assert isinstance(drawing, Drawing)
    return drawing


def audited_classes(model: Adapter, classes: Sequence[str | int] | None) -> list[int]:
    """The numbers of the classes, by default all of the model. Raises UserError for too few or too many."""
    check_target(model)
    if classes is None and model.spec.count > CLASSES_AT_MOST:
        raise UserError(
            f"model {model.name!r} has {model.spec.count} classes; type some of them, such as "
            f"--classes {' '.join(repr(model.spec.class_name(i).split(',')[0]) for i in range(3))}"
        )
    labels = find_classes(model, list(range(model.spec.count)) if classes is None else classes)
    if model.spec.count < CLASSES_AT_LEAST:
        raise UserError(
            f"model {model.name!r} has {model.spec.count} classes, and an audit compares each class with the others; "
            f"type a model of {CLASSES_AT_LEAST} or more"
        )
    if len(labels) < CLASSES_AT_LEAST:
        raise UserError(f"an audit compares classes; type {CLASSES_AT_LEAST} or more after --classes")
    return labels
