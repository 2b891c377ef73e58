"""How well features tell classes apart, by two probes of scikit-learn with next to nothing of their own.

    nearest    argmax_c sum over the k nearest training rows i of class c of exp(cos(x, x_i) / tau)
               Wu et al. 2018, arXiv 1805.01978, sec. 3.4 (tau = 0.07)
               (k = 20 in Caron et al. 2021, arXiv 2104.14294)
    linear     argmax_c (W z + b)_c,  z = (x - mean) / std of the training rows,
               W, b = argmin mean -log softmax(W z + b)_y + l2/2 ||W||^2

l2 is the one of ``L2`` that is right most often on a fifth of the TRAINING rows, which the others were fitted without;
then all of them are fitted.
"""

from __future__ import annotations

import warnings
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from bothways.numerics.draws import generator
from bothways.types import UserError

TEMPERATURE = 0.07
L2 = (10.0, 1.0, 0.1, 0.01, 0.001, 0.0001)
HELD_OUT = 5  # of so many training rows one chooses l2
NEEDS_SKLEARN = 'a probe needs scikit-learn, which is not here; type pip install "bothways[probes]", or --probe none'


class Linear(NamedTuple):
    """answers (M,): the class of each test row. l2: that was chosen."""

    answers: Tensor
    l2: float


def nearest(train: Tensor, labels: Tensor, test: Tensor, k: int) -> Tensor:
    """(M,): the class with the greatest weight among the k nearest rows of ``train`` (N,D), labels (N,), to ``test``.

    All rows vote where there are fewer than k. Near is by the cosine. Raises UserError where scikit-learn is missing.
    """
    check_sklearn()
    from sklearn.neighbors import KNeighborsClassifier

    def weights(distances: np.ndarray) -> np.ndarray:
        return np.exp((1 - distances) / TEMPERATURE)

    model = KNeighborsClassifier(min(k, len(train)), weights=weights, algorithm="brute", metric="cosine")
    return torch.from_numpy(model.fit(train.numpy(), labels.numpy()).predict(test.numpy()))


def linear(train: Tensor, labels: Tensor, test: Tensor, seed: int = 0) -> Linear:
    """A logistic regression fitted on ``train`` (N,D), labels (N,), and its answers for ``test`` (M,D).

    seed: of which training rows choose l2. Raises UserError where scikit-learn is missing or all labels are alike.
    """
    if len(labels.unique()) < 2:
        raise UserError("a linear probe tells classes apart, and the training pictures are of one; give more")
    mean, spread = train.mean(0), train.std(0)
    spread = torch.where(spread > 0, spread, torch.ones_like(spread))
    z, asked = (train - mean) / spread, ((test - mean) / spread).numpy()
    order = torch.randperm(len(z), generator=generator(seed, purpose="probe"))
    choosing, fitting = order[: len(z) // HELD_OUT], order[len(z) // HELD_OUT :]
    right = [0.0] * len(L2)
    if len(choosing) and len(labels[fitting].unique()) > 1:
        for place, model in enumerate(_path(z[fitting], labels[fitting], L2)):
            right[place] = float((torch.from_numpy(model.predict(z[choosing].numpy())) == labels[choosing]).sum())
    l2 = L2[right.index(max(right))]
    (fitted,) = _path(z, labels, (l2,))
    return Linear(torch.from_numpy(fitted.predict(asked)), l2)


def _path(z: Tensor, labels: Tensor, l2s: tuple[float, ...]) -> Any:
    """The logistic regression of each l2, each begun where the one before it ended."""
    check_sklearn()
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=500, tol=1e-4, warm_start=True)
    x, y = z.numpy(), labels.numpy()
    for l2 in l2s:
        model.set_params(C=1 / (l2 * len(x)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the smallest l2 needs more steps than it is worth
            yield model.fit(x, y)


def check_sklearn() -> None:
    """Raise UserError where scikit-learn is missing."""
    if find_spec("sklearn") is None:
        raise UserError(NEEDS_SKLEARN)
