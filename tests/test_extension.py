"""One of each kind from outside: a user's file, and plain callables, draw, walk and train; no file of ours changes.

Each kind is used by its address ``PATH.py:NAME`` from the command line and in a recipe, and as a Python object.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from torch import Tensor

import bothways
from bothways import UserError, generate, objectives, registry
from bothways.registry import PLACES
from bothways.runs import RunFolder
from bothways.synthesis.parameterizations.pixels import Pixels
from command import refused, run

TOY = f"{Path(__file__).resolve().parent / 'toy_model.py'}:build"
PACKAGE = Path(bothways.__file__).parent
MINE = '''
from dataclasses import dataclass
import torch
from bothways.configs import setting
from bothways.numerics.solvers import at_time, fixed_grid
from bothways.registry import register
from bothways.synthesis.objectives.base import Objective
from bothways.synthesis.objectives.terms import IMAGE, Term
from bothways.synthesis.parameterizations import Canvas
from bothways.synthesis.parameterizations.pixels import Pixels
from bothways.types import PathWeights


def symmetry(images):
    """Mirror symmetry."""
    return -(images - images.flip(-1)).square().mean((1, 2, 3))


def brightest(images, model):
    return model.outputs(images).amax(1)


def crooked(images):
    return images.mean()


@register("objective", "redness", help="red", reference="@article{me2026red,\\n  title = {Red}\\n}")
class Redness(Objective):
    role = "image"
    share: float = setting(1.0, "how red", gt=0)

    def terms(self, to):
        return [Term("redness", lambda seen, pictures: self.share * seen[IMAGE][:, 0].mean((1, 2)))]


@dataclass(frozen=True)
class Dim:
    by: float = 0.5

    def __call__(self, seen, draws, t):
        return self.by * seen


def mirrored(seen, draws, t):
    return seen.flip(-1)


class Coarse(Canvas):
    factor: int = setting(2, "pixels that move together", ge=1)

    def build(self, start, place):
        return Pixels(start, place.squash)


def stepped(place):
    return 1.0 if place < 0.5 else 0.1


def sine(t):
    half = torch.pi / 2
    a, s = torch.sin(half * t), torch.cos(half * t)
    return PathWeights(a, s, half * s, -half * a)


def reversed_pairs(images, noise):
    return torch.arange(len(images)).flip(0)


@fixed_grid(calls=1, order=1)
def lazy(v, state, t, h):
    (x,) = state
    return (x + h * v(x, at_time(x, t)),)


def flat_head(width, classes, **_):
    return torch.nn.Linear(width, classes)


def sharpness(images):
    return {"sharpness": float((images[..., 1:] - images[..., :-1]).abs().mean())}
'''


def files() -> dict[str, str]:
    """{file of the package: hash of its text}"""
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(PACKAGE.rglob("*.py"))}


@pytest.fixture(scope="module", autouse=True)
def _untouched():
    before = files()
    yield
    assert files() == before


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("mine") / "my.py"
    file.write_text(MINE)
    return str(file)


def symmetry(images: Tensor) -> Tensor:
    return -(images - images.flip(-1)).square().mean((1, 2, 3))


QUICK = {"recipe": "das", "steps": 3, "n": 1, "judges": []}


# ---- objectives ----------------------------------------------------------------------------------------------------


def test_objectives_add_and_scale_with_functions_of_ones_own() -> None:
    def confident(images: Tensor, model) -> Tensor:
        return model.outputs(images).softmax(1).amax(1)

    total = 4 * objectives.ClassLogProbability("dragon") + 0.5 * objectives.TotalVariation() + symmetry + confident
    seen = []
    result = generate(TOY, objective=total, on_frame=seen.append, copies=2, **QUICK)
    assert [r["class"] for r in result.records] == ["dragon"]
    assert set(seen[0].stats) == {"log probability", "total variation", "symmetry", "confident"}
    assert "4 ClassLogProbability(target='dragon')" in result.tables["drawn"]["objective"]
    other = generate(TOY, objective=4 * objectives.ClassLogProbability("dragon"), copies=2, **QUICK)
    assert not torch.equal(result.images, other.images)


def test_an_objective_of_ones_own_rises() -> None:
    def value(steps: int) -> float:
        images = generate(TOY, objective=symmetry, recipe="das", start="noise", steps=steps, n=2, judges=[]).images
        return float(symmetry(images).mean())

    assert value(20) > 0.5 * value(0)


def test_an_objective_from_a_file_by_the_command_line_and_by_a_recipe(mine: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    given = ["--objective", f"{mine}:symmetry:0.5", f"{mine}:brightest", f"{mine}:Redness:2"]
    assert (
        run("generate", TOY, "--class", "anchor", *given, "--steps", 2, "--n", 1, "--recipe", "das", "--out", out) == 0
    )
    stats = RunFolder.open(out).frames[0]["stats"]
    assert {"log probability", "symmetry", "brightest", "redness"} <= set(stats)
    assert any("me2026red" in entry for entry in RunFolder.open(out).measures["citations"])
    recipe = tmp_path / "mine.toml"
    table = f'[terms.red]\nkind = "{mine}:Redness"\nweight = 2.0\nshare = 0.5\n'
    recipe.write_text(f'# mine\ntask = "generate"\n[ascent]\nsteps = 2\n{table}')
    result = generate(TOY, "anchor", 1, str(recipe), judges=[])
    assert "redness" in result.frames[0].stats


def test_what_an_objective_of_ones_own_does_wrong_is_one_line(mine: str, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["--steps", 1, "--n", 1, "--recipe", "das", "--dry-run"]
    said = refused(capsys, "generate", TOY, "--class", "anchor", "--objective", f"{mine}:no_such", *quick)
    assert "has no function 'no_such'" in said
    with pytest.raises(UserError, match=r"gave \(\) for 1 pictures; return one number per picture"):
        generate(TOY, "anchor", objectives=[f"{mine}:crooked"], **QUICK)
    with pytest.raises(UserError, match="is a function and has no setting 'power'"):
        generate(TOY, "anchor", terms={"s": {"kind": f"{mine}:symmetry", "power": 2}}, **QUICK)


# ---- views, canvases, schedules ------------------------------------------------------------------------------------


def test_views_of_ones_own(mine: str) -> None:
    def mirrored(seen: Tensor, draws, t: float) -> Tensor:
        return seen.flip(-1)

    plain = generate(TOY, "dragon", views=[], **QUICK).images
    live = generate(TOY, "dragon", views=[mirrored], **QUICK).images
    assert not torch.equal(live, plain)
    pixels = {**QUICK, "recipe": "pixels"}
    without = generate(TOY, "dragon", **pixels)
    by_file = generate(TOY, "dragon", views={"mine": {"kind": f"{mine}:mirrored"}}, **pixels)
    assert not torch.equal(by_file.images, without.images)
    dim = generate(TOY, "dragon", views={"dim": {"kind": f"{mine}:Dim", "by": 0.2}}, **{**QUICK, "recipe": "pixels"})
    assert not torch.equal(dim.images, without.images)


def test_a_canvas_and_a_schedule_of_ones_own(mine: str) -> None:
    result = generate(TOY, "dragon", **{"canvas.kind": f"{mine}:Coarse", "canvas.factor": 4}, **QUICK)
    assert result.images.shape == (1, 3, 16, 16)
    live = generate(TOY, "dragon", canvas=lambda start: Pixels(start, "tanh"), **QUICK)
    assert torch.equal(live.images, result.images)
    with pytest.raises(UserError, match="factor=0"):
        generate(TOY, "dragon", **{"canvas.kind": f"{mine}:Coarse", "canvas.factor": 0}, **QUICK)
    stepped = generate(TOY, "dragon", schedule=f"{mine}:stepped", **QUICK).images
    assert not torch.equal(stepped, generate(TOY, "dragon", schedule="linear", **QUICK).images)
    assert not torch.equal(stepped, generate(TOY, "dragon", schedule=lambda place: 1.0, **QUICK).images)


# ---- the registry itself -------------------------------------------------------------------------------------------


def test_every_kind_has_entries_that_stand_where_the_text_says() -> None:
    for kind in PLACES:
        assert registry.names(kind), kind
        for name, entry in registry.entries(kind).items():
            found = registry.find(kind, name)
            assert (found.name, found.help, found.reference) == (entry.name, entry.help, entry.reference)


def test_an_unknown_name_brings_the_nearest_and_the_way_to_ones_own() -> None:
    with pytest.raises(UserError, match=r"solver 'eulre' is not known; type euler.*, or PATH.py:NAME for your own"):
        registry.find("solver", "eulre")
    with pytest.raises(UserError, match="does not exist"):
        registry.find("path", "nowhere.py:sine")
