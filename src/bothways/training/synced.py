"""Batch normalisation over the whole batch of several processes, so that a training does not depend on their number.

    mean = mean over processes of mean(x_r),   var = mean over processes of mean((x_r - mean)^2)

Every process has equally many pictures. torch's own SyncBatchNorm runs on cards only.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as distributed
from torch import Tensor, nn

from bothways.processes.group import Processes, group


def synced(network: nn.Module, processes: Processes) -> nn.Module:
    """The network with the batch normalisations of its parts over all processes; unchanged for one process."""
    if processes.count == 1:
        return network
    group(processes)
    for module in list(network.modules()):
        for name, part in list(module.named_children()):
            if type(part) is nn.BatchNorm2d:
                setattr(module, name, _of(part))
    return network


def _of(norm: nn.BatchNorm2d) -> SyncedBatchNorm:
    found = SyncedBatchNorm(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
    for name, parameter in norm.named_parameters():
        found.register_parameter(name, parameter)
    for name, buffer in norm.named_buffers():
        found.register_buffer(name, buffer)
    return found.train(norm.training)


class SyncedBatchNorm(nn.BatchNorm2d):
    """``BatchNorm2d`` whose mean and variance in training are those of all processes."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        axes = (0, 2, 3)
        mean = _Mean.apply(x.mean(axes))
        centred = x - mean[:, None, None]
        variance = _Mean.apply(centred.square().mean(axes))
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            count = x.numel() / x.shape[1] * distributed.get_world_size()
            self.num_batches_tracked.add_(1)
            share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.detach(), share)
            self.running_var.lerp_(variance.detach() * count / max(1.0, count - 1), share)
        normal = centred * (variance + self.eps).rsqrt()[:, None, None]
        if self.weight is None:
            return normal
        return normal * self.weight[:, None, None] + self.bias[:, None, None]


class _Mean(torch.autograd.Function):
    """The mean over processes; its gradient is the mean over processes of theirs."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        return _mean(value)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return _mean(gradients[0])


def _mean(value: Tensor) -> Tensor:
    total = value.contiguous().clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()
