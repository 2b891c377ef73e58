"""A walk there and back: against encode and decode, brute force for what is near, the classifier for its calls."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from bothways.models.catalogue import CLASSIFIER_CARD
from bothways.models.classifiers import CLASSIFIER_WEIGHTS, classifier_card, origin_of
from bothways.models.encoding import decode, encode
from bothways.models.loader import load_classifier, load_flow
from bothways.numerics.draws import Draws
from bothways.report import write_report
from bothways.representation.classifier import FlowClassifier
from bothways.representation.encode import Walk
from bothways.representation.features import Features
from bothways.runs import RunFolder, to_png
from bothways.runs.files import write_json
from bothways.tasks.walk.run import Walking, prepare_walk
from bothways.types import UserError
from small_flow import write_small_flow

DEPTHS = [0, 0.25, 0.5, 0.75, 1]


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_flow(tmp_path_factory.mktemp("walk") / "flow")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for index, image in enumerate(Draws(range(9)).uniform((3, 8, 8))):
        (folder / f"{index}.png").write_bytes(to_png(image))
    return folder


def photo(seed: int = 50, size: tuple[int, int] = (8, 8)) -> torch.Tensor:
    return (255 * Draws([seed]).uniform((3, *size))[0]).round() / 255


def walked(walking: Walking) -> Walking:
    with closing(walking.run()) as frames:
        assert len(list(frames)) == walking.steps
    walking.finish()
    return walking


def test_there_is_encode_and_back_is_decode(flow: Path, tmp_path: Path) -> None:
    walking = walked(prepare_walk(flow, photo(), steps=4, out=tmp_path / "out"))
    found, image = load_flow(flow).requires_grad_(False), photo()[None]
    run = RunFolder.open(tmp_path / "out")
    assert [(r["way"], r["depth"]) for r in run.pictures] == [
        *(("there", depth) for depth in DEPTHS),
        *(("back", depth) for depth in reversed(DEPTHS)),
    ]
    for place, depth in enumerate(DEPTHS[1:], 1):
        wanted = found.picture(encode(found, image, depth, steps=place)).clamp(0, 1)
        assert (run.read_picture(run.pictures[place])[None] - wanted).abs().max() <= 0.5 / 255 + 1e-4
    back = decode(found, encode(found, image, 1.0, steps=4), 1.0, steps=4).clamp(0, 1)
    assert (run.read_picture(run.pictures[-1])[None] - back).abs().max() <= 0.5 / 255 + 1e-4
    lost = run.measures["walk"]["lost"]
    assert (
        abs(lost - (run.read_picture(run.pictures[0]) - run.read_picture(run.pictures[-1])).square().mean().sqrt())
        < 1e-6
    )
    assert walking.nearest == [[]] * 5
    assert run.status["state"] == "complete"
    page = write_report([run.path], tmp_path / "report.html").read_text()
    assert "A picture walked to noise and back with" in page


def test_the_nearest_are_those_of_brute_force(flow: Path, data: Path, tmp_path: Path) -> None:
    walked(prepare_walk(flow, photo(), steps=4, data=data, limit=7, out=tmp_path / "out"))
    run, found = RunFolder.open(tmp_path / "out"), load_flow(flow).requires_grad_(False)
    nearest = run.measures["walk"]["nearest"]
    files = sorted(data.glob("*.png"))
    chosen = [files[i] for i in np.linspace(0, 8, 7).round().astype(int)]
    others = torch.stack([torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255 for file in chosen])
    for place, depth in enumerate(DEPTHS):
        codes = encode(found, torch.cat([photo()[None], others]), depth, steps=max(place, 1)).double().flatten(1)
        apart = (codes[1:] - codes[0]).square().mean(1).sqrt()
        distances = [entry["distance"] for entry in nearest[place]]
        assert len(distances) == 6
        assert (torch.tensor(distances).double() - apart.sort().values[:6]).abs().max() < 1e-5
        for entry, number in zip(nearest[place], apart.argsort(), strict=False):
            kept = torch.from_numpy(np.array(Image.open(run.path / entry["file"]))).permute(2, 0, 1) / 255
            assert (kept - others[number]).abs().max() < 1e-6


def test_a_finetuned_run_says_what_it_sees(flow: Path, tmp_path: Path) -> None:
    inner, how = load_flow(flow), Features(depth=0.3, walk=Walk(steps=2))
    with torch.random.fork_rng():
        torch.manual_seed(4)
        made = FlowClassifier(inner, inner.path, inner.shape, 3, how, width=8)
    write_json(tmp_path / CLASSIFIER_CARD, classifier_card(made, origin_of(inner), ("red", "green", "blue")))
    save_file({key: value.contiguous() for key, value in made.state_dict().items()}, tmp_path / CLASSIFIER_WEIGHTS)
    walked(prepare_walk(tmp_path, photo(), steps=4, out=tmp_path / "out"))
    run, reader = RunFolder.open(tmp_path / "out"), load_classifier(tmp_path)
    pictures = torch.stack([run.read_picture(record) for record in run.pictures])
    with torch.no_grad():
        shares = reader.outputs(pictures).double().softmax(1)
    called = [*run.measures["walk"]["called_there"], *reversed(run.measures["walk"]["called_back"])]
    for own, calls in zip(shares, called, strict=True):
        assert [name for name, _ in calls] == [("red", "green", "blue")[i] for i in own.argsort(descending=True)]
        assert (torch.tensor([p for _, p in calls]).double() - own.sort(descending=True).values).abs().max() < 1e-6


def test_the_middle_of_a_photo_is_taken(flow: Path, tmp_path: Path) -> None:
    wide = torch.cat([torch.zeros(3, 8, 4), photo(), torch.ones(3, 8, 4)], 2)
    walking = prepare_walk(flow, wide, steps=1, out=tmp_path / "out")
    assert (walking.photo[0] - photo()).abs().max() < 1e-6


def test_stopping_keeps_what_is_there(flow: Path, tmp_path: Path) -> None:
    with closing(prepare_walk(flow, photo(), steps=4, out=tmp_path / "out").run()) as frames:
        next(frames), next(frames)
    run = RunFolder.open(tmp_path / "out")
    assert (run.status["state"], len(run.pictures)) == ("stopped", 2)


@pytest.mark.parametrize(
    ("given", "says"),
    [({"steps": 0}, "1 step or more"), ({"limit": 0}, "limit=0"), ({"solver": "dpo"}, "solver 'dpo'"),
     ({"data": "nowhere"}, "does not exist")],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_written(flow: Path, tmp_path: Path, given, says: str) -> None:
    with pytest.raises(UserError, match=says):
        prepare_walk(flow, photo(), out=tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()
