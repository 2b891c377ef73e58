"""bothways reproduce: the verdicts on closed cases, the recipes, the list, and a tiny table from end to end."""

from __future__ import annotations

import json
import math
import re
import shlex
import typing
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import bothways
from bothways import UserError, registry
from bothways.cli.arguments import repeat_flags
from bothways.cli.commands import _parsed, command_of
from bothways.tasks.recipes import configure
from bothways.tasks.reproduce import recipe as recipes
from bothways.tasks.reproduce.claims import Bounds, combined, interval_at, judged, number_at, quantity
from bothways.tasks.reproduce.listing import listed
from bothways.tasks.reproduce.wording import typed
from bothways.tasks.scorecard.result import ScorecardFile
from bothways.tasks.shelf import work_of
from command import refused, run

T2 = 4.302652729749464  # the upper 2.5 % point of Student's t with 2 degrees of freedom
REACH = T2 / math.sqrt(3)  # of the mean of 1, 2, 3, whose deviation is 1
OPEN = "open"  # a place whose key no schema names
CARD = "scorecard/quantities/name=DSF, the paper's"
WRITTEN = {  # places of that kind that no kept line may have, but that the tasks write
    ("diagnose", "flow/straightness/total"),  # tests/tasks/test_diagnose.py
    ("finetune", "cost/stages/training"),  # the stage of tasks/finetune/run.py
    *(("scorecard", f"{CARD}/auroc/{name}/0") for name in ("noise 0.1", "noise 0.5", "blur 1.5")),  # damage.py
    ("scorecard", f"{CARD}/cosine/0.1/0"),
}


# ---- the verdict ---------------------------------------------------------------------------------------------------


def test_the_interval_is_students_over_seeds() -> None:
    value, low, high = judged([1.0, 2.0, 3.0], Bounds(above=0.0)).ours
    assert max(abs(value - 2), abs(low - (2 - REACH)), abs(high - (2 + REACH))) < 1e-12


def test_a_quotient_has_the_interval_of_its_logarithm() -> None:
    value, low, high = quantity([2.0, 4.0, 8.0], "ratio")
    assert abs(value - 4) < 1e-12
    assert max(abs(high / (4 * 2**REACH) - 1), abs(low / (4 * 2**-REACH) - 1)) < 1e-12
    assert math.isnan(quantity([1.0, -1.0, 1.0], "ratio").value)


@pytest.mark.parametrize(
    ("paper", "within", "verdict"),
    [
        (2.0, 3.0, "reproduced"),  # the interval is -0.48 to 4.48
        (2.0, 1.0, "undecided"),  # it holds the paper's number, and too much else
        (5.0, 1.0, "undecided"),  # it reaches into the band
        (10.0, 1.0, "not reproduced"),
        (-10.0, 1.0, "not reproduced"),
    ],
)
def test_a_number_of_the_paper(paper: float, within: float, verdict: str) -> None:
    found = judged([1.0, 2.0, 3.0], Bounds(paper, within))
    assert found.verdict == verdict
    if verdict == "not reproduced":
        assert ("below" if paper > 0 else "above") in found.why


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([1.0, 2.0, 3.0], "undecided"),  # the interval passes 0, though every seed is above
        ([1.9, 2.0, 2.1], "reproduced"),
        ([-1.9, -2.0, -2.1], "not reproduced"),
        ([0.0, 0.0, 0.0], "undecided"),  # no difference is neither
        ([0.5, 0.5, 0.5], "undecided"),  # of 0, .5 and 1 three seeds are often alike by chance
        ([0.83 - 0.82, 0.73 - 0.72, 0.6 - 0.59], "undecided"),  # alike but for rounding
    ],
)
def test_an_order(values: list[float], verdict: str) -> None:
    assert judged(values, Bounds(above=0.0)).verdict == verdict
    mirrored = judged([-value for value in values], Bounds(below=0.0))
    assert mirrored.verdict == verdict


@pytest.mark.parametrize("how", ["mean", "share", "difference", "ratio"])
def test_seeds_that_all_give_the_same_number_have_no_interval(how: str) -> None:
    found = judged([0.25, 0.25, 0.25], Bounds(above=0.1), how)
    assert (found.verdict, found.seeds, found.ours.value) == ("undecided", 3, 0.25)
    assert math.isnan(found.ours.low)
    assert math.isnan(found.ours.high)
    assert "no spread" in found.why


def test_fewer_than_three_seeds_give_no_verdict() -> None:
    assert judged([2.0], Bounds(2.0, 0.1)).verdict == "agrees, one seed"
    assert judged([2.0], Bounds(3.0, 0.1)).verdict == "disagrees, one seed"
    assert judged([2.0, 2.0], Bounds(above=0.0)).verdict == "agrees, 2 seeds"
    assert judged([0.0], Bounds(above=0.0)).verdict == "disagrees, one seed"
    assert judged([2.0], Bounds(2.0, 0.1), over_pictures=(1.5, 2.5)).ours == (2.0, 1.5, 2.5)


def test_a_missing_seed_leaves_a_claim_unmeasured() -> None:
    assert judged([2.0, None, 2.0], Bounds(2.0, 1.0)).verdict == "not measured"
    assert judged([2.0, math.nan, 2.0], Bounds(2.0, 1.0)).verdict == "not measured"
    found = judged([None, None, None], Bounds(above=0.0))
    assert (found.verdict, found.seeds) == ("not measured", 0)


def test_a_quotient_without_a_logarithm_is_said_to_be_one() -> None:
    found = judged([2.0, -1.0, 3.0], Bounds(above=1.0), "ratio")
    assert (found.verdict, found.why) == ("not measured", "a quotient that is not above 0 has no mean logarithm")
    assert judged([None, None], Bounds(above=1.0), "ratio").why == "no run gave this number"


def test_what_is_unlike_the_paper_is_not_set_beside_its_number() -> None:
    values = [1.9, 2.0, 2.1]
    found = judged(values, Bounds(2.0, 1.0), unlike="other pictures")
    assert (found.verdict, found.why) == ("not comparable", "other pictures")
    assert judged(values, Bounds(above=0.0), unlike="other pictures").verdict == "reproduced"  # an order can be
    assert judged(values, Bounds()).verdict == "not comparable"
    assert judged(values, Bounds()).ours.value == pytest.approx(2.0)


def test_numbers_of_one_seed_are_combined() -> None:
    assert combined(3.0, 2.0, "difference") == 1.0
    assert combined(3.0, 2.0, "ratio") == 1.5
    assert combined(3.0, None, "mean") == 3.0
    assert [combined(None, 1.0, "difference"), combined(1.0, None, "ratio"), combined(1.0, 0.0, "ratio")] == [None] * 3


def test_places_of_measures() -> None:
    rows = [{"steps": 2, "value": 0.5, "low": 0.4, "high": 0.6}, {"steps": 10, "value": 0.7}]
    judge = {"judge": "a:b", "hit_rate": 0.25, "hit_interval": [0.1, 0.5], "kernel": True}
    measures = {"curves": {"steps": rows}, "judges": [judge], "auroc": {"noise 0.1": [0.9, 0.8, 1.0]}}
    assert number_at(measures, "curves/steps/steps=10/value") == 0.7
    assert number_at(measures, "auroc/noise 0.1/0") == 0.9
    assert number_at(measures, "judges/judge=a:b/hit_rate") == 0.25
    missing = ("curves/steps/steps=3/value", "curves/steps/7/value", "judges/judge=a:b/kernel", "curves", "x/y")
    assert [number_at(measures, place) for place in missing] == [None] * len(missing)
    assert interval_at(measures, "curves/steps/0/value") == (0.4, 0.6)
    assert interval_at(measures, "judges/0/hit_rate") == (0.1, 0.5)
    assert interval_at(measures, "curves/steps/1/value") is None


# ---- the recipes ---------------------------------------------------------------------------------------------------


def place_in(kind: Any, parts: list[str]) -> str:
    """Whether a schema has a place: "there", "open" where no key is named, "" where it has none."""
    if typing.get_origin(kind) is typing.Annotated:
        return place_in(typing.get_args(kind)[0], parts)
    inner = typing.get_args(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        named = {field.alias or name: field.annotation for name, field in kind.model_fields.items()}
        return place_in(named[parts[0]], parts[1:]) if parts and parts[0] in named else ""
    if typing.get_origin(kind) in (list, tuple):
        rest = [one for one in inner if one is not Ellipsis]
        return max((place_in(one, parts[1:]) for one in rest), default="") if parts else ""
    if typing.get_origin(kind) is dict:
        literal = typing.get_origin(inner[0]) is typing.Literal
        if not parts or (literal and parts[0] not in typing.get_args(inner[0])):
            return ""
        below = place_in(inner[1], parts[1:])
        return below if literal or not below else OPEN
    if inner:  # a union
        return max((place_in(one, parts) for one in inner), default="")
    if kind is Any:
        return OPEN
    return "there" if not parts and kind in (int, float) else ""


def schema_of(task: str) -> Any:
    module = import_module(registry.entries("task")[task].module.removesuffix(".config") + ".run")
    return typing.get_type_hints(module.prepare)["return"].schema


def place_of_task(task: str, place: str) -> str:
    if task == "scorecard":
        return place_in(ScorecardFile, place.split("/")[1:]) if place.startswith("scorecard/") else ""
    return place_in(schema_of(task), place.split("/"))


def test_a_place_that_a_task_does_not_measure_is_found() -> None:
    assert place_of_task("evaluate", "evaluation/clean/top1/value") == "there"
    assert place_of_task("evaluate", "evaluation/clean/top2/value") == ""
    assert place_of_task("evaluate", "evaluation/clean/top1") == ""
    assert place_of_task("finetune", "classifier/accuracy") == "there"
    assert place_of_task("diagnose", "flow/straightness/total") == OPEN
    assert place_of_task("likelihood", "flow/likelihood/given_noise/nats_per_dim") == "there"
    assert place_of_task("likelihood", "flow/bits/bits_per_dim") == ""
    assert place_of_task("scorecard", "scorecard/quantities/name=x/auroc/noise 0.1/0") == OPEN


def kept() -> list[dict[str, Any]]:
    path = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "reproduced.jsonl"
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def measured_places() -> set[tuple[str, str]]:
    """(task, place) of every number that a kept line has."""
    found = set()
    for row in kept():
        recipe = recipes.read(row["name"])
        tasks = {one.name: one.task for one in recipe.runs(row["form"])}
        for claim in recipe.claims(row["form"]):
            if any(one["ours"] is not None for one in row["claims"] if one["measure"].startswith(claim.measure)):
                found |= {(tasks[name], place) for name, place in claim.references}
    return found


@pytest.mark.parametrize("name", recipes.names())
def test_every_run_is_valid_and_every_claim_is_of_a_measure(name: str) -> None:
    """Of both forms, without data: the settings of every run, and the place of every number."""
    recipe, seen = recipes.read(name), measured_places() | WRITTEN
    for form in recipes.FORMS:
        inputs = dict.fromkeys(recipes.inputs_of(recipe, form), "path/to/it")
        made = recipes.made_of(recipe, form, inputs, "cuda", Path("runs"))
        assert len({one.folder for one in made}) == len(made)  # a seed that changes nothing is no seed
        assert bool(made) != bool(recipe.form(form).absent)
        tasks = {one.name: one.task for one in made}
        for claim in recipe.claims(form):
            for run_name, place in claim.references:
                where = place_of_task(tasks[run_name], place)
                assert where, f"{name}: {tasks[run_name]} has no {place}"
                assert where != OPEN or (tasks[run_name], place) in seen, f"{name}: no run gave {place}"
        assert all(len(one.seeds) >= 3 for one in recipe.runs(form) if one.name in used(recipe, form))
        assert recipe.claims(form) or recipe.form(form).absent
    assert recipe.full.takes
    assert recipe.small.takes or recipe.small.absent


@pytest.mark.parametrize("task", sorted({run.task for name in recipes.names() for run in recipes.read(name).run}))
@pytest.mark.slow
def test_a_run_is_typed_as_its_settings_are(task: str) -> None:
    """The line of every run that is shown, read by the command line, gives the same settings."""
    kind, command = registry.find("task", task).factory, command_of(task)
    for name in recipes.names():
        recipe = recipes.read(name)
        for form in recipes.FORMS:
            inputs = dict.fromkeys(recipes.inputs_of(recipe, form), "a b")
            for one in recipes.made_of(recipe, form, inputs, "cuda", Path("runs")):
                if one.task != task or one.seed:
                    continue
                words = shlex.split(typed(one))[2:]
                context = command.make_context(task, repeat_flags(command, words))
                parsed = _parsed(task, kind, dict(context.params)).values
                read = configure(kind, **{key: value for key, value in parsed.items() if value is not None})
                assert read.model_dump() == configure(kind, **one.given).model_dump(), typed(one)


EXTRAS = {  # of an address in the settings of a run: the extra that it needs
    r"\btimm:": "timm",
    r"\b(hf|clip):": "hf",
    r"\bopen_clip:": "open-clip",
    r"\bimagenet:": "imagenet",
    r"'digits'": "digits",
}


def test_the_list_names_the_extras_and_the_inputs_of_every_form() -> None:
    for row in listed():
        recipe = recipes.read(row["name"])
        settings = str([run.settings for run in recipe.runs(row["form"])])
        extras = {name for pattern, name in EXTRAS.items() if re.search(pattern, settings)}
        named = re.search(r"the extras? ([\w-]+(?: and [\w-]+)*)", row["needs"])
        assert set(named[1].split(" and ") if named else []) == extras, (row["name"], row["form"])
        assert re.findall(r"--with ([\w-]+)=", row["needs"]) == recipes.inputs_of(recipe, row["form"])


def used(recipe: recipes.Recipe, form: str) -> set[str]:
    """The runs that a claim is on."""
    return {name for claim in recipe.claims(form) for name, _ in claim.references}


def test_a_small_form_never_judges_a_number_of_a_paper() -> None:
    """As docs/reproduce.md says of them."""
    for recipe in map(recipes.read, recipes.names()):
        assert recipe.small.unlike or all(claim.paper is None for claim in recipe.claims("small")), recipe.title


def test_a_small_form_by_another_recipe_than_the_papers_says_so() -> None:
    for recipe in map(recipes.read, recipes.names()):
        ours = any(run.settings.get("recipe") in ("das", "dsf") for run in recipe.runs("small"))
        assert not ours or re.search(r"Small: .*\b(our|ours)\b|Our recipe .* in both forms", recipe.reading), (
            recipe.title
        )


def test_the_three_papers_have_their_tables() -> None:
    papers = {name: recipes.read(name).paper for name in recipes.names()}
    assert {name: name.split("-")[0].upper() for name in papers} == papers
    assert set(papers.values()) == set(recipes.PAPERS)


def test_the_table_of_the_docs_is_one(tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "reproduce.md").read_text("utf-8")
    (block,) = re.findall(r"^```toml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "mine.toml").write_text(block, "utf-8")
    recipe = recipes.read(str(tmp_path / "mine.toml"))
    made = recipes.made_of(recipe, "small", {}, None, Path("runs"))
    assert [(one.name, one.seed) for one in made] == [(name, k) for name in ("flow", "walked") for k in range(3)]
    assert made[4].given["flow"] == f"runs/{made[1].folder}"
    for claim in recipe.claims("small"):
        assert place_of_task("finetune", claim.references[0][1]) == "there"


def test_the_list(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("reproduce", "--list", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["name"], row["form"]) for row in rows] == [(n, f) for n in recipes.names() for f in ("small", "full")]
    assert all(row["takes"] and row["where"] for row in rows)
    assert list(tmp_path.iterdir()) == []
    assert len(bothways.reproduce(listed=True)) == len(rows)
    assert bothways.reproduce("prg-beta", listed=True) == [row for row in rows if row["name"] == "prg-beta"]
    assert "no table or figure 'prg-bta'; type prg-beta" in refused(capsys, "reproduce", "prg-bta", "--list")
    assert list(tmp_path.iterdir()) == []


# ---- from end to end -----------------------------------------------------------------------------------------------

NET = "network = { width = 8, multiples = [1, 2], blocks = 1, attention = [], patch = 2 }"
TRAINED = f'data = "digits", batch = 8, validation = 16, workers = 0, {NET}'
TINY = f"""
task = "reproduce"
title = "A tiny table"
paper = "PRG"
where = "no table"

[inputs]
mine = "pictures"

[small]
unlike = "a step of training"

[[run]]
name = "one"
task = "pretrain"
form = "small"
with = {{ recipe = "icfm", steps = 1, {TRAINED} }}

[[run]]
name = "two"
task = "pretrain"
form = "small"
seeds = [0]
with = {{ recipe = "icfm", steps = 2, init = "@one", {TRAINED} }}

[[run]]
name = "full"
task = "pretrain"
form = "full"
with = {{ recipe = "icfm", data = "$mine" }}

[[expect]]
claim = "the loss is 1"
form = "small"
measure = "one: flow/validation_loss"
paper = 1.0
within = 0.1

[[expect]]
claim = "the loss is above nothing"
form = "small"
measure = "one: flow/validation_loss"
above = 0.0

[[expect]]
claim = "one seed"
form = "small"
measure = "two: flow/validation_loss"
minus = "one: flow/validation_loss"
below = 100.0
"""


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(TINY, "utf-8")
    return tmp_path


@pytest.mark.slow
def test_a_table_from_end_to_end(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("reproduce", "tiny.toml", "--out", "out") == 0
    printed = capsys.readouterr().out
    folder = tiny / "out" / "tiny-small"
    found = json.loads((folder / "measures.json").read_text("utf-8"))["reproduction"]
    assert [one["verdict"] for one in found["claims"]] == ["not comparable", "reproduced", "agrees, one seed"]
    flows = sorted((tiny / "out" / "runs").glob("pretrain-*"))
    assert len(flows) == 4
    losses = [json.loads((Path(one["folder"]) / "measures.json").read_text("utf-8"))["flow"]["validation_loss"]
              for one in found["runs"]]  # fmt: skip
    assert found["claims"][0]["values"] == losses[:3]
    assert abs(found["claims"][0]["ours"] - sum(losses[:3]) / 3) < 1e-12
    assert abs(found["claims"][2]["ours"] - (losses[3] - losses[0])) < 1e-12
    assert found["runs"][0]["command"].startswith(
        "bothways pretrain icfm --set fit.steps=1 --data digits --set fit.batch=8"
    )
    assert "not comparable" in printed
    page = (folder / "report.html").read_text("utf-8")
    assert "Ours beside the paper" in page
    assert "a step of training" in page

    before = {flow: (flow / "flow.safetensors").stat().st_mtime_ns for flow in flows}
    again = bothways.reproduce("tiny.toml", out="out")  # nothing is made again
    assert {flow: (flow / "flow.safetensors").stat().st_mtime_ns for flow in flows} == before
    assert again["claims"] == found["claims"]
    (tiny / "tiny.toml").write_text(TINY.replace("steps = 2", "steps = 3"), "utf-8")
    bothways.reproduce("tiny.toml", out="out")  # another setting is another run
    assert len(sorted((tiny / "out" / "runs").glob("pretrain-*"))) == 5
    assert {flow: (flow / "flow.safetensors").stat().st_mtime_ns for flow in flows} == before


@pytest.mark.slow
def test_a_run_that_fails_ends_nothing_but_its_claims(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = TINY.replace('init = "@one"', 'init = "nowhere"')
    (tiny / "tiny.toml").write_text(broken, "utf-8")
    assert run("reproduce", "tiny.toml", "--out", "out") == 1
    out, err = capsys.readouterr()
    assert "two, seed 0: " in out
    assert "1 of 4 runs failed" in err
    found = json.loads((tiny / "out" / "tiny-small" / "measures.json").read_text("utf-8"))["reproduction"]
    assert [one["verdict"] for one in found["claims"]][1:] == ["reproduced", "not measured"]
    assert found["failed"] == 1


def test_what_a_run_reads_is_named_where_that_failed_and_a_message_stands_once(
    tiny: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tiny / "tiny.toml").write_text(TINY.replace('data = "digits"', 'data = "nowhere"'), "utf-8")
    assert run("reproduce", "tiny.toml", "--out", "out") == 1
    out, err = capsys.readouterr()
    told = out.replace("\n", " ")
    assert "one, seed 0, and 2 more: data 'nowhere' does not exist" in told
    assert told.count("'nowhere'") == 1
    assert "two, seed 0: not made: it reads one, seed 0, which failed" in told
    assert "4 of 4 runs failed" in err


def test_a_stopped_one_goes_on_by_resume_alone(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the line at a stop says; without the name it was refused."""
    assert "no reproduction is there to resume; type bothways reproduce NAME" in refused(
        capsys, "reproduce", "--resume"
    )
    (tiny / "other.toml").write_text(TINY.replace("A tiny table", "Another"), "utf-8")
    work_of("reproduce", "other.toml", inputs=[], out="out")
    frames = work_of("reproduce", "tiny.toml", device="cpu", out="out").run()
    next(frames)
    frames.close()
    status = tiny / "out" / "tiny-small" / "status.json"
    assert "type --resume to continue" in status.read_text("utf-8")
    again = work_of("reproduce", resume=True, out="out")
    assert (again.recipe.title, again.config.device) == ("A tiny table", "cpu")
    assert (again.done, again.steps) == (1, 4)


# ---- errors of one line --------------------------------------------------------------------------------------------


def test_mistakes_of_the_command(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "name is missing; type bothways reproduce NAME, or --list" in refused(capsys, "reproduce")
    assert "no table or figure 'prg-frosen'; type prg-frozen" in refused(capsys, "reproduce", "prg-frosen")
    said = refused(capsys, "reproduce", "tiny.toml", "--full")
    assert "the full form needs mine, pictures; type --with mine=ADDRESS" in said
    assert "--with 'x': type NAME=ADDRESS" in refused(capsys, "reproduce", "tiny.toml", "--with", "x")
    said = refused(capsys, "reproduce", "tiny.toml", "--with", "x=y")
    assert "--with x: it has no such input; type one of mine" in said
    said = refused(capsys, "reproduce", "tiny.toml", "--with", "mine=pictures")
    assert "--with mine: the small form does not take it; type --full, or leave it out" in said
    said = refused(capsys, "reproduce", "tiny.toml", "--full", "--with", "mine=./nowhere")
    assert "--with mine=./nowhere: nothing is there; type a path" in said
    said = refused(capsys, "reproduce", "nowhere.toml")
    assert "nowhere.toml is not there; type the path of a .toml file, or a name that --list has" in said
    said = refused(capsys, "reproduce", "tiny.toml", "--device", "gpu7")
    assert "device 'gpu7' is not available" in said
    said = refused(capsys, "reproduce", "das-prompt")
    assert "das-prompt has no small form: no model that reads text comes with the package" in said
    assert not (tiny / "runs").exists()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('measure = "one: flow/validation_loss"\npaper', 'measure = "nine: flow/x"\npaper', "names no run of the form"),
        ('measure = "one: flow/validation_loss"\npaper', 'measure = "one"\npaper', "write RUN: PLACE"),
        ("within = 0.1", "", "paper needs within"),
        ("within = 0.1", "within = 0.1\nabove = 2.0", "not both"),
        ('"@one"', '"@nine"', "@nine, which is not an earlier run"),
        ('"$mine"', '"$other"', "$other, which is not an input"),
        ("seeds = [0]", "seeds = [0, 3]", "'one' has no seed 3 of 'two'; give both the same seeds"),
        ('name = "two"', 'name = "one"', "are called 'one'"),
        ('where = "no table"', 'wher = "no table"', "where: Field required"),
        ('paper = "PRG"', 'paper = "GAN"', "paper: Input should be"),
        ("steps = 1,", "steps = 0,", "steps=0"),
        ('task = "pretrain"\nform = "full"', 'task = "draw"\nform = "full"', "task 'draw' is not known"),
    ],
)
def test_mistakes_of_a_recipe(tiny: Path, old: str, new: str, said: str) -> None:
    assert old in TINY
    (tiny / "tiny.toml").write_text(TINY.replace(old, new, 1), "utf-8")
    with pytest.raises(UserError) as error:
        bothways.reproduce("tiny.toml", out="out")
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert not (tiny / "out").exists()
