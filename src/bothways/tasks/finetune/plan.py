"""The plan of a fine-tuning: flow, data and recipe -> pictures, classifier and loss.

Source: PRG, Xue et al. 2024, arXiv 2412.01787, sec. 3 and app. B. Difference: the flow-matching loss uses the
pictures without augmentation, so that the flow keeps modelling the pictures themselves.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor, nn

from bothways.data.augmentations import StrongAugmentation
from bothways.data.images import Augmentation, Batch, batches, check_crop, survive_mirroring
from bothways.data.rows.stored import StoredSet
from bothways.data.sources import ImageSet
from bothways.data.targets.labels import class_weights
from bothways.data.targets.mixing import mixed
from bothways.data.trained import training_record
from bothways.models.addresses import flow_of
from bothways.models.catalogue import check_device
from bothways.models.classifiers import classifier_card, count_of, coupling_of_card, origin_of, trained_on
from bothways.models.loader import load_flow
from bothways.models.velocity import Flow
from bothways.processes.group import Batches, Processes, join_processes
from bothways.registry import name_of
from bothways.representation.activations import middle_layer
from bothways.representation.classifier import FlowClassifier, classifier_loss, freeze_unused, layer_rates
from bothways.representation.couplings import coupling_of
from bothways.representation.encode import Walk
from bothways.representation.features import Features
from bothways.representation.heads import head_of
from bothways.representation.tuning.config import tune_of
from bothways.representation.tuning.parts import checkpoint_activations, kept_size, tune
from bothways.representation.tuning.targets import NUMBERS
from bothways.runs.provenance import digest_of, flow_facts
from bothways.tasks.finetune.config import FeaturesConfig, FinetuneConfig
from bothways.tasks.finetune.pictures import pictures_of, shift_and_scale
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
        augmentation = StrongAugmentation(**config.augmentation.model_dump(exclude={"mixup", "cutmix"}))
        drawn = batches(self.train, size, config.seed, augmentation)
        plain = batches(self.train, config.loss.flow_batch or size, config.seed, PLAIN)
        paired = self.pairs(plain, config.seed) if config.loss.beta else None
        mix = config.augmentation.mixup, config.augmentation.cutmix
        return partial(_batch, drawn, paired, self._code, (config.seed, *mix, count_of(self.classes)))

    def pairs(self, batch: Callable[[int], Batch], seed: int) -> Batches:
        """step -> (x, noise, t)."""
        spec, coupling = self.before.spec, coupling_of(self.config.loss.coupling)
        levels = spec.levels if self.before.latents is None else 0
        return pairs(batch, self._code, coupling, seed, levels, grey=spec.channel_order == "grey")

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
        loss, target = self.config.loss, self.config.target
        return classifier_loss(network, batch, loss.beta or 0.0, loss.label_smoothing, self.weights, target)

    def plain_loss(self, network: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
        """The loss of the target alone, without smoothing and weights."""
        return classifier_loss(network, batch, 0.0, target=self.config.target)[0]

    @cached_property
    def weights(self) -> Tensor | None:
        """The weights of the classes in the loss."""
        given = self.config.loss.class_weights
        return None if given is None else class_weights(given, self.classes, self.train.labels)

    @property
    def trained(self) -> int:
        """The number of trained parameters."""
        return sum(p.numel() for p in self.classifier.parameters() if p.requires_grad)

    @property
    def parameters(self) -> int:
        """The number of parameters of the classifier, as it is kept."""
        return kept_size(self.classifier)

    def settings(self) -> dict[str, Any]:
        """The settings that determine the training, by name."""
        return self.config.model_dump(exclude={"flow", "data", "run"})

    def tables(self) -> dict[str, Any]:
        """The tables of recipe.toml."""
        data: dict[str, Any] = {"source": str(self.config.data)}
        data |= {"pictures": len(self.train), "held_out": len(self.held)}
        if self.config.labels_csv is not None:  # a file that may change before the run is resumed
            data["labels"] = digest_of((self.train.labels, self.held.labels))
        return {"settings": self.settings(), "model": flow_facts(self.before), "data": data}

    def card(self) -> dict[str, Any]:
        """The content of classifier.json, from which the classifier is rebuilt."""
        told = f"{self.config.data}: {len(self.train)} pictures for training, {len(self.held)} held out"
        own = training_record(self.config.data, self.config.split or "train", self.train, self.held)
        of_flow = [] if self.config.fresh else trained_on(self.before.name)  # random weights have seen nothing
        earlier = [record for record in of_flow if record != own]
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
            f"{fit.batch}{read}; they are {self.trained / self.parameters:.1%} of {self.parameters:,}"
        )


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _batch(
    drawn: Callable[[int], Batch],
    paired: Batches | None,
    code: Callable[[Tensor], Tensor],
    mix: tuple[int, float, float, int],
    step: int,
) -> tuple[Tensor, ...]:
    """mix: the seed, mixup, cutmix and the number of classes."""
    seed, mixup, cutmix, classes = mix
    images, labels = mixed(*drawn(step), seed, step, mixup, cutmix, classes)
    return code(images), labels, *(paired(step) if paired is not None else ())


def plan_of(config: FinetuneConfig) -> Finetuning:
    """Plan a run of ``finetune``. Raises UserError for invalid input, before a run folder is written."""
    check_device(config.run.device, "bf16" if config.fit.bf16 else "float32")
    processes = join_processes(config.run.device)
    given = load_flow(config.flow)
    origin = origin_of(given)
    before = flow_of(origin, config.seed, given.path, given.latents) if config.fresh else copy.deepcopy(given)
    before.eval().requires_grad_(False).to(processes.device).name = given.name
    held, train, classes = pictures_of(config, before)
    check_along(config.holdout, len(held))
    config = _settled(config, before, len(train), processes, classes)
    if train.are_latents:
        config = config.model_copy(update={"augmentation": _unaugmented(config)})
    classifier = _built(config, before, classes)
    if config.target == NUMBERS:
        classifier.shift, classifier.scale = shift_and_scale(train.labels)
    classifier.to(processes.device)
    planned = Finetuning(config, train, held, classes, before, classifier, origin, processes)
    if not config.loss.beta:
        freeze_unused(classifier, before.shape)
    _checked_augmentation(planned)
    _ = planned.weights  # what is wrong with them is said now
    return planned


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
        config.fit.check_parts(size // processes.count, "--batch" if size == batch else "--flow-batch")
    features = config.features.model_copy(update={"layer": _layer(config.features, flow)})
    beta = 0.0 if config.holds_flow else 1.0 if config.loss.beta is None else config.loss.beta
    coupling = config.loss.coupling or coupling_of_card(flow.name) or "independent"
    loss = config.loss.model_copy(update={"beta": beta, "flow_batch": flow_batch, "coupling": coupling})
    fit = config.fit.resolved(pictures, batch)
    flip = survive_mirroring(classes) if config.augmentation.flip is None else config.augmentation.flip
    augmentation = config.augmentation.model_copy(update={"flip": flip})
    found: dict[str, Any] = {"features": features, "loss": loss, "fit": fit, "augmentation": augmentation}
    if config.holds_flow:
        found |= {"tune": "head", "frozen": True}
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
    if how.walks and how.walk.adaptive and how.walk.gradient == "exact" and not config.holds_flow:
        raise UserError(
            f"solver {how.walk.name!r} chooses its own steps, through which there is no gradient 'exact'; "
            "type --gradient direct, or --gradient adjoint"
        )
    with torch.random.fork_rng():  # initial weights from the seed, without changing the caller's random state
        torch.random.manual_seed(config.seed)
        made = FlowClassifier(
            copy.deepcopy(before), before.path, before.shape, count_of(classes), how, frozen=config.frozen,
            head=head_of(read.head), target=config.target,
        )  # fmt: skip
        tune(made, tune_of(config.tune), before.shape)
    if config.fit.checkpoint_activations:
        checkpoint_activations(made)
    return made


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
