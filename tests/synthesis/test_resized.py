"""A model that sees pictures at its own size: against torch's own resizing, and its gradient against differences."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bothways.models.adapter import Adapter
from bothways.synthesis.objectives.classes import class_logit
from bothways.synthesis.objectives.terms import TermSum
from bothways.synthesis.resized import Resized
from bothways.types import ModelSpec, TrainedModel, VisionModel


@pytest.fixture(scope="module")
def model() -> Adapter:
    """Eight pixels high, ten wide."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Flatten(), nn.Linear(4 * 6 * 8, 3))
    return Adapter(body.double(), ModelSpec((8, 10), (0.5,) * 3, (0.25,) * 3, 3), name="small")


def pictures(high: int, wide: int) -> Tensor:
    return torch.rand(2, 3, high, wide, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def small(image: Tensor) -> Tensor:
    return F.interpolate(image, size=(8, 10), mode="bilinear", align_corners=False, antialias=True)


def test_it_is_a_model_with_the_facts_of_the_one_inside(model: Adapter) -> None:
    seen = Resized(model)
    assert isinstance(seen, VisionModel)
    assert isinstance(seen, TrainedModel)
    assert (seen.spec, seen.name) == (model.spec, "small")
    assert seen.parameters().keys() == model.parameters().keys()


@pytest.mark.parametrize("size", [(16, 20), (5, 7), (8, 21), (8, 10)])
def test_outputs_and_features_are_those_of_the_resized_picture(model: Adapter, size: tuple[int, int]) -> None:
    image, seen = pictures(*size), Resized(model)
    assert (seen.outputs(image) - model.outputs(small(image))).abs().max() < 1e-12
    wanted = model.features(small(image), ["0", "3:input", "outputs"])
    found = seen.features(image, ["0", "3:input", "outputs"])
    assert found.keys() == wanted.keys()
    for layer, value in wanted.items():
        assert (found[layer] - value).abs().max() < 1e-12


def test_at_its_own_size_nothing_is_resized(model: Adapter) -> None:
    image = pictures(8, 10)
    assert torch.equal(Resized(model).outputs(image), model.outputs(image))


def test_other_parameters_are_passed_on(model: Adapter) -> None:
    image, seen = pictures(16, 20), Resized(model)
    doubled = {name: 2 * value for name, value in seen.parameters().items()}
    found = seen.features_with(doubled, image, ["outputs"])["outputs"]
    assert (found - model.features_with(doubled, small(image), ["outputs"])["outputs"]).abs().max() < 1e-12
    assert (found - seen.outputs(image)).abs().max() > 1e-3
    assert torch.equal(seen.outputs(image), Resized(model).outputs(image))


def test_the_gradient_reaches_every_pixel_of_the_large_picture(model: Adapter) -> None:
    image, labels = pictures(12, 15).requires_grad_(), torch.tensor([1, 2])
    objective = TermSum((class_logit(Resized(model), labels),))
    assert torch.autograd.gradcheck(lambda x: objective(x[None].expand(2, -1, -1, -1)), image[0], fast_mode=True)
    (gradient,) = torch.autograd.grad(objective(image).sum(), image)
    assert gradient.shape == image.shape
    assert (gradient != 0).all()


def test_models_of_several_sizes_look_at_one_picture(model: Adapter) -> None:
    wide = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 3)).double()
    main = Adapter(wide, ModelSpec(16, (0.5,) * 3, (0.25,) * 3, 3))
    image, labels = pictures(16, 16).requires_grad_(), torch.tensor([0, 2])
    both = class_logit(main, labels) + 0.5 * class_logit(Resized(model), labels)
    rows = torch.arange(2)
    wanted = main.outputs(image)[rows, labels] + 0.5 * model.outputs(small(image))[rows, labels]
    assert (both(image) - wanted).abs().max() < 1e-12
    found, expected = (torch.autograd.grad(value.sum(), image)[0] for value in (both(image), wanted))
    assert (found - expected).abs().max() < 1e-12
