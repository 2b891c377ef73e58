"""Pictures of a flow: noise of each picture's own seed, walked to t = 1.

x_0 ~ N(0, I),   dx / dt = v(x, t)   by the steps of a fixed grid from t = 0 to 1,   picture = std x_1 + mean
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bothways.models.adapter import Adapter
from bothways.models.catalogue import bundled_names, card
from bothways.models.flows import load_flow
from bothways.models.velocity import Flow
from bothways.numerics.draws import Draws
from bothways.numerics.solvers import Solver, grid, solver_of, walked
from bothways.tasks.generate.assess import find_references
from bothways.runs.citations import flow_citations
from bothways.models.classifiers import load_reader
from bothways.tasks.generate.drawing import picture_seed
from bothways.runs.provenance import flow_tables
from bothways.runs.experiment import ending
from bothways.tasks.generate.result import Result, peak_memory
from bothways.representation.encode import image_time
from bothways.runs import RunFolder
from bothways.judging.verdicts import Reference, image_measures, judge
from bothways.types import Frame, UserError

STEPS, SOLVER, AT_ONCE = 50, "midpoint", 64


@dataclass
class Sampling:
    """One run: ``run`` walks batches of noise to pictures, ``conclude`` has them judged."""

    flow: Flow
    n: int
    times: list[float]
    solver: Solver
    seed: int
    batch: int
    jury: Sequence[Adapter]
    references: dict[str, Reference]
    folder: RunFolder | None = None
    images: dict[int, Tensor] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def steps(self) -> int:
        """Of all batches together."""
        return (len(self.times) - 1) * len(self._parts())

    def _parts(self) -> list[list[int]]:
        """The numbers of the pictures of each batch that is still to be made."""
        parts = [list(range(first, min(first + self.batch, self.n))) for first in range(0, self.n, self.batch)]
        return [part for part in parts if not self.images.keys() >= set(part)]

    def run(self) -> Generator[Frame, None, None]:
        """Yield a frame after every step of every batch. A finished batch is kept, however the run ends."""
        with ending(self.folder, lambda: {"of": self.n, "seconds": self.seconds}):
            for number, part in enumerate(self._parts()):
                began = time.perf_counter()
                yield from self._walk(number, part)
                self.seconds += time.perf_counter() - began

    @torch.no_grad()
    def _walk(self, number: int, part: list[int]) -> Generator[Frame, None, None]:
        seeds = [picture_seed(self.seed, index) for index in part]
        noise = Draws(seeds).normal(self.flow.shape).to(self.flow.mean.device)
        steps = walked(self.flow, self.solver.start(self.flow, noise, 0.0), self.times, self.solver)
        for step, (x, *_) in enumerate(steps, 1):
            shown = self.flow.picture(x).clamp(0, 1)
            yield Frame(step, self.times[step], shown, {"batch": number, "rms": float(x.square().mean().sqrt())})
        self._keep(part, seeds, ((255 * shown).round() / 255).cpu())

    def _keep(self, part: list[int], seeds: list[int], shown: Tensor) -> None:
        self.images |= dict(zip(part, shown, strict=True))
        if self.folder is not None:
            records = [{"index": index, "seed": seed} for index, seed in zip(part, seeds, strict=True)]
            self.folder.save_pictures(shown, records)

    def conclude(self) -> Result:
        """The pictures, and what the judges say of them beside as many real ones."""
        images = torch.stack([self.images[index] for index in range(self.n)])
        records = [{"index": i, "seed": picture_seed(self.seed, i), "class": None} for i in range(self.n)]
        verdicts = judge(images, None, self.jury, self.references, gradient_models=set())
        cost = {
            "seconds": self.seconds,
            "seconds_per_picture": self.seconds / self.n,
            "peak_mb": peak_memory(str(self.flow.mean.device)),
        }
        measures = {
            "judges": [verdict.as_dict() for verdict in verdicts],
            "images": image_measures(images),
            "cost": cost,
            "citations": flow_citations(*["frechet", "kernel"] if self.jury else [], path=self.flow.spec.path),
        }
        if self.folder is not None:
            self.folder.write_measures(measures)
            self.folder.finish("complete", of=self.n, seconds=self.seconds, peak_mb=cost["peak_mb"])
        told = self.folder.settings if self.folder is not None else {}
        return Result(images, torch.full((self.n,), -1), records, [], measures, told)


def sample(flow: Any, n: int = 64, *, on_frame: Callable[[Frame], None] | None = None, **options: Any) -> Result:
    """n pictures of a flow, each from noise of its own seed.

    flow: a run of ``pretrain``, an address, or what ``load_flow`` gave. steps, solver: of the walk from noise.
    seed: of the run. judges: models that say how far the pictures are from real ones, ``data``: the real ones; of
    a bundled flow the bundled models of its size, where none is named. out, overwrite, resume: a run folder.
    device, dtype: of the network. on_frame: called after every step, with the pictures so far.
    Raises UserError for what cannot be.
    """
    sampling = prepare_sample(flow, n, **options)
    with closing(sampling.run()) as frames:
        for frame in frames:
            if on_frame is not None:
                on_frame(frame)
    return sampling.conclude()


def prepare_sample(
    flow: Any,
    n: int = 64,
    *,
    steps: int = STEPS,
    solver: str = SOLVER,
    seed: int = 0,
    batch: int = AT_ONCE,
    judges: Sequence[str | Adapter] | None = None,
    data: str | Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    device: str = "cpu",
    dtype: str = "float32",
) -> Sampling:
    """Everything of ``sample`` that can be refused, before the first step."""
    for name, value in (("n", n), ("batch", batch)):
        if value < 1:
            raise UserError(f"--{name} {value}: type 1 or more")
    found, chosen = load_flow(flow, device=device, dtype=dtype), solver_of(solver)
    times = grid(0.0, image_time(found), steps)
    jury = [load_reader(j, device=device) if isinstance(j, str) else j for j in _judges(found, judges)]
    if data is not None and not jury:
        raise UserError(f"--data {data} is for the judges, and there is none; type --judge bundled:cifar10-resnet")
    sampling = Sampling(found, n, times, chosen, seed, batch, jury, find_references(jury, data))
    if out is not None:
        asked = {"command": "sample", "n": n, "steps": steps, "solver": solver, "seed": seed, "batch": batch}
        told = flow_tables(found, {**asked, "judges": [j.name for j in jury], "dtype": dtype}, data)
        sampling.folder = RunFolder.create(out, told, overwrite=overwrite, resume=resume)
        done = {int(record["index"]): record for record in sampling.folder.pictures}
        sampling.images = {index: sampling.folder.read_picture(record) for index, record in done.items()}
        sampling.seconds = float(sampling.folder.status["seconds"])
    return sampling


def _judges(flow: Flow, judges: Sequence[str | Adapter] | None) -> Sequence[str | Adapter]:
    """Those asked for; of a bundled flow the bundled models that see pictures of its size, else none."""
    if judges is not None or not flow.name.startswith("bundled:"):
        return judges or ()
    size = [flow.spec.height, flow.spec.width]
    cards = {name: card(name)["spec"] for name in bundled_names()}
    alike = [n for n, spec in cards.items() if not spec.get("path") and spec["size"] in (size, size[0])]
    return [f"bundled:{name}" for name in alike]
