"""Train a network: loss + batches -> frames. Exact resume: everything but the state is a pure function of the step.

theta <- theta - rate(k) * direction(grad_theta loss(batch_k)),   average <- decay * average + (1 - decay) * theta
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bothways.types import Frame, RunError, UserError

Loss = Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, dict[str, Tensor]]]
"""(network, batch) -> the loss, and values to report."""
OPTIMIZERS = ("sgd", "adamw", "muon")


@dataclass(frozen=True)
class FitSettings:
    """How long and how fast.

    optimizer: "sgd" (Nesterov momentum), "adamw", or "muon" (matrices by Muon, arXiv 2502.16982, the rest by AdamW).
    rate: peak learning rate; warm-up rises linearly over the share ``warmup`` of the steps, then it falls to zero.
    average: decay of the exponential moving average that is kept as the result, 0 for none.
    """

    steps: int
    optimizer: str = "sgd"
    rate: float = 0.1
    weight_decay: float = 5e-4
    warmup: float = 0.2
    average: float = 0.0
    bf16: bool = False
    clip: float = 0.0

    def __post_init__(self) -> None:
        if self.optimizer not in OPTIMIZERS:
            raise UserError(f"optimizer {self.optimizer!r} is not known; type one of {', '.join(OPTIMIZERS)}")


class FitState:
    """All that a resume needs: network, average, optimisers, and the number of steps made."""

    def __init__(self, network: nn.Module, settings: FitSettings) -> None:
        self.network = network
        self.step = 0
        self.optimizers = build_optimizers(network, settings)
        average = get_ema_multi_avg_fn(settings.average)
        self.average = AveragedModel(network, multi_avg_fn=average, use_buffers=True) if settings.average else None

    @property
    def result(self) -> nn.Module:
        """The network to keep: the average where there is one."""
        return self.network if self.average is None else self.average.module

    def state_dict(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "average": None if self.average is None else self.average.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.network.load_state_dict(state["network"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        if self.average is not None:
            self.average.load_state_dict(state["average"])


def build_optimizers(network: nn.Module, settings: FitSettings) -> list[torch.optim.Optimizer]:
    """One optimiser, or two where Muon takes the matrices inside the network and AdamW the rest."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    decay, rate = settings.weight_decay, settings.rate
    if settings.optimizer == "sgd":
        return [torch.optim.SGD(parameters, lr=rate, momentum=0.9, nesterov=True, weight_decay=decay)]
    if settings.optimizer == "adamw":
        return [torch.optim.AdamW(parameters, lr=rate, weight_decay=decay)]
    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    matrices = [p for name, p in named if p.ndim == 2 and not name.startswith("head")]
    if not matrices or not hasattr(torch.optim, "Muon"):
        raise UserError('optimizer "muon" needs torch 2.9 and a network with matrices besides its head; type "adamw"')
    others = [p for p in parameters if all(p is not matrix for matrix in matrices)]
    # Muon's update is scaled to the size of AdamW's, so that one rate serves both.
    muon = torch.optim.Muon(matrices, lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(others, lr=rate, weight_decay=decay)]


def rate_at(step: int, settings: FitSettings) -> float:
    """Linear warm-up to the peak rate, then linearly to zero."""
    warm = max(1, round(settings.warmup * settings.steps))
    falling = (settings.steps - step) / max(1, settings.steps - warm)
    return settings.rate * min((step + 1) / warm, falling)


def fit(
    state: FitState, loss: Loss, batch: Callable[[int], tuple[Tensor, ...]], settings: FitSettings
) -> Iterator[Frame]:
    """Yield a frame after every step, from ``state.step`` on; the caller saves ``state`` where it likes.

    Raises RunError where the loss is not finite, before the step is made.
    """
    while state.step < settings.steps:
        state.network.train()
        rate = rate_at(state.step, settings)
        for optimizer in state.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
            value, stats = loss(state.network, batch(state.step))
        if not torch.isfinite(value):
            raise RunError(f"the loss is {value.item()} at step {state.step + 1}; lower the rate ({settings.rate})")
        state.network.zero_grad(set_to_none=True)
        value.backward()
        if settings.clip:
            nn.utils.clip_grad_norm_(state.network.parameters(), settings.clip)
        for optimizer in state.optimizers:
            optimizer.step()
        if state.average is not None:
            state.average.update_parameters(state.network)
        state.step += 1
        values = {"loss": value.item(), "rate": rate, **{name: v.item() for name, v in stats.items()}}
        yield Frame(state.step, state.step / settings.steps, None, values)
