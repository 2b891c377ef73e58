"""The canvas of a batch: size, start, parameterisation, views and ascent, independent of any model."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from bothways.brief import shown
from bothways.data.given import fitted_pictures, pictures_of
from bothways.data.readers.decoding import SUFFIXES
from bothways.data.readers.live import is_live
from bothways.data.sources import load_images
from bothways.numerics.draws import Draws
from bothways.numerics.fill import harmonic_fill, tension_fill
from bothways.synthesis.ascent import Ascent
from bothways.synthesis.config import CanvasConfig, ViewsConfig
from bothways.synthesis.parameterizations import CanvasContext, build_canvas, canvas_settings
from bothways.synthesis.parameterizations.grey import Grey
from bothways.synthesis.parameterizations.masked import Masked
from bothways.synthesis.views import Views, for_model, idle, noise_of_resolution, on_canvas, pixels, view_of
from bothways.synthesis.views.crop import CentreCrop
from bothways.synthesis.views.window import Window
from bothways.tasks.generate.config import DrawingConfig
from bothways.tasks.generate.scene import Scene
from bothways.tasks.spectrum.files import read_spectrum
from bothways.types import ModelSpec, Parameterization, UserError

START_RESOLUTION = 8  # side in pixels of the low-resolution noise in a start
FILLS = {"harmonic": harmonic_fill, "tension": tension_fill}
START_STD = 0.2  # of the noise of a start


@dataclass(frozen=True)
class Geometry:
    """Pixels: of the picture, and of the canvas around it.

    of_photo: models are shown it at their own size. grey: it has no colours, since the main model sees none.
    """

    height: int
    width: int
    border: int
    of_photo: bool = False
    grey: bool = False

    @property
    def canvas(self) -> tuple[int, int]:
        return self.height + 2 * self.border, self.width + 2 * self.border

    def crop(self) -> CentreCrop:
        return CentreCrop(self.height, self.width)

    def inside(self, canvas: Tensor) -> Tensor:
        """The picture inside a canvas (...,H,W), as a view."""
        edge = self.border
        return canvas[..., edge : edge + self.height, edge : edge + self.width]


def geometry(canvas: CanvasConfig, spec: ModelSpec, scene: Scene | None = None) -> Geometry:
    """The geometry: the size of the photo, else of the canvas settings, else of the model, plus the border."""
    size = None if scene is None else scene.size
    if size is None and canvas.size:
        size = canvas.size, canvas.size
    height, width = size or (spec.height, spec.width)
    of_photo = scene is not None and scene.photos is not None
    grey = spec.channel_order == "grey" and not of_photo
    return Geometry(height, width, pixels(canvas.border, min(height, width)), of_photo, grey)


def start_image(canvas: CanvasConfig, place: Geometry, draws: Draws, scene: Scene | None = None) -> Tensor:
    """The start (B,3,H,W): grey, white noise, low-resolution noise or a photo, plus low-resolution noise.

    scene: of these pictures, for start=photo; the border of a photo is grey and masked pixels are filled.
    """
    high, wide = place.canvas
    low = min(START_RESOLUTION, high)
    image = torch.full((len(draws), 3, high, wide), 0.5)
    if canvas.start == "noise":
        image = image + START_STD * draws.normal((3, high, wide), purpose="start")
    elif canvas.start == "low-noise":
        image = image + START_STD * noise_of_resolution(draws, high, wide, low)
    elif canvas.start == "photo" and scene is not None and scene.photos is not None:
        place.inside(image)[:] = filled(canvas, scene.photos, scene.mask, draws)
    if canvas.start_noise:
        purpose = "start noise" if canvas.start == "low-noise" else "start"  # not that of start_noise
        image = image + canvas.start_noise * noise_of_resolution(draws, high, wide, low, purpose)
    return image.clamp(0, 1) if canvas.start == "photo" else image.clamp(0.01, 0.99)


def filled(canvas: CanvasConfig, photos: Tensor, mask: Tensor | None, draws: Draws) -> Tensor:
    """The photos (B,3,H,W) with masked pixels filled according to the canvas settings."""
    if mask is None or canvas.fill == "photo":
        return photos
    if canvas.fill in FILLS:
        return FILLS[canvas.fill](photos, mask)
    if canvas.fill == "mean":
        kept = (~mask).float()
        return torch.where(mask, (photos * kept).sum((2, 3), keepdim=True) / kept.sum().clamp_min(1), photos)
    noise = 0.5 + START_STD * draws.normal(photos.shape[1:], purpose="fill")
    return torch.where(mask, noise.clamp(0, 1), photos)


def find_photos(canvas: CanvasConfig, spec: ModelSpec) -> Tensor | None:
    """The photos (N,3,H,W) in [0,1] of start=photo; picture i starts from photo i modulo N."""
    if canvas.start != "photo":
        return None
    if canvas.start_photo is None:
        raise UserError(
            "start=photo needs pictures; type --set canvas.start_photo=FILE_OR_FOLDER, or one of the commands that "
            "take a PHOTO, such as bothways edit"
        )
    place = geometry(canvas, spec)
    size = place.height, place.width
    if is_live(canvas.start_photo) or Path(canvas.start_photo).suffix.lower() in SUFFIXES:
        return fitted_pictures(pictures_of(canvas.start_photo, "start_photo").float().cpu(), size)
    return load_images(canvas.start_photo, size=size).floats()


def parameterization(canvas: CanvasConfig, place: Geometry, start: Tensor, draws: Draws) -> Parameterization:
    """What holds the pictures, at their start."""
    where = CanvasContext(canvas.squash, min(place.height, place.width), read_spectrum, draws)
    return build_canvas(canvas.kind, canvas.own, start, where)


def views_of(views: ViewsConfig, place: Geometry, spec: ModelSpec) -> Views:
    """The views in order: those on the canvas before the border is cropped, the others after. spec: who sees them."""
    side = min(place.height, place.width)
    made = []
    for name, given in views.own.items():
        if not isinstance(given, Mapping):
            raise UserError(f"views.{name}={shown(given)}: a view has settings; type views.{name}.SETTING=VALUE")
        settings = dict(given)
        view = for_model(view_of(settings.pop("kind", name), settings, side), spec.height, spec.width)
        if not idle(view):
            made.append(view)
    cut = [place.crop()] if place.border else []
    return Views(views.copies, [*filter(on_canvas, made), *cut, *(view for view in made if not on_canvas(view))])


def tell_of_windows(views: Views, place: Geometry) -> None:
    """Warn of windows that are all the whole picture, so that the view does nothing."""
    for view in views.views:
        if isinstance(view, Window) and view.covers(place.height, place.width):
            size = f"{place.width}x{place.height}"
            warnings.warn(
                f"view 'window': each window is the whole picture of {size}, which is no larger than what the model "
                f"sees; type a --size above {min(view.height, view.width)}",
                stacklevel=2,
            )


def new_ascent(config: DrawingConfig, place: Geometry, draws: Draws, device: str, scene: Scene | None = None) -> Ascent:
    """The start of an ascent. Pixels outside the mask stay those of the photo, bit for bit."""
    canvas, reach = config.canvas, 1.0
    own = canvas_settings(canvas.kind, canvas.own)
    if canvas.start == "grey" and own is not None:
        canvas = canvas.model_copy(update={"start": own.start_for_grey})
    start = start_image(canvas, place, draws, scene).to(device)
    held = parameterization(canvas, place, start, draws)
    held = Grey(held) if place.grey else held
    if scene is not None and scene.photos is not None and scene.mask is not None:
        photo, mask = start.clone(), torch.ones(1, 1, *place.canvas, dtype=torch.bool, device=device)
        place.inside(photo)[:] = scene.photos
        place.inside(mask)[:] = scene.mask
        held = Masked(held, photo, mask)
        reach = float(mask.float().mean().sqrt())  # a step's RMS is that over masked pixels
    return Ascent(held, config.ascent, reach, min(place.height, place.width))
