"""What each of several devices holds of a training, and what it sends: whole copies (DDP), or shares of them (FSDP).

    DDP    weights, average and optimiser whole; a second set of gradients, in which they are sent
    FSDP   of every tensor rows / devices, rounded up; for a step all weights whole (``gathered``), with the buffer in
           which they come until the forward pass ends; gradients whole until they are summed; and between steps a whole
           copy of the result (``copy``), from which the weights are written

    sent in a step, (n - 1) / n of:  DDP  2 gradients;   FSDP  (gathered weights + gradients), for every part of a batch

Source: ``training/sharded.py`` and torch's ``fully_shard`` of the whole network at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from bothways.training.config import FitConfig
from bothways.training.fit import build_optimizers


@dataclass(frozen=True)
class Held:
    """Bytes that a device holds between steps, and what a step adds beside its activations.

    gradients: of the whole network. gathered: weights of a step, which are whole. sent: by a device in a step. files:
    of a checkpoint, which is whole.
    """

    devices: int
    sharded: bool
    weights: float
    average: float
    optimizer: float
    copy: float
    gradients: float
    share_of_gradients: float
    gathered: float
    sent: float
    files: float

    @property
    def buckets(self) -> float:
        """The second set of gradients of DDP."""
        return self.gradients if self.devices > 1 and not self.sharded else 0.0

    @property
    def of_a_step(self) -> float:
        """Bytes that a step adds whatever its pictures: gradients, with those of DDP."""
        return self.gradients + self.buckets

    @property
    def summed(self) -> float:
        """Bytes alive where the gradients of FSDP are summed: two whole sets, filled up, and a share."""
        return (2 * self.devices + 1) * self.share_of_gradients if self.sharded else 0.0


def held(network: nn.Module, fit: FitConfig, devices: int, sharded: bool) -> Held:
    """What each of so many devices holds of the training of a network, on the device that has no numbers."""
    parameters = list(network.parameters())
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    weights = bytes_of(network.state_dict().values())
    average = weights if fit.average else 0.0
    states = _states(network, fit)
    optimizer = bytes_of(value for _, value in states)
    gradients, files = bytes_of(trained), weights + average + optimizer
    if not sharded:
        sent = 2 * gradients * (devices - 1) / devices
        return Held(devices, False, weights, average, optimizer, 0.0, gradients, 0.0, 0.0, sent, files)
    own, own_gradients = (sum(share(value, devices) for value in of) for of in (parameters, trained))
    rest = weights - bytes_of(parameters)  # buffers are in no shares
    states_own = sum(share(value, devices) if value.shape == of.shape else value.nbytes for of, value in states)
    sent = fit.accumulate * (devices - 1) * (own + own_gradients)
    return Held(
        devices, True, own + rest, own + rest if average else 0.0, states_own, weights, gradients, own_gradients,
        devices * own, sent, files,
    )  # fmt: skip


def share(tensor: Tensor, devices: int) -> float:
    """Bytes of the greatest share of a tensor whose rows are divided among devices."""
    rows = max(1, tensor.shape[0] if tensor.ndim else 1)
    return float(tensor.nbytes // rows * -(-rows // devices))


def _states(network: nn.Module, fit: FitConfig) -> list[tuple[Tensor, Tensor]]:
    """(parameter, state) of the optimisers after a step."""
    for parameter in network.parameters():
        parameter.grad = parameter.detach().clone() if parameter.requires_grad else None
    optimizers = build_optimizers(network, fit)
    for optimizer in optimizers:
        optimizer.step()
    for parameter in network.parameters():
        parameter.grad = None
    found = ((of, value) for one in optimizers for of, state in one.state.items() for value in state.values())
    return [(of, value) for of, value in found if isinstance(value, Tensor)]


def bytes_of(tensors: Iterable[Tensor]) -> float:
    """Bytes of tensors."""
    return float(sum(tensor.nbytes for tensor in tensors))
