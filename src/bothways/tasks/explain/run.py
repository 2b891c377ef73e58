"""The audit of a classifier: portraits of its classes by two recipes, and what they say that the data do not.

OUT/icons, OUT/das     run folders of the portraits, as ``bothways generate`` writes them
OUT/real, OUT/traits   the nearest real pictures; where in each portrait that is which it shares with the others
OUT/measures.json      {"audit": ...}, from which ``tasks/explain/section.py`` makes OUT/audit.html
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bothways.data.sources import decoded, find_images
from bothways.data.splits import held_out
from bothways.judging.classes import outputs_of_labels
from bothways.judging.judges import find_jury
from bothways.models.adapter import Adapter
from bothways.models.loader import load_model
from bothways.runs import RunFolder, to_png
from bothways.runs.experiment import ending
from bothways.runs.files import plain, replace_file
from bothways.runs.provenance import peak_memory, versions
from bothways.tasks.demo.run import LIGHTER
from bothways.tasks.explain import measures as measure
from bothways.tasks.explain.entanglement import entanglement, viewers
from bothways.tasks.generate.drawing import Drawing
from bothways.tasks.generate.roles import find_classes
from bothways.tasks.generate.run import conclude, in_folder, prepare
from bothways.tasks.pictures import Result
from bothways.types import Frame, ModelSpec, UserError

RECIPES = ("icons", "das")
SMALL = 64  # pixels of a side under which ``das``, made for large pictures, takes the demo's longer steps
OF_SMALL = LIGHTER["das"]
CLASSES_AT_MOST = 20  # that are audited without being asked for
CLASSES_AT_LEAST = 3  # a class is held to the median of the others
PORTRAITS, REAL, REAL_AT_LEAST = 6, 100, 10
REAL_FOLDER, TRAIT_FOLDER = "real", "traits"
OWN = (f"{REAL_FOLDER}/*.png", f"{TRAIT_FOLDER}/*.png", "audit.html")


@dataclass
class Audit:
    """``run`` draws and yields frames, ``finish`` measures and gives measures["audit"]."""

    model: Adapter
    labels: list[int]
    real: measure.Shown
    jury: list[Adapter]
    drawings: dict[str, Drawing]
    facts: dict[str, Any]
    folder: RunFolder | None = None
    seconds: float = 0.0
    drawn: dict[str, Result] = field(default_factory=dict)

    @property
    def steps(self) -> int:
        """How many frames ``run`` yields at most."""
        return sum(drawing.settings.steps * len(drawing.batches()) for drawing in self.drawings.values())

    def run(self) -> Generator[Frame, None, None]:
        """Yield a frame after every step of every portrait. However it ends, the folder is left whole."""
        began = time.monotonic()
        with ending(self.folder, lambda: self._cost(began)):
            for recipe, drawing in self.drawings.items():
                with closing(drawing.run()) as frames:
                    for _, frame in frames:
                        yield frame
                self.drawn[recipe] = conclude(drawing)
        self.seconds += time.monotonic() - began

    def finish(self) -> dict[str, Any]:
        """Measure what was drawn, and keep it; what no number can be had for is None, as in measures.json."""
        began = time.monotonic()
        try:
            found = plain({**self.facts, **self._measured()})
        except BaseException as error:
            if self.folder is not None:
                state = "failed" if isinstance(error, Exception) else "stopped"
                self.folder.finish(state, f"drawn but not measured ({error}); type --resume to go on")
            raise
        cost = self._cost(began)
        if self.folder is not None:
            papers = [entry for result in self.drawn.values() for entry in result.measures["citations"]]
            self.folder.write_measures({"audit": found, "cost": cost, "citations": list(dict.fromkeys(papers))})
            self.folder.finish("complete", **cost)
        return found

    def _cost(self, began: float) -> dict[str, Any]:
        return {"seconds": self.seconds + time.monotonic() - began, "peak_mb": peak_memory(self.model.device)}

    def _measured(self) -> dict[str, Any]:
        drawn = measure.Shown(
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
            for label, facts in zip(self.labels, measure.consistency(of), strict=True)
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
        layer, trait = measure.telling(of, label, facts["by_layer"], placed)
        near = measure.nearest(of.of_drawn[features][rows], of.of_real[features])
        portraits = [self._portrait(int(row), records[row], own) for row, own in zip(rows, near, strict=True)]
        if layer in placed:
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
        if self.folder is not None:
            found |= {key: f"{record['recipe']}/{record[key]}" for key in ("file", "alpha")}
            found["nearest"]["file"] = self._kept(REAL_FOLDER, place, self.real.images[place])
        return found

    def _kept(self, folder: str, number: int, picture: Tensor) -> str | None:
        """The name of a picture that is written beside the measures."""
        if self.folder is None:
            return None
        name = f"{folder}/{number:05d}.png"
        (self.folder.path / folder).mkdir(exist_ok=True)
        replace_file(self.folder.path / name, to_png(picture))
        return name


def prepare_audit(
    model: str | Path | nn.Module | Adapter,
    classes: Sequence[str | int] | None = None,
    *,
    data: str | Path,
    n: int = PORTRAITS,
    real: int = REAL,
    seed: int = 0,
    steps: int | None = None,
    judges: Sequence[str | Adapter] | None = None,
    spec: ModelSpec | None = None,
    weights: str | Path | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    out: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> Audit:
    """Everything of ``explain`` that can be refused, before the first step."""
    if not isinstance(model, Adapter):
        model = load_model(model, spec, weights=weights, device=device, dtype=dtype)
    labels = _classes(model, classes)
    if n < 2 or real < REAL_AT_LEAST:
        raise UserError(f"--n {n}, --real {real}: the least are 2 portraits and {REAL_AT_LEAST} real pictures a class")
    pictures, skipped = _real_pictures(model, labels, data, real)
    jury = viewers(find_jury(model, judges))
    facts = {
        "data": {"address": str(data), "split": held_out(data), "skipped": skipped}
        | {"pictures": {model.spec.class_name(label): len(pictures.rows(label)) for label in labels}},
        "settings": {"n": n, "real": real, "seed": seed, "recipes": list(RECIPES)},
    }
    asked = {
        "command": "explain",
        "n": n,
        "real": real,
        "seed": seed,
        "steps": steps,
        "dtype": model.dtype,
        "data": str(data),
    }
    asked |= {"classes": [model.spec.class_name(label) for label in labels], "judges": [j.name for j in jury]}
    told = {"settings": asked, "model": {"address": model.name}, "versions": versions()}
    drawings = {}
    for recipe in RECIPES:
        small = max(model.spec.height, model.spec.width) < SMALL and recipe == "das"
        how: dict[str, Any] = {**(OF_SMALL if small else {}), **({} if steps is None else {"steps": steps})}
        how |= {"device": model.device, "dtype": model.dtype}
        drawings[recipe] = prepare(model, labels, recipe, n=n, seed=seed, data=data, judges=[], alpha=True, **how)
    audit = Audit(model, labels, pictures, jury, drawings, facts)
    if out is not None:
        audit.folder = RunFolder.create(out, told, own=OWN, overwrite=overwrite, resume=resume)
        audit.seconds = float(audit.folder.status["seconds"])
        for recipe, drawing in drawings.items():
            in_folder(drawing, Path(out) / recipe, overwrite=overwrite, resume=resume)
    return audit


def _classes(model: Adapter, classes: Sequence[str | int] | None) -> list[int]:
    if classes is None and model.spec.count > CLASSES_AT_MOST:
        raise UserError(
            f"model {model.name!r} has {model.spec.count} classes; type some of them, such as "
            f"--classes {' '.join(repr(model.spec.class_name(i).split(',')[0]) for i in range(3))}"
        )
    labels = find_classes(model, list(range(model.spec.count)) if classes is None else classes)
    if model.spec.count < CLASSES_AT_LEAST:
        raise UserError(
            f"model {model.name!r} has {model.spec.count} classes, and an audit holds each class to the others; "
            f"type a model of {CLASSES_AT_LEAST} or more"
        )
    if len(labels) < CLASSES_AT_LEAST:
        raise UserError(f"an audit holds each class to the others; type {CLASSES_AT_LEAST} or more after --classes")
    return labels


def _real_pictures(
    model: Adapter, labels: Sequence[int], data: str | Path, count: int
) -> tuple[measure.Shown, list[str]]:
    """The first ``count`` of each class in the held-out split; and the names of those that cannot be read."""
    found = find_images(data, split=held_out(data))
    outputs, _ = outputs_of_labels(model.spec, model.name, found.classes, str(data))
    wanted = {place: label for place, label in enumerate(outputs.tolist()) if label in labels}
    taken, skipped = Counter[int](), list[str]()

    def some() -> Iterator[tuple[str, bytes, int]]:
        for name, content, place in found.entries:
            if (label := wanted.get(place)) is not None and taken[label] < count:
                unreadable = len(skipped)
                yield name, content, label
                taken[label] += len(skipped) == unreadable  # one that cannot be read takes no place
        if not taken:
            raise UserError(
                f"data {str(data)!r} has no picture that is labelled as a class of the audit; "
                "give a folder with a sub-folder of pictures a class, or a parquet file with labels"
            )

    size = (model.spec.height, model.spec.width)
    images, own = zip(*decoded(some(), size, str(data), skipped), strict=True)
    shown = measure.Shown(torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255, torch.tensor(own))
    few = next((label for label in labels if len(shown.rows(label)) < REAL_AT_LEAST), None)
    if few is not None:
        raise UserError(
            f"data {str(data)!r} has {len(shown.rows(few))} pictures of class {model.spec.class_name(few)!r} that can "
            f"be read, and an audit needs {REAL_AT_LEAST}; give more, or leave the class out of --classes"
        )
    return shown, skipped


def explain(
    model: str | Path | nn.Module | Adapter,
    classes: Sequence[str | int] | None = None,
    *,
    data: str | Path,
    on_frame: Callable[[Frame], None] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Audit a classifier: what the portraits of a class share that its real pictures do not, and what else is in them.

    model: an address, an ``nn.Module`` with ``spec``, or what ``load_model`` gave. classes: names or numbers, three or
    more; None takes all of a model of at most 20. data: labelled real pictures, which should not hold the shortcut that
    is looked for. n (6): portraits of each class and recipe. options: real (100 pictures a class), seed, steps, judges,
    spec, weights, device, dtype, out (a folder; None writes nothing), overwrite, resume. on_frame: after every step.
    Returns {"classes": [{"name", "consistency", ...}], "entanglement": [...], "control", ...}.
    Raises UserError for what cannot be asked.
    """
    audit = prepare_audit(model, classes, data=data, **options)
    with closing(audit.run()) as frames:
        for frame in frames:
            if on_frame is not None:
                on_frame(frame)
    return audit.finish()
