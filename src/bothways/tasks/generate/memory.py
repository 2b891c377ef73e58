"""The batches of a drawing, and whether they fit: a small picture is measured and compared with what is free.

    bytes = shared + pictures at once * (canvas and one view + further views) + pictures * (the finished one)

Measured is a whole step of the ascent, so that it holds for any model, objective, view and canvas.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bothways import budget
from bothways.models.adapter import Adapter
from bothways.numerics.footprint import Footprint, footprint
from bothways.numerics.pyramid import resize
from bothways.synthesis.ascent import ascend
from bothways.synthesis.parameterizations import canvas_settings
from bothways.synthesis.views import pixels
from bothways.tasks.generate.canvas import views_of
from bothways.tasks.generate.problem import Setup
from bothways.tasks.generate.request import Request
from bothways.tasks.generate.scene import Scene

PIXELS_AT_ONCE = 1_000_000  # copies x height x width x pictures of a batch, which fits in 1 to 2 GB
PICTURES_AT_ONCE = 50
KEPT = 24  # bytes a pixel of a canvas: the last good state
LARGER = 4  # times the pixels that the model is made for: up to there a step is measured at its own size


def coupled(setup: Setup) -> bool:
    """Whether the pictures of a group share a statistic."""
    return any(part.coupled for _, part in setup.objective.parts)


def batch_of(setup: Setup) -> int:
    """Pictures of a batch, as the settings have it."""
    roles, config = setup.roles, setup.config
    if coupled(setup):
        return config.group
    high, wide = setup.place.canvas
    models = {id(model): model.spec for model in (*roles.condition, *roles.score)}.values()
    pixels = sum(max(high * wide, spec.height * spec.width) for spec in models)  # the passes of all are held at once
    return config.batch or max(1, min(PICTURES_AT_ONCE, PIXELS_AT_ONCE // (config.views.copies * pixels)))


def batches_of(pictures: int, size: int, only: Sequence[str | int] | None, in_groups: bool) -> list[list[int]]:
    """The picture numbers of each batch of at most ``size``, of those in ``only``.

    in_groups: a batch is drawn whole where any picture of it is.
    """
    chosen = set(range(pictures)) if only is None else {int(number) for number in only}
    numbers = list(range(pictures)) if in_groups else sorted(chosen)
    parts = [numbers[i : i + size] for i in range(0, len(numbers), size)]
    return [part for part in parts if set(part) & chosen]


@dataclass(frozen=True)
class Cost:
    """Bytes of a drawing. shared: once; canvas: of a picture with one view; view: of each further view of it."""

    shared: float
    canvas: Footprint
    view: Footprint

    def of(self, pictures: int, copies: int, area: int, grown: float = 1.0) -> float:
        """Of a batch. area: pixels of the picture; grown: the area for which it is computed, as a share of that."""
        size = round(area * grown)
        views = self.view.of(pictures, size) * (copies - 1)
        return self.shared * grown + self.canvas.of(pictures, size) + KEPT * pictures * size + views


def fitting(setup: Setup, request: Request, wanted: int, coupled: bool) -> int:
    """How many pictures of a batch of ``wanted`` are drawn at once: all, or as many as fit.

    coupled: they share a statistic, and are drawn together or not at all. Raises UserError where not one fits.
    """
    if coupled:
        tell_of_groups(setup.config.batch, setup.config.group)
    roles, place, copies = setup.roles, setup.place, setup.config.views.copies
    specs = {id(model): model.spec for model in (*roles.condition, *roles.score)}.values()
    canvas = place.canvas[0] * place.canvas[1]
    seen = sum(max(canvas, spec.height * spec.width) for spec in specs)  # the passes of all models are held at once
    device = roles.main.device
    if not setup.config.ascent.steps or budget.certainly_fits(wanted * copies * seen, device):
        return wanted
    cost = cost_of(setup, request, budget.free_memory(device), wanted)
    free, area, short = budget.free_memory(device), place.height * place.width, min(place.height, place.width)
    if cost is None or cost.of(wanted, copies, area) <= free:
        return wanted
    alone = 0 if coupled else budget.greatest(lambda n: cost.of(n, copies, area), free, wanted)
    if alone:
        return alone
    least = wanted if coupled else 1
    ways = [
        ("--copies", budget.greatest(lambda c: cost.of(least, c, area), free, copies)),
        ("--size", budget.greatest(lambda side: cost.of(least, copies, area, (side / short) ** 2), free, short - 1)),
        ("--group", budget.greatest(lambda n: cost.of(n, copies, area), free, wanted) if coupled else 0),
    ]
    cures = [f"{option} {most}" for option, most in ways if most]
    told = f"{' or '.join(cures)}, or less" if cures else "a smaller model"
    how = f"drawings of {place.height}x{place.width} pixels ({least} at once, --copies {copies})"
    budget.check_memory(how, cost.of(least, copies, area), f"type {told}", device)
    return wanted


def tell_of_groups(batch: int | None, group: int) -> None:
    """Warn where a batch is smaller than a group, whose pictures share a statistic and are drawn together."""
    if batch is not None and batch < group:
        warnings.warn(
            f"--batch {batch}: {group} pictures share a statistic, and are drawn at once; type --group {batch} for "
            "fewer, which are then others",
            stacklevel=3,
        )


def tell_of_fewer(config_batch: int | None, wanted: int, fits: int) -> None:
    """Warn where fewer pictures are drawn at once than a batch has."""
    if fits < wanted:
        typed = f"--batch {wanted}" if config_batch else f"{wanted} pictures at once"
        warnings.warn(f"{typed} would not fit into memory; {fits} at once are drawn, the same ones", stacklevel=3)


def outputs_of(model: Adapter, images: Tensor) -> Tensor:
    """The outputs of a model for pictures, (B,K) on the CPU, of few at once."""
    return torch.cat(budget.AtOnce("pictures", 16).over(images, lambda some: model.outputs(some).cpu()))


def halved(pictures: int, fixed: bool, error: Exception) -> int:
    """Half of so many pictures, where no memory is left for them. Raises the error where that is no cure.

    fixed: the batch cannot be made smaller.
    """
    if fixed:
        raise error
    at_once = budget.AtOnce("pictures", pictures)
    at_once.fewer(pictures, error)
    return at_once.most


def cost_of(setup: Setup, request: Request, room: float, wanted: int | None = None) -> Cost | None:
    """The cost of a drawing from steps of one picture, with one view and with two; None where no step can be made.

    A further view takes no more than the canvas and one view; where ``wanted`` pictures at once fit even so, the step
    with two views is not made, which for a single picture is as long as many steps of the drawing.
    """
    place, main = setup.place, setup.roles.main.spec
    own = (main.height, main.width)
    shapes = [(place.height, place.width)]
    if place.height * place.width > LARGER * own[0] * own[1]:
        shapes = [own, (2 * own[0], 2 * own[1])]
    one = footprint(lambda shape: _step(setup, request, 1, shape), shapes, room)
    if one is None:
        return None
    settings = canvas_settings(setup.config.canvas.kind, setup.config.canvas.own)
    shared = 0.0 if settings is None else settings.shared_bytes(*place.canvas)
    copies, most = setup.config.views.copies, Cost(shared, one, one)
    if copies == 1 or (wanted and most.of(wanted, copies, place.height * place.width) <= room):
        return most
    two = footprint(lambda shape: _step(setup, request, 2, shape), shapes, room)
    if two is None:
        return None
    return replace(most, view=Footprint(max(0.0, two.linear - one.linear), max(0.0, two.square - one.square)))


def _step(setup: Setup, request: Request, copies: int, shape: tuple[int, int]) -> Callable[[], None]:
    """One step of one picture of this shape, with so many views, ready to be made."""
    config = setup.config
    views = config.views.model_copy(update={"copies": copies})
    ascent = config.ascent.model_copy(update={"steps": 1})
    small = config.model_copy(update={"views": views, "ascent": ascent, "batch": None})
    border = pixels(config.canvas.border, min(shape))
    place = replace(setup.place, height=shape[0], width=shape[1], border=border)
    scene = _of_shape(request.scene, shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run itself says it again
        tried = replace(setup, config=small, views=views_of(views, place, setup.roles.main.spec), place=place)
        problem = tried.problem(request, replace(request, scene=scene).batch([0], [0]))

    def step() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in ascend(problem.field, problem.ascent, problem.draws):
                pass

    return step


def _of_shape(scene: Scene, shape: tuple[int, int]) -> Scene:
    """Its first photo and its mask in another shape, and its first style as it is."""
    photos = None if scene.photos is None else resize(scene.photos[:1], shape)
    mask = None if scene.mask is None else resize(scene.mask.float(), shape) > 0
    return Scene(photos, mask, None if scene.style is None else scene.style[:1])
