"""How the pictures of one batch are held and seen: size, start, parameterisation, views, the ascent. No model in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bothways.data.sources import load_images
from bothways.numerics.draws import Draws
from bothways.numerics.fill import harmonic_fill, tension_fill
from bothways.numerics.pyramid import geometric_levels, level_weights
from bothways.synthesis.ascent import Ascent, AscentSettings
from bothways.synthesis.maco import MaCo
from bothways.synthesis.parameterizations import Fourier, ImageStack, Masked, Pixels
from bothways.synthesis.views import (
    Augmentation,
    CentreCrop,
    Flip,
    Noise,
    Roll,
    Shift,
    Views,
    noise_of_resolution,
)
from bothways.tasks.generate.config import DrawSettings
from bothways.tasks.generate.scene import Scene
from bothways.tasks.spectrum.run import read_spectrum
from bothways.types import ModelSpec, Parameterization, UserError

START_RESOLUTION = 8  # pixels of a side of the low-resolution noise in a start
FILLS = {"harmonic": harmonic_fill, "tension": tension_fill}
START_STD = 0.2  # of the noise that a picture starts from


@dataclass(frozen=True)
class Geometry:
    """Pixels: of the picture, and of the canvas around it. of_photo: models are shown it at their own size."""

    height: int
    width: int
    border: int
    of_photo: bool = False

    @property
    def canvas(self) -> tuple[int, int]:
        return self.height + 2 * self.border, self.width + 2 * self.border

    def crop(self) -> CentreCrop:
        return CentreCrop(self.height, self.width)

    def inside(self, canvas: Tensor) -> Tensor:
        """The picture in a canvas (...,H,W), as a view of it."""
        edge = self.border
        return canvas[..., edge : edge + self.height, edge : edge + self.width]


def geometry(settings: DrawSettings, spec: ModelSpec, scene: Scene | None = None) -> Geometry:
    """The photo's size, or the size asked for, or the model's own; the border is a share of the shorter side."""
    found = None if scene is None else scene.size
    if found is None and settings.size:
        found = settings.size, settings.size
    height, width = found or (spec.height, spec.width)
    of_photo = scene is not None and scene.photos is not None
    return Geometry(height, width, settings.pixels("border", min(height, width)), of_photo)


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


def start_image(settings: DrawSettings, place: Geometry, draws: Draws, scene: Scene | None = None) -> Tensor:
    """(B,3,H,W): grey, white noise, low-resolution noise or a photo, and low-resolution noise on it.

    scene: of these pictures, for start=photo; the border around a photo is grey, what is masked is filled.
    """
    high, wide = place.canvas
    low = min(START_RESOLUTION, high)
    image = torch.full((len(draws), 3, high, wide), 0.5)
    if settings.start == "noise":
        image = image + START_STD * draws.normal((3, high, wide), purpose="start")
    elif settings.start == "low-noise":
        image = image + START_STD * noise_of_resolution(draws, high, wide, low)
    elif settings.start == "photo" and scene is not None and scene.photos is not None:
        place.inside(image)[:] = filled(settings, scene.photos, scene.mask, draws)
    if settings.start_noise:
        purpose = "start noise" if settings.start == "low-noise" else "start"  # not the same blobs twice
        image = image + settings.start_noise * noise_of_resolution(draws, high, wide, low, purpose)
    return image.clamp(0, 1) if settings.start == "photo" else image.clamp(0.01, 0.99)


def filled(settings: DrawSettings, photos: Tensor, mask: Tensor | None, draws: Draws) -> Tensor:
    """(B,3,H,W): the photos, with what is masked filled as the settings say."""
    if mask is None or settings.fill == "photo":
        return photos
    if settings.fill in FILLS:
        return FILLS[settings.fill](photos, mask)
    if settings.fill == "mean":
        kept = (~mask).float()
        return torch.where(mask, (photos * kept).sum((2, 3), keepdim=True) / kept.sum().clamp_min(1), photos)
    noise = 0.5 + START_STD * draws.normal(photos.shape[1:], purpose="fill")
    return torch.where(mask, noise.clamp(0, 1), photos)


def find_photos(settings: DrawSettings, spec: ModelSpec) -> Tensor | None:
    """(N,3,H,W) in [0,1], what pictures start from with start=photo; picture i takes photo i modulo N."""
    if settings.start != "photo":
        return None
    if settings.start_photo is None:
        raise UserError("start=photo needs pictures; type --set start_photo=FILE_OR_FOLDER, or give a PHOTO")
    place = geometry(settings, spec)
    return load_images(settings.start_photo, size=(place.height, place.width)).images.float() / 255


def parameterization(settings: DrawSettings, place: Geometry, start: Tensor) -> Parameterization:
    if settings.parameterization == "maco":
        return MaCo(start, read_spectrum(settings.spectrum), settings.squash, min(place.height, place.width))
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
    settings: DrawSettings, place: Geometry, draws: Draws, device: str, scene: Scene | None = None
) -> Ascent:
    """The start of an ascent, which knows nothing of a model. What a mask keeps stays the photo, bit for bit."""
    if settings.parameterization == "maco" and settings.start == "grey":  # grey has no phases, noise has all of them
        settings = settings.model_copy(update={"start": "noise"})
    start, moves = start_image(settings, place, draws, scene).to(device), 1.0
    held = parameterization(settings, place, start)
    if scene is not None and scene.photos is not None and scene.mask is not None:
        photo, mask = start.clone(), torch.ones(1, 1, *place.canvas, dtype=torch.bool, device=device)
        place.inside(photo)[:] = scene.photos
        place.inside(mask)[:] = scene.mask
        held = Masked(held, photo, mask)
        moves = float(mask.float().mean().sqrt())  # the step's RMS is of what may move, not of the whole canvas
    names = ("steps", "optimizer", "schedule", "final", "fixed_noise", "alpha")
    chosen = AscentSettings(
        **{name: getattr(settings, name) for name in names},
        rms=moves * settings.strength * settings.rms,
        rate=None if settings.rate is None else settings.strength * settings.rate,
        noise=settings.step_noise,
    )
    return Ascent(held, chosen)
