"""Corruptions: each does what its line says, by a known amount, and a picture's draws are its own."""

from __future__ import annotations

import colorsys
import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from bothways.data.corruptions import FOGS, KINDS, MORE, SEVERITIES, corrupt
from bothways.numerics.draws import Draws
from bothways.types import UserError


def pictures(count: int = 3, side: int = 32) -> torch.Tensor:
    return Draws(range(count)).uniform((3, side, side)).double()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_done_at_level_nought(kind) -> None:
    x = pictures()
    assert torch.equal(corrupt(x, kind, 0.0, Draws(range(3))), x)


@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_is_corrupted_alike_in_any_batch(kind) -> None:
    x = pictures()
    whole, alone = corrupt(x, kind, 0.5, Draws([5, 6, 7])), corrupt(x[1:2], kind, 0.5, Draws([6]))
    assert (whole[1:2] - alone).abs().max() < 1e-15
    assert whole.shape == x.shape
    assert whole.dtype == x.dtype


def test_noise_is_gaussian_until_it_is_clipped() -> None:
    x = pictures(8)
    weak, strong = (corrupt(x, "noise", level, Draws(range(8)), clip=False) - x for level in (0.1, 0.3))
    assert (strong - 3 * weak).abs().max() < 1e-12
    assert abs(weak.std().item() - 0.1) < 0.002
    clipped = corrupt(x, "noise", 0.3, Draws(range(8)))
    assert torch.equal(clipped, (x + strong).clamp(0, 1))


@pytest.mark.parametrize(("side", "sigma"), [(32, 1.5), (64, 3.0), (16, 0.75)])
def test_blur_is_scipys_and_scales_with_the_picture(side, sigma) -> None:
    x = pictures(2, side)
    wanted = torch.from_numpy(gaussian_filter(x.numpy(), (0, 0, sigma, sigma), mode="nearest"))
    assert (corrupt(x, "blur", 1.5, Draws(range(2))) - wanted).abs().max() < 1e-12


def test_grey_takes_contrast_and_at_last_all() -> None:
    x = pictures()
    assert (corrupt(x, "grey", 1.0, Draws(range(3))) - 0.5).abs().max() < 1e-15
    half = corrupt(x, "grey", 0.5, Draws(range(3)))
    assert (half - (x + 0.5) / 2).abs().max() < 1e-15


@pytest.mark.parametrize("share", [0.25, 1.0])
def test_shuffled_pixels_keep_their_colours(share) -> None:
    x = pictures()
    found = corrupt(x, "shuffled", share, Draws([1, 2, 3]))
    moved = (found != x).any(1).flatten(1).float().mean(1)
    assert (moved <= share).all()
    assert (moved > share - 0.01).all()
    for before, after in zip(x.flatten(2), found.flatten(2), strict=True):
        order = [side[:, side[0].argsort()] for side in (before, after)]
        assert torch.equal(*order)
    twins = corrupt(x[:1].expand(2, -1, -1, -1), "shuffled", share, Draws([1, 2]))
    assert not torch.equal(*twins)


def test_mistakes_say_what_to_type() -> None:
    x = pictures(2)
    for kind, level, seeds, said in [
        ("blurr", 1.0, 2, "type blur"),
        ("grey", 1.5, 2, "level 1.5 is invalid"),
        ("noise", -0.1, 2, "level -0.1 is invalid"),
        ("noise", 0.1, 3, "one seed a picture"),
    ]:
        with pytest.raises(UserError, match=said):
            corrupt(x, kind, level, Draws(range(seeds)))


def eight_bits(x: torch.Tensor) -> np.ndarray:
    return (255 * x).round().byte().permute(1, 2, 0).numpy()


def test_brightness_adds_to_the_value_of_hsv() -> None:
    x = pictures(1, 5)
    x[0, :, 0, 0] = 0
    found = corrupt(x, "brightness", 0.3, Draws([0]))[0]
    for row in range(5):
        for column in range(5):
            hue, saturation, value = colorsys.rgb_to_hsv(*x[0, :, row, column].tolist())
            wanted = torch.tensor(colorsys.hsv_to_rgb(hue, saturation, min(value + 0.3, 1)), dtype=torch.float64)
            assert (found[:, row, column] - wanted).abs().max() < 1e-12


def test_contrast_shrinks_each_channel_to_its_mean() -> None:
    x = pictures(2)
    mean = x.mean((2, 3), keepdim=True)
    assert (corrupt(x, "contrast", 0.25, Draws(range(2))) - (0.75 * (x - mean) + mean)).abs().max() < 1e-14


@pytest.mark.parametrize(("level", "small"), [(0.05, 30), (0.35, 20)])
def test_pixelate_is_pillows_box_there_and_back(level: float, small: int) -> None:
    x = pictures(2)
    for before, after in zip(x, corrupt(x, "pixelate", level, Draws(range(2))), strict=True):
        box = Image.Resampling.BOX
        wanted = Image.fromarray(eight_bits(before)).resize((small, small), box).resize((32, 32), box)
        assert np.array_equal(eight_bits(after), np.asarray(wanted))


@pytest.mark.parametrize(("level", "quality"), [(0.2, 80), (0.42, 58), (0.6, 40)])
def test_jpeg_is_pillows_at_that_quality(level: float, quality: int) -> None:
    x = pictures(2)
    for before, after in zip(x, corrupt(x, "jpeg", level, Draws(range(2))), strict=True):
        written = io.BytesIO()
        Image.fromarray(eight_bits(before)).save(written, "JPEG", quality=quality)
        assert np.array_equal(eight_bits(after), np.asarray(Image.open(written)))


def test_five_severities_each_do_more_than_the_last() -> None:
    ramp = torch.linspace(0.1, 0.8, 32, dtype=torch.float64).expand(3, 32, 32) + 0.1 * pictures(1)
    for kind, levels in SEVERITIES.items():
        change = [float((corrupt(ramp, kind, level, Draws([3])) - ramp).square().mean()) for level in levels]
        assert len(levels) == 5, kind
        assert change == sorted(change), kind
        assert change[0] > 0, kind


# ---- fog and roll --------------------------------------------------------------------------------------------------


def slow_plasma(seed: int, size: int, decay: float) -> np.ndarray:
    """Diamond-square on a torus, a point at a time; draws as the corruption's, in the order of the points."""
    field, reach, step = np.zeros((size, size)), 100.0, size
    while step > 1:
        half = step // 2
        for place, (top, left), around in (
            ("middle", (half, half), [(-half, -half), (-half, half), (half, -half), (half, half)]),
            ("across", (0, half), [(0, -half), (0, half), (-half, 0), (half, 0)]),
            ("down", (half, 0), [(0, -half), (0, half), (-half, 0), (half, 0)]),
        ):
            count = size // step
            drawn = Draws([seed]).uniform((count, count), purpose=f"corruption fog {step} {place}")[0].double().numpy()
            for row in range(count):
                for column in range(count):
                    y, x = row * step + top, column * step + left
                    total = sum(field[(y + down) % size, (x + right) % size] for down, right in around)
                    field[y, x] = total / 4 + reach**2 * (2 * drawn[row, column] - 1)
        step, reach = half, reach / decay
    return (field - field.min()) / (field.max() - field.min())


@pytest.mark.parametrize(("side", "size", "severity"), [(16, 16, 1), (12, 16, 4), (17, 32, 5)])
def test_fog_is_the_plasma_of_cifar10_c_over_the_picture(side: int, size: int, severity: int) -> None:
    level, decay = FOGS[0][severity - 1], FOGS[1][severity - 1]
    x = 0.7 * pictures(2, side)
    found = corrupt(x, "fog", level, Draws([3, 4]))
    for picture, fogged, seed in zip(x, found, (3, 4), strict=True):
        cloud = torch.from_numpy(slow_plasma(seed, size, decay))[:side, :side]
        wanted = (picture + level * cloud) * picture.max() / (picture.max() + level)
        assert (fogged - wanted).abs().max() < 1e-12


def test_fog_between_its_levels_fades_between_their_decays() -> None:
    x = pictures(1, 8)
    level, decay = 0.625, 2.75
    wanted = (x + level * torch.from_numpy(slow_plasma(0, 8, decay))) * x.max() / (x.max() + level)
    assert (corrupt(x, "fog", level, Draws([0])) - wanted).abs().max() < 1e-12


@pytest.mark.parametrize(("level", "by"), [(0.25, 8), (0.03, 1), (1.0, 0)])
def test_a_roll_moves_every_pixel_alike(level: float, by: int) -> None:
    x = pictures(2)
    found = corrupt(x, "roll", level, Draws(range(2)))
    for row in range(32):
        for column in (0, 5, 31):
            assert torch.equal(found[:, :, (row + by) % 32, (column + by) % 32], x[:, :, row, column])


def test_the_further_kinds_have_five_severities() -> None:
    assert MORE.keys() == {"fog", "roll"}
    assert not MORE.keys() & SEVERITIES.keys()  # the six of "offline" stay those that were
    for levels in MORE.values():
        assert len(levels) == 5
        assert list(levels) == sorted(set(levels))
