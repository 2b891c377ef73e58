"""The arms of prg_controls.py: what each is trained with, networks and heads of equal size, and counted operations."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from bothways.models.classifiers import card_of_flow
from bothways.models.nets.plain import PlainNet
from bothways.models.velocity import Flow
from bothways.numerics.modules import uncompiled
from bothways.representation.heads.prg import WIDTH, PRGHead
from bothways.tasks.finetune.plan import Finetuning

POOLED = 3 * 16 * 16  # numbers of a walked picture at the head
DEPTHS = (1, 2, 2, 2)  # layers of the plain network at each size of its maps
TIMES = (1.0, 2.0, 3.5, 4.0)  # its widths there


def equal_head(width_in: int, classes: int) -> nn.Module:
    """PRG's head with as many parameters as it has on walked pictures, whatever it reads."""
    whole = 2 * POOLED + WIDTH * (POOLED + 1 + classes)
    return PRGHead(width_in, classes, width=max(1, round((whole - 2 * width_in) / (width_in + 1 + classes))))


LONG = 512  # pictures of a batch where a plain network is trained for the operations of others
WALK: dict[str, Any] = {"kind": "walked", "depth": 0.5, "steps": 3}
NEAR: dict[str, Any] = {"kind": "activations", "depth": 0.1}
BOTH: dict[str, Any] = {**WALK, "kind": "both", "activation_depth": 0.1}
FRESH: dict[str, Any] = {"fresh": True}
FROZEN: dict[str, Any] = {"frozen": True}
EQUAL: dict[str, Any] = {"head": equal_head}
CONTROLS: dict[str, dict[str, Any]] = {
    "prg": WALK,
    "prg + activations": BOTH,
    "no pretraining": {**WALK, **FRESH},
    "plain cnn": {},
    "plain cnn, equal operations": {"base": "plain cnn", "batch": LONG},
    "plain cnn, equal operations, equal batches": {"base": "plain cnn"},
    "plain cnn, operations of pretraining too": {"base": "plain cnn", "batch": LONG, "pretraining": True},
    "activations": NEAR,
    "activations, equal head": {**NEAR, **EQUAL},
    "activations, no pretraining": {**NEAR, **FRESH},
    "activations, equal operations": {**NEAR, "base": "activations"},
    "frozen walked": {**WALK, **FROZEN},
    "frozen activations": {**NEAR, **FROZEN},
    "frozen activations, equal head": {**NEAR, **FROZEN, **EQUAL},
    "random activations, equal head": {**NEAR, **FROZEN, **FRESH, **EQUAL},
    "pixels": {"kind": "pixels"},
}
CHOICES: dict[str, dict[str, Any]] = {
    "prg": WALK,
    **{f"steps {steps}": {**WALK, "steps": steps} for steps in (1, 2, 5, 10, 20)},
    **{f"depth {depth:g}": {**WALK, "depth": depth} for depth in (0.1, 0.25, 0.75, 1.0)},
    **{f"beta {beta:g}": {**WALK, "beta": beta} for beta in (0.0, 10.0)},
    "gradient adjoint, 5 steps": {**WALK, "steps": 5, "gradient": "adjoint"},
    **{f"solver {solver}": {**WALK, "solver": solver} for solver in ("heun", "midpoint", "ab2")},
}
ONCE: dict[str, Any] = {"kind": "walked", "depth": 0.5, "steps": 1, "beta": 0.0}
TUNING: dict[str, dict[str, Any]] = {
    "all, walk of 1 step": {**ONCE, "tune": "all"},
    **{part: {**ONCE, "tune": part} for part in ("lora:16", "lora:4", "last:2", "bias", "head")},
    "head, on frozen activations": {**NEAR, "tune": "head"},
    "head of equal size, on frozen activations": {**NEAR, **EQUAL, "tune": "head"},
    "all, walk of 3 steps": {**ONCE, "steps": 3, "tune": "all"},
    "all, walk of 5 steps": {**ONCE, "steps": 5, "tune": "all"},
}
SETS = {"controls": CONTROLS, "choices": CHOICES, "tuning": TUNING}
ALL = 47_500  # labels of the training file that are not held out
HELD = 2_500  # pictures that are, by which rates are chosen
SETTINGS: dict[int, dict[str, Any]] = {  # what is equal over the arms: at so many labels or fewer
    500: {"epochs": 12, "batch": 64},
    5000: {"epochs": 6, "batch": 128},
    ALL: {"epochs": 12, "batch": 256, "average": 0.998},
}


def settings(labels: int) -> dict[str, Any]:
    """What all arms of so many labels are trained with, but for the rate."""
    equal = next(values for most, values in sorted(SETTINGS.items()) if labels <= most)
    return {"average": 0.98, "flow_batch": equal["batch"] // 4, "layer_decay": 1.0, "bf16": True, **equal}


def sized(parameters: int, classes: int) -> PlainNet:
    """A plain convolutional network of so many parameters, as near as widths in steps of four come.

    Raises ValueError for fewer than it can have.
    """

    def widths(width: int) -> list[int]:
        return [4 * round(width * times / 4) for times in TIMES]

    def size(width: int) -> int:
        into = [3, *(w for w, deep in zip(widths(width), DEPTHS, strict=True) for w in [w] * deep)]
        layers = sum(9 * a * b + 2 * b for a, b in pairwise(into))
        return layers + (into[-1] + 1) * classes

    if parameters < size(4):
        raise ValueError(f"a plain network has {size(4)} parameters at least, not {parameters}")
    width = min(range(4, 1024, 4), key=lambda width: abs(size(width) - parameters))
    return PlainNet(classes, widths(width), DEPTHS)


# ---- operations ----------------------------------------------------------------------------------------------------


def operations_of_step(network: nn.Module, loss: Any, batch: Sequence[Tensor], whole: int, bf16: bool) -> float:
    """Operations of a step: of a forward and a backward pass on a part of its batch, scaled to ``whole`` pictures.

    A multiplication and an addition are two. loss, batch: as for training/fit.py, each tensor with its share of rows.
    """
    tried = copy.deepcopy(network).train()
    device = next(tried.parameters()).device
    given = tuple(part.to(device) for part in batch)
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        uncompiled(tried),
        FlopCounterMode(display=False) as counter,
        torch.autocast(device.type, torch.bfloat16, enabled=bf16),
    ):
        loss(tried, given)[0].backward()
    return counter.get_total_flops() * whole / len(given[0])


def operations_of(call: Any) -> float:
    """Operations of a call without a gradient."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        call()
    return float(counter.get_total_flops())


def few_of(planned: Finetuning, batch: Sequence[Tensor], count: int = 8) -> tuple[Tensor, ...]:
    """A part of a batch: so many pictures with their labels, and pairs in the proportion of the whole."""
    share = len(batch[2]) / len(batch[0]) if len(batch) > 2 else 0.0
    return tuple(part[: count if place < 2 else max(1, round(share * count))] for place, part in enumerate(batch))


def pretraining(flow: Flow, pictures: float | None = None) -> float:
    """Operations of a flow's pretraining: three forward passes for each picture of every step.

    pictures: of all steps together; where left out, those of its card. Raises ValueError where the card says nothing.
    """
    if pictures is None:
        fit = ((card_of_flow(flow.name) or {}).get("recipe") or {}).get("fit") or {}
        if not (fit.get("steps") and fit.get("batch")):
            raise ValueError(f"the card of {flow.name!r} does not say how long it was trained; give --pretrained N")
        pictures = fit["steps"] * fit["batch"]
    device = flow.mean.device
    x, t = torch.zeros(1, *flow.shape, device=device), torch.full((1,), 0.5, device=device)
    return 3.0 * pictures * operations_of(lambda: flow(x, t))


def name_of(arm: str, labels: int, seed: int, rate: float, epochs: int | None = None) -> Path:
    """The folder of an arm's run below that of all. epochs: where they are not those of its number of labels."""
    plain = re.sub("[ :,]+", "-", arm.replace("+", "and"))
    other = "" if epochs is None else f"-{epochs}-epochs"
    return Path(f"{plain}-{labels}-{seed}-{rate:g}{other}")
