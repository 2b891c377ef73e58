"""What viewers see in portraits, compared with real pictures: the class itself, and the classes besides it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from bothways.judging.classes import outputs_of_labels
from bothways.judging.judges import same_network
from bothways.judging.verdicts import penultimate
from bothways.models.adapter import Adapter
from bothways.progress import counted
from bothways.tasks.explain.measures import BATCH, LabelledPictures
from bothways.tasks.explain.traits import cluster_order, distinct_pairs, seen_besides
from bothways.types import UserError

SEEN = 2  # most probable classes besides the target that are counted
COLUMNS = 24  # maximum columns of a matrix
PICTURES_OF_A_PAIR = 3


def viewers(jury: Sequence[Adapter]) -> list[Adapter]:
    """The models of the jury with enough classes; a warning names the others.

    With up to three classes the next ``SEEN`` are all the others for every picture.
    """
    able = [viewer for viewer in jury if viewer.spec.count > SEEN + 1]
    for viewer in jury:
        if viewer not in able:
            warnings.warn(
                f"{viewer.name} has {viewer.spec.count} classes and is not used for entanglement, which needs models "
                f"with {SEEN + 2} or more",
                stacklevel=3,
            )
    return able


def independent(jury: Sequence[Adapter], model: Adapter) -> list[Adapter]:
    """The jury without the model's own weights under another name, whose agreement says nothing; a warning tells."""
    same = [judge for judge in jury if judge is not model and same_network(judge, model)]
    for judge in same:
        warnings.warn(f"{judge.name} has the weights of the model and is no other model: it is left out", stacklevel=3)
    return [judge for judge in jury if judge not in same]


def entanglement(
    model: Adapter, jury: Sequence[Adapter], drawn: LabelledPictures, real: LabelledPictures, labels: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """For each viewer, the classes that it predicts besides the target in portraits and real pictures, and whether the
    target.

    {"viewer", "own", "columns", "drawn", "real" (shares), "order", "pairs": [{"class", "seen", "share", "real_share",
    "p", "pictures"}], "recognised", "recognised_real" (of ``recognised``, a class each)}
    """
    for viewer in counted(jury, "other models look"):
        yield _seen_by(viewer, viewer is model, model, drawn, real, labels)


def _seen_by(
    viewer: Adapter, own: bool, model: Adapter, drawn: LabelledPictures, real: LabelledPictures, labels: Sequence[int]
) -> dict[str, Any]:
    mine = {label: label if own else _same(viewer, model, label) for label in labels}

    def seen(shown: LabelledPictures) -> tuple[Tensor, list[dict[str, Any] | None]]:
        logits = penultimate(viewer, shown.images.to(viewer.device), BATCH)[1]
        targets = torch.tensor([mine[label] for label in shown.labels.tolist()])
        return seen_besides(logits, targets, SEEN), recognised(logits, targets, list(mine.values()))

    (of_drawn, right), (of_real, right_real) = seen(drawn), seen(real)

    def counts(found: Tensor, shown: LabelledPictures) -> Tensor:
        return torch.stack([found[shown.rows(label)].sum(0) for label in labels])

    n = torch.tensor([len(drawn.rows(label)) for label in labels])
    m = torch.tensor([len(real.rows(label)) for label in labels])
    times, times_real = counts(of_drawn, drawn), counts(of_real, real)
    columns = _columns(times, [mine[label] for label in labels])
    pairs = distinct_pairs(times, n, times_real, m)
    square = (times / n[:, None])[:, [mine[label] for label in labels]] if -1 not in mine.values() else None
    order = list(range(len(labels))) if square is None else cluster_order(square)
    names = [viewer.spec.class_name(k) for k in range(viewer.spec.count)]

    def pictures(label: int, column: int) -> list[int]:
        rows = drawn.rows(label)
        return rows[of_drawn[rows, column]].tolist()[:PICTURES_OF_A_PAIR]

    return {
        "viewer": viewer.name,
        "own": own,
        "columns": [names[k] for k in columns],
        "drawn": (times / n[:, None])[:, columns].tolist(),
        "real": (times_real / m[:, None])[:, columns].tolist(),
        "order": order,
        "pairs": [
            {
                "class": model.spec.class_name(labels[pair.drawn_class]), "seen": names[pair.seen], "share": pair.share,
                "real_share": pair.real_share, "p": pair.p, "pictures": pictures(labels[pair.drawn_class], pair.seen),
            }
            for pair in pairs
        ],
        "recognised": right,
        "recognised_real": right_real,
    }  # fmt: skip


def recognised(logits: Tensor, targets: Tensor, audited: Sequence[int]) -> list[dict[str, Any] | None]:
    """{"value", "n"} for each audited class: the share of its pictures for which its output is the largest of them.

    logits: (N,K) of a viewer. targets: (N,) its number for the class of each picture. audited: its numbers for the
    classes, -1 for one that it lacks, for which there is None.
    """
    known = [number for number in audited if number >= 0]
    if len(known) < 2:
        return [None] * len(audited)
    called = torch.tensor(known)[logits[:, known].argmax(1)]
    right = [(called == targets)[targets == number] for number in audited]
    return [
        {"value": float(hits.float().mean()), "n": len(hits)} if number >= 0 and len(hits) else None
        for number, hits in zip(audited, right, strict=True)
    ]


def _columns(times: Tensor, own: Sequence[int]) -> list[int]:
    """The audited classes in their order, then the most frequent others."""
    first = list(dict.fromkeys(label for label in own if label >= 0))[:COLUMNS]
    often = [k for k in times.sum(0).argsort(descending=True).tolist() if k not in first and times[:, k].any()]
    return [*first, *often[: COLUMNS - len(first)]]


def _same(viewer: Adapter, model: Adapter, label: int) -> int:
    """The viewer's number for a class of the model; -1 if it has none.

    Classes are matched by name, or by number if one model has no names and both have the same number of classes.
    """
    if isinstance(viewer.spec.classes, int) or isinstance(model.spec.classes, int):
        return label if viewer.spec.count == model.spec.count else -1
    try:
        return int(outputs_of_labels(viewer.spec, viewer.name, [model.spec.class_name(label)], model.name)[0])
    except UserError:
        return -1
