"""scikit-learn: the probes as its users write them, a pipeline and a search over the regularisation."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import numpy as np
import torch
from pairs import Work, main
from torch import Tensor

from bothways.numerics.draws import generator
from bothways.numerics.probes import HELD_OUT, L2, TEMPERATURE, linear, nearest

PEER = "scikit-learn"
K = 20


def works(small: bool) -> Iterator[Work]:
    count, width, classes = (100, 8, 3) if small else (5000, 128, 10)
    train, labels, test = rows(count, width, classes)
    size = f"{count} rows of {width}, {classes} classes"
    yield Work(
        f"{K} nearest neighbours, {size}, {len(test)} to predict", PEER, lambda: neighbours(train, labels, test),
        lambda: nearest(train, labels, test, K), "the share of rows that are predicted otherwise", other, 1e-3,
    )  # fmt: skip
    few, few_labels = train[: max(100, count // 4)], labels[: max(100, count // 4)]
    yield Work(
        f"linear probe with {len(L2)} regularisations tried, {len(few)} rows of {width}, {classes} classes", PEER,
        lambda: searched(few, few_labels, test), lambda: linear(few, few_labels, test).predictions,
        "the share of rows that are predicted otherwise", other, 5e-3,
    )  # fmt: skip


def rows(count: int, width: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    """Training rows, their labels, and half as many test rows: classes that overlap."""
    source = generator(0)
    labels = torch.randint(classes, (count + count // 2,), generator=source)
    middles = torch.randn(classes, width, generator=source)
    found = 0.4 * middles[labels] + torch.randn(len(labels), width, generator=source)
    return found[:count], labels[:count], found[count:]


def other(theirs: Tensor, ours: Tensor) -> float:
    return float((theirs != ours).double().mean())


def neighbours(train: Tensor, labels: Tensor, test: Tensor) -> Tensor:
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(K, metric="cosine", weights=lambda far: np.exp((1 - far) / TEMPERATURE))
    return torch.from_numpy(model.fit(train.numpy(), labels.numpy()).predict(test.numpy()))


def searched(train: Tensor, labels: Tensor, test: Tensor) -> Tensor:
    """The best of the regularisations on the rows that ours holds out, fitted again on all."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV, PredefinedSplit
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    order = torch.randperm(len(train), generator=generator(0, purpose="probe"))
    folds = np.full(len(train), -1)
    folds[order[: len(train) // HELD_OUT].numpy()] = 0
    steps = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500, tol=1e-4))
    tried = {"logisticregression__C": [1 / (l2 * len(train)) for l2 in L2]}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = GridSearchCV(steps, tried, cv=PredefinedSplit(folds)).fit(train.numpy(), labels.numpy())
        return torch.from_numpy(model.predict(test.numpy()))


if __name__ == "__main__":
    main(works)
