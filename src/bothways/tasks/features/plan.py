"""The plan of ``features``: the flow, its readings and the splits of the data, validated before the first picture."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bothways.data.readers.fit import size_of
from bothways.data.rows.latents import check_latents
from bothways.data.rows.reader import Reader
from bothways.data.sources import find_images, first_size
from bothways.data.splits import evaluation_split, is_split
from bothways.models.velocity import Flow
from bothways.numerics.draws import Draws
from bothways.numerics.probes import check_sklearn
from bothways.representation.activations import layer_module, middle_layer
from bothways.representation.classifier import NOISE_SEED
from bothways.representation.encode import Walk, image_time
from bothways.representation.readings import Readings, plan, read
from bothways.tasks.held_out import tell_of_training
from bothways.tasks.latents.facts import latent_facts
from bothways.types import UserError

PROBES = ("linear", "knn")
ROWS = 1024  # of a part and row group: the most that a kill loses and that is held in memory


@dataclass(frozen=True)
class Split:
    """The pictures of a split. steps: number of batches; a part has ``steps_a_part`` of them."""

    name: str
    count: int
    classes: tuple[str, ...]
    reader: Reader

    @property
    def steps(self) -> int:
        return -(-self.count // self.reader.batch)

    @property
    def steps_a_part(self) -> int:
        return max(1, ROWS // self.reader.batch)

    @property
    def parts(self) -> int:
        return -(-self.steps // self.steps_a_part)

    def steps_of(self, part: int) -> range:
        """The steps of a part."""
        first = part * self.steps_a_part
        return range(first, min(self.steps, first + self.steps_a_part))


@dataclass(frozen=True)
class Extractor:
    """The feature extractor: pictures -> columns.

    readings: the features to read. noise: (1,C,H,W) for noised activations, or None. sizes: {column: D}.
    """

    flow: Flow
    readings: Readings
    noise: Tensor | None
    sizes: dict[str, int]

    def __call__(self, images: Tensor) -> dict[str, Tensor]:
        """Extract features of pictures (B,3,H,W) uint8, or of latents (B,C,h,w): {column: (B,D)} on the CPU."""
        if not len(images):  # every picture of the batch is unreadable
            return {name: torch.empty(0, size) for name, size in self.sizes.items()}
        image = images.to(self.flow.mean.device)
        with torch.no_grad():
            x = self.flow.code(image if image.is_floating_point() else image.float() / 255)
        found = read(self.flow, self.flow.path, x, self.readings, self.noise)
        return {name: values.float().cpu() for name, values in found.items()}


def extractor_of(
    flow: Flow,
    kinds: Sequence[str],
    depths: Sequence[float],
    *,
    layers: Sequence[str],
    noised: bool,
    walk: Walk,
    control: bool,
) -> Extractor:
    """What is read of each picture, tried on one that is grey. layers: the middle of our U-Net where none is named."""
    layers = tuple(dict.fromkeys(layers)) or ((middle_layer(flow),) if "activations" in kinds else ())
    for layer in layers:
        layer_module(flow, layer)
    readings = plan(kinds, depths, start=image_time(flow), walk=walk, layers=layers, noised=noised, control=control)
    drawn = Draws([NOISE_SEED]).normal(flow.shape, purpose="activations").to(flow.mean.device) if noised else None
    trial = Extractor(flow, readings, drawn, {})
    picture = torch.full((1, 3, flow.spec.height, flow.spec.width), 128).byte()
    sizes = {name: values.shape[1] for name, values in trial(picture).items()}
    return Extractor(flow, readings, drawn, sizes)


def splits_of(
    flow: Flow,
    data: str | Path,
    names: Sequence[str],
    limits: tuple[int | None, int | None],
    batch: int,
    preprocess: str = "model",
) -> list[Split]:
    """The named splits; by default train and test, or all of data without a test split.

    limits: maximum pictures per split, and of the last of several splits.
    Raises UserError for a missing or empty split. Warns of pictures of another size than the flow's.
    """
    size = size_of(flow.spec, preprocess)
    names = tuple(dict.fromkeys(names or ("train", evaluation_split(data))))
    whole = [name for name in names if not is_split(data, name)]
    if whole and len(names) > 1:
        raise UserError(f"data {str(data)!r} has no splits, so there is no {whole[0]!r}; leave --split out")
    found = []
    for name in names:
        limit = limits[1] if limits[1] is not None and len(names) > 1 and name == names[-1] else limits[0]
        classes, count, latents = _looked_at(flow, data, name, limit)
        if not count:
            raise UserError(f"data {str(data)!r} holds no picture of {name!r}; type a parquet file or a folder of them")
        found.append(Split(name, count, classes, Reader(data, name, limit, size, batch, latents)))
        tell_of_training(flow.name, data, name)
    if found[0].reader.latents is not None:
        return found
    own, (high, wide) = first_size(data, names[0]), (flow.spec.height, flow.spec.width)
    if own != (high, wide):
        told = f"pictures of {own[0]}x{own[1]} pixels are resized and cut to the flow's {high}x{wide}"
        warnings.warn(told, stacklevel=2)
    return found


def _looked_at(
    flow: Flow, data: str | Path, split: str, limit: int | None
) -> tuple[tuple[str, ...], int, tuple[int, int, int] | None]:
    """(classes, number, shape if they are latents) of a split. Raises UserError for latents of another autoencoder."""
    found = find_images(data, split=split, limit=limit, latents=True)
    if found.latents is not None:
        check_latents(found.latents, latent_facts(flow), str(data))
    return found.classes, found.count, None if found.latents is None else found.latents.shape


def probes_of(probes: Sequence[str]) -> tuple[str, ...]:
    """Validate the probes: linear, knn, both or none. Raises UserError, also if scikit-learn is missing."""
    given = tuple(dict.fromkeys(probe for text in probes for probe in text.split(",")))
    for probe in given:
        if probe not in (*PROBES, "none") or (probe == "none" and len(given) > 1):
            raise UserError(f"--probe {' '.join(given)}: type linear, knn, or none alone")
    probes = () if given == ("none",) else given
    if probes:
        check_sklearn()
    return probes
