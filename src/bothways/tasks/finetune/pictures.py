"""The pictures of a fine-tuning: those held out and those to train on, with the labels of their target."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bothways.data.readers.fit import size_of
from bothways.data.rows.stored import StoredSet, open_images
from bothways.data.sources import ImageSet, load_images
from bothways.data.splits import holdout, stratified
from bothways.data.targets.labels import labelled, numbers_of_classes, read_labels
from bothways.models.classifiers import count_of
from bothways.models.velocity import Flow
from bothways.numerics.draws import generator
from bothways.representation.tuning.targets import CLASS, NUMBERS, SEVERAL
from bothways.tasks.finetune.config import FinetuneConfig
from bothways.tasks.latents.facts import latent_facts
from bothways.types import UserError


class Divided(NamedTuple):
    """The held-out pictures, those to train on, and the names of classes, labels or numbers, or how many there are."""

    held: ImageSet
    train: ImageSet | StoredSet
    classes: tuple[str, ...] | int


def pictures_of(config: FinetuneConfig, flow: Flow) -> Divided:
    """Read the pictures of a flow's size, and divide them; those held out are those of ``pretrain`` on the same data.

    Raises UserError for pictures without labels, or too few pictures.
    """
    table = None if config.labels_csv is None else read_labels(config.labels_csv, config.target)
    if table is None and config.target == SEVERAL:
        raise UserError("--target multi-label needs --labels-csv FILE with columns such as file,label")
    data = str(config.data)
    everything = _read(config, flow)
    unlabelled = int((everything.labels < 0).sum())
    if table is None and config.target == CLASS and unlabelled == len(everything):
        raise UserError(f"data {data!r} has no labels; type a folder with one folder per class, or --labels-csv FILE")
    if table is None and config.target == CLASS and unlabelled:
        raise UserError(
            f"data {data!r}: {unlabelled} of {len(everything)} pictures have no label; take them away, or type "
            "--labels-csv FILE, which leaves out what it does not name"
        )
    classes = table.names if table else everything.classes or int(everything.labels.max()) + 1
    if config.target == CLASS and count_of(classes) < 2:
        raise UserError(f"data {data!r} has only one class; type data of two or more classes")
    least = count_of(classes) if config.target == CLASS else 2
    left = len(everything) - config.holdout.validation
    if left < least:
        raise UserError(
            f"validation={config.holdout.validation} leaves {max(0, left)} of {len(everything)} pictures to train on; "
            "type a smaller --validation"
        )
    held, train = holdout(everything, config.holdout.validation, config.seed)  # by classes, whatever the target
    if config.target == NUMBERS and table is None:
        assert isinstance(train, ImageSet)
        held, train = numbers_of_classes(held, data), numbers_of_classes(train, data)
        classes = held.classes
    if table is not None:
        assert isinstance(train, ImageSet)
        assert isinstance(everything, ImageSet)
        train = labelled(train, table, "to train on", everything.names)
        try:
            held = labelled(held, table, "held out", everything.names)
        except UserError as error:
            raise UserError(f"{error}; type a larger --validation, or label more pictures") from error
    train = _few(train, config, count_of(classes))
    if config.target == CLASS:
        _tell_of_missing(train, classes)
    return Divided(held, train, classes)


def _tell_of_missing(train: ImageSet | StoredSet, classes: tuple[str, ...] | int) -> None:
    """Warn of classes that no picture to train on is of, such as those of empty folders."""
    missing = (train.labels.bincount(minlength=count_of(classes)) == 0).nonzero().flatten().tolist()
    if missing:
        name = repr(classes[missing[0]] if isinstance(classes, tuple) else missing[0])
        told = name if len(missing) == 1 else f"{name} and {len(missing) - 1} more classes"
        warnings.warn(f"no picture to train on is of {told}: what is predicted of it is not learnt", stacklevel=3)


def _read(config: FinetuneConfig, flow: Flow) -> ImageSet | StoredSet:
    """All pictures, with labels that a table replaces; classes alone are read where they are stored."""
    where: dict[str, Any] = {"split": config.split or "train", "size": size_of(flow.spec)}
    if config.target == CLASS and config.labels_csv is None:
        return open_images(config.data, in_memory=config.run.in_memory, latents=latent_facts(flow), **where)
    with warnings.catch_warnings():
        if config.labels_csv is not None:  # those that it replaces: a table beside a folder is read as one of classes
            warnings.filterwarnings("ignore", ".* have no label$|.*: labels are those of its ")
        return load_images(config.data, **where)


def _few(train: ImageSet | StoredSet, config: FinetuneConfig, classes: int) -> ImageSet | StoredSet:
    """So many of the training pictures as have labels, balanced over classes."""
    count, source = config.holdout.labels, generator(config.seed, 0, "labels")
    if count is None:
        return train
    least = classes if config.target == CLASS else 2
    if not least <= count <= len(train):
        what = f"{classes} classes and {len(train)} pictures" if config.target == CLASS else f"{len(train)} pictures"
        raise UserError(f"labels={count}: there are {what} to choose from; type --labels {least} to {len(train)}")
    if config.target == CLASS:
        return train.subset(stratified(train.labels, count, source))
    return train.subset(torch.randperm(len(train), generator=source)[:count])


def shift_and_scale(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each number (N,K) over pictures; 1 where all are the same."""
    scale = values.std(0, correction=0)
    return values.mean(0), torch.where(scale > 0, scale, torch.ones_like(scale))


def labels_like(config: FinetuneConfig, count: int, classes: Any) -> Tensor:
    """Labels of so many pictures, all zero, to try a step with."""
    if config.target == CLASS:
        return torch.zeros(count, dtype=torch.int64)
    return torch.zeros(count, count_of(classes))
