"""How likely a flow holds pictures, and what it does to them on the way to noise: a run folder each, part after part.

What is finished is kept, and a run that was stopped goes on with the next part.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bothways.data.sources import ImageSet, first_size, load_images
from bothways.data.splits import held_out
from bothways.models.loader import load_flow
from bothways.models.velocity import Flow
from bothways.numerics.draws import Draws, picture_seed
from bothways.numerics.solvers import solver_of
from bothways.representation.diagnostics import jacobian_gain, paths, round_trip, side_by_side, straightness, strips
from bothways.representation.information import mutual_information_indicator
from bothways.representation.likelihood import Integration, Likelihood, bits_per_dim
from bothways.runs import RunFolder, to_png
from bothways.runs.citations import flow_citations
from bothways.runs.experiment import ending
from bothways.runs.files import replace_file
from bothways.runs.provenance import flow_tables, peak_memory
from bothways.types import Frame, UserError

DEPTHS = (0.1, 0.25, 0.5, 0.75, 1.0)
STRIP_DEPTHS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
ROUND_TRIP_STEPS = (5, 10, 20, 50)
GAINS, SHOWN, POINTS = 16, 10, 400  # pictures whose gain is taken, pictures in the strips, points whose paths are drawn

Part = tuple[str, Callable[[], Mapping[str, Any]]]  # a name, and what gives facts for measures["flow"]


@dataclass
class FlowMeasuring:
    """``run`` takes the parts that are not done; ``finish`` writes measures["flow"] and gives it."""

    flow: Flow
    parts: list[Part]
    close: Callable[[dict[str, Any]], dict[str, Any]]
    citations: list[str]
    folder: RunFolder | None = None
    done: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def left(self) -> list[Part]:
        return [part for part in self.parts if part[0] not in self.done]

    def run(self) -> Generator[Frame, None, None]:
        """Yield a frame after every part. However it ends, what is done is kept."""
        with ending(self.folder, lambda: {"seconds": self.seconds}):
            for name, measure in self.left:
                began = time.perf_counter()
                self.done[name] = dict(measure())
                self.seconds += time.perf_counter() - began
                if self.folder is not None:
                    self.folder.save_state({}, {"done": self.done})
                plain = {key: value for key, value in self.done[name].items() if isinstance(value, float)}
                yield Frame(len(self.done), len(self.done) / len(self.parts), None, plain)

    def finish(self) -> dict[str, Any]:
        """measures["flow"], kept in the run folder where there is one."""
        facts = self.close(self.done)
        cost: dict[str, Any] = {"seconds": self.seconds, "peak_mb": peak_memory(str(self.flow.mean.device))}
        if self.folder is not None:
            self.folder.write_measures({"flow": facts, "cost": cost, "citations": self.citations})
            self.folder.finish("complete", "", **cost)
        return facts

    def whole(self) -> dict[str, Any]:
        """Run and finish."""
        with closing(self.run()) as frames:
            for _ in frames:
                pass
        return self.finish()


def likelihood(flow: Any, data: str | Path, **options: Any) -> dict[str, Any]:
    """Bits per dimension of pictures under a flow, with the 95 % interval over pictures -> measures["flow"].

    flow: a run of ``pretrain``, an address, or what ``load_flow`` gave. data: as for ``load_images``; the test split
    where there is one. limit: pictures at most. solver, steps, divergence, probes, tolerance: see
    ``representation.likelihood.Integration``. draws: of what rounding took away. out, overwrite, resume: a run folder.
    """
    return prepare_likelihood(flow, data, **options).whole()


def prepare_likelihood(
    flow: Any,
    data: str | Path,
    *,
    limit: int = 500,
    draws: int = 1,
    batch: int = 50,
    seed: int = 0,
    solver: str = "midpoint",
    steps: int = 50,
    divergence: str = "auto",
    probes: int = 1,
    tolerance: float = 1e-5,
    device: str = "cpu",
    dtype: str = "float32",
    **where: Any,
) -> FlowMeasuring:
    """Everything of ``likelihood`` that can be refused, before the first picture."""
    how = Integration(solver, steps, divergence, probes, tolerance)
    if batch < 1 or draws < 1:
        raise UserError(f"--batch {batch}, --draws {draws}: type 1 or more")
    found = load_flow(flow, device=device, dtype=dtype)
    images = _pictures(found, data, limit)
    seeds = [picture_seed(seed, index) for index in range(len(images))]

    def part(first: int) -> Part:
        chosen = slice(first, first + batch)

        def measure() -> dict[str, Any]:
            own = images[chosen].to(found.mean.device)
            bits = bits_per_dim(found, own, seeds[chosen][: len(own)], how, draws=draws, batch=batch)
            facts = {"bits": bits.bits.tolist(), "log_p": bits.log_p.tolist(), "dims": bits.dims, "calls": bits.calls}
            return {"bits/dim": bits.mean.value, **facts}

        return f"pictures {first}", measure

    def close(done: dict[str, Any]) -> dict[str, Any]:
        rows = [done[name] for name, _ in parts]
        bits, log_p = (torch.tensor([v for row in rows for v in row[key]]).double() for key in ("bits", "log_p"))
        whole = Likelihood(bits, log_p, rows[0]["dims"], rows[0]["calls"], draws, how)
        return {"likelihood": whole.as_facts()}

    parts = [part(first) for first in range(0, len(images), batch)]
    asked = {"command": "likelihood", "limit": limit, "draws": draws, "batch": batch, "seed": seed, "solver": solver}
    asked |= {"steps": steps, "divergence": divergence, "probes": probes, "tolerance": tolerance, "dtype": dtype}
    cited = flow_citations("likelihood", path=found.spec.path)
    return in_folder(FlowMeasuring(found, parts, close, cited), asked, data, **where)


def diagnose(flow: Any, data: str | Path, **options: Any) -> dict[str, Any]:
    """What a flow does to pictures: straightness, round trip, gain, information, paths and strips -> measures["flow"].

    flow, data, out, overwrite, resume: as for ``likelihood``. n: pictures. solver: of the round trip; steps: of the
    whole way, for the rest.
    """
    return prepare_diagnose(flow, data, **options).whole()


def prepare_diagnose(
    flow: Any,
    data: str | Path,
    *,
    n: int = 64,
    steps: int = 50,
    solver: str = "euler",
    seed: int = 0,
    device: str = "cpu",
    dtype: str = "float32",
    **where: Any,
) -> FlowMeasuring:
    """Everything of ``diagnose`` that can be refused, before the first picture."""
    solver_of(solver)
    found = load_flow(flow, device=device, dtype=dtype)
    images = _pictures(found, data, n).to(found.mean.device)
    seeds = [picture_seed(seed, index) for index in range(len(images))]
    if steps < 1:
        raise UserError(f"--steps {steps}: type 1 or more")
    asked = {"command": "diagnose", "n": n, "steps": steps, "solver": solver, "seed": seed, "dtype": dtype}
    measuring = FlowMeasuring(found, [], merged, flow_citations(path=found.spec.path))
    measuring = in_folder(measuring, asked, data, **where)
    measuring.parts = _diagnoses(found, images, seeds, solver, steps, measuring.folder)
    return measuring


def _diagnoses(
    flow: Flow, images: Tensor, seeds: list[int], solver: str, steps: int, folder: RunFolder | None
) -> list[Part]:
    codes = flow.code(images)
    noise = Draws(seeds).normal(codes.shape[1:]).to(codes)

    def trip(depth: float) -> dict[str, Any]:
        found = round_trip(flow, images, [depth], ROUND_TRIP_STEPS, solver=solver)
        return {"round_trip": [entry.as_facts() for entry in found]}

    def gain(depth: float) -> dict[str, Any]:
        count = max(1, round(steps * depth))
        found = jacobian_gain(flow, codes[:GAINS], seeds[:GAINS], [depth], steps=count)
        return {"gain": [entry.as_facts() for entry in found]}

    def information() -> dict[str, Any]:
        found = mutual_information_indicator(flow, flow.path, codes, seeds)
        return {"information": [entry.as_facts() for entry in found]}

    parts: list[Part] = [
        ("straightness", lambda: {"straightness": straightness(flow, noise, steps=steps).as_facts()}),
        *((f"round trip to {depth}", lambda depth=depth: trip(depth)) for depth in DEPTHS),
        *((f"gain at {depth}", lambda depth=depth: gain(depth)) for depth in DEPTHS),
        ("information", information),
    ]
    if images.shape[-2:] == (1, 1):
        return [*parts, ("paths", lambda: _roll(flow, codes[:POINTS], steps))]
    return parts if folder is None else [*parts, ("strips", lambda: strip_files(flow, images[:SHOWN], steps, folder))]


def _roll(flow: Flow, codes: Tensor, steps: int) -> dict[str, Any]:
    """The paths of points in the plane of their first two coordinates, coloured from inside out."""
    places = paths(flow, codes, steps=steps)
    flat = type(places)(places.states[:, :, :2], places.depths)
    return {"swiss_roll": flat.as_facts(codes[:, :2].flatten(1).norm(dim=1).tolist())}


def strip_files(
    flow: Flow,
    images: Tensor,
    steps: int,
    folder: RunFolder,
    depths: Sequence[float] = STRIP_DEPTHS,
    *,
    back: bool = False,
) -> dict[str, Any]:
    """Draw each picture's way to noise, and back, into a file of the run folder -> the facts of them."""
    rows = side_by_side(strips(flow, images, depths, steps=steps, back=back))
    files = [f"images/strip-{index:04d}.png" for index in range(len(rows))]
    for file, row in zip(files, rows, strict=True):
        replace_file(folder.path / file, to_png(row))
    return {"strips": files, "strip_depths": [*depths, *(reversed(depths[:-1]) if back else ())]}


def merged(done: dict[str, Any]) -> dict[str, Any]:
    """The facts of all parts; lists of one name are joined."""
    facts: dict[str, Any] = {}
    for part in done.values():
        for name, value in part.items():
            facts[name] = [*facts[name], *value] if name in facts else value
    return facts


def _pictures(flow: Flow, data: str | Path, limit: int) -> Tensor:
    if limit < 1:
        raise UserError(f"{limit} pictures are asked for; type 1 or more")
    size, split = (flow.spec.height, flow.spec.width), held_out(data)
    found = load_images(data, split=split, size=size, limit=limit)
    for told in _changed(flow, found, first_size(data, split)):
        warnings.warn(told, stacklevel=2)
    return found.images.float() / 255


def _changed(flow: Flow, found: ImageSet, size: tuple[int, int]) -> Iterator[str]:
    """What the flow does not see of the pictures as they are, each in one line. size: of the first of them."""
    (high, wide), spec = size, flow.spec
    if size != (spec.height, spec.width):
        yield f"pictures of {high}x{wide} pixels are resized and cut to the flow's {spec.height}x{spec.width}"
    if spec.channel_order == "grey" and found.channels == 3:
        yield "pictures in colour: the flow is grey and sees the mean of their channels"
    if spec.levels < found.levels:
        yield f"values of {found.levels} levels are rounded to the {spec.levels} that the flow was trained on"


def in_folder(
    measuring: FlowMeasuring,
    asked: Mapping[str, Any],
    data: str | Path,
    out: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> FlowMeasuring:
    if out is None:
        return measuring
    told = flow_tables(measuring.flow, asked, data)
    measuring.folder = RunFolder.create(out, told, overwrite=overwrite, resume=resume)
    saved = measuring.folder.load_state()
    if saved is not None:
        measuring.done = saved[1]["done"]
    measuring.seconds = float(measuring.folder.status["seconds"])
    return measuring
