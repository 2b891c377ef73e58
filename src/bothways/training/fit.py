"""Training loop with EMA and exact resume: everything but the state is a pure function of the step.

theta <- theta - rate(k) * direction(grad_theta loss(batch_k)),   average <- decay * average + (1 - decay) * theta
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import nullcontext
from fractions import Fraction
from itertools import accumulate, zip_longest
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from bothways.numerics.draws import generator
from bothways.numerics.schedules import schedule_of
from bothways.processes.group import Batches, Processes
from bothways.training.config import FitConfig
from bothways.training.sharded import local, optimizer_like, shard, state_like, whole
from bothways.types import Frame, RunError, UserError

Loss = Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, dict[str, Tensor]]]
"""(network, batch) -> the loss, and statistics to log."""
Factor = Callable[[str], float]
"""Parameter name -> factor of its learning rate."""


class FitState:
    """Training state: network, EMA, optimisers and number of steps; all that a resume needs.

    factor: of the learning rate, by parameter name; None for one rate. among: the processes over which the weights are
    sharded; None for a whole network in each. copy: of a sharded training, its result as of the last ``gather``.
    """

    def __init__(
        self, network: nn.Module, config: FitConfig, factor: Factor | None = None, among: Processes | None = None
    ) -> None:
        self.network = network
        self.step = 0
        self.average = AveragedModel(network, use_buffers=True) if config.average else None  # by ``add_to_average``
        self.copy = None if among is None else copy.deepcopy(network)
        for module in (network, None if self.average is None else self.average.module):
            if among is not None and module is not None:
                shard(module, among)
        self.optimizers = build_optimizers(network, config, factor)

    @property
    def result(self) -> nn.Module:
        """The trained network: the EMA if there is one."""
        return self.copy or self._trained

    @property
    def _trained(self) -> nn.Module:
        return self.network if self.average is None else self.average.module

    def gather(self) -> None:
        """Of a sharded training, bring ``result`` up to the present step, in all processes together."""
        if self.copy is not None:
            self.copy.load_state_dict(whole(self._trained.state_dict()))

    def state_dict(self) -> dict[str, Any]:
        """The state with whole tensors; all processes of a sharded training call it together."""
        state = {
            "step": self.step,
            "network": self.network.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "average": None if self.average is None else self.average.state_dict(),
        }
        return state if self.copy is None else whole(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a state of any number of processes, sharded or not."""
        self.step = state["step"]
        self.network.load_state_dict(state_like(state["network"], self.network.state_dict()))
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(optimizer_like(saved, optimizer))
        if self.average is not None:
            self.average.load_state_dict(state_like(state["average"], self.average.state_dict()))
        self.gather()


@torch.no_grad()
def add_to_average(average: AveragedModel, network: nn.Module, decay: float) -> None:
    """EMA update by torch, with the decay limited to (1 + n) / (10 + n) after n steps; the first is a copy.

    ``average.update_parameters`` would make a GPU wait: its n goes there and back.
    """
    made = int(average.n_averaged)  # on the CPU
    update = get_ema_multi_avg_fn(min(decay, (1 + made) / (10 + made)))
    alike: dict[tuple[torch.device, torch.dtype], tuple[list[Tensor], list[Tensor]]] = {}
    for kept, present in zip(_tensors(average.module).values(), _tensors(network).values(), strict=True):
        one, other = local(kept.detach()), local(present.detach())
        if made:
            lists = alike.setdefault((one.device, one.dtype), ([], []))
            lists[0].append(one)
            lists[1].append(other)
        else:
            one.copy_(other)
    for lists in alike.values():
        update(*lists, made)
    average.n_averaged += 1


def build_optimizers(
    network: nn.Module, config: FitConfig, factor: Factor | None = None
) -> list[torch.optim.Optimizer]:
    """Optimisers of a config: one, or Muon for the hidden matrices and AdamW for the rest."""
    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    decay, rate = config.weight_decay, config.rate
    if config.optimizer == "sgd":
        return [torch.optim.SGD(_grouped(named, factor), lr=rate, momentum=0.9, nesterov=True, weight_decay=decay)]
    if config.optimizer == "adamw":
        return [torch.optim.AdamW(_grouped(named, factor), lr=rate, betas=config.betas, weight_decay=decay)]
    matrices = {name for name, p in named if p.ndim == 2 and not name.startswith("head")}
    if not matrices or not hasattr(torch.optim, "Muon"):
        raise UserError('optimizer "muon" needs torch 2.9 and a network with matrices besides its head; type "adamw"')
    inside, others = ([(n, p) for n, p in named if (n in matrices) is chosen] for chosen in (True, False))
    # Muon's update is scaled to the RMS of AdamW's, so that both use one rate.
    muon = torch.optim.Muon(_grouped(inside, factor), lr=rate, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(_grouped(others, factor), lr=rate, betas=config.betas, weight_decay=decay)]


def _grouped(named: Sequence[tuple[str, nn.Parameter]], factor: Factor | None) -> list[dict[str, Any]]:
    """Parameter groups, one per learning-rate factor."""
    if factor is None:
        return [{"params": [p for _, p in named]}]
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in named:
        groups.setdefault(factor(name), []).append(parameter)
    return [{"params": parameters, "factor": value} for value, parameters in groups.items()]


def rates(config: FitConfig) -> Callable[[int], float]:
    """Learning-rate function of the step: linear warm-up to the peak, then the schedule.

        rate(k) = peak * min((k + 1) / w, f + (1 - f) schedule((k - w) / (n - w))),   n steps, w of warm-up, floor f

    Progress is a Fraction, so that 1 - progress is exact.
    """
    schedule, steps = schedule_of(config.schedule), config.total
    warm = max(1, round(config.warmup * steps))

    def rate(step: int) -> float:
        progress = min(Fraction(1), Fraction(max(0, step - warm), max(1, steps - warm)))
        height = float(schedule(progress))  # type: ignore[arg-type]
        return float(config.rate * min((step + 1) / warm, config.rate_floor + (1 - config.rate_floor) * height))

    return rate


def fit(
    state: FitState,
    loss: Loss,
    batch: Batches | Iterator[tuple[Tensor, ...]],
    config: FitConfig,
    *,
    seed: int = 0,
    processes: Processes | None = None,
) -> Generator[Frame, None, None]:
    """Train from ``state.step`` on; yields a frame after every step, after which the caller may save ``state``.

    batch: step -> this process's tensors, or an iterator over them from ``state.step`` on; they are moved to the
        network's device. seed: of dropout. processes: of a distributed training, None for a single one; statistics are
        means over processes.
    Raises RunError if the loss or a gradient is not finite, before the step is made, or a weight or buffer after it.
    """
    processes = processes or Processes()
    network = processes.wrapped(state.network) if state.copy is None else state.network
    steps, rate_at = range(state.step, config.total), rates(config)
    for step, given in zip(steps, map(batch, steps) if callable(batch) else batch, strict=False):
        state.network.train()
        rate = rate_at(step)
        for optimizer in state.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate * group.get("factor", 1.0)
        values = _descend(state, network, loss, given, config, seed, processes)
        if state.average is not None:
            add_to_average(state.average, state.network, config.average)
        state.step += 1
        yield Frame(state.step, state.step / config.total, None, {"loss": values.pop("loss"), "rate": rate, **values})


def _descend(
    state: FitState,
    network: nn.Module,
    loss: Loss,
    batch: tuple[Tensor, ...],
    config: FitConfig,
    seed: int,
    processes: Processes,
) -> dict[str, float]:
    """One optimisation step -> the loss and the other statistics, as means over processes."""
    device = next(state.network.parameters()).device
    batch = tuple(part.to(device, non_blocking=True) for part in batch)
    state.network.zero_grad(set_to_none=True)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):  # dropout is a function of (seed, step)
        torch.random.manual_seed(generator(seed, state.step, f"dropout {processes.rank}").initial_seed())
        found: list[Tensor] = []
        for place, part in enumerate(parts(batch, config.accumulate), start=1):
            # gradients are averaged over processes with the last part alone
            with nullcontext() if place == config.accumulate else getattr(network, "no_sync", nullcontext)():
                with torch.autocast(device.type, torch.bfloat16, enabled=config.bf16):
                    value, stats = loss(network, part)
                numbers = torch.stack([one.detach().float() for one in (value, *stats.values())]) / config.accumulate
                found.append(processes.mean(numbers))
                (value / config.accumulate).backward()
    lower = f"lower the rate ({config.rate})"
    gradients = {name: p.grad for name, p in state.network.named_parameters() if p.grad is not None}
    rows, sound = _read(found, gradients)
    means: list[float] = []
    for row in rows:
        means = [sum(both) for both in zip_longest(means, row, fillvalue=0.0)]
        if not math.isfinite(means[0]):
            said = f"the loss is {means[0]} at step {state.step + 1}"
            raise RunError(f"{said}; {_of_batch(batch) or _named(state.network, config.rate) or lower}")
    if not sound and (name := not_finite(gradients)):
        raise RunError(f"the gradient of {name} is not finite at step {state.step + 1}; {lower}")
    if config.clip:
        nn.utils.clip_grad_norm_(state.network.parameters(), config.clip)
    try:
        for optimizer in state.optimizers:
            optimizer.step()
    except (RuntimeError, OverflowError) as error:
        if "overflow" not in str(error) and not isinstance(error, OverflowError):
            raise
        raise RunError(f"step {state.step + 1} is beyond the numbers of its precision; {lower}") from error
    if name := not_finite(_tensors(state.network)):
        raise RunError(f"{name} is not finite after step {state.step + 1}; {lower}")
    return dict(zip(("loss", *stats), means, strict=True))


def parts(batch: tuple[Tensor, ...], count: int) -> list[tuple[Tensor, ...]]:
    """A batch in equal parts, each tensor by its own number of rows. Raises UserError for rows that do not divide."""
    if odd := [len(rows) for rows in batch if len(rows) % count]:
        raise UserError(f"accumulate={count} does not divide {odd[0]} rows of a batch; type a --batch that it divides")
    return list(zip(*(rows.chunk(count) for rows in batch), strict=True))


def _read(found: Sequence[Tensor], gradients: Mapping[str, Tensor]) -> tuple[list[list[float]], bool]:
    """The statistics of each part, and whether the gradients are finite, read at once: a GPU waits for each reading."""
    sound = _norm_is_finite(_numbers(gradients)).to(found[0])
    numbers = torch.cat([*found, sound[None]]).tolist()
    ends = list(accumulate(map(len, found)))
    return [numbers[end - len(row) : end] for end, row in zip(ends, found, strict=True)], bool(numbers[-1])


@torch.no_grad()
def not_finite(tensors: Mapping[str, Tensor]) -> str:
    """The name of the first tensor that holds NaN or an infinity; "" where none does."""
    found = _numbers(tensors)
    if bool(_norm_is_finite(found)):
        return ""
    return next((name for name, value in found.items() if not bool(torch.isfinite(value).all())), "")


def _numbers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """This process's shares of the tensors that hold numbers."""
    shares = {name: local(value) for name, value in tensors.items()}
    return {name: value for name, value in shares.items() if value.is_floating_point() and value.numel()}


@torch.no_grad()
def _norm_is_finite(found: Mapping[str, Tensor]) -> Tensor:
    """Whether the largest absolute number is finite, (), on the device of the tensors."""
    return torch.isfinite(nn.utils.get_total_norm(list(found.values()), math.inf)) if found else torch.tensor(True)


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name."""
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def _of_batch(batch: tuple[Tensor, ...]) -> str:
    place = not_finite({str(place): part for place, part in enumerate(batch)})
    return f"the data of this step hold values that are not finite (part {place} of the batch)" if place else ""


def _named(network: nn.Module, rate: float) -> str:
    name = not_finite(_tensors(network))
    return f"{name} is not finite; give other weights, or lower the rate ({rate})" if name else ""
