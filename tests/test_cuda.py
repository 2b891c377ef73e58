"""What must hold on a GPU; skipped where there is none."""

from __future__ import annotations

import pytest
import torch

from bothways.models.loader import load_model
from bothways.numerics.draws import Draws
from bothways.synthesis.dsf.score import dsf_score

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


def test_the_score_is_that_of_the_cpu() -> None:
    image = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    for options in (
        {},
        {"residual": "held", "augmentation": "crop+colour+flip", "copies": 2},
        {"per": "batch", "batch_norm": "train"},
        {"direction": "random"},
        {"engine": "jvp", "residual": "random"},
    ):
        found = {}
        for device in ("cpu", "cuda"):
            model = load_model("bundled:cifar10-resnet", device=device)
            score, norm = dsf_score(model, image.to(device), draws=Draws(range(3)), t=0.5, **options)
            found[device] = score.cpu(), norm.cpu()
        for cpu, gpu in zip(*found.values(), strict=True):
            assert (gpu - cpu).abs().max() < 1e-3 * cpu.abs().max(), options
