"""Measurements during a flow's training: flow-matching loss and two indicators on held-out images.

    RUN/along.jsonl     {"step", "n", "flow_matching",
                         "information": [an entry per depth, as in diagnose],
                         "given_noise": {"nats_per_dim", "low", "high", "n"},
                         "accuracy" or "probe": {"value", "low", "high", "n"}}

One line for the initial weights and one per scheduled checkpoint, of the EMA flow, on fixed pictures and noise;
accuracies (training/accuracy.py) at steps of their own. "information" is the I-MMSE bound, which falls as the flow
learns; "given_noise" is PRG's E log p(x_0 | x_1), which rises (see representation/information.py). "n" pictures have
the loss: the larger number of the two, or all.
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
from bothways.numerics.intervals import mean_interval
from bothways.processes.group import Batches
from bothways.progress import counted, stage
from bothways.representation.flow_matching import flow_matching
from bothways.representation.information import (
    at_depths,
    conditional_log_likelihood,
    mutual_information_indicator,
)
from bothways.representation.likelihood import Integration
from bothways.runs import ALONG
from bothways.runs.files import append_lines, json_line, read_lines, replace_file
from bothways.runs.schema import AlongLine
from bothways.training.config import FlowHoldoutConfig
from bothways.types import UserError

DEPTHS = (0.1, 0.25, 0.5, 0.75, 0.9)
WALKED = Integration(
    "midpoint", 25, "hutchinson", probes=2
)  # of log p(x_0 | x_1): 50 calls, each with 2 backward passes
ENDS = ("nats_per_dim", "low", "high")
VALIDATION_SEED = 1_000_003  # the noise and times of held-out pictures: the same for every run


@dataclass(frozen=True)
class Along:
    """A run's along.jsonl. A resume repeats the lines after its checkpoint.

    measure: (step, whether a checkpoint is planned) -> the entries of a line, of the present weights; {} for no line.
    """

    run: Path
    measure: Callable[[int, bool], dict[str, Any]]

    @property
    def file(self) -> Path:
        return self.run / ALONG

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The lines so far."""
        return read_lines(self.file, AlongLine)

    def begin(self, step: int) -> None:
        """Drop lines after the checkpoint of ``step``, and a partial one; measure initial weights if none is left."""
        kept = [line for line in self.lines if line["step"] <= step]
        replace_file(self.file, b"".join(json_line(line) for line in kept))
        if not kept:
            self.add(step)

    def add(self, step: int, planned: bool = True) -> dict[str, Any]:
        """Measure and append a line, if there is anything to measure at this step, and return it."""
        with stage("measuring along"):
            found = self.measure(step, planned)
            if found:
                append_lines(self.file, [{"step": step, **found}])
        return found


def check_along(holdout: FlowHoldoutConfig, held: int) -> None:
    """Raise UserError if more pictures are to be measured than are held out."""
    for name in ("information", "given_noise"):
        if (pictures := getattr(holdout, name)) > held:
            raise UserError(
                f"{name}={pictures} is more than the {held} pictures held out; type --{name.replace('_', '-')} {held}"
            )


def measures_along(holdout: FlowHoldoutConfig) -> bool:
    """Whether anything is measured along the training."""
    return bool(holdout.information or holdout.given_noise)


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
def held_out_measures(
    flow: Flow,
    held: ImageSet,
    holdout: FlowHoldoutConfig,
    losses: Callable[[Flow, ImageSet], Tensor],
    *,
    whole: bool = False,
) -> dict[str, Any]:
    """Entries of a line of along.jsonl beside the step, on the first held-out pictures; with ``whole`` the loss of all.

    losses: (flow, pictures) -> L_FM of each. A picture's noise and probes depend on its index, not on the run's seed.
    """
    few = held.subset(torch.arange(max(holdout.information, holdout.given_noise)))
    measured = held if whole else few
    line: dict[str, Any] = {"n": len(measured), "flow_matching": losses(flow, measured).mean().item()}
    if not len(few):
        return line
    x = flow.code(few.floats().to(flow.mean.device))
    seeds = [picture_seed(VALIDATION_SEED, index) for index in range(len(x))]
    if count := holdout.information:
        found = mutual_information_indicator(flow, flow.path, x[:count], seeds[:count])
        line["information"] = [entry.as_facts() for entry in at_depths(found, flow.path, DEPTHS)]
    if count := holdout.given_noise:
        nats = conditional_log_likelihood(flow, x[:count], seeds[:count], WALKED)
        line["given_noise"] = {**dict(zip(ENDS, mean_interval(nats), strict=True)), "n": count}
    return line
