"""Fields made of fields: unit length, the readings of a clip, and the mean of what several parts measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from bothways.numerics.draws import Draws
from bothways.synthesis.das import toward
from bothways.synthesis.fields import Clipped, Combined, Field, Inside, Unit, averaged
from bothways.synthesis.objectives.terms import image_term

T = torch.full((4,), 0.5)
SCALES = (1e-12, 1e-5, 1.0, 1e6)


class Given(Field):
    """The direction it was given, and a statistic by name."""

    def __init__(self, dx: Tensor, **stats: list[float]) -> None:
        self.dx, self.found = dx, {name: torch.tensor(values) for name, values in stats.items()}

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.stats = self.found
        return self.dx


@pytest.fixture
def dx() -> Tensor:
    """Four directions whose sizes lie far apart."""
    scale = torch.tensor(SCALES, dtype=torch.float64).view(-1, 1, 1, 1)
    return scale * torch.randn(4, 3, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


def far(found: Tensor, wanted: np.ndarray) -> float:
    return float(np.abs(found.numpy() - wanted).max())


# ---- unit length ---------------------------------------------------------------------------------------------------


def test_unit_is_every_pictures_direction_divided_by_its_length(dx: Tensor) -> None:
    wanted = dx.numpy() / np.linalg.norm(dx.numpy().reshape(4, -1), axis=1)[:, None, None, None]
    field = Unit(Given(dx, length=[1.0, 2.0, 3.0, 4.0]))
    assert far(field(dx, T), wanted) < 1e-14
    assert field.stats["length"].tolist() == [1.0, 2.0, 3.0, 4.0]


def test_unit_of_nothing_is_nothing(dx: Tensor) -> None:
    dx[1] = 0
    found = Unit(Given(dx))(dx, T)
    assert found[1].abs().max() == 0
    assert (found[[0, 2, 3]].flatten(1).norm(dim=1) - 1).abs().max() < 1e-14


def test_weights_of_unit_fields_mean_the_same_whatever_the_scale(dx: Tensor) -> None:
    other = dx.flip(0)
    both = 10.0 * Unit(Given(dx)) + 2.0 * Unit(Given(other))
    small = 10.0 * Unit(Given(1e-9 * dx)) + 2.0 * Unit(Given(1e9 * other))
    assert (both(dx, T) - small(dx, T)).abs().max() < 1e-13


# ---- readings of a clip --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1e-5, 0.3, 1e9])
def test_clipped_by_value_holds_every_number(dx: Tensor, limit: float) -> None:
    field = Clipped(Given(dx, a=[0.0] * 4), limit)
    assert far(field(dx, T), np.clip(dx.numpy(), -limit, limit)) == 0
    assert field.by == "value"
    assert field.stats["a"].tolist() == [0.0] * 4


@pytest.mark.parametrize("limit", [1e-5, 0.3, 1e9])
def test_clipped_by_norm_holds_every_pictures_length_and_keeps_its_direction(dx: Tensor, limit: float) -> None:
    field = Clipped(Given(dx, a=[0.0] * 4), limit, "norm")
    length = np.linalg.norm(dx.numpy().reshape(4, -1), axis=1)[:, None, None, None]
    wanted = dx.numpy() * np.minimum(1, limit / length)
    assert far(field(dx, T) / limit, wanted / limit) < 1e-14
    assert field.stats["a"].tolist() == [0.0] * 4


def test_clipped_by_norm_is_what_torch_clips_gradients_to(dx: Tensor) -> None:
    for i in range(4):
        leaf = torch.zeros_like(dx[i], requires_grad=True)
        leaf.grad = dx[i].clone()
        torch.nn.utils.clip_grad_norm_([leaf], 0.3)
        assert leaf.grad is not None
        found = Clipped(Given(dx[i : i + 1]), 0.3, "norm")(dx[i : i + 1], T[:1])[0]
        assert (found - leaf.grad).abs().max() < 1e-6  # torch adds 1e-6 to the length


def test_the_sign_moves_every_number_by_the_limit(dx: Tensor) -> None:
    dx[0, 0, 0, 0] = 0
    found = Clipped(Given(dx, a=[0.0] * 4), 2 / 255, "sign")
    assert far(found(dx, T), 2 / 255 * np.sign(dx.numpy())) == 0
    assert found(dx, T)[0, 0, 0, 0] == 0
    assert found.stats["a"].tolist() == [0.0] * 4
    tight = Clipped(Given(dx), 1e-12)(dx, T)  # the limit of a clip by value
    beyond = dx.abs() > 1e-12
    assert far((found(dx, T) / (2 / 255))[beyond], (tight / 1e-12)[beyond].numpy()) < 1e-12


@pytest.mark.parametrize("by", ["value", "norm", "sign"])
def test_a_clip_touches_no_neighbour_and_leaves_nothing_as_it_is(dx: Tensor, by: str) -> None:
    dx[2] = 0
    together = Clipped(Given(dx), 0.1, by)(dx, T)
    assert together[2].abs().max() == 0
    for i in range(4):
        alone = Clipped(Given(dx[i : i + 1]), 0.1, by)(dx[i : i + 1], T[:1])
        assert torch.equal(alone[0], together[i])


# ---- what was measured ---------------------------------------------------------------------------------------------


def test_what_several_parts_measured_under_one_name_is_averaged(dx: Tensor) -> None:
    parts = [
        (1.0, Given(dx, score=[1.0, 2.0, 3.0, 4.0], mine=[5.0] * 4)),
        (-2.0, Given(dx, score=[3.0, 2.0, 1.0, 0.0])),
        (0.5, Given(dx, score=[5.0, 5.0, 5.0, 5.0], yours=[7.0] * 4)),
    ]
    field = Combined(parts)
    assert (field(dx, T) + 0.5 * dx).abs().max() <= 1e-9
    wanted = {"score": [3.0, 3.0, 3.0, 3.0], "mine": [5.0] * 4, "yours": [7.0] * 4}
    assert {name: values.tolist() for name, values in field.stats.items()} == wanted


def test_the_mean_is_over_parts_not_over_calls(dx: Tensor) -> None:
    field = Combined([(1.0, Given(dx, score=[1.0] * 4)), (1.0, Given(dx, score=[2.0] * 4))])
    for _ in range(3):
        field(dx, T)
        assert field.stats["score"].tolist() == [1.5] * 4


def test_averaged_is_numpys_mean() -> None:
    values = torch.rand(5, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found = averaged([("a", row) for row in values] + [("b", values[0])])
    assert far(found["a"], values.numpy().mean(0)) < 1e-15
    assert torch.equal(found["b"], values[0])
    assert averaged([]) == {}


def test_terms_of_one_name_are_averaged_too() -> None:
    image = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(4))
    brightness = image_term("brightness", lambda x: x.mean((1, 2, 3)))
    field = toward(brightness + 3 * image_term("brightness", lambda x: 2 * x.mean((1, 2, 3))), Draws((0, 1)))
    field(image, T[:2])
    assert (field.stats["brightness"] - 1.5 * image.mean((1, 2, 3))).abs().max() < 1e-6


class Thrice(Field):
    """Three times what it sees."""

    def __call__(self, x: Tensor, t: Tensor) -> Tensor:
        self.stats = {"sum": x.sum((1, 2, 3))}
        return 3 * x


def test_a_field_inside_a_border_sees_the_picture_alone() -> None:
    canvas = torch.rand(2, 3, 8, 10)
    inside = Inside(Thrice(), 2)
    found = inside(canvas, torch.zeros(2))
    assert torch.equal(inside.stats["sum"], canvas[..., 2:6, 2:8].sum((1, 2, 3)))
    assert torch.equal(found[..., 2:6, 2:8], 3 * canvas[..., 2:6, 2:8])
    found[..., 2:6, 2:8] = 0
    assert not found.any()
