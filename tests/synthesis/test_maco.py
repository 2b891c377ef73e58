"""MaCo: the magnitudes of its canvas stay whatever the phases do, its steps, its starts, and spectra at other sizes."""

import math

import numpy as np
import pytest
import torch

from bothways.numerics.draws import Draws
from bothways.numerics.spectra import (
    COLOUR_AXES,
    Spectrum,
    amplitudes,
    decorrelated,
    frequencies,
    recorrelated,
)
from bothways.synthesis.ascent import Ascent, ascend
from bothways.synthesis.config import AscentConfig
from bothways.synthesis.parameterizations import CanvasContext, maco
from bothways.synthesis.parameterizations.maco import MaCo, MaCoCanvas, halves, transparency
from bothways.synthesis.parameterizations.masked import Masked
from bothways.synthesis.parameterizations.squash import squash
from bothways.tasks.spectrum.files import read_spectrum
from bothways.types import UserError

SIZES = [(16, 16), (17, 17), (16, 23), (23, 16), (15, 22), (21, 14), (40, 24)]
SEEDS = (3, 4, 5)


def noise(*shape, dtype=torch.float64):
    return (0.5 + 0.2 * Draws(SEEDS[: shape[0]]).normal(shape[1:], purpose="start")).clamp(0.01, 0.99).to(dtype)


def measured(size=16, pictures=20):
    """Of noise whose strength differs between directions and colours: nothing is symmetric by accident."""
    rough = torch.rand(pictures, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    smooth = torch.nn.functional.avg_pool2d(rough, (1, 5), 1, (0, 2)) * torch.tensor([1.0, 0.7, 0.4]).view(3, 1, 1)
    slanted = 0.6 * smooth + 0.4 * smooth.roll((1, 1), (-2, -1))
    return Spectrum(amplitudes(slanted).mean(0), slanted.mean((0, 2, 3)), pictures)


def power_law(size, exponent):
    radius = torch.hypot(*frequencies(size, size, size)).clamp_min(0.5)
    return Spectrum((radius**-exponent).expand(3, -1, -1) * size, torch.full((3,), 0.5, dtype=torch.float64), 1)


def far(a, b):
    return (a - b).abs().max().item()


def shaken(held, seed=0):
    held.phase.data = 3 * torch.randn(held.phase.shape, generator=torch.Generator().manual_seed(seed)).to(held.phase)
    return held


# ---- the magnitudes stay -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("high", "wide"), SIZES)
@pytest.mark.parametrize("squashed", ["tanh", "clamp"])
def test_the_magnitude_of_the_canvas_is_that_of_the_spectrum_whatever_the_phases(high, wide, squashed):
    held = shaken(MaCo(noise(2, 3, high, wide), measured(), squashed))
    canvas = (held.unsquashed() - held.start).detach().numpy()
    planes = np.einsum("kc,bchw->bkhw", np.array(COLOUR_AXES), canvas)
    wanted = {"tanh": 2, "clamp": 1}[squashed] * measured().at(high, wide).numpy()
    assert wanted[:, 1:].min() > 1e-3
    assert np.abs(np.abs(np.fft.rfft2(planes, norm="ortho")) - wanted).max() < 1e-12
    means = squash(torch.from_numpy(canvas + held.start.numpy()).mean((2, 3)), squashed)
    assert far(means, measured().mean.expand(2, 3)) < 1e-12
    assert far(held.image(), squash(held.unsquashed(), squashed)) == 0


def test_in_float32_too():
    held = shaken(MaCo(noise(2, 3, 16, 23, dtype=torch.float32), measured()))
    found = torch.fft.rfft2(decorrelated(held.unsquashed() - held.start), norm="ortho").abs()
    assert found.dtype == torch.float32
    assert far(found, held.magnitude) < 1e-5


@pytest.mark.parametrize(("high", "wide"), SIZES)
def test_every_phase_of_a_real_picture_can_be_reached(high, wide):
    """As many free phases as a real picture has: all but the signs of the frequencies that are their own mirror."""
    own, mirrored = halves(high, wide)
    signs = (2 if high % 2 == 0 else 1) * (2 if wide % 2 == 0 else 1)
    assert 2 * own.sum() == high * wide - signs
    held = MaCo(noise(1, 3, high, wide), measured(), "clamp")
    target = torch.fft.rfft2(decorrelated(noise(2, 3, high, wide)[1:]))
    held.phase.data = torch.where(held.gain > 0, (target.angle() - held.first) / held.gain, 0.0)
    same = torch.cos(torch.fft.rfft2(decorrelated(held.unsquashed())).angle() - target.angle())[0]
    assert (same[:, own | mirrored] > 1 - 1e-9).all()


def test_the_start_gives_the_phases():
    photo = 0.2 + 0.6 * torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    own = Spectrum(amplitudes(photo)[0], photo.mean((0, 2, 3)), 1)  # its own magnitudes: it comes back whole
    assert far(MaCo(photo, own, "clamp").image(), photo) < 1e-12


def test_a_pictures_start_does_not_depend_on_its_batch():
    start = noise(3, 3, 15, 22, dtype=torch.float32)
    together = MaCo(start, measured()).image()
    assert all(far(MaCo(start[i : i + 1], measured()).image()[0], together[i]) < 1e-6 for i in range(3))
    assert far(together[0], together[1]) > 0.1


# ---- the steps -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("high", "wide"), [(16, 16), (15, 22)])
def test_the_gradient_and_the_differential_are_autograds(high, wide):
    held = shaken(MaCo(noise(2, 3, high, wide), measured()))
    change = torch.randn(held.phase.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def unsquashed(phase):
        held.phase = phase
        return held.unsquashed()

    present = held.phase
    value, truth = torch.autograd.functional.jvp(unsquashed, present, change)
    held.phase = present
    assert far(value, held.unsquashed()) < 1e-12
    assert far(held.canvas([change]), truth) < 1e-12
    assert far(held.canvas([3 * change]), 3 * held.canvas([change])) < 1e-12
    pull = torch.randn(value.shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    (gradient,) = torch.autograd.grad(held.unsquashed(), held.parameters(), pull)
    assert abs((gradient * change).sum() - (pull * truth).sum()) < 1e-10


def pull(x, t):
    return torch.sin(9 * x + 5 * t.view(-1, 1, 1, 1)) - 0.3


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("masked", [False, True])
def test_a_step_goes_as_far_as_stated_to_first_order_and_never_farther(optimizer, masked):
    def moved(rms):
        start = noise(2, 3, 16, 16)
        held = MaCo(start, measured())
        mask = torch.arange(256).view(1, 1, 16, 16) > 90
        ascent = Ascent(
            Masked(held, start, mask) if masked else held, AscentConfig(steps=3, optimizer=optimizer, rms=rms)
        )
        before = held.unsquashed().detach()
        next(ascend(pull, ascent, Draws(SEEDS[:2])))
        return ((held.unsquashed() - before) * (mask if masked else 1)).square().mean((1, 2, 3)).sqrt()

    assert (moved(1e-5) / 1e-5 - 1).abs().max() < 1e-3
    assert masked or (moved(0.3) <= 0.3).all()


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_a_resume_is_bit_identical_transparency_too(optimizer):
    def new():
        return Ascent(MaCo(noise(3, 3, 15, 22, dtype=torch.float32), measured()), settings)

    settings = AscentConfig(steps=7, optimizer=optimizer, rms=0.1, step_noise=0.3, alpha=True)
    whole, images = new(), []
    for frame in ascend(pull, whole, Draws(SEEDS)):
        images.append(frame.image)
        if frame.step == 3:
            saved = whole.tensors()
    resumed = new()
    resumed.load(saved, 3)
    again = [frame.image for frame in ascend(pull, resumed, Draws(SEEDS))]
    assert all(torch.equal(one, other) for one, other in zip(again, images[3:], strict=True))
    assert torch.equal(resumed.alpha, whole.alpha)


def test_transparency_is_the_sum_of_the_gradients_magnitudes_up_to_their_quantile():
    held, seen = MaCo(noise(2, 3, 16, 16), measured()), []

    def watched(x, t):
        seen.append(pull(x, t))
        return seen[-1]

    ascent = Ascent(held, AscentConfig(steps=4, alpha=True))
    for _ in ascend(watched, ascent, Draws(SEEDS[:2])):
        pass
    total = torch.stack(seen).abs().sum((0, 2)).numpy()
    assert far(ascent.alpha[:, 0], torch.from_numpy(total)) < 1e-12
    for found, own in zip(transparency(ascent.alpha), total, strict=True):
        assert far(found[0], torch.from_numpy(np.minimum(1, own / np.quantile(own, 0.8)))) < 1e-12
    assert far(transparency(torch.zeros(1, 1, 4, 4)), torch.ones(())) == 0
    assert Ascent(held, AscentConfig(steps=4)).alpha is None


# ---- the spectrum at other sizes -----------------------------------------------------------------------------------


def test_at_its_own_size_it_is_what_was_measured():
    for size in (16, 17):
        found = measured(size)
        assert far(found.at(size, size).flatten(1)[:, 1:], found.magnitude.flatten(1)[:, 1:]) < 1e-12


@pytest.mark.parametrize("exponent", [0.8, 1.3])
@pytest.mark.parametrize(("high", "wide"), [(24, 24), (96, 96), (67, 67), (48, 90), (224, 224)])
def test_a_power_law_stays_one_at_every_size(exponent, high, wide):
    law = power_law(32, exponent)
    assert far(law.law(), torch.tensor([math.log(32), exponent]).expand(3, 2)) < 1e-6
    side = min(high, wide)
    radius = torch.hypot(*frequencies(high, wide, side))
    found = law.at(high, wide)
    inside = radius >= 1  # nearer to the mean a canvas holds waves longer than any picture's
    assert far(found[:, inside], (side * radius[inside] ** -exponent).expand(3, -1)) < 1e-6 * side
    assert (found[:, 0, 0] == 0).all()


def test_a_wave_keeps_its_amplitude_and_a_band_its_energy():
    """A wave of 3 cycles a picture has one amplitude in pixels at every size; so does all that lies in a band."""
    spectrum = measured(32)
    small, large = spectrum.at(32, 32), spectrum.at(224, 224)
    assert far(small[:, 3, 2] / 32, large[:, 3, 2] / 224) < 1e-12
    # Parseval: the variance of a canvas in a band of frequencies; wide canvases have more waves, each of them weaker
    noisy = power_law(64, 1.0)

    def variance(high, wide, side=None):
        radius = torch.hypot(*frequencies(high, wide, side or min(high, wide)))
        magnitude = noisy.at(high, wide, side)[0] * ((radius > 3) & (radius < 20.5))
        canvas = torch.fft.irfft2(torch.complex(magnitude, 0 * magnitude), s=(high, wide), norm="ortho")
        return canvas.square().mean()

    for high, wide, side in ((64, 160, None), (130, 64, None), (96, 96, 64), (224, 224, None), (48, 48, None)):
        assert abs(variance(high, wide, side) / variance(64, 64) - 1) < 0.03


def test_colours_are_a_rotation_and_come_back():
    image = torch.rand(2, 3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert far(recorrelated(decorrelated(image)), image) < 1e-15
    assert abs(decorrelated(image).square().sum() - image.square().sum()) < 1e-12
    assert far(decorrelated(torch.ones(1, 3, 1, 1)).flatten(), torch.tensor([math.sqrt(3), 0, 0])) < 1e-6


def test_above_64_pixels_the_magnitudes_are_those_of_photographs():
    for side, name in ((64, "bundled:natural"), (65, "bundled:photographs")):
        place = CanvasContext("tanh", side, read_spectrum, Draws([0]))
        built = MaCoCanvas().build(torch.rand(1, 3, side, side), place)
        assert torch.equal(built.magnitude, 2 * read_spectrum(name).at(side, side).float())


def test_mistakes_are_told():
    with pytest.raises(UserError, match="divide bytes by 255"):
        MaCo(2 * torch.ones(1, 3, 16, 16), measured())
    with pytest.raises(UserError, match="at least 16"):
        Spectrum(torch.ones(3, 8, 5), torch.ones(3), 1)
    with pytest.raises(UserError, match=r"\(3,S,S//2\+1\)"):
        Spectrum(torch.ones(3, 16, 16), torch.ones(3), 1)


def test_the_transparency_of_a_picture_larger_than_torch_ranks_is_that_of_evenly_spaced_pixels(monkeypatch) -> None:
    monkeypatch.setattr(maco, "RANKED", 1000)
    gradient = torch.rand(2, 1, 61, 67, generator=torch.Generator().manual_seed(0))
    few = maco.transparency(gradient)
    monkeypatch.undo()
    assert (few - maco.transparency(gradient)).abs().max() < 0.05
