"""The targets of the pictures of a run: classes, prompts, channels of a layer, and photos."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from bothways.brief import shown
from bothways.models.adapter import Adapter
from bothways.models.class_names import ALL, RANGE
from bothways.numerics.pyramid import resize
from bothways.synthesis.objectives.base import NO_CLASS
from bothways.synthesis.objectives.terms import vectors
from bothways.tasks.generate.scene import Scene
from bothways.types import UserError

MOST_CHANNELS = 1_000_000  # of a range
TOP_CLASS = "<top>"  # as a class: for each photo, the class that the model predicts
TIME_OF_DAY = re.compile(r"(?<!\d)\d{1,2}:[0-5]\d$")  # at the end of a prompt: no weight
Prompt = tuple[str, float]


@dataclass(frozen=True)
class Batch:
    """The targets of a batch. labels (B,), -1 without a class; channels (B,) or None; the scene of each picture."""

    labels: Tensor
    seeds: Sequence[int]
    scene: Scene = field(default_factory=Scene)
    channels: Tensor | None = None


@dataclass(frozen=True)
class Request:
    """The targets of a run. labels, channels: per picture, -1 or None without. prompts: signed, for all pictures."""

    labels: tuple[int, ...]
    scene: Scene = field(default_factory=Scene)
    prompts: tuple[Prompt, ...] = ()
    layer: str | None = None
    channels: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, pictures: Sequence[int], seeds: Sequence[int]) -> Batch:
        """The targets of some pictures by their numbers."""
        channels = torch.tensor([self.channels[i] for i in pictures]) if self.channels else None
        return Batch(torch.tensor([self.labels[i] for i in pictures]), seeds, self.scene.of(pictures), channels)

    def name(self, index: int, model: Adapter) -> str | None:
        """The target of a picture in words: its class, else its channel, else the prompts; None without a target."""
        if self.labels[index] != NO_CLASS:
            return model.spec.class_name(self.labels[index])
        if self.layer is not None:
            return f"{self.layer} {self.channels[index]}" if self.channels else self.layer
        return ", ".join(text for text, _ in self.prompts) or None


def read_prompts(prompts: Sequence[str | Prompt] | str | None) -> tuple[Prompt, ...]:
    """Parse ["a jellyfish", "multiple exposure:-0.3"] -> (("a jellyfish", 1.0), ("multiple exposure", -0.3))."""
    found = []
    for prompt in [prompts] if isinstance(prompts, str) else prompts or ():
        text, weight = _weighted(prompt) if isinstance(prompt, str) else _pair(prompt)
        if not text.strip():
            raise UserError(
                f"--prompt {shown(prompt)} has no words; type TEXT, or TEXT:WEIGHT such as 'multiple exposure:-0.3'"
            )
        if not isfinite(weight):
            raise UserError(f"--prompt {shown(prompt)} has the weight {weight}; type a number, such as '{text}:-0.3'")
        found.append((text.strip(), float(weight)))
    return tuple(found)


def _pair(prompt: Any) -> Prompt:
    """(text, weight), as it is."""
    if isinstance(prompt, list | tuple) and len(prompt) == 2:
        text, weight = prompt
        if isinstance(text, str) and isinstance(weight, int | float) and isfinite(weight):
            return text, float(weight)
    raise UserError(f"prompts has {shown(prompt)}; give texts, or pairs of a text and its weight")


def _weighted(prompt: str) -> Prompt:
    text, colon, weight = prompt.rpartition(":")
    if TIME_OF_DAY.search(prompt):
        return prompt, 1.0
    try:
        return (text, float(weight)) if colon else (prompt, 1.0)
    except ValueError:
        return prompt, 1.0


@torch.no_grad()
def top_labels(model: Adapter, scene: Scene) -> list[int]:
    """The class that a model predicts for each photo, resized to the model."""
    if not model.spec.count:
        raise UserError(f"model {model.name!r} is not a classifier; type --prompt, or --condition CLASSIFIER")
    if scene.photos is None:
        raise UserError("no photo was given to predict a class of; type PHOTO")
    shown = resize(scene.photos, (model.spec.height, model.spec.width))
    return torch.cat([model.outputs(part.to(model.device)).argmax(1) for part in shown.split(16)]).tolist()


def channels_of(given: Sequence[str | int], layer: str | None, models: Sequence[Adapter]) -> list[int]:
    """The channels of a layer, each once: whole numbers, ranges such as "0-15", and "all", counted in the first model.

    Raises UserError for anything else, and for channels without a layer.
    """
    if given and layer is None:
        raise UserError("--channel needs a layer, and none was given; type --layer NAME")
    found: list[int] = []
    for text in (str(one).strip() for one in given):
        if text.casefold() == ALL:
            found += range(_channels(models[0], str(layer)))
        elif (bounds := RANGE.fullmatch(text)) and int(bounds[1]) <= int(bounds[2]) < MOST_CHANNELS:
            found += range(int(bounds[1]), int(bounds[2]) + 1)
        elif text.isdecimal():
            found.append(int(text))
        else:
            raise UserError(f"--channel {text}: type a whole number from 0, a range such as 0-15, or all")
    return list(dict.fromkeys(found))


@torch.no_grad()
def _channels(model: Adapter, layer: str) -> int:
    """How many channels a layer has."""
    grey = torch.full((1, 3, model.spec.height, model.spec.width), 0.5, device=model.device)
    return vectors(model.features(grey, [layer])[layer], layer).shape[1]


def request_of(
    n: int,
    labels: Sequence[int],
    scene: Scene,
    *,
    prompts: Sequence[Prompt] = (),
    layer: str | None = None,
    channels: Sequence[int] = (),
) -> Request:
    """The request: n pictures of each class or channel, of each photo in each style, interleaved within groups."""
    subjects = [(label, channel) for label in labels or [NO_CLASS] for channel in channels or [NO_CLASS]]
    every = [subject for _ in range(n) for subject in subjects for _ in range(len(scene))]
    picked = tuple(channel for _, channel in every) if channels else ()
    return Request(tuple(label for label, _ in every), scene, tuple(prompts), layer, picked)
