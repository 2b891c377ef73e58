"""A drawing that grows from coarse to fine: which waves and levels move at a step, and what a step is then."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import bothways
from bothways import UserError, generate
from bothways.numerics.draws import Draws
from bothways.numerics.spectra import frequencies
from bothways.synthesis.ascent import FINEST, Ascent, ascend
from bothways.synthesis.config import AscentConfig
from bothways.synthesis.parameterizations.fourier import Fourier
from bothways.synthesis.parameterizations.grey import Grey
from bothways.synthesis.parameterizations.maco import MaCo, halves
from bothways.synthesis.parameterizations.masked import Masked
from bothways.synthesis.parameterizations.photographs import Photographs
from bothways.synthesis.parameterizations.pixels import Pixels
from bothways.synthesis.parameterizations.stack import ImageStack
from bothways.tasks.spectrum.files import read_spectrum
from bothways.types import Parameterization

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"
START = torch.full((2, 3, 16, 20), 0.5, dtype=torch.float64)
DRAWS = Draws([3, 4])
SPECTRUM = read_spectrum("bundled:natural")
LEVELS = [1, 2, 3, 4, 6, 8, 10, 12, 16]
HELD = {
    "fourier": lambda: Fourier(START, squash="clamp"),
    "photographs": lambda: Photographs(START, SPECTRUM, DRAWS, spread=0.2, squash="clamp"),
    "maco": lambda: MaCo(START + 0.1 * DRAWS.normal((3, 16, 20)).double().clamp(-4, 4), SPECTRUM),
    "stack": lambda: ImageStack(START, LEVELS, None, "explicit", "clamp"),
}
every = pytest.mark.parametrize("name", HELD)


def cuts(steps: int, grow: float, first: float, side: int) -> list[float]:
    """Cycles per pixel of the shortest wave that moves, by the formula of the setting."""
    lowest = first / side
    shares = [k / (grow * steps) for k in range(steps)]
    return [math.inf if s >= 1 else lowest * (FINEST / lowest) ** s for s in shares]


def parameters_by_step(held: Parameterization, **settings: Any) -> tuple[list[list[Tensor]], list[Tensor]]:
    """The parameters before the first and after every step of white noise, and the canvas's change of each step."""
    ascent = Ascent(held, AscentConfig(**{"steps": 6, "rms": 0.01, "final": 1.0, **settings}))
    found, moved = [[p.detach().clone() for p in held.parameters()]], []

    def noise(x: Tensor, t: Tensor) -> Tensor:
        return DRAWS.normal(x.shape[1:], float(t[0]), "field").to(x)

    walk = ascend(noise, ascent, DRAWS)
    for _ in range(ascent.settings.steps):
        before = [p.detach().clone() for p in held.parameters()]
        next(walk)
        after = [p.detach().clone() for p in held.parameters()]
        for p, value in zip(held.parameters(), before, strict=True):
            p.data.copy_(value)  # the differential is that before the step
        moved.append(held.canvas([a - b for a, b in zip(after, before, strict=True)]).detach())
        for p, value in zip(held.parameters(), after, strict=True):
            p.data.copy_(value)
        found.append(after)
    return found, moved


@every
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_only_long_waves_move_until_all_do(name: str, optimizer: str) -> None:
    values, _ = parameters_by_step(HELD[name](), grow=0.5, grow_from=2, optimizer=optimizer)
    radius = torch.hypot(*frequencies(16, 20, 1.0))
    phases = halves(16, 20)[0] if name == "maco" else torch.ones_like(radius, dtype=torch.bool)  # those that are free
    seen = []
    for step, cut in enumerate(cuts(6, 0.5, 2, 16)):
        changed = [(b - a) != 0 for a, b in zip(values[step], values[step + 1], strict=True)]
        if name == "stack":
            free = [r / 2 / 16 <= cut for r in LEVELS]
            assert [bool(part.all()) for part in changed] == [bool(part.any()) for part in changed] == free
            seen.append(sum(free))
        else:
            moved = changed[0].any(-1) if changed[0].ndim == 5 else changed[0]
            assert torch.equal(moved, ((radius <= cut) & phases).expand_as(moved))
            seen.append(int((radius <= cut).sum()))
    assert seen[0] < seen[1] < seen[2] <= seen[3] == seen[5]
    assert seen[3] == (len(LEVELS) if name == "stack" else radius.numel())


@every
def test_a_step_keeps_its_length_while_few_waves_move(name: str) -> None:
    for noise in (0.0, 0.5):
        _, moved = parameters_by_step(HELD[name](), grow=0.5, grow_from=2, step_noise=noise)
        lengths = torch.stack([change.square().mean((1, 2, 3)).sqrt() for change in moved])
        bound = 0.01 * noise + 1e-9
        assert (lengths - 0.01).abs().max() < bound


def test_by_default_all_move_and_a_canvas_within_another_grows_too() -> None:
    held = Fourier(START)
    assert Ascent(held, AscentConfig(steps=4)).moving() is None
    mask = torch.zeros(1, 1, 16, 20)
    mask[..., 3:9, 3:9] = 1
    for outer in (Grey(held), Masked(held, START, mask)):
        inner, own = (Ascent(x, AscentConfig(steps=4, grow=1.0)).moving() for x in (held, outer))
        assert own is not None
        assert inner is not None
        assert torch.equal(own[0], inner[0])
        assert 0 < own[0].sum() < own[0].numel()


def test_cycles_are_counted_per_side_of_the_picture_in_a_border() -> None:
    ascent = Ascent(Fourier(START), AscentConfig(steps=4, grow=1.0, grow_from=2), side=8)
    moving = ascent.moving()
    assert moving is not None
    assert torch.equal(moving[0][..., 0].bool(), torch.hypot(*frequencies(16, 20, 8)) <= 2)


@pytest.mark.parametrize("held", [lambda: Pixels(START), lambda: ImageStack(START, LEVELS)], ids=["pixels", "operator"])
def test_a_canvas_without_waves_of_its_own_says_which_to_take(held: Any) -> None:
    with pytest.raises(UserError, match=r"--canvas fourier.*--set canvas\.engine=explicit"):
        Ascent(held(), AscentConfig(grow=0.5))


@pytest.mark.parametrize("canvas", ["fourier", "photographs", "stack"])
def test_a_growing_drawing_that_is_cut_short_goes_on_to_the_same_end(canvas: str, tmp_path: Path) -> None:
    options = {"recipe": "pixels", "canvas.kind": canvas, "steps": 6, "seed": 4, "judges": [], "optimizer": "adam"}
    options |= {"ascent.grow": 0.9, "ascent.grow_from": 1.0, "rate": 0.05, "verdicts": False}
    options |= {"canvas.engine": "explicit"} if canvas == "stack" else {}
    whole = generate(TOY, [0, 1], 1, out=tmp_path / "whole", **options)
    plain = generate(TOY, [0, 1], 1, **{**options, "ascent.grow": 0.0})
    assert (whole.images - plain.images).abs().max() > 2 / 255

    def stop(frame: bothways.Frame) -> None:
        if frame.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(TOY, [0, 1], 1, out=tmp_path / "cut", on_frame=stop, **options)
    found = generate(TOY, [0, 1], 1, out=tmp_path / "cut", resume=True, **options)
    assert torch.equal(found.images, whole.images)
