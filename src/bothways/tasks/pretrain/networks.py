"""The network of a pretraining: one of the package by a size or options, or one of a user's own file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from bothways.data.images import check_crop
from bothways.models.calls import reason
from bothways.models.catalogue import OWN, build_network
from bothways.models.nets.own import FORM, split_order
from bothways.models.nets.unet import SIZES
from bothways.models.velocity import Flow, tried_on
from bothways.registry import is_address
from bothways.tasks.pretrain.config import PretrainConfig
from bothways.types import ModelSpec, UserError

NETS: dict[str, dict[str, Any]] = {**SIZES, "points": {"builder": "points"}}
TIME_SCALE = 1000.0  # of the package's networks; one of a user's own takes t from 0 to 1


def built(config: PretrainConfig, spec: ModelSpec) -> tuple[nn.Module, dict[str, Any], ModelSpec]:
    """The network with initial weights from the seed, the options that build it, and its spec.

    spec: without what depends on the network. Raises UserError for a network that is not known or does not fit.
    """
    channels, size = 1 if spec.channel_order == "grey" else 3, (spec.height, spec.width)
    if config.net is not None and is_address(config.net):
        return _of_file(config, spec, channels, size)
    network, options = _of_package(config, channels, size)
    return network, options, replace(spec, time_scale=TIME_SCALE)


def _of_file(
    config: PretrainConfig, spec: ModelSpec, channels: int, size: tuple[int, int]
) -> tuple[nn.Module, dict[str, Any], ModelSpec]:
    address, time_first = split_order(str(config.net))
    options: dict[str, Any] = {"name": OWN, "build": address, "channels": channels, "size": list(size)}
    with torch.random.fork_rng():  # initial weights from the seed, without changing the caller's random state
        torch.random.manual_seed(config.seed)
        network = build_network(**options)
        order = time_first_of(network, spec, address, time_first)
    try:
        check_crop(config.augmentation.crop, *size)
    except ValueError as error:
        raise UserError(f"recipe {config.recipe!r} cannot train: {error}") from error
    return network, options, replace(spec, time_first=order)


@torch.no_grad()
def time_first_of(network: nn.Module, spec: ModelSpec, address: str, stated: bool | None) -> bool:
    """Whether the time is the first argument of a network: as stated, else by calling it once in each order.

    Raises UserError where it gives no velocity, or gives one in either order.
    """
    several = 2 if spec.width != 2 else 3  # a time for each that is taken for one a column does not fit
    given = {
        first: tried_on(Flow(network, replace(spec, time_first=first), address).eval(), several)
        for first in ((False, True) if stated is None else (stated,))
    }
    fitting = [first for first, found in given.items() if isinstance(found, Tensor)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise UserError(
            f"net {address!r} takes x and t in either order, so that it cannot be told which it means; "
            f"type {address}:xt for v(x, t), or {address}:tx for v(t, x)"
        )
    error = given[False if stated is None else stated]
    assert isinstance(error, Exception)
    shapes = f"x {(several, *Flow(network, spec).shape)} and t ({several},)"
    raise UserError(f"net {address!r} gives no velocity of {shapes}: {reason(error)}; {FORM}") from error


def _of_package(config: PretrainConfig, channels: int, size: tuple[int, int]) -> tuple[nn.Module, dict[str, Any]]:
    if config.net is not None and config.net not in NETS:
        raise UserError(f"net={config.net!r} is not known; type one of {', '.join(NETS)}, or PATH.py:FUNCTION")
    options = dict(NETS[config.net] if config.net else config.network)
    builder = options.pop("builder", "unet")
    if builder not in ("unet", "points"):
        raise UserError(f'[network] builder = {builder!r} is not known; type builder = "unet"')
    try:
        with torch.random.fork_rng():  # initial weights from the seed, without changing the caller's random state
            torch.random.manual_seed(config.seed)
            network = build_network(builder, channels=channels, **options)
        check_crop(config.augmentation.crop, *size)
    except (TypeError, ValueError, RuntimeError, ZeroDivisionError) as error:
        raise UserError(f"recipe {config.recipe!r} cannot train: {str(error).splitlines()[0]}") from error
    factor = int(network.factor)  # type: ignore[arg-type]
    if builder == "points" and size != (1, 1):
        raise UserError(f"net 'points' takes pictures of one pixel, not {size[0]}x{size[1]}; type --net unet-tiny")
    if size[0] % factor or size[1] % factor:
        near = max(factor, min(size) // factor * factor)
        raise UserError(
            f"pictures of {size[0]}x{size[1]} pixels do not go into network {config.net or 'of the recipe'}, whose "
            f"sides are multiples of {factor}; type --size {near}"
        )
    _check_options(config, builder, channels, size, options)
    return network, {"name": builder, "channels": channels, **options}


def _check_options(
    config: PretrainConfig, builder: str, channels: int, size: tuple[int, ...], options: dict[str, Any]
) -> None:
    """Raise UserError if the parts of the network do not fit together, checked by shapes without computation."""
    try:
        with torch.device("meta"), torch.no_grad():
            build_network(builder, channels=channels, **options)(torch.zeros(1, channels, *size), torch.zeros(1))
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"recipe {config.recipe!r} cannot train: its network of {options} gives no velocity "
            f"({str(error).splitlines()[0]}); type --net unet-tiny, or an even width that its heads divide"
        ) from error
