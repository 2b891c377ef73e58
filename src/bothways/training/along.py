"""Measurements during a flow's training: flow-matching loss and mutual information on held-out images.

    RUN/along.jsonl     {"step", "n", "flow_matching", "information": [an entry per depth, as in diagnose]}

One line for the initial weights and one per scheduled checkpoint, of the EMA flow, on fixed pictures and noise. The
indicator is an upper bound on mutual information that falls as the flow learns; its definition is ours and not that of
PRG's paper (see representation/information.py).
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
from bothways.progress import counted, stage
from bothways.representation.flow_matching import flow_matching
from bothways.representation.information import at_depths, mutual_information_indicator
from bothways.runs import ALONG
from bothways.runs.files import append_lines, json_line, read_lines, replace_file
from bothways.runs.schema import AlongLine
from bothways.training.processes import Batches
from bothways.types import UserError

DEPTHS = (0.1, 0.25, 0.5, 0.75, 0.9)
VALIDATION_SEED = 1_000_003  # the noise and times of held-out pictures: the same for every run


@dataclass(frozen=True)
class Along:
    """A run's along.jsonl. measure: evaluates the present flow. A resume repeats the lines after its checkpoint."""

    run: Path
    measure: Callable[[], dict[str, Any]]

    @property
    def file(self) -> Path:
        return self.run / ALONG

    def begin(self, step: int) -> None:
        """Drop lines after the checkpoint of ``step``, and a partial one; measure initial weights if none is left."""
        kept = [line for line in read_lines(self.file, AlongLine) if line["step"] <= step]
        replace_file(self.file, b"".join(json_line(line) for line in kept))
        if not kept:
            self.add(step)

    def add(self, step: int) -> None:
        """Measure and append a line."""
        with stage("measuring along"):
            append_lines(self.file, [{"step": step, **self.measure()}])


def check_information(pictures: int, held: int) -> None:
    """Raise UserError if more pictures are to be measured than are held out."""
    if pictures > held:
        raise UserError(f"information={pictures} is more than the {held} pictures held out; type --information {held}")


@torch.no_grad()
def losses_of(flow: Flow, held: ImageSet, pairs: Callable[[Callable[[int], Batch], int], Batches], size: int) -> Tensor:
    """Flow-matching loss (N,) of each held-out picture, at fixed noise and times for every run.

    pairs: (step -> pictures, seed) -> (step -> x, noise, t). size: batch size.
    """
    size = min(size, len(held))
    batch, device = pairs(partial(_part, held, size), VALIDATION_SEED), flow.mean.device
    parts = map(batch, counted(range(math.ceil(len(held) / size)), "loss on held-out pictures"))
    return torch.cat([flow_matching(flow, flow.path, *(v.to(device) for v in part)).cpu() for part in parts])


def _part(data: ImageSet, size: int, part: int) -> Batch:
    chosen = data.subset(torch.arange(part * size, min(len(data), (part + 1) * size)))
    return chosen.floats(), chosen.labels


@torch.no_grad()
def held_out_measures(flow: Flow, images: Tensor, losses: Tensor) -> dict[str, Any]:
    """Entries of a line of along.jsonl beside the step: loss and mutual information on held-out pictures.

    images: (N,3,H,W) uint8; their noise depends on the index and not on the run's seed. losses: (N,), their L_FM.
    """
    x = flow.code((images.float() / 255).to(flow.mean.device))
    seeds = [picture_seed(VALIDATION_SEED, index) for index in range(len(x))]
    found = at_depths(mutual_information_indicator(flow, flow.path, x, seeds), flow.path, DEPTHS)
    rows = [entry.as_facts() for entry in found]
    return {"n": len(x), "flow_matching": losses.mean().item(), "information": rows}
