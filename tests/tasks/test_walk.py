"""A walk there and back: against encode and decode, brute force for what is near, the classifier for its calls."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from bothways import walk
from bothways.models.cards import CLASSIFIER_CARD
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
from bothways.tasks.shelf import work_of
from bothways.tasks.walk.section import section
from bothways.types import Frame, UserError
from command import refused, run
from small_flow import write_small_flow, write_solver

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


def test_a_round_trip_finer_than_a_byte_is_measured(flow: Path, tmp_path: Path) -> None:
    """The pictures are bytes, and what comes back may be the same bytes; the distance is of the numbers before."""
    how = {"steps": 16, "solver": "rk4"}
    made = walk(flow, photo(), **how)
    found, image = load_flow(flow).requires_grad_(False), photo()[None]
    back = decode(found, encode(found, image, 1.0, **how), 1.0, **how).clamp(0, 1)
    exact = float((image - back).double().square().mean().sqrt())
    assert 0 < exact < 0.1 / 255
    assert abs(made.lost - exact) < 1e-6


def test_there_is_encode_and_back_is_decode(flow: Path, tmp_path: Path) -> None:
    frames: list[Frame] = []
    made = walk(flow, photo(), steps=4, out=tmp_path / "out", on_frame=frames.append)
    assert [frame.step for frame in frames] == list(range(1, 11))
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
    assert abs(run.measures["walk"]["lost"] - float((image - back).square().mean().sqrt())) < 1e-5
    assert made.nearest == [[]] * 5
    assert made.depths == DEPTHS
    assert torch.equal(made.there, torch.stack([run.read_picture(record) for record in run.pictures[:5]]))
    assert torch.equal(made.back, torch.stack([run.read_picture(record) for record in run.pictures[:4:-1]]))
    assert run.status["state"] == "complete"
    page = write_report([run.path], tmp_path / "report.html").read_text()
    assert "A picture walked to noise and back with" in page


def test_the_nearest_are_those_of_brute_force(flow: Path, data: Path, tmp_path: Path) -> None:
    walk(flow, photo(), steps=4, data=data, limit=7, out=tmp_path / "out")
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
        made = FlowClassifier(inner, inner.path, inner.shape, 3, how)
    write_json(tmp_path / CLASSIFIER_CARD, classifier_card(made, origin_of(inner), ("red", "green", "blue"), "prg"))
    save_file({key: value.contiguous() for key, value in made.state_dict().items()}, tmp_path / CLASSIFIER_WEIGHTS)
    walk(tmp_path, photo(), steps=4, out=tmp_path / "out")
    run, reader = RunFolder.open(tmp_path / "out"), load_classifier(tmp_path)
    pictures = torch.stack([run.read_picture(record) for record in run.pictures])
    with torch.no_grad():
        shares = reader.outputs(pictures).double().softmax(1)
    called = [*run.measures["walk"]["called_there"], *reversed(run.measures["walk"]["called_back"])]
    for own, calls in zip(shares, called, strict=True):
        assert [name for name, _ in calls] == [("red", "green", "blue")[i] for i in own.argsort(descending=True)]
        assert (torch.tensor([p for _, p in calls]).double() - own.sort(descending=True).values).abs().max() < 1e-6


def test_the_middle_of_a_photo_is_taken(flow: Path) -> None:
    wide = torch.cat([torch.zeros(3, 8, 4), photo(), torch.ones(3, 8, 4)], 2)
    assert (walk(flow, wide, steps=1).there[0] - photo()).abs().max() < 1e-6


def test_a_stopped_walk_goes_on_to_the_same_files(flow: Path, data: Path, tmp_path: Path) -> None:
    options = {"steps": 2, "data": data}
    walk(flow, photo(), out=tmp_path / "whole", **options)
    with closing(work_of("walk", flow, photo(), out=tmp_path / "out", **options).run()) as frames:
        next(frames), next(frames)
    run = RunFolder.open(tmp_path / "out")
    assert (run.status["state"], len(run.pictures)) == ("stopped", 2)
    walk(flow, photo(), out=tmp_path / "out", resume=True, **options)
    whole = RunFolder.open(tmp_path / "whole")
    assert (run.pictures, run.frames) == (whole.pictures, whole.frames)
    assert run.measures["walk"] == whole.measures["walk"]
    for file in (*whole.path.glob("images/*"), *whole.path.glob("photos/*")):
        assert (run.path / file.relative_to(whole.path)).read_bytes() == file.read_bytes()
    walk(flow, photo(), out=tmp_path / "out", overwrite=True, steps=2)
    assert sorted(file.name for file in run.path.glob("photos/*")) == ["photo-0000.png"]


def test_without_a_folder_all_of_it_is_in_memory(flow: Path, data: Path, tmp_path: Path) -> None:
    own = write_solver(tmp_path)
    made = walk(load_flow(flow), photo(), steps=2, solver=own, data=data, limit=3)
    assert (made.there.shape, made.back.shape) == ((3, 3, 8, 8), (3, 3, 8, 8))
    assert [len(row) for row in made.nearest] == [3, 3, 3]
    assert made.called_there is None
    found = load_flow(flow).requires_grad_(False)
    truth = found.picture(encode(found, photo()[None], 1.0, 2, "midpoint")).clamp(0, 1)
    assert (made.there[-1:] - truth).abs().max() <= 0.5 / 255 + 1e-6
    assert made._repr_png_()[1:4] == b"PNG"


def test_the_command_walks_a_file(flow: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photo.png").write_bytes(to_png(photo(size=(10, 14))))
    asked = ["walk", flow, tmp_path / "photo.png", "--steps", 2, "--data", data, "--limit", 3]
    assert run(*asked, "--out", tmp_path / "out") == 0
    assert "walked to noise and back, it is off by" in capsys.readouterr().out
    folder = RunFolder.open(tmp_path / "out")
    assert (folder.settings["task"], folder.status["state"]) == ("walk", "complete")
    shown = section(folder.measures)
    assert shown is not None
    assert [row[0].text for row in shown["numbers"].rows] == ["0", "0.5", "1"]
    assert shown["numbers"].columns == ["Depth", "Nearest picture"]
    for broken in ({}, {"depths": [None], "called_there": [[]], "nearest": [[{}]]}):
        assert section({"walk": broken}) is not None
    assert run(*asked, "--out", tmp_path / "dry", "--dry-run") == 0
    assert "in 2 steps each way beside 3 others" in capsys.readouterr().out
    assert not (tmp_path / "dry").exists()
    assert "does not exist" in refused(capsys, "walk", flow, tmp_path / "none.png", "--out", tmp_path / "x")


@pytest.mark.parametrize(
    ("given", "says"),
    [({"steps": 0}, "steps=0"), ({"limit": 0}, "limit=0"), ({"solver": "dpo"}, "solver 'dpo'"),
     ({"data": "nowhere"}, "does not exist")],
)  # fmt: skip
def test_what_cannot_be_is_refused_before_anything_is_written(flow: Path, tmp_path: Path, given, says: str) -> None:
    with pytest.raises(UserError, match=says):
        work_of("walk", flow, photo(), out=tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()
