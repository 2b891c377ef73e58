"""Adapter of a flow or diffusion network and its ModelSpec to a velocity field from noise to images.

v(x, t) = network(x, time_scale * t),   code(image) = (image - mean) / std,   t = 0 noise, t = 1 image
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from bothways.models.adapter import DTYPES
from bothways.registry import is_address
from bothways.representation.paths import check_path, path_of
from bothways.types import ModelSpec, Path, RunError, UserError


class Flow(nn.Module):
    """A network with its ModelSpec as a ``types.Flow``.

    network: (x (B,C,H,W), time (B,)) -> dx/dt like x, C = 3, or 1 for a "grey" spec; an output with the velocity in
        ``.sample``, as in diffusers, is accepted too.
    spec: mean and std convert an image to the network's units; ``time_scale`` multiplies t; ``path`` names the path.
    dtype: "float32", or "bf16" / "float16" for autocast; the velocity has the dtype of x.
    path: the path itself, for one without a name.
    Raises UserError for an unknown dtype, and when called for a network with any other output; RunError if out of
    memory.
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
    ) -> None:
        super().__init__()
        if dtype not in DTYPES:
            raise UserError(f"dtype {dtype!r} is not known; type one of {', '.join(DTYPES)}")
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
    def shape(self) -> tuple[int, int, int]:
        """Shape (C, H, W) of one x."""
        return (1 if self.spec.channel_order == "grey" else 3), self.spec.height, self.spec.width

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        # no autocast for float32: a disabled one would override that of the training loop
        half = self.dtype != "float32"
        try:
            with torch.autocast(x.device.type, DTYPES[self.dtype]) if half else nullcontext():
                found = self.network(x, t * (self.spec.time_scale or 1.0))
        except torch.OutOfMemoryError as error:
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
        x = image if self.spec.channel_order != "BGR" else image.flip(1)
        x = (x - self.mean.to(image.dtype)) / self.std.to(image.dtype)
        return x.mean(1, keepdim=True) if self.spec.channel_order == "grey" else x

    def picture(self, x: Tensor) -> Tensor:
        image = x.expand(-1, 3, -1, -1) * self.std.to(x.dtype) + self.mean.to(x.dtype)
        return image.flip(1) if self.spec.channel_order == "BGR" else image


@torch.no_grad()
def check_flow(flow: Flow) -> Flow:
    """Evaluate one velocity at the spec's size, so that a wrong spec is refused early. Raises UserError."""
    check_path(flow.path)  # raises for an unknown name
    like = next(flow.network.parameters(), torch.empty(0))
    kind = torch.float64 if like.dtype == torch.float64 else torch.float32
    x = torch.zeros(1, *flow.shape, dtype=kind, device=flow.mean.device)
    try:
        flow(x, torch.full((1,), 0.5, dtype=kind, device=x.device))
    except (UserError, RunError):
        raise
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"flow {flow.name!r} fails on x {tuple(x.shape)} and time (1,), the shapes of its spec: {reason}; "
            'give a module of (x, time), and correct ModelSpec.size or channel_order ("grey" for one channel)'
        ) from error
    return flow
