"""Batches: each picture once an epoch, a pure function of the step; augmentations on cases small enough to see."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from bothways.data.images import Augmentation, batches, survive_mirroring
from bothways.data.sources import ImageSet
from bothways.types import UserError

NOTHING = Augmentation(crop=0, flip=False)
FULL = Augmentation(crop=2, flip=True, blur=0.5, noise=0.5, noise_level=0.4, erase=3)


def source(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_pictures(count: int, size: int = 8) -> Tensor:
    return torch.rand(count, 3, size, size, generator=source(7))


def data(count: int) -> ImageSet:
    """Picture i is filled with i and has label i."""
    images = torch.arange(count, dtype=torch.uint8).view(-1, 1, 1, 1).expand(count, 3, 8, 8)
    return ImageSet(images, torch.arange(count), ("all",))


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 40), size=st.integers(1, 12), seed=st.integers(0, 1000))
def test_an_epoch_uses_each_picture_at_most_once_and_drops_only_a_short_tail(count: int, size: int, seed: int) -> None:
    if size > count:
        with pytest.raises(UserError, match=f"batch of {size} is more than the {count} pictures"):
            batches(data(count), size, seed, NOTHING)
        return
    batch = batches(data(count), size, seed, NOTHING)
    steps = count // size
    for epoch in (0, 1, 5):
        seen = torch.cat([batch(epoch * steps + k)[1] for k in range(steps)])
        assert len(seen) == steps * size
        assert len(set(seen.tolist())) == len(seen)


def test_pictures_keep_their_labels_and_come_as_float_in_0_to_1() -> None:
    images, labels = batches(data(50), 10, 0, NOTHING)(3)
    assert images.dtype == torch.float32
    assert (images - labels.view(-1, 1, 1, 1) / 255).abs().max() < 1e-7


def test_a_batch_is_a_pure_function_of_the_step() -> None:
    pictures = ImageSet((255 * random_pictures(20)).byte(), torch.arange(20), ("all",))
    wanted = {step: batches(pictures, 6, 1, FULL)(step) for step in (0, 1, 2, 3, 40, 7)}
    torch_state = torch.random.get_rng_state()
    again = batches(pictures, 6, 1, FULL)
    for step in (7, 40, 0, 3, 2, 1, 0):
        images, labels = again(step)
        assert torch.equal(images, wanted[step][0])
        assert torch.equal(labels, wanted[step][1])
    assert torch.equal(torch_state, torch.random.get_rng_state())


def test_epochs_seeds_and_steps_differ() -> None:
    batch = batches(data(30), 30, 0, NOTHING)
    assert not torch.equal(batch(0)[1], batch(1)[1])
    assert not torch.equal(batch(0)[1], batches(data(30), 30, 1, NOTHING)(0)[1])
    same = ImageSet((255 * random_pictures(1)).byte().expand(30, -1, -1, -1), torch.arange(30), ("all",))
    augmented = batches(same, 30, 0, Augmentation(crop=2))
    assert not torch.equal(augmented(0)[0], augmented(1)[0])


def test_nothing_changes_nothing() -> None:
    images = random_pictures(4)
    assert torch.equal(NOTHING(images, source()), images)


def test_everything_stays_in_range_and_the_input_is_untouched() -> None:
    images = random_pictures(64).round()
    before = images.clone()
    out = FULL(images, source())
    assert out.shape == images.shape
    assert out.min() >= 0
    assert out.max() <= 1
    assert torch.equal(images, before)


@pytest.mark.parametrize(("side", "share", "same"), [(32, 0.125, 4), (8, 0.0625, 0), (28, 0.125, 4), (224, 0.125, 28)])
def test_a_crop_below_one_is_a_share_of_the_side(side: int, share: float, same: int) -> None:
    images = torch.rand(4, 3, side, side, generator=source())
    found, expected = (Augmentation(crop=crop, flip=False)(images, source()) for crop in (share, same))
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    ("classes", "survives"),
    [
        ([str(k) for k in range(10)], False),  # digits, MNIST, SVHN
        (["0 - zero", "7 - seven"], False),
        (["A", "B", "z"], False),
        (["cat", "dog"], True),
        (["0", "cat"], True),
        ([str(k) for k in range(100)], True),
        (10, True),
        ((), True),
    ],
)
def test_written_characters_are_not_mirrored(classes: list[str] | int, survives: bool) -> None:
    assert survive_mirroring(classes) == survives


def test_a_crop_is_a_window_of_the_reflected_picture_and_all_windows_occur() -> None:
    images = random_pictures(1, 5).expand(400, -1, -1, -1)
    out = Augmentation(crop=2, flip=False)(images, source())
    padded = F.pad(images[0], (2, 2, 2, 2), mode="reflect")
    windows = {(top, left): padded[:, top : top + 5, left : left + 5] for top in range(5) for left in range(5)}
    found = [next((place for place, w in windows.items() if torch.equal(w, picture)), None) for picture in out]
    assert None not in found
    assert set(found) == set(windows)


def test_half_of_the_pictures_are_mirrored_each_as_a_whole() -> None:
    images = random_pictures(400)
    out = Augmentation(crop=0, flip=True)(images, source())
    mirrored = (out == images.flip(-1)).flatten(1).all(1)
    kept = (out == images).flatten(1).all(1)
    assert (mirrored ^ kept).all()
    assert 150 < mirrored.sum() < 250


def test_a_square_is_erased_in_each_picture_and_reaches_all_pixels_alike() -> None:
    images = torch.zeros(600, 3, 6, 6)
    out = Augmentation(crop=0, flip=False, erase=3)(images, source())
    grey = out == 0.5
    assert (out[~grey] == 0).all()
    assert torch.equal(grey[:, 0], grey[:, 2])
    rows, columns = grey[:, 0].any(2).sum(1), grey[:, 0].any(1).sum(1)
    assert torch.equal(grey[:, 0].sum((1, 2)), rows * columns)  # a rectangle
    for extent in (rows, columns):
        assert set(extent.tolist()) == {1, 2, 3}  # cut off at the edge
    often = grey[:, 0].sum(0)  # each pixel alike: 600 * (3 / 8)^2 = 84, standard deviation 8.5
    assert (often - 84).abs().max() < 35


def test_blur_is_the_mean_of_nine_and_touches_a_share() -> None:
    images = random_pictures(200, 4)
    out = Augmentation(crop=0, flip=False, blur=0.25)(images, source())
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    wanted = sum(padded[:, :, i : i + 4, j : j + 4] for i in range(3) for j in range(3)) / 9
    blurred = (out - wanted).abs().amax((1, 2, 3)) < 1e-6
    assert torch.equal(out[~blurred], images[~blurred])
    assert 25 < blurred.sum() < 75


def test_noise_touches_a_share_by_at_most_its_level() -> None:
    images = torch.full((300, 3, 16, 16), 0.5)
    out = Augmentation(crop=0, flip=False, noise=0.5, noise_level=0.1)(images, source())
    deviation = (out - images).flatten(1).std(1)
    noisy = deviation > 0
    assert 110 < noisy.sum() < 190
    assert deviation.max() < 0.11
    assert abs(deviation[noisy].mean() - 0.05) < 0.01  # the level itself is uniform
