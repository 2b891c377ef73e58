"""The roll: a sheet of even thickness, rolled up, the same at every call; and a flow that learns it."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from bothways import UserError, diagnose, load_images, pretrain
from bothways.models.nets.points import PointNet


def test_the_points_lie_on_a_roll() -> None:
    roll = load_images("swiss-roll")
    assert roll.images.shape == (5000, 3, 1, 1)
    x, y, height = (2 * roll.images.flatten(1).double() / 255 - 1).unbind(1)
    largest = math.pi * 4 + 0.5
    radius, turn = largest * (x**2 + y**2).sqrt(), torch.atan2(y, x)
    off = (radius - turn) / (2 * math.pi)
    assert ((off - off.round()) * 2 * math.pi).abs().max() < 0.6  # radius = angle, within the sheet's thickness
    assert math.pi - 0.6 < radius.min() < radius.max() < largest
    assert height.std() > 0.5
    assert torch.equal(roll.images, load_images("swiss-roll").images)
    assert len(load_images("swiss-roll", split="test", limit=7)) == 7
    with pytest.raises(UserError, match="it has train, test"):
        load_images("swiss-roll", split="validation")


def test_a_point_network_learns_it_and_its_paths_are_drawn(tmp_path: Path) -> None:
    found = pretrain("swiss-roll", "icfm", steps=60, batch=256, validation=200, workers=0, out=tmp_path / "roll")
    assert isinstance(found.flow.network, PointNet)
    losses = [frame.stats["loss"] for frame in found.frames]
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])
    facts = diagnose(str(tmp_path / "roll"), "swiss-roll", n=20, steps=4)
    assert len(facts.swiss_roll["paths"]) == 20
    assert len(facts.swiss_roll["points"][0]) == 2


def test_points_are_refused_for_pictures(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="one pixel, not 8x8"):
        pretrain("digits", net="points", out=tmp_path / "x")
