"""The plan of a fine-tuning: flow, data and recipe -> pictures, classifier and loss.

Source: PRG, Xue et al. 2024, arXiv 2412.01787, sec. 3 and app. B. Difference: the flow-matching loss uses the
pictures without augmentation, so that the flow keeps modelling the pictures themselves.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bothways.data.augmentations import StrongAugmentation
from bothways.data.images import Augmentation, Batch, batches, check_crop, survive_mirroring
from bothways.data.readers.fit import size_of
from bothways.data.rows.stored import StoredSet, open_images
from bothways.data.sources import ImageSet
from bothways.data.splits import Pictures, holdout, stratified
from bothways.data.trained import training_record
from bothways.models.addresses import flow_of
from bothways.models.catalogue import check_device
from bothways.models.classifiers import classifier_card, count_of, coupling_of_card, origin_of, trained_on
from bothways.models.loader import load_flow
from bothways.models.velocity import Flow
from bothways.numerics.draws import generator
from bothways.processes.group import Batches, Processes, join_processes
from bothways.registry import name_of
from bothways.representation.activations import middle_layer
from bothways.representation.classifier import FlowClassifier, classifier_loss, freeze_unused, layer_rates
from bothways.representation.couplings import coupling_of
from bothways.representation.encode import Walk
from bothways.representation.features import Features
from bothways.representation.heads import head_of
from bothways.runs.provenance import flow_facts
from bothways.tasks.finetune.config import FeaturesConfig, FinetuneConfig, LabelledHoldoutConfig
from bothways.tasks.latents.facts import latent_facts
from bothways.training.along import check_along
from bothways.training.fit import Factor
from bothways.training.pairs import pairs
from bothways.types import UserError

PLAIN = Augmentation(crop=0, flip=False)
OF_LATENTS = {"crop": 0.0, "flip": False, "strength": 0.0, "erase": 0.0}


@dataclass(frozen=True)
class Finetuning:
    """A validated fine-tuning.

    train, held: training and held-out pictures. classes: names or number of classes. before: the initial flow, which is
    not modified. classifier: a copy of it with a head. origin: the facts to rebuild its network.
    """

    config: FinetuneConfig
    train: ImageSet | StoredSet
    held: ImageSet
    classes: tuple[str, ...] | int
    before: Flow
    classifier: FlowClassifier
    origin: dict[str, Any]
    processes: Processes

    @property
    def factor(self) -> Factor | None:
        """The learning-rate factor by parameter name."""
        decay = self.config.fit.layer_decay
        return None if decay == 1 or self.config.frozen else layer_rates(self.classifier, decay, self.before.shape)

    def batch(self) -> Batches:
        """step -> (pictures as inputs of the flow, labels), plus (x, noise, t) with a flow-matching loss."""
        config, size = self.config, self.config.fit.batch
        augmentation = StrongAugmentation(**config.augmentation.model_dump())
        drawn = batches(self.train, size, config.seed, augmentation)
        plain = batches(self.train, config.loss.flow_batch or size, config.seed, PLAIN)
        return partial(_batch, drawn, self.pairs(plain, config.seed) if config.loss.beta else None, self._code)

    def pairs(self, batch: Callable[[int], Batch], seed: int) -> Batches:
        """step -> (x, noise, t)."""
        levels = self.before.spec.levels if self.before.latents is None else 0
        return pairs(batch, self._code, coupling_of(self.config.loss.coupling), seed, levels)

    @property
    def _code(self) -> Callable[[Tensor], Tensor]:
        """The input encoding of the flow without its network, so that it can be sent to a process.

        An autoencoder encodes on the device of the flow, in this process; latents are encoded already.
        """
        if self.train.are_latents:
            return _as_it_is
        return Flow(nn.Identity(), self.before.spec).code if self.before.latents is None else self._encoded

    @torch.no_grad()
    def _encoded(self, images: Tensor) -> Tensor:
        return self.before.code(images.to(self.before.mean.device)).cpu()

    def loss(self, network: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        return classifier_loss(network, batch, self.config.loss.beta or 0.0, self.config.loss.label_smoothing)

    @property
    def trained(self) -> int:
        """The number of trained parameters."""
        return sum(p.numel() for p in self.classifier.parameters() if p.requires_grad)

    def settings(self) -> dict[str, Any]:
        """The settings that determine the training, by name."""
        return self.config.model_dump(exclude={"flow", "data", "run"})

    def tables(self) -> dict[str, Any]:
        """The tables of recipe.toml."""
        data = {"source": str(self.config.data), "pictures": len(self.train), "held_out": len(self.held)}
        return {"settings": self.settings(), "model": flow_facts(self.before), "data": data}

    def card(self) -> dict[str, Any]:
        """The content of classifier.json, from which the classifier is rebuilt."""
        told = f"{self.config.data}: {len(self.train)} pictures for training, {len(self.held)} held out"
        own = training_record(self.config.data, self.config.split or "train", self.train, self.held)
        earlier = [record for record in trained_on(self.before.name) if record != own]
        return classifier_card(
            self.classifier, self.origin, self.classes, name_of(self.config.features.head), name=self.before.name,
            data=told, trained_on=[own, *earlier], recipe=self.settings(),
        )  # fmt: skip

    def line(self) -> str:
        """A summary for a dry run."""
        fit, layer = self.config.fit, self.config.features.layer
        read = f", reading {layer}" if layer else ""
        return (
            f"{self.trained:,} parameters would be trained on {len(self.train)} pictures, {fit.steps} steps of "
            f"{fit.batch}{read}"
        )


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _batch(
    drawn: Callable[[int], Batch], paired: Batches | None, code: Callable[[Tensor], Tensor], step: int
) -> tuple[Tensor, ...]:
    images, labels = drawn(step)
    return code(images), labels, *(paired(step) if paired is not None else ())


def plan_of(config: FinetuneConfig) -> Finetuning:
    """Plan a run of ``finetune``. Raises UserError for invalid input, before a run folder is written."""
    check_device(config.run.device)
    processes = join_processes(config.run.device)
    given = load_flow(config.flow)
    origin = origin_of(given)
    before = flow_of(origin, config.seed, given.path, given.latents) if config.fresh else copy.deepcopy(given)
    before.eval().requires_grad_(False).to(processes.device).name = given.name
    spec = before.spec
    everything = open_images(
        config.data, split=config.split or "train", size=size_of(spec), in_memory=config.run.in_memory,
        latents=latent_facts(before),
    )  # fmt: skip
    held, train = divided(everything, config.holdout, config.seed, str(config.data))
    check_along(config.holdout, len(held))
    classes = classes_of(everything)
    config = _settled(config, before, len(train), processes, classes)
    if train.are_latents:
        config = config.model_copy(update={"augmentation": _unaugmented(config)})
    classifier = _built(config, before, classes).to(processes.device)
    planned = Finetuning(config, train, held, classes, before, classifier, origin, processes)
    if not config.loss.beta:
        freeze_unused(classifier, before.shape)
    _checked_augmentation(planned)
    return planned


def divided(everything: Pictures, chosen: LabelledHoldoutConfig, seed: int, data: str) -> tuple[ImageSet, Pictures]:
    """Split into held-out and training pictures; the held-out ones are those of ``pretrain`` on the same data.

    Raises UserError for pictures without classes, or too few pictures.
    """
    if len(everything.labels) == 0 or int(everything.labels.min()) < 0:
        raise UserError(f"data {data!r} has no labels; type a folder with one folder per class")
    classes = count_of(classes_of(everything))
    if classes < 2:
        raise UserError(f"data {data!r} has only one class; type data of two or more classes")
    left = len(everything) - chosen.validation
    if left < classes:
        raise UserError(
            f"validation={chosen.validation} leaves {max(0, left)} of {len(everything)} pictures to train on; "
            "type a smaller --validation"
        )
    held, train = holdout(everything, chosen.validation, seed)
    if chosen.labels is None:
        return held, train
    if not classes <= chosen.labels <= len(train):
        raise UserError(
            f"labels={chosen.labels}: there are {classes} classes and {len(train)} pictures to choose from; "
            f"type --labels {classes} to {len(train)}"
        )
    return held, train.subset(stratified(train.labels, chosen.labels, generator(seed, 0, "labels")))


def classes_of(data: ImageSet | StoredSet) -> tuple[str, ...] | int:
    """The names of the classes, or their number if they have no names."""
    return data.classes or int(data.labels.max()) + 1


def _settled(
    config: FinetuneConfig, flow: Flow, pictures: int, processes: Processes, classes: tuple[str, ...] | int
) -> FinetuneConfig:
    """Fill in unset settings (layer, coupling, beta, steps, mirroring), and shrink the batch to few pictures."""
    if config.fit.strict_batch and (given := config.fit.batch) > pictures:
        raise UserError(f"batch={given} is more than the {pictures} pictures to train on; type --batch {pictures}")
    batch = min(config.fit.batch, max(1, pictures // processes.count) * processes.count)
    flow_batch = None if config.loss.flow_batch is None else min(config.loss.flow_batch, batch)
    for size in (batch, flow_batch or batch):
        processes.share(lambda step: (), size)
    features = config.features.model_copy(update={"layer": _layer(config.features, flow)})
    beta = 0.0 if config.holds_flow else 1.0 if config.loss.beta is None else config.loss.beta
    coupling = config.loss.coupling or coupling_of_card(flow.name) or "independent"
    loss = config.loss.model_copy(update={"beta": beta, "flow_batch": flow_batch, "coupling": coupling})
    fit = config.fit.resolved(pictures, batch)
    flip = survive_mirroring(classes) if config.augmentation.flip is None else config.augmentation.flip
    augmentation = config.augmentation.model_copy(update={"flip": flip})
    found = {"frozen": config.holds_flow, "features": features, "loss": loss, "fit": fit, "augmentation": augmentation}
    if flow.latents is not None:
        found["run"] = config.run.model_copy(update={"workers": 0})  # the autoencoder is on the device of this process
    return config.model_copy(update=found)


def _unaugmented(config: FinetuneConfig) -> Any:
    """The augmentation of latents, which is none. Warns where there was one."""
    found = config.augmentation.model_copy(update=OF_LATENTS)
    if found != config.augmentation:
        warnings.warn("latents are taken as they are: crop, flip and the rest are of pictures", stacklevel=3)
    return found


def _layer(config: FeaturesConfig, flow: Flow) -> str | None:
    if not config.reads_activations or config.layer is not None:
        return config.layer
    try:
        return middle_layer(flow)
    except UserError as error:
        raise UserError(f"{error}, as --layer NAME") from error


def _built(config: FinetuneConfig, before: Flow, classes: tuple[str, ...] | int) -> FlowClassifier:
    read = config.features
    how = Features(
        read.kind,
        read.walk_depth,
        Walk(steps=read.steps, solver=read.solver, gradient=read.gradient),
        (read.layer,) if read.layer else (),
        read.read_depth,
        read.noised,
    )
    with torch.random.fork_rng():  # initial weights from the seed, without changing the caller's random state
        torch.random.manual_seed(config.seed)
        return FlowClassifier(
            copy.deepcopy(before), before.path, before.shape, count_of(classes), how, frozen=config.frozen,
            head=head_of(read.head),
        )  # fmt: skip


def _checked_augmentation(planned: Finetuning) -> None:
    """Make the first batch, so that an invalid augmentation raises an error before training."""
    spec = planned.before.spec
    try:
        check_crop(planned.config.augmentation.crop, spec.height, spec.width)
        planned.batch()(0)
    except UserError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        message = str(error).splitlines()[0]
        raise UserError(f"recipe {planned.config.recipe!r} cannot train: [augmentation] {message}") from error
