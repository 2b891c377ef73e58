"""Train a network: loss + batches -> frames. Exact resume: everything but the state is a pure function of the step.

theta <- theta - rate(k) * direction(grad_theta loss(batch_k)),   average <- decay * average + (1 - decay) * theta
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bothways.numerics.draws import generator
from bothways.training.processes import Batches, Processes
from bothways.types import Frame, RunError, UserError

Loss = Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, dict[str, Tensor]]]
"""(network, batch) -> the loss, and values to report."""
Factor = Callable[[str], float]
"""The name of a parameter -> what its rate is multiplied by."""
OPTIMIZERS = ("sgd", "adamw", "muon")
SCHEDULES = ("linear", "cosine", "constant")


@dataclass(frozen=True)
class FitSettings:
    """How long and how fast.

    optimizer: "sgd" (Nesterov momentum), "adamw", or "muon" (matrices by Muon, arXiv 2502.16982, the rest by AdamW).
    rate: peak learning rate; warm-up rises linearly over the share ``warmup`` of the steps, then it falls to zero,
        linearly or as half a cosine, or stays. betas: of AdamW.
    average: decay of the exponential moving average that is kept as the result, 0 for none; after n steps at most
        (1 + n) / (10 + n), so that a short training does not keep its first weights.
    bf16: autocast on the device of the network. clip: largest norm of the gradient, 0 for any. seed: of dropout.
    """

    steps: int
    optimizer: str = "sgd"
    rate: float = 0.1
    weight_decay: float = 5e-4
    warmup: float = 0.2
    average: float = 0.0
    bf16: bool = False
    clip: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: str = "linear"
    seed: int = 0

    def __post_init__(self) -> None:
        for name, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
            if getattr(self, name) not in known:
                raise UserError(f"{name} {getattr(self, name)!r} is not known; type one of {', '.join(known)}")


class FitState:
    """All that a resume needs: network, average, optimisers, and the number of steps made.

    factor: of the rate, by a parameter's name; one rate for all where it is left out.
    """

    def __init__(self, network: nn.Module, settings: FitSettings, factor: Factor | None = None) -> None:
        self.network = network
        self.step = 0
        self.optimizers = build_optimizers(network, settings, factor)
        average = partial(_averaged, settings.average)
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


def _averaged(decay: float, average: Any, present: Any, count: Tensor) -> None:
    """Move the average towards the present values, as torch does it, after ``count`` steps."""
    made = int(count)
    get_ema_multi_avg_fn(min(decay, (1 + made) / (10 + made)))(average, present, count)


def build_optimizers(
    network: nn.Module, settings: FitSettings, factor: Factor | None = None
) -> list[torch.optim.Optimizer]:
    """One optimiser, or two where Muon takes the matrices inside the network and AdamW the rest."""
    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    decay, rate = settings.weight_decay, settings.rate
    if settings.optimizer == "sgd":
        return [torch.optim.SGD(_grouped(named, factor), lr=rate, momentum=0.9, nesterov=True, weight_decay=decay)]
    if settings.optimizer == "adamw":
        return [torch.optim.AdamW(_grouped(named, factor), lr=rate, betas=settings.betas, weight_decay=decay)]
    matrices = {name for name, p in named if p.ndim == 2 and not name.startswith("head")}
    if not matrices or not hasattr(torch.optim, "Muon"):
        raise UserError('optimizer "muon" needs torch 2.9 and a network with matrices besides its head; type "adamw"')
    inside, others = ([(n, p) for n, p in named if (n in matrices) is chosen] for chosen in (True, False))
    # Muon's update is scaled to the size of AdamW's, so that one rate serves both.
    muon = torch.optim.Muon(_grouped(inside, factor), lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(_grouped(others, factor), lr=rate, betas=settings.betas, weight_decay=decay)]


def _grouped(named: Sequence[tuple[str, nn.Parameter]], factor: Factor | None) -> list[dict[str, Any]]:
    """Parameter groups, one a factor."""
    if factor is None:
        return [{"params": [p for _, p in named]}]
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in named:
        groups.setdefault(factor(name), []).append(parameter)
    return [{"params": parameters, "factor": value} for value, parameters in groups.items()]


def rate_at(step: int, settings: FitSettings) -> float:
    """Linear warm-up to the peak rate, then the schedule's fall to zero; "constant" stays."""
    warm = max(1, round(settings.warmup * settings.steps))
    falling = 1.0
    if settings.schedule != "constant":
        falling = (settings.steps - step) / max(1, settings.steps - warm)
    if settings.schedule == "cosine":
        falling = (1 - math.cos(math.pi * min(1.0, falling))) / 2
    return settings.rate * min((step + 1) / warm, falling)


def fit(
    state: FitState,
    loss: Loss,
    batch: Batches | Iterator[tuple[Tensor, ...]],
    settings: FitSettings,
    processes: Processes | None = None,
) -> Generator[Frame, None, None]:
    """Yield a frame after every step, from ``state.step`` on; the caller saves ``state`` where it likes.

    batch: step -> this process's tensors, or an iterator over them from ``state.step`` on; they are moved to the
        network's device. processes: those that train together, none for this one alone; what a frame reports is the
        mean over them.
    Raises RunError where the loss is not finite, before the step is made.
    """
    processes = processes or Processes()
    network = processes.wrapped(state.network)
    steps = range(state.step, settings.steps)
    for step, given in zip(steps, map(batch, steps) if callable(batch) else batch, strict=False):
        state.network.train()
        rate = rate_at(step, settings)
        for optimizer in state.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("factor", 1.0)
        values = _descend(state, network, loss, given, settings, processes)
        if state.average is not None:
            state.average.update_parameters(state.network)
        state.step += 1
        yield Frame(state.step, state.step / settings.steps, None, {"loss": values.pop("loss"), "rate": rate, **values})


def _descend(
    state: FitState,
    network: nn.Module,
    loss: Loss,
    batch: tuple[Tensor, ...],
    settings: FitSettings,
    processes: Processes,
) -> dict[str, float]:
    """Move the parameters by one step -> the loss and the other values, means over the processes."""
    device = next(state.network.parameters()).device
    batch = tuple(part.to(device, non_blocking=True) for part in batch)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):  # dropout is a function of the step too
        torch.random.manual_seed(generator(settings.seed, state.step, f"dropout {processes.rank}").initial_seed())
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.bf16):
            value, stats = loss(network, batch)
        means = processes.mean(torch.stack([part.detach().float() for part in (value, *stats.values())])).tolist()
        if not math.isfinite(means[0]):
            raise RunError(f"the loss is {means[0]} at step {state.step + 1}; lower the rate ({settings.rate})")
        state.network.zero_grad(set_to_none=True)
        value.backward()
    if settings.clip:
        nn.utils.clip_grad_norm_(state.network.parameters(), settings.clip)
    for optimizer in state.optimizers:
        optimizer.step()
    return dict(zip(("loss", *stats), means, strict=True))
