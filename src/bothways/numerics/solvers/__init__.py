"""ODE solvers for dx/dt = v(x, t) on a fixed grid, forward or backward in time.

A solver is a step function (v, state at t, t, h) -> state at t + h, decorated by ``fixed_grid`` with its properties; a
state is a tuple of tensors, x first. Each is a file here; a custom one is ``PATH.py:NAME`` or a Python object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import wraps
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from bothways import budget, registry
from bothways.faults import check_takes
from bothways.numerics.modules import check_finite, module_of, untouched
from bothways.progress import counted
from bothways.types import UserError, VectorField

LONG = 100  # steps of a walk that need no progress of their own
MANY_STEPS = 1_000_000  # from which on their times are compared with the memory that is free
TIME = 32  # bytes of a time in a list
State = tuple[Tensor, ...]
Step = Callable[[VectorField, State, float, float], State]  # (v, state at t, t, h) -> state at t + h
Start = Callable[[VectorField, Tensor, float], State]  # (v, x, t) -> the state at x


def at_time(x: Tensor, t: float) -> Tensor:
    """t repeated over the batch, (B,), with the dtype of x."""
    return x.new_full((x.shape[0],), t)  # its length is not looked up, so that a traced walk takes any batch


def only_x(v: VectorField, x: Tensor, t: float) -> State:
    """Initial state of a one-step solver: x alone."""
    return (x,)


@dataclass(frozen=True)
class Solver:
    """A fixed-grid method: its step function and properties.

    calls: network evaluations per step; order: of convergence; start: builds the initial state of ``state_size``
    tensors. torchdiffeq_name: the same method in torchdiffeq, for the continuous adjoint; "" for none.
    """

    step: Step
    calls: int
    order: int
    start: Start = only_x
    state_size: int = 1
    torchdiffeq_name: str = ""

    def __call__(self, v: VectorField, state: State, t: float, h: float) -> State:
        return self.step(v, state, t, h)

    @property
    def __name__(self) -> str:
        return self.step.__name__.replace("_", "-")

    def calls_of(self, steps: int) -> int:
        """Network evaluations of a walk: steps * calls, plus one if the initial state holds a velocity."""
        return steps * self.calls + (self.start is not only_x)


@dataclass(frozen=True)
class Adaptive:
    """An adaptive-step method of torchdiffeq. method: its name there."""

    method: str

    def __call__(self, *_: Any) -> State:
        raise TypeError("an adaptive solver has no step function")


def fixed_grid(
    calls: int, order: int, start: Start = only_x, state_size: int = 1, torchdiffeq_name: str = ""
) -> Callable[[Step], Solver]:
    """Make a Solver of a step function: ``@fixed_grid(calls=1, order=1)``.

    The step is handed a field that leaves the state as it is, also where a network works in place.
    """

    def make(step: Step) -> Solver:
        check_takes("solver", registry.name_of(step), step, "v", "state", "t", "h")

        @wraps(step)
        def apart(v: VectorField, state: State, t: float, h: float) -> State:
            return checked_state(step, step(untouched(v), state, t, h), state)

        return Solver(apart, calls, order, start if start is only_x else begin, state_size, torchdiffeq_name)

    def begin(v: VectorField, x: Tensor, t: float) -> State:
        return start(untouched(v), x, t)

    return make


def checked_state(step: Step, found: Any, state: State) -> State:
    """What a step gave. Raises UserError unless it is a state like the one before."""
    given = found if isinstance(found, tuple) else ()
    like = [isinstance(x, Tensor) and x.shape == y.shape for x, y in zip(given, state, strict=False)]
    if len(given) != len(state) or not all(like):
        shapes = ", ".join(str(tuple(x.shape)) if isinstance(x, Tensor) else type(x).__name__ for x in given)
        what = f"({shapes})" if given else f"a {type(found).__name__}"
        wanted = ", ".join(str(tuple(x.shape)) for x in state)
        name = registry.name_of(step)
        raise UserError(f"solver {name!r} gives {what} for a state ({wanted}); return a tuple of tensors like it")
    for x in given:
        if not x.is_floating_point() or x.device != state[0].device:
            name = registry.name_of(step)
            raise UserError(
                f"solver {name!r} gives {x.dtype} on {x.device} for a state of {state[0].dtype} on {state[0].device}; "
                "return tensors like it"
            )
    return given


_FOUND: dict[str, Solver | Adaptive] = {}  # by name, so that a compiled walk does not search the registry


def any_solver(name: Any) -> Solver | Adaptive:
    """Solver from a name, PATH.py:NAME or an object, adaptive ones included. Raises UserError for anything else."""
    if isinstance(name, str) and name in _FOUND:
        return _FOUND[name]
    found = registry.find("solver", name).factory
    if not isinstance(found, Solver | Adaptive):
        raise UserError(
            f"solver {registry.name_of(name)!r} is not a Solver; decorate it with @fixed_grid(calls=1, order=1)"
        )
    if isinstance(name, str) and not registry.is_address(name):  # a file of the user's may change
        _FOUND[name] = found
    return found


def solver_of(name: Any) -> Solver:
    """Fixed-grid solver from a name. Raises UserError as ``any_solver``, and for an adaptive one."""
    found = any_solver(name)
    if isinstance(found, Adaptive):
        raise UserError(f"solver {name!r} is adaptive; type one with fixed steps: {', '.join(fixed_names())}")
    return found


def fixed_names() -> list[str]:
    """Names of the fixed-grid solvers."""
    return [name for name in registry.names("solver") if isinstance(any_solver(name), Solver)]


def grid(start: float, end: float, steps: int) -> list[float]:
    """Time grid of steps + 1 evenly spaced points from start to end. Raises UserError for less than one step."""
    if steps < 1:
        raise UserError(f"steps={steps}; a walk takes 1 step or more")
    if steps > MANY_STEPS:
        budget.check_memory(f"the times of {steps:,} steps", TIME * steps, f"type --steps {MANY_STEPS}")
    return [start + (end - start) * place / steps for place in range(steps + 1)]


def solver_states(v: VectorField, state: State, times: list[float], solver: Solver) -> Iterator[State]:
    """The state after each step of a time grid, differentiable by ordinary backpropagation."""
    for t, following in pairwise(times):
        state = solver.step(v, state, t, following - t)
        yield state


def last_state(v: VectorField, state: State, times: list[float], solver: Solver) -> State:
    """The state after the last step of a time grid. More than LONG steps are a stage, so that a long walk is seen."""
    states, steps = solver_states(v, state, times, solver), len(times) - 1
    if steps > LONG and not torch.compiler.is_compiling():
        states = counted(states, "steps of a walk", steps)
    for after in states:
        state = after
    return state


def finite(v: VectorField, states: Iterator[State], times: list[float]) -> Iterator[State]:
    """The states after each step of a grid, from ``walked``; RunError, with the step, for one that is not finite."""
    module = module_of(v)
    name = getattr(v if module is None else module, "name", type(v if module is None else module).__name__)
    for step, state in enumerate(states, start=1):
        what = f"flow {name!r}: step {step} of {len(times) - 1} (t = {times[step]:.3g})"
        check_finite(state[0], f"{what} gives values", "look at its weights; in half precision, type --dtype float32")
        yield state
