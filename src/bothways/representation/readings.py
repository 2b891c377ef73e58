"""Feature columns of the same images for several kinds, depths and layers, sharing walks and forward passes.

    walked at d        pool(x(1 - d)),  dx/dt = v(x, t) from x(1) = x
    activations at d   mean over space of h_layer(x, 1 - d), all layers of a depth in one pass
    pixels             pool(x), a control without a network

Definitions as in ``representation.features``. All depths share one walk to the deepest if its time grid contains them:
N = the least number of steps, at least the requested one, with N d / d_max an integer for every d. If that takes more
steps than one walk per depth, each depth has its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

import torch
from torch import Tensor, nn

from bothways.numerics.solvers import Solver, any_solver
from bothways.representation.activations import activations
from bothways.representation.encode import Walk, trajectory
from bothways.representation.features import Features, pooled
from bothways.types import Path, UserError

KINDS = ("walked", "activations", "pixels")
WHOLE = 1e-9  # rounding tolerance of N d / d_max against an integer


@dataclass(frozen=True)
class Column:
    """One feature column. depth: None for pixels; layer: of activations; steps: from the picture to the depth."""

    kind: str
    depth: float | None = None
    layer: str | None = None
    steps: int | None = None

    @property
    def name(self) -> str:
        """Name of the column: walked_0.5, activations_0.1_network.middle, pixels."""
        depth = "" if self.depth is None else f"_{self.depth:.12g}"
        return self.kind + depth + (f"_{self.layer}" if self.layer else "")


@dataclass(frozen=True)
class Route:
    """One walk that records the state at several depths. stops: (depth, number of steps to it), in order."""

    how: Walk
    stops: tuple[tuple[float, int], ...]


@dataclass(frozen=True)
class Readings:
    """The columns and how they are computed. start: time at which walks begin; depths, layers: of the activations."""

    columns: tuple[Column, ...]
    start: float
    routes: tuple[Route, ...] = ()
    depths: tuple[float, ...] = ()
    layers: tuple[str, ...] = ()
    noised: bool = False

    @property
    def calls(self) -> int:
        """Network calls per picture; the walk of an adaptive solver counts as 1.

        A pass that stops at a layer counts as one.
        """
        of_walks = 0
        for route in self.routes:
            solver, steps = any_solver(route.how.solver), route.stops[-1][1]
            of_walks += solver.calls_of(steps) if isinstance(solver, Solver) else steps
        return of_walks + len(self.depths)


def plan(
    kinds: Sequence[str],
    depths: Sequence[float],
    *,
    start: float = 1.0,
    walk: Walk = Walk(steps=5),
    layers: Sequence[str] = (),
    noised: bool = False,
    control: bool = False,
) -> Readings:
    """Plan the computation of feature columns of several kinds at several depths.

    start: ``image_time`` of the flow. walk: its steps are the least number to the deepest depth. control: add pixels.
    Raises UserError as ``Features`` does, and without a depth or a kind.
    """
    kinds = tuple(dict.fromkeys(kinds))
    for kind in kinds:
        if kind not in KINDS:
            near = get_close_matches(kind, KINDS, n=1) or KINDS
            raise UserError(f"kind {kind!r} is not known; type {' or '.join(near)}")
    ways = [kind for kind in kinds if kind != "pixels"]
    depths = tuple(sorted({float(depth) for depth in depths}))
    if not kinds or (ways and not depths):
        raise UserError("no kind or no depth is given; type for example --kind walked --depth 0.5")
    for kind in ways:
        for depth in depths:
            Features(kind, depth=depth, walk=walk, layers=tuple(layers), activation_depth=depth, noised=noised)
    routes = routes_to(depths, start, walk) if "walked" in kinds else ()
    steps = {depth: count for route in routes for depth, count in route.stops}
    columns = [Column("walked", depth, steps=steps[depth]) for depth in steps]
    if activated := "activations" in kinds:
        columns += [Column("activations", depth, layer) for depth in depths for layer in layers]
    if control or "pixels" in kinds:
        columns.append(Column("pixels"))
    if not activated:
        return Readings(tuple(columns), start, routes, noised=noised)
    return Readings(tuple(columns), start, routes, depths, tuple(layers), noised)


def routes_to(depths: Sequence[float], start: float, how: Walk) -> tuple[Route, ...]:
    """One walk through all depths, in rising order, or one walk per depth (see the module docstring)."""
    ways = [max(0.0, start - (1.0 - depth)) for depth in depths]
    if how.adaptive:  # one interval per depth, within which the solver chooses its steps
        return tuple(Route(replace(how, steps=1), ((depth, 1),)) for depth in depths)
    for steps in range(how.steps, how.steps * len(depths) + 1):
        counts = [steps * way / (ways[-1] or 1.0) for way in ways]
        if all(abs(count - round(count)) < WHOLE for count in counts):
            stops = tuple((depth, round(count)) for depth, count in zip(depths, counts, strict=True))
            return (Route(replace(how, steps=steps), stops),)
    return tuple(Route(how, ((depth, how.steps),)) for depth in depths)


@torch.no_grad()
def read(flow: nn.Module, path: Path, x: Tensor, readings: Readings, noise: Tensor | None = None) -> dict[str, Tensor]:
    """Compute the planned columns, {name: (B,D)}, of pictures x (B,C,H,W) in the flow's units, in the dtype of x.

    flow: called as (x, t). path: of its training. noise: (1,C,H,W) for noised activations, None for clean ones.
    Raises UserError for a layer that does not exist or returns no tensor.
    """
    found: dict[str, Tensor] = {}
    walked = [column for column in readings.columns if column.kind == "walked"]
    states = {depth: state for route in readings.routes for depth, state in _stops(flow, x, readings.start, route)}
    for column in walked:
        assert column.depth is not None
        found[column.name] = states[column.depth]
    for depth in readings.depths:
        seen = activations(flow, x, depth, readings.layers, path=path, noise=noise)
        found |= {Column("activations", depth, layer).name: value for layer, value in seen.items()}
    if readings.columns[-1].kind == "pixels":
        found["pixels"] = pooled(x)
    return {name: value.to(x.dtype) for name, value in found.items()}


def _stops(flow: nn.Module, x: Tensor, start: float, route: Route) -> list[tuple[float, Tensor]]:
    """(depth, pooled state) at each stop of a walk; states in between are not kept."""
    end = min(start, 1.0 - route.stops[-1][0])
    found = []
    for count, (_, state) in enumerate(trajectory(flow, x, start, end, route.how)):
        found += [(depth, pooled(state)) for depth, stop in route.stops if stop == count]
    return found
