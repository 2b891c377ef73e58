from __future__ import annotations

from pathlib import Path

import torch

from bothways import generate, objectives
from bothways.synthesis.objectives.base import Binding
from bothways.synthesis.objectives.terms import IMAGE

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"


def test_the_closed_form_and_the_largest_value() -> None:
    images = torch.zeros(2, 3, 4, 6, dtype=torch.float64)
    images[0, :, :, 0] = 0.5  # differs from its mirror in two of six columns
    (term,) = objectives.Symmetry().terms(Binding.__new__(Binding))
    assert (term.measure({IMAGE: images}, 2) - torch.tensor([-0.25 / 3, 0.0], dtype=images.dtype)).abs().max() < 1e-12


def test_ascent_makes_pictures_symmetric() -> None:
    def asymmetry(steps: int) -> float:
        asked = {"recipe": "das", "start": "noise", "steps": steps, "n": 2, "judges": []}
        images = generate(TOY, objective=objectives.Symmetry(), **asked).images
        return float((images - images.flip(-1)).square().mean())

    assert asymmetry(20) < 0.5 * asymmetry(0)
