"""What benchmarks/versus.py, choices224.py and unlabelled.py make of their lines and pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))

import choices224
import unlabelled
import versus

Lines = dict[tuple[int, int], dict[str, Any]]


def lines(ranks: dict[int, list[int]]) -> Lines:
    """Of each class, the rank of its picture by seed."""
    return {
        (label, seed): {"class": label, "seed": seed, "squeezenet": [0.1, rank]}
        for label, own in ranks.items()
        for seed, rank in enumerate(own)
    }


def test_a_ratio_that_all_classes_share_has_no_interval() -> None:
    own, rival = lines({k: [1, 5] for k in range(8)}), lines({k: [6, 2] for k in range(8)})
    assert versus.compared(own, rival, "squeezenet", 5) == "16 and 8 of 16, 2.00 times (2.00 to 2.00)"


def test_pictures_that_one_side_lacks_are_not_counted_and_a_rival_without_any_is_outdone_without_bound() -> None:
    own, rival = lines({0: [1, 1], 1: [1, 1]}), lines({0: [9, 9], 2: [1, 1]})
    assert versus.compared(own, rival, "squeezenet", 1) == "2 and 0 of 2, inf times (inf to inf)"


def test_the_interval_is_of_classes_and_not_of_pictures() -> None:
    """Two classes, all or nothing: a fourth of the samples has one of them alone, so that the interval has no end."""
    own, rival = lines({0: [1] * 50, 1: [1] * 50}), lines({0: [1] * 50, 1: [9] * 50})
    assert versus.compared(own, rival, "squeezenet", 5) == "100 and 50 of 100, 2.00 times (1.00 to inf)"


def test_pictures_that_a_judge_recognises_of_one_row_alone_are_counted_on_both_sides() -> None:
    own, rival = lines({0: [1, 1, 1, 1], 1: [9, 2], 3: [1]}), lines({0: [9, 6, 8, 5], 1: [1, 1], 2: [1]})
    assert versus.only_one(own, rival, "squeezenet", 5) == "only one 3 and 1, p = 0.625"
    assert versus.only_one(own, own, "squeezenet", 5) == "only one 0 and 0, p = 1.000"


def test_lines_of_one_device_are_not_mixed_with_those_of_another() -> None:
    fact = {"row": "das", "calls": 96, "seed": 0}
    both = [{**fact, "class": 1}, {**fact, "class": 2, "device": "NVIDIA H200"}]
    assert [list(versus.chosen(both, "das", 96, device)) for device in ("cpu", "cuda")] == [[(1, 0)], [(2, 0)]]


def test_a_setting_is_compared_on_the_pictures_that_it_changes() -> None:
    default, rows = lines({0: [9] * 10, 1: [3, 3]}), lines({0: [1] * 10, 1: [9, 3]})
    assert choices224.beside([*default.values()], [*rows.values()]) == "10 only here, 1 only there, p = 0.012"
    assert choices224.beside([*default.values()], [*default.values()]) == "0 only here, 0 only there, p = 1.000"


def test_photographs_are_evenly_spaced_and_all_of_them_where_there_are_few() -> None:
    assert unlabelled.spaced(range(3, 503))[:2] == [3, 5]
    assert unlabelled.spaced(range(3, 503))[-1] == 502
    assert len(set(unlabelled.spaced(range(500)))) == unlabelled.PHOTOGRAPHS
    assert unlabelled.spaced([4, 8]) == [4, 8]


def test_a_picture_of_the_density_names_both_photographs_that_it_lies_between(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from bothways.synthesis.density import Density

    rows = {"pool": torch.eye(6)[:, :4] + 0.1 * torch.arange(24.0).view(6, 4)}
    space = SimpleNamespace(rows=rows, names=[f"row {k}" for k in range(6)])
    monkeypatch.setattr(unlabelled, "of_density", lambda row, model: (space, Density()))
    photographs = SimpleNamespace(titles=space.names[::-1])
    found = [unlabelled.sources("density", k, None, photographs) for k in range(40)]
    assert {len(set(pair)) for pair in found} == {2}
    assert {number for pair in found for number in pair} == set(range(6))
    assert [unlabelled.source("density", k, None, photographs) for k in range(40)] == [pair[0] for pair in found]
    assert unlabelled.source("control", 0, None, photographs) is None
