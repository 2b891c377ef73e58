"""The sliced coupling: a permutation, optimal in one dimension, between optimal and independent in several."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from bothways import pretrain
from bothways.representation.couplings import coupling_of
from bothways.representation.couplings.sliced import principal_direction
from bothways.runs import RunFolder

pytestmark = pytest.mark.usefixtures("_rough_samples")


def batch(size: int, shape: tuple[int, ...], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Images whose coordinates differ in spread, and noise."""
    source = torch.Generator().manual_seed(seed)
    noise = torch.randn(size, *shape, generator=source)
    return torch.randn(size, *shape, generator=source) * torch.linspace(0.2, 1, shape[-1]), noise


def cost(name: str, images: Tensor, noise: Tensor) -> float:
    return float((images - noise[coupling_of(name)(images, noise)]).double().square().flatten(1).sum(1).mean())


def test_it_is_a_permutation_that_the_batch_alone_decides() -> None:
    images, noise = batch(33, (3, 4, 4))
    chosen = coupling_of("sliced")(images, noise)
    assert sorted(chosen.tolist()) == list(range(33))
    assert torch.equal(chosen, coupling_of("sliced")(images, noise))
    turned = torch.randperm(33, generator=torch.Generator().manual_seed(1))
    assert torch.equal(coupling_of("sliced")(images[turned], noise), chosen[turned])


def test_images_that_are_all_equal_keep_the_noise_as_it_comes() -> None:
    assert coupling_of("sliced")(torch.ones(5, 1, 2, 2), batch(5, (1, 2, 2))[1]).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("size", [1, 2, 7, 64])
def test_in_one_dimension_it_is_the_exact_transport(size: int) -> None:
    images, noise = batch(size, (1,))
    assert torch.equal(coupling_of("sliced")(images, noise), coupling_of("ot")(images, noise))
    along = torch.tensor([0.6, -0.8])  # on a line in the plane as well, where noise has a second coordinate
    assert torch.equal(coupling_of("sliced")(images * along, noise * along), coupling_of("ot")(images, noise))


def test_the_direction_is_the_first_singular_vector() -> None:
    images, _ = batch(64, (6,))
    images[:, 2] *= 6
    truth = torch.linalg.svd((images - images.mean(0)).double(), full_matrices=False).Vh[0]
    assert 1 - (principal_direction(images) @ truth).abs() < 1e-12


@pytest.mark.parametrize("shape", [(2,), (1, 4, 4)])
def test_its_mean_cost_lies_between_the_optimal_and_the_independent(shape: tuple[int, ...]) -> None:
    drawn = [batch(32, shape, seed) for seed in range(20)]
    optimal, sliced, independent = (
        sum(cost(name, *pair) for pair in drawn) / len(drawn) for name in ("ot", "sliced", "independent")
    )
    assert optimal < sliced < independent


def test_a_flow_trains_with_it(tmp_path: Path) -> None:
    network = {"width": 8, "multiples": [1], "blocks": 1, "attention": []}
    given = {"network": network, "steps": 2, "batch": 8, "warmup": 0, "validation": 8}
    made = [pretrain("digits", "icfm", out=tmp_path / name, coupling=name, **given) for name in ("sliced", "ot")]
    losses = [[frame["stats"]["loss"] for frame in RunFolder.open(run.folder.path).frames] for run in made]
    assert len(losses[0]) == 2
    assert losses[0] != losses[1]
    assert made[0].measures["flow"]["coupling"] == "sliced"
    assert any("rabin2012wasserstein" in entry for entry in made[0].measures["citations"])
