"""One of each kind from outside: a user's file, and plain callables, draw, walk and train; no file of ours changes.

Each kind is used by its address ``PATH.py:NAME`` from the command line and in a recipe, and as a Python object.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import bothways
from bothways import (
    UserError,
    finetune,
    generate,
    load_classifier,
    load_flow,
    objectives,
    pretrain,
    registry,
    sample,
)
from bothways.registry import PLACES
from bothways.runs import RunFolder
from bothways.synthesis.parameterizations.pixels import Pixels
from bothways.tasks.shelf import work_of
from command import refused, run
from small_flow import write_small_flow

pytestmark = pytest.mark.usefixtures("_rough_samples")

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


@register("path", "sine", help="mine", reference="@article{me2026sine,\\n  title = {Mine}\\n}")
def sine(t):
    half = torch.pi / 2
    a, s = torch.sin(half * t), torch.cos(half * t)
    return PathWeights(a, s, half * s, -half * a)


@register("coupling", "reversed_pairs", help="mine", reference="@article{me2026reversed_pairs,\\n  title = {Mine}\\n}")
def reversed_pairs(images, noise):
    return torch.arange(len(images)).flip(0)


@register("solver", "lazy", help="mine", reference="@article{me2026lazy,\\n  title = {Mine}\\n}")
@fixed_grid(calls=1, order=1)
def lazy(v, state, t, h):
    (x,) = state
    return (x + h * v(x, at_time(x, t)),)


@register("head", "flat_head", help="mine", reference="@article{me2026flat_head,\\n  title = {Mine}\\n}")
def flat_head(width, classes, **_):
    return torch.nn.Linear(width, classes)


@register("judge", "sharpness", help="mine", reference="@article{me2026sharpness,\\n  title = {Mine}\\n}")
def sharpness(images):
    return {"sharpness": float((images[..., 1:] - images[..., :-1]).abs().mean())}


def no_path(t):
    return t


def column(t):
    return PathWeights(*[t[:, None]] * 4)


def upside_down(t):
    raise ZeroDivisionError("by nothing")


def short(images, noise):
    return torch.arange(len(images) - 1)


def twice(images, noise):
    return torch.zeros(len(images), dtype=torch.int64)


def narrow_head(width, classes):
    return torch.nn.Linear(width, classes - 1)


def wide_head(width, classes):
    return torch.nn.Linear(width + 1, classes)


def no_head(width, classes):
    return None


def loose(v, state, t, h):
    return state


def words(images):
    return "sharp"


def blackened(images):
    images.mul_(0)
    return 0.0


def stretched(t):
    return sine(t.mul_(0.5))


def centred(images, noise):
    images.sub_(images.mean())
    return torch.arange(len(images))
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


@pytest.mark.filterwarnings("ignore:--steps 0")
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


def test_an_objective_that_is_added_takes_its_settings_by_its_name(mine: str) -> None:
    added = generate(TOY, "anchor", objectives=[f"{mine}:Redness:9"], **{"terms.Redness.share": 2.0}, **QUICK)
    assert added.tables["drawn"]["objective"].endswith("9 Redness(share=2.0)")
    with pytest.raises(UserError, match="objective 'Rednes' is not known"):
        generate(TOY, "anchor", objectives=[f"{mine}:Redness:9"], **{"terms.Rednes.share": 2.0}, **QUICK)


@pytest.mark.parametrize(
    ("objective", "told"),
    [
        (torch.zeros(3), "objective .*: type a name, PATH.py:NAME, or give a callable"),
        ([1], r"objective .*1.*: type a name"),
        (lambda: 1, r"takes \(\); write it as \(images\) or \(images, model\)"),
        (lambda a, b, c: a, r"takes \(a, b, c\); write it as"),
        (max, r"gave \(.*\) for 1 pictures; return one number per picture"),  # in C, without a signature
    ],
)
def test_what_is_no_objective_is_refused(objective: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        generate(TOY, "anchor", objective=objective, **QUICK)


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
    beside = {name: value for name, value in QUICK.items() if name != "recipe"}  # the recipe that is taken by itself
    with pytest.warns(UserWarning, match="no statistics of real pictures"):
        drawn = generate(TOY, "dragon", canvas=lambda start: Pixels(start, "tanh"), **beside).images
    assert drawn.shape == (1, 3, 16, 16)
    with pytest.raises(UserError, match=r"canvas 'max' gives a Tensor without parameters\(\)"):
        generate(TOY, "dragon", canvas=max, **QUICK)
    with pytest.raises(UserError, match="judge 'max' gives a Tensor; return a number"):
        generate(TOY, "dragon", **{**QUICK, "judges": [max]})


# ---- paths, couplings, heads, solvers ------------------------------------------------------------------------------

FLOW = """# tiny
task = "pretrain"
path = "linear"
coupling = "independent"
[network]
width = 8
multiples = [1]
blocks = 1
attention = []
[holdout]
validation = 8
[fit]
steps = 2
batch = 8
warmup = 0
[run]
workers = 0
"""
CLASSIFIER = """# tiny
task = "finetune"
[features]
steps = 2
head = "prg"
solver = "midpoint"
[holdout]
validation = 8
labels = 40
[fit]
steps = 2
batch = 8
[run]
workers = 0
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with flow.toml, classifier.toml, and the runs flow/ and classifier/ by them, without a part of ours."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "flow.toml").write_text(FLOW)
    (folder / "classifier.toml").write_text(CLASSIFIER)
    pretrain("digits", str(folder / "flow.toml"), out=folder / "flow")
    finetune(folder / "flow", "digits", str(folder / "classifier.toml"), out=folder / "classifier")
    return folder


def changed(recipe: Path, out: Path, old: str, new: str) -> str:
    """A recipe with another value, in a file of its own."""
    text = recipe.read_text()
    assert text.count(f'"{old}"') == 1
    out.write_text(text.replace(f'"{old}"', f'"{new}"'))
    return str(out)


def losses(run_folder: Path) -> list[float]:
    return [frame["stats"]["loss"] for frame in RunFolder.open(run_folder).frames]


def cited(capsys: pytest.CaptureFixture[str], run_folder: Path) -> str:
    capsys.readouterr()
    assert run("cite", run_folder) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "name", "old"), [("path", "sine", "linear"), ("coupling", "reversed_pairs", "independent")]
)
@pytest.mark.slow
def test_a_flow_is_trained_with_a_part_of_ones_own(
    mine: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, name: str, old: str
) -> None:
    address, recipe = f"{mine}:{name}", place / "flow.toml"
    live = registry.load_attribute(address, kind)
    typed, written, called = (tmp_path / way for way in ("typed", "written", "called"))
    assert run("pretrain", recipe, "--data", "digits", f"--{kind}", address, "--out", typed) == 0
    pretrain("digits", changed(recipe, tmp_path / "mine.toml", old, address), out=written)
    done = pretrain("digits", str(recipe), out=called, **{kind: live})
    assert losses(typed) == losses(written) == losses(called) != losses(place / "flow")
    x, t = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([0.2, 0.7])
    for out, named in ((typed, address), (written, address), (called, name)):
        assert RunFolder.open(out).settings["settings"][kind] == named
        assert RunFolder.open(out).measures["flow"][kind] == named
        assert f"{{me2026{name}," in cited(capsys, out)
        again = load_flow(out, path=live) if (out, kind) == (called, "path") else load_flow(out)
        with torch.no_grad():
            assert (again(x, t) - done.flow(x, t)).abs().max() < 1e-6
        assert all(torch.equal(*pair) for pair in zip(again.path(t), done.flow.path(t), strict=True))
        assert (sample(again, 2, steps=2).images - sample(done.flow, 2, steps=2).images).abs().max() < 1.5 / 255
    assert f"me2026{name}" not in cited(capsys, place / "flow")


@pytest.mark.parametrize(("kind", "name", "old"), [("head", "flat_head", "prg"), ("solver", "lazy", "midpoint")])
@pytest.mark.slow
def test_a_classifier_is_made_with_a_part_of_ones_own(
    mine: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, name: str, old: str
) -> None:
    address, recipe = f"{mine}:{name}", place / "classifier.toml"
    live = registry.load_attribute(address, kind)
    typed, written, called = (tmp_path / way for way in ("typed", "written", "called"))
    given = ["--data", "digits", "--recipe", recipe]
    assert run("finetune", place / "flow", *given, f"--{kind}", address, "--out", typed) == 0
    own = changed(recipe, tmp_path / "mine.toml", old, address)
    finetune(place / "flow", "digits", own, out=written)
    done = finetune(place / "flow", "digits", str(recipe), out=called, **{kind: live})
    assert losses(typed) == losses(written) == losses(called) != losses(place / "classifier")
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for out, named in ((typed, address), (written, address), (called, name)):
        assert RunFolder.open(out).settings["settings"]["features"][kind] == named
        assert f"{{me2026{name}," in cited(capsys, out)
        again = load_classifier(out, **{kind: live}) if out == called else load_classifier(out)
        assert torch.equal(again.outputs(images), done.model.outputs(images))
    assert f"me2026{name}" not in cited(capsys, place / "classifier")


def test_pictures_are_drawn_by_a_solver_of_ones_own(
    mine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"{mine}:lazy"
    out, flow = tmp_path / "typed", write_small_flow(tmp_path / "flow")
    assert run("sample", flow, "--n", 2, "--steps", 2, "--solver", address, "--out", out) == 0
    called = sample(flow, 2, steps=2, solver=registry.load_attribute(address, "solver"), out=tmp_path / "called")
    folder = RunFolder.open(out)
    drawn = torch.stack([folder.read_picture(record) for record in folder.pictures])
    assert torch.equal(drawn, called.images)
    assert torch.equal(called.images, sample(flow, 2, steps=2, solver="euler").images)  # which it is
    assert not torch.equal(called.images, sample(flow, 2, steps=2).images)
    for run_folder, named in ((out, address), (tmp_path / "called", "lazy")):
        assert RunFolder.open(run_folder).settings["settings"]["solver"] == named
        assert "{me2026lazy," in cited(capsys, run_folder)


# ---- judges --------------------------------------------------------------------------------------------------------


def test_a_judge_of_ones_own_measures_pictures(
    mine: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"{mine}:sharpness"
    live = registry.load_attribute(address, "judge")
    quick = ["--steps", 3, "--n", 1, "--out", tmp_path / "typed"]
    assert run("generate", TOY, "--class", "dragon", "--recipe", "das", *quick, "--judge", address) == 0
    (tmp_path / "mine.toml").write_text(
        f'# mine\ntask = "generate"\n[ascent]\nsteps = 3\n[judging]\njudges = ["{address}"]\n'
    )
    written = generate(TOY, "dragon", 1, str(tmp_path / "mine.toml"), out=tmp_path / "written")
    called = generate(TOY, "dragon", **{**QUICK, "judges": [live]}, out=tmp_path / "called")
    of_flow = sample(place / "flow", 2, steps=2, judges=[live], out=tmp_path / "sampled")
    assert run("sample", place / "flow", "--n", 2, "--steps", 2, "--judge", address, "--out", tmp_path / "flow") == 0
    for result in (written, called, of_flow):
        assert abs(result.measures["images"]["sharpness"]["sharpness"] - live(result.images)["sharpness"]) < 1e-6
    kept = {way: RunFolder.open(tmp_path / way) for way in ("typed", "written", "called", "sampled", "flow")}
    assert kept["typed"].measures["images"]["sharpness"] == called.measures["images"]["sharpness"]
    assert kept["flow"].measures["images"]["sharpness"] == of_flow.measures["images"]["sharpness"]
    for way, folder in kept.items():
        assert ("sharpness" if way == "called" else address if way != "sampled" else "sharpness") in (
            folder.path / "recipe.toml"
        ).read_text()
        assert "{me2026sharpness," in cited(capsys, folder.path)
    with pytest.raises(UserError, match=r"words' gives a str; return a number, or a dict of numbers"):
        generate(TOY, "dragon", **{**QUICK, "judges": [f"{mine}:words"]})


# ---- mistakes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("task", "flag", "given", "says"),
    [
        ("pretrain", "--path", "FILE:no_path", r"path 'no_path' gives a Tensor for t \(B,\); return"),
        ("pretrain", "--path", "FILE:column", r"path 'column' gives a PathWeights for t \(B,\); return .* \(B,\)"),
        ("pretrain", "--path", "FILE:upside_down", "path 'upside_down' fails: ZeroDivisionError: by nothing"),
        ("pretrain", "--path", "FILE:sin", "has no function 'sin'; type sine"),
        ("pretrain", "--coupling", "FILE:short", r"coupling 'short' gives \(7,\) torch.int64 for 8 pictures; return"),
        ("pretrain", "--coupling", "FILE:twice", r"coupling 'twice' gives \(8,\) .* a permutation of 0..7"),
        ("pretrain", "--coupling", "FILE:no_path", "coupling 'no_path' fails: TypeError: "),
        ("finetune", "--head", "FILE:narrow_head", r"head 'narrow_head' gives a tensor \(1, 9\) .* to \(B,10\)"),
        ("finetune", "--head", "FILE:wide_head", "head 'Linear' fails: RuntimeError: mat1 and mat2"),
        ("finetune", "--head", "FILE:no_head", "head 'no_head' gives a NoneType; return a torch.nn.Module"),
        ("finetune", "--coupling", "FILE:short", r"coupling 'short' gives \(7,\) torch.int64 for 8 pictures; return"),
        ("sample", "--solver", "eulre", "solver 'eulre' is not known; type euler"),
        ("sample", "--solver", "FILE:loose", "loose' is not a Solver; decorate it with @fixed_grid"),
        ("sample", "--judge", "FILE:sharpnes", "has no function 'sharpnes'; type sharpness"),
    ],
)
@pytest.mark.slow
def test_a_part_of_ones_own_that_does_not_fit_is_refused_in_one_line(
    mine: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    task: str, flag: str, given: str, says: str,
) -> None:  # fmt: skip
    first = {
        "pretrain": [place / "flow.toml", "--data", "digits"],
        "finetune": [place / "flow", "--data", "digits", "--recipe", place / "classifier.toml"],
        "sample": [place / "flow", "--n", 1, "--steps", 1],
    }[task]
    line = refused(capsys, task, *first, flag, given.replace("FILE", mine), "--out", tmp_path / "out")
    assert re.search(says, line), line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("given", ["FILE:Dim", "pretrane", Pixels])
def test_a_task_is_not_taken_from_outside(mine: str, given: object) -> None:
    asked = given.replace("FILE", mine) if isinstance(given, str) else given
    with pytest.raises(UserError, match="is not known, and none is taken from outside; type ") as error:
        work_of(asked)
    assert "\n" not in str(error.value)


def test_what_changes_its_arguments_is_refused_before_others_see_them(mine: str, tmp_path: Path) -> None:
    says = r"changes what it is given; work on a copy, such as .*\.clone\(\)"
    with pytest.raises(UserError, match=f"judge 'blackened' {says}"):
        generate(TOY, "dragon", **{**QUICK, "judges": [f"{mine}:blackened", f"{mine}:sharpness"]})
    small = {"net": "unet-tiny", "steps": 1, "batch": 8, "validation": 8, "workers": 0, "out": tmp_path / "no"}
    for kind, name in (("path", "stretched"), ("coupling", "centred")):
        with pytest.raises(UserError, match=f"{kind} {name!r} {says}"):
            pretrain("digits", **{kind: f"{mine}:{name}"}, **small)


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


def test_a_name_of_the_package_is_not_taken_by_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "my.py"
    text = """from bothways.numerics.solvers import fixed_grid
from bothways.registry import register


@register({}, help="mine")
@fixed_grid(calls=1, order=1)
def own(v, state, t, h):
    return state
"""
    before = registry.find("solver", "euler").factory
    file.write_text(text.format('"solver", "euler"'))
    with pytest.raises(UserError, match="solver 'euler' is the package's own; give yours another name"):
        registry.find("solver", f"{file}:own")
    assert registry.find("solver", "euler").factory is before
    file.write_text(text.format('"solvr", "mine"'))
    with pytest.raises(UserError, match="there is no kind 'solvr'; type solver"):
        registry.find("solver", f"{file}:own")
