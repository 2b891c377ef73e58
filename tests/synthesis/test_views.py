"""How a picture is seen, against torch.roll and slices, and each picture by its own draws."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bothways.numerics.draws import Draws
from bothways.numerics.pyramid import resize
from bothways.synthesis.views import View, Views, for_model, noise_of_resolution, sized
from bothways.synthesis.views.colour import Colour, about_grey
from bothways.synthesis.views.crop import CentreCrop, RandomCrop
from bothways.synthesis.views.cutout import Cutout
from bothways.synthesis.views.flip import Flip
from bothways.synthesis.views.noise import Noise
from bothways.synthesis.views.roll import Roll
from bothways.synthesis.views.shift import Shift
from bothways.synthesis.views.warp import Warp
from bothways.synthesis.views.window import Window

SEEDS = (3, 17, 4)
ALL = [Roll(3), Shift(3), Flip(), Noise(0.2), Noise(0.2, "uniform"), CentreCrop(4, 6), RandomCrop(5, 3)]
ALL += [Cutout(0.3), Cutout(0.1, 3, "grey"), Window(0.5, 1.5, 4, 5), Colour(0.2, 20), Warp()]
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


# ---- cutout --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.03, 0.2, 0.7])
def test_a_cutout_is_a_rectangle_within_the_picture_of_the_expected_area(share: float) -> None:
    image, copies = torch.ones(1, 3, 16, 20, dtype=torch.float64), 4000
    gone = Views(copies, [Cutout(share, fill="grey")])(image, Draws([0]), 0.25)[:, 0] == 0.5
    rows, columns = gone.any(2), gone.any(1)
    assert torch.equal(gone, rows[:, :, None] & columns[:, None, :])
    high, wide = rows.sum(1), columns.sum(1)
    for stripe, length in ((rows, high), (columns, wide)):
        starts = (stripe.int().diff(dim=1, prepend=torch.zeros(copies, 1, dtype=torch.int32)) == 1).sum(1)
        assert torch.equal(starts, (length > 0).long())  # one piece
    area = (high * wide).double()
    assert abs(area.mean() - share * 320) < 4 * area.std() / copies**0.5
    largest = min(2.0, 1 / share)
    assert high.min() >= int(16 * (share / largest) ** 0.5)
    assert high.max() <= 16 * (share * largest) ** 0.5 + 1
    assert rows.double().mean(0).min() > 0  # anywhere


def test_a_cutout_shows_the_copys_mean_and_many_are_many() -> None:
    image = pictures()
    seen = Views(5, [Cutout(0.2)])(image, Draws(SEEDS), 0.5)
    original = image.repeat_interleave(5, 0)
    gone = (seen != original).any(1, keepdim=True)
    mean = original.mean((2, 3), keepdim=True).expand_as(seen)
    assert (seen - torch.where(gone, mean, original)).abs().max() < 1e-6
    once, thrice = (Views(500, [Cutout(0.1, count)])(image[:1], Draws([0]), 0.0) != image[:1] for count in (1, 3))
    assert 0.08 < once.any(1).double().mean() < 0.12
    assert 0.2 < thrice.any(1).double().mean() < 0.3  # they may overlap
    whole = Views(1, [Cutout(1.0)])(image, Draws(SEEDS), 0.0)
    assert (whole - image.mean((2, 3), keepdim=True)).abs().max() < 1e-6


def test_nothing_cut_out_is_the_picture() -> None:
    image = pictures()
    for idle in (Cutout(0.0), Cutout(0.3, 0)):
        assert idle.idle
        assert torch.equal(Views(2, [idle])(image, Draws(SEEDS), 0.5), image.repeat_interleave(2, 0))
    assert not Cutout(0.1).idle


@pytest.mark.parametrize("wrong", [{"share": 1.5}, {"share": -0.1}, {"count": 1.5}, {"fill": "red"}])
def test_a_cutout_that_cannot_be(wrong: dict) -> None:
    with pytest.raises(ValueError, match=r"share is from 0 to 1|fill is mean or grey"):
        Cutout(**wrong)


# ---- window --------------------------------------------------------------------------------------------------------


def test_a_window_of_the_models_size_is_cut_out_pixel_by_pixel_and_all_occur() -> None:
    image = pictures(1, height=6, width=5)
    view = for_model(Window(), 4, 3)
    assert (view.height, view.width) == (4, 3)
    seen = Views(400, [view])(image, Draws([0]), 0.0)
    places = {(i, j): image[0, :, i : i + 4, j : j + 3] for i in range(3) for j in range(3)}
    found = [next((place for place, w in places.items() if torch.equal(w, one)), None) for one in seen]
    assert None not in found
    assert set(found) == set(places)


def test_a_wider_window_is_resized_and_none_exceeds_the_picture() -> None:
    image = pictures(2, height=8, width=8)
    whole = resize(image, (4, 4)).repeat_interleave(3, 0)
    for factor in (2.0, 9.0):  # twice the model's size is the picture, and so is more
        assert torch.equal(Views(3, [Window(factor, factor).of_model(4, 4)])(image, Draws([0, 1]), 0.0), whole)
    seen = Views(3, [Window(0.5, 0.5).of_model(8, 8)])(image, Draws([0, 1]), 0.0)
    corners = [(i, j) for i in range(5) for j in range(5)]
    enlarged = torch.stack([resize(image[..., i : i + 4, j : j + 4], (8, 8)) for i, j in corners], 1)
    assert all((enlarged[place // 3] - one).abs().amax((1, 2, 3)).min() == 0 for place, one in enumerate(seen))


def test_on_a_canvas_of_the_models_size_a_window_is_the_picture() -> None:
    image = pictures()
    for view in (Window(), Window().of_model(8, 10)):
        assert torch.equal(Views(2, [view])(image, Draws(SEEDS), 0.5), image.repeat_interleave(2, 0))
    assert Window(height=3).of_model(8, 10) == Window(height=3, width=10)
    assert sized(Window())
    assert not sized(Flip())
    with pytest.raises(ValueError, match="smallest is not above largest"):
        Window(2.0, 1.0)


# ---- warp and hue --------------------------------------------------------------------------------------------------


def test_a_warp_that_shows_more_than_the_picture_reflects_it_at_its_edges() -> None:
    image = pictures(2, torch.float64, 8, 12)
    row = torch.cat([image.flip(-1), image, image.flip(-1)], -1)
    mirrored = torch.cat([row.flip(-2), row, row.flip(-2)], -2)[..., 4:20, 6:30]  # twice the picture, about its middle
    seen = Views(1, [Warp(0.5, 0.5, 0.0, 0.0, "reflect")])(image, Draws([0, 1]), 0.0)
    assert (seen - F.avg_pool2d(mirrored, 2)).abs().max() < 1e-12


def test_hues_turn_about_the_greys() -> None:
    third = about_grey(torch.tensor(2 * torch.pi / 3, dtype=torch.float64))
    assert (third - torch.eye(3, dtype=torch.float64).roll(1, 0)).abs().max() < 1e-12  # red to green to blue
    angles = torch.linspace(-3, 3, 7, dtype=torch.float64)
    turns = about_grey(angles)
    assert (turns @ turns.mT - torch.eye(3)).abs().max() < 1e-12
    assert (turns.diagonal(dim1=-2, dim2=-1).sum(-1) - 1 - 2 * angles.cos()).abs().max() < 1e-12
    assert (turns @ torch.ones(3, dtype=torch.float64) - 1).abs().max() < 1e-12
    image = 0.4 + 0.2 * pictures(dtype=torch.float64)
    seen = Views(4, [Colour(0.0, 30)])(image, Draws(SEEDS), 0.5)
    drawn = math.radians(30) * (2 * Draws(SEEDS).uniform((4,), 0.5, "hue").double() - 1)
    wanted = torch.einsum("bnck,bkhw->bnchw", about_grey(drawn), image).flatten(0, 1)
    assert (seen - wanted).abs().max() < 1e-12
    assert not Colour(0.0, 30).idle
    assert Colour(0.0).idle
