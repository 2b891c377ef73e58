"""Evaluate a classifier under several conditions: clean pictures, or a corruption at a severity.

Each finished condition is saved in the run folder; a resumed run continues with the next. A batch is made of so many
pictures in a row, without the unreadable ones. Several processes share the batches, and what each counts of one is
added up in the order of the batches: the numbers are those of one process.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from bothways.budget import AtOnce
from bothways.data.corrupted import SEVERITIES, Batch, Picture, batched, clean_pictures, find_corrupted
from bothways.data.corruptions import MORE, corrupt
from bothways.data.corruptions import SEVERITIES as LEVELS
from bothways.data.readers.fit import size_of
from bothways.judging.accuracy import scores
from bothways.judging.classes import outputs_of_labels
from bothways.judging.tally import Tally, counted
from bothways.models.classifiers import finetuned_facts
from bothways.numerics.draws import Draws, picture_seed
from bothways.runs.citations import flow_citations
from bothways.runs.experiment import Experiment
from bothways.runs.provenance import model_facts
from bothways.tasks.evaluate.calls import counting
from bothways.tasks.evaluate.shares import Made, load, save
from bothways.tasks.measures import DoneParts
from bothways.tasks.work import Where, Work
from bothways.types import Frame, UserError, VisionModel

CLEAN = "clean"
SECONDS_BETWEEN_SAVES = 60.0


@dataclass(frozen=True)
class Condition:
    """Pictures, an optional transformation, and the mapping of labels to outputs.

    kind: "clean" or a corruption. source: address of the pictures. count: number of pictures. outputs: (L,), the output
    of each label. read: iterates over the pictures. change: (images, places) -> images, applied to each batch.
    model: replaces the model of the evaluation; it has the same classes. calls: of its network for a picture.
    """

    kind: str
    severity: int
    source: str
    count: int
    outputs: Tensor
    read: Callable[[], Iterator[Picture]]
    change: Callable[[Tensor, Tensor], Tensor] | None = None
    model: VisionModel | None = None
    calls: int = 1

    @property
    def name(self) -> str:
        return f"{self.kind} {self.severity}" if self.severity else self.kind


@dataclass
class ConditionsWork(Work):
    """An evaluation with a frame per batch.

    facts: further entries of measures.json. batch: pictures per batch. scores: {finished condition:
    ``accuracy.scores``}. hits: {condition: (pictures,) 1 correct, 0 wrong, -1 not evaluated}. skipped: {unreadable
    picture: reason}. made: {unfinished condition: {number of a batch: what was counted of it}}. flow: that whose calls
    are counted, as "calls" of the scores; None for no count.
    """

    model: VisionModel
    conditions: list[Condition]
    facts: dict[str, Any]
    batch: int
    experiment: Experiment
    scores: dict[str, dict[str, Any]] = field(default_factory=dict)
    hits: dict[str, Tensor] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    made: dict[str, dict[int, Made]] = field(default_factory=dict)
    preprocess: str = "model"
    flow: nn.Module | None = None
    doing = "evaluating"
    done_word = "evaluated"

    def __post_init__(self) -> None:
        self._take_up()

    @abstractmethod
    def measures(self) -> dict[str, Any]: ...

    @property
    def left(self) -> list[Condition]:
        """The unfinished conditions."""
        return [condition for condition in self.conditions if condition.name not in self.scores]

    @property
    def steps(self) -> int:
        return sum(map(self._batches_of, self.conditions))

    @property
    def done(self) -> int:
        return self.steps - len(self._batches_left())

    @property
    def own_steps(self) -> int:
        return len(self.experiment.processes.own(self._batches_left()))

    @property
    def weights(self) -> list[float]:
        own, by_name = (
            set(self.experiment.processes.divided(self._batches_left())),
            {c.name: c for c in self.conditions},
        )
        left = [(by_name[name], number) for name, number in self._batches_left() if (name, number) in own]
        return [of.calls * min(self.batch, of.count - number * self.batch) for of, number in left]

    def _batches_of(self, condition: Condition) -> int:
        """The number of batches of a condition."""
        return -(-condition.count // self.batch)

    def _batches_left(self) -> list[tuple[str, int]]:
        """(condition, number of the batch) of every batch that is not counted."""
        return [
            (condition.name, number)
            for condition in self.left
            for number in range(self._batches_of(condition))
            if number not in self.made.get(condition.name, {})
        ]

    def frames(self) -> Iterator[Frame]:
        """Yield a frame per batch of this process; save finished conditions, or the share of this process.

        Raises UserError if no picture can be read.
        """
        total, step = max(1, self.steps), self.done
        own = set(self.experiment.processes.divided(self._batches_left()))
        for place, condition in enumerate(self.conditions):
            numbers = [number for name, number in sorted(own) if name == condition.name]
            tally, pending, saved = Tally(condition.count), dict[int, Made](), time.monotonic()
            for number, found in self._counted(condition, numbers):
                step += 1
                pending[number] = found
                if found.counts is not None:
                    tally.include(found.counts)
                share, n = min(1.0, step / total), max(1, tally.n)
                yield Frame(step, share, None, {"accuracy": tally.right / n, "nll": tally.nll / n})
                if time.monotonic() - saved > SECONDS_BETWEEN_SAVES or number == numbers[-1]:
                    self._keep(place, condition, pending)
                    pending, saved = {}, time.monotonic()

    def _counted(self, condition: Condition, numbers: Sequence[int]) -> Iterator[tuple[int, Made]]:
        """What is counted of some batches of a condition, each with its number."""
        pictures, wanted = condition.read(), set(numbers)
        at_once = AtOnce("pictures")
        with counting(self.flow) as calls:
            for number in range(max(numbers, default=-1) + 1):
                window, skipped = list(islice(pictures, self.batch)), dict[str, str]()
                if number in wanted:
                    found = None
                    for batch in self._read(condition, window, skipped):
                        found = counted(condition.model or self.model, *batch, at_once)
                    yield number, Made(found, skipped, 0 if calls is None else calls.of_batch())

    def _keep(self, place: int, condition: Condition, pending: Mapping[int, Made]) -> None:
        """Keep counted batches: in memory until the condition is finished, of several processes in a share."""
        if self.experiment.processes.count == 1:
            self.made.setdefault(condition.name, {}).update(pending)
            if self._finish(condition):
                self._save()
        elif (share := self.experiment.share(f"{place:04d}-{min(pending):06d}")) is not None:
            save(share, condition.name, pending)

    def gather(self) -> None:
        """Take up what all processes have counted, and keep the conditions that it finishes."""
        if self.left:
            self._take_up()
            self._save()

    def _take_up(self) -> None:
        """Read what is finished or counted in the run folder and its shares."""
        if (folder := self.experiment.folder) is None:
            return
        if (state := folder.load_state(DoneParts)) is not None:
            self.hits, self.scores = state[0] | self.hits, state[1]["done"] | self.scores
            self.skipped = state[1].get("skipped", {}) | self.skipped
        self.made = load(folder)
        for condition in self.left:
            self._finish(condition)

    def _save(self) -> None:
        if self.experiment.folder is not None and not self.experiment.silent:
            self.experiment.folder.save_state(self.hits, {"done": self.scores, "skipped": self.skipped})

    def _finish(self, condition: Condition) -> bool:
        """Score a condition if all its batches are counted; whether they are."""
        made = self.made.get(condition.name, {})
        if len(made) < self._batches_of(condition):
            return False
        tally, calls = Tally(condition.count), 0
        for _, batch in sorted(made.items(), key=lambda item: item[0]):
            self.skipped |= batch.skipped
            if batch.counts is not None:
                tally.include(batch.counts)
                calls += batch.calls * len(batch.counts.labels)
        if not tally.n:
            raise UserError(f"{condition.name}: none of {condition.count} pictures can be read; check the data")
        self.scores[condition.name] = scores(tally, self.model.spec, condition.kind == CLEAN)
        if self.flow is not None:
            self.scores[condition.name]["calls"] = round(calls / tally.n, 1)
        self.hits[condition.name] = tally.hits
        del self.made[condition.name]
        return True

    def _read(self, condition: Condition, window: list[Picture], skipped: dict[str, str]) -> Iterator[Batch]:
        """The readable pictures of a window as a batch, with the model's labels; none if all are unreadable."""
        spec = self.model.spec
        for batch in batched(iter(window), size_of(spec, self.preprocess), self.batch, skipped):
            low, high = int(batch.labels.min()), int(batch.labels.max())
            if low < 0:
                raise UserError(f"data {condition.source!r} has pictures without a label; give each a class")
            if high >= len(condition.outputs):
                raise UserError(
                    f"data {condition.source!r} has label {high}, but model {self.model.name!r} has "
                    f"{self.model.spec.count} classes; give data of the same classes"
                )
            images = batch.images if condition.change is None else condition.change(batch.images, batch.places)
            yield Batch(images, condition.outputs[batch.labels], batch.places)


def begun(task: str, model: VisionModel, settings: Mapping[str, Any], where: Where) -> Experiment:
    """Begin the run of an evaluation, which several processes may share."""
    tables = {"settings": settings, "model": {**model_facts(model), **finetuned_facts(model.name)}}
    return where.begin(task, tables, device=str(getattr(model, "device", "cpu")))


def flow_papers(model: VisionModel) -> list[str]:
    """The papers behind a flow classifier; [] for other models."""
    facts = finetuned_facts(model.name)
    if not facts:
        return []
    read = ["activations"] if facts["kind"] in ("activations", "both") else []
    return flow_citations(*read, path=facts["path"], coupling=facts["coupling"])


# ---- conditions ----------------------------------------------------------------------------------------------------


def clean_condition(model: VisionModel, data: str | Path, split: str, limit: int | None) -> tuple[Condition, str]:
    """The clean pictures, and whether labels are matched by "name" or "number". Raises UserError for no pictures."""
    classes, count, _ = clean_pictures(data, split, limit)
    if not count:
        raise UserError(f"data {str(data)!r} holds no picture; type a parquet file or a folder with a folder a class")
    outputs, matched = outputs_of_labels(model.spec, model.name, classes, str(data))
    return Condition(CLEAN, 0, str(data), count, outputs, lambda: clean_pictures(data, split, limit)[2]), matched


def offline_conditions(clean: Condition, seed: int, kinds: Sequence[str] = ()) -> list[Condition]:
    """Every corruption of ``kinds``, or the six, at every severity, with a random seed per picture.

    Raises UserError for a kind without severities.
    """
    known = {**LEVELS, **MORE}
    if unknown := [kind for kind in kinds if kind not in known]:
        raise UserError(
            f"corruptions 'offline:{unknown[0]}' is not known; type offline:KIND,KIND of {', '.join(known)}"
        )

    def by(kind: str, level: float) -> Callable[[Tensor, Tensor], Tensor]:
        def change(images: Tensor, places: Tensor) -> Tensor:
            found = corrupt(images, kind, level, Draws([picture_seed(seed, place) for place in places.tolist()]))
            return (255 * found).round() / 255  # 8 bits, as in a file

        return change

    return [
        Condition(kind, severity, clean.source, clean.count, clean.outputs, clean.read, by(kind, level))
        for kind in dict.fromkeys(kinds or LEVELS)
        for severity, level in enumerate(known[kind], start=1)
    ]


def folder_conditions(
    model: VisionModel, folder: str | Path, limit: int | None
) -> tuple[list[Condition], dict[str, Any]]:
    """The conditions of a set of corrupted pictures on disk, and its facts: {"set", "checked", "matched"}."""
    found = find_corrupted(folder)
    outputs, matched = outputs_of_labels(model.spec, model.name, found.classes, str(folder))
    count = found.count if limit is None else min(limit, found.count)

    def read(kind: str, severity: int) -> Callable[[], Iterator[Picture]]:
        return lambda: found.pictures(kind, severity, limit)

    conditions = [Condition(k, s, str(folder), count, outputs, read(k, s)) for k in found.kinds for s in SEVERITIES]
    return conditions, {"set": found.name, "checked": found.checked, "matched": matched}
