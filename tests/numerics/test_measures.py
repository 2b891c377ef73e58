"""The measures against scipy, closed forms, direct double loops and noise of a known spectrum."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch

from bothways.numerics import measures
from bothways.types import UserError


def _normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def _features_of(mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """(2D,D): rows whose mean and unbiased covariance are exactly ``mean`` and diag(std^2)."""
    corners = (std * math.sqrt(len(std) - 0.5)).diag()
    return mean + torch.cat([corners, -corners])


def test_frechet_of_diagonal_gaussians_is_the_closed_form():
    sa, sb = _normal(6).abs() + 0.1, _normal(6, seed=1).abs() + 0.1
    ma, mb = _normal(6, seed=2), _normal(6, seed=3)
    truth = float((ma - mb).square().sum() + (sa - sb).square().sum())
    assert abs(measures.frechet_distance(_features_of(ma, sa), _features_of(mb, sb)) - truth) < 1e-12


@pytest.mark.parametrize(("n", "m"), [(40, 60), (8, 60), (5, 6)])
def test_frechet_of_features_is_that_of_their_moments_and_scipys(n, m):
    a, b = _normal(n, 8) @ _normal(8, 8, seed=1), _normal(m, 8, seed=2) + 0.5
    found = measures.frechet_distance(a, b)
    product = (torch.cov(a.T) @ torch.cov(b.T)).numpy()
    rest = float((a.mean(0) - b.mean(0)).square().sum()) + np.trace(torch.cov(a.T) + torch.cov(b.T))
    eigenvalues = np.linalg.eigvals(product).real.clip(0)  # of a product of two covariances: none is negative
    assert abs(found - (rest - 2 * np.sqrt(eigenvalues).sum())) < 1e-6
    if n > 8:  # scipy's square root of a singular product is what the other cases do without
        assert abs(found - (rest - 2 * np.trace(scipy.linalg.sqrtm(product).real))) < 1e-9


def test_frechet_of_fewer_rows_than_numbers():
    a, b = _normal(5, 64), _normal(7, 64, seed=1)
    assert math.isfinite(measures.frechet_distance(a, b))
    assert measures.frechet_distance(a, a) < 1e-10
    assert abs(measures.frechet_distance(a, a + 2) - 64 * 4) < 1e-9
    # Embedding both in more dimensions, all zero, changes nothing.
    wide = [torch.cat([f, torch.zeros(len(f), 100, dtype=torch.float64)], 1) for f in (a, b)]
    assert abs(measures.frechet_distance(*wide) - measures.frechet_distance(a, b)) < 1e-9
    # One repeated picture has no spread: the trace of the other is left.
    flat = torch.zeros(4, 64, dtype=torch.float64)
    assert abs(measures.frechet_distance(flat, a) - float(a.mean(0).square().sum() + a.var(0).sum())) < 1e-10


def test_kernel_distance_is_the_double_loop(monkeypatch):
    monkeypatch.setattr(measures, "KERNEL_ROWS", 3)
    a, b = _normal(7, 5), _normal(9, 5, seed=1) * 1.5

    def mean(x, y, same):
        pairs = [(i, j) for i in range(len(x)) for j in range(len(y)) if not (same and i == j)]
        return sum(float((x[i] @ y[j] / 5 + 1) ** 3) for i, j in pairs) / len(pairs)

    truth = mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False)
    assert abs(measures.kernel_distance(a, b) - truth) < 1e-11


def test_kernel_distance_is_unbiased():
    found = [measures.kernel_distance(_normal(20, 4, seed=s), _normal(30, 4, seed=s + 1000)) for s in range(300)]
    assert abs(np.mean(found)) < 4 * np.std(found) / math.sqrt(300)
    assert min(found) < 0


def test_mean_pairwise_distance():
    square = torch.tensor([[0.0, 0], [0, 3], [4, 0], [4, 3]])
    assert abs(measures.mean_pairwise_distance(square) - (3 + 4 + 5) / 3) < 1e-12
    assert measures.mean_pairwise_distance(torch.ones(3, 5)) == 0


DISTANCES = (measures.frechet_distance, measures.kernel_distance)


@pytest.mark.parametrize("distance", DISTANCES)
def test_distances_refuse_what_has_none(distance):
    with pytest.raises(UserError, match="N at least 2"):
        distance(torch.ones(1, 3), torch.ones(4, 3))
    with pytest.raises(UserError, match="3 and 4 numbers"):
        distance(torch.ones(4, 3), torch.ones(4, 4))
    with pytest.raises(UserError, match="NaN"):
        distance(torch.full((4, 3), math.nan), torch.ones(4, 3))


def _power_law(exponent: float, height: int, width: int, count: int) -> torch.Tensor:
    """Pictures whose power is 1/f^exponent, cut from a field twice as large, so they do not wrap around."""
    white = torch.fft.fft2(_normal(count, 1, 2 * height, 2 * width))
    fy, fx = (torch.fft.fftfreq(2 * n, dtype=torch.float64) for n in (height, width))
    radius = torch.hypot(fy[:, None], fx[None, :])
    radius[0, 0] = math.inf
    field = torch.fft.ifft2(white * radius.pow(-exponent / 2)).real[..., :height, :width]
    return (0.5 + 0.1 * field / field.std()).expand(-1, 3, -1, -1)


@pytest.mark.parametrize(("height", "width", "tolerance"), [(64, 64, 0.12), (32, 48, 0.17), (31, 31, 0.2)])
@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0])
def test_slope_of_power_law_noise(exponent, height, width, tolerance):
    # The stated bias (0.06 to 0.12) and three standard errors of 80 pictures.
    assert abs(measures.spectrum_slope(_power_law(exponent, height, width, 80)) + exponent) < tolerance


def test_slope_leaves_constant_pictures_out():
    noise = _power_law(1.0, 16, 16, 2)
    flat = torch.full((1, 3, 16, 16), 0.3)
    slopes = measures.spectrum_slopes(torch.cat([noise, flat.double()]))
    assert slopes.isnan().tolist() == [False, False, True]
    assert abs(measures.spectrum_slope(torch.cat([noise, flat.double()])) - float(slopes[:2].mean())) < 1e-12
    assert math.isnan(measures.spectrum_slope(flat))


def test_slope_of_a_picture_is_its_own():
    noise = _power_law(2.0, 16, 16, 5)
    alone = torch.cat([measures.spectrum_slopes(picture[None]) for picture in noise])
    assert float((measures.spectrum_slopes(noise) - alone).abs().max()) < 1e-12


def test_slope_of_one_wave_is_finite_and_small_pictures_are_refused():
    wave = (0.5 + 0.5 * torch.sin(torch.arange(16) * math.tau / 4)).expand(1, 3, 16, 16)
    assert math.isfinite(measures.spectrum_slope(wave))
    with pytest.raises(UserError, match="4x4"):
        measures.spectrum_slope(torch.rand(1, 3, 3, 8))


def test_flip_symmetry():
    noise = _normal(1, 3, 32, 32)
    odd = noise - noise.flip(-1)
    pictures = torch.cat([noise + noise.flip(-1), odd, noise, torch.full((1, 3, 32, 32), 0.7, dtype=torch.float64)])
    pictures += torch.tensor([0.9, 0.1, 0.4]).view(1, 3, 1, 1)  # a tint is symmetric, and must not count
    found = measures.flip_symmetry(pictures)
    assert float((found[[0, 1, 3]] - torch.tensor([1.0, -1.0, 1.0])).abs().max()) < 1e-12
    truth = np.mean([np.corrcoef(c.flatten(), c.flip(-1).flatten())[0, 1] for c in noise[0]])
    assert abs(float(found[2]) - truth) < 0.01  # channels of nearly equal variance
    assert abs(float(found[2])) < 0.1


def test_pixel_std_and_collapsed_share():
    red = torch.zeros(1, 3, 8, 8)
    red[:, 0] = 1
    board = torch.zeros(8, 8)
    board[::2] = 1
    pictures = torch.cat([red, board.expand(1, 3, 8, 8), 0.5 + 0.01 * board.expand(1, 3, 8, 8)])
    assert float((measures.pixel_std(pictures) - torch.tensor([0, 0.5, 0.005])).abs().max()) < 1e-7
    assert abs(measures.collapsed_share(pictures) - 2 / 3) < 1e-12
    assert measures.collapsed_share(pictures, threshold=0.001) == pytest.approx(1 / 3)
    with pytest.raises(UserError, match="give \\(N, 3, H, W\\)"):
        measures.pixel_std(torch.zeros(3, 8, 8))


# ---- calibration ---------------------------------------------------------------------------------------------------


def calibration_by_hand(confidence: list[float], hit: list[int], bins: int) -> tuple[float, float]:
    """ECE and MCE in plain numbers, bins (b/B, (b+1)/B]."""
    held: dict[int, list[tuple[float, int]]] = {}
    for c, h in zip(confidence, hit, strict=True):
        held.setdefault(max(0, math.ceil(c * bins) - 1), []).append((c, h))
    gaps = [(len(v), abs(sum(h for _, h in v) / len(v) - sum(c for c, _ in v) / len(v))) for v in held.values()]
    return sum(n * gap for n, gap in gaps) / len(confidence), max(gap for _, gap in gaps)


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_calibration_is_that_of_plain_numbers_and_adds_over_batches(bins: int) -> None:
    source = torch.Generator().manual_seed(5)
    confidence = 0.1 + 0.9 * torch.rand(400, generator=source, dtype=torch.float64)
    hit = torch.rand(400, generator=source) < confidence**2
    parts = [measures.calibration_sums(c, h, bins) for c, h in zip(confidence.split(130), hit.split(130), strict=True)]
    found = measures.calibration(sum(parts, torch.zeros(bins, 3, dtype=torch.float64)))
    ece, mce = calibration_by_hand(confidence.tolist(), hit.int().tolist(), bins)
    assert abs(found.ece - ece) < 1e-13
    assert abs(found.mce - mce) < 1e-13
    assert found.bins[:, 0].sum() == 400


def test_a_confidence_at_an_edge_belongs_below_and_an_empty_bin_is_none() -> None:
    sums = measures.calibration_sums(torch.tensor([0.0, 0.5, 0.5, 1.0]), torch.tensor([0, 1, 0, 1]), 4)
    assert sums[:, 0].tolist() == [1, 2, 0, 1]
    found = measures.calibration(sums)
    assert found.bins[2].isnan().tolist() == [False, True, True]
    assert (found.ece, found.mce) == (0.0, 0.0)
    assert math.isnan(measures.calibration(torch.zeros(4, 3)).ece)


def test_a_model_that_is_always_sure_and_half_right_is_off_by_a_half() -> None:
    found = measures.calibration(measures.calibration_sums(torch.ones(10), torch.arange(10) % 2))
    assert (found.ece, found.mce) == (0.5, 0.5)


def test_the_mean_spectrum_has_the_mean_slope():
    pictures = torch.cat([_power_law(1.0, 24, 32, 6), _power_law(2.5, 24, 32, 6), torch.full((1, 3, 24, 32), 0.5)])
    frequency, power = measures.mean_spectrum(pictures)
    slope = np.polyfit(frequency.log().numpy(), power.log().numpy(), 1)[0]
    assert abs(slope - measures.spectrum_slope(pictures)) < 1e-9
    assert abs(float(frequency[-1]) - 0.5) < 0.03
    assert bool(measures.mean_spectrum(pictures[-1:])[1].isnan().all())


def test_the_interval_of_the_kernel_distance_is_the_jackknife() -> None:
    """Each distance without a row of one of the sets is computed by itself."""
    a, b = (torch.randn(n, 6, generator=torch.Generator().manual_seed(n), dtype=torch.float64) for n in (7, 40))
    parts = []
    for own, other in ((a, b), (b, a)):
        without = (torch.cat([own[:i], own[i + 1 :]]) for i in range(len(own)))
        left_out = torch.tensor([measures.kernel_distance(rest, other) for rest in without], dtype=torch.float64)
        parts.append((len(own) - 1, float((len(own) - 1) * left_out.var(correction=0))))
    whole = sum(part for _, part in parts)
    freedom = whole**2 / sum(part**2 / of for of, part in parts)
    low, high = measures.kernel_interval(a, b)
    assert (low + high) / 2 == pytest.approx(measures.kernel_distance(a, b))
    assert (high - low) / 2 == pytest.approx(float(scipy.stats.t.ppf(0.975, freedom)) * whole**0.5, rel=1e-9)
    for rows in ((a[:2], b), (b, a[:2])):
        with pytest.raises(UserError, match="2 rows; give at least 3"):
            measures.kernel_interval(*rows)


@pytest.mark.parametrize("count", [25, 200])
def test_the_interval_holds_the_truth_however_few_the_real_pictures_are(count: int) -> None:
    """With the real rows held as they are it would hold it in about half of the cases of 25 real ones."""
    draws = torch.Generator().manual_seed(0)
    shift, large = torch.full((4,), 0.6), 4000
    truth = measures.kernel_distance(
        torch.randn(large, 4, generator=draws) + shift, torch.randn(large, 4, generator=draws)
    )
    held = 0
    for _ in range(200):
        drawn = torch.randn(100, 4, generator=draws) + shift
        low, high = measures.kernel_interval(drawn, torch.randn(count, 4, generator=draws))
        held += low <= truth <= high
    assert 176 <= held <= 199  # of 200 at 95 %: .88 and more, and not all


def test_of_few_rows_frechet_prefers_a_shrunk_distribution_and_the_kernel_does_not_on_average() -> None:
    """50 rows of 128 numbers: N(0, .7^2) scores below N(0, 1) itself by Frechet; the kernel distance is unbiased.

    Its truth for k = (x . y / D + 1)^3 is 3 (1 - .7^2)^2 / D, since the other terms of zero-mean data are equal.
    """
    source = torch.Generator().manual_seed(5)
    real = torch.randn(1000, 128, generator=source, dtype=torch.float64)
    few = torch.randn(50, 50, 128, generator=source, dtype=torch.float64)
    for rows in few[:5]:
        assert measures.frechet_distance(0.7 * rows, real) < measures.frechet_distance(rows, real)
    kernel = [torch.tensor([measures.kernel_distance(scale * rows, real) for rows in few]) for scale in (1.0, 0.7)]
    for found, truth in zip(kernel, (0.0, 3 * 0.51**2 / 128), strict=True):
        assert abs(found.mean() - truth) < 4 * found.std() / 50**0.5
    assert kernel[0].mean() < kernel[1].mean()
