"""What the peers of the flows share: pictures, a network, and a training step by us and as their examples have it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from bothways.data.images import Augmentation, batches
from bothways.data.sources import ImageSet
from bothways.models.nets.unet import UNet
from bothways.models.velocity import Flow
from bothways.numerics.draws import generator
from bothways.representation.couplings import coupling_of
from bothways.representation.flow_matching import flow_matching
from bothways.representation.paths.linear import linear
from bothways.training.config import FitConfig
from bothways.training.fit import FitState, fit
from bothways.training.pairs import pairs
from bothways.types import Frame, ModelSpec

SIDE = 32
NETWORK = {"width": 32, "multiples": (1, 2), "blocks": 1, "attention": (2,), "patch": 4}
SPEC = ModelSpec(SIDE, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 0, time_scale=1000.0, path="linear")
RATE, AVERAGE, CLIP = 2e-4, 0.999, 1.0
BESIDES = "ours dequantises the pictures besides, and looks whether gradients and weights are finite"
Sampler = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
"""(noise, pictures) -> t, x_t and its velocity."""


def states(count: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Pictures and noise (B,3,32,32), and times (B,)."""
    source = generator(seed)
    x, noise = (torch.randn(count, 3, SIDE, SIDE, generator=source) for _ in range(2))
    return x, noise, torch.rand(count, generator=source)


def pictures(count: int) -> ImageSet:
    images = torch.randint(0, 256, (count, 3, SIDE, SIDE), generator=generator(0), dtype=torch.uint8)
    return ImageSet(images, torch.zeros(count, dtype=torch.int64), ())


def network() -> Flow:
    """A flow with small random weights, the same at every call, none of them zero."""
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        module = UNet(**NETWORK)
        for parameter in module.parameters():
            if parameter.ndim > 1 and not parameter.any():
                nn.init.xavier_uniform_(parameter)
    return Flow(module, SPEC)


def our_steps(data: ImageSet, batch: int, coupling: str, steps: int = 10**6) -> Iterator[Frame]:
    """Our training, a step a frame: batch, pairs, loss, gradient, clipping, Adam, average; all in this process."""
    flow = network()
    made = pairs(batches(data, batch, 0, Augmentation(crop=0, flip=True)), flow.code, coupling_of(coupling), 0)
    settings = FitConfig(
        steps=steps, optimizer="adamw", rate=RATE, warmup=0.0, schedule="constant", clip=CLIP, average=AVERAGE
    )
    return fit(FitState(flow, settings), our_loss, made, settings)


def our_loss(flow: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
    return flow_matching(flow, linear, *batch).mean(), {}


def their_steps(data: ImageSet, batch: int, sample: Sampler) -> Iterator[float]:
    """The loop of the peers' CIFAR-10 examples on the same pictures in memory: the same operations as ours.

    The average is torch's own (fused over all weights), which is faster than the loop of the examples.
    """
    flow, source = network(), generator(0)
    optimizer = torch.optim.AdamW(flow.parameters(), lr=RATE, weight_decay=0.0)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    average = torch.optim.swa_utils.AveragedModel(
        flow, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(AVERAGE), use_buffers=True
    )
    flow.train()
    while True:
        some = data.images[torch.randint(len(data.images), (batch,), generator=source)].float() / 127.5 - 1
        flipped = torch.rand(batch, 1, 1, 1, generator=source) < 0.5
        x = torch.where(flipped, some.flip(-1), some)
        optimizer.zero_grad()
        t, x_t, velocity = sample(torch.randn_like(x), x)
        loss = torch.mean((flow(x_t, t) - velocity) ** 2)
        loss.backward()
        nn.utils.clip_grad_norm_(flow.parameters(), CLIP)
        optimizer.step()
        rate.step()
        average.update_parameters(flow)
        yield loss.item()


def gradient_difference(sample: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]], batch: int) -> float:
    """How far the gradient of a peer's loss is from ours at the same pairs and times, relative, L2.

    sample: (noise, pictures, t) -> x_t and its velocity. Ours is half of the sum over the channels, theirs the mean.
    """
    x, noise, t = states(batch)
    flow = network()
    x_t, velocity = sample(noise, x, t)
    losses = torch.mean((flow(x_t, t) - velocity) ** 2), flow_matching(flow, linear, x, noise, t).mean() * 2 / 3
    theirs, ours = (
        torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(flow.parameters()))]) for loss in losses
    )
    return float((ours - theirs).norm() / theirs.norm())
