"""Train a network of the catalogue by a recipe: TOML -> data, network, loop -> weights, card and statistics.

What it leaves in the run folder is what ``models/bundled`` holds of each model:

    NAME.safetensors              weights, half precision
    NAME.json                     the card: network, facts, data, accuracy with interval, licence, limits
    NAME.statistics.safetensors   feature vectors of test pictures, and what the model measures of training ones
"""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor, nn

from bothways.data.images import Augmentation, batches
from bothways.data.sources import ImageSet, load_images
from bothways.judging.verdicts import penultimate
from bothways.models.adapter import Adapter
from bothways.models.catalogue import build_network
from bothways.numerics.draws import generator
from bothways.numerics.intervals import wilson_interval
from bothways.runs.files import replace_file
from bothways.tasks.recipes import read_recipe
from bothways.tasks.statistics.config import PICTURES
from bothways.tasks.statistics.files import as_tensors, in_eight_bits, space_of
from bothways.training.checkpoint import SAVE_EVERY, Training, training_folder
from bothways.training.fit import FitSettings, FitState, Loss
from bothways.training.processes import Processes, join_processes
from bothways.types import Frame, ModelSpec, UserError

CIFAR10_MEAN, CIFAR10_STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
SIDE = 32  # pixels of a side of a training picture
EXAMPLE = "recipes/cifar10-resnet.toml"
REFERENCE_PICTURES = 500  # of the test file, kept as feature vectors
KEPT_RANK = 40  # directions of the statistics that are kept: the bundled files stay small


@dataclass
class ClassifierTraining:
    """A classifier in training. ``run`` yields frames; ``finish`` writes the files."""

    name: str
    tables: dict[str, Any]
    data: str
    train: ImageSet
    validation: ImageSet
    training: Training

    @property
    def state(self) -> FitState:
        return self.training.state

    def run(self) -> Generator[Frame, None, None]:
        return self.training.run()

    def adapter(self) -> Adapter:
        spec = ModelSpec(
            size=SIDE,
            mean=CIFAR10_MEAN,
            std=CIFAR10_STD,
            classes=self.train.classes,
            feature_layer="pool",
            licence="Apache-2.0",
        )
        return Adapter(self.state.result, spec, name=self.name)

    def finish(self) -> dict[str, Any]:
        """Write weights, card and statistics; the test file is looked at here, once."""
        # what is measured is what is kept: half precision
        half = {key: v.half() if v.is_floating_point() else v for key, v in self.state.result.state_dict().items()}
        self.state.result.load_state_dict(half)
        model = self.adapter()
        test = load_images(self.data, split="test")
        facts = card_of(self, accuracy(model, test), accuracy(model, self.validation))
        out = self.training.folder.path
        replace_file(out / f"{self.name}.safetensors", save({k: v.contiguous() for k, v in half.items()}))
        replace_file(out / f"{self.name}.statistics.safetensors", save(statistics_of(model, self.train, test)))
        replace_file(out / f"{self.name}.json", (json.dumps(facts, indent=2) + "\n").encode())
        self.training.folder.finish("complete")
        return facts


def prepare_training(
    recipe: str,
    data: str,
    out: str | Path,
    *,
    overwrite: bool = False,
    resume: bool = False,
    save_every: int = SAVE_EVERY,
    workers: int = 1,
) -> ClassifierTraining:
    """Everything that can be refused, before the first step. With ``resume``, goes on from the checkpoint."""
    tables, name = read_recipe(recipe, "train"), Path(recipe).stem
    if join_processes("cpu").count > 1:
        raise UserError(
            "bothways train is for one process: its networks normalise over a batch; type it without torchrun"
        )
    validation, train = _divided(recipe, tables, data)
    try:
        settings, network = built_training(tables, train)
        state = FitState(network, settings)
        size = tables["fit"]["batch"]
        drawn = batches(train, size, tables["seed"], Augmentation(**tables.get("augmentation", {})))
    except UserError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"recipe {recipe!r} cannot train: {type(error).__name__}: {error}; compare {EXAMPLE}"
        ) from error
    own = tuple(f"{name}{suffix}" for suffix in (".safetensors", ".json", ".statistics.safetensors"))
    told = {"settings": {"recipe": recipe, **tables}, "data": {"source": data}}
    folder = training_folder(out, told, Processes(), own=own, overwrite=overwrite, resume=resume)
    loss = classification(tables["fit"].get("label_smoothing", 0.0))
    training = Training(folder, state, settings, loss, drawn, size, save_every=save_every, workers=workers)
    if resume:
        training.resume()
    return ClassifierTraining(name, tables, data, train, validation, training)


def classification(smoothing: float) -> Loss:
    """Cross-entropy with label smoothing, and the accuracy beside it."""

    def loss(network: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        images, labels = batch
        logits = network(standardized(images)).float()
        accuracy = (logits.argmax(1) == labels).float().mean()
        return F.cross_entropy(logits, labels, label_smoothing=smoothing), {"accuracy": accuracy}

    return loss


def _divided(recipe: str, tables: dict[str, Any], data: str) -> tuple[ImageSet, ImageSet]:
    """The held-out part of the training file, and the rest."""
    if not all((Path(data) / f"{split}.parquet").is_file() for split in ("train", "test")):
        raise UserError(f"data {data!r} does not hold train.parquet and test.parquet; type the folder that holds both")
    everything = load_images(data, split="train")
    if not everything.classes or tuple(everything.images.shape[-2:]) != (SIDE, SIDE):
        raise UserError(
            f"data {data!r}: training takes {SIDE}x{SIDE} pictures of named classes (Hugging Face metadata)"
        )
    held, batch = (tables.get(part, {}).get(key, 0) for part, key in (("data", "validation"), ("fit", "batch")))
    if held < 1 or batch < 1 or len(everything) < held + batch:
        raise UserError(
            f"recipe {recipe!r} holds {held} pictures out for validation and trains on {batch} at a time, of the "
            f"{len(everything)} in {data!r}; both must be 1 or more, and together no more than there are"
        )
    order = torch.randperm(len(everything), generator=generator(tables.get("seed", 0), 0, "validation"))
    return everything.subset(order[:held]), everything.subset(order[held:])


def built_training(tables: dict[str, Any], train: ImageSet) -> tuple[FitSettings, nn.Module]:
    options = dict(tables["fit"])
    epochs, batch = options.pop("epochs"), options.pop("batch")
    options.pop("label_smoothing", None)
    settings = FitSettings(steps=epochs * (len(train) // batch), **options)
    with torch.random.fork_rng():  # the initial weights are the recipe's, the caller's random state is its own
        torch.random.manual_seed(tables["seed"])
        network = build_network(tables["network"]["builder"], classes=len(train.classes), **_options(tables["network"]))
    return settings, network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def standardized(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (CIFAR10_MEAN, CIFAR10_STD))
    return ((images - mean) / std).to(memory_format=torch.channels_last)


@torch.no_grad()
def accuracy(model: Adapter, data: ImageSet) -> tuple[int, int]:
    """How many are right, of how many."""
    right = 0
    for start in range(0, len(data), 500):
        part = data.subset(torch.arange(start, min(start + 500, len(data))))
        right += int((model.outputs(part.images.float() / 255).argmax(1) == part.labels).sum())
    return right, len(data)


def statistics_of(model: Adapter, train: ImageSet, test: ImageSet) -> dict[str, Tensor]:
    """Features and labels of test pictures, and what the model measures of training ones (see recipe/statistics)."""
    shown = test.subset(torch.arange(min(REFERENCE_PICTURES, len(test))))
    features, _ = penultimate(model, shown.images.float() / 255)
    assert features is not None
    real = train.images[:PICTURES]
    kept = as_tensors(space_of(model, real, KEPT_RANK))
    return {**in_eight_bits("features", features), "labels": shown.labels.half(), **kept}


def card_of(training: ClassifierTraining, test: tuple[int, int], validation: tuple[int, int]) -> dict[str, Any]:
    spec, network = training.adapter().spec, training.tables["network"]
    low, high = wilson_interval(*test)
    return {
        "name": training.name,
        "network": {"name": network["builder"], "classes": spec.count, **_options(network)},
        "spec": {
            "size": spec.size,
            "mean": spec.mean,
            "std": spec.std,
            "classes": spec.classes,
            "feature_layer": spec.feature_layer,
            "licence": spec.licence,
            "source": f"trained by recipes/{training.name}.toml",
        },
        "parameters": sum(p.numel() for p in training.state.result.parameters()),
        "data": "CIFAR-10, each picture re-encoded as JPEG (50,000 for training, of which "
        f"{len(training.validation)} were held out for validation)",
        "accuracy": round(test[0] / test[1], 4),
        "accuracy_interval": [round(low, 4), round(high, 4)],
        "accuracy_on": f"{test[1]} test pictures, re-encoded as JPEG; not comparable with the lossless set",
        "validation_accuracy": round(validation[0] / validation[1], 4),
        "reference": f"{REFERENCE_PICTURES} test pictures of the same data",
        "limits": "32 x 32 pixels and ten classes; for looking into methods, not for use on photographs",
        "recipe": training.tables,
    }


def _options(network: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in network.items() if key != "builder"}
