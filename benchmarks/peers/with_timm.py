"""timm: a step of fine-tuning one of its models, made of its own parts as its training script puts them together."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from operators import declare_torchvision
from pairs import Work, main, relative
from torch import Tensor, nn

from bothways.numerics.draws import generator
from bothways.tasks.train.plan import classification
from bothways.training.config import FitConfig
from bothways.training.fit import FitState, fit
from bothways.types import ModelSpec

PEER = "timm"
CLASSES, SMOOTHING, RATE, AVERAGE, CLIP = 10, 0.1, 1e-3, 0.999, 1.0
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FROM_THE_FIRST = 4  # steps after which the two networks are compared


def works(small: bool) -> Iterator[Work]:
    declare_torchvision()
    large = (("resnet18", 64, 16), ("vit_tiny_patch16_224", 64, 16))
    for name, side, batch in (("resnet18", 32, 4),) if small else large:
        theirs, ours = Theirs(name, side, batch), Ours(name, side, batch)
        yield Work(
            f"a step of fine-tuning {name}, {batch} pictures of {side} px", PEER, theirs, ours,
            f"the weights after {FROM_THE_FIRST} steps, in float64, as a share of what they moved",
            lambda *_, given=(name, side, batch): moved(*given), 1e-4,
        )  # fmt: skip


def built(name: str, side: int) -> nn.Module:
    """A model of timm with the same random weights at every call."""
    import timm

    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        more = {"img_size": side} if name.startswith("vit") else {}
        return timm.create_model(name, num_classes=CLASSES, **more)


def batch_of(side: int, count: int) -> tuple[Tensor, Tensor]:
    source = generator(0)
    return torch.rand(count, 3, side, side, generator=source), torch.randint(CLASSES, (count,), generator=source)


class Theirs:
    """Call it: a step of timm. Loss, optimiser, clipping, schedule and average are timm's."""

    def __init__(self, name: str, side: int, count: int, kind: torch.dtype = torch.float32) -> None:
        from timm.loss import LabelSmoothingCrossEntropy
        from timm.optim import create_optimizer_v2
        from timm.scheduler import CosineLRScheduler
        from timm.utils import ModelEmaV3

        self.network, (images, self.labels) = built(name, side).train().to(kind), batch_of(side, count)
        self.mean, self.std = (torch.tensor(value, dtype=kind).view(1, 3, 1, 1) for value in (MEAN, STD))
        self.images, self.step = images.to(kind), 0
        self.loss = LabelSmoothingCrossEntropy(SMOOTHING)
        self.optimizer = create_optimizer_v2(self.network, opt="adamw", lr=RATE, weight_decay=0.0)
        self.schedule = CosineLRScheduler(self.optimizer, t_initial=10**9, t_in_epochs=False)
        self.average = ModelEmaV3(self.network, decay=AVERAGE)

    def __call__(self) -> float:
        from timm.utils import dispatch_clip_grad

        loss = self.loss(self.network((self.images - self.mean) / self.std), self.labels)
        loss.backward()
        dispatch_clip_grad(self.network.parameters(), CLIP)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.step += 1
        self.average.update(self.network, step=self.step)
        self.schedule.step_update(self.step)
        return loss.item()


class Ours:
    """Call it: a step of ``fit`` with the loss of ``bothways train``."""

    def __init__(self, name: str, side: int, count: int, kind: torch.dtype = torch.float32) -> None:
        self.network, (images, labels) = built(name, side).to(kind), batch_of(side, count)
        self.network.to(memory_format=torch.channels_last)  # as ``bothways train`` builds its networks
        batch = images.to(kind), labels
        spec = ModelSpec(side, MEAN, STD, CLASSES)
        settings = FitConfig(
            steps=10**9, optimizer="adamw", rate=RATE, warmup=0.0, schedule="cosine", clip=CLIP, average=AVERAGE
        )
        state = FitState(self.network, settings)
        self.frames = fit(state, classification(spec, SMOOTHING), lambda step: batch, settings)

    def __call__(self) -> float:
        return next(self.frames).stats["loss"]


def moved(*given) -> float:
    """How far the two networks are apart after a few steps from the same weights, by how far they came; in float64,
    since Adam makes much of a rounding error in a gradient that is nearly zero."""  # fmt: skip
    first = flat(built(*given[:2])).double()
    theirs, ours = Theirs(*given, torch.float64), Ours(*given, torch.float64)
    for _ in range(FROM_THE_FIRST):
        theirs(), ours()
    return relative(flat(theirs.network) - first, flat(ours.network) - first)


@torch.no_grad()
def flat(network: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


if __name__ == "__main__":
    main(works)
