"""Entropic optimal transport: P = exp((f_i + g_j - C_ij) / r), r = regularization * mean(C), by Sinkhorn's iteration.

Pairs are drawn from P without replacement. The potentials are iterated in the log domain, since the plain iteration
underflows at the costs of images.
Source: Cuturi 2013, arXiv 1306.0895.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bothways.numerics.draws import generator
from bothways.registry import register
from bothways.representation.couplings import squared_distances

SINKHORN_STEPS = 100
REGULARIZATION = 0.01  # of the mean cost


def sinkhorn_plan(costs: Tensor, regularization: float = REGULARIZATION, steps: int = SINKHORN_STEPS) -> Tensor:
    """Log of the entropic transport plan, (B,B) float64, whose rows and columns sum to one.

    costs: (B,B). regularization: of their mean. The rows are scaled last, so they sum to one exactly.
    """
    scaled = -costs.double() / (regularization * costs.double().mean().clamp_min(1e-300))
    rows, columns = torch.zeros(len(costs), 1, dtype=torch.float64), torch.zeros(1, len(costs), dtype=torch.float64)
    for _ in range(steps):
        columns = -torch.logsumexp(scaled + rows, 0, keepdim=True)
        rows = -torch.logsumexp(scaled + columns, 1, keepdim=True)
    return scaled + rows + columns


@register("coupling", "sinkhorn", help="drawn from the entropic transport plan", reference="cuturi2013sinkhorn")
def sinkhorn(images: Tensor, noise: Tensor) -> Tensor:
    """Permutation (B,) int64 drawn from the entropic plan without replacement, seeded by the noise."""
    log_plan = sinkhorn_plan(squared_distances(images, noise).cpu())
    source = generator(int(noise.flatten()[:16].double().abs().sum().item() * 1e6), purpose="sinkhorn")
    # Gumbel-max trick: argmax of log p + gumbel is a draw from p, also when restricted to the columns left
    gumbel = -torch.rand(log_plan.shape, generator=source, dtype=torch.float64).clamp_min(1e-300).log().neg().log()
    keys, chosen = log_plan + gumbel, torch.empty(len(images), dtype=torch.int64)
    for row in torch.randperm(len(images), generator=source).tolist():
        chosen[row] = keys[row].argmax()
        keys[:, chosen[row]] = -torch.inf
    return chosen
