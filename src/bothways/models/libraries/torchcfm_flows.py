"""``torchcfm:FILE.pt``: a CIFAR-10 checkpoint of torchcfm, loaded into the package's U-Net of the same size.

    input_blocks.N.0      residual block        .1 attention     .0.op    half the size      (N = 0: the first layer)
    output_blocks.N.0     residual block        .1 attention     .M.conv  twice the size     (M: the last)

Pictures are in [-1, 1], the path is linear and the time is not scaled: Tong et al. 2023, arXiv 2302.00482. The EMA
weights of the file are used. The names are those of Dhariwal & Nichol 2021, arXiv 2105.05233.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bothways.models.libraries.hub import Loaded
from bothways.models.nets.unet import SIZES, Stage, UNet
from bothways.reading import at_home, is_there
from bothways.types import ModelSpec, UserError

AVERAGED = "ema_model"
SIZE = "unet-torchcfm"
OUTSIDE = {"time.0": "time_embed.0", "time.2": "time_embed.2", "stem": "input_blocks.0.0", "head.0": "out.0",
           "head.2": "out.2"}  # fmt: skip
RESIDUAL = {"norm1": "in_layers.0", "conv1": "in_layers.2", "time": "emb_layers.1", "norm2": "out_layers.0",
            "conv2": "out_layers.3", "skip": "skip_connection"}  # fmt: skip
ATTENTION = {"norm": "norm", "project": "qkv", "out": "proj_out"}


def from_torchcfm(name: str) -> Loaded:
    """Load a checkpoint's network and ModelSpec. Raises UserError for any other file."""
    found, network = _weights(at_home(name)), UNet(**SIZES[SIZE])
    expected = network.state_dict()
    theirs = dict(_names(network))
    keys = {f"{theirs[key.rpartition('.')[0]]}.{key.rpartition('.')[2]}": key for key in expected}
    missing = [key for key in keys if key not in found]
    extra = [key for key in found if key not in keys]
    shapes = [key for key, own in keys.items() if key in found and found[key].numel() != expected[own].numel()]
    if missing or extra or shapes:
        parts = (("missing", missing), ("not in it", extra), ("of another shape", shapes))
        reason = "; ".join(f"{what}: {', '.join(odd[:3])}" for what, odd in parts if odd)
        raise UserError(
            f"flow 'torchcfm:{name}' is not {SIZE}, the network of torchcfm's CIFAR-10 example ({reason}); "
            "build yours in PATH.py:FUNCTION"
        )
    # their attention projections are 1-d convolutions of width one: the same weights with one more dimension
    network.load_state_dict({own: found[key].view(expected[own].shape) for key, own in keys.items()})
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    half = (0.5, 0.5, 0.5)
    spec = ModelSpec(32, half, half, 0, path="linear", time_scale=1.0, source=f"torchcfm:{name}", licence="MIT")
    return Loaded(network, spec)


def _weights(path: Path) -> dict[str, Tensor]:
    if not is_there(path):
        raise UserError(f"flow 'torchcfm:{path}': the file does not exist; type torchcfm:FILE.pt")
    try:
        held: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged or unsafe files raise exceptions of any class
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"flow 'torchcfm:{path}' cannot be read by torch.load(weights_only=True): {reason}; "
            "type a checkpoint of torchcfm's CIFAR-10 example"
        ) from error
    found = held.get(AVERAGED) if isinstance(held, dict) else None
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        keys = ", ".join(map(str, list(held)[:4])) if isinstance(held, dict) else type(held).__name__
        raise UserError(f"flow 'torchcfm:{path}' holds no {AVERAGED!r} but {keys}; type a checkpoint of torchcfm")
    return {key.removeprefix("module."): value.float() for key, value in found.items()}


def _names(network: UNet) -> Iterator[tuple[str, str]]:
    """Pairs (module name here, module name in torchcfm)."""
    yield from OUTSIDE.items()
    for place, stage in enumerate(network.down):
        yield from _stage(stage, f"down.{place}", f"input_blocks.{place + 1}", "op", "resample")
    for place, stage in enumerate(network.up):
        yield from _stage(stage, f"up.{place}", f"output_blocks.{place}", "conv", "resample.conv")
    parts = {"middle.0.residual": ("0", RESIDUAL), "middle.0.attend": ("1", ATTENTION)}
    for ours, (number, table) in (parts | {"middle.1.residual": ("2", RESIDUAL)}).items():
        yield from _part(ours, f"middle_block.{number}", table)


def _stage(stage: nn.Module, ours: str, theirs: str, resampling: str, resample: str) -> Iterator[tuple[str, str]]:
    """Name pairs of one stage, which torchcfm stores as a list of its present parts."""
    assert isinstance(stage, Stage)
    number = 0
    for part, table in (("residual", RESIDUAL), ("attend", ATTENTION)):
        if getattr(stage, part) is not None:
            yield from _part(f"{ours}.{part}", f"{theirs}.{number}", table)
            number += 1
    if stage.resample is not None:
        yield f"{ours}.{resample}", f"{theirs}.{number}.{resampling}"


def _part(ours: str, theirs: str, table: dict[str, str]) -> Iterator[tuple[str, str]]:
    return ((f"{ours}.{own}", f"{theirs}.{name}") for own, name in table.items())
