"""The first job, both ways: what a bundled classifier draws, and what a bundled flow makes of pictures."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from bothways.data.sources import load_images
from bothways.data.splits import held_out
from bothways.models.catalogue import card
from bothways.models.loader import load_flow
from bothways.models.velocity import Flow
from bothways.representation.diagnostics import round_trip
from bothways.runs.citations import flow_citations
from bothways.runs.experiment import Experiment
from bothways.runs.provenance import flow_facts
from bothways.tasks.diagnose.run import strip_files
from bothways.tasks.generate.drawing import Drawing
from bothways.tasks.generate.run import prepare
from bothways.tasks.parts import Part, PartedWork, merged
from bothways.tasks.predict.run import predict
from bothways.tasks.shelf import work_of
from bothways.tasks.work import Work
from bothways.types import UserError

MODEL, FLOW, CLASSIFIER = "bundled:cifar10-resnet", "bundled:cifar10-flow", "bundled:cifar10-prg"
RECIPES = ("das", "icons")
# fewer steps and copies than the recipe's own, so that a hundred pictures take a minute or so on two cores
LIGHTER: dict[str, dict[str, Any]] = {"das": {"steps": 40, "copies": 2, "rms": 0.08, "noise": 0.05}, "icons": {}}
DEPTHS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
STEPS = 20  # of the walk, each way; a midpoint step asks twice
TESTED = 1000  # test pictures that the classifier is asked about


@dataclass(frozen=True)
class Ten:
    """A picture of each class: images (10,3,H,W) in [0,1], labels (10,), source: where they are from."""

    images: Tensor
    labels: Tensor
    source: str


def prepare_demo(recipe: str, out: Path, *, n: int = 10, seed: int = 0) -> Drawing:
    """One of the demo's two drawings."""
    return prepare(MODEL, range(10), recipe, out=out, overwrite=True, n=n, seed=seed, **LIGHTER[recipe])


def ten_pictures(data: str | Path | None, drawn: Any) -> Ten:
    """The first test picture of each class, or, without data, the first drawn one of each: the package has no photos.

    drawn: the Result of a drawing. Raises UserError where a class has none.
    """
    if data is None:
        images, labels, source = drawn.images, drawn.labels, "drawn by the demo, since no --data is given"
    else:
        found = load_images(data, split=held_out(data), size=load_flow(FLOW).spec.size, limit=400)
        images, labels, source = found.images.float() / 255, found.labels, f"the test pictures of {data}"
    missing = sorted(set(range(10)) - set(labels.tolist()))
    if missing:
        raise UserError(f"data {str(data)!r} has no picture of class {missing[0]}; type the folder of CIFAR-10 files")
    first = torch.stack([(labels == label).nonzero()[0, 0] for label in range(10)])
    return Ten(images[first], labels[first], source)


@final
@dataclass
class TenWalked(PartedWork):
    """Ten pictures walked to noise and back: strips, and how far from themselves they end."""

    ten: Ten
    flow: Flow
    experiment: Experiment
    kept: dict[str, Any] = field(default_factory=dict)

    @property
    def parts(self) -> list[Part]:
        return [Part("strips", self._strips), Part("round trip", self._trip)]

    def _strips(self) -> dict[str, Any]:
        assert self.experiment.folder is not None
        return strip_files(self.flow, self.ten.images, STEPS, self.experiment.folder, DEPTHS, back=True)

    def _trip(self) -> dict[str, Any]:
        found = round_trip(self.flow, self.ten.images, [1.0], [STEPS], solver="midpoint")
        return {"round_trip": [entry.as_facts() for entry in found]}

    def measures(self) -> dict[str, Any]:
        return {"flow": merged(self.kept), "citations": flow_citations(path=self.flow.spec.path)}


def prepare_walk(ten: Ten, out: Path) -> TenWalked:
    """The walk of ten pictures, in a run folder."""
    flow = load_flow(FLOW)
    tables = {"settings": {"pictures": ten.source, "steps": STEPS}, "model": flow_facts(flow)}
    return TenWalked(ten, flow, Experiment.begin("demo", tables, out, overwrite=True))


def named_right(ten: Ten) -> int:
    """How many of the ten the bundled flow classifier calls by their class."""
    said = predict(CLASSIFIER, ten.images, top=1)
    return sum(one.answers[0].number == label for one, label in zip(said, ten.labels.tolist(), strict=True))


def prepare_test(data: str | Path, out: Path) -> Work:
    """The bundled flow classifier asked about test pictures."""
    return work_of("evaluate", CLASSIFIER, data, limit=TESTED, dtype="bf16", out=out, overwrite=True)


def stated() -> dict[str, Any]:
    """The card of the bundled flow classifier."""
    return card(CLASSIFIER.removeprefix("bundled:"))
