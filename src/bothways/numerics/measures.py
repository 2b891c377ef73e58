"""Metrics of image sets and feature sets, computed in float64 on the CPU: tensors in, plain numbers out.

    Frechet    |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))               Heusel et al. 2017, arXiv 1706.08500
    kernel     unbiased MMD^2 with k(x, y) = (x.y / D + 1)^3                     Binkowski et al. 2018, arXiv 1801.01401
    slope      of log power against log radial frequency                         Field 1987, JOSA A 4, p. 2379
    ECE, MCE   mean and largest |accuracy - confidence| of bins of confidence    Guo et al. 2017, arXiv 1706.04599

Departure from Heusel et al.: the features are the caller's, not those of one Inception network, so the numbers compare
within one judge only and are not the FID of other papers.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from bothways.numerics.intervals import jackknife_interval
from bothways.types import UserError

LUMINANCE = (0.299, 0.587, 0.114)  # of R, G, B (ITU-R BT.601)
CONSTANT_STD = 1e-6  # below this a picture holds rounding errors only; pixels are in [0, 1]
COLLAPSED_STD = 0.02  # about 5 of 255 grey levels: to the eye a flat field
POWER_FLOOR = 1e-12  # of the strongest ring: float32 rounding, so an empty ring does not give log 0
SPECTRUM_FROM = 4  # pixels of a side: of fewer there are not two rings to lay a line through
KERNEL_ROWS = 128  # rows of the kernel matrix held at once; of a thousand columns they stay in a cache
PAIRED_AT_ONCE = 8192  # rows whose distances are held at once
NUMBERS_AT_ONCE = 2**25  # of the pictures that are measured at once: a few GB of float64 on the way
CALIBRATION_BINS = 15  # as Guo et al. have it


class Calibration(NamedTuple):
    """Calibration errors ece, mce in [0, 1]; bins (B,3): count, mean confidence, accuracy (NaN if empty) of each."""

    ece: float
    mce: float
    bins: Tensor


def calibration_sums(confidence: Tensor, hit: Tensor, bins: int = CALIBRATION_BINS) -> Tensor:
    """Per-bin sums (B,3) float64: count, summed confidence, hits; these add over batches.

    Bin b holds the confidences in (b/B, (b+1)/B], the first also 0. confidence: (N,) in [0,1]; hit: (N,) of 0 and 1.
    """
    confidence, hit = confidence.detach().cpu().double(), hit.detach().cpu().double()
    inner = torch.arange(1, bins, dtype=torch.float64) / bins
    place = torch.bucketize(confidence, inner)
    each = torch.stack([torch.ones_like(confidence), confidence, hit], 1)
    return torch.zeros(bins, 3, dtype=torch.float64).index_add_(0, place, each)


def calibration(sums: Tensor) -> Calibration:
    """Expected and maximum calibration error (ECE, MCE) from :func:`calibration_sums`, NaN for no pictures.

    ECE = sum_b (n_b / N) |accuracy_b - confidence_b|,  MCE = max_b |accuracy_b - confidence_b| over the bins that hold
    pictures. sums: (B,3). Source: Guo et al. 2017, eq. 3 and 5.
    """
    count, filled = sums[:, 0], sums[:, 0] > 0
    means = torch.where(filled[:, None], sums[:, 1:] / count[:, None], math.nan)
    if not bool(filled.any()):
        return Calibration(math.nan, math.nan, torch.cat([count[:, None], means], 1))
    gap = (means[:, 1] - means[:, 0]).abs()[filled]
    share = count[filled] / count.sum()
    return Calibration(float((share * gap).sum()), float(gap.max()), torch.cat([count[:, None], means], 1))


def _rows(features: Tensor, what: str) -> Tensor:
    """Features (N,D) as float64 on the CPU. Raises UserError for fewer than two rows or values that are not finite."""
    if features.ndim != 2 or len(features) < 2:
        raise UserError(f"{what}: features have shape {tuple(features.shape)}; give (N, D) with N at least 2")
    rows = features.detach().cpu().double()
    if not bool(torch.isfinite(rows).all()):
        raise UserError(f"{what}: features hold NaN or infinity; look at the pictures with torch.isfinite(images)")
    return rows


def _pair(a: Tensor, b: Tensor, what: str) -> tuple[Tensor, Tensor]:
    a, b = _rows(a, what), _rows(b, what)
    if a.shape[1] != b.shape[1]:
        raise UserError(
            f"{what}: features of {a.shape[1]} and {b.shape[1]} numbers; compare features of one layer of one model"
        )
    return a, b


def _root_of_covariance(rows: Tensor) -> Tensor:
    """R (min(N, D), D) with R^T R = S, from the centred rows, so that a singular S needs no special case."""
    root = (rows - rows.mean(0)) / math.sqrt(len(rows) - 1)
    return root if len(rows) <= rows.shape[1] else torch.linalg.qr(root, mode="r").R


def _frechet(mean_a: Tensor, root_a: Tensor, mean_b: Tensor, root_b: Tensor) -> float:
    """Squared Frechet distance of two Gaussians from their means and roots R, S = R^T R.

    The eigenvalues of S_a^(1/2) S_b S_a^(1/2) are the squared singular values of R_a R_b^T, so tr (S_a S_b)^(1/2) is
    their sum: no root of a rounding error is taken when S is singular.
    """
    overlap = torch.linalg.svdvals(root_a @ root_b.T).sum()
    squares = (mean_a - mean_b).square().sum() + root_a.square().sum() + root_b.square().sum()
    return max(0.0, float(squares - 2 * overlap))


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Squared Frechet distance between Gaussian fits of two feature sets (Heusel et al. 2017, eq. 6).

    |mu_a - mu_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), S unbiased (N - 1).
    a: (N,D), b: (M,D), N and M at least 2; N < D is allowed, but the distance grows as N shrinks, and not alike for
    all distributions: of few rows a distribution that is too narrow scores below the true one, so that the distance of
    two real sets is no floor. Compare few rows by ``kernel_distance``, which is unbiased.
    Unit: the features', squared. Raises UserError on other shapes. Source: Heusel et al. 2017, eq. 6.
    """
    a, b = _pair(a, b, "frechet_distance")
    return _frechet(a.mean(0), _root_of_covariance(a), b.mean(0), _root_of_covariance(b))


def _base(rows: Tensor, columns: Tensor) -> Tensor:
    """x.y / D + 1, (N,M), whose third power is the kernel."""
    return (rows @ columns.T).div_(rows.shape[1]).add_(1)


def _kernel_sum(a: Tensor, b: Tensor) -> float:
    """Sum of the kernel (x.y / D + 1)^3 over all pairs."""
    bases = (_base(rows, b).flatten() for rows in a.split(KERNEL_ROWS))
    return sum(float(base.square() @ base) for base in bases)


def _kernel_mean_of_pairs(a: Tensor) -> float:
    """Mean of the kernel over pairs of different rows; what is above the diagonal is not computed again below it."""
    own = float((a.square().sum(1) / a.shape[1] + 1).pow(3).sum())
    rows = a.split(KERNEL_ROWS)
    total = sum(_kernel_sum(x, x) + 2 * _kernel_sum(x, a[k * KERNEL_ROWS :]) for k, x in enumerate(rows, start=1))
    return (total - own) / (len(a) * (len(a) - 1))


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Kernel distance of two feature sets: unbiased MMD^2, which can be slightly negative.

    mean_{i!=j} k(a_i, a_j) + mean_{i!=j} k(b_i, b_j) - 2 mean k(a_i, b_j), with k(x, y) = (x.y / D + 1)^3.
    a: (N,D), b: (M,D), N and M at least 2. Raises UserError on other shapes. Source: Binkowski et al. 2018, sec. 4.
    """
    a, b = _pair(a, b, "kernel_distance")
    return _kernel_mean_of_pairs(a) + _kernel_mean_of_pairs(b) - 2 * _kernel_sum(a, b) / (len(a) * len(b))


def kernel_interval(a: Tensor, b: Tensor) -> tuple[float, float]:
    """95 % interval of :func:`kernel_distance` over the rows of both sets, by the jackknife of each.

    Left out: one row of a or of b. a: (N,D), b: (M,D), N and M at least 3. Raises UserError on other shapes. Source:
    Efron and Stein 1981; see :func:`bothways.numerics.intervals.jackknife_interval`.
    """
    a, b = _pair(a, b, "kernel_interval")
    for name, rows in (("a", a), ("b", b)):
        if len(rows) < 3:
            raise UserError(f"kernel_interval: {name} has {len(rows)} rows; give at least 3")
    return jackknife_interval(kernel_distance(a, b), _without_each(a, b), _without_each(b, a))[1:]


def _without_each(a: Tensor, b: Tensor) -> Tensor:
    """The distance of a and b without each row of a, (N,), but for what does not depend on the rows of a."""
    n, m = len(a), len(b)

    def of_rows(other: Tensor) -> Tensor:
        return torch.cat([_base(rows, other).pow(3).sum(1) for rows in a.split(KERNEL_ROWS)])

    within, across = of_rows(a) - (a.square().sum(1) / a.shape[1] + 1).pow(3), of_rows(b)
    return (within.sum() - 2 * within) / ((n - 1) * (n - 2)) - 2 * (across.sum() - across) / ((n - 1) * m)


def mean_pairwise_distance(features: Tensor) -> float:
    """Mean Euclidean distance |f_i - f_j| over the pairs i < j of features (N,D), N at least 2."""
    rows = _rows(features, "mean_pairwise_distance")
    if len(rows) <= PAIRED_AT_ONCE:
        return float(torch.pdist(rows).mean())
    # of each pair twice, and of no row with itself
    total = sum(float(torch.cdist(part, rows).sum()) for part in rows.split(KERNEL_ROWS))
    return total / (len(rows) * (len(rows) - 1))


def _parts(images: Tensor) -> tuple[Tensor, ...]:
    """The pictures in parts that are measured one after the other, which changes no number."""
    if images.ndim != 4 or not images.numel():
        return (images,)  # refused where it is measured
    return images.split(max(1, NUMBERS_AT_ONCE // images[0].numel()))


def _pictures(images: Tensor, what: str) -> Tensor:
    if images.ndim != 4 or images.shape[1] != 3 or len(images) == 0:
        raise UserError(f"{what}: images have shape {tuple(images.shape)}; give (N, 3, H, W) with N at least 1")
    return images.detach().cpu().double()


def _luminance(pictures: Tensor) -> Tensor:
    """Luminance of RGB images, (N,3,H,W) -> (N,H,W)."""
    return torch.einsum("nchw,c->nhw", pictures, torch.tensor(LUMINANCE, dtype=torch.float64))


def _windowed(luminance: Tensor) -> Tensor:
    """Subtract the mean and apply a Hann window."""
    rows, columns = (torch.hann_window(n, periodic=True, dtype=torch.float64) for n in luminance.shape[-2:])
    return (luminance - luminance.mean((-2, -1), keepdim=True)) * torch.outer(rows, columns)


def _rings(height: int, width: int) -> tuple[Tensor, Tensor]:
    """Ring index of each Fourier coefficient (H*W,), 0 outside, and the mean log frequency of rings 1, 2, ...

    Ring r holds the radial frequencies nearest r / min(H, W) cycles per pixel, up to Nyquist (1/2).
    """
    side = min(height, width)
    fy, fx = (torch.fft.fftfreq(n, dtype=torch.float64) for n in (height, width))
    radius = torch.hypot(fy[:, None], fx[None, :]).flatten()
    ring = (radius * side).round().long()
    ring = torch.where(ring <= side // 2, ring, 0)
    log_frequency = torch.zeros(side // 2 + 1, dtype=torch.float64)
    log_frequency.index_add_(0, ring, radius.clamp_min(1e-12).log())
    return ring, (log_frequency / torch.bincount(ring))[1:]


def ring_powers(images: Tensor) -> tuple[Tensor, Tensor]:
    """Radially averaged power spectra: frequencies (R,) in cycles per pixel and powers (N,R), float64.

        P(f) = |FFT(hann (Y - mean Y))|^2 averaged over rings of width 1/min(H, W), from f = 1/min(H, W) to Nyquist

    Y is the luminance; the rows of constant pictures are NaN. The window is needed because pictures are not periodic:
    without it the discontinuity at the edges adds a spectrum of slope -2 to the picture's.
    images: (N,3,H,W) in [0,1], H and W at least 4. Raises UserError on other shapes. Source: Field 1987.
    """
    parts = _parts(images)
    if len(parts) > 1:
        found = [ring_powers(part) for part in parts]
        return found[0][0], torch.cat([powers for _, powers in found])
    luminance = _luminance(_pictures(images, "spectrum_slope"))
    count, height, width = luminance.shape
    if min(height, width) < SPECTRUM_FROM:
        raise UserError(f"spectrum_slope: images of {height}x{width} pixels have no spectrum; give 4x4 or more")

    ring, x = _rings(height, width)
    power = torch.fft.fft2(_windowed(luminance)).abs().square().flatten(1)
    per_ring = torch.zeros(count, len(x) + 1, dtype=torch.float64).index_add_(1, ring, power)
    per_ring = (per_ring / torch.bincount(ring))[:, 1:]
    kept = per_ring.clamp_min(per_ring.amax(1, keepdim=True) * POWER_FLOOR)
    return x.exp(), torch.where(luminance.flatten(1).std(1, keepdim=True) > CONSTANT_STD, kept, math.nan)


def spectrum_slopes(images: Tensor) -> Tensor:
    """Spectral slope of each picture (N,): log power against log radial frequency, NaN for a constant one.

    The slope is that of the least-squares line through (log f, log P) of :func:`ring_powers`, each ring counting once.
    White noise gives 0, natural photographs about -2. The lowest ring has few coefficients, so the log of its mean is
    low: 1/f^a noise gives -a + 0.06 at 64x64, + 0.12 at 31x31, + 0.2 at 16x16. Arguments as of ``ring_powers``.
    """
    frequency, power = ring_powers(images)
    x = frequency.log() - frequency.log().mean()
    return (power.log() * x).sum(1) / x.square().sum()


def mean_spectrum(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean power spectrum: frequencies (R,) in cycles per pixel, and the geometric mean over pictures (R,).

    Its slope on logarithmic axes is :func:`spectrum_slope`; NaN where all pictures are constant.
    """
    frequency, power = ring_powers(images)
    return frequency, power.log().nanmean(0).exp()


def spectrum_slope(images: Tensor) -> float:
    """Mean of :func:`spectrum_slopes` over pictures that are not constant; NaN if all are constant."""
    return float(spectrum_slopes(images).nanmean())


def pixel_std(images: Tensor) -> Tensor:
    """Contrast of each picture (N,): sqrt(mean over channels of the variance over pixels), in [0, 1] units.

    A flat field of any colour counts 0: the differences between channels are not spread over pixels.
    images: (N,3,H,W). Raises UserError on other shapes.
    """
    found = [_pictures(part, "pixel_std").var((-2, -1), correction=0).mean(1).sqrt() for part in _parts(images)]
    return torch.cat(found)


def collapsed_share(images: Tensor, threshold: float = COLLAPSED_STD) -> float:
    """Share of pictures, 0 to 1, that collapsed to a flat field: :func:`pixel_std` below ``threshold``."""
    return float((pixel_std(images) < threshold).double().mean())


def flip_symmetry(images: Tensor) -> Tensor:
    """Correlation of each picture with its left-right mirror image, (N,).

    sum (I - m) (flip I - m) / sum (I - m)^2 over channels and pixels, m the mean of each channel: 1 for a symmetric
    picture, about 0 for noise, -1 where left is the negative of right; a constant picture counts as 1.
    images: (N,3,H,W). Raises UserError on other shapes.
    """
    if len(parts := _parts(images)) > 1:
        return torch.cat([flip_symmetry(part) for part in parts])
    pictures = _pictures(images, "flip_symmetry")
    centred = pictures - pictures.mean((-2, -1), keepdim=True)
    shared = (centred * centred.flip(-1)).sum((1, 2, 3))
    own = centred.square().sum((1, 2, 3))
    return torch.where(pixel_std(images) > CONSTANT_STD, shared / own, 1.0)
