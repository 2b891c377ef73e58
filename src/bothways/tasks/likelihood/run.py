"""Bits per dimension of pictures under a flow, batch by batch.

bits/dim = -(log p(x) + log |dx/dy|) / (D log 2) + log2 levels       (representation/likelihood.py)
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from bothways import budget
from bothways.models.loader import load_flow
from bothways.models.velocity import Flow
from bothways.numerics.draws import picture_seed
from bothways.numerics.footprint import SLACK, peak_bytes
from bothways.numerics.modules import check_finite
from bothways.representation.divergence import ROWS_AT_ONCE, with_divergence
from bothways.representation.likelihood import Integration, bits_per_dim, log_density
from bothways.representation.likelihood import Likelihood as Densities
from bothways.runs.citations import flow_citations
from bothways.runs.experiment import Experiment
from bothways.runs.provenance import flow_facts
from bothways.tasks.held_out import held_out_pictures
from bothways.tasks.likelihood.config import LikelihoodConfig
from bothways.tasks.likelihood.result import Likelihood, LikelihoodMeasures
from bothways.tasks.memory import check_batch
from bothways.tasks.parts import Part, PartedWork, kept_parts
from bothways.tasks.work import Grid, Where

EACH = ("bits", "log_p", "log_det")  # the numbers of each picture
BASIS = 4  # bytes of a number of the directions of an exact divergence
DIRECTION = 20  # bytes of a number of a probe: a whole number, and floats of it
PRODUCTS = 100_000  # vector-Jacobian products up to which the exact trace is taken
ROWS = 512  # values of a picture times probes, where their number is not set
MOST_PROBES = 8
SOON = 60.0  # seconds of an exact trace from which its time is told before it starts


def integration_of(config: LikelihoodConfig, values: int, pictures: int) -> Integration:
    """The integration of a run over ``pictures`` of so many values: its divergence and the number of probes."""
    probes = config.probes or min(MOST_PROBES, max(1, ROWS // values))
    how = Integration(config.solver, config.steps, config.divergence, probes, config.tolerance)
    if config.divergence != "auto":
        return how
    return replace(how, divergence="exact" if products(config, values, pictures) <= PRODUCTS else "hutchinson")


def products(config: LikelihoodConfig, values: int, pictures: int) -> int:
    """The vector-Jacobian products of the exact trace, at two network calls a step as of the midpoint rule."""
    return values * pictures * config.draws * 2 * config.steps


@final
@dataclass
class LikelihoodWork(PartedWork):
    """A run of ``likelihood``. images: (N,3,H,W) in [0,1]; a part is ``config.batch`` of them."""

    config: LikelihoodConfig
    flow: Flow
    images: Tensor
    how: Integration
    experiment: Experiment
    kept: dict[str, Any] = field(default_factory=dict)
    schema = LikelihoodMeasures

    @property
    def parts(self) -> list[Part]:
        firsts = range(0, len(self.images), self.config.batch)
        return [Part(f"pictures {first}", lambda first=first: self._bits(first)) for first in firsts]  # type: ignore[misc]

    def _bits(self, first: int) -> dict[str, Any]:
        own = self.images[first : first + self.config.batch].to(self.flow.mean.device)
        seeds = [picture_seed(self.config.seed, index) for index in range(first, first + len(own))]
        found = bits_per_dim(self.flow, own, seeds, self.how, draws=self.config.draws, batch=self.config.batch)
        check_finite(found.bits, f"flow {self.flow.name!r} gives bits of pictures {first} to {first + len(own) - 1}")
        each = {key: getattr(found, key).tolist() for key in EACH}
        return {"bits/dim": found.mean.value, **each, "dims": found.dims, "calls": found.calls}

    def measures(self) -> dict[str, Any]:
        rows = [self.kept[part.name] for part in self.parts]
        bits, log_p, log_det = (torch.tensor([v for row in rows for v in row[key]]).double() for key in EACH)
        counts, latent = (rows[0]["dims"], rows[0]["calls"], self.config.draws), self.flow.latents is not None
        whole = Densities(bits, log_p, *counts, self.how, log_det, latent)
        cited = flow_citations("likelihood", path=self.flow.spec.path)
        return {"flow": {"likelihood": whole.as_facts()}, "citations": cited}

    def result(self, measures: dict[str, Any]) -> Likelihood:
        return Likelihood.of(measures)

    def opening(self) -> str:
        left = self.steps - self.done
        if not left or not self.how.exact(math.prod(self.flow.shape)):
            return ""
        seconds = left * self._seconds_of_part()
        return (
            f"the exact trace takes about {seconds / 60:.0f} minutes; --divergence hutchinson estimates it"
            if seconds > SOON
            else ""
        )

    def _seconds_of_part(self) -> float:
        """Seconds of a part, from one backward pass of its first network call."""
        part = self.images[: self.config.batch].to(self.flow.mean.device)
        x, t = self.flow.code(part), torch.zeros(len(part), device=part.device)
        several = max(1, min(x[0].numel(), ROWS_AT_ONCE // len(x)))
        began = time.monotonic()
        with_divergence(self.flow, x, t, torch.ones(several, *x.shape, device=x.device))
        return (time.monotonic() - began) * x[0].numel() / several * 2 * self.config.steps * self.config.draws

    def plan(self) -> str:
        return f"{len(self.images)} pictures in {self.steps} parts would be measured"

    def summary(self, result: Likelihood, out: Path | None) -> Iterator[str | Grid]:
        interval = f" ({result.low:.3f} to {result.high:.3f})" if result.n > 1 else ""
        cost = f"{result.n} pictures, {result.calls} network calls each"
        of = " of the latent's density, not of the picture," if result.latent else ""
        yield f"{result.bits_per_dim:.3f} bits/dim{interval}{of} over {cost}; divergence: {result.divergence}"
        if (given := result.given_noise) is None:
            return
        interval = f" ({given.low:.3f} to {given.high:.3f})" if result.n > 1 else ""
        yield f"log p(picture | its noise) {given.nats_per_dim:.3f} nats per dimension{interval}, the indicator of PRG"


def prepare(config: LikelihoodConfig, where: Where) -> LikelihoodWork:
    """Prepare a run of ``likelihood``. Raises UserError for invalid input, before the first picture."""
    Integration(config.solver, config.steps, config.divergence, config.probes or 1, config.tolerance)  # refuses at once
    flow = load_flow(config.flow, device=config.device, dtype=config.dtype)
    images = held_out_pictures(flow, config.data, config.split, config.limit)
    how = integration_of(config, math.prod(flow.shape), len(images))
    _check_memory(flow, how, min(config.batch, len(images)))
    tables = {"settings": config.model_dump(exclude={"flow"}), "model": flow_facts(flow)}
    device = str(flow.mean.device)
    experiment = where.begin("likelihood", tables, device=device)
    where.processes.tell_of_idle(-(-len(images) // config.batch), "type a smaller --batch")
    return LikelihoodWork(config, flow, images, how, experiment, kept_parts(experiment))


def _check_memory(flow: Flow, how: Integration, batch: int) -> None:
    """Raise UserError where the directions of the divergence, or a batch, do not fit."""
    (channels, high, wide), device = flow.shape, str(flow.mean.device)
    values = channels * high * wide
    if how.exact(values):
        told = f"the {values:,} directions of an exact divergence"
        budget.check_memory(told, BASIS * float(values) ** 2, "type --divergence hutchinson", device)
    else:
        each, told = DIRECTION * float(values) * batch, f"{how.probes:,} probes of {batch} pictures"
        otherwise = f"type a smaller --batch than {batch}"
        budget.check_memory(
            told, each * how.probes, lambda free: budget.within("--probes", int(free / each), otherwise), device
        )

    directions, area = values if how.exact(values) else how.probes, high * wide

    def together(pictures: int) -> int:
        return max(1, min(directions, ROWS_AT_ONCE // pictures))  # directions of one backward pass

    def work(count: int, probes: int = 1) -> None:
        short = Integration("euler", 1, "hutchinson", probes)
        log_density(flow, torch.zeros(count, *flow.shape, device=flow.mean.device), list(range(count)), short)

    if budget.certainly_fits(batch * area * together(batch), device):
        return
    row = max(0.0, peak_bytes(lambda: work(1, 4)) - peak_bytes(lambda: work(1, 2))) / 2
    check_batch(
        "batches", work, batch, area, device=device, more=lambda n: SLACK * row * n * (together(n) - 1)
    )  # fmt: skip
