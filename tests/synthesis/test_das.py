"""Fields: the gradient of a wish through many views against autograd, unit norms, sums, and the null field."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bothways.models.adapter import Adapter
from bothways.numerics.draws import Draws
from bothways.synthesis.das import toward
from bothways.synthesis.fields import Combined, Field, WhiteNoise, unit
from bothways.synthesis.objectives.classes import class_logit
from bothways.synthesis.objectives.terms import TermSum, image_term
from bothways.synthesis.objectives.variation import total_variation
from bothways.synthesis.views import Views
from bothways.synthesis.views.noise import Noise
from bothways.synthesis.views.roll import Roll
from bothways.types import ModelSpec

LABELS, SEEDS, T = torch.tensor([1, 0, 2]), (5, 6, 7), torch.full((3,), 0.25)
VIEWS = Views(4, [Roll(2), Noise(0.05)])


@pytest.fixture(scope="module")
def model() -> Adapter:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.SiLU(), nn.Conv2d(6, 3, 3), nn.AdaptiveAvgPool2d(1))
    return Adapter(net.double(), ModelSpec(8, (0.5,) * 3, (0.25,) * 3, 3))


def pictures(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def norms(dx: Tensor) -> Tensor:
    return dx.flatten(1).norm(dim=1)


def test_without_views_it_is_the_gradient_of_the_objective(model: Adapter) -> None:
    image = pictures().requires_grad_()
    objective = 2 * class_logit(model, LABELS) + 0.3 * total_variation()
    (wanted,) = torch.autograd.grad(objective(image).sum(), image)
    field = toward(objective, Draws(SEEDS))
    assert (field(image, T) - wanted).abs().max() < 1e-14
    assert (field.stats["logit"] - class_logit(model, LABELS)(image)).abs().max() < 1e-14
    assert (field.stats["total variation"] - total_variation()(image)).abs().max() < 1e-14


def test_through_views_it_is_the_mean_over_the_copies_and_variation_sees_the_picture_itself(model: Adapter) -> None:
    image = pictures().requires_grad_()
    seen = VIEWS(image, Draws(SEEDS), 0.25)
    logits = model.outputs(seen)
    value = sum(logits[4 * i + k, LABELS[i]] for i in range(3) for k in range(4)) / 4
    wanted = torch.autograd.grad(value + 0.3 * total_variation()(image).sum(), image)[0]
    field = toward(class_logit(model, LABELS) + 0.3 * total_variation(), Draws(SEEDS), VIEWS)
    assert (field(image.detach(), T) - wanted).abs().max() < 1e-14
    with torch.no_grad():
        assert torch.equal(field(image, T), field(image, T))
        assert not torch.equal(field(image, T), field(image, T + 0.25))


def test_nothing_is_left_on_the_model_or_the_picture(model: Adapter) -> None:
    image = pictures()
    direction = toward(class_logit(model, LABELS), Draws(SEEDS), VIEWS, normalize=True)(image, T)
    assert not direction.requires_grad
    assert not image.requires_grad
    assert all(p.grad is None for p in model.module.parameters())


def test_normalised_terms_have_their_weight_as_norm_whatever_their_scale(model: Adapter) -> None:
    image = pictures()
    tiny = image_term("tiny", lambda x: 1e-12 * (x * x).sum((1, 2, 3)))
    logit, draws = class_logit(model, LABELS), Draws(SEEDS)
    for term in (logit, 3 * tiny, -2.0 * total_variation()):
        wanted = torch.full((3,), abs(term.weight), dtype=torch.float64)
        assert (norms(toward(term, draws, VIEWS, normalize=True)(image, T)) - wanted).abs().max() < 1e-12
    together = toward(logit + 3 * tiny, draws, VIEWS, normalize=True)(image, T)
    parts = [toward(term, draws, VIEWS, normalize=True)(image, T) for term in (logit, 3 * tiny)]
    assert (together - parts[0] - parts[1]).abs().max() < 1e-13
    wanted = 3 * image / norms(image).view(-1, 1, 1, 1)
    assert (parts[1] - wanted).abs().max() < 1e-13


def test_each_picture_is_normalised_by_itself(model: Adapter) -> None:
    image, objective = pictures(), class_logit(model, LABELS) + total_variation()
    together = toward(objective, Draws(SEEDS), VIEWS, normalize=True)(image, T)
    for i in range(3):
        one = toward(
            class_logit(model, LABELS[i : i + 1]) + total_variation(), Draws(SEEDS[i : i + 1]), VIEWS, normalize=True
        )
        assert (one(image[i : i + 1], T[:1]) - together[i]).abs().max() < 1e-12


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_unit_at_every_scale_and_at_zero(dtype: torch.dtype) -> None:
    direction = torch.randn(6, 3, 4, 4, dtype=dtype, generator=torch.Generator().manual_seed(0))
    scale = torch.tensor([1e-30, 1e-22, 1e-8, 1.0, 1e22, 0.0], dtype=dtype).view(-1, 1, 1, 1)
    found = unit(scale * direction)
    wanted = direction / norms(direction).view(-1, 1, 1, 1)
    assert (found[:5] - wanted[:5]).abs().max() < 10 * torch.finfo(dtype).eps
    assert found[5].abs().max() == 0


def test_a_zero_gradient_stays_zero_and_finite() -> None:
    flat = image_term("flat", lambda x: 0 * x.sum((1, 2, 3)))
    grey = torch.full((3, 3, 8, 8), 0.5)
    for objective in (flat, flat + total_variation()):
        for normalize in (True, False):
            assert toward(objective, Draws(SEEDS), normalize=normalize)(grey, T).abs().max() == 0


class Constant(Field):
    """The same number everywhere, and its own statistic."""

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.stats = {f"c{self.value:g}": torch.full((len(x),), self.value)}
        return torch.full_like(x, self.value)


def test_fields_add_and_scale_and_gather_their_statistics() -> None:
    x = pictures()
    field = 2.0 * (Constant(3) + 0.5 * Constant(10)) + Constant(1) * 4
    assert isinstance(field, Combined)
    assert (field(x, T) - 20).abs().max() == 0
    assert {name: value.tolist() for name, value in field.stats.items()} == {
        "c3": [3.0] * 3,
        "c10": [10.0] * 3,
        "c1": [1.0] * 3,
    }


def test_the_sum_of_fields_is_the_field_of_the_sum(model: Adapter) -> None:
    draws, image = Draws(SEEDS), pictures()
    a, b = class_logit(model, LABELS), total_variation()
    apart = toward(a, draws, VIEWS) + 0.7 * toward(b, draws, VIEWS)
    assert (apart(image, T) - toward(a + 0.7 * b, draws, VIEWS)(image, T)).abs().max() < 1e-14
    assert set(apart.stats) == {"logit", "total variation"}


def test_white_noise_is_a_function_of_seed_and_moment() -> None:
    x = torch.zeros(3, 3, 16, 16)
    field = WhiteNoise(Draws(SEEDS))
    first = field(x, T)
    assert torch.equal(first, field(x + 1, T))
    assert torch.equal(first[1:2], WhiteNoise(Draws(SEEDS[1:2]))(x[:1], T[:1]))
    assert not torch.equal(first, field(x, T + 0.1))
    assert abs(first.std() - 1) < 0.1
    assert field(x.double(), T).dtype == torch.float64


def test_a_wish_of_many_models_follows_each(model: Adapter) -> None:
    other = Adapter(nn.Sequential(nn.Flatten(), nn.Linear(192, 3)).double(), model.spec)
    image = pictures()
    both = TermSum((class_logit(model, LABELS), class_logit(other, LABELS)))
    parts = [toward(class_logit(m, LABELS), Draws(SEEDS))(image, T) for m in (model, other)]
    assert (toward(both, Draws(SEEDS))(image, T) - parts[0] - parts[1]).abs().max() < 1e-13
