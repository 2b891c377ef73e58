"""What a flow is trained on, against the formula, brute force over permutations, and the evenness of its draws."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from torch import Tensor, nn

from bothways import registry
from bothways.data.images import Augmentation, Batch, batches
from bothways.data.sources import ImageSet
from bothways.models.velocity import Flow
from bothways.numerics.draws import generator
from bothways.representation.couplings import coupling_of
from bothways.representation.couplings.independent import independent
from bothways.representation.couplings.ot import ot
from bothways.training.pairs import dequantised, pairs
from bothways.types import ModelSpec

NOTHING = Augmentation(crop=0, flip=False)
CODE = Flow(nn.Identity(), ModelSpec(4, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 0)).code


def pictures(count: int = 30) -> ImageSet:
    images = torch.randint(0, 256, (count, 3, 4, 4), generator=torch.Generator().manual_seed(3)).byte()
    return ImageSet(images, torch.arange(count), ("all",))


def drawn(size: int, seed: int = 1) -> object:
    return batches(pictures(), size, seed, NOTHING)


def test_the_draws_are_those_of_the_formula() -> None:
    """Written out: another order of draws would change every run that is under way."""
    for step in (0, 3, 17):
        images, _ = drawn(5)(step)
        source = generator(9, step, "pairs")
        u = torch.rand(images.shape, generator=source)
        x = ((images * 255 + u) / 256 - 0.5) / 0.5
        noise = torch.randn(x.shape, generator=source)
        t = (torch.arange(5) + torch.rand(5, generator=source)) / 5
        found = pairs(drawn(5), CODE, independent, 9)(step)
        for one, other in zip(found, (x, noise, t), strict=True):
            assert torch.equal(one, other)


def test_a_pixel_stays_in_its_part_and_fills_it_evenly() -> None:
    whole = torch.randint(0, 256, (40, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    found = dequantised(whole.float() / 255, generator(0, 0, "pairs"))
    assert torch.equal((found.double() * 256).floor().long(), whole)
    place = (found.double() * 256 - whole).flatten().sort().values
    even = (torch.arange(len(place), dtype=torch.float64) + 0.5) / len(place)
    assert (place - even).abs().max() < 1.95 / len(place) ** 0.5  # Kolmogorov's bound, at one in a thousand
    coarse = dequantised(torch.arange(17).float().view(1, 1, 1, 17) / 16, generator(0, 0, "pairs"), levels=17)
    assert torch.equal((coarse * 17).floor().flatten().long(), torch.arange(17))


def test_the_channels_of_a_grey_picture_share_one_draw() -> None:
    """The value that a grey flow sees is uniform in its part, as in its likelihood; a mean of three would not be."""
    whole = torch.randint(0, 17, (40, 1, 16, 16), generator=torch.Generator().manual_seed(0))
    code = Flow(nn.Identity(), ModelSpec(16, (0.0,) * 3, (1.0,) * 3, 0, channel_order="grey")).code

    def grey(step: int) -> Batch:
        return (whole / 16).expand(-1, 3, -1, -1), torch.zeros(40)

    x, _, _ = pairs(grey, code, independent, 0, levels=17, grey=True)(0)
    assert x.shape == whole.shape
    place = (x.double() * 17 - whole).flatten().sort().values
    even = (torch.arange(len(place), dtype=torch.float64) + 0.5) / len(place)
    assert (place - even).abs().max() < 1.95 / len(place) ** 0.5


def test_transport_is_the_cheapest_of_all_permutations() -> None:
    x, noise, _ = pairs(drawn(6), CODE, ot, 4)(2)
    _, unpaired, _ = pairs(drawn(6), CODE, independent, 4)(2)
    cost = (x.double()[:, None] - unpaired.double()[None]).square().flatten(2).sum(2)
    best = min(permutations(range(6)), key=lambda p: sum(cost[i, j].item() for i, j in enumerate(p)))
    assert torch.equal(noise, unpaired[list(best)])
    assert list(best) != list(range(6))


@pytest.mark.parametrize("coupling", registry.names("coupling"))
def test_every_noise_is_used_once_and_only_its_place_differs(coupling: str) -> None:
    x, noise, t = pairs(drawn(10), CODE, coupling_of(coupling), 0)(1)
    x0, noise0, t0 = pairs(drawn(10), CODE, independent, 0)(1)
    assert torch.equal(x, x0)
    assert torch.equal(t, t0)
    assert sorted(noise.flatten(1).tolist()) == sorted(noise0.flatten(1).tolist())


def test_the_times_of_a_batch_are_one_in_each_part() -> None:
    _, _, t = pairs(drawn(30), CODE, independent, 0)(5)
    assert torch.equal((t * 30).floor().long(), torch.arange(30))


def test_steps_and_seeds_differ_and_a_step_is_repeatable() -> None:
    def noise_of(seed: int, step: int) -> Tensor:
        return pairs(drawn(5), CODE, independent, seed)(step)[1]

    assert torch.equal(noise_of(0, 1), noise_of(0, 1))
    assert not torch.equal(noise_of(0, 1), noise_of(0, 2))
    assert not torch.equal(noise_of(0, 1), noise_of(1, 1))


def test_a_batch_function_of_ones_own_will_do() -> None:
    def mine(step: int) -> Batch:
        return torch.full((2, 3, 4, 4), 0.5), torch.zeros(2)

    x, noise, t = pairs(mine, CODE, independent, 0)(0)
    assert x.shape == noise.shape == (2, 3, 4, 4)
    assert t.shape == (2,)
