"""Log-likelihood and bits per dimension of images under a flow, by the instantaneous change of variables.

log p(x_1) = log N(x_0; 0, 1) - int_0^1 div v(x_t, t) dt,   dx/dt = v, integrated from x_1 back to x_0
bits/dim   = -(log p(x) + log |dx/dy|) / (D log 2) + log2 levels,   x = code(y),  y = (k + u) / levels,  u ~ U[0, 1)

Chen et al. 2018, arXiv 1806.07366, theorem 1; Grathwohl et al. 2018, arXiv 1810.01367 (Hutchinson's estimate of the
trace); Theis et al. 2015, arXiv 1511.01844, eq. 3: the mean over u of log p is a lower bound on log P(k), so the bits
are an upper bound on those of the discrete pictures.

Departure from Grathwohl et al.: on a fixed grid every call of the network has its own probes, whose errors average out
along the path; one probe for the whole path, which an adaptive solver needs, accumulates them. The integral over few
steps is optimistic: use 50 or more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from bothways import registry
from bothways.numerics.draws import Draws
from bothways.numerics.intervals import Estimate, mean_interval
from bothways.numerics.modules import module_of, untouched
from bothways.numerics.solvers import Adaptive, Solver, any_solver, finite, grid, solver_of, solver_states
from bothways.representation.encode import image_time
from bothways.types import Flow, ModelSpec, RunError, UserError, VectorField

EXACT_AT_MOST = 256  # values of a picture up to which the exact trace is used
DIVERGENCES = ("auto", "exact", "hutchinson")
ROWS_AT_ONCE = 512  # pictures times directions per backward pass


@dataclass(frozen=True)
class Integration:
    """Settings of the integration of log p.

    solver: a name of the registry, PATH.py:NAME, or a ``Solver``, in ``steps`` even steps; or an adaptive one with
    relative and absolute ``tolerance``, over the batch as a whole. divergence: "exact" (the trace, one
    vector-Jacobian product per value), "hutchinson" (the mean of p . J p over ``probes`` random signs p), or "auto":
    exact up to EXACT_AT_MOST values, else hutchinson.
    Raises UserError for unknown or invalid values.
    """

    solver: str | Solver | Adaptive = "midpoint"
    steps: int = 50
    divergence: str = "auto"
    probes: int = 1
    tolerance: float = 1e-5

    @property
    def name(self) -> str:
        """Name of the solver."""
        return registry.name_of(self.solver)

    @property
    def adaptive(self) -> bool:
        """Whether the solver has adaptive steps."""
        return isinstance(any_solver(self.solver), Adaptive)

    def __post_init__(self) -> None:
        any_solver(self.solver)
        if self.divergence not in DIVERGENCES:
            raise UserError(f"divergence {self.divergence!r} is not known; type one of {', '.join(DIVERGENCES)}")
        if self.probes < 1 or self.steps < 1 or not self.tolerance > 0:
            raise UserError(
                f"likelihood: steps={self.steps}, probes={self.probes}, tolerance={self.tolerance}; "
                "give 1 step and 1 probe or more, and a tolerance above 0 such as 1e-5"
            )

    def exact(self, values: int) -> bool:
        """Whether the divergence of states of so many values is the exact trace."""
        return self.divergence == "exact" or (self.divergence == "auto" and values <= EXACT_AT_MOST)


@dataclass(frozen=True)
class Density:
    """Log-densities of a batch: log_p (B,) in nats, the noise (B,...) of each state, and the network calls.

    log_det: (B,), log |det d noise / d state|, the share of log_p that is not the noise's own density.
    """

    log_p: Tensor
    noise: Tensor
    calls: int
    log_det: Tensor


@dataclass(frozen=True)
class Likelihood:
    """Likelihood of N pictures: bits per dimension (N,), log_p (N,) of codes in nats (mean over u), float64.

    log_det: (N,), log |det d noise / d code| in nats, the mean over u; see ``information.conditional_log_likelihood``.
    dims: number of values of a picture in the flow's units. calls: of the network per picture and draw. latent: whether
    the bits are of latents.
    """

    bits: Tensor
    log_p: Tensor
    dims: int
    calls: int
    draws: int
    how: Integration
    log_det: Tensor
    latent: bool = False

    @property
    def mean(self) -> Estimate:
        """Mean bits per dimension with the 95 % interval over pictures."""
        return mean_interval(self.bits)

    def as_facts(self) -> dict[str, Any]:
        """The entry measures["flow"]["likelihood"]."""
        probes = f"{self.how.probes} probe{'s' if self.how.probes > 1 else ''}"
        kind = "exact" if self.how.exact(self.dims) else f"hutchinson, {probes}"
        mean = {"bits_per_dim": self.mean.value, "low": self.mean.low, "high": self.mean.high}
        walk = {"solver": self.how.name, "steps": None if self.how.adaptive else self.how.steps}
        given = dict(zip(("nats_per_dim", "low", "high"), mean_interval(self.log_det / self.dims), strict=True))
        counts = {"dims": self.dims, "calls": self.calls, "draws": self.draws, "n": len(self.bits)}
        of = {"latent": True} if self.latent else {}
        return {**mean, "given_noise": given, **walk, "divergence": kind, **counts, **of, "bits": self.bits.tolist()}


def log_density(
    v: VectorField, x: Tensor, seeds: Sequence[int], how: Integration = Integration(), *, purpose: str = "probe"
) -> Density:
    """Log-density of states x (B,...) in the field's units at ``image_time``, without gradient.

    seeds: one per state; its probes are a function of the seed, the index of the call and ``purpose``. The log-density
    is integrated as one more value of each state, through the same stages of the solver.
    Raises UserError if torchdiffeq is needed and missing, RunError if an adaptive solver fails.
    """
    field = _Augmented(v, x.shape[1:], _directions(x, Draws(seeds), how, purpose))
    state = torch.cat([x.detach().flatten(1), x.new_zeros(len(x), 1)], 1)
    with torch.no_grad():
        end = _adaptive(field, state, how) if how.adaptive else _on_grid(field, state, how)
    noise, change = end[:, :-1], end[:, -1].double()
    log_normal = -(noise.double().square().sum(1) + noise.shape[1] * math.log(2 * math.pi)) / 2
    return Density(log_normal + change, noise.view_as(x), field.calls, change)


@dataclass
class _Augmented:
    """Augmented ODE (x, c), flat (B, D+1) -> (v, div v); from the image to noise, c becomes -int_0^1 div v dt."""

    v: VectorField
    shape: torch.Size
    directions: Callable[[int], Tensor]
    calls: int = 0

    @property
    def spec(self) -> ModelSpec | None:
        return getattr(self.v, "spec", None)

    def __call__(self, state: Tensor, t: Tensor) -> Tensor:
        self.calls += 1
        x = state[:, :-1].view(-1, *self.shape)
        velocity, divergence = with_divergence(self.v, x, t, self.directions(self.calls))
        return torch.cat([velocity.flatten(1), divergence[:, None]], 1)


def with_divergence(v: VectorField, x: Tensor, t: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Velocity v(x, t) and sum_k d_k . J d_k, (B,): the trace for D unit vectors, Hutchinson's for signs / sqrt(K).

    x: (B,...), t: (B,), directions: (K,B,...). By vector-Jacobian products, since d . J d = d . J^T d.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        velocity = untouched(v)(x, t)
    trace = x.new_zeros(len(x))
    if velocity.requires_grad:  # else v does not depend on x and the trace is 0
        for some in directions.split(max(1, ROWS_AT_ONCE // len(x))):
            trace = trace + (_pulled(v, velocity, x, some.to(velocity.dtype)) * some).flatten(2).sum((0, 2))
    return velocity.detach().to(x.dtype), trace


_ONE_BY_ONE: WeakSet[nn.Module] = WeakSet()  # networks of which a layer has no backward pass for several directions


def _pulled(v: VectorField, velocity: Tensor, x: Tensor, directions: Tensor) -> Tensor:
    """J^T d (K,B,...) of directions (K,B,...), together, or one after the other where a layer cannot (torch's vmap)."""
    options: dict[str, Any] = {"retain_graph": True, "materialize_grads": True}
    module = module_of(v)
    if module not in _ONE_BY_ONE:
        try:
            return torch.autograd.grad(velocity, x, directions, is_grads_batched=True, **options)[0]
        except RuntimeError as error:
            if "vmap" not in str(error):
                raise
            if module is not None:
                _ONE_BY_ONE.add(module)
    return torch.stack([torch.autograd.grad(velocity, x, one, **options)[0] for one in directions])


def _directions(x: Tensor, draws: Draws, how: Integration, purpose: str) -> Callable[[int], Tensor]:
    """Function from the index of a network call to the directions (K,B,...) of its divergence."""
    values, shape = x[0].numel(), x.shape[1:]
    if how.exact(values):
        basis = torch.eye(values, dtype=x.dtype, device=x.device).view(values, 1, *shape).expand(-1, len(x), *shape)
        return lambda call: basis

    def signs(call: int) -> Tensor:
        bits = draws.integers(0, 1, (how.probes, *shape), t=call, purpose=purpose).to(x)
        return (2 * bits - 1).transpose(0, 1) / math.sqrt(how.probes)

    if not how.adaptive:
        return signs
    kept = signs(0)  # an adaptive step compares stages, so the field must be the same for all of them
    return lambda call: kept


def _on_grid(field: _Augmented, state: Tensor, how: Integration) -> Tensor:
    solver, times = solver_of(how.solver), grid(image_time(field), 0.0, how.steps)
    *_, last = finite(field.v, solver_states(field, solver.start(field, state, times[0]), times, solver), times)
    return last[0]


def _adaptive(field: _Augmented, state: Tensor, how: Integration) -> Tensor:
    try:
        from torchdiffeq import odeint
    except ImportError as error:
        raise UserError(f'solver {how.name!r} needs torchdiffeq; type pip install "bothways[ode]"') from error
    solver = any_solver(how.solver)
    assert isinstance(solver, Adaptive)
    times = torch.tensor([image_time(field), 0.0], dtype=state.dtype, device=state.device)
    tolerance = {"rtol": how.tolerance, "atol": how.tolerance}
    try:
        return odeint(lambda t, z: field(z, t.expand(len(z))), state, times, method=solver.method, **tolerance)[-1]
    except AssertionError as error:  # torchdiffeq asserts on step underflow and on values that are not finite
        reason = str(error).splitlines()[0][:80] if str(error) else "it stopped"
        raise RunError(f"solver {how.name!r}: {reason}; raise the tolerance ({how.tolerance:g})") from error


def bits_per_dim(
    flow: Flow,
    images: Tensor,
    seeds: Sequence[int] | None = None,
    how: Integration = Integration(),
    *,
    draws: int = 1,
    batch: int = 64,
) -> Likelihood:
    """Bits per dimension of pictures (N,3,H,W) in [0,1], in batches of ``batch``; an upper bound (see the module).

    seeds: one per picture, 0..N-1 if absent; a picture's u and probes are a function of its seed alone. draws: of u,
    over which log p is averaged; more of them reduce the variance, not the mean. D counts the flow's channels: a grey
    flow's single channel is dequantised as one value. Of a flow on latents the bits are those of the density of the
    latent alone, -log2 p / D, which bounds nothing of the picture and may be negative. For the variance-preserving
    path, see ``image_time``.
    Raises UserError for other shapes, or a number of seeds that differs from that of the pictures.
    """
    seeds = list(range(len(images)) if seeds is None else seeds)
    if images.ndim != 4 or images.shape[1] != 3 or not len(images) == len(seeds) > 0 or draws < 1:
        raise UserError(
            f"bits_per_dim: images {tuple(images.shape)}, {len(seeds)} seeds, draws={draws}; "
            "give (N, 3, H, W) with N at least 1, one seed per picture, and 1 draw or more"
        )
    latent = getattr(flow, "latents", None) is not None
    log_p, log_det, calls, dims = [], [], 0, 0
    for first in range(0, len(images), batch):
        part, own = images[first : first + batch], seeds[first : first + batch]
        found, change = torch.zeros(2, len(part), dtype=torch.float64)
        for draw in range(draws):
            x = flow.code(part if latent else dequantised(part, own, flow.spec, draw))
            density = log_density(flow, x, own, how, purpose=f"probe {draw}")
            found += density.log_p.cpu() / draws
            change += density.log_det.cpu() / draws
            calls, dims = density.calls, x[0].numel()
        log_p.append(found)
        log_det.append(change)
    nats = torch.cat(log_p)
    bits = -nats / (dims * math.log(2))
    if not latent:
        scale = log_scale(flow.spec, images.shape[-2] * images.shape[-1])
        bits = -(nats + scale) / (dims * math.log(2)) + math.log2(flow.spec.levels)
    return Likelihood(bits, nats, dims, calls, draws, how, torch.cat(log_det), latent)


def dequantised(images: Tensor, seeds: Sequence[int], spec: ModelSpec, draw: int = 0) -> Tensor:
    """Uniform dequantisation y = (k + u) / levels, (B,3,H,W): k the integer level of a value, u from the seed.

    For a grey flow the three channels share one k and one u: those of their mean.
    """
    values = images.mean(1, keepdim=True) if spec.channel_order == "grey" else images
    u = Draws(seeds).uniform(values.shape[1:], t=draw, purpose="dequantise").to(values)
    y = ((values * (spec.levels - 1)).round() + u) / spec.levels
    return y.expand(-1, 3, -1, -1)


def log_scale(spec: ModelSpec, pixels: int) -> float:
    """log |dx/dy| of ``code``: each channel is divided by its std; a grey value is the mean over three channels."""
    if spec.channel_order == "grey":
        return pixels * math.log(sum(1 / std for std in spec.std) / 3)
    return -pixels * sum(math.log(std) for std in spec.std)
