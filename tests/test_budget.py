"""What is free, what would take more, and the one line that says so. The free memory is pretended: nothing is made."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest
import torch
from torch import nn

from bothways import UserError, budget
from bothways.numerics.footprint import Footprint, footprint, peak_bytes
from bothways.tasks.generate.config import GenerateConfig
from bothways.tasks.recipes import configure
from command import refused


@pytest.mark.parametrize(("count", "text"), [(512, "1 kB"), (4.21e9, "4.2 GB"), (345e6, "345 MB"), (2.5e15, "2.5 PB")])
def test_bytes_are_said_in_units(count: float, text: str) -> None:
    assert budget.amount(count) == text


@pytest.mark.parametrize(("room", "most"), [(0, 0), (9, 0), (10, 1), (59, 5), (10**6, 40)])
def test_the_greatest_number_that_fits(room: float, most: int) -> None:
    assert budget.greatest(lambda n: 10 * n, room, 40) == most


def group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(str(text))


def test_limits_of_control_groups_count(monkeypatch, tmp_path: Path) -> None:
    line = Path("/proc/self/cgroup")
    if not line.exists():
        pytest.skip("this system has no control groups")
    own = next((text.split(":", 2)[2] for text in line.read_text().splitlines() if text.startswith("0::")), None)
    if own is None:
        pytest.skip("no second version of control groups here")
    monkeypatch.setattr(budget, "GROUPS", tmp_path / "groups")
    stat = "anon 5\ninactive_file 30\nactive_file 70"
    group(tmp_path / "groups" / own.lstrip("/"), memory__max=1000, memory__current=400, memory__stat=stat)
    assert budget.free_memory() == 700  # pages of files are in use and can be dropped
    (tmp_path / "groups" / own.lstrip("/") / "memory.max").write_text("max")
    assert budget.free_memory() > 1e6


def test_the_first_version_of_control_groups_counts_too(tmp_path: Path) -> None:
    files = {
        "memory__limit_in_bytes": 1000,
        "memory__usage_in_bytes": 900,
        "memory__stat": "active_file 1\ntotal_active_file 30\ntotal_inactive_file 50",
    }
    group(tmp_path / "v1", **files)
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
    assert budget._of_group(tmp_path / "v1", *names) == 180
    (tmp_path / "v1" / "memory.limit_in_bytes").write_text("9223372036854771712")
    assert budget._of_group(tmp_path / "v1", *names) == float("inf")


def test_a_limit_of_the_address_space_counts(monkeypatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (1 << 50, 1 << 50))
    assert (1 << 50) - (1 << 45) < budget._of_the_address_space() < 1 << 50


def test_a_folder_that_is_not_there_yet_has_the_disk_of_its_parent(tmp_path: Path) -> None:
    there, not_yet = budget.free_disk(tmp_path), budget.free_disk(tmp_path / "a" / "b")
    assert 0.9 * there < not_yet < 1.1 * there


@pytest.mark.parametrize(
    ("task", "typed"), [("generate", ["n = 1e12"]), ("pretrain", ["[fit]", "batch = 4000000000000"])]
)
def test_a_number_of_a_recipe_that_is_too_great(capsys, tmp_path: Path, task: str, typed: list[str]) -> None:
    lines = [f'task = "{task}"', *typed, "[terms.class]" if task == "generate" else ""]
    (tmp_path / "own.toml").write_text("\n".join(lines))
    own = tmp_path / "own.toml"
    given = ["bundled:cifar10-resnet", "--class", "frog", "--recipe", own] if task == "generate" else [own]
    given += [] if task == "generate" else ["--data", "digits", "--steps", "1"]
    said = refused(capsys, task, *given, "--out", tmp_path / "out")
    assert "000000000000: too great a number; type 1000000000 or less" in said


def test_parts_lists_and_tables_are_looked_through_and_a_seed_may_be_any() -> None:
    configure(GenerateConfig, model="x", seed=10**15)
    for name, value in {"copies": 10**10, "canvas.levels": [1, 10**10], "views.shift.reach": 10**10}.items():
        with pytest.raises(UserError, match="too great a number"):
            configure(GenerateConfig, model="x", **{name: value})


# ---- the footprint ---------------------------------------------------------------------------------------------------


def forward_and_back(network: nn.Module, pictures: int, side: int) -> None:
    x = torch.zeros(pictures, 3, side, side, requires_grad=True)
    network(x).sum().backward()


class Attention(nn.Module):
    """Every pixel attends to every other, with the matrix written out."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        return (tokens @ tokens.transpose(1, 2)).softmax(-1) @ tokens


CONVOLUTIONS = nn.Sequential(*(nn.Conv2d(3, 3, 3, padding=1) if k % 2 else nn.Tanh() for k in range(6)))


@pytest.mark.parametrize("network", [CONVOLUTIONS, Attention()])
def test_what_is_scaled_from_small_pictures_is_what_large_ones_take(network: nn.Module) -> None:
    made = lambda shape: lambda: forward_and_back(network, 1, shape[0])  # noqa: E731
    found = footprint(made, [(8, 8), (16, 16)])
    assert found is not None
    assert (found.square > 0) is isinstance(network, Attention)
    for pictures, side in ((1, 48), (3, 24)):
        real = peak_bytes(lambda n=pictures, s=side: forward_and_back(network, n, s))
        assert real / 2 < found.of(pictures, side**2) < 2 * real


def test_a_computation_that_fails_has_no_footprint() -> None:
    assert footprint(lambda shape: lambda: nn.Linear(3, 3)(torch.zeros(2)), [(8, 8)]) is None


def test_the_second_shape_is_left_out_where_it_might_not_fit() -> None:
    seen: list[tuple[int, int]] = []
    footprint(lambda shape: lambda: seen.append(shape) or torch.zeros(shape), [(8, 8), (16, 16)], room=256 * 15)
    assert seen == [(8, 8)]
    assert Footprint(2.0, 0.5).of(3, 10) == 3 * (20 + 50)


def test_views_and_what_was_there_before_take_nothing() -> None:
    before = torch.zeros(1000)
    assert peak_bytes(lambda: before.view(10, 100).t().add_(1)) == 0
    assert peak_bytes(lambda: [torch.zeros(1000) for _ in range(3)]) == 12_000
