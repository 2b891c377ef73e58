"""How a picture of no class is held while it moves: its start, the noise that is added, and the clip of its field."""

from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bothways import UserError, generate, load_model
from bothways.models.adapter import Adapter
from bothways.numerics.draws import Draws, picture_seed
from bothways.runs import to_png
from bothways.synthesis.ascent import Ascent, ascend
from bothways.synthesis.config import AscentConfig
from bothways.synthesis.parameterizations.pixels import Pixels
from bothways.tasks.generate.request import Batch
from bothways.tasks.shelf import work_of

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"
EIGHT_BIT = 1 / 255
SEEDS = [picture_seed(7, i) for i in range(3)]


@pytest.fixture(scope="module")
def toy() -> Adapter:
    return load_model(TOY)


def started(toy: Adapter, recipe: str, **settings: Any) -> Tensor:
    return generate(toy, None, 3, recipe, steps=0, seed=7, judges=[], **settings).images


@pytest.mark.parametrize("recipe", ["dsf", "dsf-paper"])  # held by a stack and a tanh, by pixels and a clamp
def test_a_start_is_what_it_says(toy: Adapter, recipe: str) -> None:
    low = F.interpolate(Draws(SEEDS).normal((3, 8, 8), purpose="start"), size=(16, 16), mode="bicubic")
    starts = {
        "grey": torch.full((3, 3, 16, 16), 0.5),
        "noise": 0.5 + 0.2 * Draws(SEEDS).normal((3, 16, 16), purpose="start"),
        "low-noise": 0.5 + 0.2 * low,
    }
    for start, wanted in starts.items():
        found = started(toy, recipe, start=start)
        assert (found - wanted.clamp(0.01, 0.99)).abs().max() < 0.5 * EIGHT_BIT + 1e-5
    found = started(toy, recipe, start="grey", start_noise=0.1)
    assert (found - (0.5 + 0.1 * low).clamp(0.01, 0.99)).abs().max() < 0.5 * EIGHT_BIT + 1e-5


def test_a_photo_is_the_start_byte_for_byte(toy: Adapter, tmp_path: Path) -> None:
    photos = torch.randint(0, 256, (2, 3, 16, 16), generator=torch.Generator().manual_seed(2)) / 255
    for i, photo in enumerate(photos):
        (tmp_path / f"{i}.png").write_bytes(to_png(photo))
    given = {"start": "photo", "start_photo": str(tmp_path)}
    for recipe in ("dsf", "dsf-paper"):
        for border in (0.0, 0.25):
            assert torch.equal(started(toy, recipe, border=border, **given), photos[[0, 1, 0]])
        noisy = started(toy, recipe, start_noise=0.3, **given)  # a photo has whites and blacks, so noise must be held
        assert 0.1 < (noisy - photos[[0, 1, 0]]).std() < 0.3
    one = started(toy, "dsf", start="photo", start_photo=str(tmp_path / "1.png"))
    assert torch.equal(one, photos[[1, 1, 1]])
    large = str(tmp_path / "large.png")  # fitted as a folder's: the shorter side to the model's, the centre cut out
    Path(large).write_bytes(to_png(torch.nn.functional.interpolate(photos[:1], (32, 64), mode="nearest")[0]))
    assert started(toy, "dsf", start="photo", start_photo=large).shape == (3, 3, 16, 16)
    with pytest.raises(UserError, match=r"--set canvas\.start_photo=FILE_OR_FOLDER"):
        started(toy, "dsf", start="photo")
    with pytest.raises(UserError, match="does not exist"):
        started(toy, "dsf", start="photo", start_photo=str(tmp_path / "none"))


def moved(**settings: Any) -> list[Tensor]:
    """The canvas of three pictures after each of six steps along a constant field, from grey, far from the edges."""
    held = Pixels(torch.full((3, 3, 9, 9), 0.5), "clamp")
    ascent = Ascent(held, AscentConfig(steps=6, rms=0.01, schedule="linear", final=0.0, **settings))
    return [
        frame.image
        for frame in ascend(lambda x, t: torch.ones_like(x), ascent, Draws(SEEDS))
        if frame.image is not None
    ]


def rms(images: Tensor) -> Tensor:
    return images.double().square().mean((1, 2, 3)).sqrt()


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({"fixed_noise": 0.02}, [0.02] * 6),
        ({"step_noise": 0.5}, [0.5 * 0.01 * (1 - k / 5) for k in range(6)]),
        ({"step_noise": 0.5, "fixed_noise": 0.003}, [0.5 * 0.01 * (1 - k / 5) + 0.003 for k in range(6)]),
    ],
)
def test_noise_falls_with_the_step_or_stays_the_same(settings: dict[str, float], sizes: list[float]) -> None:
    noisy, plain = moved(**settings), moved()
    added = [a - b for a, b in zip(noisy, plain, strict=True)]
    steps = [added[0], *(b - a for a, b in pairwise(added))]
    for found, wanted in zip(steps, sizes, strict=True):
        assert (rms(found) - wanted).abs().max() < 1e-6
    flat = torch.stack(steps).flatten(2).permute(1, 0, 2)[:, :5]  # (pictures, steps, numbers); the last may be zero
    correlation = torch.corrcoef(flat.flatten(0, 1)) - torch.eye(15)
    assert correlation.abs().max() < 0.35  # of 243 numbers each
    again = moved(**settings)
    assert all(torch.equal(a, b) for a, b in zip(noisy, again, strict=True))


@pytest.mark.parametrize("by", ["value", "norm"])
def test_the_paper_clips_by_value_or_by_length(toy: Adapter, by: str) -> None:
    drawing = work_of("generate", toy, None, recipe="dsf-paper", n=3, clip_by=by, clip=1e-3)
    free_ascent = drawing.config.ascent.model_copy(update={"clip": None})
    free_config = drawing.config.model_copy(update={"ascent": free_ascent})
    batch = Batch(torch.full((3,), -1), SEEDS)
    problems = [
        setup.problem(drawing.request, batch)
        for setup in (drawing.setup, dataclasses.replace(drawing.setup, config=free_config))
    ]
    image = problems[0].ascent.parameterization.image().detach()
    clipped, free = (problem.field(image, torch.zeros(3)) for problem in problems)
    assert free.abs().max() > 1e-2
    length = free.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    wanted = free.clamp(-1e-3, 1e-3) if by == "value" else free * (1e-3 / length).clamp_max(1)
    assert (clipped - wanted).abs().max() < 1e-8
