"""Training with FSDP: each process keeps a share of every weight, of its gradient, its optimiser state and its average.

The weights are gathered for a step and let go after it. What is saved is whole, so that one process can read it.
By ``torch.distributed.fsdp.fully_shard``, of the whole network at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from bothways.processes.group import Processes, group
from bothways.types import UserError


def sharding(shards: bool, optimizer: str, processes: Processes) -> Processes | None:
    """The processes that share the weights of a training; None where it is not sharded, or there is one process.

    Raises UserError for an optimiser that needs whole matrices.
    """
    if not shards or processes.count == 1:
        return None
    if optimizer == "muon":
        raise UserError('--fsdp has shares of matrices, and optimizer "muon" needs whole ones; type --optimizer adamw')
    return processes


def shard(network: nn.Module, processes: Processes) -> None:
    """Replace every parameter by this process's share of it."""
    group(processes)
    mesh = init_device_mesh(torch.device(processes.device).type, (processes.count,))
    for parameter in network.parameters():  # FSDP takes no other order of the numbers
        parameter.data = parameter.data.contiguous()
    fully_shard(network, mesh=mesh, reshard_after_forward=False)


def local(tensor: Tensor) -> Tensor:
    """The share of this process; a tensor that is not shared itself."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(value: Any) -> Any:
    """A state with whole tensors, on the CPU. All processes call it together."""
    if isinstance(value, DTensor):
        return value.full_tensor().detach().cpu()
    if isinstance(value, Mapping):
        return {key: whole(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(whole(item) for item in value)
    return value


def like(value: Any, present: Any) -> Any:
    """A whole tensor as a share, where ``present`` is one."""
    if isinstance(present, DTensor) and isinstance(value, Tensor) and value.shape == present.shape:
        moved = value.to(present.device)
        return distribute_tensor(moved, present.device_mesh, present.placements, src_data_rank=None)
    return value


def state_like(saved: Mapping[str, Any], present: Mapping[str, Any]) -> dict[str, Any]:
    """The saved state of a module as shares."""
    return {name: like(value, present.get(name)) for name, value in saved.items()}


def optimizer_like(saved: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The saved state of an optimiser as shares of its parameters."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    memory = {
        index: {name: like(value, parameters[index]) for name, value in of.items()}
        for index, of in saved["state"].items()
    }
    return {**saved, "state": memory}
