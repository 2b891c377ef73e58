"""Each way of holding a picture against its closed form, and the stack's two engines against each other."""

import numpy as np
import pytest
import torch

from bothways.numerics.pyramid import geometric_levels, level_weights
from bothways.synthesis.parameterizations.colours import LUCID_COLOUR
from bothways.synthesis.parameterizations.fourier import Fourier
from bothways.synthesis.parameterizations.masked import Masked
from bothways.synthesis.parameterizations.pixels import Pixels
from bothways.synthesis.parameterizations.squash import TANH_EDGE, squash, unsquash
from bothways.synthesis.parameterizations.stack import ImageStack
from bothways.types import UserError


def picture(*shape, dtype=torch.float64, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def far(a, b):
    return (a - b).abs().max().item()


def hole(height, width):
    mask = torch.zeros(1, 1, height, width)
    mask[..., 2:6, 3:7] = 1
    return mask


KINDS = {
    "pixels": lambda x: Pixels(x),
    "pixels tanh": lambda x: Pixels(x, "tanh"),
    "fourier": lambda x: Fourier(x),
    "fourier plain": lambda x: Fourier(x, decay=0.5, squash="clamp", axes=None),
    "stack": lambda x: ImageStack(x, [1, 3, 8], [2.0, 1.0, 0.5], "explicit"),
    "stack operator": lambda x: ImageStack(x, [1, 3, 8], [2.0, 1.0, 0.5]),
    "masked": lambda x: Masked(Fourier(x), x, hole(*x.shape[-2:])),
}
EVERY = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())


@EVERY
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_at_rest_it_is_the_starting_picture(make, dtype):
    start = picture(2, 3, 8, 11, dtype=dtype)
    held = make(start)
    image = held.image()
    assert image.dtype == dtype
    assert image.shape == start.shape
    assert held.start.shape == start.shape
    assert far(image, start) <= TANH_EDGE + 1e-6
    assert 0 <= image.min() <= image.max() <= 1
    assert all(p.is_leaf and p.requires_grad and len(p) == 2 and p.dtype == dtype for p in held.parameters())


@EVERY
def test_the_canvas_is_linear(make):
    held = make(picture(2, 3, 8, 11))
    a, b = ([torch.randn_like(p) for p in held.parameters()] for _ in range(2))
    together = held.canvas([x + 3 * y for x, y in zip(a, b, strict=True)])
    assert together.shape == (2, 3, 8, 11)
    assert far(together, held.canvas(a) + 3 * held.canvas(b)) < 1e-12


@EVERY
def test_the_image_is_the_squash_of_start_and_canvas_and_pictures_do_not_mix(make):
    held = make(picture(2, 3, 8, 11))
    with torch.no_grad():
        for p in held.parameters():
            p[0] += 0.1 * torch.randn_like(p[0])
    inner = held.inner if isinstance(held, Masked) else held
    truth = squash(inner.start + inner.canvas(inner.parameters()), inner.squash)
    truth = torch.where(hole(8, 11).bool(), truth, held.photo) if isinstance(held, Masked) else truth
    assert far(held.image(), truth) == 0
    assert torch.equal(held.image()[1], make(picture(2, 3, 8, 11)).image()[1])


@pytest.mark.parametrize("name", [name for name in KINDS if name != "stack operator"])
def test_the_gradient_is_that_of_finite_differences(name):
    held = KINDS[name](0.2 + 0.6 * picture(1, 3, 8, 9))

    def image(*parameters):
        inner = held.inner if isinstance(held, Masked) else held
        drawn = squash(inner.start + held.canvas(parameters), inner.squash)
        return torch.where(held.mask, drawn, held.photo) if isinstance(held, Masked) else drawn

    parameters = held.parameters()
    assert torch.autograd.gradcheck(image, parameters, fast_mode=True)
    weight = torch.randn_like(held.image())
    through = torch.autograd.grad((held.image() * weight).sum(), parameters)
    truth = torch.autograd.grad((image(*parameters) * weight).sum(), parameters)
    assert max(far(a, b) for a, b in zip(through, truth, strict=True)) < 1e-12


def descend(held, momentum, steps):
    """``steps`` of torch's SGD towards a fixed picture; the last image."""
    optimizer = torch.optim.SGD(held.parameters(), lr=0.01, momentum=momentum)
    target = picture(*held.start.shape, dtype=held.start.dtype, seed=9)
    for _ in range(steps):
        optimizer.zero_grad()
        (held.image() - target).square().sum().backward()
        optimizer.step()
    return held.image().detach()


@pytest.mark.parametrize(("height", "width", "side"), [(20, 20, "height"), (16, 27, "height"), (16, 27, "long")])
@pytest.mark.parametrize(("momentum", "steps"), [(0.0, 1), (0.9, 3)])
def test_the_engines_make_the_same_steps(height, width, side, momentum, steps):
    start, levels = picture(2, 3, height, width), range(1, 17, 3)
    weights = [1 + 1 / r for r in levels]
    explicit = descend(ImageStack(start, levels, weights, "explicit", side=side), momentum, steps)
    exact = descend(ImageStack(start, levels, weights, tolerance=0, side=side), momentum, steps)
    assert far(explicit, unmoved := ImageStack(start, levels).image().detach()) > 1e-2
    assert far(exact, explicit) < 1e-10
    kept = descend(ImageStack(start, levels, weights, side=side), momentum, steps)
    assert (kept - explicit).norm() / (explicit - unmoved).norm() < 0.01


def test_only_the_operator_asks_for_linear_optimisers():
    start, levels = picture(1, 3, 16, 16), geometric_levels(16)
    operator, explicit = (ImageStack(start, levels, level_weights(levels), e) for e in ("operator", "explicit"))
    assert operator.linear_only
    assert not explicit.linear_only
    assert Masked(operator, start, hole(16, 16)).linear_only
    assert not any(held.linear_only for held in (Pixels(start), Fourier(start), Masked(explicit, start, hole(16, 16))))
    assert operator.canvas(operator.parameters()) is operator.parameters()[0]


@pytest.mark.parametrize(("height", "width"), [(8, 8), (7, 9), (10, 7)])
def test_the_fourier_canvas_is_numpys_transform(height, width):
    held = Fourier(picture(2, 3, height, width), decay=1.5)
    c = torch.randn_like(held.parameters()[0])
    f = np.sqrt(np.fft.fftfreq(height)[:, None] ** 2 + np.fft.rfftfreq(width) ** 2)
    scaled = (c[..., 0] + 1j * c[..., 1]).numpy() / np.maximum(f, 1 / max(height, width)) ** 1.5
    planes = np.fft.irfft2(scaled, s=(height, width), norm="ortho") / 4
    M = np.array(LUCID_COLOUR)
    truth = np.einsum("ck,bkhw->bchw", M / np.linalg.norm(M, axis=0).max(), planes)
    assert far(held.canvas([c]), torch.from_numpy(truth)) < 1e-12


def test_the_fourier_canvas_keeps_energy_and_comes_back():
    held = Fourier(picture(1, 3, 9, 9), decay=0, axes=None)
    canvas = torch.randn(1, 3, 9, 9, dtype=torch.float64)
    c = torch.view_as_real(4 * torch.fft.rfft2(canvas, norm="ortho"))
    assert far(held.canvas([c]), canvas) < 1e-12
    energy = c.square().sum((0, 1, 2, 4)) @ torch.tensor([1.0, 2, 2, 2, 2], dtype=torch.float64)  # conjugate columns
    assert abs(energy / 16 - held.canvas([c]).square().sum()) < 1e-9


@pytest.mark.parametrize("make", [lambda x: Pixels(x), lambda x: ImageStack(x, [1, 4, 12])], ids=["pixels", "stack"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outside_the_mask_the_photo_is_bit_identical(make, dtype):
    photo, mask = picture(2, 3, 12, 12, dtype=dtype), hole(12, 12)
    held = Masked(make(torch.full_like(photo, 0.5)), photo, mask)
    image = descend(held, 0.9, 2)
    outside = (mask == 0).expand_as(photo)
    assert torch.equal(image[outside], photo[outside])
    assert far(image[~outside], torch.full_like(image[~outside], 0.5)) > 1e-3
    change = held.canvas([torch.ones_like(p) for p in held.parameters()])
    assert torch.equal(change, mask.to(dtype).expand_as(photo))


def test_a_clamped_pixel_that_is_stuck_can_return():
    canvas = torch.tensor([-0.5, -0.5, 0.0, 0.5, 1.0, 1.5, 1.5], requires_grad=True)
    loss_gradient = torch.tensor([1.0, -1.0, 1.0, -1.0, -1.0, -1.0, 1.0])
    image = squash(canvas, "clamp")
    image.backward(loss_gradient)
    assert torch.equal(image.detach(), canvas.detach().clamp(0, 1))
    assert torch.equal(canvas.grad, torch.tensor([0.0, -1.0, 1.0, -1.0, -1.0, 0.0, 1.0]))


def test_tanh_is_finite_at_black_and_white_and_keeps_bytes():
    grey = torch.arange(256, dtype=torch.float32) / 255
    back = squash(unsquash(grey, "tanh"), "tanh")
    assert torch.isfinite(unsquash(grey, "tanh")).all()
    assert torch.equal((back * 255).round(), torch.arange(256, dtype=torch.float32))
    assert far(back[1:-1], grey[1:-1]) < 1e-6


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: Pixels(x[0]), r"\(B,3,H,W\)"),
        (lambda x: Pixels((255 * x).byte()), r"\(B,3,H,W\)"),
        (lambda x: Pixels(255 * x), "divide bytes by 255"),
        (lambda x: Pixels(x * torch.nan), "divide bytes by 255"),
        (lambda x: Pixels(x, "sigmoid"), '"tanh" or "clamp"'),
        (lambda x: ImageStack(x, [1], engine="fast"), '"operator" or "explicit"'),
        (lambda x: ImageStack(x, [99], engine="explicit"), r"within 1\.\.8"),
        (lambda x: ImageStack(x, [1, 2], [1.0], "explicit"), "1 weights for 2 levels"),
        (lambda x: Masked(Pixels(x), x, hole(9, 9)), "the mask is"),
        (lambda x: Masked(Pixels(x), x, hole(8, 8) / 2), "the mask is"),
        (lambda x: Masked(Pixels(x), x.float(), hole(8, 8)), "the photo is"),
    ],
)
def test_mistakes_are_told(call, words):
    with pytest.raises(UserError, match=words):
        call(picture(1, 3, 8, 8))
