"""The settings of ``pretrain``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from bothways.configs import Config, Live, chosen, merged, setting
from bothways.data.config import READ
from bothways.registry import register
from bothways.training.config import AugmentationConfig, FitConfig, FlowHoldoutConfig, RunConfig, one_of

DEFAULT = "otcfm"


@register("task", "pretrain", help="Train a flow between noise and pictures.")
class PretrainConfig(Config):
    """Train a flow between noise and pictures: the network learns the velocity of the paths from one to the other.

    loss = mean over x, z, t of 1/2 ||v(x_t, t) - (a' x + s' z)||^2

    It leaves flow.json and flow.safetensors, pictures made of noise, the loss of every step, and report.html.

    Pictures are digits or swiss-roll, for which nothing is downloaded; a folder of image files; a parquet file or a
    folder of them; or hub:OWNER/NAME.

    Stopped or killed at any moment, it goes on with --resume to the same weights.

    Examples
    bothways pretrain --data digits --out runs/digits
    bothways pretrain gvp --data photos/ --size 32 --steps 20000 --out runs/gvp
    bothways pretrain --data path/to/pictures --path linear --coupling sinkhorn --net unet-small --resume
    bothways pretrain --data digits --path my.py:sine
    torchrun --nproc_per_node 2 -m bothways.cli pretrain --data path/to/pictures --device cuda --bf16
    """

    recipe_task: ClassVar[str] = "pretrain"
    writes: ClassVar[bool] = True
    processes: ClassVar[bool] = True

    data: Live = setting(..., "Pictures to learn from: digits, swiss-roll, a path, hub:NAME")
    recipe: str = setting(
        DEFAULT, "icfm, otcfm, gvp, cifar10-flow, or a .toml file (see bothways recipes)", argument=True
    )
    path: chosen("path") = setting("linear", "from noise to a picture", common=True)  # type: ignore[valid-type]
    coupling: chosen("coupling") = setting(  # type: ignore[valid-type]
        "independent", "which noise a picture is paired with", common=True
    )
    net: str | None = setting(
        None,
        "a U-Net: unet-tiny, unet-small, or a size of the papers: unet-s, unet-m, unet-64, unet-torchcfm; none for "
        "unet-tiny up to 16 pixels, else unet-small",
        common=True,
    )
    network: dict[str, Any] = setting({}, "options of a U-Net of one's own, in place of net")
    size: int | None = setting(None, "pixels of a side; none for the pictures' own", ge=1, common=True)
    seed: int = setting(0, "of the first weights, the order, noise and times", ge=0, common=True)
    holdout: FlowHoldoutConfig = FlowHoldoutConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    fit: FitConfig = FitConfig()
    run: RunConfig = RunConfig()
    split: str | None = setting(None, READ, common=True)

    @classmethod
    def default_recipe(cls, given: Mapping[str, Any]) -> str:
        return DEFAULT

    @classmethod
    def merged(cls, recipe: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        """Of steps and epochs, and of net and network, what is given replaces what the recipe has."""
        recipe = one_of(recipe, changes, "fit", "steps", "epochs")
        return merged(one_of(recipe, changes, "", "net", "network"), changes)
