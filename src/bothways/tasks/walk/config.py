"""The settings of ``walk``."""

from __future__ import annotations

from typing import ClassVar

from bothways.configs import Config, Live, chosen, setting
from bothways.data.config import READ
from bothways.registry import register


@register("task", "walk", help="Walk one picture to noise and back along a flow.")
class WalkConfig(Config):
    """Walk one picture to noise and back along a flow, with its nearest pictures at every depth.

    A flow classifier (a run of bothways finetune, or bundled:cifar10-prg) also predicts the classes at every depth.

    Examples
    bothways walk bundled:cifar10-prg cat.png
    bothways walk runs/digits digit.png --steps 50 --solver heun
    bothways walk bundled:cifar10-flow cat.png --data path/to/cifar10 --limit 500
    """

    gives: ClassVar[str] = "a Walked: there and back (K,3,H,W) in [0,1], each from the picture to noise; measures"

    flow: Live = setting(..., "A run of bothways pretrain or finetune, or the address of a flow.", argument=True)
    photo: Live = setting(..., "An image file, resized and centre-cropped to the size of the flow.", argument=True)
    steps: int = setting(20, "solver steps in each direction", ge=1, common=True)
    solver: chosen("solver") = setting("euler", "ODE solver of the walk", common=True)  # type: ignore[valid-type]
    data: Live = setting(None, "pictures to search for the nearest ones: a name, a file or a folder", common=True)
    limit: int = setting(100, "maximum number of pictures of the data, evenly spaced", ge=1, common=True)
    device: str = setting("cpu", "compute device: cpu, cuda, mps")
    split: str | None = setting(None, READ, common=True)
