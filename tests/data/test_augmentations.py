"""Strong augmentation: each operation is PIL's, every picture has its own draws, and all stay in [0, 1]."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from bothways import UserError
from bothways.data.augmentations import OPERATIONS, StrongAugmentation, rand_augment, random_erase
from bothways.data.images import batches
from bothways.data.sources import ImageSet
from bothways.numerics.draws import generator

LEVEL = 0.7
GREY = (128, 128, 128)


def pictures(count: int = 4, side: int = 24) -> Tensor:
    """Smooth enough to be moved, with values all over 0..255: whole numbers."""
    source = generator(3, purpose="augmentations")
    coarse = torch.rand(count, 3, 4, 4, generator=source)
    fine = torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)
    fine = fine + 0.1 * torch.rand(fine.shape, generator=source) - 0.05
    return (255 * fine).round().clamp(0, 255)


def factor(sign: float) -> float:
    return max(0.1, 1 + 0.9 * LEVEL * sign)


def moved(data: Callable[[float, float], tuple[float, ...]]) -> Callable[[Image.Image, float], Image.Image]:
    def apply(picture: Image.Image, sign: float) -> Image.Image:
        taken = data(sign * LEVEL, picture.width)
        return picture.transform(picture.size, Image.Transform.AFFINE, taken, Image.Resampling.BILINEAR, fillcolor=GREY)

    return apply


TRUTH: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "autocontrast": lambda p, s: ImageOps.autocontrast(p),
    "equalize": lambda p, s: ImageOps.equalize(p),
    "invert": lambda p, s: ImageOps.invert(p),
    "rotate": lambda p, s: p.rotate(30 * LEVEL * s, Image.Resampling.BILINEAR, fillcolor=GREY),
    "posterize": lambda p, s: ImageOps.posterize(p, 4 - int(4 * LEVEL)),
    "solarize": lambda p, s: ImageOps.solarize(p, 256 - int(256 * LEVEL)),
    "solarize_add": lambda p, s: p.point([min(255, i + int(110 * LEVEL)) if i < 128 else i for i in range(256)] * 3),
    "colour": lambda p, s: ImageEnhance.Color(p).enhance(factor(s)),
    "contrast": lambda p, s: ImageEnhance.Contrast(p).enhance(factor(s)),
    "brightness": lambda p, s: ImageEnhance.Brightness(p).enhance(factor(s)),
    "sharpness": lambda p, s: ImageEnhance.Sharpness(p).enhance(factor(s)),
    "shear_x": moved(lambda m, side: (1, 0.3 * m, 0, 0, 1, 0)),
    "shear_y": moved(lambda m, side: (1, 0, 0, 0.3 * m, 1, 0)),
    "translate_x": moved(lambda m, side: (1, 0, 0.45 * m * side, 0, 1, 0)),
    "translate_y": moved(lambda m, side: (1, 0, 0, 0, 1, 0.45 * m * side)),
}
MOVES = ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_an_operation_is_that_of_pil(name: str, sign: float) -> None:
    images = pictures()
    level = torch.full((4,), LEVEL)
    done = OPERATIONS[name](images, level, torch.full((4,), sign)).clamp(0, 255).round()
    assert (done - images).abs().max() > 5  # it does something
    for before, after in zip(images, done, strict=True):
        truth = TRUTH[name](Image.fromarray(before.permute(1, 2, 0).byte().numpy()), sign)
        wanted = torch.from_numpy(np.array(truth)).permute(2, 0, 1).float()
        if name in MOVES:  # at the rim of what came in PIL repeats the last pixel, we blend with the grey outside
            white = Image.new("RGB", truth.size, "white")
            inside = torch.from_numpy(np.array(TRUTH[name](white, sign))).permute(2, 0, 1).float()
            blended = OPERATIONS[name](torch.full((1, 3, 24, 24), 255.0), level[:1], torch.tensor([sign]))[0]
            sure = (inside == 255) & (blended > 254.5)
            assert sure.float().mean() > 0.3
            after, wanted = after[sure], wanted[sure]
        assert (after - wanted).abs().max() <= 1


@pytest.mark.parametrize(
    "augmentation",
    [
        StrongAugmentation(0, False, 9.0, 2, 0.0),
        StrongAugmentation(0, False, 10.0, 1, 0.0),
        StrongAugmentation(0, False, 0.0, 2, 1.0),
        StrongAugmentation(2, False, 0.0, 2, 0.0),
        StrongAugmentation(0, True, 0.0, 2, 0.0),
        StrongAugmentation(),
    ],
)
def test_each_part_changes_pictures_and_keeps_them_in_their_range(augmentation: StrongAugmentation) -> None:
    images = pictures(64) / 255
    done = augmentation(images, generator(1, 5, "augmentation"))
    assert done.shape == images.shape
    assert done.dtype == images.dtype
    assert done.min() >= 0
    assert done.max() <= 1
    changed = (done - images).abs().amax((1, 2, 3)) > 0.01
    assert changed.float().mean() > 0.3
    assert torch.equal(done, augmentation(images, generator(1, 5, "augmentation")))
    assert not torch.equal(done, augmentation(images, generator(1, 6, "augmentation")))


def test_nothing_asked_for_is_nothing_done() -> None:
    images = pictures() / 255
    assert torch.equal(StrongAugmentation(0, False, 0.0, 2, 0.0)(images, generator(0)), images)


def test_the_chances_are_those_stated() -> None:
    """An operation happens with 1/2, so two leave a quarter of the pictures; a rectangle comes to a quarter of them."""
    images = torch.rand(2000, 3, 4, 4, generator=generator(0)).mul(255).round() / 255
    two = rand_augment(images, 9.0, 2, generator(1))
    kept = ((two - images).abs().amax((1, 2, 3)) < 1e-6).float().mean().item()
    assert abs(kept - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 2000)
    erased = (random_erase(images, 0.25, generator(2)) != images).flatten(1).any(1).float().mean().item()
    assert abs(erased - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 2000)


def test_a_rectangle_has_the_size_stated() -> None:
    images = torch.full((300, 3, 32, 32), 2.0)  # outside of what noise can be
    gone = (random_erase(images, 1.0, generator(2)) != images).all(1)
    share = gone.float().mean((1, 2))
    assert share.min() > 0.015
    assert share.max() < 0.36
    tall, wide = (gone.any(dim).sum(1) for dim in (2, 1))
    assert torch.equal(tall * wide, gone.sum((1, 2)))  # rectangles, whole


def test_a_batch_is_a_function_of_its_step() -> None:
    data = ImageSet(pictures(10).byte(), torch.arange(10), ())
    drawn = batches(data, 5, 0, StrongAugmentation(crop=2))
    assert torch.equal(drawn(3)[0], batches(data, 5, 0, StrongAugmentation(crop=2))(3)[0])
    assert not torch.equal(drawn(3)[0], drawn(5)[0])


@pytest.mark.parametrize("bad", [{"strength": 11.0}, {"erase": 1.5}, {"operations": -1}, {"crop": -1}])
def test_what_cannot_be_is_one_line(bad: dict[str, float]) -> None:
    with pytest.raises(UserError, match="type a strength of 0 to 10") as said:
        StrongAugmentation(**bad)  # type: ignore[arg-type]
    assert "\n" not in str(said.value)
