"""Which noise belongs to which image of a batch: always a permutation, so that each of both is used once.

    independent   as they come
    ot            argmin over permutations of sum_i ||image_i - noise_p(i)||^2     Tong et al. 2023, arXiv 2302.00482;
                                                                              Pooladian et al. 2023, arXiv 2304.14772
    sinkhorn      drawn from the plan P = exp((f_i + g_j - C_ij) / r), r = regularization * mean(C), row after row
                  among the noise not yet taken                                     Cuturi 2013, arXiv 1306.0895

The authors of minibatch transport draw pairs from the plan with replacement, by which about 37 % of every batch is
never used; a permutation has the same cost and uses all. Sinkhorn's potentials are iterated in the log domain, since
the plain iteration underflows at the costs of images.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bothways.numerics.draws import generator
from bothways.types import Coupling, UserError

SINKHORN_STEPS = 100
REGULARIZATION = 0.01  # of the mean cost


def squared_distances(images: Tensor, noise: Tensor) -> Tensor:
    """C_ij = ||image_i - noise_j||^2, (B,B) float64."""
    rows, columns = (x.flatten(1).double() for x in (images, noise))
    squares = rows.square().sum(1)[:, None] + columns.square().sum(1)[None, :]
    return (squares - 2 * rows @ columns.T).clamp_min(0)


def independent(images: Tensor, noise: Tensor) -> Tensor:
    """0..B-1, (B,) int64."""
    return torch.arange(len(images))


def ot(images: Tensor, noise: Tensor) -> Tensor:
    """(B,) int64: image i goes with noise p(i), at the least sum of squared distances; by scipy, in O(B^3)."""
    from scipy.optimize import linear_sum_assignment

    _, chosen = linear_sum_assignment(squared_distances(images, noise).cpu().numpy())
    return torch.from_numpy(chosen)


def sinkhorn_plan(costs: Tensor, regularization: float = REGULARIZATION, steps: int = SINKHORN_STEPS) -> Tensor:
    """log P (B,B) float64 of the entropic plan whose rows and columns sum to one.

    costs: (B,B). regularization: of their mean. The rows are scaled last, so they sum to one exactly.
    """
    scaled = -costs.double() / (regularization * costs.double().mean().clamp_min(1e-300))
    rows, columns = torch.zeros(len(costs), 1, dtype=torch.float64), torch.zeros(1, len(costs), dtype=torch.float64)
    for _ in range(steps):
        columns = -torch.logsumexp(scaled + rows, 0, keepdim=True)
        rows = -torch.logsumexp(scaled + columns, 1, keepdim=True)
    return scaled + rows + columns


def sinkhorn(images: Tensor, noise: Tensor) -> Tensor:
    """(B,) int64, drawn from the entropic plan without replacement; the draw is a function of the noise."""
    log_plan = sinkhorn_plan(squared_distances(images, noise).cpu())
    source = generator(int(noise.flatten()[:16].double().abs().sum().item() * 1e6), purpose="sinkhorn")
    # Gumbel's trick: the largest of log p + gumbel is a draw from p, among those left too
    gumbel = -torch.rand(log_plan.shape, generator=source, dtype=torch.float64).clamp_min(1e-300).log().neg().log()
    keys, chosen = log_plan + gumbel, torch.empty(len(images), dtype=torch.int64)
    for row in torch.randperm(len(images), generator=source).tolist():
        chosen[row] = keys[row].argmax()
        keys[:, chosen[row]] = -torch.inf
    return chosen


COUPLINGS: dict[str, Coupling] = {"independent": independent, "ot": ot, "sinkhorn": sinkhorn}


def coupling_of(name: str) -> Coupling:
    """The coupling of a name. Raises UserError for one that is not known."""
    if name not in COUPLINGS:
        raise UserError(f"coupling {name!r} is not known; type one of {', '.join(COUPLINGS)}")
    return COUPLINGS[name]
