"""Predicted statistics against a linear world, numpy's least squares and autograd; the boundary against loops."""

import numpy as np
import pytest
import torch
from torch import nn

import bothways
from bothways.models.loader import load_model
from bothways.numerics.draws import Draws, generator
from bothways.numerics.fill import Smoothness, harmonic_fill, laplacian, tension_fill
from bothways.synthesis.ascent import Ascent, ascend
from bothways.synthesis.config import AscentConfig
from bothways.synthesis.das import toward
from bothways.synthesis.inpainting import Smoothed, boundary_consistency, predict_statistics
from bothways.synthesis.objectives.terms import image_term
from bothways.synthesis.parameterizations.masked import Masked
from bothways.synthesis.parameterizations.pixels import Pixels
from bothways.synthesis.statistics import channel_statistics
from bothways.types import ModelSpec, UserError

H, W = 8, 10
LAYERS = ["0:input", "1"]


def photos(n, seed=0):
    """Pictures that vary smoothly, so that a hole can be guessed."""
    coarse = torch.rand(n, 3, 4, 5, generator=generator(seed), dtype=torch.float64)
    return torch.nn.functional.interpolate(coarse, size=(H, W), mode="bilinear")


def hole():
    mask = torch.zeros(1, 1, H, W)
    mask[..., 2:6, 3:8] = 1
    return mask


def model():
    with torch.random.fork_rng():
        torch.random.manual_seed(3)
        net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).double()
    return load_model(net, ModelSpec((H, W), (0.5,) * 3, (0.25,) * 3, 4))


def far(a, b):
    return (a - b).abs().max().item()


def measured(net, images):
    with torch.no_grad():
        seen = net.features(images, LAYERS)
    return torch.cat([torch.cat(channel_statistics(seen[layer]), 1) for layer in LAYERS], 1)


def test_the_prediction_is_numpys_ridge_regression():
    net, images = model(), photos(60)
    filled = harmonic_fill(images, hole())
    found = predict_statistics(net, images, filled, LAYERS, rank=1000, ridge=0.7)
    seen, whole = measured(net, filled).numpy(), measured(net, images).numpy()
    scale = seen.std(0, ddof=1) + 1e-3
    z, rest = (seen - seen.mean(0)) / scale, whole - seen
    moments = z.T @ z / (len(z) - 1) + 0.7 * np.eye(z.shape[1])
    slope = np.linalg.solve(moments, z.T @ (rest - rest.mean(0)) / (len(z) - 1))
    expected = seen + rest.mean(0) + z @ slope
    targets = torch.cat(list(found.targets(net, filled).values()), 1)
    assert far(targets, torch.from_numpy(expected)) < 1e-9
    errors = (whole - expected).std(0, ddof=1)
    floor = np.concatenate([[1e-3] * 3, [1e-2] * 3, [1e-3] * 4, [1e-2] * 4])
    assert far(found.error, torch.from_numpy(errors + floor)) < 1e-6


def test_it_predicts_pictures_it_has_not_seen_better_than_their_fill_says():
    net, images, others = model(), photos(300), photos(100, seed=1)
    found = predict_statistics(net, images, tension_fill(images, hole()), LAYERS, ridge=0.1)
    filled = tension_fill(others, hole())
    predicted = torch.cat(list(found.targets(net, filled).values()), 1)
    truth, before = measured(net, others), measured(net, filled)
    # of the squared error, in the units of the term
    left = ((predicted - truth) / found.error).square().mean() / ((before - truth) / found.error).square().mean()
    assert left < 0.7


def test_the_term_is_minus_the_mean_squared_error_and_0_where_the_prediction_holds():
    net, images = model(), photos(50)
    filled = harmonic_fill(images, hole())
    found = predict_statistics(net, images, filled, LAYERS)
    term = found.term(net, filled[:5])
    assert term.layers == tuple(LAYERS)
    targets = found.targets(net, filled[:5])
    seen = net.features(images[:5], LAYERS)
    layers, start = [], 0
    for layer in LAYERS:
        error = found.error[start : start + targets[layer].shape[1]]
        start += len(error)
        layers.append(((torch.cat(channel_statistics(seen[layer]), 1) - targets[layer]) / error).square().mean(1))
    assert far(term(images[:5]), -torch.stack(layers).mean(0)) < 1e-12


def test_the_ascent_raises_the_term_and_draws_in_the_hole_alone():
    net, images = model(), photos(80)
    mask, filled = hole(), tension_fill(images, hole())
    found = predict_statistics(net, images, filled, LAYERS, ridge=0.1)
    term, start = found.term(net, filled[:3]), filled[:3]
    draws = Draws(range(3))
    direction = Smoothed(toward(term, draws), Smoothness(mask))
    ascent = Ascent(Masked(Pixels(start), start, mask), AscentConfig(steps=8, rms=0.01))
    drawn = [frame.image for frame in ascend(direction, ascent, draws)][-1]
    assert bool((term(drawn) > term(start)).all())
    kept = ~mask.bool().expand_as(drawn)
    assert torch.equal(drawn[kept], images[:3][kept])


def test_a_smoothed_step_is_the_steepest_in_the_energys_length():
    mask, smoothness = hole(), Smoothness(hole(), tension=0.3)
    gradient = torch.randn(1, 3, H, W, generator=generator(5), dtype=torch.float64)
    found = Smoothed(toward(image_term("linear", lambda x: (x * gradient).sum((1, 2, 3))), Draws([0])), smoothness)
    step = found(torch.full_like(gradient, 0.5), torch.zeros(1))
    line = torch.from_numpy(laplacian(H, W).toarray())
    energy = line @ line + 0.3 * line

    def rise(d):
        flat = d.flatten(2)[0]
        return (d * gradient).sum() / torch.einsum("ci,ij,cj->", flat, energy, flat).sqrt()

    for seed in range(5):
        other = step + 0.1 * mask * torch.randn(1, 3, H, W, generator=generator(seed), dtype=torch.float64) * step.std()
        assert rise(other) < rise(step)
    assert found.stats["linear"].shape == (1,)


def slow_boundary(image, photo, mask):
    values = []
    for x, p, m in zip(image, photo, mask.expand(len(photo), 1, H, W)[:, 0].bool().tolist(), strict=True):
        jumps, own = [], []
        for i in range(H):
            for j in range(W):
                for a, b in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                    y, z = (i + a, j + b), (i + 2 * a, j + 2 * b)
                    if not m[i][j] or not (0 <= y[0] < H and 0 <= y[1] < W) or m[y[0]][y[1]]:
                        continue
                    jumps += ((x[:, i, j] - p[:, y[0], y[1]]) ** 2).tolist()
                    if 0 <= z[0] < H and 0 <= z[1] < W and not m[z[0]][z[1]]:
                        own += ((p[:, y[0], y[1]] - p[:, z[0], z[1]]) ** 2).tolist()
        values.append(-np.mean(jumps) / (np.mean(own) + 1e-4))
    return torch.tensor(values, dtype=torch.float64)


def test_the_boundary_is_its_equation_pixel_by_pixel_and_reads_no_photo_in_the_hole():
    photo, drawn = photos(3), photos(3, seed=1)
    mask = hole().repeat(3, 1, 1, 1)
    mask[1] = 0
    mask[1, :, :3, 7:] = 1  # a corner
    mask[2, :, 4, 5] = 0  # an island of one known pixel
    term = boundary_consistency(photo.masked_fill(mask.bool(), 0.77), mask)
    assert far(term(drawn), slow_boundary(drawn, photo, mask)) < 1e-12
    image = drawn.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(term(image).sum(), image)
    assert not bool((gradient * (1 - mask)).any())
    assert bool((term(harmonic_fill(photo, mask)) > term(drawn)).all())


def test_pictures_and_fills_that_do_not_belong_together_are_refused():
    net = model()
    for images, filled in ((photos(1), photos(1)), (photos(3), photos(2))):
        with pytest.raises(UserError, match="type --data with more"):
            predict_statistics(net, images, filled, LAYERS)


def test_a_bundled_models_statistics_are_predicted_better_than_the_fill_has_them(shared):
    data = bothways.load_images(shared / "data" / "cifar10-jpeg", split="test", limit=180).images.float() / 255
    mask = torch.zeros(1, 1, 32, 32)
    mask[..., 10:22, 12:24] = 1
    net, filled = load_model("bundled:cifar10-resnet", dtype="bf16"), tension_fill(data, mask)
    found = predict_statistics(net, data[30:], filled[30:], net.statistics_layers())
    targets, truth = found.targets(net, filled[:30]), predict_truth(net, data[:30])
    before = predict_truth(net, filled[:30])
    for layer in ("stages.0.0.1:input", "stages.1.1.inner.2:input"):
        assert (targets[layer] - truth[layer]).square().mean() < (before[layer] - truth[layer]).square().mean()


def predict_truth(net, images):
    with torch.no_grad():
        seen = net.features(images, net.statistics_layers())
    return {layer: torch.cat(channel_statistics(value), 1) for layer, value in seen.items()}
