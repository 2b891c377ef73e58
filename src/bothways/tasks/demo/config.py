"""The settings of ``demo``."""

from __future__ import annotations

from typing import ClassVar

from bothways.configs import Config, Live, setting
from bothways.registry import register


@register("task", "demo", help="A demo of the bundled models: draw with a classifier, walk and classify with a flow.")
class DemoConfig(Config):
    """A demo of the bundled models: draw with a classifier, walk and classify with a flow, and write one report.

    The ten classes of the classifier are drawn by two recipes. A flow walks ten pictures to noise and back, and a flow
    classifier predicts their classes. Where the extra imagenet is installed, a network of photographs draws one
    picture of 224 pixels. An earlier demo in the folder is replaced.

    Examples
    bothways demo
    bothways demo --data path/to/cifar10
    """

    gives: ClassVar[str] = "a dict, the content of measures.json: what judges measured of the drawings, and of the walk"
    writes: ClassVar[bool] = True
    folder: ClassVar[str] = "runs/demo"

    n: int = setting(10, "pictures per class and recipe", ge=1, flags=("--n", "-n"), common=True)
    seed: int = setting(0, "random seed", ge=0, common=True)
    data: Live = setting(
        None, "CIFAR-10 (folder or parquet), for its test pictures; if unset, drawn pictures are used", common=True
    )
