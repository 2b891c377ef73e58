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
from bothways.processes.group import Processes
from bothways.registry import Entry
from bothways.runs import RunFolder
from bothways.runs.experiment import Experiment
from bothways.runs.folder import MEASURES
from bothways.runs.shares import drop_frames_of, name_of, states_of
from bothways.synthesis.ascent import Ascent, ascend
from bothways.synthesis.parameterizations.maco import transparency
from bothways.synthesis.rise import Rise, rises, told_of_rises, warn_of_no_rise
from bothways.tasks.film import Film
from bothways.tasks.generate.config import DrawingConfig
from bothways.tasks.generate.memory import batch_of, batches_of, coupled, fitting, halved, tell_of_fewer
from bothways.tasks.generate.problem import Problem, Setup
from bothways.tasks.generate.request import Request
from bothways.tasks.generate.result import measured, records_of
from bothways.tasks.generate.scene import keep_scene
from bothways.tasks.measures import DoneSteps
from bothways.tasks.moving import write_moving
from bothways.tasks.pictures import SECONDS_BETWEEN_SAVES, PictureMeasures, Result, told_of_pictures
from bothways.tasks.work import Grid, Where, Work
from bothways.types import Frame, UserError


@final
@dataclass
class Drawing(Work):
    """A run of a task that draws.

    first: the pictures of the first batch and their problem, which ``prepare`` has built. into: where the present batch
    is written, the run folder or a share of it. jury, references: who judges,
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
    into: RunFolder | None = None
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
    def own_steps(self) -> int:
        folder, own = self.experiment.folder, dict(self.experiment.processes.own(self._left()))
        made = 0 if folder is None else sum(frame["batch"] in own for frame in folder.frames)
        return self.config.ascent.steps * len(own) - made

    @property
    def coupled(self) -> bool:
        """Whether the pictures of a group share a statistic."""
        return coupled(self.setup)

    @property
    def batch(self) -> int:
        """Pictures of a batch, as the settings have it."""
        return batch_of(self.setup)

    def fit_into_memory(self, processes: Processes) -> None:
        """Draw fewer pictures at once where a batch would not fit. Raises UserError where not one fits."""
        wanted = max(map(len, self.batches()), default=1)
        self.at_once = processes.least(fitting(self.setup, self.request, wanted, self.coupled))
        tell_of_fewer(self.config.batch, wanted, self.at_once)
        processes.tell_of_idle(len(self.batches()), "type a smaller --batch")

    def batches(self) -> list[list[int]]:
        """The picture numbers of each batch. A group of coupled pictures is never split."""
        size = self.batch if self.coupled else min(self.batch, self.at_once or self.batch)
        return batches_of(len(self.request), size, self.config.only, self.coupled)

    def check_first(self, processes: Processes) -> None:
        """Build the problem of this process's first batch and check that the models support it. Raises UserError."""
        while (parts := self.batches()) and self.first is None:
            part = parts[processes.rank % len(parts)]
            try:
                problem = self._problem(part)
                self.setup.check(self.request, problem)
            except (MemoryError, RuntimeError) as error:
                self.at_once = halved(len(part), self.coupled or processes.count > 1, error)
            else:
                self.first = part, problem

    def begin(self, where: Where) -> None:
        """Begin writing to a run folder. Raises UserError if it cannot be used."""
        if where.prolongs and len(self.request) > self.config.n:
            raise UserError("--n can grow in a run of one target alone, where pictures keep their numbers; leave it")
        prepared = self.experiment.stages
        self.experiment = where.begin(self.task, self.tables, device=self.model.device, of=len(self.request))
        self.experiment.prepared(prepared)
        if kinds := self.config.share.moving:
            targets = {i: self.request.name(i, self.model) for part in self.batches() for i in part}
            self.film = Film.of(targets, self.config.ascent.steps, kinds, self.experiment.folder)
        if (folder := self.experiment.folder) is not None:
            self.take_up(folder)
            if not self.experiment.silent:
                self._drop_frames_to_make_again(folder)
            if self.config.photo is not None or self.config.style is not None:
                keep_scene(self.request.scene, folder.path)

    def take_up(self, folder: RunFolder) -> None:
        """Load the pictures of the batches that another process finished."""
        done = {r["index"]: r for r in folder.pictures if not r.get("unfinished")}
        finished = {index for part in self.batches() if set(part) <= set(done) for index in part}
        for index in sorted(finished - set(self.images)):
            self.images[index], self.records[index] = folder.read_picture(done[index]), done[index]
            if (alpha := folder.read_alpha(done[index])) is not None:
                self.alphas[index] = alpha

    def _left(self) -> list[tuple[int, list[int]]]:
        """The numbers and the pictures of the unfinished batches."""
        return [(k, part) for k, part in enumerate(self.batches()) if not set(part) <= set(self.images)]

    def _drop_frames_to_make_again(self, folder: RunFolder) -> None:
        """Those of unfinished batches after their furthest checkpoint; all, where a batch has other pictures now."""
        for number, part in self._left():
            (folder.path / MEASURES).unlink(missing_ok=True)  # of fewer pictures, by their places among these
            known = [facts for _, facts in states_of(folder, DoneSteps, name_of(number)) if facts["pictures"] == part]
            drop_frames_of(folder, number, max((facts["step"] for facts in known), default=0))

    def frames(self) -> Iterator[Frame]:
        """Yield a frame after every step of every unfinished batch of this process."""
        own = self.experiment.processes.divided(self._left())
        while own:
            number, pictures = own.pop(0)
            self.into = self.experiment.share(name_of(number))
            try:
                yield from self._batch(number, pictures)
            except (MemoryError, RuntimeError) as error:
                self._halve(number, pictures, error)
                own = self._left()

    def gather(self) -> None:
        """Take up the pictures and frames of all processes."""
        if (folder := self.experiment.folder) is not None:
            self.take_up(folder)
            self.kept = [Frame(f["step"], f["t"], None, f["stats"], f["batch"]) for f in folder.frames]

    def _rises(self) -> list[Rise]:
        """How far the terms of the target rose over the steps."""
        pictures = sorted(self.images)[:1]
        seeds = [picture_seed(self.config.seed, index) for index in pictures]
        names = self.setup.aims(self.request, self.request.batch(pictures, seeds)) if pictures and self.kept else []
        return rises(self.kept, names)

    def measures(self) -> dict[str, Any]:
        if self.experiment.folder is not None:
            self.experiment.folder.clear_state()  # of a process that was killed between its pictures and this
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
        """Draw half as many at once from here on, that batch again. Raises the error where that is no cure.

        Nor is it one of several processes, whose batches would no longer be the same.
        """
        self.at_once = halved(len(pictures), self.coupled or self.experiment.processes.count > 1, error)
        self.kept = [frame for frame in self.kept if frame.batch < number]
        if self.experiment.folder is not None:
            self.experiment.folder.drop_frames_after(number, 0)
        if (run := self.experiment.run) is not None:
            run.total = run.done + self.config.ascent.steps * len(self._left())

    def _problem(self, pictures: list[int]) -> Problem:
        seeds = [picture_seed(self.config.seed, i) for i in pictures]
        return self.setup.problem(self.request, self.request.batch(pictures, seeds))

    def _batch(self, number: int, pictures: list[int]) -> Iterator[Frame]:
        ready, self.first = self.first, None
        problem = ready[1] if ready is not None and ready[0] == pictures else self._problem(pictures)
        ascent, folder = problem.ascent, self.into
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
        """The picture inside the canvas, rounded to 8 bits; divided on the CPU, since a GPU's last bit is another."""
        return (255 * self.setup.place.inside(canvas).detach().float()).round_().cpu().div_(255)

    @torch.no_grad()
    def _keep(self, pictures: list[int], ascent: Ascent, *, unfinished: bool = False) -> None:
        images = self._inside(ascent.parameterization.image())
        alphas = None if ascent.alpha is None else self._inside(transparency(ascent.alpha))
        records = records_of(self.setup, self.request, pictures, images, ascent.step if unfinished else None)
        if self.into is not None:
            records = self.into.save_pictures(images, records, alphas)
        if not unfinished:
            self.images.update(zip(pictures, images, strict=True))
            self.alphas.update(zip(pictures, alphas if alphas is not None else (), strict=alphas is not None))
            self.records.update(zip(pictures, records, strict=True))

    def _save_state(self, number: int, pictures: list[int], ascent: Ascent) -> None:
        if self.into is not None:
            facts = {"batch": number, "pictures": pictures, "step": ascent.step}
            self.into.save_state(ascent.tensors(), facts)

    def _go_on(self, number: int, pictures: list[int], ascent: Ascent) -> None:
        """Take up the furthest state of a killed run, and drop the frames that will be made again."""
        if self.into is not None and self.experiment.folder is not None:
            for tensors, facts in states_of(self.experiment.folder, DoneSteps, name_of(number)):
                if facts["pictures"] == pictures and facts["step"] > ascent.step:
                    ascent.load(tensors, facts["step"])
            drop_frames_of(self.into, number, ascent.step)
