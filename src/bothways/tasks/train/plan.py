"""What ``train`` trains: recipe and data -> pictures, network, loss; refused before a run folder is touched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bothways.data.images import Augmentation, batches
from bothways.data.sources import ImageSet, load_images
from bothways.data.splits import holdout
from bothways.models.catalogue import build_network
from bothways.tasks.train.config import TrainConfig
from bothways.training.fit import Loss
from bothways.training.processes import Batches
from bothways.types import ModelSpec, UserError

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
SIDE = 32  # pixels of a side of a training picture
EXAMPLE = "recipes/cifar10-resnet.toml"


@dataclass(frozen=True)
class ClassifierTraining:
    """A classifier that can be trained. train, held: pictures; network: with its first weights."""

    config: TrainConfig
    train: ImageSet
    held: ImageSet
    network: nn.Module
    batch: Batches

    @property
    def name(self) -> str:
        return Path(self.config.recipe).stem

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec(
            size=SIDE,
            mean=CIFAR10_MEAN,
            std=CIFAR10_STD,
            classes=self.train.classes,
            feature_layer="pool",
            licence="Apache-2.0",
            source=f"trained by recipes/{self.name}.toml",
        )

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.network.parameters())

    def settings(self) -> dict[str, Any]:
        """Those that say what is learnt, by name."""
        return self.config.model_dump(exclude={"data", "run"})

    def tables(self) -> dict[str, Any]:
        """What recipe.toml holds."""
        data = {"source": str(self.config.data), "pictures": len(self.train), "held_out": len(self.held)}
        return {"settings": self.settings(), "data": data}


def plan_of(config: TrainConfig) -> ClassifierTraining:
    """Everything of ``train`` that can be refused."""
    held, train = _divided(config)
    config = config.model_copy(update={"fit": config.fit.resolved(len(train))})
    try:
        network = built_network(config, len(train.classes))
        batch = batches(train, config.fit.batch, config.seed, Augmentation(**config.augmentation.model_dump()))
    except UserError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"recipe {config.recipe!r} cannot train: {type(error).__name__}: {error}; compare {EXAMPLE}"
        ) from error
    return ClassifierTraining(config, train, held, network, batch)


def _divided(config: TrainConfig) -> tuple[ImageSet, ImageSet]:
    """The held-out part of the training file, and the rest."""
    data = str(config.data)
    if not all((Path(data) / f"{split}.parquet").is_file() for split in ("train", "test")):
        raise UserError(f"data {data!r} does not hold train.parquet and test.parquet; type the folder that holds both")
    everything = load_images(data, split="train")
    if not everything.classes or tuple(everything.images.shape[-2:]) != (SIDE, SIDE):
        raise UserError(
            f"data {data!r}: training takes {SIDE}x{SIDE} pictures of named classes (Hugging Face metadata)"
        )
    held, batch = config.holdout.validation, config.fit.batch
    if len(everything) < held + batch:
        raise UserError(
            f"recipe {config.recipe!r} holds {held} pictures out for validation and trains on {batch} at a time, of "
            f"the {len(everything)} in {data!r}; together they must be no more than there are"
        )
    return holdout(everything, held, config.seed)


def built_network(config: TrainConfig, classes: int) -> nn.Module:
    """The network of a recipe with the seed's first weights; the caller's random state is its own."""
    options = dict(config.network)
    with torch.random.fork_rng():
        torch.random.manual_seed(config.seed)
        network = build_network(options.pop("builder", ""), classes=classes, **options)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def classification(smoothing: float) -> Loss:
    """Cross-entropy with label smoothing, and the accuracy beside it."""

    def loss(network: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        images, labels = batch
        logits = network(standardized(images)).float()
        accuracy = (logits.argmax(1) == labels).float().mean()
        return F.cross_entropy(logits, labels, label_smoothing=smoothing), {"accuracy": accuracy}

    return loss


def standardized(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (CIFAR10_MEAN, CIFAR10_STD))
    return ((images - mean) / std).to(memory_format=torch.channels_last)
