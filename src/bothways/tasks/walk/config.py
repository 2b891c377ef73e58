"""The settings of ``walk``."""

from __future__ import annotations

from bothways.configs import Config, Live, chosen, setting
from bothways.data.config import READ
from bothways.registry import register


@register("task", "walk", help="Walk one picture to noise and back along a flow, with its nearest pictures.")
class WalkConfig(Config):
    """One picture walked to noise and back along a flow, with what lies near it and what it is called on the way.

    A run of bothways finetune, or a bundled one such as bundled:cifar10-prg, also says what it sees at every depth.

    Examples
    bothways walk bundled:cifar10-prg cat.png
    bothways walk runs/digits digit.png --steps 50 --solver heun
    bothways walk bundled:cifar10-flow cat.png --data path/to/cifar10 --limit 500
    """

    flow: Live = setting(..., "A run of bothways pretrain or finetune, or a flow's address.", argument=True)
    photo: Live = setting(..., "An image file, whose middle is taken at the flow's size.", argument=True)
    steps: int = setting(20, "steps each way", ge=1, common=True)
    solver: chosen("solver") = setting("euler", "of the walk", common=True)  # type: ignore[valid-type]
    data: Live = setting(None, "pictures among which the nearest are searched: a name, a file or a folder", common=True)
    limit: int = setting(100, "pictures of the data at most, evenly spaced", ge=1, common=True)
    device: str = setting("cpu", "cpu, cuda, mps")
    split: str | None = setting(None, READ, common=True)
