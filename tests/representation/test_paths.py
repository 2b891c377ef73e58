"""Paths: their ends, their derivatives against finite differences, and diffusers' own schedule."""

from __future__ import annotations

import pytest
import torch

from bothways import registry
from bothways.representation.paths import interpolate, path_of
from bothways.representation.paths.scheduled import scheduled
from bothways.representation.paths.vp import LEAST_DEPTH
from bothways.types import Path, UserError

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
