"""Training: the files it leaves, that the card tells the truth, and that a resume changes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bothways import UserError, generate, load_images, load_model, train
from bothways.cli import main
from bothways.numerics.draws import generator
from bothways.numerics.intervals import wilson_interval
from bothways.report import write_report
from bothways.runs import RunFolder, to_png
from bothways.tasks.recipes import configure
from bothways.tasks.shelf import work_of
from bothways.tasks.train.config import TrainConfig
from bothways.tasks.train.run import TrainWork
from golden_cases import TINY
from hub_parquet import write_hub_parquet

NAMES = [f"colour {k}" for k in range(10)]
RECIPE = f"""{TINY}
[holdout]
validation = 10
[fit]
epochs = 2
batch = 10
optimizer = "sgd"
rate = 0.05
average = 0.8
"""
STEPS = 10
ATTENTION = 'builder = "attention"\nwidth = 8\ndepth = 1\nheads = 2\nstem = 4'


def write_pictures(path: Path, seed: int, *, names: list[str] | None = NAMES, side: int = 32) -> None:
    """60 pictures, six of each class: its own colour under noise."""
    source = torch.Generator().manual_seed(seed)
    colours = torch.rand(10, 3, generator=torch.Generator().manual_seed(0))
    labels = [k % 10 for k in range(60)]
    pixels = [(colours[k] + 0.2 * torch.randn(side, side, 3, generator=source)).clamp(0, 1) for k in labels]
    write_table(path, [(255 * picture).to(torch.uint8) for picture in pixels], labels, names)


def write_table(path: Path, pictures: list[torch.Tensor], labels: list[int], names: list[str] | None) -> None:
    """Pictures (H,W,3) uint8 with their labels, as the hub keeps them."""
    write_hub_parquet(path, [to_png(picture.permute(2, 0, 1) / 255) for picture in pictures], labels, names)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/ and tiny.toml."""
    folder = tmp_path_factory.mktemp("train")
    (folder / "data").mkdir()
    write_pictures(folder / "data" / "train.parquet", 1)
    write_pictures(folder / "data" / "test.parquet", 2)
    (folder / "tiny.toml").write_text(RECIPE)
    return folder


def begun(recipe: Path, data: Path, out: Path, **others: Any) -> TrainWork:
    work = work_of("train", recipe, data, out=out, workers=0, **others)
    assert isinstance(work, TrainWork)
    return work


@pytest.fixture(scope="module")
def trained(place: Path) -> Path:
    """The folder that the command line left."""
    with pytest.raises(SystemExit) as end:
        main(["train", str(place / "tiny.toml"), "--data", str(place / "data"), "--out", str(place / "out")])
    assert end.value.code == 0
    return place / "out"


def test_the_files_and_the_truth_of_the_card(place: Path, trained: Path) -> None:
    written = {path.name for path in trained.iterdir()}
    files = {"files.txt", "given.json", ".lock", "tiny.json", "tiny.safetensors", "tiny.statistics.safetensors"}
    assert written == files | {"recipe.toml", "status.json", "frames.jsonl", "checkpoint.pt", "images", "measures.json"}
    assert RunFolder.open(trained).status["state"] == "complete"
    assert [frame["step"] for frame in RunFolder.open(trained).frames] == list(range(1, STEPS + 1))
    card = json.loads((trained / "tiny.json").read_text())
    model, test = load_model(trained / "tiny.json"), load_images(place / "data", split="test")
    assert (model.spec.classes, model.spec.size, model.spec.feature_layer) == (tuple(NAMES), 32, "pool")
    with torch.no_grad():
        hits = sum(int(model.outputs(i[None].float() / 255).argmax() == y) for i, y in zip(*pairs(test), strict=True))
    assert card["accuracy"] == round(hits / 60, 4)
    assert card["accuracy_interval"] == [round(v, 4) for v in wilson_interval(hits, 60)]
    assert card["accuracy_on"].startswith("60 test pictures")
    assert card["parameters"] == sum(p.numel() for p in model.module.parameters())
    assert {v.dtype for v in load_file(trained / "tiny.safetensors").values()} == {torch.float16, torch.int64}


def pairs(data) -> tuple[torch.Tensor, torch.Tensor]:
    return data.images, data.labels


def test_the_card_loads_what_was_measured(place: Path, trained: Path) -> None:
    work = begun(place / "tiny.toml", place / "data", trained, resume=True)
    assert work.done == STEPS
    assert list(work.run()) == []
    result = work.finish().model.module
    images = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    loaded = load_model(trained / "tiny.json")
    for key, value in loaded.module.state_dict().items():
        assert torch.equal(value, result.state_dict()[key])
    with torch.no_grad():  # the memory layouts differ, and with them the order of some sums
        assert (loaded.outputs(images) - work.model.outputs(images)).abs().max() < 1e-5


def test_a_card_of_other_data_states_those_and_their_colours(tmp_path: Path) -> None:
    """24 pixels, three classes, mostly red, one channel of a single value: nothing of CIFAR-10 is on the card."""
    source, data = torch.Generator().manual_seed(3), tmp_path / "other"
    data.mkdir()
    pixels = 0.2 * torch.rand(24, 24, 24, 3, generator=source)
    pixels[..., 0] += 0.7
    pixels[..., 2] = 0.5
    images = (255 * pixels).byte()
    for split in ("train", "test"):
        write_table(data / f"{split}.parquet", list(images), [k % 3 for k in range(24)], ["a", "b", "c"])
    (tmp_path / "plain.toml").write_text(RECIPE.replace("validation = 10", "validation = 4"))
    done = train(tmp_path / "plain.toml", data, out=tmp_path / "out", epochs=1, workers=0)
    card = done.card
    assert card["data"] == f"{data}: 20 pictures for training, 4 held out"
    assert card["accuracy_on"] == f"24 test pictures of {data}"
    assert card["reference"] == "24 test pictures of the same data"
    assert card["limits"].startswith("24 x 24 pixels and 3 classes")
    assert "CIFAR" not in json.dumps(card)
    assert "JPEG" not in json.dumps(card)
    held = torch.randperm(24, generator=generator(3, 0, "validation"))[:4].tolist()
    seen = images[[k for k in range(24) if k not in held]].double() / 255
    for name, wanted in (("mean", seen.mean((0, 1, 2))), ("std", seen.flatten(0, 2).std(0, correction=0))):
        wanted = wanted.clamp_min(1 / 255) if name == "std" else wanted
        assert max(abs(a - b) for a, b in zip(card["spec"][name], wanted.tolist(), strict=True)) < 1e-4
    model = load_model(tmp_path / "out" / "plain.json")
    assert (model.spec.size, model.spec.mean) == (24, tuple(card["spec"]["mean"]))
    assert done.folder.settings["settings"]["spec"]["mean"] == card["spec"]["mean"]
    assert configure(TrainConfig, recipe="cifar10-plain", data="x").spec.mean == (0.4914, 0.4822, 0.4465)


def test_the_report_says_what_was_trained_and_reached(trained: Path, tmp_path: Path) -> None:
    page = write_report([trained], tmp_path / "page.html").read_text().split("<script>")[0]
    assert "trained the classifier tiny for 10 steps in" in page
    assert "The classifier in numbers" in page
    assert "Statistics during training" in page
    assert "drew" not in page
    both = write_report([trained, trained], tmp_path / "both.html").read_text()
    assert "Parameters" in both


def test_a_network_of_one_size_is_built_for_the_pictures(tmp_path: Path) -> None:
    data = tmp_path / "small"
    data.mkdir()
    for split, seed in (("train", 1), ("test", 2)):
        write_pictures(data / f"{split}.parquet", seed, side=16)
    recipe = RECIPE.replace('builder = "resnet"\nchannels = [8, 8]\nblocks = [0, 1]', ATTENTION)
    (tmp_path / "attention.toml").write_text(recipe)
    work = begun(tmp_path / "attention.toml", data, tmp_path / "out")
    assert work.planned.config.network["size"] == 16
    assert work.planned.network(torch.zeros(2, 3, 16, 16)).shape == (2, 10)
    refused("cannot train", tmp_path / "attention.toml", data, tmp_path / "other", **{"network.size": 32})


def test_a_card_draws_and_judges(trained: Path) -> None:
    """The statistics beside it serve the icons recipe, and its features a verdict."""
    card = str(trained / "tiny.json")
    result = generate(card, ["colour 3"], 4, "icons", steps=2, judges=[card])
    verdicts = result.measures["judges"]
    assert [v["judge"] for v in verdicts] == [card]
    assert verdicts[0]["diversity_real"] is not None
    assert (verdicts[0]["frechet"], verdicts[0]["kernel"]) == (None, None)
    assert "the kernel distance needs 5" in verdicts[0]["absent"]
    assert result.measures["images"]["spectrum_slope_null"] is not None
    assert all(power > 0 for power in result.measures["images"]["spectrum_null"]["power"])


def test_a_resume_equals_the_uninterrupted_run(place: Path, trained: Path) -> None:
    out = place / "resumed"
    asked = (place / "tiny.toml", place / "data", out)
    steps = begun(*asked, save_every=4).run()
    assert [next(steps).step for _ in range(6)] == [1, 2, 3, 4, 5, 6]
    steps.close()
    assert RunFolder.open(out).status["state"] == "stopped"
    assert begun(*asked, resume=True).done == 6
    killed = begun(*asked, resume=True, save_every=100)
    kept = killed.run()
    assert next(kept).step == 7  # and no more: what a kill loses is made again
    killed.experiment.folder.release()  # as the system does when a process is killed
    again = begun(*asked, resume=True)
    assert [frame.step for frame in again.run()] == [7, 8, 9, 10]
    again.finish()
    for name in ("tiny.json", "tiny.safetensors", "tiny.statistics.safetensors", "frames.jsonl"):
        assert (out / name).read_bytes() == (trained / name).read_bytes()


def test_initial_weights_leave_the_callers_random_state_alone(place: Path, tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    begun(place / "tiny.toml", place / "data", tmp_path / "out")
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('builder = "resnet"', 'builder = "resnt"', "type resnet"),
        ("channels = [8, 8]", "width = 8", "width"),
        ("epochs = 2", "", "epochs"),
        ("rate = 0.05", "speed = 0.05", "speed"),
        ("crop = 2", "crops = 2", "crops"),
        ("seed = 3", "seed = -1", "seed=-1"),
        ("validation = 10", "validation = 0", "validation"),
        ("validation = 10", "validation = 60", "validation"),
        ("batch = 10", "batch = 51", "51 at a time"),
        ('optimizer = "sgd"', 'optimizer = "sdg"', "sgd"),
        ("[network]", "[net]", "network"),
        ('task = "train"', 'task = "generate"', 'task = "train"'),
    ],
)
def test_a_bad_recipe_is_refused_before_anything_is_written(
    place: Path, tmp_path: Path, old: str, new: str, says: str
) -> None:
    file = tmp_path / "bad.toml"
    assert old in RECIPE
    file.write_text(RECIPE.replace(old, new))
    refused(says, str(file), str(place / "data"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bad_data_is_refused(place: Path, tmp_path: Path) -> None:
    recipe, data = str(place / "tiny.toml"), tmp_path / "data"
    refused("train.parquet and test.parquet", recipe, str(data), tmp_path / "out")
    # one file is no training and test set: its accuracy would be that on what it was trained on
    refused("train.parquet and test.parquet", recipe, str(place / "data" / "train.parquet"), tmp_path / "out")
    data.mkdir()
    write_pictures(data / "train.parquet", 1, names=None)
    refused("train.parquet and test.parquet", recipe, str(data), tmp_path / "out")
    write_pictures(data / "test.parquet", 1)
    refused("metadata", recipe, str(data), tmp_path / "out")
    (data / "train.parquet").write_bytes(b"PAR1")
    refused("not a readable parquet file", recipe, str(data), tmp_path / "out")


def test_a_bad_out_is_refused(place: Path, trained: Path, tmp_path: Path) -> None:
    recipe, data = str(place / "tiny.toml"), str(place / "data")
    refused("--resume", recipe, data, trained)
    (tmp_path / "file").write_text("")
    refused("choose a folder that can be written", recipe, data, tmp_path / "file" / "out")
    other = tmp_path / "other.toml"
    other.write_text(RECIPE.replace("channels = [8, 8]", "channels = [8, 16]"))
    refused("type the first value to --resume", str(other), data, trained, resume=True)


def refused(says: str, *arguments, **keywords) -> None:
    with pytest.raises(UserError) as error:
        begun(*arguments, **keywords)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


def test_a_device_that_is_not_there_is_refused_before_anything_is_written(place: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"device 'cuda:99' is not available .*; type --device cpu"):
        train(str(place / "tiny.toml"), str(place / "data"), device="cuda:99", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
