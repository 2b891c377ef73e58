"""A picture larger than what the model takes, which sees windows of it."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bothways
from bothways import generate, load_model
from bothways.numerics.pyramid import resize
from bothways.tasks.shelf import work_of
from command import run
from toy_model import build, particular, seeded

SPEC = replace(build()[1], feature_layer="inner.body")
OPTIONS = {"steps": 2, "judges": [], "seed": 3, "size": 40, "views.window.smallest": 1.0}


class Seen(list[Tensor]):
    """A list that the copies of a module share."""

    def __deepcopy__(self, memo: Any) -> Seen:
        return self


class Watched(nn.Module):
    """The toy, which keeps the pictures that it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.seen = seeded(), Seen()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.detach())
        return self.inner(x)


def test_every_copy_is_a_window_at_native_resolution() -> None:
    net = Watched().eval()
    drawing = work_of("generate", net, ["anchor", "dragon"], recipe="das", spec=SPEC, n=1, **OPTIONS, copies=5)
    setup, request = drawing.setup, drawing.request
    problem = setup.problem(request, request.batch([0, 1], [7, 8]))
    image = Tensor(2, 3, 40, 40).uniform_(0.2, 0.8, generator=torch.Generator().manual_seed(0))
    views = [view for view in setup.views.views if type(view).__name__ == "Window"]
    seen = views[0](image[:, None].expand(-1, 5, -1, -1, -1), problem.draws, 0.0)
    assert seen.shape == (2, 5, 3, 16, 16)
    windows = image.unfold(-2, 16, 1).unfold(-2, 16, 1).permute(0, 2, 3, 1, 4, 5).flatten(1, 2)
    for of_picture, all_of_it in zip(seen, windows, strict=True):
        assert all((all_of_it == one).flatten(1).all(1).sum() == 1 for one in of_picture)
    net.seen.clear()
    problem.field(image, torch.zeros(2))
    assert [tuple(x.shape) for x in net.seen] == [(10, 3, 16, 16)]


@pytest.mark.parametrize(
    ("size", "smallest", "tells"), [(None, 1.0, True), (16, 2.0, True), (17, 1.0, False), (16, 0.5, False)]
)
def test_windows_that_are_all_the_whole_picture_are_told_of(size: int | None, smallest: float, tells: bool) -> None:
    given = {"views.window.smallest": smallest, "views.window.largest": 2.0, "recipe": "das", "size": size, "n": 1}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        work_of("generate", seeded(), "anchor", spec=build()[1], judges=[], **given)
    assert ["type a --size above 16" in str(warning.message) for warning in caught] == [True] * tells


def test_a_network_of_one_size_draws_a_larger_picture_and_its_judges_see_it_whole(tmp_path: Path) -> None:
    net, spec = particular()
    net.eval()
    result = generate(net, ["anchor", "dragon"], 1, "das", spec=spec, out=tmp_path / "run", **OPTIONS)
    assert result.images.shape == (2, 3, 40, 40)
    whole = load_model(net, spec=spec).outputs(resize(result.images, (16, 16))).softmax(1).detach()
    for record, own in zip(result.records, whole, strict=True):
        assert record["own_probability"] == pytest.approx(float(own[record["label"]]), abs=1e-5)
    without = {key: value for key, value in OPTIONS.items() if not key.startswith("views")}
    with pytest.raises(bothways.UserError, match="doesn't match model"):
        generate(net, ["anchor"], 1, "das", spec=spec, **without)


def test_a_model_of_another_size_sees_the_windows_at_its_own() -> None:
    main, other = Watched().eval(), Watched().eval()
    models = [load_model(net, spec=replace(SPEC, size=size)) for net, size in ((main, 16), (other, 40))]
    drawing = work_of("generate", models[0], ["anchor"], recipe="das", condition=models, n=1, **OPTIONS, copies=2)
    problem = drawing.setup.problem(drawing.request, drawing.request.batch([0], [7]))
    main.seen.clear()
    other.seen.clear()
    problem.field(torch.full((1, 3, 40, 40), 0.5), torch.zeros(1))
    assert [tuple(x.shape) for x in main.seen] == [(2, 3, 16, 16)]
    assert [tuple(x.shape) for x in other.seen] == [(2, 3, 40, 40)]


def test_the_command_takes_the_range_and_says_what_cannot_be(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    toy = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"
    words = ["generate", toy, "--class", "anchor", "--n", "1", "--steps", "2", "--recipe", "das", "--size", "32"]
    words += ["--set", "views.window.smallest=.5", "--set", "views.window.largest=2", "--out", tmp_path / "run"]
    assert run(*words) == 0
    capsys.readouterr()
    assert run(*words, "--overwrite", "--set", "views.window.smallest=3") == 2
    assert "smallest is not above largest" in capsys.readouterr().err
