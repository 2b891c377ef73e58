"""How often a classifier is right, and how far its confidence can be believed, on clean and on corrupted pictures.

A condition is the clean pictures, or one corruption at one severity. Each is kept in the run folder when it is
finished, and a run that was stopped goes on with the next.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bothways.data.corrupted import EXTRA, SEVERITIES, Batch, Picture, batched, clean_pictures, find_corrupted
from bothways.data.corruptions import SEVERITIES as LEVELS
from bothways.data.corruptions import corrupt
from bothways.data.splits import held_out
from bothways.judging.accuracy import accuracy_of_pictures, scores
from bothways.judging.classes import load_classified, outputs_of_labels
from bothways.judging.tally import Tally
from bothways.judging.tally import evaluate as evaluated
from bothways.models.classifiers import finetuned_facts
from bothways.numerics.draws import Draws, picture_seed
from bothways.runs import RunFolder
from bothways.runs.citations import run_citations
from bothways.runs.experiment import ending
from bothways.runs.provenance import peak_memory, versions
from bothways.types import Frame, ModelSpec, UserError, VisionModel

OFFLINE = "offline"
OFFLINE_NAME = "made on the fly, NOT CIFAR-10-C"
OFFLINE_CHECKED = (
    "six corruptions of the test pictures at the model's size, with the severities of CIFAR-10-C at 32 pixels"
)
CLEAN = "clean"


@dataclass(frozen=True)
class Condition:
    """What the model is asked at one time.

    kind: "clean", or a corruption. source: the address of its pictures, count: how many. outputs: (L,) which output a
    label is. read: gives the pictures, one by one. change: (images, places) -> images, what is done to a batch.
    model: what is asked in place of the evaluation's own, with the same classes.
    """

    kind: str
    severity: int
    source: str
    count: int
    outputs: Tensor
    read: Callable[[], Iterator[Picture]]
    change: Callable[[Tensor, Tensor], Tensor] | None = None
    model: VisionModel | None = None

    @property
    def name(self) -> str:
        return f"{self.kind} {self.severity}" if self.severity else self.kind


@dataclass
class Evaluation:
    """``run`` asks about the conditions that are not done; ``finish`` writes measures["evaluation"] and gives it."""

    model: VisionModel
    conditions: list[Condition]
    facts: dict[str, Any]
    batch: int
    folder: RunFolder | None = None
    done: dict[str, dict[str, Any]] = field(default_factory=dict)
    hits: dict[str, Tensor] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def left(self) -> list[Condition]:
        return [condition for condition in self.conditions if condition.name not in self.done]

    def steps(self, conditions: list[Condition]) -> int:
        """How many batches these conditions are, where every picture can be read."""
        return sum(-(-condition.count // self.batch) for condition in conditions)

    def run(self) -> Generator[Frame, None, None]:
        """Yield a frame after every batch. However it ends, the conditions that are done are kept."""
        began, before = time.perf_counter(), self.seconds
        total = max(1, self.steps(self.conditions))
        step = total - self.steps(self.left)
        with ending(self.folder, lambda: {"seconds": before + time.perf_counter() - began}):
            for condition in self.left:
                tally = Tally(condition.count)
                for frame in evaluated(condition.model or self.model, self._batches(condition), tally):
                    step += 1
                    yield Frame(step, min(1.0, step / total), None, frame.stats)
                if not tally.n:
                    raise UserError(
                        f"{condition.name}: none of {condition.count} pictures can be read; look at the data"
                    )
                self.done[condition.name] = scores(tally, self.model.spec, condition.kind == CLEAN)
                self.hits[condition.name] = tally.hits
                self.seconds = before + time.perf_counter() - began
                self._save()

    def _batches(self, condition: Condition) -> Iterator[Batch]:
        spec = self.model.spec
        for batch in batched(condition.read(), (spec.height, spec.width), self.batch, self.skipped):
            low, high = int(batch.labels.min()), int(batch.labels.max())
            if low < 0:
                raise UserError(f"data {condition.source!r} has pictures without a label; give each a class")
            if high >= len(condition.outputs):
                raise UserError(
                    f"data {condition.source!r} has label {high} and model {self.model.name!r} "
                    f"{self.model.spec.count} classes; give data of the same classes"
                )
            images = batch.images if condition.change is None else condition.change(batch.images, batch.places)
            yield Batch(images, condition.outputs[batch.labels], batch.places)

    def begin(
        self, out: str | Path, settings: Mapping[str, Any], *, overwrite: bool = False, resume: bool = False
    ) -> None:
        """Keep what is found in a run folder, and take up what an earlier run of the same left there."""
        told = {"settings": settings, "model": _model_facts(self.model), "versions": versions()}
        self.folder = RunFolder.create(out, told, overwrite=overwrite, resume=resume)
        if (state := self.folder.load_state()) is not None:
            self.hits, self.done, self.skipped = state[0], state[1]["done"], state[1]["skipped"]
        self.seconds = float(self.folder.status["seconds"])

    def _save(self) -> None:
        if self.folder is not None:
            self.folder.save_state(self.hits, {"done": self.done, "skipped": self.skipped})

    def finish(self) -> dict[str, Any]:
        """measures["evaluation"] (its schema: tasks/evaluate/section.py), kept in the run folder where there is one."""
        found = {**self.facts, "clean": self.done[CLEAN], "skipped": self.skipped}
        if len(self.conditions) > 1:
            found["corruptions"] = {**self.facts["corruptions"], **self._corrupted()}
        return self.keep("evaluation", found)

    def keep(self, name: str, found: dict[str, Any]) -> dict[str, Any]:
        """Write ``found`` as measures[name] in the run folder, where there is one, and give it back."""
        cost: dict[str, Any] = {
            "seconds": self.seconds,
            "peak_mb": peak_memory(str(getattr(self.model, "device", "cpu"))),
        }
        if self.folder is not None:
            cited = run_citations(self.folder.settings, {})
            self.folder.write_measures({name: found, "cost": cost, "citations": cited})
            self.folder.finish("complete", "", **cost)
        return found

    def _corrupted(self) -> dict[str, Any]:
        """A row a corruption and severity, and the means over them, with intervals over pictures."""
        asked = [condition for condition in self.conditions if condition.kind != CLEAN]
        counted = [condition for condition in asked if condition.kind not in EXTRA] or asked
        rows = [
            {"corruption": c.kind, "severity": c.severity, **self.done[c.name]["top1"]}
            | {key: self.done[c.name][key] for key in ("n", "nll", "ece")}
            for c in asked
        ]

        def mean(of: list[Condition]) -> dict[str, Any]:
            return accuracy_of_pictures(torch.stack([self.hits[c.name] for c in of], 1))

        kinds = {kind: [c for c in asked if c.kind == kind] for kind in dict.fromkeys(c.kind for c in asked)}
        levels = {level: [c for c in counted if c.severity == level] for level in SEVERITIES}
        meant = {c.kind for c in counted}
        return {
            "rows": rows,
            "by_corruption": [{"corruption": kind, "in_mean": kind in meant, **mean(of)} for kind, of in kinds.items()],
            "by_severity": [{"severity": level, **mean(of)} for level, of in levels.items()],
            "mean": mean(counted),
        }


# ---- what is asked -------------------------------------------------------------------------------------------------


def prepare_evaluation(
    model: str | Path | nn.Module | VisionModel,
    data: str | Path,
    *,
    corruptions: str | Path | None = None,
    limit: int | None = None,
    batch: int = 100,
    seed: int = 0,
    spec: ModelSpec | None = None,
    weights: str | Path | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    out: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> Evaluation:
    """Everything of ``evaluate`` that can be refused before the first batch."""
    if batch < 1 or (limit is not None and limit < 1):
        raise UserError(f"--batch {batch}, --limit {limit}: type 1 or more")
    found = load_classified(model, spec, weights=weights, device=device, dtype=dtype)
    split = held_out(data)
    clean, matched = clean_condition(found, data, split, limit)
    conditions = [clean]
    facts: dict[str, Any] = {"model": found.name}
    facts["data"] = {"address": str(data), "split": split, "pictures": clean.count, "matched": matched}
    if corruptions is not None and str(corruptions) == OFFLINE:
        conditions += _offline(clean, seed)
        facts["corruptions"] = {"set": OFFLINE_NAME, "checked": OFFLINE_CHECKED, "address": OFFLINE}
    elif corruptions is not None:
        more, told = _from_folder(found, corruptions, limit)
        conditions += more
        facts["corruptions"] = {**told, "address": str(corruptions)}
    evaluation = Evaluation(found, conditions, facts, batch)
    if out is not None:
        asked = {
            "command": "evaluate",
            "data": str(data),
            "corruptions": corruptions and str(corruptions),
            "limit": limit,
        }
        asked |= {"batch": batch, "seed": seed, "dtype": dtype}
        evaluation.begin(out, asked, overwrite=overwrite, resume=resume)
    return evaluation


def clean_condition(model: VisionModel, data: str | Path, split: str, limit: int | None) -> tuple[Condition, str]:
    """The pictures as they are, and whether labels go by "name" or "number". Raises UserError for no picture."""
    classes, count, _ = clean_pictures(data, split, limit)
    if not count:
        raise UserError(f"data {str(data)!r} holds no picture; type a parquet file or a folder with a folder a class")
    outputs, matched = outputs_of_labels(model.spec, model.name, classes, str(data))
    return Condition(CLEAN, 0, str(data), count, outputs, lambda: clean_pictures(data, split, limit)[2]), matched


def _offline(clean: Condition, seed: int) -> list[Condition]:
    def by(kind: str, level: float) -> Callable[[Tensor, Tensor], Tensor]:
        def change(images: Tensor, places: Tensor) -> Tensor:
            found = corrupt(images, kind, level, Draws([picture_seed(seed, place) for place in places.tolist()]))
            return (255 * found).round() / 255  # as a file holds it

        return change

    return [
        Condition(kind, severity, clean.source, clean.count, clean.outputs, clean.read, by(kind, level))
        for kind, levels in LEVELS.items()
        for severity, level in enumerate(levels, start=1)
    ]


def _from_folder(model: VisionModel, folder: str | Path, limit: int | None) -> tuple[list[Condition], dict[str, Any]]:
    found = find_corrupted(folder)
    outputs, matched = outputs_of_labels(model.spec, model.name, found.classes, str(folder))
    count = found.count if limit is None else min(limit, found.count)

    def read(kind: str, severity: int) -> Callable[[], Iterator[Picture]]:
        return lambda: found.pictures(kind, severity, limit)

    conditions = [Condition(k, s, str(folder), count, outputs, read(k, s)) for k in found.kinds for s in SEVERITIES]
    return conditions, {"set": found.name, "checked": found.checked, "matched": matched}


def _model_facts(model: VisionModel) -> dict[str, Any]:
    spec = model.spec
    facts = {"address": model.name, "size": [spec.height, spec.width], "classes": spec.count}
    return {**facts, "source": spec.source, "licence": spec.licence, **finetuned_facts(model.name)}


def evaluate(
    model: str | Path | nn.Module | VisionModel,
    data: str | Path,
    *,
    on_frame: Callable[[Frame], None] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Ask a classifier about labelled pictures, clean and corrupted -> measures["evaluation"].

    model: an address, a run of ``finetune``, an ``nn.Module`` with ``spec``, or a ``VisionModel``.
    data: as for ``load_images``; the test split where there is one.
    options: corruptions (None, "offline", or the folder of CIFAR-10-C or Tiny-ImageNet-C), limit (pictures at most,
    evenly spaced), batch (100), seed (0, of the noise), spec, weights, device, dtype, out (a run folder), overwrite,
    resume.
    on_frame: called after every batch.
    Raises UserError for what cannot be asked. A picture that cannot be read is left out and named in "skipped".
    """
    evaluation = prepare_evaluation(model, data, **options)
    with closing(evaluation.run()) as frames:
        for frame in frames:
            if on_frame is not None:
                on_frame(frame)
    return evaluation.finish()
