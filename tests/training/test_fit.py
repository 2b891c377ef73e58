"""Training: it learns, resumes to the bit, and its optimisers and average are torch's."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bothways.configs import validated
from bothways.models.nets.attention import AttentionNet
from bothways.models.nets.resnet import ResNet
from bothways.numerics.draws import generator
from bothways.training.config import FitConfig
from bothways.training.fit import FitState, build_optimizers, fit, rates
from bothways.training.parts import parts
from bothways.types import RunError, UserError

Batch = tuple[Tensor, ...]
needs_muon = pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
every_optimizer = pytest.mark.parametrize("optimizer", ["sgd", "adamw", pytest.param("muon", marks=needs_muon)])


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Flatten(), nn.Linear(48, 12), nn.BatchNorm1d(12), nn.SiLU(), nn.Linear(12, 12))
        net.append(nn.SiLU())
        net.add_module("head", nn.Linear(12, 3))
    return net


def batch(step: int) -> Batch:
    """Pictures 4 x 4 whose class is their brightest channel."""
    images = torch.rand(32, 3, 4, 4, generator=generator(5, step, "batch"))
    return images, images.mean((2, 3)).argmax(1)


def loss(net: nn.Module, given: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    logits = net(given[0])
    return F.cross_entropy(logits, given[1]), {"accuracy": (logits.argmax(1) == given[1]).float().mean()}


def settings(optimizer: str = "sgd", **others: Any) -> FitConfig:
    rate = {"sgd": 0.1, "adamw": 0.01, "muon": 0.05}.get(optimizer, 0.1)
    own = {"steps": 40, "optimizer": optimizer, "rate": rate, "weight_decay": 5e-4, "warmup": 0.2, "schedule": "linear"}
    return validated(FitConfig, {**own, "average": 0.0, "clip": 0.0, **others})


def rate_at(step: int, chosen: FitConfig) -> float:
    return rates(chosen)(step)


@every_optimizer
def test_a_small_classification_is_learnt(optimizer: str) -> None:
    chosen = settings(optimizer)
    state = FitState(network(), chosen)
    frames = list(fit(state, loss, batch, chosen))
    assert [frame.step for frame in frames] == list(range(1, 41))
    assert frames[-1].t == 1.0
    assert all(frame.image is None for frame in frames)
    first, last = (sum(f.stats["loss"] for f in part) / 5 for part in (frames[:5], frames[-5:]))
    assert last < 0.75 * first
    assert sum(f.stats["accuracy"] for f in frames[-5:]) / 5 > 0.6
    assert state.result is state.network


@every_optimizer
@pytest.mark.parametrize("average", [0.0, 0.9])
def test_a_resume_is_bit_identical(optimizer: str, average: float) -> None:
    chosen = settings(optimizer, average=average, clip=0.5, steps=14)
    whole, saved, losses = FitState(network(), chosen), {}, []
    for frame in fit(whole, loss, batch, chosen):
        losses.append(frame.stats["loss"])
        if frame.step == 6:
            saved = copy.deepcopy(whole.state_dict())
    resumed = FitState(network(seed=1), chosen)
    resumed.load_state_dict(saved)
    again = [frame.stats["loss"] for frame in fit(resumed, loss, batch, chosen)]
    assert again == losses[6:]
    for one, other in ((whole.network, resumed.network), (whole.result, resumed.result)):
        assert all(torch.equal(value, other.state_dict()[key]) for key, value in one.state_dict().items())


def test_a_state_survives_a_file_without_pickled_code(tmp_path: Any) -> None:
    chosen = settings("adamw", average=0.9, steps=4)
    state = FitState(network(), chosen)
    list(fit(state, loss, batch, chosen))
    torch.save(state.state_dict(), tmp_path / "state.pt")
    other = FitState(network(seed=1), chosen)
    other.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert other.step == 4
    assert list(fit(other, loss, batch, chosen)) == []
    assert torch.equal(other.result.head.weight, state.result.head.weight)


@pytest.mark.parametrize(
    ("optimizer", "torchs"),
    [
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)),
        ("adamw", lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.7, 0.95), weight_decay=0.01)),
    ],
)
def test_the_steps_are_torchs_own(
    optimizer: str, torchs: Callable[[list[nn.Parameter]], torch.optim.Optimizer]
) -> None:
    chosen = settings(optimizer, weight_decay=0.01, betas=(0.7, 0.95), steps=5)
    state, by_hand = FitState(network(), chosen), network()
    walker = torchs(list(by_hand.parameters()))
    for frame in fit(state, loss, batch, chosen):
        walker.param_groups[0]["lr"] = rate_at(frame.step - 1, chosen)
        walker.zero_grad()
        loss(by_hand, batch(frame.step - 1))[0].backward()
        walker.step()
    for one, other in zip(state.network.parameters(), by_hand.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_average_is_the_exponential_one_and_is_the_result() -> None:
    chosen = settings(average=0.3, steps=6)
    state, wanted = FitState(network(), chosen), None
    for made, _ in enumerate(fit(state, loss, batch, chosen)):
        now = {k: v.detach().double().clone() for k, v in state.network.state_dict().items() if v.is_floating_point()}
        decay = min(0.3, (1 + made) / (10 + made))  # .18, .25, then .3
        wanted = now if wanted is None else {k: decay * wanted[k] + (1 - decay) * now[k] for k in now}
    found = state.result.state_dict()
    assert max((found[key] - value).abs().max().item() for key, value in wanted.items()) < 1e-6
    assert "2.running_mean" in wanted
    assert not torch.equal(found["head.weight"], state.network.head.weight)


def test_the_average_of_a_short_training_is_not_of_its_first_weights() -> None:
    chosen = settings(average=0.999, steps=20)
    state, places = FitState(network(), chosen), []
    for _ in fit(state, loss, batch, chosen):
        places.append(state.network.head.weight.detach().clone())
    distances = [(state.result.head.weight - place).norm() for place in (places[0], places[-1])]
    assert distances[1] < distances[0]


def test_the_rate_rises_to_its_peak_and_falls_to_zero() -> None:
    chosen = settings(steps=100, rate=0.5, warmup=0.2)
    rates = [rate_at(step, chosen) for step in range(100)]
    assert abs(rates[0] - 0.5 / 20) < 1e-15
    assert abs(rates[9] - 0.25) < 1e-15
    assert max(rates) == rates[19] == rates[20] == 0.5
    assert abs(rates[60] - 0.25) < 1e-15
    assert abs(rates[99] - 0.5 / 80) < 1e-15
    assert rate_at(100, chosen) == 0
    for warmup in (0.0, 1.0):
        assert all(0 < rate_at(step, settings(steps=7, warmup=warmup)) <= 0.1 for step in range(7))


def test_a_cosine_is_torchs_own_and_constant_stays() -> None:
    chosen = settings(steps=100, rate=0.5, warmup=0.2, schedule="cosine")
    walker = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    torchs = torch.optim.lr_scheduler.CosineAnnealingLR(walker, T_max=80)
    for step in range(20, 100):
        assert abs(rate_at(step, chosen) - torchs.get_last_lr()[0]) < 1e-12
        walker.step()
        torchs.step()
    linear = settings(steps=100, rate=0.5, warmup=0.2)
    flat = settings(steps=100, rate=0.5, warmup=0.2, schedule="constant")
    assert [rate_at(k, chosen) for k in range(20)] == [rate_at(k, linear) for k in range(20)]
    assert [rate_at(k, flat) for k in range(20)] == [rate_at(k, linear) for k in range(20)]
    assert {rate_at(k, flat) for k in range(20, 100)} == {0.5}


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_rate_falls_to_its_floor(schedule: str) -> None:
    """As torch's cosine with eta_min, and as a line between the ends; the warm-up is the same."""
    free, held = (settings(steps=100, rate=0.5, warmup=0.2, schedule=schedule, rate_floor=f) for f in (0.0, 0.01))
    assert [rate_at(k, held) for k in range(20)] == [rate_at(k, free) for k in range(20)]
    assert abs(rate_at(100, held) - 0.005) < 1e-15
    walker = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    torchs = torch.optim.lr_scheduler.CosineAnnealingLR(walker, T_max=80, eta_min=0.005)
    for step in range(20, 100):
        wanted = torchs.get_last_lr()[0] if schedule == "cosine" else 0.5 - 0.495 * (step - 20) / 80
        assert abs(rate_at(step, held) - wanted) < 1e-12
        walker.step()
        torchs.step()


def test_a_schedule_of_ones_own_takes_the_rate_on() -> None:
    def falls_twice_as_fast(place: float) -> float:
        return max(0.0, 1 - 2 * place)

    chosen = settings(steps=100, rate=0.5, schedule=falls_twice_as_fast)
    assert rate_at(10, chosen) == rate_at(10, settings(steps=100, rate=0.5))
    assert abs(rate_at(40, chosen) - 0.25) < 1e-12
    assert rate_at(80, chosen) == 0
    assert chosen.model_dump()["schedule"] == "falls_twice_as_fast"


def test_batches_may_come_from_an_iterator() -> None:
    chosen = settings(steps=8)
    one, other = FitState(network(), chosen), FitState(network(), chosen)
    wanted = [frame.stats for frame in fit(one, loss, batch, chosen)]
    first = fit(other, loss, map(batch, range(8)), chosen)
    found = [next(first).stats for _ in range(3)]
    found += [frame.stats for frame in fit(other, loss, map(batch, range(3, 8)), chosen)]
    assert found == wanted


def test_dropout_is_a_function_of_the_step_and_leaves_the_callers_random_state_alone() -> None:
    def with_dropout() -> nn.Module:
        net = network()
        net[3] = nn.Sequential(nn.SiLU(), nn.Dropout(0.5))
        return net

    chosen = settings(steps=8)
    whole, saved = FitState(with_dropout(), chosen), {}
    torch_state, wanted = torch.random.get_rng_state(), []
    for frame in fit(whole, loss, batch, chosen, seed=4):
        wanted.append(frame.stats["loss"])
        if frame.step == 3:
            saved = copy.deepcopy(whole.state_dict())
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    resumed = FitState(with_dropout(), chosen)
    resumed.load_state_dict(saved)
    torch.rand(5)  # another process has drawn other numbers by now
    assert [frame.stats["loss"] for frame in fit(resumed, loss, batch, chosen, seed=4)] == wanted[3:]
    other = fit(FitState(with_dropout(), chosen), loss, batch, chosen, seed=5)
    assert [f.stats["loss"] for f in other] != wanted


def test_frames_report_the_rate_that_was_used() -> None:
    chosen = settings(steps=5)
    rates = [frame.stats["rate"] for frame in fit(FitState(network(), chosen), loss, batch, chosen)]
    assert rates == [rate_at(step, chosen) for step in range(5)]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@every_optimizer
def test_a_loss_that_is_not_finite_stops_before_the_step(bad: float, optimizer: str) -> None:
    def broken(net: nn.Module, given: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        value, stats = loss(net, given)
        return (value if state.step < 3 else value * bad), stats

    chosen = settings(optimizer, average=0.9)
    state = FitState(network(), chosen)
    frames = fit(state, broken, batch, chosen)
    for _ in range(3):
        next(frames)
    kept = {name: p.detach().clone() for name, p in state.network.named_parameters()}
    with pytest.raises(RunError, match="at step 4; lower the rate"):
        next(frames)
    assert state.step == 3
    assert all(torch.equal(p, kept[name]) for name, p in state.network.named_parameters())
    assert all(torch.isfinite(p).all() for p in state.result.parameters())


def test_the_gradient_is_clipped_to_its_norm() -> None:
    chosen = settings(steps=1, rate=1.0, weight_decay=0.0, warmup=0.0, clip=1e-3)
    state, before = FitState(network(), chosen), network()
    list(fit(state, loss, batch, chosen))
    moved = [p - q for p, q in zip(state.network.parameters(), before.parameters(), strict=True)]
    norm = torch.stack([part.norm() for part in moved]).norm()
    assert abs(norm / (1.9e-3) - 1) < 1e-2  # Nesterov's first step is 1.9 gradients


@needs_muon
@pytest.mark.parametrize("net", [network(), AttentionNet(3, size=8, width=8, depth=2, heads=2, stem=4)])
def test_muon_takes_the_inner_matrices_and_adamw_the_rest_none_lost_none_twice(net: nn.Module) -> None:
    first, second = build_optimizers(net, settings("muon"))
    parts = [[p for group in o.param_groups for p in group["params"]] for o in (first, second)]
    names = {id(p): name for name, p in net.named_parameters()}
    taken = [names[id(p)] for part in parts for p in part]
    assert sorted(taken) == sorted(names.values())
    assert all(p.ndim == 2 for p in parts[0])
    assert all(p.ndim != 2 or names[id(p)].startswith("head") for p in parts[1])
    assert (type(first).__name__, type(second).__name__) == ("Muon", "AdamW")


@every_optimizer
def test_frozen_parameters_stay(optimizer: str) -> None:
    net = network()
    net[4].weight.requires_grad_(False)
    taken = [p for o in build_optimizers(net, settings(optimizer)) for g in o.param_groups for p in g["params"]]
    assert all(p is not net[4].weight for p in taken)
    before, chosen = net[4].weight.clone(), settings(optimizer, steps=3)
    list(fit(FitState(net, chosen), loss, batch, chosen))
    assert torch.equal(net[4].weight, before)


def test_optimisers_that_do_not_exist_or_do_not_fit() -> None:
    with pytest.raises(UserError, match="'sgd', 'adamw' or 'muon'"):
        settings("adam")
    with pytest.raises(UserError, match="type linear"):
        settings(schedule="linar")
    with pytest.raises(UserError, match='type "adamw"'):
        FitState(ResNet(3, (4,), (0,)), settings("muon"))


def test_half_precision_trains_and_keeps_full_weights() -> None:
    chosen = settings(bf16=True, steps=20)
    state = FitState(network(), chosen)
    seen: list[torch.dtype] = []

    def watched(net: nn.Module, given: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        seen.append(net(given[0]).dtype)
        return loss(net, given)

    frames = list(fit(state, watched, batch, chosen))
    assert set(seen) == {torch.bfloat16}
    assert frames[-1].stats["loss"] < frames[0].stats["loss"]
    assert {p.dtype for p in state.network.parameters()} == {torch.float32}


def test_the_network_is_in_training_mode_at_every_step_whatever_the_caller_does() -> None:
    chosen = settings(steps=3)
    state = FitState(network(), chosen)
    before = state.network[2].running_mean.clone()
    for _ in fit(state, loss, batch, chosen):
        assert not torch.equal(state.network[2].running_mean, before)
        before = state.network[2].running_mean.clone()
        state.network.eval()


# ---- a batch in parts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [2, 3, 6])
def test_a_batch_in_parts_makes_the_step_of_the_whole(count: int) -> None:
    """In float64 to rounding: weights, loss and statistics; tensors of a batch may have rows of their own number."""

    def made(parts: int) -> tuple[nn.Module, list[Any]]:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1)).double()
        source = torch.Generator().manual_seed(1)
        some, more = (torch.randn(rows, 3, generator=source, dtype=torch.float64) for rows in (6, 12))

        def loss(network: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, Tensor]]:
            one, other = (network(rows).square().mean() for rows in given)
            return one + 0.3 * other, {"other": other}

        config = FitConfig(steps=3, batch=6, rate=1e-2, clip=0.1, accumulate=parts)
        return net, list(fit(FitState(net, config), loss, lambda step: (some, more), config))

    (whole, once), (split, several) = made(1), made(count)
    pairs = zip(whole.parameters(), split.parameters(), strict=True)
    assert max((a - b).abs().max().item() for a, b in pairs) < 1e-9
    for a, b in zip(once, several, strict=True):
        assert a.stats.keys() == b.stats.keys()
        assert all(abs(a.stats[key] - b.stats[key]) < 1e-6 for key in a.stats)


def test_a_batch_that_does_not_fall_into_parts_is_refused() -> None:
    with pytest.raises(UserError, match="accumulate=4 does not divide --batch 6; type --batch 4"):
        FitConfig(steps=1, batch=6, accumulate=4).resolved(10)
    with pytest.raises(UserError, match="does not divide 6 rows of a batch"):
        parts((torch.zeros(4), torch.zeros(6)), 4)
