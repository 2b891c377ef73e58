"""How far a picture that was drawn without a class is from the photographs whose features it was drawn from.

    feature distance   min_i 1 - cos(f(x) - m, f_i - m)     f_i: features of photograph i, m: their mean
    pixel distance     min_i RMS(x - photograph i), both reduced to 32 pixels; where the photographs are at hand

Beside each stands its median over the photographs, of one from the others: a picture much nearer than that repeats one
photograph, in what the network sees of it or in its pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bothways.models.adapter import Adapter
from bothways.numerics.draws import Draws
from bothways.numerics.pyramid import resize
from bothways.synthesis.density import Density, drawn_pair, nearest_distance, unit_rows
from bothways.synthesis.objectives.terms import vectors
from bothways.synthesis.resized import Resized
from bothways.synthesis.sampling import Space

SIDE = 32  # pixels of a side at which pictures are compared
ROWS_AT_ONCE = 500


@torch.no_grad()
def origins(
    images: Tensor, seeds: Sequence[int], models: Sequence[Adapter], space: Space, density: Density | None
) -> dict[str, Any]:
    """{"pictures": one record each, "photographs": what they are compared with}, for measures.json.

    images: (N,3,H,W) in [0,1], with the seeds of their draws. models: the score models. space: theirs, with names.
    density: what was sampled; None for the Gaussian.
    """
    names = space.names
    unit, own = _photographs(space), _pictures(images, models, space)
    far, nearest = (1 - own @ unit.T).min(1)
    found: list[dict[str, Any]] = [
        {"photograph": names[place], "feature_distance": value}
        for place, value in zip(nearest.tolist(), far.tolist(), strict=True)
    ]
    of_photographs: dict[str, Any] = {"number": len(names)}
    if len(names) > 1:
        of_photographs["feature_distance"] = nearest_distance(unit).median().item()
    if density is not None:
        pair = drawn_pair(space.rows, Draws(seeds), density)
        for record, one, other, share in zip(found, pair.own.tolist(), pair.other.tolist(), pair.share, strict=True):
            record["drawn_from"] = [names[one], names[other]]
            record["share"] = share.item()
    if space.pixels is not None:
        _add_pixels(found, of_photographs, reduced(images), space.pixels.float() / 255, names)
    return {"pictures": found, "photographs": of_photographs}


def reduced(images: Tensor) -> Tensor:
    """Pictures (N,3,H,W) at the size at which they are compared, in [0,1] as they are given."""
    return resize(images, (SIDE, SIDE)).clamp(0, 1)


def small_copies(images: Tensor) -> Tensor:
    """Pictures (N,3,H,W), uint8, at the size at which pixels are compared."""
    return torch.cat([(255 * reduced(part.float() / 255)).round().byte() for part in images.split(100)])


def _photographs(space: Space) -> Tensor:
    return unit_rows(list(space.rows.values()), [space.parts[name].mean for name in space.rows])


def _pictures(images: Tensor, models: Sequence[Adapter], space: Space) -> Tensor:
    """The unit rows of pictures, of the parts of which the Space has rows."""
    found: dict[str, Tensor] = {}
    for index, model in enumerate(models):
        layers = {name: name.split("/")[2] for name in space.rows if name.startswith(f"{index}/")}
        if not layers:
            continue
        parts = []
        for part in images.split(16):
            seen = Resized(model).features(part.to(model.device), sorted(set(layers.values())))
            parts.append({name: vectors(seen[layer], layer) for name, layer in layers.items()})
        found |= {name: torch.cat([part[name] for part in parts]) for name in layers}
    return unit_rows([found[name] for name in space.rows], [space.parts[name].mean for name in space.rows])


def _add_pixels(
    found: list[dict[str, Any]],
    of_photographs: dict[str, Any],
    images: Tensor,
    photographs: Tensor,
    names: Sequence[str],
) -> None:
    """Add the nearest photograph in pixels to each record, and the median distance between photographs."""
    own, others = images.to(photographs.device).flatten(1), photographs.flatten(1)
    scale = others.shape[1] ** 0.5
    far, nearest = (torch.cdist(own, others) / scale).min(1)
    for record, place, value in zip(found, nearest.tolist(), far.tolist(), strict=True):
        record["photograph_in_pixels"], record["pixel_distance"] = names[place], value
    if len(others) < 2:
        return
    least = []
    for part in torch.arange(len(others), device=others.device).split(ROWS_AT_ONCE):
        apart = torch.cdist(others[part], others) / scale
        apart[torch.arange(len(part)), part] = torch.inf
        least.append(apart.min(1).values)
    of_photographs["pixel_distance"] = torch.cat(least).median().item()
