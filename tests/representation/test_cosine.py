from __future__ import annotations

import torch

from bothways.representation.paths import path_of


def test_it_is_the_straight_line_at_another_time() -> None:
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    found, later = path_of("cosine")(t), torch.sin(torch.pi * t / 2).square()
    straight = path_of("linear")(later)
    assert (found.a - straight.a).abs().max() < 1e-12
    assert (found.s - straight.s).abs().max() < 1e-12


def test_it_begins_and_ends_at_rest() -> None:
    ends = path_of("cosine")(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert max(weight.abs().max() for weight in ends[2:]) < 1e-12
