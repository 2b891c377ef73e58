"""Paths: their ends, their derivatives against finite differences, and diffusers' own schedule."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bothways import registry
from bothways.representation.paths import check_path, interpolate, path_of
from bothways.representation.paths.scheduled import scheduled
from bothways.representation.paths.vp import LEAST_DEPTH
from bothways.types import Path, PathWeights, UserError

PRODUCTS = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)  # of Ho et al. 2020
EVERY = {**{name: path_of(name) for name in registry.names("path")}, "scheduled": scheduled(PRODUCTS)}
every_path = pytest.mark.parametrize("path", EVERY.values(), ids=EVERY)


@every_path
def test_derivatives_are_finite_differences(path: Path) -> None:
    # between two levels of a schedule, where its logarithm has no kink
    t = (torch.arange(20, 980, dtype=torch.float64) + 0.5) / 999
    step = 1e-6
    a, s, da, ds = path(t)
    ahead, behind = path(t + step), path(t - step)
    for derivative, later, earlier in ((da, ahead.a, behind.a), (ds, ahead.s, behind.s)):
        finite = (later - earlier) / (2 * step)
        assert ((derivative - finite).abs() / (1 + finite.abs())).max() < 1e-7
    assert ((a > 0) & (s > 0)).all()


@every_path
def test_t_0_is_noise_and_t_1_is_the_image(path: Path) -> None:
    a, s, _, _ = path(torch.tensor([0.0, 1.0], dtype=torch.float64))
    assert abs(s[0] - 1) < 1e-4
    assert a[0] < 0.01
    assert abs(a[1] - 1) < 1e-3
    assert s[1] < 0.02


@pytest.mark.parametrize("name", ["gvp", "vp"])
def test_variance_is_preserved(name: str) -> None:
    a, s, _, _ = path_of(name)(torch.linspace(0, 1, 101, dtype=torch.float64))
    assert (a.square() + s.square() - 1).abs().max() < 1e-12


def test_vp_is_the_published_formula_and_is_held_near_the_image() -> None:
    depth = torch.linspace(0.01, 1, 50, dtype=torch.float64)
    a = path_of("vp")(1 - depth).a
    published = torch.exp(-0.25 * depth.square() * (20 - 0.1) - 0.5 * depth * 0.1)
    assert (a - published).abs().max() < 1e-14
    near = path_of("vp")(torch.tensor([1.0, 1 - LEAST_DEPTH / 2, 1 - LEAST_DEPTH], dtype=torch.float64))
    assert all((weight - weight[-1]).abs().max() < 1e-9 * weight[-1].abs() for weight in near)


def test_a_schedule_passes_through_its_levels() -> None:
    level = torch.arange(1000)
    a, s, _, _ = scheduled(PRODUCTS)(1 - level.double() / 999)
    assert (a.square() - PRODUCTS).abs().max() < 1e-12
    assert (s.square() - (1 - PRODUCTS)).abs().max() < 1e-12


def test_interpolate_stands_on_the_path_and_keeps_precision() -> None:
    x, z = torch.randn(2, 4, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([0.0, 0.25, 0.5, 1.0], dtype=torch.float64)
    place, velocity = interpolate(path_of("linear"), x, z, t)
    assert torch.equal(place[0], z[0])
    assert torch.equal(place[3], x[3])
    assert (place[1] - (0.25 * x[1] + 0.75 * z[1])).abs().max() < 1e-15
    assert (velocity - (x - z)).abs().max() < 1e-15
    assert interpolate(path_of("gvp"), x.float(), z.float(), t.float())[1].dtype == torch.float32


def test_an_unknown_path_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"type .*gvp, linear, vp"):
        path_of("straight")


def test_a_path_of_ones_own_with_its_ends_swapped_is_refused() -> None:
    with pytest.raises(UserError, match=r"more of the image at t = 0\.25 than at 0\.75; t = 0 is noise"):
        path_of(lambda t: PathWeights(1 - t, t, -torch.ones_like(t), torch.ones_like(t)))


@pytest.mark.parametrize("wrong", ["a", "s"])
def test_wrong_derivatives_of_a_path_are_told_with_their_slope(wrong: str) -> None:
    def path(t: Tensor) -> PathWeights:
        found = path_of("gvp")(t)
        return found._replace(**{f"d{wrong}": -getattr(found, f"d{wrong}")})

    with pytest.warns(UserWarning, match=f"d{wrong} is .* at t = 0.25, where {wrong} has the slope"):
        path_of(path)


@every_path
@pytest.mark.filterwarnings("error")
def test_every_path_passes_the_checks_of_ones_own(path: Path) -> None:
    check_path(path)
    check_path(lambda t: PathWeights(*(weight.float() for weight in path(t))))
