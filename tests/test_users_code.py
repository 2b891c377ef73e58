"""A user's own functions that raise, leave, or give something else: one line with the file, the place and the words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bothways import RunError, UserError
from bothways.faults import told, users_code
from bothways.registry import load_attribute
from command import refused, run
from small_flow import write_small_flow

TOY = f"{Path(__file__).resolve().parent / 'toy_model.py'}:build"
MINE = """
import sys
import torch
from bothways import ModelSpec
from bothways.numerics.solvers import fixed_grid
from bothways.synthesis.objectives.base import Objective
from bothways.synthesis.objectives.terms import IMAGE, Term
from bothways.synthesis.parameterizations import Canvas
from bothways.synthesis.parameterizations.pixels import Pixels
from bothways.types import PathWeights
from dataclasses import replace
from toy_model import seeded, spec as whole_spec


def spec():
    return replace(whole_spec(), feature_layer=None)


def worded(images):
    return "a text"


def bad_key(*_, **__):
    return {}["size"]


def bad_index(*_, **__):
    return [][3]


def lines(*_, **__):
    raise OSError("first\\nsecond\\n\\x1b[31mthird")


def leaves(*_, **__):
    sys.exit()


def leaves_with(*_, **__):
    sys.exit("good bye")


def nothing(*_, **__):
    return None


def text(*_, **__):
    return "a text"


def one_number(images):
    return images.mean()


def whole(images):
    return (images.mean((1, 2, 3)) * 9).long()


def detached(images):
    return images.detach().mean((1, 2, 3))


def by_numpy(images):
    return torch.from_numpy(images.detach().numpy().mean((1, 2, 3)))


def not_a_number(images):
    return images.mean((1, 2, 3)) * float("nan")


def printing(images):
    print("I print, and so does {")
    return images.mean((1, 2, 3))


def raises_key(images):
    return images.mean((1, 2, 3)) * {}["size"]


def on_meta(images):
    return images.to("meta").mean((1, 2, 3))


class NoTerms(Objective):
    role = "image"

    def terms(self, to):
        return None


class NoTerm(NoTerms):
    def terms(self, to):
        return [lambda seen, pictures: seen[IMAGE].mean((1, 2, 3))]


class OneNumber(NoTerms):
    def terms(self, to):
        return [Term("all at once", lambda seen, pictures: seen[IMAGE].mean())]


class NoValue(NoTerms):
    def terms(self, to):
        return [Term("nothing", lambda seen, pictures: None)]


class NoFields(NoTerms):
    def terms(self, to):
        return []

    def fields(self, to):
        return [lambda x, t: x]


class CoreRaises(NoTerms):
    def terms(self, to):
        raise RuntimeError("a word of mine")


def two_view(seen, draws):
    return seen


class NotView:
    pass


class TwoView:
    def __call__(self, seen, draws):
        return seen


class NoBuild(Canvas):
    pass


class BuildsNone(Canvas):
    def build(self, start, place):
        return None


class BuildsOfOne(Canvas):
    def build(self, start):
        return Pixels(start, "tanh")


class BuildsBadly(Canvas):
    def build(self, start, place):
        raise NotImplementedError


def flat_view(seen, draws, t):
    return seen.flatten(0, 1)


def dead_view(seen, draws, t):
    return seen.detach()


def late(place):
    return float("nan")


def no_canvas(start):
    return start


class Still:
    def __init__(self, start):
        self.start = start

    def parameters(self):
        return []

    def canvas(self, change):
        return self.start

    def image(self):
        return self.start


def still(start):
    return Still(start)


@fixed_grid(calls=1, order=1)
def raising(v, state, t, h):
    return (state[0] * {}["h"],)


@fixed_grid(calls=1, order=1)
def whole_state(v, state, t, h):
    return (state[0].long(),)


@fixed_grid(calls=1, order=1)
def listed(v, state, t, h):
    return [state[0]]


@fixed_grid(calls=1, order=1)
def smaller(v, state, t, h):
    return (state[0][:, :1],)


def nan_path(t):
    return PathWeights(t * float("nan"), t, t, t)


def counted(width, classes):
    return classes


class Nan(torch.nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.classes = classes

    def forward(self, x):
        return x.new_full((len(x), self.classes), float("nan"))


def strange(images):
    return {"a": float("inf")}


class Forward(torch.nn.Module):
    def __init__(self, what, after=2):
        super().__init__()
        self.inner, self.what, self.after, self.calls = seeded(), what, after, 0

    def forward(self, x):
        self.calls += 1
        return self.inner(x) if self.calls <= self.after else self.what(self.inner(x))


def build_key():
    return Forward(bad_key, 0), spec()


def build_late():
    return Forward(bad_key), spec()


def build_leaves():
    return Forward(leaves), spec()


def build_dead():
    return Forward(lambda x: x.detach(), 0), spec()


def build_none():
    return Forward(nothing, 0), spec()
"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("users") / "mine.py"
    file.write_text(MINE)
    return file


def line_of(text: str, function: str) -> int:
    """The line of the first text after the start of a function."""
    rows = MINE.splitlines()
    start = next(k for k, row in enumerate(rows) if row.startswith(f"def {function}("))
    return next(k for k in range(start, len(rows)) if text in rows[k]) + 1


DRAW = ["--class", "0", "--recipe", "pixels", "--n", "1", "--steps", "2"]
BAD_KEY = "KeyError: 'size' (mine.py, line {bad_key}, in bad_key)"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["bad_key"], BAD_KEY),
        (["bad_index"], "IndexError: list index out of range (mine.py, line"),
        (["leaves"], "fails: SystemExit, since it calls sys.exit() (mine.py, line"),
        (["leaves_with"], "fails: SystemExit: good bye, since it calls sys.exit() (mine.py, line"),
        (["lines"], "OSError: first second"),
        (["nothing"], "must return (module, spec)"),
        (["text"], "must return (module, spec)"),
        (["build_key"], BAD_KEY),
        (["build_late"], BAD_KEY),
        (["build_leaves"], "SystemExit, since it calls sys.exit() (mine.py, line"),
        (["build_none"], "returns a NoneType"),
        (["build_dead"], "build_dead' gives values without a gradient; leave out of its forward what cuts it"),
        (["--objective", "bad_key"], BAD_KEY),
        (["--objective", "leaves"], "SystemExit, since it calls sys.exit() (mine.py, line"),
        (["--objective", "text"], "gave str for 1 pictures"),
        (["--objective", "one_number"], "gave () for 1 pictures"),
        (["--objective", "whole"], "gave torch.int64; return floats"),
        (["--objective", "detached"], "objective 'detached' gives values without a gradient"),
        (["--objective", "by_numpy"], "objective 'by_numpy' gives values without a gradient"),
        (["--objective", "raises_key"], "KeyError: 'size' (mine.py, line"),
        (["--objective", "on_meta"], "objective 'on_meta' gave values on meta for pictures on cpu"),
        (["--objective", "NoTerms"], "objective 'NoTerms': terms() gives None; return a list of Term"),
        (["--objective", "NoTerm"], "objective 'NoTerm': terms() gives list 1 of function; return a list of Term"),
        (["--objective", "OneNumber"], "objective 'all at once' gave () for 1 pictures; return one number per"),
        (["--objective", "NoValue"], "objective 'nothing' gave NoneType for 1 pictures"),
        (["--objective", "NoFields"], "objective 'NoFields': fields() gives list 1 of function; return a list of (F"),
        (["--objective", "CoreRaises"], "RuntimeError: a word of mine (mine.py, line"),
        (["--set", "views.mine.kind=two_view"], "takes (seen, draws); write it as (copies, draws, t)"),
        (["--set", "views.mine.kind=TwoView"], "takes (seen, draws); write it as (copies, draws, t)"),
        (["--set", "views.mine.kind=NotView"], "is a class without __call__; write __call__(self, copies, draws, t)"),
        (["--canvas", "NoBuild"], "canvas 'NoBuild' has no build(self, start, place); write one"),
        (["--canvas", "BuildsNone"], "gives a NoneType without parameters(); return a Parameterization"),
        (["--canvas", "BuildsOfOne"], "takes (start); write it as (start, place)"),
        (["--canvas", "BuildsBadly"], "NotImplementedError (mine.py, line"),
        (["--set", "views.mine.kind=bad_index"], "IndexError: list index out of range"),
        (["--set", "views.mine.kind=nothing"], "view 'nothing' gives a NoneType for (1, 1, 3, 16, 16)"),
        (["--set", "views.mine.kind=flat_view"], "view 'flat_view' gives a tensor (1, 3, 16, 16)"),
        (["--set", "views.mine.kind=dead_view"], "view 'dead_view' gives torch.float32 without a gradient"),
        (["--set", "schedule=bad_key"], BAD_KEY),
        (["--set", "schedule=late"], "schedule 'late' gives nan; return a finite number"),
        (["--set", "schedule=text"], "schedule 'text' gives a str; return a finite number"),
        (["--canvas", "bad_key"], BAD_KEY),
        (["--canvas", "no_canvas"], "gives a Tensor without parameters()"),
        (["--canvas", "still"], "parameters() gives no list of tensors that require a gradient"),
        (["--judge", "strange"], "gives a = inf; return finite numbers"),
        (["--judge", "raises_key"], "KeyError: 'size' (mine.py, line"),
        (["--judge", "worded"], "gives a str; return a number"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_a_drawing_says_it_in_a_line(capsys, mine: Path, tmp_path: Path, arguments: list[str], says: str) -> None:
    *own, last = arguments
    address = f"{last.partition('=')[0]}={mine}:{last.partition('=')[2]}" if "=" in last else f"{mine}:{last}"
    typed = ["generate", TOY, *DRAW, *own, address] if own else ["generate", address, *DRAW]
    capsys.readouterr()
    assert run(*typed, "--out", tmp_path / "run") == 2
    out, err = capsys.readouterr()
    said = [row for row in err.splitlines() if row.startswith("bothways: ")]
    assert len(said) == 1
    assert says.format(bad_key=line_of('{}["size"]', "bad_key")) in said[0]
    assert "Traceback" not in out + err
    if (tmp_path / "run").exists():
        status = json.loads((tmp_path / "run" / "status.json").read_text())
        assert status["state"] == "failed"
        assert says.format(bad_key=line_of('{}["size"]', "bad_key")).splitlines()[0] in status["message"]


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_flow(tmp_path_factory.mktemp("flow"), size=8)


@pytest.mark.parametrize(
    ("solver", "says"),
    [
        ("raising", "mine.py fails: KeyError: 'h' (mine.py, line"),
        ("listed", "solver 'listed' gives a list for a state ((1, 3, 8, 8)); return a tuple of tensors like it"),
        ("smaller", "solver 'smaller' gives ((1, 1, 8, 8)) for a state ((1, 3, 8, 8))"),
        ("whole_state", "solver 'whole_state' gives torch.int64 on cpu for a state of torch.float32 on cpu"),
        ("bad_key", "is not a Solver"),
    ],
)
def test_a_solver_says_it_in_a_line(capsys, mine: Path, flow: Path, tmp_path: Path, solver: str, says: str) -> None:
    typed = ["sample", flow / "flow.json", "--n", "1", "--steps", "2", "--solver", f"{mine}:{solver}"]
    assert run(*typed, "--out", tmp_path / "run") == 2
    out, err = capsys.readouterr()
    assert says in err
    assert "Traceback" not in out + err


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--path", "bad_key"], BAD_KEY),
        (["--path", "nan_path"], "gives values that are not finite for t = 0.25 and 0.75"),
        (["--path", "text"], "gives a str for t (B,)"),
        (["--coupling", "bad_key"], BAD_KEY),
        (["--coupling", "nothing"], "gives NoneType for"),
        (["--set", "fit.schedule=leaves"], "SystemExit, since it calls sys.exit() (mine.py, line"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_a_training_says_it_in_a_line(capsys, mine: Path, tmp_path: Path, given: list[str], says: str) -> None:
    flag, last = given
    own = f"{last.partition('=')[0]}={mine}:{last.partition('=')[2]}" if "=" in last else f"{mine}:{last}"
    typed = ["pretrain", "--data", "digits", "--steps", "2", "--batch", "8", "--workers", "0", flag, own]
    assert run(*typed, "--out", tmp_path / "run") == 2
    out, err = capsys.readouterr()
    assert says.format(bad_key=line_of('{}["size"]', "bad_key")) in err
    assert "Traceback" not in out + err


@pytest.mark.parametrize(
    ("head", "says"), [("bad_index", "IndexError"), ("counted", "gives a int"), ("Nan", "not finite")]
)
def test_a_head_says_it_in_a_line(mine: Path, head: str, says: str) -> None:
    from bothways.representation.heads import built_head, head_of

    with pytest.raises(UserError, match=says) as caught:
        built_head(head_of(f"{mine}:{head}"), torch.zeros(1, 4), 3)
    assert "\n" not in str(caught.value)


def test_a_head_that_can_never_be_built_says_it_in_a_line() -> None:
    from bothways.representation.heads import built_head

    for head, features, says in (
        (torch.nn.Linear(4, 3), torch.zeros(1, 4), "'Linear' is a module already; give what builds one"),
        (lambda d, k: torch.nn.Linear(d, k, device="meta"), torch.zeros(1, 4), "parameters on meta, which have no"),
        (torch.nn.Linear, torch.full((1, 4), torch.nan), "the features that the head reads are not finite; look at"),
    ):
        with pytest.raises(UserError, match=says):
            built_head(head, features, 3)


def test_what_no_objective_looks_at_says_it_too(capsys, mine: Path, tmp_path: Path) -> None:
    typed = ["generate", f"{mine}:build_dead", "--class", "0", "--recipe", "dsf", "--n", "1", "--steps", "1"]
    assert run(*typed, "--out", tmp_path / "run") == 2
    assert "gives values without a gradient; leave out of its forward" in capsys.readouterr().err


def test_an_objective_that_is_not_a_number_is_named_with_its_step(capsys, mine: Path, tmp_path: Path) -> None:
    typed = ["generate", TOY, *DRAW, "--objective", f"{mine}:not_a_number", "--out", tmp_path / "run"]
    assert run(*typed) == 1
    assert "the not_a_number is not finite at step 1; the last good pictures are kept" in capsys.readouterr().err


def test_what_a_function_prints_is_no_part_of_the_json(capsys, mine: Path, tmp_path: Path) -> None:
    typed = ["generate", TOY, *DRAW, "--objective", f"{mine}:printing", "--json", "--out", tmp_path / "run"]
    assert run(*typed) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)
    assert "I print" in err


def test_a_file_that_does_not_compile_says_the_line(capsys, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import torch\n\ndef build(:\n    pass\n")
    assert "SyntaxError" in (said := refused(capsys, "generate", f"{tmp_path}/mine.py:build", *DRAW))
    assert "line 3" in said


def test_only_a_users_file_is_blamed(mine: Path) -> None:
    function = load_attribute(f"{mine}:bad_key", "model")
    with (
        pytest.raises(
            UserError, match=r"mine.py fails: KeyError: 'size' \(mine.py, line \d+, in bad_key\); mend it"
        ) as caught,
        users_code(),
    ):
        function()
    assert isinstance(caught.value.__cause__, KeyError)  # which a traceback in Python shows whole
    with pytest.raises(KeyError), users_code():
        raise KeyError("ours")
    with pytest.raises(SystemExit), users_code():
        raise SystemExit(3)
    with pytest.raises(RunError, match="mine"), users_code():
        raise RunError("mine")
    assert told(ValueError("x" * 1000)).endswith("x ...")
    assert told(ValueError()) == "ValueError"


@pytest.mark.parametrize(
    ("text", "flag", "says"),
    [
        (
            "from bothways.numerics.solvers import fixed_grid\n\n"
            "@fixed_grid(calls=1, order=1)\ndef one(v, state, t):\n    return state\n",
            "sample",
            "solver 'one' takes (v, state, t); write it as (v, state, t, h)",
        ),
        (
            "from bothways.synthesis.objectives.base import Objective\n\nclass one(Objective):\n    role = 'picture'\n",
            "generate",
            "objective 'one' has role 'picture'; give one of ('condition', 'score', 'image')",
        ),
    ],
)
def test_what_can_never_work_is_refused_where_it_is_defined(
    capsys, flow: Path, tmp_path: Path, text: str, flag: str, says: str
) -> None:
    (tmp_path / "own.py").write_text(text)
    given = {"sample": [flow, "--n", 1, "--solver"], "generate": [TOY, *DRAW, "--objective"]}[flag]
    assert says in refused(capsys, flag, *given, f"{tmp_path}/own.py:one", "--out", tmp_path / "run")
