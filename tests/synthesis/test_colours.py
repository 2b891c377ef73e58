"""The colours in which a canvas is held: their axes against the covariance, and each canvas against its closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from bothways import UserError, generate
from bothways.numerics.draws import Draws
from bothways.numerics.pyramid import stack_operator
from bothways.numerics.spectra import Spectrum, amplitudes, decorrelated
from bothways.synthesis.parameterizations import CanvasContext, build_canvas
from bothways.synthesis.parameterizations.colours import LUCID_COLOUR, axes_of
from bothways.synthesis.parameterizations.fourier import Fourier
from bothways.synthesis.parameterizations.pixels import Pixels
from bothways.synthesis.parameterizations.stack import ImageStack
from bothways.tasks.spectrum.files import read_spectrum
from toy_model import build

PLACE = CanvasContext("tanh", 16, read_spectrum, Draws([0, 1]))
LEVELS = [1, 3, 7, 12]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def far(a: Tensor, b: Tensor) -> float:
    return float((a - b).detach().abs().max())


def axes(seed: int = 3) -> Tensor:
    return random(3, 3, seed=seed) - 0.3


def unit(found: Tensor) -> Tensor:
    return found / found.norm(dim=0).max()


# ---- the axes ------------------------------------------------------------------------------------------------------


def test_axes_are_principal_and_the_colours_along_them_white() -> None:
    pixels = random(5000, 3) @ axes()
    covariance = (pixels - pixels.mean(0)).T @ (pixels - pixels.mean(0)) / len(pixels)
    found = Spectrum(torch.ones(3, 16, 9), pixels.mean(0), 1, covariance).axes()
    assert far(found @ found.T, covariance) < 1e-12
    across = found.T @ found
    assert far(across, across.diagonal().diag()) < 1e-12
    assert (across.diagonal().diff() < 0).all()
    assert (found.gather(0, found.abs().argmax(0, keepdim=True)) > 0).all()
    planes = (pixels - pixels.mean(0)) @ torch.linalg.inv(found).T
    assert far(planes.T @ planes / len(pixels), torch.eye(3, dtype=torch.float64)) < 1e-9


@pytest.mark.parametrize("size", [16, 17])
def test_without_a_covariance_the_deviations_are_those_of_the_magnitudes(size: int) -> None:
    photo = random(1, 3, size, size)
    found = Spectrum(amplitudes(photo)[0], photo.mean((0, 2, 3)), 1).axes()
    assert far(found.norm(dim=0), decorrelated(photo).std((0, 2, 3), correction=0)) < 1e-12
    assert far(found.T @ found, found.norm(dim=0).square().diag()) < 1e-12
    assert far(found[:, 0] / found[:, 0].norm(), torch.full((3,), 1 / math.sqrt(3), dtype=torch.float64)) < 1e-12


@pytest.mark.parametrize("name", ["bundled:photographs", "bundled:natural"])
def test_the_bundled_colours_are_nearly_lucids_for_imagenet(name: str) -> None:
    found, lucid = read_spectrum(name), torch.tensor(LUCID_COLOUR, dtype=torch.float64)
    assert found.covariance is not None
    assert far(found.covariance, found.covariance.T) < 1e-9
    ratio = found.covariance / (lucid @ lucid.T)
    assert 0.6 < ratio.min() <= ratio.max() < 1.2
    assert far(unit(found.axes()).norm(dim=0), unit(lucid).norm(dim=0)) < 0.03


# ---- the canvases --------------------------------------------------------------------------------------------------


def test_a_canvas_is_its_planes_along_the_axes() -> None:
    start, own = random(2, 3, 12, 10), unit(axes())
    plain = {"pixels": Pixels(start), "fourier": Fourier(start, axes=None)}
    plain |= {engine: ImageStack(start, LEVELS, None, engine) for engine in ("explicit", "operator")}
    held = {"pixels": Pixels(start, axes=7 * axes()), "fourier": Fourier(start, axes=7 * axes())}
    held |= {engine: ImageStack(start, LEVELS, None, engine, axes=7 * axes()) for engine in ("explicit", "operator")}
    for name, found in held.items():
        change = [random(*p.shape, seed=9) for p in found.parameters()]
        wanted = torch.einsum("ck,bkhw->bchw", own, plain[name].canvas(change))
        assert far(found.canvas(change), wanted) < 1e-12, name
        assert far(found.image(), plain[name].image()) < 1e-12, name  # at rest it is the starting picture


@pytest.mark.parametrize(("momentum", "steps"), [(0.0, 1), (0.9, 3)])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (12, 17)])
def test_the_operator_makes_the_steps_of_sgd_on_decorrelated_levels(
    momentum: float, steps: int, height: int, width: int
) -> None:
    start, target, weights = random(2, 3, height, width), random(2, 3, height, width, seed=5), [2.0, 1.0, 0.5, 0.25]
    found = []
    for engine in ("explicit", "operator"):
        held = ImageStack(start, LEVELS, weights, engine, tolerance=0, axes=axes())
        optimizer = torch.optim.SGD(held.parameters(), lr=0.01, momentum=momentum)
        for _ in range(steps):
            optimizer.zero_grad()
            (held.image() - target).square().sum().backward()
            optimizer.step()
        found.append(held.image().detach())
    assert far(found[0], ImageStack(start, LEVELS).image()) > 1e-2
    assert far(found[0], found[1]) < 1e-11


def test_a_step_of_the_stack_is_the_covariance_times_the_operator() -> None:
    start, gradient, own = random(2, 3, 12, 12), random(2, 3, 12, 12, seed=5) - 0.5, unit(axes())
    held = ImageStack(start, LEVELS, None, "explicit", "clamp", axes=axes())
    steps = torch.autograd.grad(held.canvas(held.parameters()), held.parameters(), gradient)
    T = stack_operator(12, 12, LEVELS, tolerance=0, dtype=torch.float64)
    wanted = torch.einsum("ck,dk,bdhw->bchw", own, own, T(gradient))
    assert far(held.canvas(steps), wanted) < 1e-11


# ---- by name -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["stack", "pixels", "fourier"])
def test_the_setting_reaches_every_canvas(kind: str) -> None:
    start = random(2, 3, 16, 16).float()
    for name in ("rgb", "lucid", "bundled:photographs"):
        held, wanted = build_canvas(kind, {"colours": name}, start, PLACE), axes_of(name, PLACE)
        change = [random(*p.shape).float() for p in held.parameters()]
        plain = build_canvas(kind, {"colours": "rgb"}, start, PLACE).canvas(change)
        matrix = torch.eye(3) if wanted is None else unit(wanted.float())
        assert far(held.canvas(change), torch.einsum("ck,bkhw->bchw", matrix, plain)) < 1e-5
    usual = {"colours": "lucid" if kind == "fourier" else "rgb"}
    assert torch.equal(*(build_canvas(kind, settings, start, PLACE).canvas(change) for settings in ({}, usual)))


def test_a_drawing_in_the_colours_of_photographs_is_less_colourful() -> None:
    module, spec = build()
    options = {"spec": spec, "steps": 6, "seed": 2, "judges": [], "verdicts": False, "copies": 1}

    def colourful(**colours: str) -> float:
        planes = decorrelated(generate(module, ["anchor", "dragon"], 1, "das", **options, **colours).images)
        return float(planes[:, 1:].var() / planes[:, 0].var())

    assert colourful(**{"canvas.colours": "bundled:photographs"}) < 0.25 * colourful()


def test_a_name_that_is_no_file_is_told() -> None:
    module, spec = build()
    with pytest.raises(UserError, match=r"spectrum 'sepia' does not exist; type bothways spectrum"):
        generate(module, "anchor", 1, "das", spec=spec, steps=1, judges=[], **{"canvas.colours": "sepia"})
