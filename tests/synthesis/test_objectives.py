"""Terms against torch written out by hand, closed forms, and one forward pass for all terms of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor, nn

from bothways.models.adapter import Adapter
from bothways.numerics.draws import Draws
from bothways.synthesis.ascent import Ascent, ascend
from bothways.synthesis.config import AscentConfig
from bothways.synthesis.das import toward
from bothways.synthesis.objectives.certainty import certainty
from bothways.synthesis.objectives.classes import class_log_probability, class_logit
from bothways.synthesis.objectives.terms import Term, TermSum, image_term
from bothways.synthesis.objectives.variation import TotalVariation, total_variation
from bothways.synthesis.parameterizations.pixels import Pixels
from bothways.synthesis.statistics import (
    Spread,
    batch_statistics,
    channel_statistics,
    measure_spread,
    spread_statistics,
)
from bothways.synthesis.views import Views
from bothways.synthesis.views.noise import Noise
from bothways.types import ModelSpec, UserError

LABELS = torch.tensor([2, 0, 1, 2])


class Counted:
    """A model that keeps what it was asked."""

    def __init__(self, model: Adapter) -> None:
        self.model, self.spec, self.name = model, model.spec, model.name
        self.asked: list[list[str]] = []

    def outputs(self, image: Tensor) -> Tensor:
        return self.features(image, ["outputs"])["outputs"]

    def features(self, image: Tensor, layers: Sequence[str]) -> Mapping[str, Tensor]:
        self.asked.append(list(layers))
        return self.model.features(image, layers)


def network(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.SiLU(), nn.Conv2d(5, 4, 3), nn.BatchNorm2d(4), nn.SiLU()]
        net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(4), nn.Linear(4, 3)).to(
            dtype
        )
        for norm in (net[1], net[4], net[8]):
            norm.running_mean.normal_(0, 0.4)
            norm.running_var.uniform_(0.5, 1.5)
    return net.eval()


def model(dtype: torch.dtype = torch.float64) -> Counted:
    return Counted(Adapter(network(dtype), ModelSpec(8, (0.5,) * 3, (0.25,) * 3, 3)))


def pictures(count: int = 4, dtype: torch.dtype = torch.float64, seed: int = 3) -> Tensor:
    return torch.rand(count, 3, 8, 8, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def test_class_terms_are_the_logit_and_its_log_probability() -> None:
    net, image = model(), pictures()
    logits = net.outputs(image)
    by_hand = torch.stack([logits[i, label] for i, label in enumerate(LABELS)])
    assert (class_logit(net, LABELS)(image) - by_hand).abs().max() < 1e-14
    log_p = by_hand - logits.exp().sum(1).log()
    assert (class_log_probability(net, LABELS)(image) - log_p).abs().max() < 1e-13


def test_certainty_is_minus_the_entropy_that_torch_gives() -> None:
    net, image = model(), pictures()
    entropy = torch.distributions.Categorical(logits=net.outputs(image)).entropy()
    assert (certainty(net)(image) + entropy).abs().max() < 1e-13


def test_copies_of_a_picture_are_averaged() -> None:
    net, image = model(), pictures()
    seen = pictures(12, seed=9)
    (value,) = TermSum((class_logit(net, LABELS),)).values(image, seen)
    logits = net.outputs(seen)
    wanted = [sum(logits[3 * i + k, LABELS[i]] for k in range(3)) / 3 for i in range(4)]
    assert (value - torch.stack(wanted)).abs().max() < 1e-14


def test_terms_add_scale_and_name_themselves() -> None:
    net, image = model(), pictures()
    a, b, c = class_logit(net, LABELS), total_variation(), image_term("mean", lambda x: x.mean((1, 2, 3)))
    both = 2 * a + b * 0.5
    everything = 3 * (both + c) + (c + a)
    assert str(both) == "2 logit + 0.5 total variation"
    assert str(everything) == "6 logit + 1.5 total variation + 3 mean + 1 mean + 1 logit"
    wanted = 7 * a(image) + 1.5 * b(image) + 4 * c(image)
    assert (everything(image) - wanted).abs().max() < 1e-12
    assert a.weight == 1
    assert (both(image) - 2 * a(image) - 0.5 * b(image)).abs().max() < 1e-13
    assert all(isinstance(term, Term) for term in everything.terms)


def test_all_terms_of_a_model_share_one_forward_pass() -> None:
    one, two, image = model(), model(), pictures()
    stored = one.model.batch_norm_statistics()
    terms = class_logit(one, LABELS) + class_log_probability(one, LABELS) + batch_statistics(one, stored, 2)
    (terms + class_logit(two, LABELS) + total_variation())(image)
    assert one.asked == [["1:input", "4:input", "8:input", "outputs"]]
    assert two.asked == [["outputs"]]
    total_variation()(image)
    assert len(one.asked) == 1


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
def test_total_variation_of_a_ramp_in_closed_form(power: float) -> None:
    slopes = torch.tensor([[0.03, 0.04], [0.0, 0.05], [0.02, 0.0]], dtype=torch.float64)
    steps = torch.arange(8, dtype=torch.float64)
    ramp = slopes[:, 0, None, None] * steps[:, None] + slopes[:, 1, None, None] * steps
    image = ramp[:, None].expand(-1, 3, -1, -1)
    wanted = -(slopes.norm(dim=1) ** power)
    assert (total_variation(power)(image) - wanted).abs().max() < (1e-6 if power == 1 else 1e-8)


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
def test_total_variation_is_a_mean_or_a_sum_over_pixels_and_colours(power: float) -> None:
    image = pictures(2).double()
    wanted = torch.zeros(2, dtype=torch.float64)
    for row, picture in enumerate(image):
        for colour in picture:
            for i in range(colour.shape[0] - 1):
                for j in range(colour.shape[1] - 1):
                    down, right = colour[i + 1, j] - colour[i, j], colour[i, j + 1] - colour[i, j]
                    wanted[row] -= (down**2 + right**2 + (0 if power == 2 else 1e-8)) ** (power / 2)
    pairs = 3 * (image.shape[2] - 1) * (image.shape[3] - 1)
    assert (TotalVariation(power=power, reduce="sum").terms(None)[0](image) - wanted).abs().max() < 1e-12
    assert (TotalVariation(power=power).terms(None)[0](image) - wanted / pairs).abs().max() < 1e-12
    assert (total_variation(power, "sum")(image) - wanted).abs().max() < 1e-12


def test_total_variation_has_a_finite_gradient_on_a_constant_picture() -> None:
    image = torch.full((1, 3, 8, 8), 0.5, requires_grad=True)
    for power in (1.0, 2.0):
        (gradient,) = torch.autograd.grad(total_variation(power)(image).sum(), image)
        assert gradient.abs().max() == 0


def deep_inversion(net: nn.Sequential, seen: Tensor) -> Tensor:
    """R_feature of DeepInversion's released code: hooks that compare batch statistics with the running ones."""
    total, value = seen.new_zeros(()), (seen - 0.5) / 0.25
    for layer in net:
        if isinstance(layer, nn.modules.batchnorm._BatchNorm):
            flat = value.transpose(0, 1).flatten(1)  # (C, everything else)
            mean = flat.sum(1) / flat.shape[1]
            variance = ((flat - mean[:, None]) ** 2).sum(1) / flat.shape[1]
            total = total + ((layer.running_mean - mean) ** 2).sum().sqrt()
            total = total + ((layer.running_var - variance) ** 2).sum().sqrt()
        value = layer(value)
    return total


@pytest.mark.parametrize("copies", [1, 3])
def test_batch_statistics_are_deep_inversions_in_each_group(copies: int) -> None:
    net, image, seen = model(), pictures(), pictures(4 * copies, seed=5)
    term = batch_statistics(net, net.model.batch_norm_statistics(), group=2)
    (value,) = TermSum((term,)).values(image, seen)
    groups = [-deep_inversion(net.model.module, part) for part in seen.split(2 * copies)]
    assert (value - torch.stack([groups[0], groups[0], groups[1], groups[1]]) / 2).abs().max() < 1e-12
    alone = TermSum((term,)).values(image[2:], seen[2 * copies :])[0]
    assert (alone - value[2:]).abs().max() < 1e-12  # groups do not touch each other


def test_batch_statistics_of_a_shorter_last_group() -> None:
    net, image = model(), pictures(3)
    value = batch_statistics(net, net.model.batch_norm_statistics(), group=2)(image)
    last = -deep_inversion(net.model.module, image[2:]) / 2
    assert value.shape == (3,)
    assert (value[2] - last).abs() < 1e-12


def spread(net: Counted) -> dict[str, Spread]:
    return measure_spread(net, pictures(40, seed=8), ["1:input", "4:input"], batch=7)


def test_spread_statistics_by_hand() -> None:
    net, image = model(), pictures()
    facts, total = spread(net), 0.0
    for layer, value in net.model.features(image, list(facts)).items():
        mean, std = value.mean((2, 3)), (value.var((2, 3), unbiased=False) + 1e-5).sqrt()
        f = facts[layer]
        total = total + (((mean - f.mean) / f.mean_std) ** 2 / 2).mean(1) / 2
        total = total + (((std.log() - f.log_std) / f.log_std_std) ** 2 / 2).mean(1) / 2
    assert (spread_statistics(net, facts)(image) + total).abs().max() < 1e-11


def test_the_measured_spread_is_that_of_the_pictures_whatever_the_batch() -> None:
    net, real = model(), pictures(40, seed=8)
    facts = spread(net)["4:input"]
    value = net.model.features(real, ["4:input"])["4:input"]
    means, logs = value.mean((2, 3)), 0.5 * (value.var((2, 3), unbiased=False) + 1e-5).log()
    assert (facts.mean - means.mean(0)).abs().max() < 1e-13
    assert (facts.mean_std - means.std(0) - 1e-3).abs().max() < 1e-13
    assert (facts.log_std - logs.mean(0)).abs().max() < 1e-13
    assert (facts.log_std_std - logs.std(0) - 1e-2).abs().max() < 1e-13
    assert not facts.mean.requires_grad
    with pytest.raises(UserError, match="two real images"):
        measure_spread(net, real[:1], ["4:input"])


def test_spread_statistics_of_a_picture_do_not_depend_on_the_others() -> None:
    net, image = model(), pictures()
    term = spread_statistics(net, spread(net))
    together = term(image)
    for i in range(4):
        assert (term(image[i : i + 1]) - together[i]).abs().max() < 1e-12
    assert term(image).unique().numel() == 4


def test_channel_statistics_of_maps_tokens_and_vectors() -> None:
    tokens = torch.randn(2, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    maps = tokens.transpose(1, 2).reshape(2, 5, 2, 3)
    for one, other in zip(channel_statistics(tokens), channel_statistics(maps), strict=True):
        assert one.shape == (2, 5)
        assert (one - other).abs().max() < 1e-14
    mean, log_std = channel_statistics(tokens[:, 0])
    assert torch.equal(mean, tokens[:, 0])
    assert (log_std - log_std[0, 0]).abs().max() == 0


def test_channel_statistics_have_the_values_and_gradients_of_mean_and_var() -> None:
    value = torch.randn(2, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) + 3
    value.requires_grad_()
    found = channel_statistics(value)
    plain = value.mean((2, 3)), 0.5 * (value.var((2, 3), unbiased=False) + 1e-5).log()
    slopes = [torch.autograd.grad(sum(part.square().sum() for part in pair), value)[0] for pair in (found, plain)]
    assert max((one - other).abs().max() for one, other in zip(found, plain, strict=True)) < 1e-14
    assert (slopes[0] - slopes[1]).abs().max() < 1e-14
    assert torch.autograd.gradgradcheck(channel_statistics, value)
    constant = torch.full((1, 2, 3, 3), 0.3, requires_grad=True)  # a dead channel
    torch.cat(channel_statistics(constant)).sum().backward()
    assert constant.grad is not None
    assert constant.grad.isfinite().all()


def test_each_objective_improves_its_own_value_in_a_few_steps() -> None:
    net, labels = model(torch.float32), LABELS
    stored = net.model.batch_norm_statistics()
    facts = measure_spread(net, pictures(40, torch.float32, seed=8), ["1:input", "4:input"])
    for term in (
        class_logit(net, labels),
        class_log_probability(net, labels),
        total_variation(1.0),
        total_variation(),
        batch_statistics(net, stored, 2),
        spread_statistics(net, facts),
        image_term("red", lambda x: x[:, 0].mean((1, 2))),
    ):
        start = 0.25 + 0.5 * pictures(4, torch.float32)
        draws = Draws(range(4))
        field = toward(term, draws, Views(2, [Noise(0.01)]))
        frames = list(ascend(field, Ascent(Pixels(start), AscentConfig(steps=6, rms=0.005)), draws))
        assert (term(frames[-1].image) > term(start)).all(), str(term)
