"""clean-fid and torch-fidelity: the Frechet and the kernel distance of the same features."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from operators import declare_torchvision
from pairs import Work, main
from torch import Tensor

from bothways.numerics.draws import generator
from bothways.numerics.measures import frechet_distance, kernel_distance

AGREE = 1e-3


def works(small: bool) -> Iterator[Work]:
    declare_torchvision()
    import cleanfid.fid
    from torch_fidelity import metric_fid, metric_kid

    count, width = (40, 8) if small else (1000, 256)
    a, b = features(count, width)
    whole = {"kid_subsets": 1, "kid_subset_size": count, "verbose": False, "rng_seed": 0}
    kernel = {"kid_kernel": "poly", "kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None}
    kernel["kid_kernel_poly_coef0"] = 1

    def fidelity_frechet() -> float:
        found = [metric_fid.fid_features_to_statistics(rows) for rows in (a, b)]
        return metric_fid.fid_statistics_to_metric(*found, False)[metric_fid.KEY_METRIC_FID]

    def clean_frechet() -> float:
        rows = a.numpy(), b.numpy()
        (one, first), (two, second) = ((np.mean(x, axis=0), np.cov(x, rowvar=False)) for x in rows)
        return float(cleanfid.fid.frechet_distance(one, first, two, second))

    def fidelity_kernel() -> float:
        return metric_kid.kid_features_to_metric(a, b, **whole, **kernel)[metric_kid.KEY_METRIC_KID_MEAN]

    def clean_kernel() -> float:
        return cleanfid.fid.kernel_distance(a.numpy(), b.numpy(), num_subsets=1, max_subset_size=count)

    size = f"two sets of {count} x {width}"
    for peer, frechet, kernels in (
        ("clean-fid", clean_frechet, clean_kernel),
        ("torch-fidelity", fidelity_frechet, fidelity_kernel),
    ):
        for name, theirs, ours in (
            ("Frechet distance", frechet, frechet_distance),
            ("kernel distance", kernels, kernel_distance),
        ):
            yield Work(
                f"{name}, {size}", peer, theirs, lambda ours=ours: ours(a, b), "the distance",
                lambda theirs, ours: abs(theirs - ours), AGREE,
                lambda theirs, ours: f"{theirs:.5f} by it, {ours:.5f} by us, who sum in float64",
            )  # fmt: skip


def features(count: int, width: int) -> tuple[Tensor, Tensor]:
    """Two sets of features (N,D) that are correlated, of other means and spreads."""
    source = generator(0)
    mix = torch.randn(width, width, generator=source) / width**0.5
    a, b = (torch.randn(count, width, generator=source) for _ in range(2))
    return (a @ mix).abs(), (1.2 * b @ mix + 0.1).abs()


if __name__ == "__main__":
    main(works)
