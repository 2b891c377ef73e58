"""A kernel density over the features of real pictures: what is drawn lies between two pictures that are near.

    f* = w f_i + (1 - w) f_j + e g,   w ~ U[w_0, 1],   g ~ N(0, covariance of the rows)

f_i: a row, drawn uniformly from all or from those named; f_j: one of its nearest rows, by the cosine of rows less their
mean; e: the width. A Gaussian fitted to all rows lies mostly between kinds of pictures, where no picture is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bothways.numerics.draws import Draws

ROWS_AT_ONCE = 1000
SMALLEST_VARIANCE = 1e-4  # of a number beside the directions, in units of its variance: rounding may leave none


@dataclass(frozen=True)
class Density:
    """Settings of a kernel density. neighbours: rows that one is mixed with. share: w_0. width: e.

    leading: (M,), the numbers of the rows f_i that are drawn; None for all.
    """

    neighbours: int = 5
    share: float = 0.5
    width: float = 0.2
    leading: Tensor | None = None


class Pair(NamedTuple):
    """What points lie between: the numbers of two rows, (B,) each, and the share (B,1) of the first."""

    own: Tensor
    other: Tensor
    share: Tensor


def sample_rows(rows: Mapping[str, Tensor], draws: Draws, density: Density) -> dict[str, Tensor]:
    """One point of the density per picture, {name: (B,d)}. rows: {name: (N,d)} of the same N pictures, N >= 1."""
    pair, count = drawn_pair(rows, draws, density), len(next(iter(rows.values())))
    found = {}
    for name, values in rows.items():
        noise = draws.normal((count,), purpose="density").to(values) / max(1, count - 1) ** 0.5
        share, apart = pair.share.to(values), noise @ (values - values.mean(0))
        found[name] = share * values[pair.own] + (1 - share) * values[pair.other] + density.width * apart
    return found


def drawn_pair(rows: Mapping[str, Tensor], draws: Draws, density: Density) -> Pair:
    """The rows between which ``sample_rows`` draws; two of one number where there is one row alone."""
    unit, count = unit_rows(list(rows.values())), len(next(iter(rows.values())))
    leading = torch.arange(count) if density.leading is None else density.leading.cpu()
    own = leading[draws.integers(0, len(leading) - 1, (1,), purpose="row")[:, 0]].to(unit.device)
    share = density.share + (1 - density.share) * draws.uniform((1,), purpose="mixture")
    near = nearest_rows(unit, own, min(density.neighbours, count - 1))
    if not near.shape[1]:
        return Pair(own, own, share)
    turn = draws.integers(0, near.shape[1] - 1, (1,), purpose="neighbour").to(unit.device)
    return Pair(own, near.gather(1, turn)[:, 0], share)


def unit_rows(rows: Sequence[Tensor], centres: Sequence[Tensor] | None = None) -> Tensor:
    """Rows (N,D) whose products are the mean over layers of the cosines of what is centred.

    rows: (N,d) of each layer. centres: (d,) of each; the mean of the rows if None.
    """
    centred = [r - (r.mean(0) if centres is None else centres[place]) for place, r in enumerate(rows)]
    return torch.cat([F.normalize(r, dim=1) for r in centred], dim=1) / len(centred) ** 0.5


def nearest_rows(unit: Tensor, own: Tensor, count: int) -> Tensor:
    """(B,count): for each of the rows ``own`` (B,), the others of largest product, the nearest first."""
    close = unit[own] @ unit.T
    close[torch.arange(len(own), device=unit.device), own] = -torch.inf
    return close.topk(count, dim=1).indices


def nearest_distance(unit: Tensor) -> Tensor:
    """(N,): one minus the largest cosine of each row with another. unit: (N,D) of ``unit_rows``, N >= 2."""
    found = []
    for part in torch.arange(len(unit), device=unit.device).split(ROWS_AT_ONCE):
        nearest = nearest_rows(unit, part, 1)[:, 0]
        found.append(1 - (unit[part] * unit[nearest]).sum(1))
    return torch.cat(found)


def given_parts(factor: Tensor, seen: Tensor, value: Tensor, draws: Draws, temperature: float = 1.0) -> Tensor:
    """A sample of all numbers of a Gaussian, given some of them, (B,S) in standard deviations.

        s = F^T c + r,   c ~ N(0, 1),  r ~ N(0, R);     c | u ~ N(P^-1 F_u R_u^-1 u, P^-1),   P = 1 + F_u R_u^-1 F_u^T

    factor: F (k,S). seen: (S,) bool, the given numbers. value: u (B, their number). temperature: factor on the
    deviation from the mean of what is given.
    """
    own = (1 - factor.square().sum(0)).clamp_min(SMALLEST_VARIANCE)
    known = factor[:, seen]
    precision = torch.eye(len(factor), dtype=factor.dtype, device=factor.device) + (known / own[seen]) @ known.T
    root = torch.linalg.cholesky(precision)
    mean = torch.cholesky_solve(known @ (value / own[seen]).T, root)  # (k,B)
    common = draws.normal((len(factor),), purpose="sample").to(factor).T
    drawn = mean + temperature * torch.linalg.solve_triangular(root.T, common, upper=True)
    apart = draws.normal((factor.shape[1],), purpose="sample remainder").to(factor)
    whole = drawn.T @ factor + temperature * apart * own.sqrt()
    whole[:, seen] = value
    return whole
