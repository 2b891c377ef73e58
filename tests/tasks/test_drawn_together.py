"""Pictures of several classes and seeds in one batch are those of a run of each alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bothways import generate
from bothways.numerics.draws import picture_seed
from bothways.synthesis.ascent import ascend
from bothways.tasks.shelf import work_of

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"
RECIPES = {
    "photographs": {},
    "das": {"views.copies": 2, "ascent.rms": 0.3},
    "maco": {},
    "matching": {"recipe": "pixels", "objective": "matching"},
}


@pytest.mark.filterwarnings("ignore:no real pictures")
@pytest.mark.parametrize("name", RECIPES)
def test_a_picture_is_the_same_alone_and_beside_other_classes_and_seeds(name: str) -> None:
    settings = {"recipe": name, "steps": 3, "judges": []} | RECIPES[name]
    classes, wanted = ["anchor", "dragon"], [(0, 5), (1, 5), (1, 2), (0, 5)]
    work = work_of("generate", TOY, classes, n=1, **settings)
    batch = work.request.batch([place for place, _ in wanted], [picture_seed(seed, 0) for _, seed in wanted])
    problem = work.setup.problem(work.request, batch)
    for _ in ascend(problem.field, problem.ascent, problem.draws):
        pass
    together = work.setup.place.inside(problem.ascent.parameterization.image().detach())
    for drawn, (place, seed) in zip(together, wanted, strict=True):
        alone = generate(TOY, [classes[place]], n=1, seed=seed, **settings).images[0]
        assert (drawn - alone).abs().max() < 1 / 500  # half a step of 8 bits, and rounding
    assert torch.equal(together[0], together[3])
    assert (together[1] - together[2]).abs().max() > 1 / 50
