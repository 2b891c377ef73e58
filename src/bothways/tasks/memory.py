"""Whether a batch fits: what one picture takes is measured on few of them and compared with what is free."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bothways import budget
from bothways.numerics.footprint import SLACK, peak_bytes
from bothways.numerics.modules import own_dtype
from bothways.types import VisionModel

FEW = (2, 4)  # pictures of the two measurements: a network that normalises over a batch takes no single one
UPDATES = 5  # numbers for each parameter in training: its gradient, two of the optimiser, the average, a copy of it
FLOAT = 4  # bytes
PLAN = 48  # bytes for each pair of a batch that transport is solved for: costs, plan and what its solver copies
AHEAD = 4  # batches that each worker has ready


def check_batch(
    what: str,
    work: Callable[[int], Any],
    batch: int,
    pixels: int,
    *,
    device: str = "cpu",
    option: str = "--batch",
    more: Callable[[int], float] = lambda pictures: 0.0,
) -> None:
    """Raise UserError where a batch does not fit into memory, with the greatest that does.

    what: batches in words, for the message. work: pictures -> the computation on so many, which is made for FEW where
    the batch is not small anyway. pixels: of a picture. more: bytes beside it, by pictures; rising.
    """
    free = budget.free_memory(device)
    if budget.certainly_fits(batch * pixels, device) and more(batch) <= free / 2:
        return
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
            warnings.simplefilter("ignore")  # the run itself says it again
            few, twice = (peak_bytes(lambda count=count: work(count)) for count in FEW)  # type: ignore[misc]
    except Exception:  # whatever a network raises: the run itself says what is wrong
        return
    each = max(0.0, (twice - few) / (FEW[1] - FEW[0]))
    once = max(0.0, few - FEW[0] * each)

    def cost(pictures: int) -> float:
        return SLACK * (once + each * pictures) + more(pictures)

    def cure(free: float) -> str:
        return budget.within(option, budget.greatest(cost, free, batch), "take a smaller model, or another --device")

    budget.check_memory(f"{what} of {batch} pictures", cost(batch), cure, device)


def check_outputs(model: VisionModel, batch: int, pictures: int) -> None:
    """``check_batch`` of the forward pass of a classifier on at most so many pictures."""
    spec, device = model.spec, str(getattr(model, "device", "cpu"))

    def work(count: int) -> None:
        with torch.no_grad():
            model.outputs(torch.full((count, 3, spec.height, spec.width), 0.5, device=device))

    area = spec.height * spec.width
    check_batch("batches", work, min(batch, pictures), area, device=device, more=lambda n: 30.0 * n * area)


def check_training(
    network: nn.Module,
    loss: Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, Any]],
    example: Callable[[int], tuple[Tensor, ...]],
    fit: Any,
    *,
    device: str,
    workers: int,
    transport: bool = False,
) -> None:
    """``check_batch`` of a step of a training, on a copy of the network.

    example: pictures -> a batch of so many, of any numbers; a step is that of a part, if gradients are accumulated.
    transport: whether noise is paired by all distances.
    """
    shape = example(1)[0].shape
    values, parameters = shape[1:].numel(), sum(p.numel() for p in network.parameters())
    own = own_dtype(network) or torch.float32

    def work(count: int) -> None:
        tried = copy.deepcopy(network).train()
        batch = tuple(part.to(device, own if part.is_floating_point() else None) for part in example(count))
        with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=fit.bf16):
            value, _ = loss(tried, batch)
        value.backward()

    def more(pictures: int) -> float:
        held = 3.0 * FLOAT * values * pictures * fit.accumulate * (1 + AHEAD * workers)
        return FLOAT * UPDATES * parameters + held + (PLAN * float(pictures) ** 2 if transport else 0.0)

    check_batch("steps", work, fit.batch // fit.accumulate, shape[-2] * shape[-1], device=device, more=more)


def transports(coupling: Any) -> bool:
    """Whether a coupling holds the distances of all pairs of a batch; a user's own is taken to."""
    return coupling not in ("independent", "sliced", None)
