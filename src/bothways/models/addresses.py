"""Resolution of model and flow addresses to modules and ModelSpecs. A new kind of address is a row in ``SCHEMES``.

bundled:NAME           a small trained network that comes with the package
PATH/NAME.json         the card that ``bothways train`` or ``pretrain`` wrote, its weights beside it
FOLDER                 a run of ``bothways pretrain``, a flow; or of ``finetune``, a classifier with a flow in it
PATH.py:FUNCTION       a user's own file, whose function returns (nn.Module, ModelSpec), or these and what encodes text
timm:, hf:, clip:, open_clip:, imagenet:, diffusers:, torchcfm:, sit:, dit:   models of others (models/libraries)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bothways.faults import told
from bothways.models.adapter import SPEC_LINES
from bothways.models.cards import FLOW_CARD, ClassifierCard, bundled_flows, bundled_names, card_file
from bothways.models.catalogue import build_network, find_classifier, from_card, read_facts, spec_from, spec_of
from bothways.models.classifiers import (
    AUTOENCODER,
    PictureClassifier,
    card_choice,
    count_of,
    feature_layer,
    features_of,
)
from bothways.models.libraries.diffusers_flows import from_diffusers, rebuilt
from bothways.models.libraries.hub import Loaded, in_one_line
from bothways.models.libraries.imagenet_models import from_imagenet
from bothways.models.libraries.known import LIBRARIES
from bothways.models.libraries.latents import Latents
from bothways.models.libraries.latents import built as latents_of
from bothways.models.libraries.open_clip_models import from_open_clip
from bothways.models.libraries.sit_flows import from_dit, from_sit
from bothways.models.libraries.timm_models import from_timm
from bothways.models.libraries.torchcfm_flows import from_torchcfm
from bothways.models.libraries.transformers_models import from_clip, from_transformers
from bothways.models.nets.unet import UNet
from bothways.models.velocity import Flow, check_flow
from bothways.models.weights import load_weights
from bothways.progress import stage
from bothways.reading import at_home, is_there, used
from bothways.registry import address_parts, is_address, load_attribute, nearest
from bothways.representation.classifier import FlowClassifier
from bothways.representation.heads import head_of
from bothways.representation.tuning.targets import CLASS
from bothways.types import ModelSpec, UserError

LOAD_FLOW = "type bothways sample, walk or diagnose for it (in Python load_flow), or a model that bothways models lists"
LOAD_MODEL = (
    "type bothways generate, predict or explain for it (in Python load_model), or a flow that bothways models lists"
)
Reader = Callable[[str, ModelSpec | None, bool], Loaded]
"""(address without its scheme, spec or None, whether the user's weights follow) -> ``Loaded``."""


def _of_function(address: str, spec: ModelSpec | None, fresh: bool) -> Loaded:
    """Build a model by the function of a user's file."""
    if not is_address(address):
        raise UserError(f"model {address!r} names a file but no function; type {address}:FUNCTION")
    place, function = address_parts(address)
    with stage(f"running {Path(place).name}:{function}"):  # whoever waits for it sees for what
        return built_by(f"{place}:{function}", load_attribute(address, "model"))


def built_by(name: str, build: Callable[[], Any]) -> Loaded:
    """What a user's function builds. Raises UserError in a line for what it raises, and for anything else."""
    try:
        built = build()
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{name} fails: {told(error)}") from error
    module, facts, text = (*built, None)[:3] if isinstance(built, tuple) and len(built) in (2, 3) else (None,) * 3
    facts = spec_of(facts) if isinstance(facts, Mapping) else facts
    if not (isinstance(module, nn.Module) and isinstance(facts, ModelSpec)):
        raise UserError(f"{name} must return (module, spec); {SPEC_LINES}")
    if text is not None and not callable(text):
        raise UserError(
            f"{name} returns a {type(text).__name__} as its text; return (module, spec, text) with a "
            "function of a list of prompts -> (P,D), or (module, spec)"
        )
    return Loaded(module, facts, text)


def _bundled(name: str, spec: ModelSpec | None, fresh: bool) -> Loaded:
    return _laid_out(from_card(card_file(name), fresh))


def _card(address: str, spec: ModelSpec | None, fresh: bool) -> Loaded:
    path = at_home(address)
    if path.name == FLOW_CARD and is_there(path) and not (fresh or path.with_suffix(".safetensors").is_file()):
        raise UserError(
            f"flow {address!r} has no weights yet, they are written at its first checkpoint; "
            f"continue bothways pretrain with --resume --out {path.parent}"
        )
    return _laid_out(from_card(path, fresh))


def _pretrained(address: str, spec: ModelSpec | None, fresh: bool) -> Loaded:
    card = at_home(address) / FLOW_CARD
    if not is_there(card):
        raise UserError(f"flow {address!r} has no {FLOW_CARD}; type the folder of a run of bothways pretrain")
    return _card(str(card), spec, fresh)


def _finetuned(address: str, spec: ModelSpec | None, fresh: bool) -> Loaded:
    if spec is not None or fresh:
        raise UserError(f"model {address!r} has its own spec and weights; leave spec= and weights= out")
    return read_classifier(address)


def read_classifier(address: str, head: Any = None, path: Any = None, solver: Any = None) -> Loaded:
    """Load the classifier of a run of ``finetune``; its walk uses backpropagation through all steps.

    head, path, solver: those of the run, if they were Python objects.
    """
    file = find_classifier(address)
    assert file is not None
    facts = read_facts(file, ClassifierCard)
    with used(file, named=True):
        read, classes = facts["features"], facts["classes"]
        walked = {**read["walk"], "solver": card_choice(address, "solver", read["walk"]["solver"], solver)}
        how = features_of({**read, "walk": walked}, gradient="direct")
        flow = flow_of(facts["flow"], path=path, latents=_autoencoder(facts["flow"], file))
        target = facts.get("target", CLASS)
        own = head_of(card_choice(address, "head", facts["head"], head))
        classifier = FlowClassifier(flow, flow.path, flow.shape, count_of(classes), how, head=own, target=target)
    load_weights(classifier, file.with_suffix(".safetensors"))
    # mean 0 and std 1: PictureClassifier applies the flow's own preprocessing
    seen: dict[str, Any] = {"size": flow.spec.size, "mean": (0.0,) * 3, "std": (1.0,) * 3, "classes": classes}
    told = {key: getattr(flow.spec, key) for key in ("crop", "interpolation", "squash", "source", "licence")}
    return Loaded(PictureClassifier(classifier), ModelSpec(**seen, feature_layer=feature_layer(classifier), **told))


def _in_finetuned(address: str, spec: ModelSpec | None, fresh: bool) -> Loaded:
    """The finetuned flow of a run of ``finetune``, without its head."""
    path = find_classifier(address)
    assert path is not None
    origin = read_facts(path, ClassifierCard)["flow"]
    with used(path, named=True):
        facts = spec_from(origin["spec"])
        if "address" in origin:
            found = read_flow(origin["address"], None, False)
        elif "diffusers" in origin:
            found = rebuilt(origin["diffusers"])
        else:
            found = Loaded(build_network(**origin["network"]), facts)
    if not fresh:
        load_weights(found.module, path.with_suffix(".safetensors"), part="flow.network.")
    return _laid_out(found._replace(spec=facts, latents=_autoencoder(origin, path)))


def _autoencoder(origin: Mapping[str, Any], card: Path) -> Latents | None:
    """The autoencoder of a flow on latents in a run of ``finetune``, by its card's file."""
    if origin.get("autoencoder") is None:
        return None
    latents = latents_of(origin["autoencoder"])
    load_weights(latents.vae, card.with_name(AUTOENCODER))
    return latents


def flow_of(
    origin: Mapping[str, Any], seed: int | None = None, path: Any = None, latents: Latents | None = None
) -> Flow:
    """Rebuild a flow from its origin, with initial weights of a seed or with weights to be loaded by the caller.

    origin: from ``classifiers.origin_of``. path: overrides the one named in the spec. latents: its autoencoder.
    Raises UserError for a seed with a network that is not one of the package's.
    """
    spec = spec_from(dict(origin["spec"]))
    if "network" in origin:
        options = dict(origin["network"])
        with torch.random.fork_rng():  # initial weights depend on the seed; the caller's random state is unchanged
            torch.random.manual_seed(seed or 0)
            network = build_network(options.pop("name"), **options)
        module, name = _laid_out(Loaded(network, spec)).module, type(network).__name__
        return check_flow(Flow(module, spec, name, path=path, latents=latents).eval())
    if seed is not None:
        raise UserError(
            f"flow {origin.get('address', spec.source)!r} is no network of bothways and cannot be initialised anew; "
            "leave --fresh out"
        )
    found = rebuilt(origin["diffusers"]) if "diffusers" in origin else read_flow(origin["address"], None, False)
    name, path = origin.get("address", spec.source), path or found.path
    return check_flow(Flow(found.module, spec, name, path=path, latents=latents).eval())


def _complete(scheme: str, read: Callable[[str], Loaded]) -> Reader:
    """Reader of a library whose flows have their own spec and weights; raises UserError if one is passed."""

    def complete(name: str, spec: ModelSpec | None, fresh: bool) -> Loaded:
        if spec is not None or fresh:
            raise UserError(f"flow '{scheme}:{name}' has its own spec and weights; leave spec= and weights= out")
        return read(name)

    return complete


def _laid_out(found: Loaded) -> Loaded:
    """Put the package's U-Net in channels-last layout, in which small convolutions are faster on a CPU."""
    if isinstance(found.module, UNet):
        found.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return found


@dataclass(frozen=True)
class Scheme:
    """A kind of address: its reader as a model and as a flow; None if it is not one."""

    model: Reader | None = None
    flow: Reader | None = None


FUNCTION, CARD, PRETRAINED, FINETUNED = "PATH.py:FUNCTION", "PATH.json", "a run of pretrain", "a run of finetune"
SCHEMES: dict[str, Scheme] = {  # by the prefix before the colon, or one of these four
    "bundled": Scheme(_bundled, _bundled),
    "timm": Scheme(in_one_line("timm", from_timm)),
    "hf": Scheme(in_one_line("hf", from_transformers)),
    "clip": Scheme(in_one_line("clip", from_clip)),
    "open_clip": Scheme(in_one_line("open_clip", from_open_clip)),
    "imagenet": Scheme(from_imagenet),
    "diffusers": Scheme(flow=_complete("diffusers", in_one_line("diffusers", from_diffusers))),
    "torchcfm": Scheme(flow=_complete("torchcfm", from_torchcfm)),
    "sit": Scheme(flow=_complete("sit", in_one_line("sit", from_sit))),
    "dit": Scheme(flow=_complete("dit", in_one_line("dit", from_dit))),
    FUNCTION: Scheme(_of_function, _of_function),
    CARD: Scheme(_card, _card),
    PRETRAINED: Scheme(flow=_pretrained),
    FINETUNED: Scheme(_finetuned, _in_finetuned),
}


def scheme_of(address: str) -> tuple[str, str]:
    """(key of ``SCHEMES`` or "", the argument of its reader) of an address."""
    if find_classifier(address) is not None:
        return FINETUNED, address
    scheme, colon, rest = address.partition(":")
    if colon and scheme in SCHEMES:
        return scheme, rest
    if is_address(address) or address.endswith(".py"):
        return FUNCTION, address
    if address.endswith(".json"):
        return CARD, address
    return (PRETRAINED if at_home(address).is_dir() else ""), address


def read_model(address: str, spec: ModelSpec | None, fresh: bool) -> Loaded:
    """Load a model by its address. fresh: the caller supplies the weights. Raises UserError for any other address."""
    scheme, rest = scheme_of(address)
    read = SCHEMES[scheme].model if scheme else None
    if read is not None:
        return read(rest, spec, fresh)
    if scheme and (scheme != PRETRAINED or (at_home(address) / FLOW_CARD).is_file()):
        raise UserError(f"model {address!r} is the address of a flow; {LOAD_FLOW}")
    own = at_home(address).glob("*.json") if scheme == PRETRAINED else ()
    if cards := [card for card in own if card.with_suffix(".safetensors").is_file()]:  # of bothways train
        raise UserError(f"model {address!r} is a folder with the card of a model; type {cards[0]}")
    raise UserError(f"model {address!r} is not known; {_meant(address)}, or PATH.py:FUNCTION for your own")


def _meant(address: str) -> str:
    """Advice for an address that is none: that of the library, the file or the bundled model that it may mean."""
    name = address.rpartition(":")[2]
    if address.endswith((".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".onnx")):
        return "weights alone are no network: type MODEL --weights FILE.safetensors"
    if "/" in address.strip("/"):
        return f"type hf:{name} for a repository of the hub, timm:{name} or open_clip:ARCH/TAG"
    near = get_close_matches(name, bundled_names(), n=3, cutoff=0.6)
    if near or not name:
        return f"type {', '.join(f'bundled:{one}' for one in near or bundled_names())}"
    timm = LIBRARIES["timm"]
    first = "" if timm.installed else f" ({timm.install})"
    return f"type timm:{name}{first} if timm has it, or {', '.join(f'bundled:{one}' for one in bundled_names())}"


def read_flow(address: str, spec: ModelSpec | None, fresh: bool) -> Loaded:
    """Load a flow by its address. fresh: the caller supplies the weights. Raises UserError for any other address."""
    scheme, rest = scheme_of(address)
    read = SCHEMES[scheme].flow if scheme else None
    if read is not None:
        return read(rest, spec, fresh)
    if scheme:
        raise UserError(f"flow {address!r} is the address of a model and not of a flow; {LOAD_MODEL}")
    known = [f"bundled:{name}" for name in bundled_flows()]
    near = f"{nearest(address, known)}, " if known else "type "
    raise UserError(
        f"flow {address!r} is not known; {near}a folder of bothways pretrain, diffusers:FOLDER, torchcfm:FILE.pt, "
        "sit:FILE, or PATH.py:FUNCTION for your own"
    )
