"""The walk of the demo: ten pictures, one per class, to noise and back."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from bothways.data.sources import load_images
from bothways.data.splits import evaluation_split
from bothways.models.loader import load_flow
from bothways.models.velocity import Flow
from bothways.representation.diagnostics import round_trip
from bothways.runs.citations import flow_citations
from bothways.runs.experiment import Experiment
from bothways.runs.provenance import flow_facts
from bothways.tasks.demo.result import TenMeasures
from bothways.tasks.diagnose.run import strip_files
from bothways.tasks.parts import Part, PartedWork, kept_parts, merged
from bothways.tasks.pictures import Result
from bothways.tasks.work import Where
from bothways.types import UserError

FLOW = "bundled:cifar10-flow"
DEPTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
STEPS = 20  # in each direction; a midpoint step calls the network twice
SEARCHED = 400  # test pictures, evenly spaced, from which one per class is taken
PARTS = 2  # strips and round trip


@dataclass(frozen=True)
class Ten:
    """A picture of each class: images (10,3,H,W) in [0,1], labels (10,), source: their origin in words."""

    images: Tensor
    labels: Tensor
    source: str

    @classmethod
    def first_of(cls, images: Tensor, labels: Tensor, source: str) -> Ten:
        """The first picture of each class. Raises UserError if a class has none."""
        missing = sorted(set(range(10)) - set(labels.tolist()))
        if missing:
            raise UserError(f"{source} have no picture of class {missing[0]}; type --data FOLDER_OF_CIFAR10")
        first = torch.stack([(labels == label).nonzero()[0, 0] for label in range(10)])
        return cls(images[first], labels[first], source)

    @classmethod
    def of_data(cls, data: str | Path) -> Ten:
        """Ten test pictures of a data set."""
        spec = load_flow(FLOW).spec
        found = load_images(data, split=evaluation_split(data), size=(spec.height, spec.width), limit=SEARCHED)
        return cls.first_of(found.floats(), found.labels, f"the test pictures of {data}")

    @classmethod
    def of_drawing(cls, drawn: Result) -> Ten:
        """Ten drawn pictures, since the package contains no photos."""
        return cls.first_of(drawn.images, drawn.labels, "drawn by the demo, since no --data is given")


@final
@dataclass
class TenWalked(PartedWork):
    """The walk of ten pictures: strips of their states and the round-trip error."""

    ten: Ten
    flow: Flow
    experiment: Experiment
    kept: dict[str, Any] = field(default_factory=dict)
    schema = TenMeasures

    @property
    def parts(self) -> list[Part]:
        return [Part("strips", self._strips), Part("round trip", self._trip)]

    def _strips(self) -> dict[str, Any]:
        folder = self.experiment.folder
        return {} if folder is None else strip_files(self.flow, self.ten.images, STEPS, folder, DEPTHS, back=True)

    def _trip(self) -> dict[str, Any]:
        found = round_trip(self.flow, self.ten.images, [1.0], [STEPS], solver="midpoint")
        return {"round_trip": [entry.as_facts() for entry in found]}

    def measures(self) -> dict[str, Any]:
        return {"flow": merged(self.kept), "citations": flow_citations(path=self.flow.spec.path)}


def prepare_walk(ten: Ten, where: Where) -> TenWalked:
    """Prepare the walk of ten pictures."""
    flow = load_flow(FLOW)
    tables = {"settings": {"pictures": ten.source, "steps": STEPS}, "model": flow_facts(flow)}
    experiment = Experiment.begin("demo", tables, **where.as_options())
    return TenWalked(ten, flow, experiment, kept_parts(experiment))
