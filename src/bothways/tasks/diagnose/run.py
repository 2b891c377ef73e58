"""Diagnostics of a flow on pictures, one measure after the other, each saved when it is finished."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from bothways import budget
from bothways.models.loader import load_flow
from bothways.models.velocity import Flow
from bothways.numerics.draws import Draws, picture_seed
from bothways.numerics.solvers import solver_of
from bothways.representation.diagnostics import (
    BATCH,
    jacobian_gain,
    paths,
    round_trip,
    side_by_side,
    straightness,
    strips,
)
from bothways.representation.information import mutual_information_indicator
from bothways.runs import RunFolder, to_png
from bothways.runs.citations import flow_citations
from bothways.runs.experiment import Experiment
from bothways.runs.files import replace_file
from bothways.runs.provenance import flow_facts
from bothways.tasks.diagnose.config import DiagnoseConfig
from bothways.tasks.diagnose.result import DiagnoseMeasures, Diagnosis
from bothways.tasks.held_out import held_out_pictures
from bothways.tasks.memory import check_batch
from bothways.tasks.parts import Part, PartedWork, kept_parts, merged
from bothways.tasks.work import Grid, Where
from bothways.types import UserError

VELOCITY = 4  # bytes of a number of a velocity
STRIP_DEPTHS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
GAINS, SHOWN, POINTS = 16, 10, 400  # pictures for the gain, pictures in the strips, points with paths


@final
@dataclass
class DiagnoseWork(PartedWork):
    """A run of ``diagnose``. images: (N,3,H,W) in [0,1] on the flow's device. codes: (N,C,H,W), the flow's inputs."""

    config: DiagnoseConfig
    flow: Flow
    images: Tensor
    codes: Tensor
    experiment: Experiment
    kept: dict[str, Any] = field(default_factory=dict)
    schema = DiagnoseMeasures

    @property
    def seeds(self) -> list[int]:
        """The seed of each picture."""
        return [picture_seed(self.config.seed, index) for index in range(len(self.images))]

    @property
    def parts(self) -> list[Part]:
        depths, folder = self.config.depths, self.experiment.folder
        parts = [
            Part("straightness", self._straightness),
            *(Part(f"round trip to {depth}", lambda depth=depth: self._trip(depth)) for depth in depths),  # type: ignore[misc]
            *(Part(f"gain at {depth}", lambda depth=depth: self._gain(depth)) for depth in depths),  # type: ignore[misc]
            Part("information", self._information),
        ]
        if self.images.shape[-2:] == (1, 1):
            return [*parts, Part("paths", self._roll)]
        if folder is None:
            return parts
        shown = self.images[:SHOWN]
        return [*parts, Part("strips", lambda: strip_files(self.flow, shown, self.config.steps, folder))]

    def _straightness(self) -> dict[str, Any]:
        noise = Draws(self.seeds).normal(self.codes.shape[1:]).to(self.codes)
        return {"straightness": straightness(self.flow, noise, steps=self.config.steps).as_facts()}

    def _trip(self, depth: float) -> dict[str, Any]:
        found = round_trip(self.flow, self.images, [depth], self.config.trip_steps, solver=self.config.solver)
        return {"round_trip": [entry.as_facts() for entry in found]}

    def _gain(self, depth: float) -> dict[str, Any]:
        steps = max(1, round(self.config.steps * depth))
        found = jacobian_gain(self.flow, self.codes[:GAINS], self.seeds[:GAINS], [depth], steps=steps)
        return {"gain": [entry.as_facts() for entry in found]}

    def _information(self) -> dict[str, Any]:
        found = mutual_information_indicator(self.flow, self.flow.path, self.codes, self.seeds)
        return {"information": [entry.as_facts() for entry in found]}

    def _roll(self) -> dict[str, Any]:
        """The paths of points in the plane of their first two coordinates, with their angles on the roll."""
        codes = self.codes[:POINTS]
        places = paths(self.flow, codes, steps=self.config.steps)
        flat = type(places)(places.states[:, :, :2], places.depths)
        return {"swiss_roll": flat.as_facts(codes[:, :2].flatten(1).norm(dim=1).tolist())}

    def measures(self) -> dict[str, Any]:
        return {"flow": merged(self.kept), "citations": flow_citations(path=self.flow.spec.path)}

    def result(self, measures: dict[str, Any]) -> Diagnosis:
        return Diagnosis.of(measures)

    def plan(self) -> str:
        return f"{self.steps} measures of {len(self.images)} pictures would be taken"

    def summary(self, result: Diagnosis, out: Path | None) -> Iterator[str | Grid]:
        found: Mapping[str, Any] = result.straightness
        total, low, high, dims, n = (found[key] for key in ("total", "low", "high", "dims", "n"))
        ends = [f" ({low / per:.3g} to {high / per:.3g})" if n > 1 else "" for per in (1, dims)]
        yield f"straightness {total:.3g}{ends[0]} in total, {total / dims:.3g}{ends[1]} per dimension (0 is straight)"


def prepare(config: DiagnoseConfig, where: Where) -> DiagnoseWork:
    """Prepare a run of ``diagnose``. Raises UserError for invalid input, before the first picture."""
    solver_of(config.solver)
    if not all(0 < depth <= 1 for depth in config.depths) or min(config.trip_steps) < 1:
        raise UserError(f"depths={config.depths}, trip_steps={config.trip_steps}: type depths in (0, 1], and 1 or more")
    flow = load_flow(config.flow, device=config.device, dtype=config.dtype)
    images = held_out_pictures(flow, config.data, config.split, config.n).to(flow.mean.device)
    _check_memory(flow, config.steps, min(len(images), BATCH))
    tables = {"settings": config.model_dump(exclude={"flow"}), "model": flow_facts(flow)}
    device = str(flow.mean.device)
    experiment = Experiment.begin("diagnose", tables, **where.as_options(), device=device)
    return DiagnoseWork(config, flow, images, flow.code(images), experiment, kept_parts(experiment))


def _check_memory(flow: Flow, steps: int, together: int) -> None:
    """Raise UserError where a batch of paths does not fit, whose velocities are held at every step."""
    values, device = math.prod(flow.shape), str(flow.mean.device)
    each = VELOCITY * float(values) * together
    budget.check_memory(
        f"velocities of {together} pictures at {steps:,} steps",
        each * steps,
        lambda free: budget.within("--steps", int(free / each), "type --n 1"),
        device,
    )

    def work(count: int) -> None:
        with torch.no_grad():
            flow(torch.zeros(count, *flow.shape, device=device), torch.full((count,), 0.5, device=device))

    check_batch("batches", work, together, values, device=device, option="--n")


def strip_files(
    flow: Flow,
    images: Tensor,
    steps: int,
    folder: RunFolder,
    depths: Sequence[float] = STRIP_DEPTHS,
    *,
    back: bool = False,
) -> dict[str, Any]:
    """Write a strip of each picture's states to noise and back to the run folder -> {"strips", "strip_depths"}.

    images: (N,3,H,W) in [0,1]. steps: solver steps from picture to noise.
    """
    rows = side_by_side(strips(flow, images, depths, steps=steps, back=back))
    files = [f"images/strip-{index:04d}.png" for index in range(len(rows))]
    for file, row in zip(files, rows, strict=True):
        replace_file(folder.path / file, to_png(row))
    return {"strips": files, "strip_depths": [*depths, *(reversed(depths[:-1]) if back else ())]}
