"""Flows on latents in every task: pictures in, pictures out, and latents on disk in place of pictures."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import bothways
from bothways import UserError, features, finetune, latents, load_classifier, load_flow
from bothways.models.classifiers import flow_in
from bothways.models.velocity import Flow
from bothways.numerics.draws import generator
from bothways.representation.likelihood import Integration, log_density
from bothways.tasks.latents.facts import latent_facts
from bothways.tasks.likelihood.section import numbers_table
from bothways.tasks.shelf import work_of
from command import refused, run
from latent_flows import CHANNELS, PIXELS, SIDE, latent_unet, save_sit, save_vae

QUICK: dict[str, Any] = {"batch": 4, "workers": 0}
SHORT: dict[str, Any] = {"train_steps": 3, "batch": 4, "validation": 4, "crop": 0, "flip": False, "steps": 2}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return latent_unet(tmp_path_factory.mktemp("latent") / "flow")


@pytest.fixture(scope="module")
def flow(place: Path) -> Flow:
    return load_flow(f"diffusers:{place}")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """6 pictures of each of two classes for training, 3 for the test."""
    folder = tmp_path_factory.mktemp("data")
    for split, each in (("train", 6), ("test", 3)):
        for label, name in enumerate(("dark", "light")):
            (folder / split / name).mkdir(parents=True)
            for k in range(each):
                pixels = torch.rand(PIXELS, PIXELS, 3, generator=generator(k, purpose=split + name)) * 0.5
                grey = (255 * (pixels + 0.5 * label)).byte().numpy()
                Image.fromarray(grey).save(folder / split / name / f"{k}.png")
    return folder


@pytest.fixture(scope="module")
def kept(place: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("kept") / "latents"
    return latents(f"diffusers:{place}", data=data, out=out, store="float32", **QUICK).folder


def images_of(folder: Path) -> torch.Tensor:
    files = sorted(folder.glob("*/*.png"))
    return torch.stack([torch.from_numpy(np.array(Image.open(f))) for f in files]).permute(0, 3, 1, 2).float() / 255


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    assert one.shape == other.shape
    return float((one.double() - other.double()).abs().max())


# ---- latents on disk -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_files_hold_what_the_autoencoder_gives(flow: Flow, data: Path, kept: Path) -> None:
    table, pictures = pq.read_table(kept / "train.parquet"), images_of(data / "train")
    found = torch.tensor(table["latent"].to_pylist()).view(-1, CHANNELS, SIDE, SIDE)
    with torch.no_grad():
        assert apart(found, flow.code(pictures)) < 1e-6
    assert table["label"].to_pylist() == [0] * 6 + [1] * 6
    assert table["name"].to_pylist()[6].endswith("light/0.png")
    facts = json.loads((kept / "measures.json").read_text())["latents"]
    assert (facts["shape"], facts["pictures"]) == ([CHANNELS, SIDE, SIDE], {"train": 12, "test": 6})
    with torch.no_grad():
        shown = flow.picture(flow.code(pictures[:4])).clamp(0, 1)
    assert abs(facts["back"] - float((shown - pictures[:4]).square().mean().sqrt())) < 1e-6
    assert abs(facts["rms"] - float(found[:4].square().mean().sqrt())) < 1e-6


def test_a_run_that_was_killed_goes_on_and_half_precision_is_a_rounding(
    place: Path, data: Path, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bothways.tasks.features.plan.ROWS", 4)  # a part a batch
    address, out = f"diffusers:{place}", tmp_path / "out"
    with closing(work_of("latents", address, data=data, out=out, **QUICK).run()) as frames:
        next(frames)
        next(frames)
    assert (out / "parts" / "train-00000.parquet").is_file()
    done = latents(out=out, resume=True)
    whole = latents(address, data=data, out=tmp_path / "whole", **QUICK)
    for split in ("train", "test"):
        one, other = (pq.read_table(made.files[split])["latent"].to_pylist() for made in (done, whole))
        assert one == other
        exact = torch.tensor(pq.read_table(kept / f"{split}.parquet")["latent"].to_pylist())
        assert 0 < apart(torch.tensor(one), exact) < 1e-3 * float(exact.abs().max())


def test_features_of_latents_are_those_of_their_pictures(place: Path, data: Path, kept: Path) -> None:
    how: dict[str, Any] = {"kind": "walked", "depth": (0.5, 1.0), "steps": 2, "probes": "linear", **QUICK}
    pictures, encoded = (features(f"diffusers:{place}", data=source, **how) for source in (data, kept))
    for column in pictures.columns:
        for split in ("train", "test"):
            assert apart(pictures.array(column, split), encoded.array(column, split)) < 1e-4
    assert encoded.pictures["test"][1].tolist() == [0] * 3 + [1] * 3
    assert [row["value"] for row in encoded.probes] == [row["value"] for row in pictures.probes]


def test_a_classifier_of_latents_is_that_of_their_pictures_and_moves(
    place: Path, data: Path, kept: Path, tmp_path: Path
) -> None:
    """The head reads the latent; the finished run holds its autoencoder and needs the flow's folder no more."""
    copied = tmp_path / "flow"
    shutil.copytree(place, copied)
    made = [
        finetune(f"diffusers:{copied}", data=source, out=tmp_path / name, **SHORT)
        for source, name in ((data, "pictures"), (kept, "latents"))
    ]
    assert made[1].folder.settings["settings"]["augmentation"]["flip"] is False
    with pytest.warns(UserWarning, match="latents are taken as they are"):
        work = work_of("finetune", f"diffusers:{copied}", data=kept, **SHORT | {"flip": True, "crop": 2})
    assert work.planned.config.augmentation.crop == 0  # type: ignore[attr-defined]
    losses = [[frame.stats["loss"] for frame in one.frames] for one in made]
    assert max(abs(a - b) for a, b in zip(*losses, strict=True)) < 1e-3
    held = [one.measures["classifier"] for one in made]
    assert abs(held[0]["cross_entropy"] - held[1]["cross_entropy"]) < 1e-3
    assert abs(held[0]["flow_matching"] - held[1]["flow_matching"]) < 1e-3
    shutil.rmtree(copied)
    (tmp_path / "latents").rename(tmp_path / "moved")
    model, test = load_classifier(tmp_path / "moved"), images_of(data / "test")
    with torch.no_grad():
        wanted = flow_in(model).code(test)
        assert apart(model.outputs(test), model.module.classifier(wanted)) < 1e-5  # type: ignore[operator]
    assert model.spec.size == PIXELS
    again = load_flow(tmp_path / "moved")
    assert again.shape == (CHANNELS, SIDE, SIDE)
    with torch.no_grad():
        assert apart(again.code(test), load_flow(f"diffusers:{place}").code(test)) < 1e-6
    image = test[:1].clone().requires_grad_()
    model.outputs(image)[0, 0].backward()
    assert image.grad is not None
    assert float(image.grad.abs().max()) > 0


def test_kept_copies_of_a_classifier_of_latents_are_addresses(place: Path, kept: Path, tmp_path: Path) -> None:
    own = {**SHORT, "kind": "walked", "workers": 0, "keep_every": 2, "accuracy_every": 1, "keep_best": True}
    finetune(f"diffusers:{place}", data=kept, out=tmp_path / "out", **own)
    image = torch.full((1, 3, PIXELS, PIXELS), 0.5)
    for name in ("step-2", "best"):
        with torch.no_grad():
            assert load_classifier(tmp_path / "out" / name).outputs(image).shape == (1, 2)


@pytest.mark.slow
def test_a_classifier_of_sit_and_one_without_its_training(data: Path, tmp_path: Path) -> None:
    file, _ = save_sit(tmp_path / "sit", depth=1)
    for fresh in (False, True):
        out = tmp_path / f"fresh-{fresh}"
        done = finetune(f"sit:{file}", data=data, out=out, fresh=fresh, kind="both", layer="network.blocks", **SHORT)
        card = json.loads((out / "classifier.json").read_text())
        assert card["flow"]["network"]["name"] == "sit"
        assert card["flow"]["autoencoder"]["scale"] == 0.18215
        assert len(done.frames) == 3
        again = load_classifier(out)
        with torch.no_grad():
            assert apart(again.outputs(images_of(data / "test")), done.model.outputs(images_of(data / "test"))) < 1e-6


# ---- the other tasks -------------------------------------------------------------------------------------------------


def test_sampling_decodes_and_a_walk_is_shown_as_pictures(place: Path, data: Path, tmp_path: Path) -> None:
    address = f"diffusers:{place}"
    made = bothways.sample(address, n=3, steps=2, out=tmp_path / "sample")
    assert made.images.shape == (3, 3, PIXELS, PIXELS)
    assert len(list((tmp_path / "sample" / "images").glob("*.png"))) == 3
    walked = bothways.walk(
        address, data / "test" / "dark" / "0.png", steps=2, data=data, limit=4, out=tmp_path / "walk"
    )
    assert walked.there.shape == (3, 3, PIXELS, PIXELS)
    assert np.isfinite(walked.lost)
    found = bothways.diagnose(
        address, data=data, n=2, steps=2, depths=(0.5,), trip_steps=(2,), out=tmp_path / "diagnose"
    )
    assert found.straightness["total"] > 0
    with Image.open(tmp_path / "diagnose" / "images" / "strip-0000.png") as strip:
        assert strip.height >= PIXELS


@pytest.mark.slow
def test_the_likelihood_is_that_of_the_latent(place: Path, data: Path, flow: Flow, tmp_path: Path) -> None:
    options: dict[str, Any] = {"steps": 3, "divergence": "exact", "limit": 3}
    found = bothways.likelihood(f"diffusers:{place}", data=data, out=tmp_path / "run", **options)
    with torch.no_grad():
        code = flow.code(images_of(data / "test")[[0, 2, 5]])  # three of six, evenly spaced
    density = log_density(flow, code, range(3), Integration(steps=3, divergence="exact")).log_p
    wanted = -density / (code[0].numel() * np.log(2))
    assert apart(torch.tensor(found.bits), wanted) < 1e-5
    assert found.latent
    table = str(numbers_table(found.measures["flow"]["likelihood"]))
    assert "Bits per dimension of the latent" in table
    assert "no code length of the picture" in table


def test_what_latents_are_not_for(
    place: Path, data: Path, kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    address, told = f"diffusers:{place}", "holds latents (4, 8, 8) of an autoencoder"
    for command in (
        ["likelihood", address, "--data", str(kept)],
        ["evaluate", "bundled:cifar10-resnet", "--data", str(kept)],
        ["features", "bundled:cifar10-flow", "--data", str(kept), "--probe", "none"],
        ["finetune", "bundled:cifar10-flow", "--data", str(kept)],
    ):
        said = refused(capsys, *command, "--out", str(tmp_path / "none"))
        assert told in said
        assert "and no pictures; finetune and features take them" in said
    assert "holds latents already" in refused(capsys, "latents", address, "--data", str(kept))
    assert "is on pictures and has no autoencoder" in refused(
        capsys, "latents", "bundled:cifar10-flow", "--data", str(data)
    )
    other = latent_unet(tmp_path / "other")
    save_vae(other / "vae", scaling_factor=0.5)
    for task in (["features", "--probe", "none"], ["finetune"]):
        said = refused(
            capsys, task[0], f"diffusers:{other}", "--data", str(kept), *task[1:], "--out", str(tmp_path / "none")
        )
        assert "make them by bothways latents with it" in said


def test_the_command_says_where_the_latents_are(
    place: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run("latents", f"diffusers:{place}", "--data", data, "--out", out, "--workers", "0") == 0
    said = capsys.readouterr().out
    assert f"12 latents in {out / 'train.parquet'}" in said
    assert f"--data {out}" in said
    assert "pictures are off by" in said
    with pytest.raises(UserError, match="not empty"):
        latents(f"diffusers:{place}", data=data, out=out, **QUICK)


def test_files_of_latents_that_somebody_changed(kept: Path, flow: Flow, tmp_path: Path) -> None:
    table = pq.read_table(kept / "train.parquet")
    latent, label = table["latent"].combine_chunks(), table.schema.names.index("label")
    rows = latent.to_pylist()

    def changed(column: str, values: Any, **facts: Any) -> str:
        place = table.schema.names.index(column)
        given = json.loads(table.schema.metadata[b"bothways"]) | facts
        made = table.set_column(place, column, values)
        pq.write_table(made.replace_schema_metadata({b"bothways": json.dumps(given).encode()}), tmp_path / "x.parquet")
        with pytest.raises(UserError) as caught:
            bothways.load_images(tmp_path / "x.parquet", latents=latent_facts(flow))
        assert "\n" not in str(caught.value)
        return str(caught.value)

    numbers = pyarrow.list_(pyarrow.float32(), CHANNELS * SIDE**2)
    assert "not lists of numbers" in changed("latent", pyarrow.array(["a"] * 12))
    short = pyarrow.array([row[:5] for row in rows], pyarrow.list_(pyarrow.float32(), 5))
    assert "its latents have 5 numbers, and their shape 256" in changed("latent", short)
    assert "row 2 holds 0 bytes for a latent of 256 numbers" in changed(
        "latent", pyarrow.array([*rows[:2], None, *rows[3:]], numbers)
    )
    assert "row 0 holds a latent that is not finite" in changed(
        "latent", pyarrow.array([[float("nan")] * 256, *rows[1:]], numbers)
    )
    assert "its labels are of string" in changed("label", pyarrow.array(["a"] * 12))
    assert "not (C, h, w)" in changed("label", table.column(label), latents={"shape": [256], "autoencoder": "a"})
    assert "latents" in changed("label", table.column(label), latents={"shape": "all", "autoencoder": "a"})
