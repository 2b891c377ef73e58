"""Features on disk are what the network makes, a kill changes no bit of them, and the probes are those of others."""

from __future__ import annotations

import gc
import json
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import scipy.optimize
import torch
from PIL import Image

import bothways
from bothways import RunError, UserError, encode, features, finetune, load_classifier, load_flow
from bothways.models.classifiers import flow_in
from bothways.models.velocity import Flow
from bothways.numerics.draws import Draws, generator
from bothways.numerics.intervals import wilson_interval
from bothways.numerics.probes import linear, nearest
from bothways.representation.classifier import NOISE_SEED
from bothways.representation.encode import Walk
from bothways.representation.features import Features, pooled
from bothways.representation.features import features as read_at_once
from bothways.representation.readings import plan, routes_to
from bothways.runs import RunFolder
from bothways.tasks.features.files import FeatureFile, facts_in
from bothways.tasks.features.section import section
from bothways.tasks.shelf import work_of
from command import refused, run
from small_flow import write_small_flow

SIDE, LAYER = 8, "network.middle"
QUICK = {"batch": 4, "workers": 0, "probes": "none"}


def write_pictures(folder: Path, each: int, classes: tuple[str, ...] = ("dark", "light", "mid")) -> Path:
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for k in range(each):
            pixels = torch.rand(SIDE, SIDE, 3, generator=generator(k, purpose=folder.name + name)) * 0.5
            grey = (255 * (pixels + 0.5 * label / len(classes))).byte().numpy()
            Image.fromarray(grey).save(folder / name / f"{k:02d}.png")
    return folder


@pytest.fixture(scope="module")
def flow(tmp_path_factory: pytest.TempPathFactory) -> Flow:
    return load_flow(write_small_flow(tmp_path_factory.mktemp("flow") / "flow", size=SIDE))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """8 pictures of each of three classes for training, 3 for the test."""
    write_pictures(tmp_path / "data" / "train", 8)
    write_pictures(tmp_path / "data" / "test", 3)
    return tmp_path / "data"


def images_of(folder: Path) -> torch.Tensor:
    """The pictures of a split, in its order, by Pillow alone."""
    files = sorted(folder.glob("*/*.png"))
    return torch.stack([torch.from_numpy(np.array(Image.open(f))) for f in files]).permute(0, 3, 1, 2).float() / 255


def difference(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return float((a.double() - b.double()).abs().max())


class Counted(torch.nn.Module):
    """A network that counts its calls."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network, self.calls = network, 0

    def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.network(x, t)


# ---- what stands in the files --------------------------------------------------------------------------------------


def test_the_columns_are_what_the_flow_makes_of_each_picture(flow: Flow, data: Path, tmp_path: Path) -> None:
    layers = (LAYER, "network.down.0")
    made = features(
        flow, data, (0.2, 0.4, 1.0), ("walked", "activations"), layers=layers, steps=5, limit=20, out=tmp_path / "run",
        batch=7, workers=0,
    )  # fmt: skip
    assert sorted(made.files) == ["test", "train"]
    images = images_of(data / "test")
    x = flow.code(images)
    with torch.no_grad():
        for depth, steps in ((0.2, 1), (0.4, 2), (1.0, 5)):
            own = made.array(f"walked_{depth:g}", "test")
            assert difference(own, pooled(encode(flow, images, depth, steps))) < 1e-6
            assert difference(own, read_at_once(flow, flow.path, x, Features("walked", depth, Walk(steps)))) < 1e-6
            for layer in layers:
                how = Features("activations", layers=(layer,), activation_depth=depth)
                own = made.array(f"activations_{depth:g}_{layer}", "test")
                assert difference(own, read_at_once(flow, flow.path, x, how)) < 1e-6
        assert difference(made.array("pixels", "test"), pooled(x)) < 1e-6
    names, labels = made.pictures["test"]
    assert names == [str(f.relative_to(data / "test")) for f in sorted((data / "test").glob("*/*.png"))]
    assert labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    table = pq.read_table(made.files["train"])
    assert table.column_names == ["place", "name", "label", *made.columns]
    assert table["place"].to_pylist() == list(range(20))
    told = facts_in(made.files["train"])
    assert told["flow"]["weights"] == RunFolder.open(tmp_path / "run").settings["model"]["weights"]
    assert {"torch", "bothways"} <= told["versions"].keys()
    assert (told["classes"], told["split"]) == (["dark", "light", "mid"], "train")
    assert pq.read_table(made.files["test"], columns=["walked_0.2"]).num_columns == 1


def test_depths_share_a_walk_where_their_grids_nest_and_the_network_is_called_no_more(flow: Flow, data: Path) -> None:
    counted = Counted(flow.network)
    watched = Flow(counted, flow.spec, "counted", path=flow.path)
    for depths, calls in (((0.2, 0.4, 1.0), 5), ((0.1, 0.5, 1.0), 10), ((0.37, 0.5, 1.0), 15), ((0.5,), 5)):
        work = features(watched, data, depths, steps=5, splits="test", **{**QUICK, "batch": 9})
        first = counted.calls
        assert work.facts.calls == calls
        features(watched, data, depths, steps=5, splits="test", **{**QUICK, "batch": 3})
        assert counted.calls - first == calls * (3 + 1)  # three batches, and one picture that is tried before
        counted.calls = 0
    with torch.no_grad():
        own = features(flow, data, (0.37, 1.0), steps=3, splits="test", **QUICK).array("walked_0.37", "test")
        assert difference(own, pooled(encode(flow, images_of(data / "test"), 0.37, 3))) < 1e-6


def stops(depths: tuple[float, ...], steps: int, start: float = 1.0, solver: str = "euler") -> list[list[int]]:
    return [[count for _, count in route.stops] for route in routes_to(depths, start, Walk(steps, solver))]


def test_a_walk_is_shared_where_that_is_no_dearer() -> None:
    assert stops((0.1, 0.5, 1.0), 10) == [[1, 5, 10]]
    assert stops((0.1, 0.5, 1.0), 3) == [[3], [3], [3]]  # a shared one would take 10 steps in place of 9
    assert stops((0.1, 0.5, 1.0), 4) == [[1, 5, 10]]
    assert stops((0.1, 0.3, 0.5, 0.9), 5) == [[1, 3, 5, 9]]
    assert stops((0.0, 0.5), 4) == [[0, 4]]
    assert stops((0.0,), 4) == [[0]]
    assert stops((0.5, 1.0), 4, start=0.999) == [[4], [4]]  # the variance-preserving path, whose grids do not nest
    assert stops((0.5, 1.0), 4, solver="dopri5") == [[1], [1]]
    assert plan(["walked"], [0.5, 1.0], walk=Walk(4, "reversible-heun")).calls == 5


def test_an_adaptive_solver_walks_to_each_depth(flow: Flow, data: Path) -> None:
    pytest.importorskip("torchdiffeq")
    own = features(flow, data, (0.02, 0.05), solver="dopri5", splits="test", limit=2, **QUICK)
    with torch.no_grad():
        other = pooled(encode(flow, images_of(data / "test")[[0, 8]], 0.05, solver="dopri5"))
    assert difference(own.array("walked_0.05", "test"), other) < 1e-6


def test_noised_activations_of_a_picture_do_not_depend_on_its_batch(flow: Flow, data: Path) -> None:
    ways = {"kind": "activations", "depth": 0.3, "noised": True, "splits": "test"}
    alone, together = (features(flow, data, **ways, **{**QUICK, "batch": batch}) for batch in (1, 9))
    column = f"activations_0.3_{LAYER}"
    assert difference(alone.array(column, "test"), together.array(column, "test")) < 1e-6
    noise = Draws([NOISE_SEED]).normal(flow.shape, purpose="activations")
    how = Features("activations", layers=(LAYER,), activation_depth=0.3, noised=True)
    with torch.no_grad():
        other = read_at_once(flow, flow.path, flow.code(images_of(data / "test")), how, noise)
    assert difference(together.array(column, "test"), other) < 1e-6


def test_float16_is_the_float32_rounded(flow: Flow, data: Path, tmp_path: Path) -> None:
    whole = features(flow, data, 0.5, splits="test", **QUICK)
    half = features(flow, data, 0.5, splits="test", store="float16", out=tmp_path / "half", **QUICK)
    assert str(pq.read_schema(half.files["test"]).field("walked_0.5").type.value_type) == "halffloat"
    assert difference(whole.array("walked_0.5", "test").half(), half.array("walked_0.5", "test")) == 0


def test_a_finetuned_flow_is_read_by_its_run(data: Path, tmp_path: Path) -> None:
    small = write_small_flow(tmp_path / "flow", size=SIDE)
    quick = {"train_steps": 2, "batch": 6, "validation": 3, "crop": 0, "flip": False, "workers": 0}
    finetune(small, data, out=tmp_path / "tuned", kind="walked", depth=0.5, steps=2, **quick)
    made = features(tmp_path / "tuned", data, 0.5, steps=2, splits="test", out=tmp_path / "run", **QUICK)
    tuned = flow_in(load_classifier(tmp_path / "tuned"))
    with torch.no_grad():
        other = pooled(encode(tuned, images_of(data / "test"), 0.5, 2))
        before = pooled(encode(load_flow(small), images_of(data / "test"), 0.5, 2))
    assert difference(made.array("walked_0.5", "test"), other) < 1e-6
    assert difference(before, other) > 1e-4
    assert RunFolder.open(tmp_path / "run").settings["model"]["address"] == str(tmp_path / "tuned")


# ---- a kill, and what is held --------------------------------------------------------------------------------------


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two batches a part."""
    monkeypatch.setattr("bothways.tasks.features.plan.ROWS", 8)


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.glob("features-*.parquet"))}


@pytest.mark.usefixtures("small_parts")
@pytest.mark.slow
def test_a_run_that_was_stopped_anywhere_ends_in_the_same_bytes(
    flow: Flow, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"depth": (0.5, 1.0), "steps": 2, "batch": 4, "workers": 0}
    (data / "train" / "dark" / "03.png").write_bytes(b"torn")
    whole = features(flow, data, out=tmp_path / "whole", **options)
    wanted = content(tmp_path / "whole")
    assert len(wanted) == 2
    assert not (tmp_path / "whole" / "parts").exists()
    for after in (1, 5, 7, 11):  # of 6 batches of training, 3 of the test, 6 probes
        place = tmp_path / f"{after}"
        with closing(work_of("features", flow, data, out=place, **options).run()) as frames:
            for _ in range(after):
                next(frames)
        assert RunFolder.open(place).status["state"] == "stopped"
        again = features(flow, data, out=place, resume=True, **options)
        assert content(place) == wanted
        assert again.facts == whole.facts
        assert not (place / "parts").exists()
    place = tmp_path / "joined"  # killed after the file was whole and before its parts were gone
    with monkeypatch.context() as patched:
        patched.setattr(FeatureFile, "clear", lambda self: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            features(flow, data, out=place, **options)
    assert (place / "parts" / "train-00002.parquet").is_file()
    features(flow, data, out=place, resume=True, **options)
    assert content(place) == wanted
    assert not (place / "parts").exists()
    with pytest.raises(UserError, match=r"depth was \[0\.5, 1\.0\]"):
        work_of("features", flow, data, out=place, resume=True, **{**options, "depth": 0.5})


@pytest.mark.usefixtures("small_parts")
def test_a_resumed_run_makes_no_batch_again(flow: Flow, data: Path, tmp_path: Path) -> None:
    counted = Counted(flow.network)
    watched = Flow(counted, flow.spec, "counted", path=flow.path)
    options = {"depth": 1.0, "steps": 1, "splits": "train", "out": tmp_path / "run", **QUICK}
    with closing(work_of("features", watched, data, **options).run()) as frames:
        for _ in range(5):
            next(frames)
    second = work_of("features", watched, data, resume=True, **options)
    counted.calls = 0
    assert [frame.step for frame in second.run()] == [5, 6]  # two parts of two batches were whole
    assert counted.calls == 2


@pytest.mark.usefixtures("small_parts")
def test_no_more_than_a_part_is_held(flow: Flow, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded, seen, write = [], [], FeatureFile.write_part
    from bothways.data.rows import reader

    as_pixels = reader.as_pixels
    monkeypatch.setattr(reader, "as_pixels", lambda *a: decoded.append(1) or as_pixels(*a))

    def watched(self, number, batches):
        seen.append((len(decoded), sum(len(values["walked_1"]) for _, values in batches)))
        assert all(not len(each.images) for each, _ in batches)
        write(self, number, batches)

    monkeypatch.setattr(FeatureFile, "write_part", watched)
    made = features(flow, data, 1.0, steps=1, splits="train", out=tmp_path / "run", **QUICK)
    assert seen == [(8, 8), (16, 8), (24, 8)]
    file = pq.ParquetFile(made.files["train"])
    assert [file.metadata.row_group(k).num_rows for k in range(file.num_row_groups)] == [8, 8, 8]


def test_workers_share_the_steps_and_change_nothing(flow: Flow, data: Path, tmp_path: Path) -> None:
    (data / "test" / "mid" / "01.png").write_bytes(b"")
    options = {"depth": 1.0, "steps": 1, "splits": "test", "batch": 2, "probes": "none"}
    for workers in (0, 2):
        features(flow, data, out=tmp_path / f"{workers}", workers=workers, **options)
    assert content(tmp_path / "0") == content(tmp_path / "2")


@pytest.mark.usefixtures("small_parts")
def test_broken_pictures_are_named_and_left_out(flow: Flow, data: Path, tmp_path: Path) -> None:
    whole = features(flow, data, 0.5, splits="train", **QUICK)
    broken = [5, *range(8, 16)]  # one, and all of a part
    files = sorted((data / "train").glob("*/*.png"))
    for place in broken:
        files[place].write_bytes(b"torn")
    made = features(flow, data, 0.5, splits="train", out=tmp_path / "run", **QUICK)
    told = "no image that can be read"
    assert made.facts.skipped["train"] == {str(files[k].relative_to(data / "train")): told for k in broken}
    kept = [place for place in range(24) if place not in broken]
    assert pq.read_table(made.files["train"])["place"].to_pylist() == kept
    assert made.facts.data["pictures"] == {"train": 15}
    assert difference(made.array("walked_0.5", "train"), whole.array("walked_0.5", "train")[kept]) < 1e-6
    for file in files[1:]:
        file.write_bytes(b"")
    files[0].write_bytes(files[0].read_bytes()[:60])
    with pytest.raises(UserError, match="has no readable picture"):
        features(flow, data, 0.5, splits="train", **QUICK)


def test_features_that_are_not_finite_are_no_features(flow: Flow, data: Path) -> None:
    class Broken(torch.nn.Module):
        def forward(self, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            return x * torch.where(x.mean() < 0, torch.inf, 1.0)

    with pytest.raises(RunError, match="that are not finite"):
        features(Flow(Broken(), flow.spec, "broken"), data, 0.5, splits="train", **QUICK)


def test_without_a_folder_nothing_is_left_on_disk(flow: Flow, data: Path, tmp_path: Path, monkeypatch) -> None:
    place = tmp_path / "scratch"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    made = features(flow, data, 0.5, splits="test", **QUICK)
    assert (made.files, list(place.iterdir())) == ({}, [])
    assert made.array("walked_0.5", "test").shape == (9, 192)
    stopped = work_of("features", flow, data, 0.5, splits="test", **QUICK)
    with closing(stopped.run()) as frames:
        next(frames)
    assert len(list(place.iterdir())) == 1
    del stopped, frames
    gc.collect()
    assert list(place.iterdir()) == []


# ---- the probes ----------------------------------------------------------------------------------------------------


def clouds(count: int, dims: int, seed: int, spread: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Three overlapping classes in some of the dimensions, at very different scales."""
    labels = torch.arange(count) % 3
    x = spread * torch.randn(count, dims, generator=generator(seed))
    x[:, 0] += (labels == 1) * 2.0
    x[:, 1] += (labels == 2) * 2.0
    return (x + 0.3) * torch.logspace(-2, 2, dims), labels


def by_brute_force(train: torch.Tensor, labels: torch.Tensor, test: torch.Tensor, k: int) -> torch.Tensor:
    """(M,classes): the weights exp(cos / 0.07) of the k nearest training rows, in double precision."""
    own, other = (torch.nn.functional.normalize(part.double(), dim=1) for part in (train, test))
    near, places = (other @ own.T).topk(min(k, len(own)), dim=1)
    return torch.zeros(len(test), 3).double().scatter_add_(1, labels[places], (near / 0.07).exp())


def test_neighbours_vote_by_their_cosine() -> None:
    pytest.importorskip("sklearn")
    (x, y), (z, _) = clouds(200, 6, 0), clouds(80, 6, 1)
    for k in (1, 7, 20, 500):
        found, weights = nearest(x, y, z, k), by_brute_force(x, y, z, k)
        top = weights.topk(2, 1).values
        sure = top[:, 0] > 1.0001 * top[:, 1]  # rounding decides between two classes of one weight
        assert int(sure.sum()) > 75
        assert found[sure].tolist() == weights.argmax(1)[sure].tolist()
    assert nearest(x[:5], y[:5], z, 20).tolist() == nearest(x[:5], y[:5], z, 5).tolist()
    assert nearest(x, 5 + y, z, 20).tolist() == (5 + nearest(x, y, z, 20)).tolist()


def test_the_linear_probe_is_the_optimum_of_its_loss() -> None:
    pytest.importorskip("sklearn")
    (x, y), (z, wanted) = clouds(240, 5, 2), clouds(300, 5, 3)
    found = linear(x, y, z)
    own, other = ((part.double() - x.double().mean(0)) / x.double().std(0) for part in (x, z))

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        leaf = torch.from_numpy(flat).requires_grad_()
        w, b = leaf[:15].view(5, 3), leaf[15:]
        value = torch.nn.functional.cross_entropy(own @ w + b, y) + found.l2 / 2 * (w * w).sum()
        value.backward()
        return value.item(), leaf.grad.numpy()

    best = torch.from_numpy(scipy.optimize.minimize(loss, np.zeros(18), jac=True, options={"gtol": 1e-9}).x)
    scores = other @ best[:15].view(5, 3) + best[15:]
    top = scores.topk(2, 1).values
    sure = top[:, 0] - top[:, 1] > 1e-2  # a picture between two classes may be called either
    assert int(sure.sum()) > 285
    assert found.predictions[sure].tolist() == scores.argmax(1)[sure].tolist()
    assert 0.6 < float((found.predictions == wanted).double().mean()) < 0.9


def test_l2_is_chosen_by_training_pictures_alone() -> None:
    pytest.importorskip("sklearn")
    (x, y), (z, wanted) = clouds(150, 120, 4), clouds(900, 120, 5)
    found = linear(x, y, z)
    assert found.l2 >= 0.1  # of few pictures in many dimensions
    assert linear(x, y, z[:3]).l2 == found.l2
    assert linear(*clouds(3000, 3, 6), z[:, :3]).l2 <= 0.1
    right = float((found.predictions == wanted).double().mean())
    assert right > 0.4
    with pytest.raises(UserError, match="are of one"):
        linear(x, torch.zeros_like(y), z)


def test_probes_stand_beside_the_pixels_and_chance(flow: Flow, data: Path, tmp_path: Path) -> None:
    made = features(flow, data, (0.1, 0.5), out=tmp_path / "run", batch=8, workers=0, neighbours=3)
    assert [(row["probe"], row["column"]) for row in made.probes] == [
        (probe, column) for column in ("walked_0.1", "walked_0.5", "pixels") for probe in ("linear", "knn")
    ]
    for row in made.probes:
        assert row["n"] == 9
        assert (row["low"], row["high"]) == wilson_interval(round(9 * row["value"]), 9)
    by = {(row["probe"], row["column"]): row["value"] for row in made.probes}
    assert by["linear", "pixels"] > 0.8  # the classes differ in how light they are
    assert made.facts.chance["value"] == 3 / 9
    x, z = (2 * images_of(data / split) - 1 for split in ("train", "test"))
    y, wanted = (torch.arange(3).repeat_interleave(n) for n in (8, 3))
    called = by_brute_force(pooled(x), y, pooled(z), 3).argmax(1)
    assert by["knn", "pixels"] == float((called == wanted).double().mean())
    kept = RunFolder.open(tmp_path / "run")
    assert kept.status["state"] == "complete"
    assert any("wu2018" in entry for entry in kept.measures["citations"])
    page = section(kept.measures)
    assert [chart.title for chart in page["parts"][0].charts] == ["linear: accuracy by depth", "knn: accuracy by depth"]
    assert page["numbers"].rows[-1][0].text == "chance"
    for missing in ({}, {"probes": [{}]}, {"columns": [{}], "files": {"train": "x"}}):
        assert section({"features": missing}) is not None


def test_without_labels_there_are_features_alone(flow: Flow, tmp_path: Path, capsys) -> None:
    for split in ("train", "test"):
        write_pictures(tmp_path / "flat" / split, 4, ("all",))
    write_small_flow(tmp_path / "flow", size=SIDE)
    common = ["--depth", "0.5", "--steps", "1", "--workers", "0"]
    assert run("features", tmp_path / "flow", "--data", tmp_path / "flat", *common, "--out", tmp_path / "run") == 0
    assert "features only: all training labels are alike" in capsys.readouterr().out
    alone = tmp_path / "flat" / "train" / "all"
    assert run("features", tmp_path / "flow", "--data", alone, *common, "--out", tmp_path / "alone") == 0
    out = capsys.readouterr().out
    assert "features only: a probe is fitted on one split" in out
    file = tmp_path / "alone" / "features-train.parquet"
    assert pq.read_table(file)["label"].to_pylist() == [None] * 4
    assert f"4 pictures in {file}" in out
    assert "features only" in (tmp_path / "alone" / "report.html").read_text()


@pytest.mark.filterwarnings("default")  # of pictures without a label
def test_pictures_without_a_label_are_not_counted_among_those_of_a_probe(tmp_path: Path, capsys) -> None:
    for split, each in (("train", 6), ("test", 3)):
        write_pictures(tmp_path / "data" / split, each, ("all",))
        names = sorted(str(file.relative_to(tmp_path / "data" / split)) for file in tmp_path.glob(f"data/{split}/*/*"))
        rows = [f"{name},{'ab'[k % 2]}" for k, name in enumerate(names[:-1])]
        (tmp_path / "data" / split / "labels.csv").write_text("\n".join(["file,label", *rows]) + "\n")
    write_small_flow(tmp_path / "flow", size=SIDE)
    own = ["--depth", "0.5", "--steps", "1", "--workers", "0", "--probe", "knn", "--out", tmp_path / "run"]
    assert run("features", tmp_path / "flow", "--data", tmp_path / "data", *own) == 0
    assert "fitted on 5 pictures, tested on 2" in capsys.readouterr().out


def test_features_beyond_half_precision_are_not_written_as_infinity(data: Path, tmp_path: Path) -> None:
    card = json.loads((write_small_flow(tmp_path / "flow", size=SIDE) / "flow.json").read_text())
    card["spec"]["std"] = [1e-6] * 3
    (tmp_path / "flow" / "flow.json").write_text(json.dumps(card))
    own = {"kind": "pixels", "workers": 0, "probes": "none"}
    with pytest.raises(RunError, match=r"features pixels go up to .* beyond half precision; type --store float32"):
        features(tmp_path / "flow", data, store="float16", out=tmp_path / "half", **own)
    found = features(tmp_path / "flow", data, out=tmp_path / "whole", **own)
    assert found.array("pixels", "test").abs().max() > 65504


# ---- the command line ----------------------------------------------------------------------------------------------


def test_the_command_line_takes_several_depths_and_shows_a_table(data: Path, tmp_path: Path, capsys) -> None:
    write_small_flow(tmp_path / "flow", size=SIDE)
    (data / "test" / "mid" / "01.png").write_bytes(b"torn")
    asked = ["features", tmp_path / "flow", "--data", data, "--depth", ".2", ".4", "--kind", "walked", "activations"]
    asked += ["--steps", "2", "--probe", "knn", "--neighbours", "3", "--workers", "0", "--out", tmp_path / "run"]
    assert run(*asked) == 0
    out = capsys.readouterr().out
    for said in ("walked_0.4", f"activations_0.2_{LAYER}", "pixels", "chance", "skipped mid/01.png: no image"):
        assert said in out
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Probe accuracy by depth" in page
    assert "features measured" in page
    assert run(*asked, "--resume") == 0
    assert run("report", tmp_path / "run", "--out", tmp_path / "report.html") == 0
    assert run("cite", tmp_path / "run") == 0
    assert "xiang2023" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--depth", "2"], "depth=2.0; type a number from 0"),
        (["--depth", "-0.1"], "depth=-0.1"),
        (["--depth", "nan"], "depth.0=nan"),
        (["--kind", "walkd"], "type walked"),
        (["--kind", "activations", "--layer", "network.midle"], "network.middle"),
        (["--kind", "activations", "--layer", "network.up.99"], "no layer 'network.up.99'"),
        (["--steps", "0"], "steps=0"),
        (["--solver", "eular"], "type euler"),
        (["--batch", "0"], "batch=0"),
        (["--limit", "0"], "limit=0"),
        (["--test-limit", "-1"], "test_limit=-1"),
        (["--neighbours", "0"], "neighbours=0"),
        (["--probe", "svm"], "type linear, knn, or none"),
        (["--probe", "linear,none"], "none alone"),
        (["--store", "int8"], "store='int8'"),
        (["--dtype", "float8"], "dtype 'float8'"),
        (["--device", "abacus"], "device 'abacus'"),
        (["--split", "valid"], "no split 'valid'; it has test, train"),
        (["--data", "nowhere"], "data 'nowhere' does not exist"),
        (["--resume", "--overwrite"], "contradict"),
    ],
)
def test_a_mistake_is_one_line(options, says, data: Path, tmp_path: Path, capsys) -> None:
    write_small_flow(tmp_path / "flow", size=SIDE)
    given = [] if "--data" in options else ["--data", data]
    assert says in refused(capsys, "features", tmp_path / "flow", *given, "--out", tmp_path / "run", *options)
    assert not (tmp_path / "run").exists()


def test_mistakes_about_the_run_and_the_data_are_one_line(
    data: Path, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_small_flow(tmp_path / "flow", size=SIDE)
    common = ["--out", tmp_path / "run"]
    assert "is not known" in refused(capsys, "features", "nothing", "--data", data, *common)
    flat = tmp_path / "data" / "train" / "dark"
    for split in (["--split", "train", "test"], ["--split", "test", "other"]):
        assert "has no splits" in refused(capsys, "features", tmp_path / "flow", "--data", flat, *split, *common)
    (tmp_path / "none").mkdir()
    assert "holds no picture" in refused(capsys, "features", tmp_path / "flow", "--data", tmp_path / "none", *common)
    monkeypatch.setattr("bothways.numerics.probes.find_spec", lambda name: None)
    for probe in ("linear", "knn"):
        said = refused(capsys, "features", tmp_path / "flow", "--data", data, "--probe", probe, *common)
        assert "bothways[probes]" in said
        assert "--probe none" in said


def test_the_flow_itself_tells_of_an_unknown_column(flow: Flow, data: Path) -> None:
    made = features(flow, data, 0.5, splits="test", **QUICK)
    assert made.files == {}
    for asked in (("walked_0.6", "test"), ("walked_0.5", "train")):
        with pytest.raises(UserError, match="type one of"):
            made.array(*asked)
    assert isinstance(made, bothways.FeatureTables)
    assert json.dumps(made.measures)
