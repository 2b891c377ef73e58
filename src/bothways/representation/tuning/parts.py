"""Training of a part of a flow-based classifier, and its memory: LoRA, biases, last blocks, checkpointed activations.

head    nothing of the flow                        last    its last N blocks in the order of a forward pass
bias    its biases, BitFit: Ben Zaken et al. 2022, arXiv 2106.10199
lora    W x + B A x, A (r,in) drawn, B (out,r) zero, W fixed: Hu et al. 2022, arXiv 2106.09685, by peft

The head is always trained. Of a convolution A has its kernel and B is 1x1. Departure: the factor alpha / r is 1.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from bothways.numerics.discrete_adjoint import leaves_of
from bothways.numerics.modules import compile_module, first_cause, torchvision_misfit
from bothways.representation.classifier import FlowClassifier, blocks_of, passed
from bothways.representation.tuning.config import Tune
from bothways.types import UserError

ADAPTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
PARTS = (".lora_A.", ".lora_B.")  # in the names of the parameters of adapters


def tune(classifier: FlowClassifier, how: Tune, shape: Sequence[int]) -> None:
    """Let only a part of a classifier be trained, in place. shape: (C,H,W) of a picture.

    Raises UserError for more blocks than the features pass, for a flow without what is to be trained, and without peft.
    """
    if how.kind == "last":
        _last(classifier, how.number, shape)
    elif how.kind == "bias":
        for name, parameter in classifier.flow.named_parameters():
            parameter.requires_grad_(name.rpartition(".")[2].endswith("bias"))
        if not any(p.requires_grad for p in classifier.flow.parameters()):
            raise UserError("tune='bias': the flow has no biases; type --tune lora:4, or another")
    elif how.kind == "lora":
        _adapt(classifier.flow, how.number)


def _last(classifier: FlowClassifier, number: int, shape: Sequence[int]) -> None:
    like = next(classifier.head.parameters())
    reached = {id(leaf) for leaf in leaves_of([classifier(like.new_zeros(1, *shape))])}
    parts = {name: list(classifier.flow.get_submodule(name).parameters()) for name in passed(classifier.flow, shape)}
    blocks = [part for part in parts.values() if any(id(p) in reached for p in part)]
    if number > len(blocks):
        what = f"the features pass {len(blocks)} blocks of the flow"
        raise UserError(f"tune='last:{number}': {what}; type --tune last:{max(1, len(blocks))}, or all")
    classifier.flow.requires_grad_(False)
    for part in blocks[-number:]:
        for parameter in part:
            parameter.requires_grad_(True)


# ---- adapters ------------------------------------------------------------------------------------------------------


def _adapt(flow: nn.Module, rank: int) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except Exception as error:  # of what peft imports, transformers and torchvision among them
        if find_spec("peft") is None:
            raise UserError("tune='lora' needs peft; type pip install \"bothways[lora]\"") from error
        line = torchvision_misfit() or f"peft cannot be imported here ({first_cause(error)}); type --tune bias"
        raise UserError(f"tune='lora': {line}") from error
    names = list(_adapted(flow))
    if not names:
        raise UserError("tune='lora': the flow has no linear layer and no convolution; type --tune all")
    flow.requires_grad_(False)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=names), flow)


def _adapted(flow: nn.Module) -> Iterator[str]:
    """Layers that get an adapter: linear ones, those of attention among them, and convolutions.

    Not those within torch's MultiheadAttention, of which peft 0.21 adds the adapter of the output twice, and not
    convolutions in groups, whose number would bind the rank.
    """
    whole = tuple(f"{name}." for name, part in flow.named_modules() if isinstance(part, nn.MultiheadAttention))
    for name, part in flow.named_modules():
        plain = name and not (whole and name.startswith(whole))
        if plain and isinstance(part, ADAPTED) and getattr(part, "groups", 1) == 1:
            yield name


@torch.no_grad()
def merged(network: nn.Module) -> nn.Module:
    """A copy of the plain form, with adapters added to the weights, W + B A; without adapters the network itself."""
    if not _is_adapted(network):
        return network
    plain = copy.deepcopy(network)
    for name, part in _adapters(plain):
        part.merge()
        owner, _, own = name.rpartition(".")
        setattr(plain.get_submodule(owner), own, part.get_base_layer())
    return plain


def kept_size(network: nn.Module) -> int:
    """The number of parameters of a network without adapters, as ``merged`` leaves it."""
    return sum(p.numel() for name, p in network.named_parameters() if not any(part in name for part in PARTS))


def _is_adapted(network: nn.Module) -> bool:
    return any(part in name for name, _ in network.named_parameters() for part in PARTS)


def _adapters(network: nn.Module) -> list[tuple[str, Any]]:
    from peft.tuners.tuners_utils import BaseTunerLayer

    return [(name, part) for name, part in network.named_modules() if isinstance(part, BaseTunerLayer)]


# ---- memory and time of a step -------------------------------------------------------------------------------------


def checkpoint_activations(classifier: FlowClassifier) -> None:
    """Keep only what enters each block of the flow, and compute the block again in the backward pass, in place.

    A block in which activations are read stays as it is, since reading ends the pass within it.
    """
    read = classifier.how.layers if classifier.how.reads_activations else ()
    for name, block in blocks_of(classifier.flow):
        if not any(layer.startswith(f"{name}.") for layer in read):
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def compile_flow(classifier: FlowClassifier, backend: str = "inductor") -> None:
    """Compile the flow's network, in place, by torch.compile. Raises UserError where nothing can be compiled here."""
    compile_module(getattr(classifier.flow, "network", classifier.flow), backend)
