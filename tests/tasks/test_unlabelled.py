"""Pictures without a class from features of photographs: how they are drawn, and what they stand beside."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.spatial.distance
import torch
from torch import Tensor

from bothways import UserError, generate, invert, load_images, load_model, statistics
from bothways.models.adapter import Adapter
from bothways.numerics.draws import Draws, picture_seed
from bothways.numerics.pyramid import resize
from bothways.runs import RunFolder
from bothways.synthesis.objectives.likeness import direction
from bothways.synthesis.objectives.terms import vectors
from bothways.tasks.generate.section import origin_table
from bothways.tasks.shelf import work_of
from bothways.tasks.statistics.config import ROW_BYTES, ROWS
from bothways.tasks.statistics.files import features_mean, read_space, rows_to_keep
from command import refused as refused_command
from command import run

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"
FLAT = TOY.replace(":build", ":flat")
QUICK = {"steps": 2, "judges": []}
STILL = {"views.warp.smallest": 1.0, "views.warp.largest": 1.0, "views.warp.degrees": 0.0, "views.warp.reach": 0.0}
STILL |= {"views.flip.chance": 0.0, "noise": 0.0, "terms.statistics.weight": 0.0, "canvas.bound": 5.0}


@pytest.fixture(scope="module")
def toy() -> Adapter:
    return load_model(TOY)


@pytest.fixture(scope="module")
def large(toy: Adapter) -> Adapter:
    """The same network, stated for pictures of the size of photographs."""
    return Adapter(toy.module, replace(toy.spec, size=96), name="large")


@pytest.fixture(scope="module")
def data(soft_pictures: Callable[[int], Path]) -> Path:
    return soft_pictures(12)


@pytest.fixture(scope="module")
def file(toy: Adapter, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("kept") / "toy.safetensors"
    statistics(toy, data, out=out)
    return out


def features(model: Adapter, images: Tensor) -> np.ndarray:
    with torch.no_grad():
        return vectors(model.features(images, ["body"])["body"], "body").double().numpy()


def refused(call, *arguments, **keywords) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments, **keywords)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- the rows of a file --------------------------------------------------------------------------------------------


def test_a_file_holds_features_and_names_of_its_pictures(toy: Adapter, data: Path, file: Path) -> None:
    pictures = load_images(data)
    found = read_space(statistics(toy, data).tensors)
    assert found is not None
    wanted = features(toy, pictures.images.float() / 255)
    assert np.abs(found.rows["0/features/body"].numpy() - wanted).max() < 2**-11 * np.abs(wanted).max()
    assert found.names == pictures.names == tuple(f"{i:02}.png" for i in range(12))
    mean = features_mean(toy, file)
    assert mean is not None
    assert np.abs(mean.numpy() - wanted.mean(0)).max() < 2**-10 * np.abs(wanted).max()
    assert features_mean(toy) is None


def test_how_many_rows_are_kept(toy: Adapter, data: Path) -> None:
    assert statistics(toy, data, rows=5).tensors["rows/body"].shape == (5, 8)
    few = read_space(statistics(toy, data, rows=3).tensors)
    assert few is not None
    assert few.names == ("00.png", "06.png", "11.png")
    none = statistics(toy, data, rows=0).tensors
    assert not {"names", "rows/body"} & none.keys()
    parts = {"0/statistics/a": 50_000, "0/features/pool": 1280, "0/features/outputs": 1000}
    assert rows_to_keep(None, parts) == ROWS
    assert rows_to_keep(None, {"0/features/pool": 10_000}) == ROW_BYTES / 20_000
    assert rows_to_keep(9000, parts) == 9000


def test_classes_of_the_pictures_stand_with_their_names(toy: Adapter, data: Path, tmp_path: Path) -> None:
    for name, of_class in (("00.png", "ant, red ant"), ("01.png", "bee")):
        (tmp_path / of_class).mkdir()
        (tmp_path / of_class / name).write_bytes((data / name).read_bytes())
    found = read_space(statistics(toy, tmp_path).tensors)
    assert found is not None
    assert found.names == ("ant, red ant/00.png (ant)", "bee/01.png (bee)")


# ---- how a feature is drawn ----------------------------------------------------------------------------------------


def test_features_come_from_the_density_where_there_are_rows_and_from_the_gaussian_where_there_are_none(
    toy: Adapter, data: Path, file: Path
) -> None:
    def targets(**settings) -> Tensor:
        drawing = work_of("generate", toy, None, recipe="sampled-photographs", n=3, **settings)
        space = drawing.setup.roles.priors.space
        assert space is not None
        seeds = [picture_seed(0, i) for i in range(3)]
        bound = drawing.setup._bindings(drawing.request, drawing.request.batch(range(3), seeds), Draws(seeds))
        return bound["score"][0].targets["0/features/body"]

    still = {"sampling.share": 1.0, "sampling.width": 0.0}
    known = features(toy, load_images(data).images.float() / 255)
    for source in (file, data):
        far = scipy.spatial.distance.cdist(targets(data=source, **still).numpy(), known)
        assert (far.min(1) < 2e-3 * np.abs(known).max()).all()
    gaussian = targets(data=file, **{"sampling.kind": "gaussian"}, **still)
    assert scipy.spatial.distance.cdist(gaussian.numpy(), known).min() > 0.01
    assert not torch.equal(targets(data=file), targets(data=file, **{"sampling.width": 0.5}))


def test_a_density_needs_features_of_pictures(toy: Adapter, data: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.safetensors"
    statistics(toy, data, rows=0, out=bare)
    by_default = generate(toy, None, 1, "sampled-photographs", data=bare, **QUICK)
    assert "pictures" not in by_default.measures
    said = refused(generate, toy, None, 1, "sampled", data=bare, **QUICK, **{"sampling.kind": "density"})
    assert "needs features of single pictures" in said
    assert "--data REAL_PICTURES" in said


def test_without_photographs_rows_of_the_head_are_drawn_and_a_line_says_so(toy: Adapter) -> None:
    head, own = "rows of its head are sampled; --data", "BatchNorm's running statistics are matched instead"
    with pytest.warns(UserWarning, match=head), pytest.warns(UserWarning, match=own):
        result = generate(toy, None, 1, "sampled-photographs", **QUICK)
    assert {"features", "batch statistics"} == set(result.frames[0].stats)
    assert "pictures" not in result.measures  # rows of a head are no photographs
    with pytest.warns(UserWarning, match=head), pytest.warns(UserWarning, match="no statistics are matched"):
        result = generate(FLAT, None, 1, "sampled-photographs", **QUICK)
    assert set(result.frames[0].stats) == {"features"}


# ---- the default of a network of photographs -----------------------------------------------------------------------


def test_the_default_recipe_follows_the_network(toy: Adapter, large: Adapter, file: Path, tmp_path: Path) -> None:
    def recipe(model: Adapter, *given, **settings) -> str:
        return str(work_of("generate", model, *given, data=file, **settings).config.recipe)

    assert recipe(toy) == "sampled"
    assert recipe(large) == "sampled-photographs"
    assert recipe(large, recipe="sampled") == "sampled"
    assert recipe(toy, "anchor") == "photographs"
    assert recipe(toy, "anchor", rms=0.05) == "icons"
    assert recipe(toy, "anchor", **{"terms.class.weight": 2.0}) == "icons"
    assert recipe(toy, "anchor", canvas="pixels") == "icons"
    assert recipe(toy, "anchor", **{"canvas.size": 24}) == "photographs"
    assert recipe(large, "anchor") == "photographs"
    assert recipe(large, "anchor", recipe="icons") == "icons"
    probabilities = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 96), torch.nn.Flatten(), torch.nn.Softmax(1))
    with pytest.warns(UserWarning, match="sum to 1, as those of a softmax"):
        headless = Adapter(probabilities, replace(large.spec, feature_layer=None), name="headless")
    with pytest.warns(UserWarning, match="no statistics"):
        assert work_of("generate", headless, "anchor").config.recipe == "icons"
    drawn = generate(large, n=2, steps=2, seed=3, data=file, out=tmp_path / "run", judges=[])
    assert RunFolder.open(tmp_path / "run").settings["settings"]["canvas"]["kind"] == "photographs"
    assert drawn.tables["settings"]["ascent"]["optimizer"] == "adam"
    again = generate(large, n=2, steps=2, seed=3, data=file, out=tmp_path / "run", judges=[], resume=True)
    assert torch.equal(again.images, drawn.images)
    more = generate(large, n=3, data=file, out=tmp_path / "run", resume=True)
    assert torch.equal(more.images[:2], drawn.images)


# ---- from the features of one photograph ---------------------------------------------------------------------------


def test_a_centred_direction_is_scipys_cosine_and_has_its_gradient(data: Path) -> None:
    found = load_model(TOY)
    model = Adapter(found.module.double().requires_grad_(False), found.spec)
    images = load_images(data).images.double() / 255
    known = features(model, images)
    centre, target = torch.from_numpy(known.mean(0)), torch.from_numpy(known[5:6])
    term = direction(model, "body", target, centre=centre)
    wanted = [1 - scipy.spatial.distance.cosine(f - known.mean(0), known[5] - known.mean(0)) for f in known[:3]]
    assert np.abs(term(images[:3]).numpy() - wanted).max() < 1e-12
    assert torch.autograd.gradcheck(term, images[:2].clone().requires_grad_(), fast_mode=True)
    plain = direction(model, "body", target)(images[:3])
    assert np.abs(plain.numpy() - [1 - scipy.spatial.distance.cosine(f, known[5]) for f in known[:3]]).max() < 1e-12


@pytest.mark.parametrize("source", ["data", "file"])
def test_a_photograph_is_drawn_from_its_centred_features(toy: Adapter, data: Path, file: Path, source: str) -> None:
    photo = load_images(data).images[5:6].float() / 255
    real = {"data": data, "file": file}[source]
    drawn = invert(toy, photo, recipe="from-features", steps=40, data=real, judges=[], rate=0.3, **STILL)
    known = features(toy, load_images(data).images.float() / 255)
    near = 1 - scipy.spatial.distance.cdist(
        features(toy, drawn.images) - known.mean(0), known - known.mean(0), "cosine"
    )
    assert near[0].argmax() == 5
    assert near[0, 5] > 0.9
    assert drawn.frames[-1].stats["embedding"] > 0.8


def test_without_a_mean_the_direction_is_not_centred_and_a_line_says_so(toy: Adapter, data: Path) -> None:
    alone = {**QUICK, "terms.statistics.weight": 0.0}
    with pytest.warns(UserWarning, match="at layer 'body' is available: the direction is not centred") as warned:
        result = invert(toy, data / "05.png", recipe="from-features", **alone)
    assert result.measures["notes"] == [str(line.message) for line in warned]
    layer = {"terms.embedding.layer": "body.2"}
    with pytest.warns(UserWarning, match="at layer 'body.2' is available"):
        invert(toy, data / "05.png", recipe="from-features", **alone, **layer)


# ---- how far it is from the photographs ----------------------------------------------------------------------------


def test_the_distance_to_the_nearest_photograph_is_scipys(toy: Adapter, data: Path, tmp_path: Path) -> None:
    chosen = {"data": data, "sampling.share": 0.8}
    result = generate(toy, None, 3, "sampled-photographs", out=tmp_path / "run", **QUICK, **chosen)
    pictures = load_images(data).images.float() / 255
    known, drawn = features(toy, pictures), features(toy, result.images)
    far = scipy.spatial.distance.cdist(drawn - known.mean(0), known - known.mean(0), "cosine")
    among = scipy.spatial.distance.cdist(known - known.mean(0), known - known.mean(0), "cosine")
    np.fill_diagonal(among, np.inf)
    small, own = ((resize(x, (32, 32)).flatten(1)).numpy() for x in (pictures, result.images))
    rms = scipy.spatial.distance.cdist(own, small) / small.shape[1] ** 0.5
    between = scipy.spatial.distance.cdist(small, small) / small.shape[1] ** 0.5
    np.fill_diagonal(between, np.inf)
    measures = json.loads((tmp_path / "run" / "measures.json").read_text())
    for place, record in enumerate(measures["pictures"]):
        assert record["photograph"] == f"{far[place].argmin():02}.png"
        assert abs(record["feature_distance"] - far[place].min()) < 1e-5
        assert record["photograph_in_pixels"] == f"{rms[place].argmin():02}.png"
        assert abs(record["pixel_distance"] - rms[place].min()) < 2e-3  # of 8 bits
        assert 0.8 <= record["share"] <= 1
        assert len(set(record["drawn_from"])) == 2
    usual = measures["photographs"]
    assert usual["number"] == 12
    assert abs(usual["feature_distance"] - float(torch.from_numpy(among.min(1)).median())) < 1e-5
    assert abs(usual["pixel_distance"] - float(torch.from_numpy(between.min(1)).median())) < 2e-3


def test_the_command_shows_the_distance_of_every_picture_and_the_report_too(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # a narrow table is one block a row
    quick = ["--steps", "1", "--n", "12", "--data", file, "--out", tmp_path / "run"]
    assert run("generate", TOY, "--unconditional", *quick) == 0
    said = capsys.readouterr().out
    assert "│       9 │" in said
    words = " ".join(said.split())  # the caption of a narrow table has several lines
    assert "of 12 photographs; one of them to the nearest other, median: " in words
    assert "2 more pictures in measures.json" in words
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Distance to photographs" in page
    assert "repeats what the network sees of one photograph" in page
    found = json.loads((tmp_path / "run" / "measures.json").read_text())
    assert len(found["pictures"]) == 12
    assert "pixel_distance" not in found["pictures"][0]  # a file of statistics holds no pixel


def test_with_only_some_pictures_each_keeps_its_number(toy: Adapter, data: Path, tmp_path: Path) -> None:
    result = generate(toy, None, 6, "sampled-photographs", data=data, only=[1, 4], out=tmp_path / "run", **QUICK)
    assert [record["index"] for record in result.measures["pictures"]] == [1, 4]
    measures = json.loads((tmp_path / "run" / "measures.json").read_text())
    assert [row[0].text for row in origin_table(measures).rows] == ["1", "4", "photographs"]


def test_a_picture_that_is_one_of_the_photographs_is_at_no_distance(toy: Adapter, data: Path) -> None:
    start = {"canvas.start": "photo", "canvas.start_photo": str(data), "start_noise": 0.0}
    result = generate(toy, None, 12, "sampled", data=data, steps=0, judges=[], **start)
    for place, record in enumerate(result.measures["pictures"]):
        assert record["photograph"] == record["photograph_in_pixels"] == f"{place:02}.png"
        assert record["feature_distance"] < 1e-3
        assert record["pixel_distance"] < 0.01
    assert result.measures["photographs"]["feature_distance"] > 0.01


def test_a_class_has_no_such_distance(toy: Adapter, data: Path) -> None:
    assert "pictures" not in generate(toy, "anchor", 1, "sampled", data=data, **QUICK).measures


def test_an_impossible_density_is_one_line(file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    typed = ["generate", TOY, "--unconditional", "--data", file, "--out", tmp_path / "run"]
    for setting, says in (("kind=kernel", "sampling.kind"), ("share=2", "share=2"), ("neighbours=0", "neighbours=0")):
        assert says in refused_command(capsys, *typed, "--set", f"sampling.{setting}").replace("'", "")
