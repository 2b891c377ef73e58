"""What a fine-tuning will be, before anything is written: a flow, data and recipe -> pictures, classifier, loss.

Source: PRG, Xue et al. 2024, arXiv 2412.01787, sec. 3 and app. B. Departures: the flow-matching loss sees the pictures
of the batch as they are, since the flow is to stay one of pictures and not of what augmentation makes of them.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bothways.data.augmentations import StrongAugmentation
from bothways.data.images import Augmentation, Batch, batches
from bothways.data.sources import ImageSet, load_images
from bothways.models.addresses import flow_of
from bothways.models.catalogue import check_device
from bothways.models.classifiers import card_of_flow, classifier_card, count_of, origin_of
from bothways.models.loader import load_flow
from bothways.models.velocity import Flow
from bothways.numerics.draws import generator
from bothways.representation.activations import middle
from bothways.representation.classifier import FlowClassifier, classifier_loss, hold_the_unreached, layer_rates
from bothways.representation.couplings import coupling_of
from bothways.representation.encode import Walk
from bothways.representation.features import Features
from bothways.runs.provenance import flow_tables
from bothways.tasks.finetune.config import DEFAULT_FINETUNING, FinetuneSettings, finetune_settings
from bothways.training.along import check_information
from bothways.training.fit import Factor, FitSettings
from bothways.training.pairs import pairs
from bothways.training.processes import Batches, Processes, join_processes
from bothways.types import UserError

PLAIN = Augmentation(crop=0, flip=False)
NONE: dict[str, Any] = {"crop": 0, "flip": False, "strength": 0.0, "erase": 0.0}  # what a recipe does not name


@dataclass(frozen=True)
class Finetuning:
    """A fine-tuning that can be begun.

    train, held: pictures; classes: their names, or how many there are; before: the flow as it is at the start, which
    training leaves alone; classifier: a copy of it, with a head; origin: what builds its network again.
    """

    settings: FinetuneSettings
    data: str
    train: ImageSet
    held: ImageSet
    classes: tuple[str, ...] | int
    before: Flow
    classifier: FlowClassifier
    origin: dict[str, Any]
    processes: Processes

    @property
    def fit(self) -> FitSettings:
        values = self.settings.model_dump() | {"steps": self.settings.train_steps}
        return FitSettings(**{f.name: values[f.name] for f in dataclasses.fields(FitSettings)})

    @property
    def factor(self) -> Factor | None:
        """Of the rate, by the name of a parameter."""
        decay = self.settings.layer_decay
        return None if decay == 1 or self.settings.frozen else layer_rates(self.classifier, decay, self.before.shape)

    def batch(self) -> Batches:
        """step -> (pictures in the flow's units, labels), then (x, noise, t) where the flow's own loss is wanted."""
        settings = self.settings
        augmentation = StrongAugmentation(**{**NONE, **settings.augmentation})
        drawn = batches(self.train, settings.batch, settings.seed, augmentation)
        plain = batches(self.train, settings.flow_batch or settings.batch, settings.seed, PLAIN)
        return partial(_batch, drawn, self.pairs(plain, settings.seed) if settings.beta else None, self._code)

    def pairs(self, batch: Callable[[int], Batch], seed: int) -> Batches:
        """step -> (x, noise, t)."""
        coupling = coupling_of(self.settings.coupling or "independent")
        return pairs(batch, self._code, coupling, seed, self.before.spec.levels)

    @property
    def _code(self) -> Callable[[Tensor], Tensor]:
        """That of the flow, without its network, so that it can be sent to a process."""
        return Flow(nn.Identity(), self.before.spec).code

    def loss(self, network: nn.Module, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
        return classifier_loss(network, batch, self.settings.beta or 0.0, self.settings.label_smoothing)

    @property
    def trained(self) -> int:
        """How many parameters learn."""
        return sum(p.numel() for p in self.classifier.parameters() if p.requires_grad)

    def tables(self) -> dict[str, Any]:
        """What recipe.toml holds."""
        data = {"source": self.data, "pictures": len(self.train), "held_out": len(self.held)}
        return {**flow_tables(self.before, {"command": "finetune", **self.settings.model_dump()}), "data": data}

    def card(self) -> dict[str, Any]:
        """The facts with which classifier.safetensors becomes a classifier again."""
        told = f"{self.data}: {len(self.train)} pictures for training, {len(self.held)} held out"
        return classifier_card(
            self.classifier, self.origin, self.classes, name=self.before.name, data=told,
            recipe=self.settings.model_dump(),
        )  # fmt: skip


def _batch(
    drawn: Callable[[int], Batch], paired: Batches | None, code: Callable[[Tensor], Tensor], step: int
) -> tuple[Tensor, ...]:
    images, labels = drawn(step)
    return code(images), labels, *(paired(step) if paired is not None else ())


def prepare_finetuning(
    flow: str | Path | Flow, data: str | Path, recipe: str = DEFAULT_FINETUNING, *, device: str = "cpu", **changes: Any
) -> Finetuning:
    """Everything of ``finetune`` that can be refused, before a run folder is touched."""
    settings = finetune_settings(recipe, **changes)
    check_device(device)
    processes = join_processes(device)
    given = load_flow(flow)
    origin = origin_of(given)
    before = flow_of(origin, settings.seed) if settings.fresh else copy.deepcopy(given)
    before.eval().requires_grad_(False).to(processes.device).name = given.name
    settings = settings.model_copy(update={"layer": _layer(settings, before), "coupling": _coupling(settings, given)})
    spec = before.spec
    everything = load_images(data, size=(spec.height, spec.width))
    held, train = divided(everything, settings, str(data))
    check_information(settings.information, len(held))
    settings = _settled(settings, len(train), "batch" in changes and changes["batch"] is not None, processes)
    classes = classes_of(everything)
    classifier = _built(settings, before, classes).to(processes.device)
    plan = Finetuning(settings, str(data), train, held, classes, before, classifier, origin, processes)
    if not settings.beta:
        hold_the_unreached(classifier, before.shape)
    _checked_augmentation(plan)
    return plan


def divided(everything: ImageSet, settings: FinetuneSettings, data: str) -> tuple[ImageSet, ImageSet]:
    """The pictures held out, and those to train on; the former are those that ``pretrain`` holds out of the same data.

    Raises UserError for pictures without classes, and where they are too few.
    """
    if len(everything.labels) == 0 or int(everything.labels.min()) < 0:
        raise UserError(
            f"data {data!r} does not say of which class a picture is; type a folder with one folder a class"
        )
    classes = count_of(classes_of(everything))
    if classes < 2:
        raise UserError(f"data {data!r} has one class and there is nothing to tell apart; type data of two or more")
    left = len(everything) - settings.validation
    if left < classes:
        raise UserError(
            f"validation={settings.validation} leaves {max(0, left)} of {len(everything)} pictures to train on; "
            "type a smaller --validation"
        )
    order = torch.randperm(len(everything), generator=generator(settings.seed, 0, "validation"))
    held, train = everything.subset(order[: settings.validation]), everything.subset(order[settings.validation :])
    if settings.labels is None:
        return held, train
    if not classes <= settings.labels <= len(train):
        raise UserError(
            f"labels={settings.labels}: there are {classes} classes and {len(train)} pictures to choose from; "
            f"type --labels {classes} to {len(train)}"
        )
    chosen = stratified(train.labels, settings.labels, generator(settings.seed, 0, "labels"))
    return held, train.subset(chosen)


def classes_of(data: ImageSet) -> tuple[str, ...] | int:
    """The names of the classes, or how many where there are none."""
    return data.classes or int(data.labels.max()) + 1


def stratified(labels: Tensor, count: int, source: torch.Generator) -> Tensor:
    """(count,): places of as many pictures of each class as there can be, drawn at random.

    Round by round one of every class, in an order that is drawn too, so that more pictures are fewer and some others.
    """
    order = torch.randperm(len(labels), generator=source)
    mixed = labels[order]
    by_class = torch.argsort(mixed, stable=True)
    sizes = torch.bincount(mixed)
    first = (sizes.cumsum(0) - sizes)[mixed[by_class]]
    turn = torch.empty_like(order)
    turn[by_class] = torch.arange(len(labels)) - first
    place = torch.randperm(len(sizes), generator=source)[mixed]
    return order[torch.argsort(turn * len(sizes) + place)[:count]]


def _layer(settings: FinetuneSettings, flow: Flow) -> str | None:
    if not settings.reads_activations or settings.layer is not None:
        return settings.layer
    try:
        return middle(flow)
    except UserError as error:
        raise UserError(f"{error}, as --layer NAME") from error


def _coupling(settings: FinetuneSettings, flow: Flow) -> str:
    """That of the flow's own training, where its card says."""
    told = (card_of_flow(flow.name) or {}).get("recipe", {}).get("coupling")
    return settings.coupling or told or "independent"


def _settled(settings: FinetuneSettings, pictures: int, stated: bool, processes: Processes) -> FinetuneSettings:
    """The settings with the number of steps; a recipe's batch is made to fit few pictures, a stated one is not."""
    batch = settings.batch
    if batch > pictures:
        if stated:
            raise UserError(f"batch={batch} is more than the {pictures} pictures to train on; type --batch {pictures}")
        batch = max(1, pictures // processes.count) * processes.count
    flow_batch = None if settings.flow_batch is None else min(settings.flow_batch, batch)
    for size in (batch, flow_batch or batch):
        processes.share(lambda step: (), size)
    steps = settings.train_steps or (settings.epochs or 0) * (pictures // batch)
    return settings.model_copy(update={"train_steps": steps, "epochs": None, "batch": batch, "flow_batch": flow_batch})


def _built(settings: FinetuneSettings, before: Flow, classes: tuple[str, ...] | int) -> FlowClassifier:
    how = Features(
        settings.kind,
        settings.walk_depth,
        Walk(steps=settings.steps, solver=settings.solver, gradient=settings.gradient),
        (settings.layer,) if settings.layer else (),
        settings.read_depth,
        settings.noised,
    )
    with torch.random.fork_rng():  # the head's first weights are the seed's, the caller's random state is its own
        torch.random.manual_seed(settings.seed)
        return FlowClassifier(
            copy.deepcopy(before), before.path, before.shape, count_of(classes), how, frozen=settings.frozen
        )


def _checked_augmentation(plan: Finetuning) -> None:
    """Make the first batch, so that what the recipe asks of a picture is refused now."""
    side = min(plan.before.shape[1:])
    try:
        if plan.settings.augmentation.get("crop", 0) >= side:
            raise ValueError(f"crop = {plan.settings.augmentation['crop']} is no less than the {side} pixels of a side")
        plan.batch()(0)
    except UserError:
        raise
    except (TypeError, ValueError, RuntimeError) as error:
        said = str(error).splitlines()[0].removeprefix("StrongAugmentation.__init__() ")
        raise UserError(f"recipe {plan.settings.recipe!r} cannot train: [augmentation] {said}") from error
