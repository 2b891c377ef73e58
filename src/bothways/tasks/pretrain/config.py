"""The settings of ``pretrain``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator

from bothways.brief import shown
from bothways.configs import Live, chosen, setting
from bothways.data.config import READ
from bothways.registry import register
from bothways.training.config import (
    FitConfig,
    FlowAugmentationConfig,
    FlowHoldoutConfig,
    FlowRunConfig,
    TrainingConfig,
    drop_alternative,
)
from bothways.types import UserError


def _addressed(given: Any) -> Any:
    """A network is built again by whoever loads the run, which an object of Python cannot be."""
    if given is not None and not isinstance(given, str):
        raise UserError(
            f"net is {shown(given)}; type a size such as unet-small, or PATH.py:FUNCTION, by which it is built again"
        )
    return given


class PretrainRunConfig(FlowRunConfig):
    """The run, and how often a probe is fitted during it."""

    probe_every: int = setting(
        0,
        "steps between linear probes on features of labelled held-out pictures, half of which fit it and half test it; "
        "0 for none",
        ge=0,
    )


@register("task", "pretrain", help="Train a flow between noise and pictures by flow matching.")
class PretrainConfig(TrainingConfig):
    """Train a flow between noise and pictures by flow matching: a network regresses the velocity of the paths.

    loss = mean over x, z, t of 1/2 ||v(x_t, t) - (a' x + s' z)||^2

    The run folder holds flow.json and flow.safetensors, samples, the loss of every step, and report.html.

    Data are digits or swiss-roll (no download), a folder of image files, a parquet or tar file or a folder of them,
    hub:OWNER/NAME, or a stream of shards, stream:ADDRESS.

    A run that was stopped or killed gives the same weights with --resume.

    Examples
    bothways pretrain --data digits --out runs/digits
    bothways pretrain gvp --data photos/ --size 32 --steps 20000 --out runs/gvp
    bothways pretrain --data path/to/pictures --path linear --coupling sinkhorn --net unet-small --resume
    bothways pretrain --data digits --path my.py:sine
    torchrun --nproc_per_node 2 -m bothways.cli pretrain --data path/to/pictures --device cuda --bf16
    """

    gives: ClassVar[str] = "a Pretrained: the flow, with averaged weights, frames, folder and measures"
    recipe_task: ClassVar[str] = "pretrain"
    own_recipe: ClassVar[str] = "otcfm"
    processes: ClassVar[bool] = True
    headlines: ClassVar[Mapping[str, tuple[str, ...]]] = {"Loss on held-out pictures": ("flow.validation_loss",)}

    data: Live = setting(..., "training pictures: digits, swiss-roll, a path, hub:NAME")
    recipe: str = setting(
        own_recipe, "recipe: icfm, otcfm, gvp, prg-paper-flow, cifar10-flow, or a .toml file", argument=True
    )
    path: chosen("path") = setting("linear", "probability path from noise to picture", common=True)  # type: ignore[valid-type]
    coupling: chosen("coupling") = setting(  # type: ignore[valid-type]
        "independent", "coupling of pictures and noise", common=True
    )
    net: Annotated[str | None, BeforeValidator(_addressed)] = setting(
        None,
        "U-Net: unet-tiny, unet-small, or a size of the papers: unet-s, unet-m, unet-64, unet-torchcfm; or "
        "PATH.py:FUNCTION of your own, v(x, t) or v(t, x), with :xt or :tx behind it where both would do; if unset, "
        "unet-tiny up to 16 pixels, else unet-small",
        common=True,
    )
    network: dict[str, Any] = setting({}, "options of a custom U-Net, instead of net")
    init: Live = setting(
        None,
        "flow whose weights are the initial ones, where names and shapes are alike: a run of bothways pretrain or "
        "finetune, or an address",
        common=True,
    )
    size: int | None = setting(None, "side length in pixels; if unset, that of the pictures", ge=1, common=True)
    seed: int = setting(0, "random seed of the initial weights, data order, noise and times", ge=0, common=True)
    holdout: FlowHoldoutConfig = FlowHoldoutConfig()
    augmentation: FlowAugmentationConfig = FlowAugmentationConfig()
    fit: FitConfig = FitConfig()
    run: PretrainRunConfig = PretrainRunConfig()
    split: str | None = setting(None, READ, common=True)

    @classmethod
    def merged(cls, recipe: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
        """Merge changes into the recipe; steps replace epochs, net replaces network, and vice versa."""
        return super().merged(drop_alternative(recipe, changes, "", "net", "network"), changes)
