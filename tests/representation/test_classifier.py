"""A flow as a classifier: the loss and its gradient are those written out, and each part of it can be left out."""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bothways import ModelSpec, UserError
from bothways.models.velocity import Flow
from bothways.numerics.draws import generator
from bothways.representation.classifier import FlowClassifier, classifier_loss, freeze_unused, layer_rates
from bothways.representation.encode import Walk
from bothways.representation.features import KINDS, Features, pooled
from bothways.representation.heads import head_of, last_linear
from bothways.representation.heads.prg import PRGHead
from bothways.representation.paths.linear import linear
from bothways.training.config import FitConfig
from bothways.training.fit import FitState, fit
from small_flow import small_unet

SHAPE = (3, 4, 4)
SPEC = ModelSpec(4, (0.5,) * 3, (0.5,) * 3, 0, path="linear", time_scale=1000.0)
MIDDLE = ("network.middle",)


def classifier(kind: str = "walked", *, frozen: bool = False, gradient: str = "exact", **others: Any) -> FlowClassifier:
    how = Features(kind, 0.4, Walk(steps=3, gradient=gradient), MIDDLE, 0.1, **others)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        flow = Flow(small_unet(), SPEC).double()
        return FlowClassifier(flow, linear, SHAPE, 5, how, frozen=frozen, head=partial(PRGHead, width=6))


def batch() -> tuple[Tensor, ...]:
    source = generator(3, purpose="batch")
    x, z, noise = (torch.randn(4, *SHAPE, generator=source, dtype=torch.float64) for _ in range(3))
    t = torch.tensor([0.1, 0.4, 0.6, 0.95], dtype=torch.float64)
    return x, torch.tensor([0, 3, 4, 1]), z, noise, t


def walked(flow: nn.Module, x: Tensor) -> Tensor:
    """Three steps of Euler from the picture to depth 0.4, by hand."""
    for step in range(3):
        t = 1 - 0.4 * step / 3
        x = x - 0.4 / 3 * flow(x, torch.full((len(x),), t, dtype=x.dtype))
    return x


def written_out(model: FlowClassifier, given: tuple[Tensor, ...], beta: float, smoothing: float) -> Tensor:
    """The whole loss in the plainest words, with autograd's own graph through all of it."""
    x, labels, z, noise, t = given
    head, flat = model.head, walked(model.flow, x).flatten(1)
    centred = flat - flat.mean(1, keepdim=True)
    normed = centred / (centred.square().mean(1, keepdim=True) + 1e-5).sqrt() * head.norm.weight + head.norm.bias
    logits = torch.tanh(normed @ head.hidden.weight.T + head.hidden.bias) @ head.out.weight.T
    target = torch.full((4, 5), smoothing / 5, dtype=x.dtype)
    target[torch.arange(4), labels] += 1 - smoothing
    entropy = -(target * logits.log_softmax(1)).sum(1).mean()
    place = t.view(-1, 1, 1, 1) * z + (1 - t.view(-1, 1, 1, 1)) * noise
    error = model.flow(place, t) - (z - noise)
    return entropy + beta * error.square().sum(1).mean() / 2


@pytest.mark.parametrize("beta", [0.0, 0.7])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_gradient_of_the_whole_loss_is_that_of_all_its_steps(beta: float, smoothing: float) -> None:
    model, given = classifier(), batch()
    parameters = dict(model.named_parameters())
    wanted = written_out(model, given, beta, smoothing)
    truth = torch.autograd.grad(wanted, list(parameters.values()))
    found, told = classifier_loss(model, given, beta, smoothing)
    gradients = torch.autograd.grad(found, list(parameters.values()))
    assert abs(found.item() - wanted.item()) < 1e-12
    assert max((a - b).abs().max().item() for a, b in zip(gradients, truth, strict=True)) < 1e-10
    assert min(b.abs().max().item() for b in truth) > 0  # each of them does something
    assert ("flow_matching" in told) == bool(beta)


def test_without_beta_it_is_cross_entropy_alone_and_with_it_the_flow_feels_its_own_loss() -> None:
    """What beta adds to the gradient is beta times the flow-matching loss's own; the head feels nothing of it."""
    model, given = classifier(), batch()
    x, labels, *pairs = given
    flow, head = list(model.flow.parameters()), list(model.head.parameters())
    alone, told = classifier_loss(model, given, 0.0)
    assert torch.equal(alone, F.cross_entropy(model(x), labels))
    assert told.keys() == {"cross_entropy", "accuracy"}
    both, _ = classifier_loss(model, given, 0.5)
    z, noise, t = pairs
    place = t.view(-1, 1, 1, 1) * z + (1 - t.view(-1, 1, 1, 1)) * noise
    own = (model.flow(place, t) - (z - noise)).square().sum(1).mean() / 2
    without, with_it, wanted = (torch.autograd.grad(value, flow) for value in (alone, both, own))
    parts = zip(without, with_it, wanted, strict=True)
    assert max((b - a - 0.5 * w).abs().max().item() for a, b, w in parts) < 1e-10
    assert max(w.abs().max().item() for w in wanted) > 1e-3
    heads = (torch.autograd.grad(classifier_loss(model, given, beta)[0], head) for beta in (0.0, 0.5))
    assert max((a - b).abs().max().item() for a, b in zip(*heads, strict=True)) < 1e-12


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_reads_what_it_says(kind: str) -> None:
    model, x = classifier(kind), batch()[0]
    seen: dict[str, Tensor] = {}
    model.flow.network.middle[-1].register_forward_hook(lambda _m, _i, out: seen.update(middle=out.mean((2, 3))))
    parts = [x.flatten(1)] if kind == "pixels" else []
    parts += [walked(model.flow, x).flatten(1)] if kind in ("walked", "both") else []
    model.flow(x, torch.full((4,), 0.9, dtype=torch.float64))
    parts += [seen["middle"]] if kind in ("activations", "both") else []
    assert (model.features(x) - torch.cat(parts, 1)).abs().max() < 1e-12


def test_large_pictures_are_pooled_to_sixteen() -> None:
    x = torch.randn(2, 3, 32, 48, generator=generator(0))
    wanted = x.view(2, 3, 16, 2, 16, 3).mean((3, 5)).flatten(1)
    assert (pooled(x) - wanted).abs().max() < 1e-6
    assert torch.equal(pooled(x[..., :8, :8]), x[..., :8, :8].flatten(1))


def test_noised_activations_of_a_picture_do_not_depend_on_those_beside_it() -> None:
    model, x = classifier("activations", noised=True), batch()[0]
    alone = torch.cat([model(one) for one in x.split(1)])
    assert (model(x) - alone).abs().max() < 1e-12
    assert (model(x) - classifier("activations")(x)).abs().max() > 1e-4
    assert "noise" not in model.state_dict()


def settings(**others: Any) -> FitConfig:
    own = {"steps": 3, "optimizer": "adamw", "rate": 1e-2, "weight_decay": 5e-4, "warmup": 0.2, "schedule": "constant"}
    return FitConfig(**{**own, "average": 0.0, "clip": 0.0, **others})


def trained(model: FlowClassifier, beta: float, chosen: FitConfig, factor: Any = None) -> FitState:
    state = FitState(model, chosen, factor)
    list(fit(state, lambda net, given: classifier_loss(net, given, beta, 0.1), lambda step: batch(), chosen))
    return state


@pytest.mark.parametrize("kind", ["walked", "activations"])
def test_a_frozen_flow_keeps_its_bits_and_its_dropout_silent(kind: str) -> None:
    model = classifier(kind, frozen=True)
    before = copy.deepcopy(model.state_dict())
    model.train()
    assert model.head.training
    assert not any(part.training for part in model.flow.modules())
    state = trained(model, 0.0, settings(weight_decay=0.1, average=0.5))
    for result in (model, state.result):
        after = result.state_dict()
        kept = [key for key in after if key.startswith("flow.")]
        assert kept
        assert all(torch.equal(after[key], before[key]) for key in kept)
        assert not torch.equal(after["head.out.weight"], before["head.out.weight"])
    assert classifier(kind).train().flow.training


def test_a_frozen_flow_still_hands_gradients_to_the_picture() -> None:
    model, x = classifier(frozen=True), batch()[0]
    gradients = []
    for gradient in ("exact", "direct"):
        shown = x.clone().requires_grad_()
        gradients += torch.autograd.grad(classifier(frozen=True, gradient=gradient)(shown)[:, 1].sum(), shown)
    assert gradients[0].abs().max() > 0
    assert (gradients[0] - gradients[1]).abs().max() < 1e-12
    assert not any(p.requires_grad for p in model.flow.parameters())


def test_rates_fall_from_the_head_down_the_network_in_the_order_of_a_pass() -> None:
    model = classifier()
    factor = layer_rates(model, 0.5, SHAPE)
    order = ["time", "stem", *(f"down.{k}" for k in range(3)), "middle.0", "middle.1"]
    order += [*(f"up.{k}" for k in range(4)), "head"]
    found: dict[str, set[float]] = {}
    for name, _ in model.named_parameters():
        block = next((b for b in order if name.startswith(f"flow.network.{b}.")), "classifier")
        found.setdefault(block, set()).add(factor(name))
    assert found.pop("classifier") == {1.0}
    assert found == {name: {0.5 ** (len(order) - place)} for place, name in enumerate(order)}


def test_a_step_of_each_block_is_as_long_as_its_rate() -> None:
    """AdamW's first step is the rate in every coordinate that feels a gradient; biases before a norm do not."""
    model = classifier()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    factor = layer_rates(model, 0.7, SHAPE)
    trained(model, 1.0, settings(steps=1, weight_decay=0.0, warmup=0.0), factor)
    felt = {name: p for name, p in model.named_parameters() if p.grad.abs().max() > 1e-6}
    for name, p in felt.items():
        assert math.isclose((p.detach() - before[name]).abs().max().item(), 1e-2 * factor(name), rel_tol=0.01), name
    assert {factor(name) for name in felt} == {factor(name) for name in before}


def test_what_the_logits_do_not_depend_on_is_held() -> None:
    model = classifier("activations")
    held = freeze_unused(model, SHAPE)
    after = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert held == sum(p.numel() for p in (*model.flow.network.up.parameters(), *model.flow.network.head.parameters()))
    assert all(name.startswith(("flow.network.up.", "flow.network.head.")) for name in after)
    loss, _ = classifier_loss(model, batch(), 0.0)
    loss.backward()
    assert all((p.grad is not None) == p.requires_grad for p in model.parameters())
    assert freeze_unused(classifier(), SHAPE) == 0


def test_the_head_has_the_sizes_of_the_paper() -> None:
    head = head_of("prg")(3 * 16 * 16, 10)
    assert [tuple(p.shape) for p in head.parameters()] == [(768,), (768,), (768, 768), (768,), (10, 768)]


def test_any_function_of_two_widths_is_a_head() -> None:
    def deep(width_in: int, classes: int) -> nn.Module:
        return nn.Sequential(nn.Linear(width_in, 4), nn.ReLU(), nn.Linear(4, classes), nn.Identity())

    x, how = batch()[0], Features("pixels")
    for given, matrix in ((deep, "2"), (head_of("linear"), ""), (head_of("prg"), "out")):
        model = FlowClassifier(Flow(small_unet(), SPEC).double(), linear, SHAPE, 5, how, head=given)
        assert model(x).shape == (4, 5)
        assert last_linear(model.head) == matrix
    assert head_of(deep) is deep


def test_in_bfloat16_the_loss_is_near_and_single() -> None:
    model = classifier().float()
    given = tuple(v.float() if v.is_floating_point() else v for v in batch())
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = classifier_loss(model, given, 1.0)
    assert loss.dtype == torch.float32
    assert abs(loss.item() - classifier_loss(model, given, 1.0)[0].item()) < 0.05


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"kind": "walks"}, "type one of walked, activations, both, pixels"),
        ({"kind": "activations"}, "type --layer NAME"),
        ({"depth": 1.2}, "depth=1.2; type a number from 0"),
        ({"activation_depth": -0.1}, "activation_depth=-0.1; type"),
        ({"kind": "both", "layers": ("network.midle",)}, "network.middle"),
    ],
)
def test_what_cannot_be_is_one_line(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says) as said:
        FlowClassifier(Flow(small_unet(), SPEC), linear, SHAPE, 5, Features(**options))
    assert "\n" not in str(said.value)
