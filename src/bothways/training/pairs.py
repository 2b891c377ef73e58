"""Training batches of flow matching: dequantised images, coupled noise and times, as a pure function of the step.

    x = code((k + u) / levels),  z ~ N(0, 1),  p = coupling(x, z)  ->  (x_i, z_p(i), t_i)

k is the integer level of a pixel and u ~ U[0, 1) (uniform dequantisation), so that a density exists. The three channels
of a grey picture are one value, so they share one u: the mean of three would not be uniform. The times of a batch are
stratified, one in each of B equal parts of [0, 1], which reduces the variance of the loss. Every draw is a function of
(seed, step), so that a resume needs no loader state.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from bothways.data.images import Batch
from bothways.numerics.draws import generator
from bothways.representation.couplings import permutation
from bothways.types import Coupling

Pairs = tuple[Tensor, Tensor, Tensor]


def pairs(
    batch: Callable[[int], Batch],
    code: Callable[[Tensor], Tensor],
    coupling: Coupling,
    seed: int,
    levels: int = 256,
    *,
    grey: bool = False,
) -> Callable[[int], Pairs]:
    """Batch function step -> (x (B,C,H,W), noise (B,C,H,W), t (B,)), already paired.

    batch: step -> pictures in [0,1] with labels. code: pictures -> the flow's units. levels: values of a channel; 0
        for none, as of a flow on latents.
    grey: whether the flow sees the mean of the three channels, as of grey pictures. The result is picklable if
        its parts are.
    """

    return partial(_pairs, batch, code, coupling, seed, levels, grey)


def _pairs(
    batch: Callable[[int], Batch],
    code: Callable[[Tensor], Tensor],
    coupling: Coupling,
    seed: int,
    levels: int,
    grey: bool,
    step: int,
) -> Pairs:
    images, _ = batch(step)
    source = generator(seed, step, "pairs")
    noisy = (
        dequantised(images.mean(1, keepdim=True) if grey else images, source, levels).expand_as(images)
        if levels
        else images
    )
    x = code(noisy)
    noise = torch.randn(x.shape, generator=source)
    t = (torch.arange(len(x)) + torch.rand(len(x), generator=source)) / len(x)
    return x, noise[permutation(coupling, x, noise)], t


def dequantised(images: Tensor, source: torch.Generator, levels: int = 256) -> Tensor:
    """Uniform dequantisation of images in [0,1]: level k -> (k + u) / levels, u ~ U[0, 1)."""
    whole = (images * (levels - 1)).round_()
    return whole.add_(torch.rand(images.shape, generator=source, dtype=images.dtype)).div_(levels)
