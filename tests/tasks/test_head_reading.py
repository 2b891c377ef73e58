"""What a network's own head reads in sampled features: where there is one, and what the objective and the draws do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.special
import torch
from torch import nn

from bothways import ModelSpec, generate, load_model, statistics
from bothways.models.adapter import Adapter
from bothways.numerics.draws import Draws, picture_seed
from bothways.synthesis.objectives.terms import Term
from bothways.tasks.shelf import work_of
from bothways.tasks.statistics.files import read_space

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"
RECIPE = {"recipe": "sampled-photographs", "terms.statistics.weight": 0.0}
BODY = "0/features/body"


@pytest.fixture(scope="module")
def toy() -> Adapter:
    return load_model(TOY)


@pytest.fixture(scope="module")
def data(soft_pictures: Callable[[int], Path]) -> Path:
    return soft_pictures(12)


def bound(model: Adapter, data: Path, **settings):
    """(terms of two pictures, the binding)."""
    drawing = work_of("generate", model, None, n=2, data=data, **RECIPE, **settings)
    seeds = [picture_seed(0, i) for i in range(2)]
    to = drawing.setup._bindings(drawing.request, drawing.request.batch(range(2), seeds), Draws(seeds))
    terms: list[Term] = drawing.setup._terms(to)
    return terms, to["score"][0]


@pytest.mark.parametrize("share", [0.4, 1.0])
def test_the_term_is_the_cosine_with_the_mixture_in_float64(data: Path, share: float) -> None:
    model = Adapter(load_model(TOY).module.double(), load_model(TOY).spec, name="double")
    (term,), to = bound(model, data, **{"terms.features.head": share, "terms.features.weight": 1.0})
    image = torch.rand(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    rows = model.module.head.weight.detach().numpy()
    centre, point = to.priors.space.parts[BODY].mean.numpy(), to.targets[BODY].numpy()
    read = scipy.special.softmax(point @ rows.T, axis=1) @ rows - rows.mean(0)
    own = point - centre
    wanted = (1 - share) * own / np.linalg.norm(own, axis=1)[:, None]
    wanted = wanted + share * read / np.linalg.norm(read, axis=1)[:, None]
    with torch.no_grad():
        seen = model.features(image, ["body"])["body"].mean((2, 3)).numpy() - centre
        found = term(image).numpy()
    assert (
        np.abs(found - [1 - scipy.spatial.distance.cosine(*pair) for pair in zip(seen, wanted, strict=True)]).max()
        < 1e-7
    )


def test_heads_are_those_that_the_features_enter(toy: Adapter, data: Path, tmp_path: Path) -> None:
    (_,), to = bound(toy, data)
    assert list(to.priors.space.heads) == [BODY]  # the layer is named body, the head's input head:input
    assert torch.equal(to.priors.space.heads[BODY], toy.module.head.weight)
    (_,), to = bound(toy, data, **{"terms.features.layers": "body.2"})
    assert to.priors.space.heads == {}
    (_,), to = bound(toy, data, **{"terms.features.layers": "head:input"})
    assert list(to.priors.space.heads) == ["0/features/head:input"]


def test_an_encoder_without_a_head_draws_the_sample_itself(data: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 6, 3, 2), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    encoder = Adapter(net, ModelSpec(16, (0.5,) * 3, (0.25,) * 3, 0), name="encoder")
    plain, mixed = (
        generate(encoder, None, n=1, data=data, steps=2, judges=[], **RECIPE, **{"terms.features.head": share}).images
        for share in (0.0, 0.6)
    )
    assert torch.equal(plain, mixed)
    assert bound(encoder, data, **{"sampling.unsure": 0.5})[1].priors.space.heads == {}


def test_the_pictures_of_which_the_head_is_least_sure_are_not_drawn_from(
    toy: Adapter, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "kept.safetensors"
    statistics(toy, data, out=out)
    space = read_space(statistics(toy, data).tensors)
    assert space is not None
    sure = scipy.special.softmax(space.rows[BODY].numpy() @ toy.module.head.weight.detach().numpy().T, axis=1).max(1)
    kept = {space.names[k] for k in np.argsort(sure)[6:]}
    said = generate(toy, None, n=40, data=out, steps=1, **RECIPE, **{"sampling.unsure": 0.5}).measures["pictures"]
    assert {record["drawn_from"][0] for record in said} <= kept
    assert len({record["drawn_from"][0] for record in said}) > 3
    every = generate(toy, None, n=40, data=out, steps=1, **RECIPE, **{"sampling.unsure": 0.0}).measures["pictures"]
    assert not {record["drawn_from"][0] for record in every} <= kept
