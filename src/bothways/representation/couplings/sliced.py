"""Sliced transport on one direction: the k-th smallest projection of an image goes with the k-th smallest of a noise.

    p(order of <image, u>)_k = (order of <noise, u>)_k,    u the first principal direction of the images of the batch

In one dimension this is optimal transport. Source: Rabin et al. 2012, which averages over many random directions; here
there is one. A coupling has no generator, so the direction is the data's: noise is alike in all directions, and so the
cost falls the most along the one in which the images differ the most.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bothways.registry import register

POWER_STEPS = 8  # of the power iteration; where it has not converged, sorting along its direction is still a coupling


def principal_direction(images: Tensor) -> Tensor:
    """u (D,) float64 of norm one: near the first principal direction of images (B,...), zero where all are equal.

    By power iteration from the image that is farthest from the mean, in O(B D); no random number is drawn.
    """
    rows = images.flatten(1).double()
    rows = rows - rows.mean(0)
    direction = rows[rows.square().sum(1).argmax()]
    for _ in range(POWER_STEPS):
        direction = direction / direction.norm().clamp_min(1e-300)
        direction = rows.T @ (rows @ direction)
    return direction / direction.norm().clamp_min(1e-300)


@register(
    "coupling",
    "sliced",
    help="sorted along the images' first principal direction",
    reference="@article{rabin2012wasserstein,\n"
    "  author = {Rabin, Julien and Peyr{\\'e}, Gabriel and Delon, Julie and Bernot, Marc},\n"
    "  title = {Wasserstein Barycenter and Its Application to Texture Mixing},\n"
    "  year = {2012},\n"
    "  journal = {Scale Space and Variational Methods in Computer Vision, LNCS 6667}\n}",
)
def sliced(images: Tensor, noise: Tensor) -> Tensor:
    """(B,) int64, a function of the batch alone: both are sorted along one direction, in O(B D + B log B)."""
    direction = principal_direction(images)
    ranks = [(x.flatten(1).double() @ direction).argsort(stable=True).cpu() for x in (images, noise)]
    chosen = torch.empty_like(ranks[0])
    chosen[ranks[0]] = ranks[1]
    return chosen
