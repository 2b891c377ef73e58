"""Features of images from a flow: the walked state, the network's activations, both, or pixels as a control.

walked       pool(x(1 - depth)),  dx/dt = v(x, t) from x(1) = x           PRG, Xue et al. 2024, arXiv 2412.01787, sec. 3
activations  mean over space of h_layer(x, 1 - depth), in one pass        Xiang et al. 2023, arXiv 2303.09769
both         both, concatenated
pixels       pool(x), a control without a network

pool is average pooling to at most 16 x 16 and flattening, as in the code of PRG.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bothways.numerics.solvers import solver_of
from bothways.representation.activations import activations, layer_module
from bothways.representation.encode import Walk, image_time, walk
from bothways.types import Path, UserError

KINDS = ("walked", "activations", "both", "pixels")
POOLED = 16  # pixels of a side


@dataclass(frozen=True)
class Features:
    """Settings of feature extraction from a flow.

    kind: one of ``KINDS``. depth, walk: of the walked picture. layers, activation_depth: of the activations. noised:
    activations of the noisy picture on its path; one noise for all pictures, so that features do not depend on the rest
    of the batch.
    Raises UserError for an unknown kind, activations without a layer, and a depth outside [0, 1].
    """

    kind: str = "walked"
    depth: float = 0.5
    walk: Walk = Walk(steps=5)  # noqa: RUF009 - frozen
    layers: tuple[str, ...] = ()
    activation_depth: float = 0.1
    noised: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UserError(f"kind {self.kind!r} is not known; type one of {', '.join(KINDS)}")
        if self.reads_activations and not self.layers:
            raise UserError(f"kind {self.kind!r} needs a layer of the flow; type --layer NAME")
        for name in ("depth", "activation_depth"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"{name}={getattr(self, name)}; type a number from 0 (the picture) to 1 (noise)")

    @property
    def walks(self) -> bool:
        return self.kind in ("walked", "both")

    @property
    def reads_activations(self) -> bool:
        return self.kind in ("activations", "both")

    @property
    def calls(self) -> int | None:
        """Network calls per picture; a pass for activations counts as one, although it stops early.

        None where the solver chooses its own steps, so that only a walk tells.
        """
        walked = 0
        if self.walks and self.depth > 0:
            if self.walk.adaptive:
                return None
            walked = solver_of(self.walk.solver).calls_of(self.walk.steps)
        return walked + self.reads_activations

    def check(self, flow: nn.Module) -> None:
        """Raise UserError, with the nearest names, for a layer missing in the flow."""
        for layer in self.layers if self.reads_activations else ():
            layer_module(flow, layer)


def features(flow: nn.Module, path: Path, x: Tensor, how: Features, noise: Tensor | None = None) -> Tensor:
    """Features (B,D) of pictures x (B,C,H,W) in the flow's units; differentiable by the walk's gradient method.

    flow: called as (x, t). path: of its training. noise: (1,C,H,W) for noised activations, None for clean ones.
    """
    parts = [pooled(x)] if how.kind == "pixels" else []
    if how.walks:
        start = image_time(flow)
        parts.append(pooled(walk(flow, x, start, min(start, 1.0 - how.depth), how.walk)))
    if how.reads_activations:
        parts += activations(flow, x, how.activation_depth, how.layers, path=path, noise=noise).values()
    return torch.cat([part.to(x.dtype) for part in parts], 1)


def pooled(x: Tensor) -> Tensor:
    """Average pooling to at most 16 x 16, flattened, (B,C,H,W) -> (B,D)."""
    height, width = x.shape[-2:]
    return F.adaptive_avg_pool2d(x, (min(height, POOLED), min(width, POOLED))).flatten(1)
