"""Scores of predicted numbers and of rankings, with bootstrap intervals over pictures.

MSE   mean (p - y)^2         MAE   mean |p - y|         R2   1 - sum (p - y)^2 / sum (y - mean y)^2
AUROC the probability that a positive is ranked over a negative, ties half         Mann & Whitney 1947
AP    sum_n (R_n - R_{n-1}) P_n over the distinct scores from above, as scikit-learn has it; mAP its mean over labels

Means over outputs leave out an output that has no score, such as a label that every picture has.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata
from torch import Tensor

from bothways.numerics.intervals import RESAMPLES, Estimate, bootstrap_indices, quantile_interval

Score = Callable[[np.ndarray, np.ndarray], float]
"""(predicted (N,), true (N,)) -> the score; NaN where there is none."""


def mean_squared_error(predicted: np.ndarray, true: np.ndarray) -> float:
    return float(np.square(predicted - true).mean())


def mean_absolute_error(predicted: np.ndarray, true: np.ndarray) -> float:
    return float(np.abs(predicted - true).mean())


def r_squared(predicted: np.ndarray, true: np.ndarray) -> float:
    """NaN where all true values are one."""
    spread = np.square(true - true.mean()).sum()
    return float(1 - np.square(predicted - true).sum() / spread) if spread > 0 else math.nan


def auroc(predicted: np.ndarray, true: np.ndarray) -> float:
    """NaN without a positive or without a negative."""
    positive = true > 0
    count = int(positive.sum())
    if count in (0, len(true)):
        return math.nan
    above = rankdata(predicted)[positive].sum() - count * (count + 1) / 2
    return float(above / (count * (len(true) - count)))


def average_precision(predicted: np.ndarray, true: np.ndarray) -> float:
    """NaN without a positive."""
    if not (true > 0).any():
        return math.nan
    order = np.argsort(-predicted, kind="stable")
    hits = np.cumsum(true[order] > 0)
    last = np.append(np.diff(predicted[order]) != 0, True)  # of each distinct score
    recall = hits[last] / hits[-1]
    return float((np.diff(recall, prepend=0.0) * (hits / np.arange(1, len(true) + 1))[last]).sum())


REGRESSION: dict[str, Score] = {"mse": mean_squared_error, "r2": r_squared, "mae": mean_absolute_error}
RANKING: dict[str, Score] = {"map": average_precision, "auroc": auroc}


def scored(predicted: Tensor, true: Tensor, scores: dict[str, Score], seed: int = 0) -> dict[str, list[Estimate]]:
    """{score: [its mean over outputs, then that of each output]} with 95 % intervals. predicted, true: (N,K)."""
    guess, known = (values.detach().cpu().double().numpy() for values in (predicted, true))
    draws = bootstrap_indices(len(guess), RESAMPLES, seed).numpy()
    found = {}
    for name, score in scores.items():
        point = _of_each(score, guess, known)
        spread = np.array([_of_each(score, guess[rows], known[rows]) for rows in draws])
        found[name] = [quantile_interval(value, column) for value, column in zip(point, spread.T, strict=True)]
    return found


def _of_each(score: Score, guess: np.ndarray, known: np.ndarray) -> list[float]:
    each = [score(guess[:, place], known[:, place]) for place in range(guess.shape[1])]
    there = [value for value in each if not math.isnan(value)]
    return [float(np.mean(there)) if there else math.nan, *each]
