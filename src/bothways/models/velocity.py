"""Adapter of a flow or diffusion network and its ModelSpec to a velocity field from noise to images.

v(x, t) = network(x, time_scale * t),   code(image) = (image - mean) / std,   t = 0 noise, t = 1 image

A flow on latents encodes what code would give by its autoencoder, and decodes what it walked.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from bothways.budget import no_memory_left
from bothways.models.adapter import DTYPES
from bothways.models.calls import check_dtype, reason, remedy, warn_random
from bothways.models.libraries.latents import Latents
from bothways.numerics.modules import evaluating, own_dtype
from bothways.registry import is_address
from bothways.representation.paths import path_of
from bothways.types import ModelSpec, Path, RunError, UserError


class Flow(nn.Module):
    """A network with its ModelSpec as a ``types.Flow``.

    network: (x (B,C,H,W), time (B,)) -> dx/dt like x, C = 3, or 1 where the spec says "grey", in the precision of its
        parameters; one that wraps it as ``.sample``, as those of diffusers do, is read too. Unless the flow is in train
        mode, the network is in eval mode during each call, and in its own after it.
    spec: mean and std turn a picture into the network's units; ``time_scale`` multiplies t; ``path`` names the path.
    dtype: "float32", or "bf16" / "float16" for autocast; the velocity comes in the precision of x.
    path: the path itself, for one that no name stands for.
    latents: of a flow on latents, the autoencoder (libraries/latents.py). It moves with the flow, and is no part of its
        parameters, its state or its modules: it is never trained.
    Raises UserError for an unknown dtype, and when called for a network that returns anything else; RunError where no
    memory is left.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        spec: ModelSpec,
        name: str = "flow",
        *,
        dtype: str = "float32",
        path: Path | None = None,
        latents: Latents | None = None,
    ) -> None:
        super().__init__()
        self._latents = (latents,)  # in a tuple, where torch does not find it
        check_dtype(dtype, DTYPES)
        self.network, self.spec, self.name, self.dtype, self._path = network, spec, name, dtype, path
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)

    @property
    def path(self) -> Path:
        """The probability path of the network's training, t -> its coefficients.

        Raises UserError if there is none, or for an unknown name, such as that of a Python function.
        """
        if self._path is None:  # cached: path_of would run a user's file again at every call
            named = self.spec.path or ""
            try:
                self._path = path_of(named)
            except UserError as error:
                own = "" if not named or is_address(named) else f"; if it was a Python function, give path={named}"
                raise UserError(f"flow {self.name!r}: {error}{own}") from error
        return self._path

    @property
    def latents(self) -> Latents | None:
        """The autoencoder of a flow on latents."""
        return self._latents[0]

    def _apply(self, fn: Any, recurse: bool = True) -> Flow:
        """Moves and casts the autoencoder too."""
        if self.latents is not None:
            self.latents._apply(fn, recurse)
        return super()._apply(fn, recurse)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of one x."""
        if (latents := self.latents) is not None:
            return latents.channels, self.spec.height // latents.factor, self.spec.width // latents.factor
        return (1 if self.spec.channel_order == "grey" else 3), self.spec.height, self.spec.width

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        kind = own_dtype(self.network) or x.dtype
        given = x.to(kind, copy=True), (t * (self.spec.time_scale or 1.0)).to(kind)  # a network may work in place
        # an autocast that is disabled would undo the one of whoever trains it
        half = self.dtype != "float32"
        try:
            with (
                torch.autocast(x.device.type, DTYPES[self.dtype]) if half else nullcontext(),
                nullcontext() if self.training else evaluating(self.network),
            ):
                found = self.network(*(reversed(given) if self.spec.time_first else given))
        except (MemoryError, RuntimeError) as error:
            if not no_memory_left(error):
                raise
            raise RunError(
                f"flow {self.name!r}: no memory is left for {len(x)} pictures; type a smaller --batch, or --device cpu"
            ) from error
        found = getattr(found, "sample", found)
        if not isinstance(found, Tensor) or found.shape != x.shape:
            what = f"a tensor {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
            raise UserError(
                f"flow {self.name!r} returns {what} for x {tuple(x.shape)}; give a module of (x, time) whose forward "
                "returns the velocity alone, a tensor like x"
            )
        return found.to(x.dtype)

    def code(self, image: Tensor) -> Tensor:
        """(B,3,H,W) in [0,1] -> the flow's units. Of a flow on latents, what has their shape is one already."""
        if self.latents is not None and image.shape[1:] == self.shape:
            return image
        x = image if self.spec.channel_order != "BGR" else image.flip(1)
        x = (x - self.mean.to(image.dtype)).div_(self.std.to(image.dtype))
        if self.latents is not None:
            return self.latents.code(x)
        return x.mean(1, keepdim=True) if self.spec.channel_order == "grey" else x

    def picture(self, x: Tensor) -> Tensor:
        """The inverse of ``code``, not clamped; of latents, as near as the autoencoder comes."""
        x = x if self.latents is None else self.latents.picture(x)
        image = x.expand(-1, 3, -1, -1) * self.std.to(x.dtype) + self.mean.to(x.dtype)
        return image.flip(1) if self.spec.channel_order == "BGR" else image


@torch.no_grad()
def check_flow(flow: Flow) -> Flow:
    """Compute velocities at the stated size, so that wrong facts are refused before anything is walked.

    A network of (t, x) is found by asking it, and its spec then says so. Raises UserError for a network that gives no
    velocity of several pictures in either order, and for facts that no flow has.
    """
    flow.path(torch.ones(1))  # an unknown name is refused
    if flow.spec.count or flow.spec.feature_layer is not None:
        fact = "classes" if flow.spec.count else "feature_layer"
        raise UserError(f"flow {flow.name!r}: its spec states {fact}, which a flow has no use for; leave it out")
    several = 2 if flow.spec.width != 2 else 3  # a time for each that is taken for one a column does not fit
    error = tried_on(flow, several)
    given = flow.spec
    if isinstance(error, Tensor):
        return _repeated(flow, error)
    flow.spec = replace(given, time_first=not given.time_first)
    if isinstance(found := tried_on(flow, several), Tensor):
        return _repeated(flow, found)
    alone = isinstance(tried_on(flow, 1), Tensor)
    flow.spec = given
    if isinstance(error, RunError):
        raise error
    if alone or isinstance(tried_on(flow, 1), Tensor):
        raise UserError(
            f"flow {flow.name!r} gives the velocity of one picture and not of {several}, each with a time of its own "
            f"({reason(error)}); give a module of (x (B,C,H,W), time (B,)), such as time[:, None, None, None] * x"
        ) from error
    if isinstance(error, UserError):
        raise error
    advice = remedy(error, flow.network, given, "(x, time)")
    raise UserError(
        f"flow {flow.name!r} gives no velocity for x {(several, *flow.shape)} and time ({several},), as its spec has "
        f"it: {reason(error)}; {advice}"
    ) from error


def tried_on(flow: Flow, pictures: int) -> Tensor | Exception:
    """The velocities of so many pictures, or what the flow raises for them."""
    x = torch.zeros(pictures, *flow.shape, device=flow.mean.device)
    try:
        return flow(x, torch.linspace(0.25, 0.75, pictures, device=x.device))
    except Exception as error:  # whatever a network raises that is handed its arguments in the other order
        return error


def _repeated(flow: Flow, velocities: Tensor) -> Flow:
    """The flow, which is called once more to warn of one that is random. velocities: what ``tried_on`` gave."""
    again = tried_on(flow, len(velocities))
    if isinstance(again, Tensor):
        warn_random(velocities, again, f"flow {flow.name!r}")
    return flow
