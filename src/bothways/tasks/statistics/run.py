"""Measure the image-prior statistics of a model: means, deviations and leading directions over real pictures."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

from safetensors.torch import save
from torch import Tensor

from bothways import budget
from bothways.configs import recorded
from bothways.data.readers.fit import size_of
from bothways.data.sources import load_images
from bothways.data.splits import training_split
from bothways.data.statistics import STATISTICS, is_statistics
from bothways.faults import check_kinds
from bothways.models.adapter import Adapter
from bothways.models.loader import load_model
from bothways.runs.experiment import Experiment
from bothways.synthesis.sampling import Rows, chunk_size, fit_space, measure_rows
from bothways.tasks.statistics.config import StatisticsConfig
from bothways.tasks.statistics.files import as_tensors, facts_of, measured_layers, rows_to_keep
from bothways.tasks.statistics.result import Statistics
from bothways.tasks.work import Where, Work, write_file
from bothways.types import Frame, UserError

ROW = 32  # bytes of a number of a picture: as it is measured, put together, standardised, and in float64
PRODUCT = 24  # bytes of a product of two rows: the matrix, its eigenvectors and their workspace


@final
@dataclass
class StatisticsWork(Work):
    """A run of ``statistics``.

    images: (N,3,H,W) uint8. layers: of channel statistics. features: of spatial means. names: of the pictures.
    """

    config: StatisticsConfig
    model: Adapter
    images: Tensor
    layers: list[str]
    features: list[str]
    path: Path | None
    names: tuple[str, ...] = ()
    experiment: Experiment = field(default_factory=Experiment)
    rows: Rows = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    doing = "measuring"
    done_word = "measured"

    @property
    def steps(self) -> int:
        return -(-len(self.images) // chunk_size(self.images))

    def frames(self) -> Iterator[Frame]:
        """Yield a frame after every chunk of pictures."""
        images = self.images.to(self.model.device)
        measured = measure_rows([self.model], images, [self.layers], [self.features], self.rows)
        for step, pictures in enumerate(measured, 1):
            yield Frame(step, pictures / len(images), None, {"pictures": float(pictures)})

    def measures(self) -> dict[str, Any]:
        """Write the file, and return its tensors."""
        keep = rows_to_keep(self.config.rows, {name: chunks[0].shape[1] for name, chunks in self.rows.items()})
        self.tensors = as_tensors(fit_space(self.rows, self.config.rank, keep, self.names))
        self.facts = facts_of(self.model)
        if self.path is not None:
            write_file(self.path, save(self.tensors, self.facts))
        return {"pictures": len(self.images), "layers": self.layers}

    def result(self, measures: dict[str, Any]) -> Statistics:
        return Statistics(self.tensors, len(self.images), self.path, self.facts)

    def as_json(self, result: Statistics) -> Any:
        shapes = {name: list(value.shape) for name, value in result.tensors.items()}
        return {"pictures": result.pictures, "path": result.path, "tensors": shapes}

    def summary(self, result: Statistics, out: Path | None) -> Iterator[str]:
        layers, place = sum(name.endswith("/mean") for name in result.tensors), result.path
        rows = next((len(value) for name, value in result.tensors.items() if name.startswith("rows/")), 0)
        if place is not None:
            size = f"{place.stat().st_size / 1000:,.0f} kB"
            yield f"{layers} layers over {result.pictures} pictures, the features of {rows} of them, {size} in {place}"
            yield f"bothways generate {self.model.typed} --unconditional --data {shlex.quote(str(place))}"

    def page(self, out: Path | None) -> None:
        """None: the task writes a file without a report."""


def prepare(config: StatisticsConfig, where: Where) -> StatisticsWork:
    """Prepare a run of ``statistics``. Raises UserError for invalid input, before the first picture is measured."""
    path = where.file(STATISTICS, b'"factor"')
    if is_statistics(config.data):
        what = "holds statistics" if isinstance(config.data, Statistics) else "is a statistics file"
        raise UserError(f"data {recorded(config.data)!r} {what}, not real pictures; type a parquet file or a folder")
    model = load_model(config.model, config.spec, weights=config.weights, device=config.device)
    for layer in config.layers:
        check_kinds("statistics", layers=(layer, str))
    layers, features = measured_layers(model, config.layers, config.features)
    split, size = config.split or training_split(config.data), size_of(model.spec, config.preprocess)
    found = load_images(config.data, split=split, size=size, limit=config.limit)
    _check_memory(model, found.images, layers, features)
    return StatisticsWork(config, model, found.images, layers, features, path, found.titles)


def _check_memory(model: Adapter, images: Tensor, layers: list[str], features: list[str]) -> None:
    """Raise UserError where the rows of all pictures and their products do not fit, tried on two pictures."""
    count, two = len(images), images[:2].to(model.device)
    if count < 2 or count * budget.CERTAINLY <= budget.free_memory(model.device):
        return
    tried: Rows = {}
    for _ in measure_rows([model], two, [layers], [features], tried):
        pass
    width = sum(chunk.shape[1] for chunks in tried.values() for chunk in chunks)

    def cost(pictures: int) -> float:
        return ROW * float(pictures) * width + PRODUCT * float(min(pictures, width)) ** 2

    budget.check_memory(
        f"statistics of {width:,} numbers of {count:,} pictures",
        cost(count),
        lambda free: budget.within("--limit", budget.greatest(cost, free, count), "name fewer --layers"),
        model.device,
    )
