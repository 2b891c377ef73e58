"""The settings of ``demo``."""

from __future__ import annotations

from typing import ClassVar

from bothways.configs import Config, Live, setting
from bothways.registry import register


@register("task", "demo", help="Both ways in one page: a bundled classifier draws, a bundled flow classifies.")
class DemoConfig(Config):
    """Both ways in one page: what a bundled classifier draws, and what a bundled flow makes of pictures.

    The ten classes of the classifier are drawn by two recipes; ten pictures are walked to noise and back by the flow,
    and the flow made a classifier is asked about them. An earlier demo in the folder is replaced.

    Examples
    bothways demo
    bothways demo --data path/to/cifar10
    """

    writes: ClassVar[bool] = True

    n: int = setting(10, "pictures of each class and recipe", ge=1, flags=("--n", "-n"), common=True)
    seed: int = setting(0, "of the runs", ge=0, common=True)
    data: Live = setting(
        None, "CIFAR-10 (folder or parquet), whose test pictures are walked; none for drawn ones", common=True
    )
