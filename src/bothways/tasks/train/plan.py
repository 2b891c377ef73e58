"""The plan of ``train``: recipe and data -> pictures, network and loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bothways.data.images import Augmentation, batches, check_crop
from bothways.data.rows.stored import StoredSet, open_images
from bothways.data.sources import ImageSet
from bothways.data.splits import holdout
from bothways.models.catalogue import BUILDERS, build_network
from bothways.processes.group import Batches
from bothways.progress import counted
from bothways.reading import is_there
from bothways.tasks.train.config import InputConfig, TrainConfig
from bothways.training.fit import Loss
from bothways.types import ModelSpec, UserError

EXAMPLE = "recipes/cifar10-resnet.toml"


@dataclass(frozen=True)
class ClassifierTraining:
    """A validated training of a classifier.

    train, held: pictures. network: with initial weights. config: with mean and std resolved.
    """

    config: TrainConfig
    train: ImageSet | StoredSet
    held: ImageSet
    network: nn.Module
    batch: Batches

    @property
    def name(self) -> str:
        return Path(self.config.recipe).stem

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the pictures."""
        return self.train.shape

    @property
    def spec(self) -> ModelSpec:
        return ModelSpec(
            size=self.size[0] if self.size[0] == self.size[1] else self.size,
            mean=self.config.spec.mean or (),
            std=self.config.spec.std or (),
            classes=self.train.classes,
            feature_layer="pool",
            source=f"trained by bothways train {self.name} on {self.config.data}",
        )

    @property
    def parameters(self) -> int:
        return sum(p.numel() for p in self.network.parameters())

    def settings(self) -> dict[str, Any]:
        """The settings that determine the training, by name."""
        return self.config.model_dump(exclude={"data", "run"})

    def tables(self) -> dict[str, Any]:
        """The tables of recipe.toml."""
        data = {"source": str(self.config.data), "pictures": len(self.train), "held_out": len(self.held)}
        model = {"name": self.name, "size": list(self.size), "classes": self.spec.count, "parameters": self.parameters}
        return {"settings": self.settings(), "data": data, "model": model}


def plan_of(config: TrainConfig) -> ClassifierTraining:
    """Plan a run of ``train``. Raises UserError for invalid input."""
    held, train = _divided(config)
    options = {**_sized(config.network, train), **config.network}
    config = config.model_copy(
        update={"fit": config.fit.resolved(len(train)), "spec": resolved(config.spec, train), "network": options}
    )
    try:
        network = built_network(config, len(train.classes))
        _check_pictures(network, config, train)
        batch = batches(train, config.fit.batch, config.seed, Augmentation(**config.augmentation.model_dump()))
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        message = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise UserError(f"recipe {config.recipe!r} cannot train: {message}; compare {EXAMPLE}") from error
    return ClassifierTraining(config, train, held, network, batch)


def _divided(config: TrainConfig) -> tuple[ImageSet, ImageSet | StoredSet]:
    """Split the training file into held-out and training pictures."""
    data = str(config.data)
    if not all(is_there(Path(data) / f"{split}.parquet") for split in ("train", "test")):
        raise UserError(f"data {data!r} does not hold train.parquet and test.parquet; type the folder that holds both")
    everything = open_images(data, split="train", in_memory=config.run.in_memory)
    if not everything.classes:
        raise UserError(f"data {data!r}: training takes pictures of named classes (Hugging Face metadata)")
    check_classes(everything.classes, data)
    held, batch = config.holdout.validation, config.fit.batch
    if len(everything) < held + batch:
        raise UserError(
            f"recipe {config.recipe!r} holds {held} pictures out for validation and trains on {batch} at a time, of "
            f"the {len(everything)} in {data!r}; together they must be no more than there are"
        )
    return holdout(everything, held, config.seed)


def check_classes(classes: Sequence[str], data: str) -> None:
    """Raise UserError where there is nothing to tell apart."""
    if len(classes) < 2:
        raise UserError(f"data {data!r} has one class and there is nothing to tell apart; type data of two or more")


def _sized(options: Mapping[str, Any], data: ImageSet | StoredSet) -> dict[str, Any]:
    """The option {"size": side} for a network that is built for a fixed size; {} for others."""
    build = BUILDERS.get(options.get("builder", ""))
    fixed = None if build is None else signature(build).parameters.get("size")
    side = data.shape[1]
    return {} if fixed is None or fixed.default == side else {"size": side}


def resolved(spec: InputConfig, data: ImageSet | StoredSet) -> InputConfig:
    """The normalisation, with unset mean and std from all pictures."""
    if spec.mean is not None and spec.std is not None:
        return spec
    values = torch.arange(256, dtype=torch.float64) / 255
    counts = torch.zeros(3, 256, dtype=torch.float64)
    for images in counted(data.parts(), "mean and standard deviation", -(-len(data) // 1024)):
        counts += torch.stack([images[:, channel].flatten().bincount(minlength=256) for channel in range(3)])
    shares = counts / counts.sum(1, keepdim=True)
    mean = shares @ values
    std = (shares * (values - mean[:, None]).square()).sum(1).sqrt().clamp_min(1 / 255)  # std of constant pictures is 0
    found = {"mean": tuple(round(v, 4) for v in mean.tolist()), "std": tuple(round(v, 4) for v in std.tolist())}
    return spec.model_copy(update={key: getattr(spec, key) or value for key, value in found.items()})


@torch.no_grad()
def _check_pictures(network: nn.Module, config: TrainConfig, train: ImageSet | StoredSet) -> None:
    """Raise ValueError or RuntimeError if the network or augmentation does not support the size of the pictures."""
    height, width = train.shape
    check_crop(config.augmentation.crop, height, width)
    network.eval()(torch.zeros(1, 3, height, width))


def built_network(config: TrainConfig, classes: int) -> nn.Module:
    """The network of a recipe with initial weights from the seed, without changing the caller's random state."""
    options = dict(config.network)
    with torch.random.fork_rng():
        torch.random.manual_seed(config.seed)
        network = build_network(options.pop("builder", ""), classes=classes, **options)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def classification(spec: InputConfig, smoothing: float) -> Loss:
    """The loss: cross-entropy with label smoothing; also reports the accuracy. spec: with mean and std."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (spec.mean, spec.std))

    def loss(network: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        images, labels = batch
        shown = ((images - mean.to(images)) / std.to(images)).to(memory_format=torch.channels_last)
        logits = network(shown).float()
        accuracy = (logits.argmax(1) == labels).float().mean()
        return F.cross_entropy(logits, labels, label_smoothing=smoothing), {"accuracy": accuracy}

    return loss
