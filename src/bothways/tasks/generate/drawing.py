"""A run of a drawing: batches -> frames -> run folder, which can be stopped and resumed at any step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from bothways.judging.verdicts import Reference
from bothways.models.adapter import Adapter
from bothways.numerics.draws import picture_seed
from bothways.numerics.pyramid import resize
from bothways.registry import Entry
from bothways.runs import RunFolder
from bothways.runs.experiment import Experiment
from bothways.synthesis.ascent import Ascent, ascend
from bothways.synthesis.objectives.base import NO_CLASS
from bothways.synthesis.parameterizations.maco import transparency
from bothways.synthesis.rise import Rise, rises, told_of_rises, warn_of_no_rise
from bothways.tasks.film import Film
from bothways.tasks.generate.config import DrawingConfig
from bothways.tasks.generate.memory import fitting, halved, outputs_of, tell_of_fewer, usual_batch
from bothways.tasks.generate.problem import Problem, Setup
from bothways.tasks.generate.request import Request
from bothways.tasks.generate.result import measured, record_of
from bothways.tasks.generate.scene import keep_scene
from bothways.tasks.measures import DoneSteps
from bothways.tasks.moving import write_moving
from bothways.tasks.pictures import SECONDS_BETWEEN_SAVES, PictureMeasures, Result, told_of_pictures
from bothways.tasks.work import Grid, Where, Work
from bothways.types import Frame, RunError, UserError


@final
@dataclass
class Drawing(Work):
    """A run of a task that draws.

    first: the pictures of the first batch and their problem, which ``prepare`` has built. jury, references: who judges,
    and the real pictures that each compares with. own_measures: a user's, of the pictures alone. at_once: as many
    pictures of a batch as fit into memory. advice: of the task, what to change where its judges missed the target.
    film: the pictures at some steps, where a GIF or a video is made of them.
    """

    setup: Setup
    request: Request
    experiment: Experiment
    task: str = "generate"
    tables: Mapping[str, Any] = field(default_factory=dict)
    jury: list[Adapter] = field(default_factory=list)
    references: dict[str, Reference] = field(default_factory=dict)
    own_measures: list[Entry] = field(default_factory=list)
    first: tuple[list[int], Problem] | None = None
    at_once: int | None = None
    advice: Callable[[Result], Iterator[str]] | None = None
    film: Film | None = None
    images: dict[int, Tensor] = field(default_factory=dict)
    alphas: dict[int, Tensor] = field(default_factory=dict)
    records: dict[int, dict[str, Any]] = field(default_factory=dict)
    kept: list[Frame] = field(default_factory=list)
    schema = PictureMeasures
    doing = "drawing"
    done_word = "drawn"

    @property
    def config(self) -> DrawingConfig:
        return self.setup.config

    @property
    def model(self) -> Adapter:
        """The main model, which sets the size and classes of the pictures."""
        return self.setup.roles.main

    @property
    def steps(self) -> int:
        return self.config.ascent.steps * len(self.batches())

    @property
    def done(self) -> int:
        folder = self.experiment.folder
        return 0 if folder is None else len(folder.frames)

    @property
    def coupled(self) -> bool:
        """Whether the pictures of a group share a statistic."""
        return any(part.coupled for _, part in self.setup.objective.parts)

    @property
    def batch(self) -> int:
        """Pictures of a batch, as the settings have it."""
        return self.config.group if self.coupled else usual_batch(self.setup)

    def fit_into_memory(self) -> None:
        """Draw fewer pictures at once where a batch would not fit. Raises UserError where not one fits."""
        wanted = max(map(len, self.batches()), default=1)
        self.at_once = fitting(self.setup, self.request, wanted, self.coupled)
        tell_of_fewer(self.config.batch, wanted, self.at_once)

    def batches(self) -> list[list[int]]:
        """The picture numbers of each batch. A group of coupled pictures is never split."""
        config, coupled = self.config, self.coupled
        only = None if config.only is None else [int(number) for number in config.only]
        size = self.batch if coupled else min(self.batch, self.at_once or self.batch)
        everything = list(range(len(self.request))) if only is None or coupled else sorted(only)
        parts = [everything[i : i + size] for i in range(0, len(everything), size)]
        return [part for part in parts if only is None or set(part) & set(only)]

    def check_first(self) -> None:
        """Build the problem of the first batch and check that the models support it. Raises UserError."""
        while (parts := self.batches()) and self.first is None:
            try:
                problem = self._problem(parts[0])
                self.setup.check(self.request, problem)
            except (MemoryError, RuntimeError) as error:
                self.at_once = halved(len(parts[0]), self.coupled, error)
            else:
                self.first = parts[0], problem

    def begin(self, where: Where) -> None:
        """Begin writing to a run folder. Raises UserError if it cannot be used."""
        if where.prolongs and len(self.request) > self.config.n:
            raise UserError("--n can grow in a run of one target alone, where pictures keep their numbers; leave it")
        options = {**where.as_options(), "device": self.model.device, "of": len(self.request)}
        prepared = self.experiment.stages
        self.experiment = Experiment.begin(self.task, self.tables, **options)
        self.experiment.prepared(prepared)
        if kinds := self.config.share.moving:
            targets = {i: self.request.name(i, self.model) for part in self.batches() for i in part}
            self.film = Film.of(targets, self.config.ascent.steps, kinds, self.experiment.folder)
        if (folder := self.experiment.folder) is not None:
            self.take_up(folder)
            self._drop_frames_to_make_again(folder)
            if self.config.photo is not None or self.config.style is not None:
                keep_scene(self.request.scene, folder.path)

    def take_up(self, folder: RunFolder) -> None:
        """Load the pictures of the batches that an earlier process finished."""
        done = {r["index"]: r for r in folder.pictures if not r.get("unfinished")}
        for index in (index for part in self.batches() if set(part) <= set(done) for index in part):
            self.images[index], self.records[index] = folder.read_picture(done[index]), done[index]
            if (alpha := folder.read_alpha(done[index])) is not None:
                self.alphas[index] = alpha

    def _left(self) -> list[tuple[int, list[int]]]:
        """The numbers and the pictures of the unfinished batches."""
        return [(k, part) for k, part in enumerate(self.batches()) if not set(part) <= set(self.images)]

    def _drop_frames_to_make_again(self, folder: RunFolder) -> None:
        """Those of the first unfinished batch after its checkpoint."""
        if left := self._left():
            (number, pictures), state = left[0], folder.load_state(DoneSteps)
            known = state is not None and state[1]["pictures"] == pictures
            folder.drop_frames_after(number, state[1]["step"] if state is not None and known else 0)

    def frames(self) -> Iterator[Frame]:
        """Yield a frame after every step of every unfinished batch."""
        while left := self._left():
            try:
                yield from self._batch(*left[0])
            except (MemoryError, RuntimeError) as error:
                self._halve(*left[0], error)
        if (folder := self.experiment.folder) is not None:  # including those of earlier processes
            self.kept = [Frame(f["step"], f["t"], None, f["stats"], f["batch"]) for f in folder.frames]

    def _rises(self) -> list[Rise]:
        """How far the terms of the target rose over the steps."""
        pictures = sorted(self.images)[:1]
        seeds = [picture_seed(self.config.seed, index) for index in pictures]
        names = self.setup.aims(self.request, self.request.batch(pictures, seeds)) if pictures and self.kept else []
        return rises(self.kept, names)

    def measures(self) -> dict[str, Any]:
        warn_of_no_rise(self._rises())
        if self.film is not None:
            write_moving(self.film)
        return measured(self.result({}), self.setup, self.jury, self.references, self.own_measures)

    def cost(self) -> dict[str, Any]:
        found = self.experiment.cost
        return {**found, "seconds_per_picture": found["seconds"] / max(1, len(self.images))}

    def result(self, measures: dict[str, Any]) -> Result:
        """All finished pictures, in order."""
        order = sorted(self.images)
        images = torch.stack([self.images[i] for i in order]) if order else torch.zeros(0, 3, 1, 1)
        labels = torch.tensor([self.request.labels[i] for i in order], dtype=torch.int64)
        alphas = torch.stack([self.alphas[i] for i in order]) if self.config.ascent.alpha and order else None
        records = [self.records[i] for i in order]
        return Result(images, labels, records, self.kept, measures, dict(self.tables), alphas, self.task, self.film)

    def plan(self) -> str:
        parts = self.batches()
        return f"{sum(map(len, parts))} pictures in {len(parts)} batches would be drawn"

    def summary(self, result: Result, out: Path | None) -> Iterator[str | Grid]:
        yield from told_of_pictures(result, out)
        yield from told_of_rises(self._rises())
        if self.advice is not None:
            yield from self.advice(result)

    def _halve(self, number: int, pictures: list[int], error: Exception) -> None:
        """Draw half as many at once from here on, that batch again. Raises the error where that is no cure."""
        self.at_once = halved(len(pictures), self.coupled, error)
        self.kept = [frame for frame in self.kept if frame.batch < number]
        if self.experiment.folder is not None:
            self.experiment.folder.drop_frames_after(number, 0)
        if (run := self.experiment.run) is not None:
            run.total = run.done + self.config.ascent.steps * len(self._left())

    # ---- one batch -------------------------------------------------------------------------------------------------

    def _problem(self, pictures: list[int]) -> Problem:
        seeds = [picture_seed(self.config.seed, i) for i in pictures]
        return self.setup.problem(self.request, self.request.batch(pictures, seeds))

    def _batch(self, number: int, pictures: list[int]) -> Iterator[Frame]:
        ready, self.first = self.first, None
        problem = ready[1] if ready is not None and ready[0] == pictures else self._problem(pictures)
        ascent, folder = problem.ascent, self.experiment.folder
        self._go_on(number, pictures, ascent)
        good, saved = (ascent.tensors(), ascent.step), time.monotonic()
        if self.film is not None and not ascent.step:
            self.film.keep(0, pictures, self._inside(ascent.parameterization.image()))
        try:
            for step in ascend(problem.field, ascent, problem.draws):
                inside = None if step.image is None else self._inside(step.image)
                frame = replace(step, batch=number, image=inside)
                self.kept.append(replace(frame, image=None))
                if self.film is not None:
                    self.film.keep(frame.step, pictures, inside)
                if folder is not None:
                    folder.append_frame(frame)
                    good = ascent.tensors(), ascent.step
                    if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                        self._save_state(number, pictures, ascent)
                        self._keep(pictures, ascent, unfinished=True)
                        saved = time.monotonic()
                yield frame
        except BaseException:
            if folder is not None:  # an interrupt may come during a step, or before its frame is written
                ascent.load(*good)
            self._save_state(number, pictures, ascent)
            self._keep(pictures, ascent, unfinished=True)
            raise
        self._keep(pictures, ascent)
        if folder is not None:
            folder.clear_state()

    def _inside(self, canvas: Tensor) -> Tensor:
        """The picture inside the canvas, rounded to 8 bits."""
        return (255 * self.setup.place.inside(canvas).detach().cpu().float()).round() / 255

    @torch.no_grad()
    def _keep(self, pictures: list[int], ascent: Ascent, *, unfinished: bool = False) -> None:
        images = self._inside(ascent.parameterization.image())
        alphas = None if ascent.alpha is None else self._inside(transparency(ascent.alpha))
        records = [record_of(self.request, index, self.model, self.config.seed) for index in pictures]
        if self.request.labels[pictures[0]] != NO_CLASS:
            spec, shown = self.model.spec, images.to(self.model.device)
            shown = resize(shown, (spec.height, spec.width)) if self.setup.at_own_size else shown
            try:
                logits = outputs_of(self.model, shown)
                for record, own in zip(records, logits.softmax(1), strict=True):
                    record["own_probability"] = own[record["label"]].item()
            except RunError:
                if not unfinished:  # else what ended the drawing is the error that is told
                    raise
        if unfinished:
            records = [{**record, "unfinished": True, "step": ascent.step} for record in records]
        if self.experiment.folder is not None:
            records = self.experiment.folder.save_pictures(images, records, alphas)
        if not unfinished:
            self.images.update(zip(pictures, images, strict=True))
            self.alphas.update(zip(pictures, alphas if alphas is not None else (), strict=alphas is not None))
            self.records.update(zip(pictures, records, strict=True))

    def _save_state(self, number: int, pictures: list[int], ascent: Ascent) -> None:
        if self.experiment.folder is not None:
            facts = {"batch": number, "pictures": pictures, "step": ascent.step}
            self.experiment.folder.save_state(ascent.tensors(), facts)

    def _go_on(self, number: int, pictures: list[int], ascent: Ascent) -> None:
        """Take up the state of a killed run, and drop the frames that will be made again."""
        folder = self.experiment.folder
        if folder is None:
            return
        state = folder.load_state(DoneSteps)
        if state is not None and state[1]["pictures"] == pictures:
            ascent.load(state[0], state[1]["step"])
        folder.drop_frames_after(number, ascent.step)
