"""How the pictures of one batch are held and seen: size, start, parameterisation, views, the ascent. No model in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bothways.data.sources import load_images
from bothways.loops.ascend import Ascent, AscentSettings
from bothways.numerics.draws import Draws
from bothways.numerics.pyramid import geometric_levels, level_weights
from bothways.recipe.settings import DrawSettings
from bothways.synthesis.augmentations import (
    Augmentation,
    CentreCrop,
    Flip,
    Noise,
    Roll,
    Shift,
    Views,
    noise_of_resolution,
)
from bothways.synthesis.parameterizations import Fourier, ImageStack, Pixels
from bothways.types import ModelSpec, Parameterization, UserError

START_RESOLUTION = 8  # pixels of a side of the low-resolution noise in a start
START_STD = 0.2  # of the noise that a picture starts from


@dataclass(frozen=True)
class Geometry:
    """Pixels: of the picture, and of the canvas around it."""

    height: int
    width: int
    border: int

    @property
    def canvas(self) -> tuple[int, int]:
        return self.height + 2 * self.border, self.width + 2 * self.border

    def crop(self) -> CentreCrop:
        return CentreCrop(self.height, self.width)


def geometry(settings: DrawSettings, spec: ModelSpec) -> Geometry:
    """The size asked for, or the model's own; the border is a share of the shorter side."""
    height, width = (settings.size, settings.size) if settings.size else (spec.height, spec.width)
    return Geometry(height, width, settings.pixels("border", min(height, width)))


def stack_levels(settings: DrawSettings, high: int, wide: int) -> tuple[list[int], list[float]]:
    """The resolutions of the stack (of its height) and their weights."""
    if settings.levels == "geometric":
        levels = geometric_levels(high, 16)
    elif settings.levels == "octaves":
        levels = sorted({high, *(2**k for k in range(high.bit_length()) if 2**k <= high)})
    elif settings.levels == "every-fourth":
        levels = list(range(1, high + 1, 4))
    else:
        levels = list(range(1, high + 1)) if settings.levels == "all" else sorted(settings.levels)
    if settings.level_power is None:
        return levels, level_weights(levels)
    return levels, [(high / level) ** settings.level_power for level in levels]


def start_image(settings: DrawSettings, place: Geometry, draws: Draws, photos: Tensor | None = None) -> Tensor:
    """(B,3,H,W): grey, white noise, low-resolution noise or a photo, and low-resolution noise on it.

    photos: (B,3,height,width) in [0,1], for start=photo; the border around one is grey.
    """
    high, wide = place.canvas
    low = min(START_RESOLUTION, high)
    image = torch.full((len(draws), 3, high, wide), 0.5)
    if settings.start == "noise":
        image = image + START_STD * draws.normal((3, high, wide), purpose="start")
    elif settings.start == "low-noise":
        image = image + START_STD * noise_of_resolution(draws, high, wide, low)
    elif photos is not None:
        edge = place.border
        image[..., edge : edge + place.height, edge : edge + place.width] = photos
    if settings.start_noise:
        purpose = "start noise" if settings.start == "low-noise" else "start"  # not the same blobs twice
        image = image + settings.start_noise * noise_of_resolution(draws, high, wide, low, purpose)
    return image.clamp(0, 1) if settings.start == "photo" else image.clamp(0.01, 0.99)


def find_photos(settings: DrawSettings, spec: ModelSpec) -> Tensor | None:
    """(N,3,H,W) in [0,1], what pictures start from with start=photo; picture i takes photo i modulo N."""
    if settings.start != "photo":
        return None
    if settings.start_photo is None:
        raise UserError("start=photo needs pictures; type --set start_photo=FILE_OR_FOLDER")
    place = geometry(settings, spec)
    return load_images(settings.start_photo, size=(place.height, place.width)).images.float() / 255


def parameterization(settings: DrawSettings, start: Tensor) -> Parameterization:
    if settings.parameterization == "pixels":
        return Pixels(start, settings.squash)
    if settings.parameterization == "fourier":
        return Fourier(start, squash=settings.squash)
    levels, weights = stack_levels(settings, *start.shape[-2:])
    return ImageStack(start, levels, weights, engine=settings.engine, squash=settings.squash)


def views(settings: DrawSettings, place: Geometry) -> Views:
    shorter = min(place.height, place.width)
    augmentations: list[Augmentation] = []
    if settings.jitter:
        augmentations.append(Roll(settings.pixels("jitter", shorter)))
    if place.border:
        augmentations.append(place.crop())
    if settings.shift:
        augmentations.append(Shift(settings.pixels("shift", shorter)))
    if settings.flip:
        augmentations.append(Flip())
    if settings.noise:
        augmentations.append(Noise(settings.noise, settings.noise_kind))
    return Views(settings.copies, augmentations)


def new_ascent(
    settings: DrawSettings, place: Geometry, draws: Draws, device: str, photos: Tensor | None = None
) -> Ascent:
    """The start of an ascent, which knows nothing of a model."""
    held = parameterization(settings, start_image(settings, place, draws, photos).to(device))
    names = ("steps", "optimizer", "rms", "rate", "schedule", "final", "fixed_noise")
    chosen = AscentSettings(**{name: getattr(settings, name) for name in names}, noise=settings.step_noise)
    return Ascent(held, chosen)
