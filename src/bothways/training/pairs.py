"""What a flow is trained on: pictures, the noise each is paired with, and a time; a pure function of the step.

    x = code((k + u) / levels),  z ~ N(0, 1),  p = coupling(x, z)  ->  (x_i, z_p(i), t_i)

k is the whole number that a pixel was rounded to and u ~ U[0, 1), so that what is learnt is a density and not a comb
of spikes. The three channels of a grey picture are one value, so they share one u: the mean of three is not uniform.
The times of a batch are stratified, one in each of B equal parts of [0, 1]: they cover it evenly, and so the loss of a
batch varies less. Every draw belongs to (seed, step), so that a resume needs no loader state.
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
    """step -> (x (B,C,H,W), noise (B,C,H,W), t (B,)), already paired.

    batch: step -> pictures in [0,1] with labels. code: pictures -> the flow's own units. levels: values of a channel.
    grey: whether the three channels of every picture are equal.
    What is returned can be sent to another process where its parts can.
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
    x = code(dequantised(images[:, :1] if grey else images, source, levels).expand_as(images))
    noise = torch.randn(x.shape, generator=source)
    t = (torch.arange(len(x)) + torch.rand(len(x), generator=source)) / len(x)
    return x, noise[permutation(coupling, x, noise)], t


def dequantised(images: Tensor, source: torch.Generator, levels: int = 256) -> Tensor:
    """Like ``images``, each value rounded to k / (levels - 1), at a uniform place of its part [k, k + 1) / levels."""
    whole = (images * (levels - 1)).round()
    return (whole + torch.rand(images.shape, generator=source, dtype=images.dtype)) / levels
