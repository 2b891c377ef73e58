"""Any address -> the module behind it and its facts. A new kind of address is one row in ``SCHEMES``.

bundled:NAME           a small trained network that comes with the package
PATH/NAME.json         the card that ``bothways train`` or ``pretrain`` wrote, its weights beside it
FOLDER                 a run of ``bothways pretrain``, a flow; or of ``finetune``, a classifier with a flow in it
PATH.py:FUNCTION       a user's own file, whose function returns (nn.Module, ModelSpec)
timm:, hf:, clip:, open_clip:, diffusers:, torchcfm:      models of other libraries (models/libraries)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bothways.models.adapter import SPEC_LINES
from bothways.models.catalogue import (
    FLOW_CARD,
    build_network,
    bundled_flows,
    bundled_names,
    card_file,
    find_classifier,
    from_card,
    load_weights,
    spec_from,
)
from bothways.models.classifiers import PictureClassifier, card_head, count_of, feature_layer, features_of
from bothways.models.libraries.diffusers_flows import from_diffusers
from bothways.models.libraries.hub import Loaded
from bothways.models.libraries.open_clip_models import from_open_clip
from bothways.models.libraries.timm_models import from_timm
from bothways.models.libraries.torchcfm_flows import from_torchcfm
from bothways.models.libraries.transformers_models import from_clip, from_transformers
from bothways.models.nets.unet import UNet
from bothways.models.velocity import Flow, check_flow
from bothways.registry import address_parts, is_address, load_attribute, nearest
from bothways.representation.classifier import FlowClassifier
from bothways.types import ModelSpec, UserError, spec_of

LOAD_FLOW = "type load_flow for it, or a model that bothways models lists"
Reader = Callable[[str, ModelSpec | None, bool], Loaded]
"""(what names it, the facts if given, whether weights follow) -> the module and its facts."""


def _of_function(address: str, spec: ModelSpec | None, fresh: bool) -> Loaded:
    """What the function of a user's file returns."""
    if not is_address(address):
        raise UserError(f"model {address!r} names a file but no function; type {address}:FUNCTION")
    build = load_attribute(address, "model")
    place, function = address_parts(address)
    try:
        built = build()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{place}:{function} fails: {type(error).__name__}: {error}") from error
    pair = built if isinstance(built, tuple) and len(built) == 2 else (None, None)
    pair = (pair[0], spec_of(pair[1])) if isinstance(pair[1], Mapping) else pair
    if not (isinstance(pair[0], nn.Module) and isinstance(pair[1], ModelSpec)):
        raise UserError(
            f"{place}:{function} must return (module, spec), a model without a spec is refused; {SPEC_LINES}"
        )
    return Loaded(*pair)


def _bundled(name: str, spec: ModelSpec | None, fresh: bool) -> Loaded:
    return _laid_out(from_card(card_file(name), fresh))


def _card(address: str, spec: ModelSpec | None, fresh: bool) -> Loaded:
    path = Path(address).expanduser()
    if path.name == FLOW_CARD and path.is_file() and not (fresh or path.with_suffix(".safetensors").is_file()):
        raise UserError(
            f"flow {address!r} has no weights yet, they come with its first checkpoint; let bothways pretrain go on "
            f"with --resume --out {path.parent}"
        )
    return _laid_out(from_card(path, fresh))


def _pretrained(address: str, spec: ModelSpec | None, fresh: bool) -> Loaded:
    card = Path(address).expanduser() / FLOW_CARD
    if not card.is_file():
        raise UserError(f"flow {address!r} holds no {FLOW_CARD}; type the folder of a run of bothways pretrain")
    return _card(str(card), spec, fresh)


def _finetuned(address: str, spec: ModelSpec | None, fresh: bool) -> Loaded:
    if spec is not None or fresh:
        raise UserError(f"model {address!r} holds its own facts and weights; leave spec= and weights= out")
    return read_classifier(address)


def read_classifier(address: str, head: Any = None, path: Any = None) -> Loaded:
    """The classifier of a run of ``finetune``, on which its flow is walked with a graph through all steps.

    head, path: those of the run, where they were Python functions.
    """
    file = find_classifier(address)
    assert file is not None
    try:
        facts = json.loads(file.read_text())
        how, classes = features_of(facts["features"], gradient="direct"), facts["classes"]
        flow, own = flow_of(facts["flow"], path=path), card_head(address, facts["head"], head)
        classifier = FlowClassifier(flow, flow.path, flow.shape, count_of(classes), how, head=own)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"classifier {str(file)!r} cannot be used: {type(error).__name__}: {error}") from error
    load_weights(classifier, file.with_suffix(".safetensors"))
    seen: dict[str, Any] = {"size": flow.spec.size, "mean": (0.0,) * 3, "std": (1.0,) * 3, "classes": classes}
    told: dict[str, Any] = {"source": flow.spec.source, "licence": flow.spec.licence}
    return Loaded(PictureClassifier(classifier), ModelSpec(**seen, feature_layer=feature_layer(classifier), **told))


def _in_finetuned(address: str, spec: ModelSpec | None, fresh: bool) -> Loaded:
    """The flow of a run of ``finetune`` as it is now, without its head."""
    path = find_classifier(address)
    assert path is not None
    try:
        origin = json.loads(path.read_text())["flow"]
        facts = spec_from(origin["spec"])
        if "address" in origin:
            network, _, _, walked = read_flow(origin["address"], None, False)
        else:
            network, walked = build_network(**origin["network"]), None
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"classifier {str(path)!r} cannot be used: {type(error).__name__}: {error}") from error
    if not fresh:
        load_weights(network, path.with_suffix(".safetensors"), part="flow.network.")
    return _laid_out(Loaded(network, facts, path=walked))


def flow_of(origin: Mapping[str, Any], seed: int | None = None, path: Any = None) -> Flow:
    """A flow of the same network, with weights that are yet to be loaded, or the first ones of a seed.

    origin: as ``classifiers.origin_of`` gives it. path: in place of the one that the facts name.
    Raises UserError for first weights of a network that is not ours.
    """
    spec = spec_from(dict(origin["spec"]))
    if "address" not in origin:
        options = dict(origin["network"])
        with torch.random.fork_rng():  # the first weights are the seed's, the caller's random state is its own
            torch.random.manual_seed(seed or 0)
            network = build_network(options.pop("name"), **options)
        module, name = _laid_out(Loaded(network, spec)).module, type(network).__name__
        return check_flow(Flow(module, spec, name, path=path).eval())
    if seed is not None:
        raise UserError(
            f"flow {origin['address']!r} has no first weights, its network is not one of ours; leave --fresh out"
        )
    found = read_flow(origin["address"], None, False)
    return check_flow(Flow(found.module, spec, origin["address"], path=path or found.path).eval())


def _complete(scheme: str, read: Callable[[str], Loaded]) -> Reader:
    """Of a library whose flows bring facts and weights, so that none can be given."""

    def complete(name: str, spec: ModelSpec | None, fresh: bool) -> Loaded:
        if spec is not None or fresh:
            raise UserError(f"flow '{scheme}:{name}' states its own facts and weights; leave spec= and weights= out")
        return read(name)

    return complete


def _laid_out(found: Loaded) -> Loaded:
    """Our U-Net with its channels last, in which small convolutions are faster on a CPU."""
    if isinstance(found.module, UNet):
        found.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return found


@dataclass(frozen=True)
class Scheme:
    """A kind of address: what reads it as a model and as a flow; None where it is none."""

    model: Reader | None = None
    flow: Reader | None = None


FUNCTION, CARD, PRETRAINED, FINETUNED = "PATH.py:FUNCTION", "PATH.json", "a run of pretrain", "a run of finetune"
SCHEMES: dict[str, Scheme] = {  # what stands before the colon, or one of these four
    "bundled": Scheme(_bundled, _bundled),
    "timm": Scheme(from_timm),
    "hf": Scheme(from_transformers),
    "clip": Scheme(from_clip),
    "open_clip": Scheme(from_open_clip),
    "diffusers": Scheme(flow=_complete("diffusers", from_diffusers)),
    "torchcfm": Scheme(flow=_complete("torchcfm", from_torchcfm)),
    FUNCTION: Scheme(_of_function, _of_function),
    CARD: Scheme(_card, _card),
    PRETRAINED: Scheme(flow=_pretrained),
    FINETUNED: Scheme(_finetuned, _in_finetuned),
}


def scheme_of(address: str) -> tuple[str, str]:
    """(the row of ``SCHEMES``, "" for no kind of address; what its reader takes)."""
    if find_classifier(address) is not None:
        return FINETUNED, address
    scheme, colon, rest = address.partition(":")
    if colon and scheme in SCHEMES:
        return scheme, rest
    if is_address(address) or address.endswith(".py"):
        return FUNCTION, address
    if address.endswith(".json"):
        return CARD, address
    return (PRETRAINED if Path(address).expanduser().is_dir() else ""), address


def read_model(address: str, spec: ModelSpec | None, fresh: bool) -> Loaded:
    scheme, rest = scheme_of(address)
    read = SCHEMES[scheme].model if scheme else None
    if read is not None:
        return read(rest, spec, fresh)
    if scheme and (scheme != PRETRAINED or (Path(address).expanduser() / FLOW_CARD).is_file()):
        raise UserError(f"model {address!r} is the address of a flow; {LOAD_FLOW}")
    near = nearest(address, [f"bundled:{name}" for name in bundled_names()])
    raise UserError(f"model {address!r} is not known; {near}, or PATH.py:FUNCTION for your own")


def read_flow(address: str, spec: ModelSpec | None, fresh: bool) -> Loaded:
    scheme, rest = scheme_of(address)
    read = SCHEMES[scheme].flow if scheme else None
    if read is not None:
        return read(rest, spec, fresh)
    if scheme:
        raise UserError(f"flow {address!r} is the address of a model that reads pictures; type load_model for it")
    known = [f"bundled:{name}" for name in bundled_flows()]
    near = f"{nearest(address, known)}, " if known else "type "
    raise UserError(
        f"flow {address!r} is not known; {near}a folder that bothways pretrain wrote, diffusers:FOLDER, "
        "torchcfm:FILE.pt, or PATH.py:FUNCTION for your own"
    )
