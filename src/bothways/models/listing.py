"""Listing of bundled models, address schemes and U-Net sizes for the command line."""

from __future__ import annotations

from typing import Any

import torch

from bothways.models.catalogue import bundled_classifiers, bundled_flows, bundled_names, card
from bothways.models.libraries.hub import FLOW_LIBRARIES, LIBRARIES, Library
from bothways.models.nets.unet import SIZES, UNet


def cards() -> list[dict[str, Any]]:
    """Cards of the bundled models."""
    return [card(name) for name in bundled_names()]


def classifier_cards() -> list[dict[str, Any]]:
    """Cards of the bundled flow-based classifiers."""
    return [card(name) for name in bundled_classifiers()]


def flow_cards() -> list[dict[str, Any]]:
    """Cards of the bundled flows."""
    return [card(name) for name in bundled_flows()]


def addresses() -> list[tuple[str, str, str]]:
    """(example, description, install command or "") of every kind of model address."""
    own = [
        ("bundled:cifar10-resnet", "one of the models above", ""),
        ("PATH.py:FUNCTION", "your own file; the function returns (nn.Module, bothways.ModelSpec(...))", ""),
        ("PATH/NAME.json", "the card that bothways train wrote", ""),
        ("FOLDER", "the classifier that bothways finetune wrote", ""),
    ]
    return own + [_address(kind) for kind in LIBRARIES.values()]


def flow_addresses() -> list[tuple[str, str, str]]:
    """(example, description, install command or "") of every kind of flow address."""
    own = [
        ("FOLDER, PATH/flow.json", "what bothways pretrain wrote", ""),
        ("PATH.py:FUNCTION", "your own file; the function returns (nn.Module, bothways.ModelSpec(..., path=...))", ""),
        ("torchcfm:FILE.pt", "a CIFAR-10 checkpoint of torchcfm", ""),
    ]
    return own + [_address(kind) for kind in FLOW_LIBRARIES.values()]


def _address(kind: Library) -> tuple[str, str, str]:
    return kind.example, kind.holds, "" if kind.installed else kind.install


UNETS = {
    "unet-s": "PRG's smaller one, 32 pixels",
    "unet-m": "that of PRG's code, 32 pixels",
    "unet-64": "that of PRG's code, 64 pixels",
    "unet-torchcfm": "torchcfm's for CIFAR-10",
    "unet-small": "32 pixels on two processor cores: pixels folded by twos",
    "unet-tiny": "8 pixels, such as digits",
}


def unets() -> list[tuple[str, int, str]]:
    """(name, parameters, description) of the U-Nets, built on the meta device."""
    with torch.device("meta"):
        return [(name, sum(p.numel() for p in UNet(**SIZES[name]).parameters()), UNETS[name]) for name in SIZES]
