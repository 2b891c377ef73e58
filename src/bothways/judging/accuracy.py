"""Accuracy and calibration of one condition, and over several, as measures["evaluation"] has them."""

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
    """The mean accuracy over conditions, with its 95 % interval over pictures: a picture's conditions go together.

    m_i = mean of the conditions that picture i was seen in,  mean m +- t s / sqrt(n);  where all m_i are alike, which
    has no width, the Wilson interval of as many trials as pictures. hits: (pictures, conditions), 1, 0, or UNSEEN.
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


def scores(tally: Tally, spec: ModelSpec, whole: bool) -> dict[str, Any]:
    """The facts of one condition; those of the clean pictures are told class by class."""
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
    if not whole:
        return found
    pictures: Counter[int] = Counter()
    for (label, _), n in tally.called.items():
        pictures[label] += n
    name = spec.class_name
    rows = [{"class": name(k), "n": n, **share(tally.called[k, k], n)} for k, n in sorted(pictures.items())]
    counts = [[name(label), name(answer), n] for (label, answer), n in sorted(tally.called.items())]
    return {**found, "per_class": rows, "confusion": counts}


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None
