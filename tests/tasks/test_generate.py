"""Drawing: the same pictures from the same seed however the work is cut, and what a result holds."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import bothways
from bothways import Result, UserError, generate, load_model
from bothways.numerics.draws import picture_seed
from bothways.report import write_report
from bothways.runs import RunFolder, from_png
from bothways.synthesis.ascent import ascend
from bothways.tasks.generate.roles import find_classes
from bothways.tasks.shelf import work_of

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"
EIGHT_BIT = 1 / 255
COUPLED = {"recipe": "icons", "statistics": "batch", "group": 4, "steps": 4}


@pytest.fixture(scope="module")
def toy():
    return load_model(TOY)


@pytest.fixture(scope="module")
def drawn(toy) -> Result:
    return generate(toy, ["anchor", "candle"], 3, "das", steps=6, seed=5)


def fingerprint(images: Tensor) -> str:
    return hashlib.sha256((255 * images).round().to(torch.uint8).numpy().tobytes()).hexdigest()


# ---- a seed belongs to a picture -----------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["das", "pixels", "das-paper", "icons"])
def test_the_same_seed_draws_the_same_pictures(toy, recipe) -> None:
    choices = {"steps": 3, "statistics": "batch" if recipe == "icons" else None}
    first, again, other = (generate(toy, ["dragon"], 2, recipe, seed=seed, **choices) for seed in (3, 3, 4))
    assert torch.equal(first.images, again.images)
    assert first.records == again.records
    assert not torch.equal(first.images, other.images)
    assert not torch.equal(first.images[0], first.images[1])


def test_callers_random_state_is_neither_used_nor_changed(toy) -> None:
    with torch.random.fork_rng():
        torch.random.manual_seed(1)
        before = torch.random.get_rng_state()
        first = generate(toy, 0, 1, "das", steps=2)
        assert torch.equal(torch.random.get_rng_state(), before)
        torch.random.manual_seed(2)
        assert torch.equal(generate(toy, 0, 1, "das", steps=2).images, first.images)


ELSEWHERE = """
import hashlib, json, sys, torch
from bothways import generate
told = json.loads(sys.argv[1])
for settings in told["calls"]:
    images = generate(told["model"], told["classes"], **settings).images
    print(hashlib.sha256((255 * images).round().to(torch.uint8).numpy().tobytes()).hexdigest())
"""


@pytest.mark.slow
def test_a_fresh_process_draws_the_same_and_two_halves_are_the_whole(toy) -> None:
    """One process draws the first groups, another the last: what they hand in is the whole run, bit for bit."""
    classes = ["anchor", "barrel", "candle"]
    whole = generate(toy, classes, n=4, **COUPLED)
    alone = generate(toy, classes, n=2, recipe="das", steps=3, batch=2)
    calls = [
        {"n": 4, **COUPLED, "only": list(range(4, 12))},
        {"n": 2, "recipe": "das", "steps": 3, "batch": 2},
        {"n": 2, "recipe": "das", "steps": 3, "batch": 2, "only": [4, 5]},
    ]
    told = json.dumps({"model": TOY, "classes": classes, "calls": calls})
    environment = {**os.environ, "PYTHONPATH": str(Path(bothways.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    program = "import torch; torch.set_num_threads(1)\n" + ELSEWHERE
    command = [sys.executable, "-c", program, told]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    expected = [fingerprint(part) for part in (whole.images[4:], alone.images, alone.images[4:])]
    assert done.stdout.split() == expected
    first_half = generate(toy, classes, n=4, **COUPLED, only=range(4))
    assert torch.equal(first_half.images, whole.images[:4])
    assert [r["index"] for r in first_half.records] == [0, 1, 2, 3]


def test_a_picture_alone_is_the_picture_in_its_batch(toy, drawn) -> None:
    for k in (0, 3, 5):
        alone = generate(toy, ["anchor", "candle"], 3, "das", steps=6, seed=5, only=[k])
        assert [(r["index"], r["seed"], r["class"]) for r in alone.records] == [
            (k, picture_seed(5, k), drawn.records[k]["class"])
        ]
        # rounding to 8 bits may turn a difference in the last digits into one step
        assert (alone.images[0] - drawn.images[k]).abs().max() <= EIGHT_BIT + 1e-6
        assert (alone.images[0] - drawn.images[k]).abs().mean() < 1e-3


def test_before_rounding_a_picture_alone_agrees_to_a_thousandth(toy) -> None:
    drawing = work_of("generate", toy, ["anchor", "candle"], recipe="das", n=3, steps=6, seed=5)

    def followed(pictures: list[int]) -> Tensor:
        batch = drawing.request.batch(pictures, [picture_seed(5, i) for i in pictures])
        problem = drawing.setup.problem(drawing.request, batch)
        return [frame.image for frame in ascend(problem.field, problem.ascent, problem.draws)][-1]

    together = followed(list(range(6)))
    for k in range(6):
        assert (followed([k])[0] - together[k]).abs().max() < 1e-3


def test_the_draws_of_a_picture_are_its_own(toy) -> None:
    """Nothing but draws is in a start of noise, so here not even the last digit may differ."""
    start = {"steps": 0, "start": "noise", "seed": 9}
    whole = generate(toy, range(4), 2, "das", **start)
    assert len({fingerprint(image) for image in whole.images}) == 8
    for k in (0, 2, 7):
        assert torch.equal(generate(toy, range(4), 2, "das", only=[k], **start).images[0], whole.images[k])


def test_asking_for_more_leaves_earlier_groups_as_they_are(toy) -> None:
    few = generate(toy, range(4), 1, **COUPLED)
    more = generate(toy, range(4), 3, **COUPLED)
    assert torch.equal(more.images[:4], few.images)
    assert torch.equal(more.labels[:4], few.labels)


def test_groups_mix_classes(toy) -> None:
    drawing = work_of("generate", toy, range(4), n=5, **COUPLED)
    assert [len(part) for part in drawing.batches()] == [4] * 5
    for part in drawing.batches():
        assert {drawing.request.labels[i] for i in part} == {0, 1, 2, 3}


# ---- what a result is ----------------------------------------------------------------------------------------------


def test_images_are_in_the_unit_interval_and_rounded_to_8_bits(toy, drawn) -> None:
    images = drawn.images
    assert (images.shape, images.dtype) == ((6, 3, 16, 16), torch.float32)
    assert images.min() >= 0
    assert images.max() <= 1
    assert torch.equal((255 * images).round() / 255, images)
    assert drawn.labels.tolist() == [0, 2, 0, 2, 0, 2]
    assert images.std() > 0.01


def test_records_say_what_each_picture_is(toy, drawn) -> None:
    own = toy.outputs(drawn.images).softmax(1)
    for k, record in enumerate(drawn.records):
        assert (record["index"], record["seed"]) == (k, 5_000_000 + k)
        assert (record["label"], record["class"]) == ((0, "anchor"), (2, "candle"))[k % 2]
        assert abs(record["own_probability"] - own[k, record["label"]].item()) < 1e-5
    assert [(f.step, f.image) for f in drawn.frames] == [(k, None) for k in range(1, 7)]
    assert drawn.frames[-1].stats["log probability"] > drawn.frames[0].stats["log probability"]


def test_the_model_itself_is_judged_last_and_said_to_have_given_the_gradient(toy, drawn) -> None:
    other = load_model(TOY.replace(":build", ":other"))
    judged = generate(toy, ["anchor"], 2, "das", steps=1, judges=[other]).measures["judges"]
    assert [(v["judge"], v["gave_gradient"]) for v in judged] == [(other.name, False), (toy.name, True)]
    assert drawn.measures["judges"][0]["n"] == 6
    assert drawn.measures["cost"]["seconds"] > 0


def test_save_makes_a_folder_that_opens_and_reports(toy, drawn, tmp_path: Path) -> None:
    folder = RunFolder.open(drawn.save(tmp_path / "kept"))
    assert folder.status["state"] == "complete"
    assert len(folder.frames) == 6
    assert folder.settings["settings"]["ascent"]["steps"] == 6
    for record, image in zip(folder.pictures, drawn.images, strict=True):
        assert torch.equal(folder.read_picture(record), image)
    assert folder.measures["judges"][0]["judge"] == toy.name
    page = write_report([folder.path], tmp_path / "page.html").read_text()
    assert page.count("data:image/png;base64,") >= 6
    with pytest.raises(UserError, match="overwrite"):
        drawn.save(tmp_path / "kept")
    drawn.save(tmp_path / "kept", overwrite=True)


def test_a_run_folder_holds_what_save_writes(toy, drawn, tmp_path: Path) -> None:
    generate(toy, ["anchor", "candle"], 3, "das", steps=6, seed=5, out=tmp_path / "run")
    run, kept = RunFolder.open(tmp_path / "run"), RunFolder.open(drawn.save(tmp_path / "kept"))
    assert run.pictures == kept.pictures
    assert run.settings["settings"] == kept.settings["settings"]
    assert run.frames == kept.frames


def test_grid_shows_every_picture_and_a_notebook_gets_a_png(drawn) -> None:
    grid = drawn.grid()
    assert grid.shape == (3, 2 * (96 + 4), 3 * (96 + 4))
    order = [0, 2, 4, 1, 3, 5]  # a row a class
    for place, k in enumerate(order):
        row, column = divmod(place, 3)
        cell = grid[:, row * 100 : row * 100 + 96 : 6, column * 100 : column * 100 + 96 : 6]
        assert torch.equal(cell, drawn.images[k])
    assert drawn.grid(columns=4).shape == (3, 200, 400)
    png = drawn._repr_png_()
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert torch.equal(from_png(png), grid)


# ---- what was asked ------------------------------------------------------------------------------------------------


def test_classes_by_name_and_number(toy) -> None:
    assert find_classes(toy, ["Dragon", " barrel ", "0", 2, "dragon"]) == [3, 1, 0, 2]
    for bad in ("dragn", "4", "-1", "²", "", "1.5"):
        with pytest.raises(UserError) as error:
            find_classes(toy, [bad])
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="nearest are dragon"):
        find_classes(toy, ["dragn"])
    with pytest.raises(UserError, match="no class was given"):
        find_classes(toy, [])


@pytest.mark.parametrize("kind", [torch.tensor, np.array])
def test_classes_are_numbers_of_an_array_too_such_as_labels_of_a_result(toy, kind) -> None:
    given = {"n": 1, "steps": 1, "verdicts": False}
    assert generate(toy, kind([3, 1]), **given).labels.tolist() == [3, 1]
    assert generate(toy, kind(2), **given).labels.tolist() == [2]


def test_on_frame_sees_every_step(toy) -> None:
    seen: list[tuple[int, int]] = []
    generate(toy, [0, 1], 1, "das", steps=2, batch=1, on_frame=lambda frame: seen.append((frame.batch, frame.step)))
    assert seen == [(0, 1), (0, 2), (1, 1), (1, 2)]


def test_statistics_of_real_pictures(toy, tmp_path: Path) -> None:
    from PIL import Image

    folder = tmp_path / "photos"
    folder.mkdir()
    for k in range(8):
        noise = torch.randint(0, 256, (20, 24, 3), generator=torch.Generator().manual_seed(k), dtype=torch.uint8)
        Image.fromarray(noise.numpy()).save(folder / f"{k}.png")
    result = generate(toy, [1], 4, "icons", steps=2, data=folder)
    verdict = result.measures["judges"][0]
    assert verdict["reference"] == str(folder)
    assert verdict["diversity_real"] is not None
    assert verdict["frechet"] is None  # of 4 pictures
    assert "statistics" in result.frames[0].stats
