"""Gradient ascent on an image parameterization along a field, with an optimiser and a step schedule.

    p <- p + step(k) * direction(J^T dx),   J = d image / d parameters,   dx = field(image, t)

By default the step of each picture is scaled so that its canvas moves by a fixed RMS, independent of the gradient's
scale (to first order, if the canvas is not linear in the parameters); ``rate`` is the papers' plain learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from bothways.numerics.draws import Draws
from bothways.numerics.schedules import schedule_of
from bothways.synthesis.config import AscentConfig
from bothways.synthesis.parameterizations import free
from bothways.types import Frame, Parameterization, RunError, UserError, VectorField

FINEST = math.sqrt(0.5)  # cycles per pixel of the shortest wave, along the diagonal


class Ascent:
    """State of an ascent: parameters, optimiser state and number of steps; all that a resume needs.

    reach: further factor of the step length, such as the share of the canvas that may move.
    side: pixels of a side of the picture, in which ``grow_from`` counts; None for the shorter one of the canvas.
    alpha: (B,1,H,W), sum over steps and colours of |dx|, if enabled (MaCo's transparency).
    Raises UserError for an optimiser, or a growth, that the parameterization does not support.
    """

    def __init__(
        self, parameterization: Parameterization, settings: AscentConfig, reach: float = 1.0, side: int | None = None
    ) -> None:
        if settings.optimizer == "adam" and getattr(parameterization, "linear_only", False):
            raise UserError(
                'the stack as an operator takes "sgd" or "momentum"; for "adam" type --set canvas.engine=explicit'
            )
        if settings.grow and free(parameterization, FINEST) is None:
            raise UserError(
                "ascent.grow needs a canvas whose waves or levels move one by one; type --canvas fourier, photographs "
                "or maco, or of the stack --set canvas.engine=explicit"
            )
        self.parameterization, self.settings, self.step = parameterization, settings, 0
        self.side = side
        self.rms = reach * settings.strength * settings.rms
        self.rate = None if settings.rate is None else settings.strength * settings.rate
        self.alpha = torch.zeros_like(parameterization.image().detach()[:, :1]) if settings.alpha else None
        # The optimiser updates zeros, which are the step: it can be rescaled, and is not rounded against a parameter.
        self.moves = [torch.zeros_like(p) for p in parameterization.parameters()]
        self.optimizer = build_optimizer(self.moves, settings.optimizer, 1.0 if self.rate is None else self.rate)

    def tensors(self) -> dict[str, Tensor]:
        """A copy of the state's tensors, by name."""
        saved = {f"parameter.{i}": p.detach().clone() for i, p in enumerate(self.parameterization.parameters())}
        for index, memory in self.optimizer.state_dict()["state"].items():
            saved |= {f"memory.{index}.{k}": torch.as_tensor(v).clone() for k, v in memory.items() if v is not None}
        return saved if self.alpha is None else saved | {"alpha": self.alpha.clone()}

    def moving(self) -> list[Tensor] | None:
        """Where each parameter moves at this step, as of ``free``; None where all do.

            cut = first^(1 - s) finest^s,   s = step / (grow steps)

        first: ``grow_from`` cycles per side. finest: the shortest wave of the canvas.
        """
        growing = self.settings.grow * self.settings.steps
        if self.step >= growing:
            return None
        share = self.step / growing
        side = self.side or min(self.parameterization.image().shape[-2:])
        first = min(FINEST, self.settings.grow_from / side)
        return free(self.parameterization, first ** (1 - share) * FINEST**share)

    def load(self, tensors: dict[str, Tensor], step: int) -> None:
        """Restore the ``tensors()`` of step ``step``."""
        memory: dict[int, dict[str, Any]] = {}
        for i, parameter in enumerate(self.parameterization.parameters()):
            parameter.data.copy_(tensors[f"parameter.{i}"])
        for name, value in tensors.items():
            if name.startswith("memory."):
                _, index, key = name.split(".")
                memory.setdefault(int(index), {})[key] = value.clone()
        if self.alpha is not None:
            self.alpha.copy_(tensors["alpha"])
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": memory, "param_groups": groups})
        self.step = step


def build_optimizer(parameters: list[Tensor], optimizer: str, rate: float) -> torch.optim.Optimizer:
    """Adam, SGD, or SGD with momentum 0.9."""
    if optimizer == "adam":
        return torch.optim.Adam(parameters, lr=rate)
    return torch.optim.SGD(parameters, lr=rate, momentum=0.9 if optimizer == "momentum" else 0.0)


def step_length(step: int, settings: AscentConfig) -> float:
    """Step-length factor at step 0..steps-1: 1 at the first, ``final`` at the last."""
    progress = step / max(1, settings.steps - 1)
    return settings.final + (1 - settings.final) * schedule_of(settings.schedule)(progress)


def ascend(field: VectorField, ascent: Ascent, draws: Draws) -> Iterator[Frame]:
    """Run the ascent from ``ascent.step`` on; yields a frame after every step.

    Raises RunError, before the step is made, if the field is not finite: the parameters stay the last good ones.
    """
    settings, parameterization = ascent.settings, ascent.parameterization
    image = parameterization.image()
    while ascent.step < settings.steps:
        t = ascent.step / settings.steps
        direction = field(image.detach().clone(), torch.full((len(image),), t, device=image.device))
        measured = getattr(field, "stats", {})
        for name, value in {**measured, "field": direction}.items():  # where a value is none, its gradient may be zero
            if not all(end.isfinite() for end in value.aminmax()):  # NaN is both ends; a third of the passes of all()
                raise RunError(f"the {name} is not finite at step {ascent.step + 1}; the last good pictures are kept")
        parameters = parameterization.parameters()
        gradients = torch.autograd.grad(image, parameters, -direction)
        _move(ascent, parameters, gradients, draws, t)
        if ascent.alpha is not None:
            ascent.alpha += direction.abs().sum(1, keepdim=True)
        ascent.step += 1
        stats = {name: value.double().mean().item() for name, value in measured.items()}
        image = parameterization.image()  # of this frame and for the next step
        yield Frame(ascent.step, ascent.step / settings.steps, image.detach().clone(), stats)


@torch.no_grad()
def _move(ascent: Ascent, parameters: list[Tensor], gradients: tuple[Tensor, ...], draws: Draws, t: float) -> None:
    settings, canvas = ascent.settings, ascent.parameterization.canvas
    length = step_length(ascent.step, settings)
    for move, gradient in zip(ascent.moves, gradients, strict=True):
        move.zero_().grad = gradient
    ascent.optimizer.step()
    moving = ascent.moving()  # after the optimiser, whose memory then knows the gradients of what begins to move
    change = _where(moving, ascent.moves)
    if ascent.rate is None:
        change = _scaled(change, canvas(change), ascent.rms * length)
    else:
        change = [length * part for part in change]
    if settings.step_noise or settings.fixed_noise:
        size = _rms(canvas(change)) * settings.step_noise + settings.fixed_noise
        drawn = [draws.normal(p.shape[1:], t, f"step noise {i}").to(p) for i, p in enumerate(parameters)]
        noise = _where(moving, drawn)
        change = [c + n for c, n in zip(change, _scaled(noise, canvas(noise), size), strict=True)]
    for parameter, part in zip(parameters, change, strict=True):
        if settings.decay:
            parameter.mul_(1 - settings.decay * length)
        parameter.add_(part)


def _where(moving: list[Tensor] | None, change: list[Tensor]) -> list[Tensor]:
    """The change of what moves."""
    return change if moving is None else [part * own for part, own in zip(change, moving, strict=True)]


def _rms(canvas: Tensor) -> Tensor:
    largest = canvas.abs().amax((1, 2, 3), keepdim=True).clamp_min(1e-30)  # squares of small numbers underflow
    return largest.flatten() * (canvas / largest).square().mean((1, 2, 3)).sqrt()


def _scaled(change: list[Tensor], canvas: Tensor, rms: float | Tensor) -> list[Tensor]:
    """Scale each picture's change so that its canvas has the given RMS; a zero change stays zero."""
    factor = rms / _rms(canvas).clamp_min(1e-30)
    return [part * factor.view(-1, *[1] * (part.ndim - 1)) for part in change]
