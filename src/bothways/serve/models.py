"""The models of a service: loaded once, named without a path, and asked for classes or features of a batch.

walked        a flow's pool(x(1 - depth)),  dx/dt = v(x, t) from x(1) = the picture's code
activations   mean over space of a layer; of a flow, in one pass at time 1 - depth
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bothways.data.readers.decoding import decode_image
from bothways.data.readers.fit import size_of
from bothways.models.adapter import Adapter
from bothways.models.addresses import SCHEMES, scheme_of
from bothways.models.class_names import resolve_all
from bothways.models.classifiers import target_of
from bothways.models.loader import load_flow, load_model
from bothways.models.velocity import Flow
from bothways.numerics.modules import check_finite
from bothways.reading import at_home
from bothways.registry import address_parts, is_address
from bothways.representation.encode import Walk
from bothways.representation.tuning.targets import CLASS, said
from bothways.synthesis.objectives.terms import vectors
from bothways.tasks.features.plan import Extractor, extractor_of
from bothways.types import ModelSpec, UserError

READINGS_KEPT = 64  # of a flow: their sizes are tried once


class Asked(NamedTuple):
    """What is asked of a picture; those who ask the same share a batch.

    what: "classes" or "features". layers: of the activations. depth, steps: of a flow's walk; depth is None for a model
    that is no flow.
    """

    what: str
    layers: tuple[str, ...] = ()
    depth: float | None = None
    steps: int = 5


@dataclass(frozen=True)
class Served:
    """A model of the service. name: for visitors; address: as it was typed, which no visitor sees.

    model: gives classes, an embedding, layers; flow: is walked. A classifier made of a flow has both.
    """

    name: str
    address: str
    model: Adapter | None
    flow: Flow | None
    readings: Any = field(default=None, compare=False)

    @property
    def spec(self) -> ModelSpec:
        found = self.model or self.flow
        assert found is not None
        return found.spec

    @property
    def classifies(self) -> bool:
        return self.model is not None and (self.model.spec.count > 1 or self.target != CLASS)

    @property
    def target(self) -> str:
        """What it predicts: a class, several labels or numbers."""
        return target_of(self.model)

    def picture(self, data: bytes) -> Tensor:
        """Encoded bytes -> (3,H,W) in [0,1], as ``bothways predict`` reads a file. Raises UserError."""
        try:
            pixels = decode_image(data, size_of(self.spec))
        except ValueError as error:
            raise UserError(f"the picture cannot be read: {error}") from error
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255

    def check(self, asked: Asked) -> None:
        """Raise UserError where this model does not give what is asked."""
        if asked.what == "classes" and not self.classifies:
            raise UserError(f"model {self.name!r} has no classes; ask /features of it, or another model")
        if asked.depth is not None and self.flow is None:
            raise UserError(f"model {self.name!r} is no flow, so it has no depth; leave depth out")
        if asked.depth is None and self.model is None and asked.what == "features":
            raise UserError(f"model {self.name!r} is a flow; give a depth, from 0 (the picture) to 1 (noise)")

    @torch.no_grad()
    def answer(self, asked: Asked, images: Tensor) -> Sequence[Any]:
        """Of a batch (B,3,H,W): each picture's probabilities or numbers (K,), or features {name: (D,)}, on the CPU."""
        if asked.what == "classes":
            assert self.model is not None
            outputs = self.model.outputs(images.to(self.model.device))
            check_finite(outputs, f"model {self.name!r} gives outputs")
            return list(said(outputs, self.target))
        found = self._layers(asked, images) if asked.depth is None else self._walked(asked, images)
        for name, values in found.items():
            check_finite(values, f"model {self.name!r} gives features {name}")
        return [{name: values[place] for name, values in found.items()} for place in range(len(images))]

    def _layers(self, asked: Asked, images: Tensor) -> dict[str, Tensor]:
        assert self.model is not None
        layers = asked.layers or (self.model.feature(),)
        seen = self.model.features(images.to(self.model.device), layers)
        return {layer: vectors(value, layer).float().cpu() for layer, value in seen.items()}

    def _walked(self, asked: Asked, images: Tensor) -> dict[str, Tensor]:
        return self.readings(asked)((255 * images).round().byte())

    def numbers(self, classes: Sequence[str]) -> list[int]:
        """The numbers of classes as visitors name them. Raises UserError."""
        known = self.spec.classes
        names = [str(number) for number in range(known)] if isinstance(known, int) else list(known)
        if classes and not names:
            raise UserError(f"model {self.name!r} has no classes; leave them out, or ask another model")
        return resolve_all(names, classes)

    def words(self, labels: Sequence[int]) -> list[str]:
        """What ``numbers`` reads as these: a name, or the number where several share the name."""
        known = self.spec.classes
        if isinstance(known, int):
            return [str(label) for label in labels]
        return [known[label] if resolve_all(known, [known[label]]) == [label] else str(label) for label in labels]

    def facts(self) -> dict[str, Any]:
        """What a visitor may know of it."""
        answers = ["classify"] * self.classifies + ["features"]
        draws = self.model is not None
        names = [] if isinstance(self.spec.classes, int) else list(self.spec.classes)
        return {
            "name": self.name, "height": self.spec.height, "width": self.spec.width, "classes": self.spec.count,
            "class_names": names, "flow": self.flow is not None, "answers": answers + ["generate"] * draws,
        }  # fmt: skip


def served(address: str, device: str = "cpu", dtype: str = "float32") -> Served:
    """Load what stands at an address. Raises UserError where that is neither a model nor a flow."""
    name = name_of(address)
    model: Adapter | None = None
    try:
        model = load_model(address, device=device, dtype=dtype)
        own = getattr(model.module, "flow", None)
        flow = own if isinstance(own, Flow) else None
    except UserError as refusal:
        try:
            flow = load_flow(address, device=device, dtype=dtype)
        except UserError as other:
            scheme = SCHEMES.get(scheme_of(address)[0])
            raise (other if scheme is not None and scheme.model is None else refusal) from None
    for one in (model, flow):
        if one is not None:
            one.name = name  # in the messages that visitors read
    readings = None if flow is None else _readings(flow)
    return Served(name, address, model, flow, readings)


def _readings(flow: Flow) -> Any:
    @lru_cache(maxsize=READINGS_KEPT)
    def of(asked: Asked) -> Extractor:
        kind = "activations" if asked.layers else "walked"
        walk = Walk(steps=asked.steps)
        depths = [] if asked.depth is None else [asked.depth]
        return extractor_of(flow, [kind], depths, layers=asked.layers, noised=False, walk=walk, control=False)

    return of


def name_of(address: str) -> str:
    """What visitors call a model: its address, or of one on the disk the last part of its path."""
    if is_address(address):
        place, function = address_parts(address)
        return f"{Path(place).name}:{function}"
    path = at_home(address)
    return path.resolve().name if path.exists() else address


def all_served(addresses: Sequence[str], device: str = "cpu", dtype: str = "float32") -> dict[str, Served]:
    """{name: model} of all addresses, in their order. Raises UserError as ``served`` does, and for one name twice."""
    names = [name_of(address) for address in addresses]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"two models would be called {name!r}; give each a name of its own, or leave one out")
    return {name: served(address, device, dtype) for name, address in zip(names, addresses, strict=True)}
