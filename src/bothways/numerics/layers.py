"""The layers of a module: what passes through them, which are measured, and where the channels of a map are.

A map is read as (B,C,H,W). Where a module has its channels is a fact of what it computes for convolutions,
normalisations and linear maps; of every other module it is seen: the dimension that grows with the width of the
picture is no channel. In a network that takes one size alone it is the dimension with as many as the last module had
whose channels are known, or the one beside which the others are as high to wide as the picture; else it is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from bothways.numerics.modules import parts_of
from bothways.types import UserError

FIRST, LAST = 1, 3
INPUT, TOKEN, OUTPUT = ":input", ":first", ":output"
SIDES = ("", INPUT, TOKEN, OUTPUT)
"""What may follow the name of a layer; ":output" alone is what the whole module gives, ":first" the first token."""
POOLS = (nn.AvgPool2d, nn.MaxPool2d, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d, nn.LPPool2d)
CHANNELS_FIRST = (nn.Conv2d, nn.ConvTranspose2d, nn.BatchNorm2d, nn.InstanceNorm2d, nn.GroupNorm, nn.Upsample, *POOLS)
ROUNDING = 1e-3  # of the largest output, between what a head gives and what the network makes of it
Shapes = dict[str, tuple[int, ...]]


@contextmanager
def recorded(
    parts: Mapping[str, nn.Module], layers: Sequence[str], keep: Callable[[str, Tensor], Tensor | None], model: str
) -> Iterator[None]:
    """``keep(layer, value)`` for every tensor that passes one of the layers, a name with one of ``SIDES``.

    A tensor that it returns goes on in place of the value.

    Raises UserError for an unknown layer, with the nearest names. model: its name, for the message.
    """
    with ExitStack() as hooks:
        for layer in layers:
            hooks.callback(_hooked(parts, layer, keep, model).remove)
        yield


def _hooked(
    parts: Mapping[str, nn.Module], layer: str, keep: Callable[[str, Tensor], Tensor | None], model: str
) -> RemovableHandle:
    name, colon, side = layer.partition(":")
    if name not in parts or colon + side not in SIDES:
        near = get_close_matches(name, [n for n in parts if n], n=5, cutoff=0.3)
        nearest = f"the nearest are {', '.join(near)}; " if near else ""
        raise UserError(f"model {model!r} has no layer {layer!r}; {nearest}bothways layers {model} lists all")

    def entering(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        if inputs and isinstance(inputs[0], Tensor) and (other := keep(layer, inputs[0])) is not None:
            return (other, *inputs[1:])
        return None

    def leaving(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Tensor | None:
        return keep(layer, output) if isinstance(output, Tensor) else None

    def first(_module: nn.Module, _inputs: tuple[Any, ...], output: Any) -> Tensor | None:
        if not isinstance(output, Tensor) or output.ndim != 3:
            return None
        other = keep(layer, output[:, 0])
        return None if other is None else torch.cat([other[:, None], output[:, 1:]], 1)

    if colon + side == INPUT:
        return parts[name].register_forward_pre_hook(entering)
    return parts[name].register_forward_hook(first if colon + side == TOKEN else leaving)


# ---- where the channels are ----------------------------------------------------------------------------------------


def channels_place(module: nn.Module) -> int | None:
    """The dimension of the channels of what enters and leaves a module, where what it computes says so.

    FIRST for convolutions, pools and normalisations over dimension 1; LAST for linear maps and layer normalisation as
    torch has it. A layer normalisation with a forward of its own may turn its maps around, as those of ConvNeXt do, so
    it is asked: one that holds channels last cannot take a map with C channels in front and C + 1 columns.
    """
    forward = type(module).forward
    if isinstance(module, CHANNELS_FIRST) or running_statistics(module):
        return FIRST
    if forward is nn.Linear.forward:
        return LAST
    if not isinstance(module, nn.LayerNorm):
        return None
    if len(module.normalized_shape) != 1:
        return FIRST  # over the whole of (C,H,W)
    if forward is nn.LayerNorm.forward:
        return LAST
    like, channels = next(module.parameters(), torch.empty(0)), module.normalized_shape[0]
    try:
        module.forward(like.new_zeros(1, channels, 1, channels + 1))
    except Exception:  # whatever a class of someone else's raises
        return LAST
    return FIRST


class _Enough(Exception):  # noqa: N818 - no error: it ends a pass whose rest is not looked at
    pass


class Layout:
    """Where each layer of a module has its channels; what is looked up once is kept.

    name: of the model, for messages. parts: the modules by name. look: (height, width) -> one forward pass of a picture
    of that size, which may raise. size: (height, width) that the module is stated for.
    """

    def __init__(
        self,
        name: str,
        parts: Callable[[], Mapping[str, nn.Module]],
        look: Callable[[int, int], object],
        size: tuple[int, int],
    ) -> None:
        self._name, self._modules, self._look, self._size = name, parts, look, size
        self._known: dict[str, int] = {}

    def heads(self, outputs: int) -> dict[str, Tensor]:
        """``heads_of`` the modules."""
        return heads_of(self._modules(), outputs)

    def in_front(self, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Maps (B,...) of these layers as (B,C,H,W); the rest as it is. Raises UserError where ``told`` omits one."""
        found = self.told(seen)
        for layer, value in seen.items():
            if layer not in found:
                raise UserError(
                    f"model {self._name!r}: layer {layer!r} gives {tuple(value.shape[1:])} at every size of the "
                    "picture that it takes, which does not tell the channels; type a layer inside it"
                )
        return found

    def told(self, seen: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``in_front`` without the layers whose channels cannot be told."""
        if not self._known and any(value.ndim == 4 for value in seen.values()):
            self._known = _stated(self._modules())
        maps = [layer for layer, value in seen.items() if value.ndim == 4 and layer not in self._known]
        if maps:
            self._known |= self._seen(maps)
        return {
            layer: value.movedim(self._known[layer], 1) if value.ndim == 4 else value
            for layer, value in seen.items()
            if value.ndim != 4 or layer in self._known
        }

    @torch.no_grad()
    def _seen(self, layers: Sequence[str]) -> dict[str, int]:
        """By the shapes at several widths; where none is taken, by the module that was last to run."""
        shapes, last = self._pass(layers, *self._size)
        found: dict[str, int] = {}
        height, width = self._size
        for other in (width // 2, 2 * width, width + 32):
            left = [layer for layer in layers if layer not in found]
            if not left:
                break
            wider, _ = self._pass(left, height, max(1, other))
            found |= {layer: place for layer in left if (place := _by_width(shapes.get(layer), wider.get(layer)))}
        fixed = {layer: self._by_shape(shapes.get(layer), last.get(layer)) for layer in layers if layer not in found}
        return found | {layer: place for layer, place in fixed.items() if place}

    def _by_shape(self, shape: tuple[int, ...] | None, last: tuple[int, int] | None) -> int | None:
        return (_by_count(shape, last) or _by_aspect(shape, self._size)) if shape and len(shape) == 4 else None

    def _pass(self, layers: Sequence[str], height: int, width: int) -> tuple[Shapes, dict[str, tuple[int, int]]]:
        """({layer: shape}, {layer: (channels, their place) of what had run by then}), as far as the pass comes."""
        shapes: Shapes = {}
        last: dict[str, tuple[int, int]] = {}
        ran: list[tuple[int, int]] = []

        def keep(layer: str, value: Tensor) -> None:
            shapes[layer] = tuple(value.shape)
            if ran:
                last[layer] = ran[-1]
            if len(shapes) == len(set(layers)):
                raise _Enough

        def note(place: int) -> Callable[..., None]:
            def noted(_module: nn.Module, _inputs: object, output: object) -> None:
                if isinstance(output, Tensor) and output.ndim == 4:
                    ran.append((output.shape[place], place))

            return noted

        parts = self._modules()
        with ExitStack() as hooks:
            for name, part in parts.items():
                if name and (place := self._known.get(name)) is not None:
                    hooks.callback(part.register_forward_hook(note(place)).remove)
            hooks.enter_context(recorded(parts, layers, keep, self._name))
            with suppress(
                Exception
            ):  # _Enough too, and a size that is not taken: what was passed on the way counts all the same
                self._look(height, width)
        return shapes, last


def _stated(parts: Mapping[str, nn.Module]) -> dict[str, int]:
    """The places of the channels of what enters and leaves the modules that say so; the pictures' own are in front."""
    known = {"": FIRST, ":input": FIRST, "outputs": FIRST}
    for name, part in parts.items():
        if name and (place := channels_place(part)) is not None:
            known |= {name: place, f"{name}:input": place}
    return known


def _by_width(shape: tuple[int, ...] | None, wider: tuple[int, ...] | None) -> int | None:
    """The place of the channels: behind or before that of the columns, which alone follow the width."""
    if shape is None or wider is None or len(shape) != 4 or len(wider) != 4:
        return None
    changed = [place for place in (1, 2, 3) if shape[place] != wider[place]]
    return {3: FIRST, 2: LAST}.get(changed[0]) if len(changed) == 1 else None


def _by_count(shape: tuple[int, ...], last: tuple[int, int] | None) -> int | None:
    """The one dimension that has as many as there were channels where the last module ran whose channels are known."""
    fitting = [place for place in (FIRST, LAST) if last is not None and shape[place] == last[0]]
    return fitting[0] if len(fitting) == 1 else None


def _by_aspect(shape: tuple[int, ...], size: tuple[int, int]) -> int | None:
    """The one beside which the two others are as high to wide as the picture."""
    height, width = size
    fitting = [
        place for place, (h, w) in ((FIRST, shape[2:]), (LAST, shape[1:3])) if abs(h * width - w * height) < max(size)
    ]
    return fitting[0] if len(fitting) == 1 else None


def running_statistics(module: nn.Module) -> tuple[Tensor, Tensor] | None:
    """(mean (C,), variance (C,)) that a normalisation keeps of its training, frozen or not; None for any other."""
    kept = dict(module.named_buffers(recurse=False))
    return (kept["running_mean"], kept["running_var"]) if {"running_mean", "running_var"} <= set(kept) else None


# ---- which are measured, and which is the head ----------------------------------------------------------------------


def normalised_layers(parts: Mapping[str, nn.Module]) -> list[str]:
    """What enters the normalisations, "NAME:input" each; where there are none, what leaves the convolutions."""
    norms = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
    inputs = [f"{name}:input" for name, part in parts.items() if isinstance(part, norms) or running_statistics(part)]
    return inputs or [name for name, part in parts.items() if isinstance(part, nn.Conv2d)]


def head_of(module: nn.Module, outputs: int) -> tuple[str, Tensor] | None:
    """("NAME:input", rows (outputs, D)) of the last of ``heads_of``, if any."""
    heads = heads_of(parts_of(module), outputs)
    return next(((f"{name}{INPUT}", rows) for name, rows in reversed(heads.items())), None)


def heads_of(parts: Mapping[str, nn.Module], outputs: int) -> dict[str, Tensor]:
    """{NAME: rows (outputs, D)} of every linear map and 1x1 convolution with a row an output, in their order."""
    return {
        name: part.weight.detach().flatten(1)
        for name, part in parts.items()
        if isinstance(part, nn.Linear | nn.Conv2d)
        and getattr(part, "kernel_size", (1, 1)) == (1, 1)
        and len(part.weight) == outputs
    }


def called_head(heads: Mapping[str, Tensor], seen: Mapping[str, Tensor], outputs: Tensor) -> str | None:
    """Of ``heads_of``, the last whose values, averaged over positions, are the outputs; else the last that was called.

    seen: what a pass recorded. A network may hold a head of another task, which no picture goes through.
    """
    called = [name for name, rows in heads.items() if name in seen and len(rows) == outputs.shape[1]]
    means = {name: seen[name].flatten(2).mean(2) if seen[name].ndim == 4 else seen[name] for name in called}
    near = ROUNDING * outputs.abs().max()
    giving = [n for n, v in means.items() if v.shape == outputs.shape and bool((v - outputs).abs().max() <= near)]
    return next(reversed(giving or called), None)
