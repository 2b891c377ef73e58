"""A flow's address -> Flow: a card of one's own, a user's file, or the networks of other libraries.

``FOLDER``, ``PATH/flow.json``     what ``bothways pretrain`` wrote: the card, its weights beside it
what ``bothways finetune`` wrote   the flow in it, without its head
``bundled:NAME``                   a flow that comes with the package, or that in a bundled classifier
``PATH.py:FUNCTION``               a user's own file, whose function returns (nn.Module, ModelSpec)
``diffusers:REPO_OR_FOLDER``       a diffusion model, read as a velocity (models/diffusers_flows.py)
``torchcfm:FILE.pt``               a checkpoint of torchcfm's CIFAR-10 (models/torchcfm_flows.py)
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from bothways.models.catalogue import (
    BUNDLED,
    CLASSIFIER_CARD,
    FLOW_CARD,
    FLOW_SCHEMES,
    SCHEMES,
    build_network,
    bundled_classifiers,
    bundled_flows,
    check_device,
    from_bundled,
    from_card,
    from_file,
    load_weights,
    nearest,
    spec_from,
)
from bothways.models.diffusers_flows import from_diffusers
from bothways.models.hub import Loaded
from bothways.models.nets.unet import UNet
from bothways.models.torchcfm_flows import from_torchcfm
from bothways.models.velocity import Flow
from bothways.types import ModelSpec, RunError, UserError

SPEC_LINES = (
    'state its facts: bothways.ModelSpec(size=32, mean=(0.5,) * 3, std=(0.5,) * 3, classes=0, path="linear", '
    "time_scale=1000)"
)
OTHERS: dict[str, Callable[[str], Loaded]] = dict(zip(FLOW_SCHEMES, (from_diffusers, from_torchcfm), strict=True))
"""what stands before the colon -> the rest -> what is there"""


def load_flow(
    flow: str | Path | nn.Module,
    spec: ModelSpec | None = None,
    *,
    weights: str | Path | None = None,
    device: str = "cpu",
    dtype: str = "float32",
) -> Flow:
    """A velocity field between noise and pictures from an address, or from a live module and its facts.

        dx/dt = v(x, t),   x ~ N(0, 1) at t = 0,   x = code(picture) at t = 1

    flow: the folder or card that ``bothways pretrain`` wrote, "bundled:NAME", "PATH.py:FUNCTION",
        "diffusers:REPO_OR_FOLDER", "torchcfm:FILE.pt", or an ``nn.Module`` of (x (B,C,H,W), time (B,)) with ``spec``;
        a Flow is handed back as it is, where it is. spec: the facts, in place of those found; it names the path.
    weights: a safetensors file that is loaded into the network. dtype: "float32", "bf16" or "float16" (autocast).
    Raises UserError where the address, the facts or the weights do not fit, and for a classifier.
    """
    if isinstance(flow, Flow):
        if spec is not None or weights is not None:
            raise UserError(f"flow {flow.name!r} is loaded already; leave spec= and weights= out")
        return flow
    if isinstance(flow, nn.Module):
        name = type(flow).__name__
        if spec is None:
            raise UserError(f"load_flow got a {name} without its facts; {SPEC_LINES}")
        found = Loaded(flow, spec)
    else:
        name = str(flow)
        found = _from_address(name, spec, weights is not None)
    facts = spec or found.spec
    if facts.path is None:
        raise UserError(f"flow {name!r} has no path in its spec, as a classifier; type load_model, or {SPEC_LINES}")
    check_device(device)
    if weights is not None:
        load_weights(found.module, weights)
    loaded = Flow(found.module, facts, name, dtype=dtype, path=found.path).to(device).eval()
    _check(loaded)
    return loaded


def find_classifier(address: str | Path) -> Path | None:
    """The card of a flow made a classifier, by its folder or its own name, or of a bundled one; None for all else."""
    scheme, _, name = str(address).partition(":")
    if scheme == "bundled":
        return BUNDLED / f"{name}.json" if name in bundled_classifiers() else None
    path = Path(address).expanduser()
    path = path / CLASSIFIER_CARD if path.name != CLASSIFIER_CARD else path
    return path if path.is_file() else None


def _from_address(address: str, spec: ModelSpec | None, fresh: bool) -> Loaded:
    scheme, _, rest = address.partition(":")
    if scheme in OTHERS:
        if spec is not None or fresh:
            raise UserError(f"flow {address!r} states its own facts and weights; leave spec= and weights= out")
        return OTHERS[scheme](rest)
    if (card := find_classifier(address)) is not None:
        return _laid_out(_in_classifier(card, fresh))
    if scheme == "bundled":
        return _laid_out(from_bundled(rest, spec, fresh))
    if scheme in SCHEMES:
        raise UserError(f"flow {address!r} is the address of a model that reads pictures; type load_model for it")
    path = Path(address).expanduser()
    if path.is_dir() or address.endswith(".json"):
        return _laid_out(from_card(_card(address, path, fresh), fresh))
    if (user := from_file(address)) is not None:
        return user
    known = [f"bundled:{name}" for name in bundled_flows()]
    near = f"{nearest(address, known)}, " if known else "type "
    raise UserError(
        f"flow {address!r} is not known; {near}a folder that bothways pretrain wrote, diffusers:FOLDER, "
        "torchcfm:FILE.pt, or PATH.py:FUNCTION for your own"
    )


def _in_classifier(card: Path, fresh: bool) -> Loaded:
    """The flow of one that was made a classifier, as it is now."""
    try:
        origin = json.loads(card.read_text())["flow"]
        spec = spec_from(origin["spec"])
        if "address" in origin:
            found = _from_address(origin["address"], None, False)
            network, path = found.module, found.path
        else:
            network, path = build_network(**origin["network"]), None
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"classifier {str(card)!r} cannot be used: {type(error).__name__}: {error}") from error
    if not fresh:
        load_weights(network, card.with_suffix(".safetensors"), part="flow.network.")
    return Loaded(network, spec, path=path)


def _card(address: str, path: Path, fresh: bool) -> Path:
    """The card of a run or of an address that is one. Raises UserError for another run, and for one not so far."""
    card = path / FLOW_CARD if path.is_dir() else path
    if path.is_dir() and not card.is_file():
        raise UserError(f"flow {address!r} holds no {FLOW_CARD}; type the folder of a run of bothways pretrain")
    if card.name == FLOW_CARD and card.is_file() and not (fresh or card.with_suffix(".safetensors").is_file()):
        raise UserError(
            f"flow {address!r} has no weights yet, they come with its first checkpoint; let bothways pretrain go on "
            f"with --resume --out {card.parent}"
        )
    return card


def _laid_out(found: Loaded) -> Loaded:
    """Our U-Net with its channels last, in which small convolutions are faster on a CPU."""
    if isinstance(found.module, UNet):
        found.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return found


@torch.no_grad()
def _check(flow: Flow) -> None:
    """One velocity at the stated size, so that wrong facts are found before anything is walked."""
    flow.path(torch.ones(1))  # an unknown name is refused
    like = next(flow.network.parameters(), torch.empty(0))
    kind = torch.float64 if like.dtype == torch.float64 else torch.float32
    x = torch.zeros(1, *flow.shape, dtype=kind, device=flow.mean.device)
    try:
        flow(x, torch.full((1,), 0.5, dtype=kind, device=x.device))
    except (UserError, RunError):
        raise
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"flow {flow.name!r} gives no velocity for x {tuple(x.shape)} and time (1,), as its spec has it: {said}; "
            'give a module of (x, time), and mend ModelSpec.size or channel_order ("grey" for one channel)'
        ) from error
