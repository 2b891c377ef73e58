"""How a picture is seen, against torch.roll and slices, and each picture by its own draws."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bothways.numerics.draws import Draws
from bothways.synthesis.views import View, Views, noise_of_resolution
from bothways.synthesis.views.crop import CentreCrop, RandomCrop
from bothways.synthesis.views.flip import Flip
from bothways.synthesis.views.noise import Noise
from bothways.synthesis.views.roll import Roll
from bothways.synthesis.views.shift import Shift

SEEDS = (3, 17, 4)
ALL = [Roll(3), Shift(3), Flip(), Noise(0.2), Noise(0.2, "uniform"), CentreCrop(4, 6), RandomCrop(5, 3)]
every_one = pytest.mark.parametrize("augmentation", ALL, ids=str)


def pictures(count: int = 3, dtype: torch.dtype = torch.float32, height: int = 8, width: int = 10) -> Tensor:
    return torch.rand(count, 3, height, width, dtype=dtype, generator=torch.Generator().manual_seed(1))


def offsets(purpose: str, copies: int, t: float, reach: int) -> Tensor:
    return Draws(SEEDS).integers(-reach, reach, (copies, 2), t, purpose)


def test_roll_equals_torch_roll() -> None:
    image = pictures()
    seen = Views(4, [Roll(3)])(image, Draws(SEEDS), 0.25)
    for place, (down, right) in enumerate(offsets("roll", 4, 0.25, 3).flatten(0, 1).tolist()):
        assert torch.equal(seen[place], torch.roll(image[place // 4], (down, right), (1, 2)))


def test_shift_repeats_the_edge() -> None:
    image = pictures()
    seen = Views(4, [Shift(3)])(image, Draws(SEEDS), 0.25)
    for place, (down, right) in enumerate(offsets("shift", 4, 0.25, 3).flatten(0, 1).tolist()):
        padded = F.pad(image[place // 4 : place // 4 + 1], (3, 3, 3, 3), mode="replicate")[0]
        assert torch.equal(seen[place], padded[:, 3 - down : 11 - down, 3 - right : 13 - right])


@pytest.mark.parametrize("kind", [Roll, Shift])
def test_every_offset_up_to_the_reach_occurs_and_none_beyond(kind: type[Roll] | type[Shift]) -> None:
    image = torch.zeros(1, 3, 9, 9)
    image[..., 4, 4] = 1
    seen = Views(400, [kind(2)])(image, Draws([0]), 0.0)
    places = {tuple(row.tolist()) for row in seen[:, 0].nonzero()[:, 1:]}
    assert places == {(i, j) for i in range(2, 7) for j in range(2, 7)}


def test_a_shift_farther_than_the_picture_shows_its_edge() -> None:
    seen = Views(20, [Shift(50)])(pictures(), Draws(SEEDS), 0.0)
    assert torch.isfinite(seen).all()
    assert any(torch.equal(view, view[:, :1, :1].expand_as(view)) for view in seen)


def test_flip_mirrors_whole_copies_with_its_chance() -> None:
    image = pictures(1)
    seen = Views(400, [Flip(0.25)])(image, Draws([0]), 0.0)
    mirrored = (seen == image.flip(-1)).flatten(1).all(1)
    kept = (seen == image).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert 60 < mirrored.sum() < 140
    assert torch.equal(Views(2, [Flip(0.0)])(image, Draws([0]), 0.0), image.expand(2, -1, -1, -1))


def test_noise_is_level_times_the_draws_clipped() -> None:
    image = pictures()
    seen = Views(2, [Noise(0.2)])(image, Draws(SEEDS), 0.5)
    noise = Draws(SEEDS).normal((2, 3, 8, 10), 0.5, "view noise").flatten(0, 1)
    wanted = (image.repeat_interleave(2, 0) + 0.2 * noise).clamp(0, 1)
    assert (seen - wanted).abs().max() < 1e-7
    brighter = Views(1, [Noise(0.2, "uniform")])(0.5 * image, Draws(SEEDS), 0.5) - 0.5 * image
    assert brighter.min() >= -1e-7
    assert brighter.max() < 0.2
    assert abs(brighter.mean() - 0.1) < 0.01


def test_the_centre_crop_is_what_a_border_surrounds() -> None:
    image = pictures()
    canvas = F.pad(image, (3, 3, 2, 2))
    assert torch.equal(Views(1, [CentreCrop(8, 10)])(canvas, Draws(SEEDS), 0.0), image)
    assert torch.equal(Views(1, [CentreCrop(5, 7)])(image, Draws(SEEDS), 0.0), image[..., 1:6, 1:8])


def test_a_random_crop_is_a_window_and_all_windows_occur() -> None:
    image = pictures(1, height=5, width=4)
    seen = Views(300, [RandomCrop(3, 2)])(image, Draws([0]), 0.0)
    windows = {(i, j): image[0, :, i : i + 3, j : j + 2] for i in range(3) for j in range(3)}
    found = [next((place for place, w in windows.items() if torch.equal(w, view)), None) for view in seen]
    assert None not in found
    assert set(found) == set(windows)
    assert torch.equal(Views(1, [RandomCrop(5, 4)])(image, Draws([0]), 0.0), image)


def test_copies_of_a_picture_stand_side_by_side() -> None:
    image = pictures()
    seen = Views(4)(image, Draws(SEEDS), 0.0)
    assert torch.equal(seen, torch.stack([image[i // 4] for i in range(12)]))


def test_augmentations_act_in_their_order() -> None:
    image = pictures()
    seen = Views(2, [Roll(2), CentreCrop(4, 6)])(image, Draws(SEEDS), 0.0)
    rolled = Views(2, [Roll(2)])(image, Draws(SEEDS), 0.0)
    assert torch.equal(seen, rolled[..., 2:6, 2:8])
    assert not torch.equal(seen, Views(2, [CentreCrop(4, 6), Roll(2)])(image, Draws(SEEDS), 0.0))


@every_one
def test_a_picture_is_seen_alike_alone_and_in_a_batch_and_differently_at_another_moment(
    augmentation: View,
) -> None:
    image, views = pictures(), Views(5, [augmentation])
    together = views(image, Draws(SEEDS), 0.5)
    for i, seed in enumerate(SEEDS):
        assert torch.equal(views(image[i : i + 1], Draws([seed]), 0.5), together[5 * i : 5 * i + 5])
    if not isinstance(augmentation, CentreCrop):
        assert not torch.equal(together, views(image, Draws(SEEDS), 0.75))
        assert not torch.equal(together, views(image, Draws([0, 1, 2]), 0.5))
        assert together[:5].unique(dim=0).shape[0] > 1  # the copies differ


@every_one
def test_gradients_against_finite_differences_in_float64(augmentation: View) -> None:
    image = (0.3 + 0.4 * pictures(2, torch.float64, 6, 6)).requires_grad_()
    views = Views(2, [augmentation if not isinstance(augmentation, Noise) else Noise(0.01, augmentation.distribution)])
    assert torch.autograd.gradcheck(lambda x: views(x, Draws([1, 2]), 0.5), (image,))


def test_the_soft_noise_of_a_start_is_smooth_and_each_pictures_own() -> None:
    noise = noise_of_resolution(Draws(SEEDS), 16, 24, 4)
    assert noise.shape == (3, 3, 16, 24)
    assert torch.equal(noise[1:2], noise_of_resolution(Draws(SEEDS[1:2]), 16, 24, 4))
    assert (noise.diff(dim=-1).std() / noise.std()) < 0.4
