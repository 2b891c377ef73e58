"""The settings of ``plan``."""

from __future__ import annotations

from typing import Any, ClassVar

from bothways.configs import Config, setting
from bothways.registry import register


@register("task", "plan", help="What a training will cost: operations, memory, hours, disk, money. Nothing is trained.")
class PlanConfig(Config):
    """What a training will cost on a device: operations, memory by part, images/s, hours, disk and money.

    A step of the training is counted on tensors without numbers, so that no network is too large to be planned here.
    The memory is that of torch's tensors on each device. The time is the operations over a share of the device's peak
    (--utilisation), which is a guess, or what --probe measures on this machine.

    Give a recipe of a training, or the command itself with its own arguments. Pictures need not be there where the
    recipe has a table of what it is for, as those of paper/ have; nor does a flow: the FLOW of finetune may be the
    recipe that trains it. --device is that of the plan.

    Counted are the command's own settings, among them --tune, --accumulate and --checkpoint-activations of finetune,
    and --fsdp, with which several devices hold shares of the weights.

    Examples
    bothways plan paper/cifar10-otcfm-s --device a100:4
    bothways plan pretrain paper/tiny-imagenet-gvp --net unet-s --batch 512 --device h100:8 --price 3
    bothways plan finetune paper/cifar10-otcfm-s --device a100-80:4 --steps 5 --depth 0.25
    bothways plan finetune paper/cifar10-otcfm-s --device l4:2 --fsdp --tune lora:8 --accumulate 2
    bothways plan finetune runs/flow --data path/to/cifar10 --labels 500 --batch 50 --probe
    """

    gives: ClassVar[str] = "a Plan: facts of memory, time and operations; fits and hours"
    reports: ClassVar[bool] = False
    file: ClassVar[str] = "runs/plan.json"
    takes_command: ClassVar[bool] = True
    positional: ClassVar[tuple[str, ...]] = ("command", "given")

    command: str = setting(
        ..., "pretrain or finetune, with its own arguments and flags; or a recipe of one.", argument=True
    )
    given: dict[str, Any] = setting({}, "what that command is given, by name")
    device: str = setting(
        "cpu",
        "device: cpu, cuda or mps of this machine; or a100, a100-80, h100, h200, l4, l40s, a10, rtx4090, mi300x, and "
        "how many of them, as h100:8",
        common=True,
    )
    price: float | None = setting(None, "money for an hour of one device", gt=0, common=True)
    utilisation: float = setting(
        0.17,
        "share of the peak of a listed device that the training reaches: a guess, which the time is by; the paper's "
        "times on four A100 come to .16 to .17",
        gt=0,
        le=1,
        common=True,
    )
    probe: bool = setting(False, "measure the time of a few steps on the device of this machine", common=True)
