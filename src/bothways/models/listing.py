"""Listing of bundled models, address schemes and U-Net sizes for the command line."""

from __future__ import annotations

from typing import Any

from bothways.models.cards import bundled_classifiers, bundled_flows, bundled_names, card
from bothways.models.libraries.known import FLOW_LIBRARIES, LIBRARIES, Library


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


UNETS = {  # name -> (parameters, description)
    "unet-s": (42_375_939, "PRG's smaller one, 32 pixels"),
    "unet-m": (52_542_979, "that of PRG's code, 32 pixels"),
    "unet-64": (121_060_483, "that of PRG's code, 64 pixels"),
    "unet-torchcfm": (35_746_307, "torchcfm's for CIFAR-10"),
    "unet-small": (4_315_212, "32 pixels on two processor cores: pixels folded by twos"),
    "unet-tiny": (756_163, "8 pixels, such as digits"),
}


def unets() -> list[tuple[str, int, str]]:
    """(name, parameters, description) of the U-Nets; a test compares the counts with the networks."""
    return [(name, *facts) for name, facts in UNETS.items()]
