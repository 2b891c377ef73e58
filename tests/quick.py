"""Less of everything, for code of the docs that is run to see that it runs: a test of each task looks at it in full."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import bothways
from bothways import registry
from bothways.configs import Config
from bothways.tasks.pretrain.networks import NETS

# The U-Nets by their names, with their levels and layers, and few channels.
NARROW = {"width": 8, "blocks": 1}
NARROW_NETS = {name: options | (NARROW if "multiples" in options else {}) for name, options in NETS.items()}
NARROW_NETS["unet-torchcfm"]["head_width"] = 8
FEWER = {  # what no setting makes less of
    "bothways.tasks.pretrain.networks.NETS": NARROW_NETS,
    "bothways.tasks.plan.subject.NETS": NARROW_NETS,
    "bothways.tasks.pretrain.run.SAMPLE_STEPS": 2,
    "bothways.tasks.scorecard.damage.LEVELS": (0.1, 0.5),
    "bothways.tasks.scorecard.damage.DAMAGE": {"blur 1.5": ("blur", 1.5)},
}
MOST = {"n": 2, "steps": 1, "limit": 20, "real": 10}  # of a setting of a function


def fewer(patch: pytest.MonkeyPatch) -> None:
    """Narrow networks, and fewer of what no setting of a task counts."""
    for place, value in FEWER.items():
        patch.setattr(place, value)


def quickly(function: Callable[..., Any], config: type[Config] | None) -> Callable[..., Any]:
    """The function with at most these settings, where it has them and they are not given by their place."""

    def call(*given: Any, **settings: Any) -> Any:
        known = set(config.model_fields) - set(config.order()[: len(given)]) if config else set(settings)
        return function(*given, **settings | {name: most for name, most in MOST.items() if name in known})

    return call


def quick_functions(patch: pytest.MonkeyPatch) -> None:
    """``quickly`` for the public function of every task."""
    for task in registry.names("task"):
        patch.setattr(bothways, task, quickly(getattr(bothways, task), registry.find("task", task).factory))
