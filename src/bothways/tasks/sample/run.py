"""Sample pictures from a flow: noise from the seed of each picture, integrated to t = 1.

x_0 ~ N(0, I),   dx / dt = v(x, t)   by the steps of a fixed grid from t = 0 to 1,   picture = std x_1 + mean
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from bothways.budget import AtOnce
from bothways.judging.judges import judges_of_size, load_judges, split_judges
from bothways.judging.measures import image_measures
from bothways.judging.references import find_references
from bothways.judging.verdicts import Reference, judge
from bothways.models.adapter import Adapter
from bothways.models.loader import load_flow
from bothways.models.velocity import Flow
from bothways.numerics.draws import Draws, picture_seed
from bothways.numerics.solvers import Solver, finite, grid, solver_of, solver_states
from bothways.registry import Entry
from bothways.representation.encode import image_time
from bothways.runs import RunFolder
from bothways.runs.citations import flow_citations
from bothways.runs.experiment import Experiment
from bothways.runs.provenance import flow_facts
from bothways.runs.shares import name_of
from bothways.tasks.memory import check_batch
from bothways.tasks.pictures import SECONDS_BETWEEN_SAVES, PictureMeasures, Result, check_count, told_of_pictures
from bothways.tasks.sample.config import SampleConfig
from bothways.tasks.work import Grid, Where, Work
from bothways.types import Frame, UserError


@final
@dataclass
class Sampling(Work):
    """A run of ``sample``: batches of noise walked to pictures, then evaluated by the judges."""

    config: SampleConfig
    flow: Flow
    solver: Solver
    times: list[float]
    jury: Sequence[Adapter]
    references: dict[str, Reference]
    own_measures: list[Entry]
    experiment: Experiment
    images: dict[int, Tensor] = field(default_factory=dict)
    at_once: AtOnce = field(default_factory=lambda: AtOnce("pictures"))
    schema = PictureMeasures
    doing = "walking"
    done_word = "drawn"

    @property
    def steps(self) -> int:
        return (len(self.times) - 1) * len(self._parts())

    @property
    def done(self) -> int:
        return self.steps - (len(self.times) - 1) * len(self._left())

    @property
    def own_steps(self) -> int:
        return (len(self.times) - 1) * len(self.experiment.processes.own(self._left()))

    def _parts(self) -> list[list[int]]:
        """The picture numbers of each batch."""
        n, size = self.config.n, self.config.batch
        return [list(range(first, min(first + size, n))) for first in range(0, n, size)]

    def _left(self) -> list[tuple[int, list[int]]]:
        """The unfinished batches, each with its number."""
        return [(k, part) for k, part in enumerate(self._parts()) if not self.images.keys() >= set(part)]

    @torch.no_grad()
    def frames(self) -> Iterator[Frame]:
        """Yield a frame after every step of every batch of this process; finished batches are saved."""
        for number, part in self.experiment.processes.divided(self._left()):
            folder = self.experiment.share(name_of(number))
            seeds, saved = [picture_seed(self.config.seed, index) for index in part], time.monotonic()
            noise = Draws(seeds).normal(self.flow.shape).to(self.flow.mean.device)
            steps = solver_states(
                self._velocity, self.solver.start(self._velocity, noise, 0.0), self.times, self.solver
            )
            for step, (x, *_) in enumerate(finite(self.flow, steps, self.times), 1):
                shown = self.flow.picture(x).clamp(0, 1)
                yield Frame(step, self.times[step], shown, {"rms": float(x.square().mean().sqrt())}, number)
                if time.monotonic() - saved > SECONDS_BETWEEN_SAVES:
                    _save(folder, part, seeds, shown.cpu(), {"unfinished": True, "step": step})
                    saved = time.monotonic()
            whole = ((255 * shown).round() / 255).cpu()
            self.images |= dict(zip(part, whole, strict=True))
            _save(folder, part, seeds, whole, {})

    def gather(self) -> None:
        """Load the finished pictures of the run folder."""
        if (folder := self.experiment.folder) is not None:
            for record in folder.pictures:
                if not record.get("unfinished") and int(record["index"]) not in self.images:
                    self.images[int(record["index"])] = folder.read_picture(record)

    def _velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """That of the flow, of as many pictures at once as fit into memory."""
        return torch.cat(self.at_once.parts(len(x), lambda part: self.flow(x[part], t[part])))

    def _pictures(self) -> Tensor:
        return torch.stack([self.images[index] for index in range(self.config.n)])

    def measures(self) -> dict[str, Any]:
        """The metrics of the judges, with as many real pictures for comparison."""
        images = self._pictures()
        verdicts = judge(images, None, self.jury, self.references, gradient_models=set())
        used = ["frechet", "kernel"] if self.jury else []
        used += [entry.reference for entry in self.own_measures]
        cited = flow_citations(*used, path=self.flow.spec.path)
        told = [verdict.as_dict() for verdict in verdicts]
        return {"judges": told, "images": image_measures(images, self.own_measures), "citations": cited}

    def cost(self) -> dict[str, Any]:
        found = self.experiment.cost
        return {**found, "seconds_per_picture": found["seconds"] / self.config.n}

    def result(self, measures: dict[str, Any]) -> Result:
        seeds = [picture_seed(self.config.seed, index) for index in range(self.config.n)]
        records = [{"index": index, "seed": seed, "class": None} for index, seed in enumerate(seeds)]
        folder = self.experiment.folder
        tables = {} if folder is None else folder.settings
        return Result(self._pictures(), torch.full((self.config.n,), -1), records, [], measures, tables, task="sample")

    def plan(self) -> str:
        return f"{self.config.n} pictures in {len(self._parts())} batches would be drawn"

    def summary(self, result: Result, out: Path | None) -> Iterator[str | Grid]:
        return told_of_pictures(result, out)


def prepare(config: SampleConfig, where: Where) -> Sampling:
    """Prepare a run of ``sample``. Raises UserError for invalid input, before the first step."""
    flow = load_flow(config.flow, device=config.device, dtype=config.dtype)
    solver = solver_of(config.solver)
    high, wide = flow.spec.height, flow.spec.width
    check_count(config.n, 1, (high, wide), where.out, resizable=False)
    times = grid(0.0, image_time(flow), config.steps)
    asked = judges_of_size(flow.spec) if config.judges is None and flow.name.startswith("bundled:") else config.judges
    models, own_measures = split_judges(asked or ())
    jury = load_judges(models or (), device=config.device)
    if config.data is not None and not jury:
        raise UserError(
            f"--data {config.data} is for the judges, and there is none; type --judge bundled:cifar10-resnet"
        )
    references = find_references(jury, config.data)
    _check_memory(config, flow, solver)
    settings = config.model_dump(exclude={"flow"}) | {
        "judges": [*(model.name for model in jury), *(entry.name for entry in own_measures)]
    }
    tables = {"settings": settings, "model": flow_facts(flow)}
    experiment = where.begin("sample", tables, device=config.device, of=config.n)
    sampling = Sampling(config, flow, solver, times, jury, references, own_measures, experiment)
    sampling.gather()
    where.processes.tell_of_idle(-(-config.n // config.batch), "type a smaller --batch")
    return sampling


def _save(folder: RunFolder | None, part: list[int], seeds: list[int], shown: Tensor, facts: dict[str, Any]) -> None:
    if folder is not None:
        records = [{"index": index, "seed": seed, **facts} for index, seed in zip(part, seeds, strict=True)]
        folder.save_pictures(shown, records)


def _check_memory(config: SampleConfig, flow: Flow, solver: Solver) -> None:
    """Raise UserError where a batch does not fit."""

    @torch.no_grad()
    def work(count: int) -> None:
        noise, times = torch.zeros(count, *flow.shape, device=flow.mean.device), grid(0.0, image_time(flow), 1)
        for x, *_ in solver_states(flow, solver.start(flow, noise, 0.0), times, solver):
            flow.picture(x).clamp(0, 1)

    high, wide = flow.spec.height, flow.spec.width
    check_batch("batches", work, min(config.batch, config.n), high * wide, device=str(flow.mean.device))
