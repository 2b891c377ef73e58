"""Activations of a velocity network at a depth, in one forward pass, as features of an image.

f = mean over space of h_layer(x, t),   t = 1 - depth,   x the picture as it is, or a(t) x + s(t) z on its path

Xiang et al. 2023, arXiv 2303.09769 (denoising diffusion autoencoders). The pass stops after the last requested layer:
a U-Net's middle costs half of a velocity.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from bothways.numerics.layers import Layout, recorded
from bothways.numerics.modules import parts_of, uncompiled
from bothways.representation.paths import interpolate
from bothways.types import Path, UserError

MIDDLE = "network.middle"  # of models/velocity.Flow over models/nets/unet.UNet


def activations(
    flow: nn.Module,
    x: Tensor,
    depth: float,
    layers: Sequence[str],
    *,
    path: Path | None = None,
    noise: Tensor | None = None,
    pooled: bool = True,
) -> dict[str, Tensor]:
    """Activations {layer: (B,D)} at t = 1 - depth, or raw layer outputs if not ``pooled``; differentiable.

    flow: called as (x, t). x: (B,C,H,W) in its own units. layers: dotted names of its modules; a ModuleList stands for
    its last module. noise: (B,C,H,W) or (1,C,H,W), N(0, 1), mixed in along ``path``; None for the clean picture.
    Raises UserError for a depth outside [0, 1], and for a layer that does not exist or returns no tensor.
    """
    if not 0 <= depth <= 1:
        raise UserError(f"depth={depth}; type a number from 0 (the picture) to 1 (noise)")
    t = torch.full((len(x),), 1.0 - depth, dtype=x.dtype, device=x.device)
    if noise is not None:
        if path is None:
            raise UserError("noise needs the path along which it is mixed in; give path= too")
        x = interpolate(path, x, noise, t)[0]
    seen = _recorded(flow, x, t, tuple(layers))
    missing = [layer for layer in layers if layer not in seen]
    if missing:
        raise UserError(f"layer {missing[0]!r} is not used in the forward pass or returns no tensor; type another")
    return {layer: spatial_mean(seen[layer]) if pooled else seen[layer] for layer in layers}


def middle_layer(flow: nn.Module) -> str:
    """Name of the middle layer of a flow over the package's U-Net. Raises UserError, with names, for any other."""
    layer_module(flow, MIDDLE)
    return MIDDLE


def layer_module(flow: nn.Module, layer: str) -> nn.Module:
    """The module with a dotted name. Raises UserError with the nearest names if there is none."""
    modules = parts_of(flow)
    if layer not in modules or not layer:
        names = [name for name in modules if name]
        near = get_close_matches(layer, names, n=5, cutoff=0.3) or names[:5]
        raise UserError(f"the flow has no layer {layer!r}; type one that it has: {', '.join(near)}")
    module = modules[layer]
    return module[-1] if isinstance(module, nn.ModuleList) and len(module) else module


def _inner(flow: nn.Module, layer: str) -> str:
    """The name of a module, of a list of modules that of its last."""
    parts = parts_of(flow)
    layer_module(flow, layer)
    while isinstance(parts[layer], nn.ModuleList) and len(parts[layer]):  # type: ignore[arg-type]
        layer = f"{layer}.{len(parts[layer]) - 1}"  # type: ignore[arg-type]
    return layer


def spatial_mean(seen: Tensor) -> Tensor:
    """Mean over space of a map (B,D,H,W), or over tokens of (B,N,D), -> (B,D); a vector is returned as it is."""
    if seen.ndim == 4:
        return seen.mean((2, 3))
    return seen.mean(1) if seen.ndim == 3 else seen


class _Enough(Exception):  # noqa: N818 - not an error: it stops a forward pass after the last requested layer
    pass


_LAYOUTS: WeakKeyDictionary[nn.Module, Layout] = WeakKeyDictionary()  # of each flow that was read, while it lives


def _recorded(flow: nn.Module, x: Tensor, t: Tensor, layers: Sequence[str]) -> Mapping[str, Tensor]:
    """Outputs of the layers in one pass, float32 or better, without layers that returned no tensor."""
    seen: dict[str, Tensor] = {}
    named = {layer: _inner(flow, layer) for layer in layers}

    def keep(layer: str, value: Tensor) -> None:
        half = value.dtype in (torch.bfloat16, torch.float16)
        seen[layer] = value.float() if half else value.clone()  # what follows may write over it in place
        if len(seen) == len(set(named.values())):
            raise _Enough

    with recorded(parts_of(flow), list(named.values()), keep, "flow"), uncompiled(flow), suppress(_Enough):
        flow(x.clone(), t)  # a network may work in place
    maps = _layout(flow, x).in_front(seen)
    return {layer: maps[name] for layer, name in named.items() if name in maps}


def _layout(flow: nn.Module, x: Tensor) -> Layout:
    """Where the layers of a flow have their channels; what is looked up once is kept."""
    if flow not in _LAYOUTS:
        own, channels, like = ref(flow), x.shape[1], x.new_zeros(())

        def parts() -> Mapping[str, nn.Module]:
            held = own()
            assert held is not None
            return parts_of(held)

        def look(height: int, width: int) -> object:
            with uncompiled(flow := parts()[""]):
                return flow(like.new_zeros(1, channels, height, width), like.new_full((1,), 0.5))

        size = (x.shape[-2], x.shape[-1])
        _LAYOUTS[flow] = Layout(getattr(flow, "name", type(flow).__name__), parts, look, size)
    return _LAYOUTS[flow]
