"""The exact gradient of a walk, against backpropagation through all of its steps."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parametrizations, parametrize

from bothways.numerics.discrete_adjoint import integrate_exact, leaves_of
from bothways.numerics.modules import module_of
from bothways.numerics.solvers import State, fixed_names, grid, solver_of, solver_states
from bothways.types import RunError, UserError, VectorField
from together import End

TIMES = grid(1.0, 0.3, 6)
Walker = Callable[[VectorField, State, list[float]], State]


class Field(nn.Module):
    """A small velocity, with dropout in train mode and an input that several places share."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.first, self.second = nn.Linear(5, 16), nn.Linear(16, 4)
            self.unused = nn.Parameter(torch.ones(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = torch.tanh(self.first(torch.cat([x, t.to(x.dtype)[:, None]], 1)))
        return self.second(self.dropout(h)) + x.mean(1, keepdim=True)


def start(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(3, 4, generator=torch.Generator().manual_seed(1)).to(dtype)


def direct(v: VectorField, state: State, times: list[float], name: str = "euler", keep: int = 1) -> State:
    *_, state = solver_states(v, state, times, solver_of(name))
    return state


def exact(v: VectorField, state: State, times: list[float], name: str = "euler", keep: int = 1) -> State:
    return integrate_exact(v, state, times, solver_of(name), keep)


def results(walker, v: VectorField, leaves: list[Tensor], name: str = "euler", keep: int = 1) -> list[Tensor]:
    """Where the walk ends, and the gradients at its start and of the leaves; None as zero."""
    x = start().requires_grad_()
    state = walker(v, solver_of(name).start(v, x, TIMES[0]), TIMES, name, keep)
    loss = sum((place + 1) * part.sin().sum() for place, part in enumerate(state))
    found = torch.autograd.grad(loss, [x, *leaves], allow_unused=True)
    return [*(part.detach() for part in state), *(torch.zeros(()) if g is None else g for g in found)]


def gap(these: list[Tensor], those: list[Tensor]) -> float:
    return max(float((a.double() - b.double()).abs().max()) for a, b in zip(these, those, strict=True))


@pytest.mark.parametrize("keep", [1, 2, 5, 6, 9])
@pytest.mark.parametrize("name", fixed_names())
def test_it_is_backpropagation_through_every_step(name, keep) -> None:
    v = Field().double()
    leaves = list(v.parameters())
    found, wanted = (results(walker, v, leaves, name, keep) for walker in (exact, direct))
    assert gap(found, wanted) < 1e-12
    assert sorted(float(g.abs().max()) > 1e-3 for g in wanted).count(False) == 1  # the parameter that is not used
    assert torch.autograd.gradcheck(lambda x: exact(v, (x,), TIMES, "midpoint", keep)[0], start().requires_grad_())


@pytest.mark.parametrize("name", ["euler", "reversible-heun"])
def test_dropout_draws_the_same_numbers_again(name) -> None:
    v = Field(dropout=0.4).double().train()
    found = []
    for walker in (exact, direct):
        with torch.random.fork_rng():
            torch.manual_seed(7)
            one = results(walker, v, list(v.parameters()), name)
            found.append([*one, torch.rand(3)])  # and the process goes on from the same numbers
    assert gap(*found) < 1e-12
    assert gap(found[0], [*results(exact, v.eval(), list(v.parameters()), name), torch.zeros(3)]) > 1e-3


def test_a_backward_pass_may_be_made_again() -> None:
    v = Field().double()
    x = start().requires_grad_()
    (end,) = exact(v, (x,), TIMES)
    first = torch.autograd.grad(end.square().sum(), [x, *v.parameters()], retain_graph=True, allow_unused=True)
    again = torch.autograd.grad(end.square().sum(), [x, *v.parameters()], allow_unused=True)
    assert gap([g for g in first if g is not None], [g for g in again if g is not None]) < 1e-12
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(end.sum(), x)


def test_a_second_derivative_is_refused() -> None:
    x = start().requires_grad_()
    (end,) = exact(Field().double(), (x,), TIMES)
    (gradient,) = torch.autograd.grad(end.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


# ---- which tensors have a gradient ---------------------------------------------------------------------------------


def test_what_a_callable_captures_is_found() -> None:
    net, scale = Field().double(), torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    grown = (2 * scale).exp()  # computed before the walk, and used by every step of it
    forms = [lambda x, t: grown * net(x, t), partial(net.forward), net.forward, partial(lambda f, x, t: f(x, t), net)]
    for v in forms:
        leaves = [scale, net.first.weight, net.second.bias]
        assert gap(*(results(walker, v, leaves) for walker in (exact, direct))) < 1e-12


def test_the_start_may_be_captured_too() -> None:
    gradients = []
    for walker in (exact, direct):
        x = start().requires_grad_()
        (end,) = walker(lambda here, t, x=x: x * here.sin() - here, (x,), TIMES)
        gradients.append(torch.autograd.grad(end.square().sum(), x)[0])
    assert gap(gradients[:1], gradients[1:]) < 1e-12


def test_parameters_alone_may_need_a_gradient() -> None:
    net = Field().double()
    for v in (net, lambda x, t: net(x, t)):
        gradients = []
        for walker in (exact, direct):
            net.zero_grad()
            walker(v, (start(),), TIMES)[0].square().sum().backward()
            gradients.append([net.first.weight.grad, net.second.bias.grad])
        assert gap(*gradients) < 1e-12
        assert net.unused.grad is None


def test_a_leaf_of_early_steps_alone_is_never_lost() -> None:
    early = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)

    def v(x: Tensor, t: Tensor) -> Tensor:
        return early * x if float(t[0]) > 0.7 else -x

    gradients = []
    for walker in (exact, direct):
        early.grad = None
        walker(v, (start(),), TIMES)[0].sum().backward()
        gradients.append([early.grad])
    assert gap(*gradients) < 1e-12

    for keep in (1, 3):
        assert gap(*(results(walker, v, [early], keep=keep) for walker in (exact, direct))) < 1e-12


@pytest.mark.parametrize("inside", [True, False])
@pytest.mark.parametrize("keep", [1, 3])
def test_what_is_computed_once_for_all_steps_has_its_gradient(keep, inside) -> None:
    """A parameter made of others, kept by ``parametrize.cached``: the backward pass is made inside of it, or after."""
    v = Field().double()
    parametrizations.weight_norm(v.first)
    parametrizations.orthogonal(v.second)
    leaves = list(v.parameters())
    wanted = results(direct, v, leaves, keep=keep)

    def cached(*given) -> State:
        with parametrize.cached():
            return exact(*given)

    if inside:
        with parametrize.cached():
            found = results(exact, v, leaves, keep=keep)
    else:
        found = results(cached, v, leaves, keep=keep)
    assert gap(found, wanted) < 1e-12
    assert sum(float(g.abs().max()) > 1e-3 for g in wanted[1:]) >= 5


def test_a_leaf_of_late_steps_alone_needs_no_early_ones() -> None:
    late = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)

    def v(x: Tensor, t: Tensor) -> Tensor:
        return late * x if float(t[0]) < 0.6 else -x

    for keep in (1, 3):
        found, wanted = (walker(v, (start(),), TIMES, keep=keep)[0].sum() for walker in (exact, direct))
        assert gap([torch.autograd.grad(found, late)[0]], [torch.autograd.grad(wanted, late)[0]]) < 1e-12


def test_hooks_of_a_parameter_see_its_whole_gradient_once() -> None:
    v, seen = Field().double(), []
    wanted = results(direct, v, [v.first.weight])
    v.first.weight.register_hook(lambda gradient: seen.append(gradient) or 3 * gradient)
    found = results(exact, v, [v.first.weight])
    assert len(seen) == 1
    assert gap(found[:-1], wanted[:-1]) < 1e-12
    assert gap([found[-1]], [3 * wanted[-1]]) < 1e-12


def test_a_parameter_changed_in_between_is_refused() -> None:
    v = Field().double()
    (end,) = exact(v, (start(),), TIMES)
    with torch.no_grad():
        v.first.weight.mul_(1.1)
    with pytest.raises(RunError, match="changed between"):
        end.sum().backward()


def test_leaves_and_modules_are_found() -> None:
    a, b = (torch.ones(2, requires_grad=True) for _ in range(2))
    assert {id(leaf) for leaf in leaves_of([a * b.exp(), a])} == {id(a), id(b)}
    assert leaves_of([torch.ones(2)]) == []
    net = nn.Sequential()  # false as a truth value, since it is empty
    assert module_of(net) is module_of(net.forward) is module_of(partial(print, partial(net.forward, 1))) is net
    assert module_of(print) is None
    with pytest.raises(UserError, match="keep=0"):
        integrate_exact(net, (a,), TIMES, solver_of("euler"), keep=0)


# ---- memory --------------------------------------------------------------------------------------------------------


class Counted:
    """What autograd keeps, in elements, at the moment and at most."""

    now = most = 0

    def __init__(self, x: Tensor) -> None:
        self.x = x.detach()  # with its graph it would hold what holds it
        Counted.now += x.numel()
        Counted.most = max(Counted.most, Counted.now)

    def __del__(self) -> None:
        Counted.now -= self.x.numel()


def most_kept(walker, v: VectorField, steps: int, keep: int = 1, backward: bool = True) -> int:
    Counted.now = Counted.most = 0
    with torch.autograd.graph.saved_tensors_hooks(Counted, lambda counted: counted.x):
        (end,) = walker(v, (start().requires_grad_(backward),), grid(1.0, 0.0, steps), keep=keep)
        if backward:
            end.sum().backward()
    return Counted.most


@pytest.mark.parametrize("keep", [1, 2])
def test_memory_is_the_states_and_a_few_graphs(keep) -> None:
    v, state = Field().double(), start().numel()
    graph = most_kept(direct, v, 1)
    assert graph > 10 * state
    for steps in (5, 50):
        assert most_kept(exact, v, steps, keep) <= steps * state + (keep + 1) * graph
    assert most_kept(direct, v, 50) > 49 * graph


def test_nothing_is_kept_where_nothing_needs_a_gradient() -> None:
    v = Field().double()
    with torch.no_grad():
        assert most_kept(exact, v, 20, backward=False) == 0
    assert most_kept(exact, v, 20, backward=False) > 0
    v.requires_grad_(False)
    for frozen in (v, lambda x, t: v(x, t)):
        assert most_kept(exact, frozen, 20, backward=False) == 0
        assert not exact(frozen, (start(),), TIMES)[0].requires_grad


def test_after_the_backward_pass_nothing_is_held() -> None:
    with torch.autograd.graph.saved_tensors_hooks(Counted, lambda counted: counted.x):
        Counted.now = 0
        (end,) = exact(Field().double(), (start().requires_grad_(),), TIMES)
        assert Counted.now > 0
        end.sum().backward()
        assert Counted.now == 0  # although the result is still there


# ---- half precision, several processes -----------------------------------------------------------------------------


@pytest.mark.parametrize("cache", [True, False])
def test_under_autocast_it_is_what_backpropagation_gives_there(cache) -> None:
    v = Field()
    found = []
    for walker in (exact, direct):
        x = start(torch.float32).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=cache):
            (end,) = walker(v, (x,), TIMES)
            after = v(end, torch.zeros(3))  # the cast weights of the walk may serve here again
        loss = end.float().square().sum() + after.float().sum()
        found.append(
            [
                end.detach(),
                *torch.autograd.grad(loss, [x, v.first.weight, v.first.bias, v.second.weight, v.second.bias]),
            ]
        )
    # One cast for all steps adds their gradients in bfloat16, where the exact walk adds them in float32
    assert gap(*found) < (0.05 if cache else 1e-5)
    assert gap(found[0][:1], results(exact, Field().double(), [])[:1]) > 1e-4
    assert min(float(g.abs().max()) for g in found[0]) > 1e-2


class Classifier(nn.Module):
    """A flow and a head as one module, as several processes need it."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.inner, self.head = nn.Linear(4, 4).double(), nn.Linear(4, 2).double()

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        return torch.tanh(self.inner(x)) * t[:, None]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(integrate_exact(self.velocity, (x,), grid(1.0, 0.0, 5), solver_of("heun"))[0])


PICTURES = torch.randn(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def halves(folder: str) -> None:
    """In each of two processes: the gradient of its half of the pictures, averaged over both."""
    rank = int(os.environ["RANK"])
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    model = Classifier()
    wrapped = DistributedDataParallel(model)
    for _ in range(2):  # twice: a reducer that was left waiting fails at the second
        model.zero_grad()
        wrapped(PICTURES.chunk(2)[rank]).square().mean().backward()
    dist.destroy_process_group()
    save_file({name: p.grad for name, p in model.named_parameters()}, f"{folder}/{rank}.safetensors")


def test_two_processes_have_the_gradient_of_the_whole_batch(call: Callable[..., list[End]], tmp_path: Path) -> None:
    ends = call(2, "numerics/test_discrete_adjoint.py", "halves", folder=str(tmp_path))
    assert [end.code for end in ends] == [0, 0], ends
    whole = Classifier()
    whole(PICTURES).square().mean().backward()
    wanted = [p.grad for p in whole.parameters()]
    for rank in range(2):
        found = load_file(tmp_path / f"{rank}.safetensors")
        assert gap([found[name] for name, _ in whole.named_parameters()], wanted) < 1e-12
    assert min(float(g.abs().max()) for g in wanted) > 1e-3
