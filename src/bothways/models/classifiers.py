"""Saving and loading of flow-based classifiers, as models with the interface of any other.

RUN/classifier.json           how to build it: the flow's network or address, the features, the classes
RUN/classifier.safetensors    all its weights: flow and head
RUN/autoencoder.safetensors   of a flow on latents: those of the autoencoder, which is never trained

A loaded classifier walks with a graph through all steps, which reading its layers and second derivatives need; the
exact adjoint, which keeps no such graph, is for training.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from bothways.models.adapter import DTYPES, Adapter
from bothways.models.cards import BUNDLED, FLOW_CARD, Card, ClassifierCard, Trained, read_card
from bothways.models.catalogue import find_classifier
from bothways.models.libraries.latents import facts_of
from bothways.models.libraries.predictions import Predicting
from bothways.models.libraries.torchcfm_flows import SIZE as TORCHCFM_SIZE
from bothways.models.nets.sit import SiT
from bothways.models.nets.unet import SIZES
from bothways.models.velocity import Flow
from bothways.reading import at_home, is_there
from bothways.registry import find, is_address
from bothways.representation.classifier import FlowClassifier
from bothways.representation.encode import Walk
from bothways.representation.features import Features
from bothways.representation.heads import last_linear
from bothways.representation.tuning.parts import kept_size
from bothways.representation.tuning.targets import CLASS
from bothways.types import ModelSpec, UserError

CLASSIFIER_WEIGHTS = "classifier.safetensors"
AUTOENCODER = "autoencoder.safetensors"


@final
class PictureClassifier(nn.Module):
    """A ``FlowClassifier`` behind its flow's ``code``: images (B,3,H,W) in [0,1] -> logits (B,K)."""

    def __init__(self, classifier: FlowClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, image: Tensor) -> Tensor:
        return self.classifier(self.flow.code(image))

    @property
    def each_alone(self) -> bool:
        """Whether each output stands for itself, a label or a number, so that there may be one."""
        return self.classifier.target != CLASS

    @property
    def flow(self) -> Flow:
        assert isinstance(self.classifier.flow, Flow)
        return self.classifier.flow


@final
class Classifier(nn.Module):
    """A classifier of ``finetune`` as a module: pictures (B,3,H,W) in [0,1] -> logits (B,K), in eval mode at first.

        forward(image) = head(features(code(image)))

    It moves, trains, is saved and wrapped as any module: to, train, state_dict, torch.compile, DataParallel. Its
    attributes are also those of ``adapter``, the same classifier as a VisionModel, such as outputs, features, spec and
    name; functions of this package take either.
    """

    spec: ModelSpec
    name: str
    device: str
    outputs: Callable[[Tensor], Tensor]
    features: Callable[..., Any]

    def __init__(self, adapter: Adapter) -> None:
        super().__init__()
        self.module = adapter.module
        self.adapter = adapter
        self.eval()

    def forward(self, image: Tensor) -> Tensor:
        if not image.is_floating_point():
            raise UserError(
                f"model {self.name!r}: pictures of {image.dtype}; give floats in [0,1], such as images / 255"
            )
        dtype = self.adapter.dtype
        # an autocast that is disabled would undo the one of whoever trains it
        with torch.autocast(image.device.type, DTYPES[dtype]) if dtype != "float32" else nullcontext():
            logits: Tensor = self.module(image)
        return logits if logits.dtype == torch.float64 else logits.float()

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if "adapter" not in self.__dict__:  # while it is copied
                raise
            return getattr(self.adapter, name)

    def _apply(self, *given: Any, **options: Any) -> Classifier:
        super()._apply(*given, **options)
        self.adapter.device = str(next(self.module.parameters()).device)
        return self


def feature_layer(classifier: FlowClassifier) -> str:
    """Feature layer of a ``PictureClassifier``: the input of the last linear layer of its head."""
    return ".".join(filter(None, ("classifier.head", last_linear(classifier.head)))) + ":input"


def card_choice(run: str, kind: str, name: str, given: Any = None) -> Any:
    """Registry choice of a card, or ``given`` in its place. Raises UserError for an unknown name."""
    try:
        find(kind, name if given is None else given)
    except UserError as error:
        own = f"; if it was a Python object, type load_classifier({run!r}, {kind}={name})"
        raise UserError(f"classifier {run!r}: {error}{'' if is_address(name) else own}") from error
    return name if given is None else given


def finetuned_facts(address: str) -> dict[str, Any]:
    """Path, feature kind and coupling of a run of ``finetune``; {} for any other address."""
    file = find_classifier(address)
    if file is None:
        return {}
    facts = read_card(file, ClassifierCard)
    coupling = _coupling_in(facts)
    return {"path": facts["flow"]["spec"].get("path"), "kind": facts["features"]["kind"], "coupling": coupling}


def trained_on(address: str) -> list[dict[str, Any]]:
    """The records (data/trained.py) of the trainings of a run, of its flow's too; none of what keeps no record."""
    file = find_classifier(address)
    if file is None and address.endswith(".json") and is_there(Path(address)):
        file = Path(address)
    facts = read_card(file, Trained) if file is not None else card_of_flow(address)
    return list((facts or {}).get("trained_on") or [])


def flow_in(model: Adapter) -> Flow:
    """The flow of a loaded flow-based classifier."""
    assert isinstance(model.module, PictureClassifier)
    return model.module.flow


def target_of(model: Any) -> str:
    """What a model predicts: a class, unless it is a run of finetune that was trained for something else."""
    module = getattr(model, "module", None)
    return module.classifier.target if isinstance(module, PictureClassifier) else CLASS


def features_config(model: Adapter) -> Features:
    """The feature settings of a loaded flow-based classifier."""
    assert isinstance(model.module, PictureClassifier)
    return model.module.classifier.how


def reading(model: Adapter, how: Features) -> Adapter:
    """A copy of a flow-based classifier with other feature settings and shared weights; the original is unchanged.

    how: of the same kind and layers, so that the number of features stays the same.
    """
    model = getattr(model, "adapter", model)
    assert isinstance(model.module, PictureClassifier)
    classifier = copy.copy(model.module.classifier)
    classifier.how = how
    other = copy.copy(model)
    other.module = PictureClassifier(classifier).eval()
    return other


def walked_by(model: Any, solver: Any = None, tolerance: float | None = None) -> Adapter:
    """A copy of a flow-based classifier whose walk is by another solver, in the same steps unless it chooses its own.

    solver: None for its own. tolerance: relative and absolute error of an adaptive one; None for the usual.
    Raises UserError for a model that does not walk, and for a tolerance of a solver that has none.
    """
    how = features_config(model) if isinstance(getattr(model, "module", None), PictureClassifier) else None
    if how is None or not (how.walks and how.depth > 0):
        raise UserError(f"model {model.name!r} does not walk; leave --solver out")
    walk = how.walk if solver is None else replace(how.walk, solver=solver)
    if tolerance is not None:
        if not walk.adaptive:
            raise UserError(f"solver {walk.name!r} takes a number of steps; leave --tolerance out")
        walk = replace(walk, rtol=tolerance, atol=tolerance)
    return reading(model, replace(how, walk=walk))


def classifier_card(
    classifier: FlowClassifier, origin: Mapping[str, Any], classes: tuple[str, ...] | int, head: str, **extra: Any
) -> dict[str, Any]:
    """The content of classifier.json. origin: from ``origin_of`` the flow; extra: further entries for documentation.

    head: its name or address.
    """
    walk = classifier.how.walk
    return {
        "flow": dict(origin),
        "features": {**asdict(classifier.how), "walk": {"steps": walk.steps, "solver": walk.name}},
        "head": head,
        "classes": classes,
        **({} if classifier.target == CLASS else {"target": classifier.target}),
        "frozen": classifier.frozen,
        "parameters": kept_size(classifier),
        **extra,
    }


def features_of(facts: Mapping[str, Any], gradient: str = "exact") -> Features:
    """The feature settings of a card."""
    walk = Walk(**facts["walk"], gradient=gradient)
    return Features(**{**facts, "walk": walk, "layers": tuple(facts["layers"])})


def count_of(classes: Sequence[str] | int) -> int:
    """Number of classes."""
    return classes if isinstance(classes, int) else len(classes)


# ---- where a flow's network comes from -----------------------------------------------------------------------------


ORIGINS = ("network", "diffusers", "address")  # options of a network of ours, two configs of diffusers, or an address


def origin_of(flow: Flow) -> dict[str, Any]:
    """How to rebuild a flow's network, by one of ``ORIGINS``, and "spec"; of one on latents also "autoencoder".

    Raises UserError for a live module, which cannot be rebuilt from disk.
    """
    spec: dict[str, Any] = {"spec": asdict(flow.spec)}
    if flow.latents is not None:
        spec = {**spec, "autoencoder": facts_of(flow.latents)}
    if (card := card_of_flow(flow.name)) is not None:
        return {**{key: card[key] for key in ORIGINS if key in card}, **spec}
    if flow.name.startswith("torchcfm:"):
        return {"network": {"name": "unet", **SIZES[TORCHCFM_SIZE]}, **spec}
    if flow.name.startswith("sit:") and isinstance(flow.network, SiT):
        return {"network": {"name": "sit", **flow.network.options}, **spec}
    if isinstance(flow.network, Predicting):
        return {"diffusers": flow.network.configs, **spec}
    if ":" in flow.name:
        return {"address": flow.name, **spec}
    raise UserError(
        f"flow {flow.name!r} is a live module, which load_classifier could not rebuild; give its address, such as "
        "the folder that bothways pretrain wrote or PATH.py:FUNCTION"
    )


def card_of_flow(address: str) -> dict[str, Any] | None:
    """The card of a run of ``pretrain`` or ``finetune``, of a card file or of a bundled flow; None for others."""
    if (file := find_classifier(address)) is not None:
        facts = read_card(file, ClassifierCard)
        return {**facts["flow"], "recipe": facts.get("recipe") or {}}
    path = at_home(address)
    if address.startswith("bundled:"):
        path = BUNDLED / f"{address.removeprefix('bundled:')}.json"
    elif path.is_dir():
        path = path / FLOW_CARD
    return read_card(path, Card) if path.suffix == ".json" and is_there(path) else None


def coupling_of_card(address: str) -> str | None:
    """The training coupling of a flow from its card, or None."""
    return _coupling_in(card_of_flow(address) or {})


def _coupling_in(card: Mapping[str, Any]) -> str | None:
    recipe = card.get("recipe") or {}
    return recipe.get("coupling") or (recipe.get("loss") or {}).get("coupling")
