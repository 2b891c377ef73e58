"""Distributions of features over positions: closed forms, gradients, and where what is matched comes from."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest
import torch
from scipy.stats import norm
from torch import Tensor, nn

import bothways
from bothways import objectives
from bothways.data.sources import load_images
from bothways.models.adapter import Adapter
from bothways.models.loader import load_model
from bothways.numerics.draws import Draws
from bothways.runs import to_png
from bothways.synthesis.matching import (
    Form,
    Target,
    distance,
    matching,
    measure_quantiles,
    normal_quantiles,
    relevance,
    resampled,
)
from bothways.synthesis.objectives.base import NO_CLASS, Binding, Priors, as_sum
from bothways.synthesis.objectives.matching import Matching
from bothways.tasks.generate.priors import find_priors
from bothways.types import ModelSpec, UserError
from toy_model import build

FORMS: tuple[Form, ...] = ("sorted", "moments")
SECOND = "body.4:input"


def values(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def toy() -> Adapter:
    module, spec = build()
    return load_model(module.eval(), spec=spec)


def pictures(folder: Path, classes: dict[str, float]) -> Path:
    """Five pictures of each class, about so bright."""
    for place, (name, bright) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True)
        for i, image in enumerate(Draws(range(10 * place, 10 * place + 5)).uniform((3, 16, 16))):
            (folder / name / f"{i}.png").write_bytes(to_png((bright + 0.3 * image).clamp(0, 1)))
    return folder


def bright(folder: Path, name: str) -> Tensor:
    return load_images(folder / name).images


def test_the_distance_is_that_of_the_best_pairing() -> None:
    a, b = values(1, 2, 6), values(1, 2, 6, seed=1)
    best = min((a - b[..., list(order)]).square().mean(2)[0, 1].item() for order in permutations(range(6)))
    assert abs(distance(a, b.sort(2).values)[0, 1].item() - best) < 1e-14
    by_hand = torch.tensor([[[3.0, 1.0, 2.0]]], dtype=torch.float64)
    assert distance(by_hand, torch.tensor([[1.0, 2.0, 6.0]], dtype=torch.float64)).item() == 3.0  # (0 + 0 + 9) / 3
    moved = distance(by_hand, torch.tensor([[1.0, 2.0, 6.0]], dtype=torch.float64), "moments")
    assert abs(moved.item() - (1 + ((2 / 3) ** 0.5 - (14 / 3) ** 0.5) ** 2)) < 1e-9


@pytest.mark.parametrize("form", FORMS)
def test_it_is_zero_for_the_same_values_in_any_order(form: Form) -> None:
    a = values(2, 3, 8)
    assert distance(a.flip(2), a.sort(2).values, form).abs().max() < 1e-20


def test_moments_are_a_lower_bound_and_exact_for_a_shift_and_a_stretch() -> None:
    a, b = values(4, 3, 9), values(4, 3, 9, seed=1).sort(2).values
    assert (distance(a, b, "moments") <= distance(a, b, "sorted") + 1e-9).all()
    assert (distance(a, b, "moments") < distance(a, b, "sorted") - 1e-3).any()
    stretched = 2.5 * b - 1
    assert (distance(stretched, b, "moments") - distance(stretched, b, "sorted")).abs().max() < 1e-9


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient(form: Form) -> None:
    a, b = values(2, 2, 5).requires_grad_(), values(2, 2, 7, seed=1).sort(2).values
    assert torch.autograd.gradcheck(lambda x: distance(x, b, form), a)
    same = values(1, 1, 7, seed=1).sort(2).values
    (gradient,) = torch.autograd.grad(distance(a[:1, :1], same, form).sum(), a)
    assert gradient[0, 0].abs().max() > 1e-3
    assert gradient[1].abs().max() == 0


@pytest.mark.parametrize("count", [1, 3, 8, 40])
def test_quantiles_at_another_number_of_positions(count: int) -> None:
    ramp = (torch.arange(8, dtype=torch.float64) + 0.5) / 8
    expected = ((torch.arange(count, dtype=torch.float64) + 0.5) / count).clamp(1 / 16, 15 / 16)
    assert (resampled(ramp.expand(2, 3, 8), count) - expected).abs().max() < 1e-14


def test_normal_quantiles_have_the_stated_moments() -> None:
    mean, std = torch.tensor([1.0, -2.0], dtype=torch.float64), torch.tensor([0.5, 3.0], dtype=torch.float64)
    found = normal_quantiles(mean, std, 50)
    assert (found.mean(1) - mean).abs().max() < 1e-12
    assert (found.std(1, unbiased=False) - std).abs().max() < 1e-12
    expected = torch.from_numpy(norm.ppf((torch.arange(50).double() + 0.5).numpy() / 50))
    assert ((found[0] - mean[0]) / std[0] / expected - 1).std() < 1e-12  # all by the same factor
    assert normal_quantiles(mean, std, 1).tolist() == [[1.0], [-2.0]]


def test_the_term_by_hand() -> None:
    model = toy()
    images = Draws(range(4)).uniform((3, 16, 16))  # two pictures of two copies
    with torch.no_grad():
        seen = model.features(images, [SECOND, "body.1:input"])
    quantiles = {layer: value.flatten(2)[0].sort(1).values + 0.1 for layer, value in seen.items()}
    weights = {layer: torch.linspace(0, 2, len(q)) for layer, q in quantiles.items()}
    target = {layer: Target(q, weights[layer]) for layer, q in quantiles.items()}
    term = matching(model, [target, target], tuple(target), weighted=True)
    far = []
    for layer, value in seen.items():
        squared = (value.flatten(2).sort(2).values - quantiles[layer]).square().mean(2)
        far.append((weights[layer] * squared / quantiles[layer].var(1, unbiased=False)).mean(1))
    expected = -torch.stack(far).mean(0).view(2, 2).mean(1)
    assert (term.measure(seen, 2) - expected).abs().max() < 1e-5
    plain = matching(model, [target, target], tuple(target), scaled=False).measure(seen, 2)
    assert not torch.allclose(plain, expected)
    one = matching(model, [target], [SECOND], scaled=False).measure({SECOND: seen[SECOND][:1]}, 1)
    assert abs(one.item() + 0.01) < 1e-6  # all of them .1 away


def test_weights_are_activation_times_gradient_of_the_logit() -> None:
    model = toy()
    images = (255 * Draws(range(3)).uniform((3, 16, 16))).byte()
    module, spec = model.module, model.spec
    shift, scale = (torch.tensor(v).view(3, 1, 1) for v in (spec.mean, spec.std))
    inner = module.body[:4]((images / 255 - shift) / scale).detach().requires_grad_()
    logits = module.head(module.body[4:](inner).mean((2, 3)))
    (gradient,) = torch.autograd.grad(logits[:, 2].sum(), inner)
    expected = (inner * gradient).sum((0, 2, 3)).abs().detach()
    found = relevance(model, images, [SECOND], 2)[SECOND]
    assert (found - expected / expected.mean()).abs().max() < 1e-5


def test_contributions_do_not_lose_what_an_in_place_activation_writes_over() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 5)
        )
    model = load_model(net.double().eval(), spec=ModelSpec(8, 0.0, 1.0, 5))
    image, label = values(2, 3, 8, 8).sigmoid(), torch.tensor([1, 4])
    before = net[1](net[0](image)).detach().requires_grad_()
    z = net[4](before.relu().flatten(1))
    (gradient,) = torch.autograd.grad(z[0, 1] + z[1, 4], before)
    found = model.contributions(image, ["1"], label)["1"]
    assert (found - before * gradient).abs().max() < 1e-12
    assert not found.requires_grad


def test_the_pictures_of_the_class_are_matched_and_no_others(tmp_path: Path) -> None:
    data = pictures(tmp_path / "data", {"anchor": 0.0, "barrel": 0.6})
    model = toy()
    (targets,) = find_priors([model], as_sum(Matching()), data, condition=[model], labels=[0, 1]).matched
    assert targets.notes == ()
    for label, name in ((0, "anchor"), (1, "barrel")):
        own = measure_quantiles(model, bright(data, name), [SECOND])[SECOND]
        assert torch.equal(targets.of(label)[SECOND].quantiles, own)
    rows = model.features(bright(data, "anchor").float() / 255, [SECOND])[SECOND].flatten(2).sort(2).values
    assert (targets.of(0)[SECOND].quantiles - rows.mean(0)).abs().max() < 1e-5
    images = bright(data, "anchor")[:1].float().expand(2, -1, -1, -1) / 255
    to = Binding(model, model, model, Draws([0, 1]), torch.tensor([0, 1]), priors=Priors(matched=(targets,)))
    (term,) = Matching().terms(to)
    near, far = term(images).tolist()
    assert far < 5 * near < 0


def test_a_class_of_the_data_that_the_model_lacks_changes_nothing_for_the_others(tmp_path: Path) -> None:
    data = pictures(tmp_path / "data", {"anchor": 0.0, "barrel": 0.6, "kettle": 0.9})
    model = toy()
    (targets,) = find_priors([model], as_sum(Matching()), data, condition=[model], labels=[0]).matched
    own = measure_quantiles(model, bright(data, "anchor"), [SECOND])[SECOND]
    assert torch.equal(targets.of(0)[SECOND].quantiles, own)


def test_a_class_without_pictures_is_matched_to_all_with_a_line(tmp_path: Path) -> None:
    data = pictures(tmp_path / "data", {"anchor": 0.0, "barrel": 0.6})
    model = toy()
    with pytest.warns(UserWarning, match=r"has no pictures of 'candle': features are matched to those of all"):
        (targets,) = find_priors([model], as_sum(Matching()), data, condition=[model], labels=[0, 2]).matched
    everything = torch.cat([bright(data, name) for name in ("anchor", "barrel")])
    expected = measure_quantiles(model, everything, [SECOND])[SECOND]
    assert (targets.of(2)[SECOND].quantiles - expected).abs().max() < 1e-6
    assert torch.equal(targets.of(NO_CLASS)[SECOND].quantiles, targets.of(2)[SECOND].quantiles)
    own = measure_quantiles(model, bright(data, "anchor"), [SECOND])[SECOND]
    assert torch.equal(targets.of(0)[SECOND].quantiles, own)


def test_pictures_of_other_classes_are_those_at_large(tmp_path: Path) -> None:
    data = pictures(tmp_path / "data", {"kettle": 0.0, "ladle": 0.6})
    model = toy()
    with pytest.warns(UserWarning, match="no pictures of 'barrel'"):
        (targets,) = find_priors([model], as_sum(Matching()), data, condition=[model], labels=[1]).matched
    assert list(targets.pictures) == [NO_CLASS]
    assert len(targets.pictures[NO_CLASS]) == 10


def test_without_pictures_batch_norms_own_moments_are_matched() -> None:
    model = toy()
    with pytest.warns(UserWarning, match="matched to normal distributions"):
        (targets,) = find_priors([model], as_sum(Matching()), None, condition=[model], labels=[1]).matched
    for layer, (mean, variance) in model.batch_norm_statistics().items():
        found = targets.of(1)[layer].quantiles
        assert (found.mean(1) - mean).abs().max() < 1e-5
        assert (found.var(1, unbiased=False) - variance).abs().max() < 1e-5
    with pytest.raises(UserError, match="no input of a BatchNorm"):
        find_priors([model], as_sum(Matching(layers=["head"])), None, condition=[model], labels=[1])


def test_the_statistics_that_are_kept_come_before_those_of_batch_norm() -> None:
    model = load_model("bundled:cifar10-resnet")
    with pytest.warns(UserWarning, match="matched to normal distributions"):
        (targets,) = find_priors([model], as_sum(Matching(count=1)), None, labels=[]).matched
    (layer,) = targets.layers
    own = model.batch_norm_statistics()[layer][1].sqrt()
    found = targets.of(NO_CLASS)[layer].quantiles.std(1, unbiased=False)
    assert (found < own).float().mean() > 0.9  # within pictures there is less variance than over all of them


@pytest.mark.parametrize("how", [{"form": "sorted"}, {"form": "moments", "weights": "relevance"}])
def test_a_drawing_comes_nearer(how: dict[str, str], tmp_path: Path) -> None:
    data = pictures(tmp_path / "data", {"anchor": 0.0, "barrel": 0.6})
    module, spec = build()
    seen: list[float] = []
    drawn = bothways.generate(
        module, ["anchor", "barrel"], n=1, spec=spec, data=data, recipe="pixels", objective=objectives.Matching(**how),
        verdicts=False, optimizer="adam", rate=0.05, steps=40, on_frame=lambda f: seen.append(f.stats["matching"]),
    )  # fmt: skip
    assert seen[-1] > 0.3 * seen[0]
    dark, light = drawn.images.mean((1, 2, 3)).tolist()
    assert dark < light - 0.2


def test_layers_are_evenly_spaced_or_named() -> None:
    model = load_model("bundled:cifar10-resnet")
    every = model.statistics_layers()
    found = Matching(count=3).layers_of(model)
    assert (found[0], found[-1], len(found)) == (every[0], every[-1], 3)
    assert Matching(layers=["stage1", "outputs"]).layers_of(model) == ("stage1", "outputs")
    assert Matching(layers="stage1").layers_of(model) == ("stage1",)
    assert Matching(count=1000).layers_of(model) == tuple(every)
