"""Settings -> the parts of one batch: the picture as it is held, how it is seen, what is wanted of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from torch import Tensor

from bothways.loops.ascend import Ascent, AscentSettings
from bothways.models.adapter import Adapter
from bothways.models.catalogue import kept_statistics
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
from bothways.synthesis.das import toward
from bothways.synthesis.fields import Field
from bothways.synthesis.objectives import (
    Spread,
    Wish,
    batch_statistics,
    class_log_probability,
    class_logit,
    measure_spread,
    spread_statistics,
    total_variation,
)
from bothways.synthesis.parameterizations import Fourier, ImageStack, Pixels
from bothways.types import Parameterization, RunError, UserError

START_RESOLUTION = 8  # pixels of a side of the low-resolution noise in a start


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


def geometry(settings: DrawSettings, model: Adapter) -> Geometry:
    """The size asked for, or the model's own; the border is a share of the shorter side."""
    height, width = (settings.size, settings.size) if settings.size else (model.spec.height, model.spec.width)
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


def start_image(settings: DrawSettings, place: Geometry, draws: Draws) -> Tensor:
    """(B,3,H,W): grey or white noise, and low-resolution noise on it."""
    high, wide = place.canvas
    if settings.start == "noise":
        image = 0.5 + 0.2 * draws.normal((3, high, wide), purpose="start")
    else:
        image = torch.full((len(draws), 3, high, wide), 0.5)
    if settings.start_noise:
        image = image + settings.start_noise * noise_of_resolution(draws, high, wide, min(START_RESOLUTION, high))
    return image.clamp(0.01, 0.99)


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


Prior = Mapping[str, Spread] | Mapping[str, tuple[Tensor, Tensor]] | None


def find_prior(model: Adapter, settings: DrawSettings, real: Tensor | None) -> Prior:
    """The channel statistics that the settings ask for: those of ``real``, the bundled ones, or BatchNorm's own."""
    if settings.statistics == "none":
        return None
    if settings.statistics == "batch":
        stored = model.batch_norm_statistics()
        if stored:
            return stored
        raise UserError(
            f"model {model.name!r} has no BatchNorm statistics; type --statistics spread --data REAL_IMAGES"
        )
    if real is not None:
        return measure_spread(model, real.to(model.device), model.statistics_layers())
    spread = read_spread(kept_statistics(model.name))
    if spread:
        return {layer: Spread(*(v.to(model.device) for v in facts)) for layer, facts in spread.items()}
    other = "--statistics batch for its BatchNorm's own" if model.batch_norm_statistics() else "--recipe das"
    raise UserError(
        f"recipe {settings.recipe!r} needs channel statistics of real images for model {model.name!r}; "
        f"type --data FOLDER_OR_PARQUET, or {other}"
    )


SPREAD_PARTS = ("mean", "mean_std", "log_std", "log_std_std")


def read_spread(tensors: Mapping[str, Tensor]) -> dict[str, tuple[Tensor, ...]]:
    """{layer: the four parts of a Spread} out of a statistics file."""
    layers = dict.fromkeys(key.split("/")[1] for key in tensors if key.startswith("spread/"))
    return {layer: tuple(tensors[f"spread/{layer}/{part}"] for part in SPREAD_PARTS) for layer in layers}


def objective(model: Adapter, settings: DrawSettings, labels: Tensor, prior: Prior) -> Wish:
    """What the settings want of pictures of these classes."""
    wanted = class_logit if settings.objective == "logit" else class_log_probability
    wish = Wish((settings.class_weight * wanted(model, labels.to(model.device)),))
    if prior and settings.statistics == "batch":
        wish = wish + settings.statistics_weight * batch_statistics(model, prior, settings.group)  # type: ignore[arg-type]
    elif prior:
        wish = wish + settings.statistics_weight * spread_statistics(model, prior)  # type: ignore[arg-type]
    if settings.variation_weight:
        wish = wish + settings.variation_weight * total_variation(settings.variation_power)
    return wish


def batch_parts(
    model: Adapter, settings: DrawSettings, labels: Tensor, seeds: list[int], prior: Prior
) -> tuple[Field, Ascent, Draws]:
    """Everything that draws one batch."""
    place, draws = geometry(settings, model), Draws(seeds)
    wish = objective(model, settings, labels, prior)
    field = toward(wish, draws, views(settings, place), normalize=settings.normalize)
    return field, new_ascent(settings, place, draws, model.device), draws


def check_parts(model: Adapter, settings: DrawSettings, prior: Prior) -> None:
    """Put the parts of one picture together, so that a size or settings that cannot be are refused before a run."""
    place = geometry(settings, model)
    try:
        with torch.no_grad():
            model.outputs(torch.full((1, 3, place.height, place.width), 0.5, device=model.device))
        batch_parts(model, settings, torch.zeros(1, dtype=torch.int64), [0], prior)
    except RunError:
        raise
    except RuntimeError as error:
        size, said = f"{place.height}x{place.width}", str(error).splitlines()[0]
        raise UserError(f"pictures of {size} cannot be held ({said}); type a smaller --size") from error


def new_ascent(settings: DrawSettings, place: Geometry, draws: Draws, device: str) -> Ascent:
    """The start of an ascent, which knows nothing of a model."""
    held = parameterization(settings, start_image(settings, place, draws).to(device))
    names = ("steps", "optimizer", "rms", "rate", "schedule", "final")
    chosen = AscentSettings(**{name: getattr(settings, name) for name in names}, noise=settings.step_noise)
    return Ascent(held, chosen)


def find_classes(model: Adapter, classes: Sequence[str | int]) -> list[int]:
    """Names or numbers -> numbers; raises UserError with the nearest names."""
    if not model.spec.count:
        raise UserError(f"model {model.name!r} has no classes in its spec; state ModelSpec(classes=...)")
    if not classes:
        raise UserError(f"no class was asked for; type --class NAME_OR_NUMBER, such as {model.spec.class_name(0)}")
    names = {model.spec.class_name(i).lower(): i for i in range(model.spec.count)}
    found = []
    for asked in classes:
        text = str(asked).strip().lower()
        if text in names:
            found.append(names[text])
        elif text.isdecimal() and int(text) < model.spec.count:
            found.append(int(text))
        else:
            near = get_close_matches(text, names, n=3, cutoff=0.4)
            hint = f"the nearest are {', '.join(near)}" if near else f"type a name or 0 to {model.spec.count - 1}"
            raise UserError(f"model {model.name!r} has no class {asked!r}; {hint}")
    return list(dict.fromkeys(found))
