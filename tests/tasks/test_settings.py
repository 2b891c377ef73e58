"""Recipes and configs: what may be given, and that what may not is refused in one line."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import pytest

import bothways
from bothways import UserError, registry
from bothways.cli.wording import setting_help
from bothways.configs import leaves, nested
from bothways.runs.citations import PAPERS, reference_of
from bothways.synthesis.parameterizations import canvas_settings
from bothways.synthesis.views import view_of
from bothways.tasks.generate.config import GenerateConfig, term_of
from bothways.tasks.generate.problem import objective_of
from bothways.tasks.pretrain.config import PretrainConfig
from bothways.tasks.recipes import configure, parsed_changes, read_recipe, recipe_folder, recipes

BAD: dict[str, Any] = {
    "n": 0,
    "seed": -1,
    "batch": 0,
    "group": 0,
    "layer": 3,
    "unconditional": "perhaps",
    "canvas.kind": "canvas",
    "canvas.size": 0,
    "canvas.border": -1,
    "canvas.squash": "logistic",
    "canvas.start": "black",
    "canvas.start_noise": -0.1,
    "canvas.start_photo": 3,
    "canvas.fill": "black",
    "views.copies": 0,
    "ascent.steps": -1,
    "ascent.optimizer": "lbfgs",
    "ascent.rms": 0,
    "ascent.rate": 0.0,
    "ascent.strength": 0,
    "ascent.schedule": "sometimes",
    "ascent.decay": 2,
    "ascent.grow": 2,
    "ascent.grow_from": 0.5,
    "ascent.final": -1,
    "ascent.step_noise": -1,
    "ascent.fixed_noise": -0.1,
    "ascent.clip": 0,
    "ascent.clip_by": "length",
    "ascent.normalize": 3,
    "ascent.smooth": "rather",
    "ascent.alpha": "perhaps",
    "sampling.kind": "kernel",
    "sampling.neighbours": 0,
    "sampling.share": 1.1,
    "sampling.width": -0.1,
    "sampling.unsure": 1.0,
    "sampling.temperature": -1,
    "sampling.shrinkage": 1.5,
    "models.dtype": 7,
    "models.device": 7,
    "judging.verdicts": "rather",
    "share.gif": "rather",
    "share.mp4": "rather",
    "share.sheet": "rather",
    "terms.class.weight": "much",
    "terms.text.weight": math.inf,
    "terms.class.kind": "beauty",
}
LIVE = {"model", "data", "weights"}  # anything may stand there until it is loaded
SEVERAL = {"classes", "prompts", "channels", "score", "condition", "objectives", "only", "judging.judges"}
BAD_OWN: list[tuple[str, str, dict[str, Any]]] = [
    ("objective", "variation", {"power": 0}),
    ("objective", "channel", {"channel": -1}),
    ("objective", "statistics", {"form": "all"}),
    ("objective", "embedding", {"layer": 3}),
    ("objective", "embedding", {"centred": "rather"}),
    ("objective", "nearness", {"reach": 0}),
    ("objective", "class", {"colour": "red"}),
    ("objective", "dsf", {"augmentation": 3}),
    ("canvas", "stack", {"engine": "steam"}),
    ("canvas", "stack", {"levels": "some"}),
    ("canvas", "stack", {"level_power": "high"}),
    ("canvas", "maco", {"spectrum": 3}),
    ("canvas", "pixels", {"levels": "all"}),
    ("view", "roll", {"reach": "far"}),
    ("view", "roll", {"speed": 1}),
]


def refused(call, *arguments, **keywords) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments, **keywords)
    assert "\n" not in str(error.value)
    return str(error.value)


def drawing(recipe: str = "das", **settings: Any) -> GenerateConfig:
    return configure(GenerateConfig, recipe=recipe, **settings)


def test_every_setting_has_a_bad_value_here() -> None:
    known = {".".join(place) for place, field in leaves(GenerateConfig) if not field.json_schema_extra["live"]}
    assert known - LIVE - SEVERAL - {"recipe"} == {name for name in BAD if not name.startswith("terms.")}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_value_is_refused_in_one_line(name: str) -> None:
    said = refused(drawing, **{name: BAD[name]})
    assert name in said or repr(BAD[name]) in said


@pytest.mark.parametrize(("kind", "name", "settings"), BAD_OWN)
def test_a_bad_setting_of_an_entry_is_refused_in_one_line(kind: str, name: str, settings: dict[str, Any]) -> None:
    if kind == "objective":
        said = refused(objective_of, drawing(terms={name: {"weight": 1.0, **settings}}))
    else:
        said = refused(canvas_settings, name, settings) if kind == "canvas" else refused(view_of, name, settings, 32)
    assert next(iter(settings)) in said


DRAWING = ["das", "das-paper", "dsf", "dsf-paper", "icons", "maco", "pixels", "sampled", "statistics-tv"]


@pytest.mark.parametrize("name", recipes())
def test_recipes_that_draw_are_valid(name: str) -> None:
    config = drawing(name)
    assert config.recipe == name
    stated = tomllib.loads((recipe_folder() / f"{name}.toml").read_text())
    for part in ("canvas", "views", "ascent", "sampling"):
        held = getattr(config, part).model_dump()
        assert {key: held[key] for key in stated.get(part, {})} == stated.get(part, {})
    for term, values in stated["terms"].items() if "terms" in stated else ():
        held = config.terms[term].model_dump()
        assert {key: held[key] for key in values} == values
    assert {weight for weight, _ in objective_of(config).parts} <= {t.weight for t in config.terms.values()}
    canvas_settings(config.canvas.kind, config.canvas.own)


def test_recipes_are_listed_by_task_with_their_first_line() -> None:
    drawn, training = recipes(), recipes("train")
    assert set(DRAWING) <= set(drawn)
    assert {"cifar10-resnet", "cifar10-plain", "cifar10-attention"} <= set(training)
    assert not set(drawn) & set(training)
    assert all(len(text) > 20 for text in {**drawn, **training}.values())


def test_changes_go_on_top_and_none_changes_nothing() -> None:
    own = drawing()
    assert drawing(steps=None, n=None) == own
    changed = drawing(steps=3, size=24, jitter=0.3, statistics="batch", **{"terms.class.weight": 2})
    assert (changed.ascent.steps, changed.canvas.size, changed.views.copies) == (3, 24, own.views.copies)
    assert changed.views.own["roll"] == {"reach": 0.3}
    assert changed.terms["class"].weight == 2
    assert changed.terms["statistics"].own == {"form": "batch"}
    assert drawing(ascent__steps=3).ascent.steps == 3  # dots as a keyword can write them
    with pytest.raises(ValueError, match="frozen"):
        changed.n = 4


def test_another_canvas_leaves_the_settings_of_the_recipes_own_behind() -> None:
    assert drawing("icons").canvas.own == {"levels": "octaves", "level_power": -0.5}
    assert drawing("icons", **{"canvas.kind": "pixels"}).canvas.own == {}
    assert drawing("icons", **{"canvas.level_power": 0.0}).canvas.own == {"levels": "octaves", "level_power": 0.0}


def test_of_rms_and_rate_the_one_that_is_set_replaces_the_recipes_other() -> None:
    rate = read_recipe("photographs")["ascent"]["rate"]
    assert drawing("photographs").ascent.rate == rate
    set_rms = drawing("photographs", rms=0.05).ascent
    assert (set_rms.rms, set_rms.rate) == (0.05, None)
    set_rate = drawing("icons", **{"ascent.rate": 0.2}).ascent
    assert (set_rate.rms, set_rate.rate) == (0.06, 0.2)
    assert drawing("photographs", **{"ascent.rms": 0.05, "ascent.rate": 0.2}).ascent.rate == 0.2
    assert read_recipe("photographs")["ascent"]["rate"] == rate
    assert "ascent=3" in refused(drawing, "photographs", ascent=3)


def test_a_length_is_a_share_below_one_and_pixels_from_one_on() -> None:
    assert [view_of("roll", {"reach": reach}, 32).reach for reach in (0.25, 3, "0.25")] == [8, 3, 8]


def test_a_toml_file_is_a_recipe(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('# mine\ntask = "generate"\n[ascent]\nsteps = 7\n[canvas]\nlevels = [1, 2, 4]\n')
    config = drawing(str(file), copies=2)
    assert (config.recipe, config.ascent.steps, config.canvas.own) == (str(file), 7, {"levels": [1, 2, 4]})
    assert config.views.copies == 2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"steps = ", "cannot be read as TOML"),
        (b"\xff\xfe", "cannot be read as TOML"),
        (b"steps = 7", 'task = "generate"'),
        (b'task = "train"', 'task = "generate"'),
        (b'task = "generate"\nsteps = 7', "ascent.steps"),
        (b'task = "generate"\n[ascent]\nstep = 7', "steps"),
        (b'task = "generate"\n[fit]\nsteps = 7', "'fit'"),
        (b'task = "generate"\n[ascent]\nsteps = "many"', "steps='many'"),
        (b'task = "generate"\nascent = 3', "ascent is no table; write [ascent]"),
        (b'task = "generate"\n[terms]\nclass = 3', "terms.class=3"),
    ],
)
def test_a_bad_toml_file_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_bytes(content)
    assert says in refused(drawing, str(file))


@pytest.mark.parametrize("table", ["ascent", "views", "terms", "terms.features"])
def test_a_value_where_a_table_stands_says_how_its_settings_are_typed(table: str) -> None:
    said = refused(drawing, **{table: "3"})
    assert f"{table} is a table of settings; type {table}.SETTING=VALUE" in said


def test_unknown_names_bring_the_nearest() -> None:
    assert "type das-paper, dsf-paper" in refused(read_recipe, "das-papr")
    assert all(name in refused(read_recipe, "zzz") for name in DRAWING)
    assert "no recipe 'cifar10-resnet'" in refused(read_recipe, "cifar10-resnet")
    assert "cifar10-resnet" in refused(read_recipe, "cifar-resnet", "train")
    assert "no recipe" in refused(read_recipe, "nowhere/mine.toml")
    assert "type one of ascent.rms" in refused(drawing, rmss=1)
    assert "ascent.steps" in refused(drawing, **{"ascent.stepps": 1})
    assert "variation" in refused(objective_of, drawing(terms={"variatoin": {}}))


def test_changes_as_they_are_typed() -> None:
    pairs = ["rms=0.02", "canvas.levels=1,2,4", "views.flip.chance=0.5"]
    config = drawing(**parsed_changes(GenerateConfig, pairs))
    assert config.ascent.rms == 0.02
    assert canvas_settings("stack", config.canvas.own).levels == [1, 2, 4]
    assert nested(GenerateConfig, {"jitter": 3}) == {"views": {"roll": {"reach": 3}}}
    assert "NAME=VALUE" in refused(parsed_changes, GenerateConfig, ["rms"])
    assert "ascent.rms" in refused(parsed_changes, GenerateConfig, ["rm=1"])
    assert "--recipe das" in refused(parsed_changes, GenerateConfig, ["recipe=das"])
    for name in ("out", "overwrite", "="):
        assert "no setting" in refused(parsed_changes, GenerateConfig, [f"{name}=1"])
    assert "levels" in refused(canvas_settings, "stack", {"levels": ["1", "two"]})


def test_settings_of_a_table_without_a_schema_are_read_as_in_a_recipe() -> None:
    pairs = ("network.width=8", "network.multiples=1,2", "network.attention=", "network.dropout=.5", "network.heads=4,")
    found = parsed_changes(PretrainConfig, [*pairs, "network.builder=unet", "network.scale_shift=false"])
    assert {name.partition(".")[2]: value for name, value in found.items()} == {
        "width": 8, "multiples": [1, 2], "attention": [], "dropout": 0.5, "heads": [4], "builder": "unet",
        "scale_shift": False,
    }  # fmt: skip


def test_an_objective_as_it_is_typed() -> None:
    assert term_of("variation:0.5") == ("variation", {"kind": "variation", "weight": 0.5})
    assert term_of("my.py:symmetry:-2") == ("symmetry", {"kind": "my.py:symmetry", "weight": -2.0})
    assert term_of("my.py:symmetry") == ("symmetry", {"kind": "my.py:symmetry", "weight": 1.0})
    assert term_of("my.py:nan") == ("nan", {"kind": "my.py:nan", "weight": 1.0})
    assert term_of("my.py:inf:2") == ("inf", {"kind": "my.py:inf", "weight": 2.0})
    assert "NAME:WEIGHT" in refused(term_of, ":2")
    assert drawing(objectives=["variation:0.5"]).terms["variation"].weight == 0.5


def test_the_help_of_a_setting_names_the_value_of_each_recipe() -> None:
    fields = {".".join(place): (place, field) for place, field in leaves(GenerateConfig)}
    assert setting_help(GenerateConfig, *fields["seed"]).endswith("[default: 0]")
    values = {name: read_recipe(name)["ascent"].get("rms") for name in set(recipes()) - set(registry.names("task"))}
    told = setting_help(GenerateConfig, *fields["ascent.rms"])
    assert "[default: 0.03; by recipe: " in told
    assert all(f"{name} {rms}" in told for name, rms in values.items() if rms not in (None, 0.03))
    assert setting_help(GenerateConfig, *fields["ascent.steps"]).endswith("[default: set by the recipe]")
    assert all(setting_help(GenerateConfig, place, field) for place, field in leaves(GenerateConfig))


def test_references_are_papers_or_bibtex() -> None:
    for kind in registry.PLACES:
        for name, entry in registry.entries(kind).items():
            assert entry.reference in ("", *PAPERS) or entry.reference.startswith("@"), (kind, name)
            assert entry.help
            assert "\n" not in entry.help
    assert reference_of("objective", "variation") == "variation"
    assert reference_of("path", None) == ""


def test_the_docstring_of_a_task_states_the_recipe_that_is_taken() -> None:
    stated = {
        "generate": "[by target and model]",
        "style": "['style'; of networks of photographs 'style-photographs']",
        "inpaint": "['inpaint']",
        "pretrain": "['otcfm']",
        "finetune": "['prg-small']",
    }
    for task, text in stated.items():
        lines = str(getattr(bothways, task).__doc__).splitlines()
        assert [line for line in lines if line.startswith("    recipe: ") and line.endswith(text)], task
        assert "Settings, with what they are where neither the recipe nor you say" in lines
    assert "Settings" in bothways.sample.__doc__.splitlines()  # which takes no recipe


def test_what_a_recipe_names_is_found_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a recipe, its base and its Python file is used from any other; a file that is there comes first."""
    shared, here = tmp_path / "shared", tmp_path / "here"
    (shared / "parts").mkdir(parents=True)
    here.mkdir()
    code = "from bothways.representation.paths.linear import linear as own\n"
    (shared / "parts" / "my.py").write_text(code)
    (shared / "below.toml").write_text('task = "pretrain"\nbase = "otcfm"\npath = "parts/my.py:own"\n')
    (shared / "mine.toml").write_text('task = "pretrain"\nbase = "below.toml"\n')
    monkeypatch.chdir(here)
    recipe = str(shared / "mine.toml")
    assert configure(PretrainConfig, data="digits", recipe=recipe).path == f"{shared / 'parts' / 'my.py'}:own"
    (here / "parts").mkdir()
    (here / "parts" / "my.py").write_text(code)
    assert configure(PretrainConfig, data="digits", recipe=recipe).path == "parts/my.py:own"
    (shared / "lost.toml").write_text('task = "pretrain"\nbase = "nowhere.toml"\n')
    assert "no recipe 'nowhere.toml'" in refused(read_recipe, str(shared / "lost.toml"), "pretrain")
