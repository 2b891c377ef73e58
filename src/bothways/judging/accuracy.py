"""Accuracy and calibration of one condition and over several, in the form of measures["evaluation"]."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from torch import Tensor

from bothways.judging.tally import TOP, UNSEEN, Tally
from bothways.numerics.intervals import mean_interval, wilson_interval
from bothways.numerics.measures import calibration
from bothways.types import ModelSpec


def accuracy_of_pictures(hits: Tensor) -> dict[str, Any]:
    """Mean accuracy over conditions with a 95 % interval over pictures, clustered by picture.

    m_i = mean over the conditions in which picture i was evaluated,  mean m +- t s / sqrt(n), cut at 0 and 1;  if all
    m_i are equal (s = 0), the Wilson interval with as many trials as pictures. hits: (pictures, conditions), 1, 0, or
    UNSEEN.
    """
    seen = hits != UNSEEN
    kept = seen.any(1)
    shares = (hits.clamp_min(0).double().sum(1) / seen.sum(1))[kept]
    value, low, high = mean_interval(shares)
    if len(shares) < 2 or float(shares.max()) == float(shares.min()):
        low, high = wilson_interval(round(value * len(shares)), len(shares))
    return {"value": value, "low": max(0.0, low), "high": min(1.0, high), "n": len(shares)}


def share(hits: int, n: int) -> dict[str, Any]:
    """hits / n with its Wilson interval."""
    low, high = wilson_interval(hits, n)
    return {"value": hits / n, "low": low, "high": high}


def scores(tally: Tally, spec: ModelSpec, per_class: bool) -> dict[str, Any]:
    """Metrics of one condition; with ``per_class`` also accuracy per class and the confusion matrix."""
    trust = calibration(tally.sums)
    wide = 1 / len(trust.bins)
    bins = [
        {
            "low": b * wide,
            "high": (b + 1) * wide,
            "n": int(n),
            "confidence": _plain(confidence),
            "accuracy": _plain(accuracy),
        }
        for b, (n, confidence, accuracy) in enumerate(trust.bins.tolist())
    ]
    found = {
        "n": tally.n,
        "top1": share(tally.right, tally.n),
        "top5": share(tally.top, tally.n) if spec.count > TOP else None,
        "nll": tally.nll / tally.n,
        "ece": trust.ece,
        "mce": trust.mce,
        "bins": bins,
    }
    if not per_class:
        return found
    pictures: Counter[int] = Counter()
    for (label, _), n in tally.confusion.items():
        pictures[label] += n
    name = spec.class_name
    rows = [{"class": name(k), "n": n, **share(tally.confusion[k, k], n)} for k, n in sorted(pictures.items())]
    counts = [[name(label), name(answer), n] for (label, answer), n in sorted(tally.confusion.items())]
    return {**found, "per_class": rows, "confusion": counts}


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
