"""k-nearest-neighbour and linear probes of features, by scikit-learn.

    nearest    argmax_c sum over the k nearest training rows i of class c of exp(cos(x, x_i) / tau)
               Wu et al. 2018, arXiv 1805.01978, sec. 3.4 (tau = 0.07)
               (k = 20 in Caron et al. 2021, arXiv 2104.14294)
    linear     argmax_c (W z + b)_c,  z = (x - mean) / std of the training rows,
               W, b = argmin mean -log softmax(W z + b)_y + l2/2 ||W||^2

l2 is the value of ``L2`` with the best accuracy on a fifth of the TRAINING rows, held out of that fit; the final fit
uses all of them.
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
HELD_OUT = 5  # one in so many training rows is held out to choose l2
NEEDS_SKLEARN = 'a probe needs scikit-learn; type pip install "bothways[probes]", or --probe none'


class Linear(NamedTuple):
    """Result of a linear probe: predictions (M,), the class of each test row, and the chosen l2."""

    predictions: Tensor
    l2: float


def nearest(train: Tensor, labels: Tensor, test: Tensor, k: int) -> Tensor:
    """k-nearest-neighbour predictions (M,) by weighted vote; train (N,D), labels (N,), test (M,D).

    Cosine similarity; all rows vote if there are fewer than k. Raises UserError if scikit-learn is missing.
    """
    check_sklearn()
    from sklearn.neighbors import KNeighborsClassifier

    def weights(distances: np.ndarray) -> np.ndarray:
        return np.exp((1 - distances) / TEMPERATURE)

    model = KNeighborsClassifier(min(k, len(train)), weights=weights, algorithm="brute", metric="cosine")
    return torch.from_numpy(model.fit(train.numpy(), labels.numpy()).predict(test.numpy()))


def linear(train: Tensor, labels: Tensor, test: Tensor, seed: int = 0) -> Linear:
    """Linear probe: logistic regression fitted on ``train`` (N,D), labels (N,), and its predictions for ``test`` (M,D).

    seed: of the held-out training rows. Raises UserError if scikit-learn is missing or all labels are equal.
    """
    if len(labels.unique()) < 2:
        raise UserError("a linear probe needs two classes or more, and the training pictures are of one; give more")
    mean, spread = train.mean(0), train.std(0)
    spread = torch.where(spread > 0, spread, torch.ones_like(spread))
    z, z_test = (train - mean) / spread, ((test - mean) / spread).numpy()
    order = torch.randperm(len(z), generator=generator(seed, purpose="probe"))
    choosing, fitting = order[: len(z) // HELD_OUT], order[len(z) // HELD_OUT :]
    right = [0.0] * len(L2)
    if len(choosing) and len(labels[fitting].unique()) > 1:
        for place, model in enumerate(_path(z[fitting], labels[fitting], L2)):
            right[place] = float((torch.from_numpy(model.predict(z[choosing].numpy())) == labels[choosing]).sum())
    l2 = L2[right.index(max(right))]
    (fitted,) = _path(z, labels, (l2,))
    return Linear(torch.from_numpy(fitted.predict(z_test)), l2)


def _path(z: Tensor, labels: Tensor, l2s: tuple[float, ...]) -> Any:
    """Logistic regressions along a regularisation path, each warm-started from the one before."""
    check_sklearn()
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(max_iter=500, tol=1e-4, warm_start=True)
    x, y = z.numpy(), labels.numpy()
    for l2 in l2s:
        model.set_params(C=1 / (l2 * len(x)))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # fits of the smallest l2 may reach max_iter
            yield model.fit(x, y)


def check_sklearn() -> None:
    """Raise UserError if scikit-learn is missing."""
    if find_spec("sklearn") is None:
        raise UserError(NEEDS_SKLEARN)
