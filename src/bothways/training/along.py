"""What is measured of a flow along its training: how much its noisy pictures still tell of those that are held out.

    RUN/along.jsonl     {"step", "n", "flow_matching", "information": [an entry a depth, as diagnose has them]}

A line for the first weights and for every checkpoint that was planned, of the averaged flow, on the same pictures at
the same noise. The indicator is an upper bound of the mutual information that falls as the flow learns; it is ours and
not of PRG's paper (see representation/information.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bothways.data.images import Batch
from bothways.data.sources import ImageSet
from bothways.models.velocity import Flow
from bothways.numerics.draws import picture_seed
from bothways.representation.flow_matching import flow_matching
from bothways.representation.information import at_depths, mutual_information_indicator
from bothways.runs import ALONG
from bothways.runs.files import append_lines, json_line, read_lines, replace_file
from bothways.training.processes import Batches
from bothways.types import UserError

DEPTHS = (0.1, 0.25, 0.5, 0.75, 0.9)
VALIDATION_SEED = 1_000_003  # the noise and times of held-out pictures: the same for every run


@dataclass(frozen=True)
class Along:
    """A run's along.jsonl. measure: of the flow of now. A killed training makes lines after its checkpoint again."""

    run: Path
    measure: Callable[[], dict[str, Any]]

    @property
    def file(self) -> Path:
        return self.run / ALONG

    def begin(self, step: int) -> None:
        """Cut the lines after the checkpoint of ``step``, a torn one too; measure the first weights if none is left."""
        kept = [line for line in read_lines(self.file) if line["step"] <= step]
        replace_file(self.file, b"".join(json_line(line) for line in kept))
        if not kept:
            self.add(step)

    def add(self, step: int) -> None:
        """Measure, and append a line."""
        append_lines(self.file, [{"step": step, **self.measure()}])


def check_information(pictures: int, held: int) -> None:
    """Raise UserError where fewer pictures are held out than are to be measured on."""
    if pictures > held:
        raise UserError(f"information={pictures} is more than the {held} pictures held out; type --information {held}")


@torch.no_grad()
def losses_of(flow: Flow, held: ImageSet, pairs: Callable[[Callable[[int], Batch], int], Batches], size: int) -> Tensor:
    """(N,): L_FM of each picture held out, at noise and times that are the same for every run.

    pairs: (step -> pictures, seed) -> (step -> x, noise, t). size: pictures that are looked at together.
    """
    size = min(size, len(held))
    batch, device = pairs(partial(_part, held, size), VALIDATION_SEED), flow.mean.device
    parts = (batch(part) for part in range(math.ceil(len(held) / size)))
    return torch.cat([flow_matching(flow, flow.path, *(v.to(device) for v in part)).cpu() for part in parts])


def _part(data: ImageSet, size: int, part: int) -> Batch:
    chosen = data.subset(torch.arange(part * size, min(len(data), (part + 1) * size)))
    return chosen.images.float() / 255, chosen.labels


@torch.no_grad()
def held_out_measures(flow: Flow, images: Tensor, losses: Tensor) -> dict[str, Any]:
    """What a line holds beside its step.

    images: (N,3,H,W) uint8, each with the noise of its place, whatever the seed of the run. losses: (N,) L_FM of them.
    """
    x = flow.code((images.float() / 255).to(flow.mean.device))
    seeds = [picture_seed(VALIDATION_SEED, index) for index in range(len(x))]
    found = at_depths(mutual_information_indicator(flow, flow.path, x, seeds), flow.path, DEPTHS)
    rows = [entry.as_facts() for entry in found]
    return {"n": len(x), "flow_matching": losses.mean().item(), "information": rows}
