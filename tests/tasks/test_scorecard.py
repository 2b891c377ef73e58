"""The scorecard as a run: which pictures it takes, what it writes, how it goes on, and rows for what cannot be."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import bothways
from bothways import UserError, scorecard
from bothways.data.corruptions import corrupt
from bothways.data.sources import load_images
from bothways.numerics.draws import Draws
from bothways.runs import RunFolder, from_png, to_png
from bothways.tasks.scorecard.attempts import ATTEMPTS, Attempt, Source, attempt_row, picture_row
from bothways.tasks.scorecard.damage import DAMAGE, LEVELS, conditions
from bothways.tasks.scorecard.quantities import CONTROLS, label_free_quantities
from bothways.tasks.scorecard.run import FILE, real_pictures
from bothways.tasks.scorecard.tables import picture_table
from bothways.tasks.shelf import work_of
from command import refused, run

HERE = Path(__file__).resolve().parents[1]
TOY = f"{HERE / 'toy_model.py'}:build"


@pytest.fixture(scope="module")
def toy():
    return bothways.load_model(TOY)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    for i, image in enumerate(Draws(range(12)).uniform((3, 16, 16))):
        (folder / f"{i:02}.png").write_bytes(to_png(image))
    return folder


@pytest.fixture
def fast(monkeypatch) -> None:
    """Only the quantities that need no parameter gradient: a scorecard in a moment."""
    monkeypatch.setattr(
        "bothways.tasks.scorecard.run.label_free_quantities", lambda *given: label_free_quantities(*given)[10:]
    )


def without_times(card) -> list[dict]:
    rows = card["quantities"] if isinstance(card, dict) else card.quantities
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


# ---- the pictures that are scored ----------------------------------------------------------------------------------


def test_a_single_split_is_cut_in_two(data) -> None:
    pictures = real_pictures(data, (16, 16), 5, seed=1)
    assert (len(pictures.images), len(pictures.others)) == (5, 7)
    assert not any(torch.equal(a, b) for a in pictures.images for b in pictures.others)
    assert torch.equal(pictures.images, real_pictures(data, (16, 16), 5, seed=1).images)
    assert len(real_pictures(data, (16, 16), 100, seed=1).images) == 6


def test_two_splits_are_kept_apart(shared) -> None:
    pictures = real_pictures(shared / "data" / "cifar10-jpeg", (32, 32), 20, seed=0)
    assert (len(pictures.images), len(pictures.others)) == (20, 2000)
    assert pictures.source == "its test split"


def test_too_few_pictures_are_refused(data, tmp_path) -> None:
    with pytest.raises(UserError, match="n=1"):
        work_of("scorecard", TOY, data, n=1)
    (tmp_path / "one.png").write_bytes(to_png(torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(1))))
    with pytest.raises(UserError, match="two to score and two others"):
        real_pictures(tmp_path, (16, 16), 5, seed=0)


# ---- the run -------------------------------------------------------------------------------------------------------


def test_a_whole_scorecard(toy, data) -> None:
    frames = []
    card = scorecard(toy, data, n=2, draw=False, on_frame=frames.append)
    rows = card.quantities
    assert len(rows) == 17
    assert len(frames) == 17 * 9
    for row in rows:
        assert "absent" not in row, row
        assert list(row["auroc"]) == [*(f"noise {level}" for level in LEVELS), *DAMAGE]
        assert list(map(float, row["cosine"])) == list(LEVELS)
    assert card.data["pictures"] == 2
    assert card.data["spread"] == "10 pictures of the rest of it"
    by_name = {row["name"]: row for row in rows}
    assert by_name["total variation"]["spearman"][0] > 0.9
    assert [row["name"] for row in rows if row["control"]] == list(CONTROLS)
    assert by_name["DSF, lambda held"]["beside"] == "DSF, random lambda"
    assert [row["loss"] for row in card.step] == ["cross-entropy, predicted classes", "l_aug (mirrored, logits)"]
    assert json.loads(json.dumps(card.as_dict())) == card.as_dict()


def test_the_same_seed_gives_the_same_and_another_does_not(toy, data, fast) -> None:
    first, again, other = (scorecard(toy, data, n=4, draw=False, seed=seed) for seed in (0, 0, 1))
    assert without_times(first) == without_times(again)
    assert without_times(first) != without_times(other)


def test_a_killed_run_goes_on_where_it_was(toy, data, tmp_path, fast) -> None:
    whole = scorecard(toy, data, n=4, draw=False)
    scoring = work_of("scorecard", toy, data, n=4, draw=False, out=tmp_path)
    of, steps = scoring.steps, scoring.run()
    for _ in range(9 * 3 + 2):  # three quantities of nine frames each, and into the fourth
        next(steps)
    steps.close()
    assert RunFolder.open(tmp_path).status["state"] == "stopped"
    kept = json.loads((tmp_path / FILE).read_text())["quantities"]
    assert len(kept) == 3
    again = work_of("scorecard", toy, data, n=4, draw=False, out=tmp_path, resume=True)
    assert (again.steps, again.done) == (of, 27)
    assert len(list(again.run())) == of - 27
    saved = json.loads((tmp_path / FILE).read_text())
    assert saved["quantities"][:3] == kept
    assert without_times(saved) == without_times(whole)
    assert RunFolder.open(tmp_path).status["state"] == "running"  # its measures are still to be written


def test_another_scorecard_is_not_written_over(toy, data, tmp_path, fast) -> None:
    scorecard(toy, data, n=3, draw=False, out=tmp_path)
    with pytest.raises(UserError, match="--resume"):
        work_of("scorecard", toy, data, n=3, draw=False, out=tmp_path)
    with pytest.raises(UserError, match="seed was 0"):
        work_of("scorecard", toy, data, n=3, seed=1, draw=False, out=tmp_path, resume=True)
    assert work_of("scorecard", toy, data, n=3, seed=1, draw=False, out=tmp_path, overwrite=True).rows == {}


def test_a_quantity_that_fails_is_a_row_that_says_why(toy, data, monkeypatch) -> None:
    def refuse(*_given, **_options):
        raise UserError("cannot be differentiated twice")

    monkeypatch.setattr("bothways.tasks.scorecard.quantities.dsf_score", refuse)
    rows = scorecard(toy, data, n=3, draw=False).quantities
    assert [row.get("absent") for row in rows[:10]] == ["cannot be differentiated twice"] * 10
    assert all("absent" not in row for row in rows[10:])


def test_a_model_without_norms_classes_or_features(data, fast) -> None:
    rows = scorecard(f"{HERE / 'toy_model.py'}:flat", data, n=3, draw=False).quantities
    assert "BatchNorm statistics" not in [row["name"] for row in rows]
    assert all("absent" not in row for row in rows)


# ---- the drawings --------------------------------------------------------------------------------------------------


def test_a_conditional_recipe_takes_the_classes_in_turn(toy) -> None:
    attempt = Attempt("das", "the class", "das", True, steps=1)
    result = Source(toy, None, n=8, seed=3).drawn(attempt)
    assert result.labels.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert Source(toy, None, n=2, seed=3).drawn(attempt).labels.tolist() == [0, 2]


def test_a_row_and_its_contact_sheet(toy, tmp_path) -> None:
    attempt = Attempt("pixels", "the class", "pixels", True, steps=1)
    result = Source(toy, None, n=4, seed=0).drawn(attempt)
    row = picture_row("pixels", "noise", "the class", result, tmp_path)
    assert row["n"] == 4
    assert row["seconds"] == result.measures["cost"]["seconds"]
    assert [judge["judge"] for judge in row["judges"]] == [v["judge"] for v in result.measures["judges"]]
    sheet = from_png((tmp_path / row["sheet"]).read_bytes())
    assert (sheet - result.grid(4)).abs().max() < 1 / 255
    assert "sheet" not in picture_row("pixels", "noise", "the class", result)


def test_verdicts_are_those_of_a_drawing_by_itself(toy, data) -> None:
    source = Source(toy, data, n=4, seed=0)
    found = source.drawn(Attempt("das", "the class", "das", True, steps=1)).measures
    alone = bothways.generate(toy, range(4), 1, "das", data=data, steps=1).measures
    assert found["judges"] == alone["judges"] != []
    assert found["images"] == alone["images"] != {}


def test_real_pictures_are_read_once_for_all_judges(toy, data, monkeypatch) -> None:
    read = []
    monkeypatch.setattr(
        "bothways.judging.references.load_images",
        lambda *given, **how: read.append(given) or load_images(*given, **how),
    )
    source = Source(toy, data, n=4, seed=0)
    for recipe in ("das", "pixels"):
        source.drawn(Attempt(recipe, "the class", recipe, True, steps=1))
    assert len(read) == len(source.jury) == 1


def test_a_recipe_that_fails_is_a_row_that_says_why(toy) -> None:
    row = attempt_row(Source(toy, None, n=1, seed=0), Attempt("nothing", "nothing", "no-such-recipe", True), None)
    assert "no-such-recipe" in row["absent"]


def test_drawings_are_saved_one_by_one_and_not_drawn_again(toy, data, tmp_path, fast, monkeypatch) -> None:
    asked = []

    def drawing(source: Source, attempt: Attempt):
        asked.append(attempt.name)
        if attempt.recipe == "sampled":
            raise UserError("no features to sample")
        return own(source, replace(attempt, steps=0 if attempt.steps == 0 else 1))

    own = Source.drawing
    monkeypatch.setattr(Source, "drawing", drawing)
    scoring = work_of("scorecard", toy, data, n=3, drawings=1, out=tmp_path)
    with closing(scoring.run()) as frames:
        while not asked:
            next(frames)
    assert len(json.loads((tmp_path / FILE).read_text())["pictures"]) == 1
    card = scorecard(toy, data, n=3, drawings=1, out=tmp_path, resume=True)
    assert [row["name"] for row in card.pictures] == [attempt.name for attempt in ATTEMPTS]
    assert [row.get("absent") for row in card.pictures if row["name"] == "sampled"] == ["no features to sample"]
    assert (asked[0], asked.count("start"), len(set(asked))) == ("start", 1, len(ATTEMPTS))
    assert RunFolder.open(tmp_path).status["state"] == "complete"


# ---- the command ---------------------------------------------------------------------------------------------------


def test_the_command_writes_a_page(data, tmp_path, capsys, fast) -> None:
    arguments = ["scorecard", TOY, "--data", data, "--n", "3", "--no-draw", "--out", tmp_path / "card"]
    assert run(*arguments) == 0
    said = capsys.readouterr().out
    assert f"the report is {tmp_path / 'card' / 'scorecard.html'}" in said
    assert (tmp_path / "card" / "scorecard.html").read_text().startswith("<!doctype html>")
    card = json.loads((tmp_path / "card" / FILE).read_text())
    assert (len(card["quantities"]), card["pictures"]) == (7, [])
    assert all(f"{row['cosine'][0]:.4f}" in said and row["loss"] in said for row in card["step"])
    assert "Parameters against the sum of loss gradients" in (tmp_path / "card" / "scorecard.html").read_text()
    assert all(row["name"] in said for row in card["quantities"])
    assert run(*arguments) == 2
    capsys.readouterr()
    assert run(*arguments, "--resume", "--json") == 0
    assert without_times(json.loads(capsys.readouterr().out)) == without_times(card)
    assert "n=1" in refused(capsys, *arguments[:-1], tmp_path / "one", "--n", "1")
    assert not (tmp_path / "one").exists()


def test_further_damage_is_measured_beside_the_rest() -> None:
    every = conditions(["fog:0.75", "roll:0.25"])
    assert [one.name for one in every] == [*(f"noise {level}" for level in LEVELS), *DAMAGE, "fog 0.75", "roll 0.25"]
    x, draws = torch.rand(2, 3, 8, 8), Draws([1, 2])
    for one, kind, level in ((every[-2], "fog", 0.75), (every[-1], "roll", 0.25)):
        assert torch.equal(one.corrupt(x, draws), corrupt(x, kind, level, draws))
    for given, says in (
        ("fog", "not KIND:LEVEL"),
        ("fogg:1", "'fogg' is not known"),
        ("roll:2", "level 2"),
        ("noise:0.1", "without clipping"),
    ):
        with pytest.raises(UserError, match=says):
            conditions([given])


def test_a_recipe_that_cannot_move_a_picture_is_no_result(toy, data) -> None:
    """The paper's clip and step allow 2e-5 a number and step, which in 8 bits is a level here and there."""
    source = Source(toy, data, n=2, seed=0)
    rows = [attempt_row(source, Attempt(name, "score", name, False, steps=2), None) for name in ("dsf-paper", "dsf")]
    assert rows[0]["moved"] < 1e-3
    assert rows[1]["moved"] > 1 / 255
    nothing = attempt_row(source, Attempt("start", "nothing", "dsf", False, steps=0), None)
    assert nothing["moved"] == 0
    table = picture_table([*rows, nothing])
    told = {row[0].text: row[0].remark for row in table.rows}
    assert told == {"dsf-paper": "did not move: not a result", "dsf": "", "start": ""}


def test_the_start_that_drawings_are_compared_with_is_no_advice_to_draw_more(toy, data, recwarn) -> None:
    attempt_row(Source(toy, data, n=2, seed=0), Attempt("start", "nothing", "dsf", False, steps=0), None)
    assert not [warned for warned in recwarn if "--steps 0" in str(warned.message)]
