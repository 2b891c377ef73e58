"""Exact gradients of an ODE solve by the discrete adjoint, with the memory of a few steps.

x_{k+1} = S(x_k; theta), k = 0..N-1, and for a loss L with g_N = dL/dx_N, from the last step to the first

    g_k = (dS/dx)(x_k)^T g_{k+1},   dL/dtheta = sum_k (dS/dtheta)(x_k)^T g_{k+1}

The N states are stored and each step is recomputed in the backward pass: the discrete adjoint, by reverse accumulation
with one checkpoint per step (Griewank 1992, Optimization Methods and Software 1, p. 35). With F the cost of one forward
pass it takes (4N - keep) F, where backpropagation through all steps, with all their activations, takes 3 N F. The
continuous adjoint (Chen et al. 2018, arXiv 1806.07366) needs as little memory and is off by O(h).

``torch.utils.checkpoint`` on all but the last ``keep`` steps is as exact, but autograd's nodes of every step stay: on a
CPU the process grew from 134 MiB at 5 steps to 290 at 50, here from 134 to 169, although its tensors did not grow.
At 50 steps it took 1.36 times the time of backpropagation, here 1.24 (benchmarks/walk.py, docs/flows.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.autograd.graph import get_gradient_edge

from bothways.numerics.modules import module_of
from bothways.numerics.solvers import Solver, State, last_state
from bothways.types import RunError, UserError, VectorField

KEEP = 5  # last steps whose graph is kept: most of the time that more would save, at the memory of a five-step walk
Random = tuple[Tensor, Tensor | None]  # states of torch's global generators: CPU, GPU
Gradients = list[Tensor | None]


def integrate_exact(v: VectorField, state: State, times: Sequence[float], solver: Solver, keep: int = KEEP) -> State:
    """The solver state at the last time, with the gradient of backpropagation through every step in flat memory.

    v: a module, or any callable. state: tensors (B,...) at times[0]. times: N + 1 times, rising or falling.
    keep: number of last steps whose graph is kept instead of recomputed: (4N - keep) F, and the memory of N states and
    keep graphs. Also exact under autocast, and for random numbers that v draws from torch's global generators.

    Gradients reach the state and every leaf that v uses: a module's parameters, and tensors that a callable captures.
    For a captured tensor that is not a leaf they reach the leaves it was computed from, not the tensor itself.
    A tensor that v computes from a leaf in one step and caches for later ones (``parametrize.cached()``) has its share.
    If nothing requires a gradient no state is stored. Running statistics in v are updated twice per step.
    Under DistributedDataParallel, wrap one module whose forward walks.

    Raises UserError for keep < 1; in the backward pass RunError if a leaf was changed since the walk. No second
    derivative (torch raises).
    """
    if keep < 1:
        raise UserError(f"keep={keep}; type the number of last steps whose graph is kept, 1 or more")
    times = list(times)
    early = max(len(times) - 1 - keep, 0)
    if not torch.is_grad_enabled() or not early:
        return last_state(v, state, times, solver)
    module = module_of(v)
    record = _Record(v, solver)
    record.add([p for p in module.parameters() if p.requires_grad] if module is not None else [])
    needed = bool(record.leaves) or any(x.requires_grad for x in state)
    here, states = _detached(state), []
    for place in range(early):
        piece = _Piece(times[place : place + 2], _random(here))
        # With a graph, though it is dropped: it shows the leaves of this step, and what v computes now and caches for
        # later steps (``parametrize.cached()``, autocast's casts) must be differentiable there.
        after = last_state(v, here, piece.times, solver)
        record.add(leaves_of(after))
        needed = needed or bool(record.leaves)
        if needed:
            record.pieces.append(piece)
            states.append(here)
        here = _detached(after)
        del after  # the graph goes before the next is made
    if not needed:
        return last_state(v, here, times[early:], solver)
    record.run_tail(here, times[early:])
    return _Steps.apply(record, [*states, here], *state, *record.leaves)


def leaves_of(outputs: Sequence[Tensor]) -> list[Tensor]:
    """Leaf tensors that require a gradient and that the outputs depend on, from autograd's graph."""
    stack = [get_gradient_edge(x).node for x in outputs if x.requires_grad]
    seen, leaves = set(stack), []
    while stack:
        node = stack.pop()
        if (leaf := getattr(node, "variable", None)) is not None:
            leaves.append(leaf)
        for parent, _ in node.next_functions:
            if parent is not None and parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return leaves


@dataclass(frozen=True, eq=False)
class _Piece:
    """Steps that are recomputed together: each early step alone, the last ones as one piece."""

    times: list[float]
    random: Random


@dataclass(eq=False)
class _Record:
    """Data of the backward pass besides the states.

    tail: (inputs, outputs) of the last piece, with its graph, until it is used. versions: version counters of the
    leaves, by which an in-place change is noticed.
    """

    v: VectorField
    solver: Solver
    leaves: list[Tensor] = field(default_factory=list)
    pieces: list[_Piece] = field(default_factory=list)
    tail: list[tuple[State, State]] = field(default_factory=list)
    versions: list[int] = field(default_factory=list)

    def add(self, leaves: Sequence[Tensor]) -> None:
        known = {id(leaf) for leaf in self.leaves}
        self.leaves += [leaf for leaf in leaves if id(leaf) not in known]

    def run_tail(self, state: State, times: list[float]) -> None:
        """Run the last steps with their graph."""
        self.pieces.append(_Piece(times, _random(state)))
        inputs = tuple(x.requires_grad_() for x in _detached(state))
        outputs = last_state(self.v, inputs, times, self.solver)
        self.add(_others(leaves_of(outputs), inputs))
        self.tail.append((inputs, outputs))
        self.versions = [leaf._version for leaf in self.leaves]

    def run_again(self, piece: _Piece, state: State, needs_grad: Sequence[bool]) -> tuple[State, State]:
        """Recompute a piece with its graph and its random numbers -> (inputs, outputs)."""
        _set_random(piece.random, state)
        inputs = tuple(x.requires_grad_(need) for x, need in zip(_detached(state), needs_grad, strict=True))
        with torch.enable_grad():
            outputs = last_state(self.v, inputs, piece.times, self.solver)
        return inputs, outputs

    def pulled(self, inputs: State, outputs: State, gradients: Gradients) -> Gradients:
        """Vector-Jacobian product of a piece: gradients at its outputs -> those at its inputs, then at the leaves."""
        known = [(x, g) for x, g in zip(outputs, gradients, strict=True) if x.requires_grad and g is not None]
        places = [*inputs, *self.leaves]
        targets = [x for x in places if x.requires_grad]
        if not known or not targets:
            return [None] * len(places)
        roots, pushed = zip(*known, strict=True)
        # retain_graph: a tensor that v captured from before the walk is traversed again by the next piece
        results = iter(torch.autograd.grad(roots, targets, pushed, retain_graph=True, allow_unused=True))
        return [next(results) if x.requires_grad else None for x in places]


class _Steps(torch.autograd.Function):
    """All steps as one autograd function of the state and the leaves."""

    @staticmethod
    def forward(ctx: Any, record: _Record, states: list[State], *tensors: Tensor) -> State:
        ctx.record, ctx.autocast = record, _autocast(tensors[0])
        ctx.save_for_backward(*(x for state in states for x in state))
        return _detached(record.tail[0][1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        record, saved, width = ctx.record, ctx.saved_tensors, len(gradients)
        if record.versions != [leaf._version for leaf in record.leaves]:
            raise RunError("walk: a parameter was changed between the walk and its backward pass; change it after both")
        last = len(record.pieces) - 1
        pulled: Gradients = list(gradients)
        total = _Sum(len(record.leaves))
        with ExitStack() as stack:
            stack.enter_context(torch.random.fork_rng(_gpus(saved)))
            stack.enter_context(_unhooked(record.leaves))
            stack.enter_context(torch.autocast(**ctx.autocast))
            for place in range(last, -1, -1):
                state = saved[place * width : (place + 1) * width]
                needs_grad = ctx.needs_input_grad[2 : 2 + width] if place == 0 else [True] * width
                kept = record.tail.pop() if place == last and record.tail else None
                inputs, outputs = kept or record.run_again(record.pieces[place], state, needs_grad)
                pulled = record.pulled(inputs, outputs, pulled[:width])
                total.add(pulled[width:])
                del kept, inputs, outputs  # free this graph before the next one is built
        return None, None, *pulled[:width], *total.values


class _Sum:
    """Gradient accumulator, in place from the second addition on: the first tensor may be shared with autograd."""

    def __init__(self, count: int) -> None:
        self.values: Gradients = [None] * count
        self.own = [False] * count

    def add(self, gradients: Gradients) -> None:
        for place, gradient in enumerate(gradients):
            present = self.values[place]
            if gradient is None:
                continue
            if present is None:
                self.values[place] = gradient
            elif self.own[place]:
                present.add_(gradient)
            else:
                self.values[place], self.own[place] = present + gradient, True


def _detached(state: State) -> State:
    return tuple(x.detach() for x in state)


def _others(tensors: Sequence[Tensor], than: Sequence[Tensor]) -> list[Tensor]:
    known = {id(x) for x in than}
    return [x for x in tensors if id(x) not in known]


def _gpus(tensors: Sequence[Tensor]) -> list[int]:
    return [tensors[0].get_device()] if tensors[0].is_cuda else []


def _random(state: State) -> Random:
    return torch.get_rng_state(), torch.cuda.get_rng_state(state[0].device) if state[0].is_cuda else None


def _set_random(random: Random, state: State) -> None:
    processor, gpu = random
    torch.set_rng_state(processor)
    if gpu is not None:
        torch.cuda.set_rng_state(gpu, state[0].device)


def _autocast(like: Tensor) -> dict[str, Any]:
    """Arguments of ``torch.autocast`` that reproduce the present state."""
    kind = like.device.type
    return {
        "device_type": kind,
        "enabled": torch.is_autocast_enabled(kind),
        "dtype": torch.get_autocast_dtype(kind),
        "cache_enabled": torch.is_autocast_cache_enabled(),
    }


@contextmanager
def _unhooked(leaves: Sequence[Tensor]) -> Iterator[None]:
    """Disable the leaves' hooks, which expect the whole gradient and not the share of one step."""
    hooks = [(held, dict(held)) for leaf in leaves if (held := leaf._backward_hooks)]
    for held, _ in hooks:
        held.clear()
    try:
        yield
    finally:
        for held, before in hooks:
            held.update(before)
