"""Streams of shards: the order with a shuffle buffer, what is read for it, a resume at any step, the hub's files."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import bothways
from bothways import UserError, load_images
from bothways.data.images import Augmentation, batches
from bothways.data.loader import prefetch
from bothways.data.rows import arrow
from bothways.data.rows.order import by_shards, streamed
from bothways.data.rows.stored import StoredSet, open_images
from bothways.data.splits import evaluation_split, is_split
from stored_pictures import NAMES, png, write_folder, write_parquet, write_tar, write_tars

PLAIN = Augmentation(crop=0, flip=False)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.mark.parametrize("buffer", [1, 7, 40, 1000])
def test_a_picture_comes_less_than_the_buffer_from_its_place(buffer: int) -> None:
    places, begins = torch.arange(300), (0, 90, 120, 250)
    order = streamed(places, begins, buffer, seed=3, epoch=2)
    assert order.sort().values.equal(places)
    plain = by_shards(places, begins, 3, 2)
    rank = torch.empty_like(plain)
    rank[plain] = torch.arange(300)
    moved = (rank[order] - torch.arange(300)).abs()
    assert moved.max() < buffer
    assert buffer < 7 or moved.max() > 0.4 * min(buffer, 300)
    assert not order.equal(streamed(places, begins, buffer, seed=3, epoch=3))
    shard = torch.bucketize(plain, torch.tensor(begins), right=True)
    assert len(shard.unique_consecutive()) == 4  # one after the other
    firsts = {int(by_shards(places, begins, 3, epoch)[0]) for epoch in range(20)}
    assert firsts == {0, 90, 120, 250}


def test_rows_that_are_held_out_are_left_out_of_the_stream() -> None:
    places = torch.tensor([7, 1, 4, 100, 95, 3])
    order = by_shards(places, (0, 90), 0, 0)
    assert places[order].tolist() in ([1, 3, 4, 7, 95, 100], [95, 100, 1, 3, 4, 7])


@pytest.mark.parametrize("kind", ["parquet", "tars"])
def test_a_stream_holds_what_the_files_hold_and_resumes_at_any_step(kind: str, tmp_path: Path) -> None:
    place = (write_parquet if kind == "parquet" else write_tars)(tmp_path / "set", (9, 6, 5))
    lazy = open_images(f"stream@4:{place}")
    assert isinstance(lazy, StoredSet)
    assert (lazy.buffer, len(lazy)) == (4, 20)
    held = load_images(place)
    made = [batches(lazy, 4, 1, PLAIN)(step) for step in range(10)]
    for number, epoch in enumerate((made[:5], made[5:])):
        seen = torch.cat([images for images, _ in epoch])
        rows = [int((held.floats() == image).flatten(1).all(1).nonzero()) for image in seen]
        assert sorted(rows) == list(range(20))
        assert rows == streamed(torch.arange(20), (0, 9, 15), 4, 1, number).tolist()
        assert torch.cat([labels for _, labels in epoch]).equal(held.labels[rows])
    for step in (9, 3, 6):  # a resume, in any process
        again = batches(open_images(f"stream@4:{place}"), 4, 1, PLAIN)(step)
        assert all(a.equal(b) for a, b in zip(again, made[step], strict=True))
    ahead = list(prefetch(batches(lazy, 4, 1, PLAIN), 2, 8, workers=2))
    assert all(one[0].equal(made[step][0]) for step, one in enumerate(ahead, start=2))
    assert not (tmp_path / "cache").exists()  # nothing is unpacked


def test_a_group_of_rows_is_read_once_an_epoch_and_a_resume_reads_few(tmp_path: Path, monkeypatch) -> None:
    place = write_parquet(tmp_path / "set", (16, 16, 16, 16))
    read: list[tuple[int, int]] = []
    real = arrow.GroupRows._read
    monkeypatch.setattr(arrow.GroupRows, "_read", lambda self, *at: read.append(at) or real(self, *at))
    batch = batches(open_images(f"stream@8:{place}"), 4, 0, PLAIN)
    for step in range(16):
        batch(step)
    assert len(read) == len(set(read)) == 16
    read.clear()
    batches(open_images(f"stream@8:{place}"), 4, 0, PLAIN)(9)
    assert len(set(read)) <= 2 * 8 // 4 + 2


def test_few_groups_are_held(tmp_path: Path) -> None:
    lazy: Any = open_images(f"stream@4:{write_parquet(tmp_path / 'set', (40, 40))}")
    batch = batches(lazy, 4, 0, PLAIN)
    for step in range(20):
        batch(step)
        assert sum(map(len, lazy.rows._held.values())) <= 2 * 4 + 3 * 4


def test_a_torn_sample_of_a_stream_is_told_and_the_batch_keeps_its_size(tmp_path: Path) -> None:
    place = write_tars(tmp_path / "set", (6, 6), broken=[2, 9])
    batch = batches(open_images(f"stream@3:{place}"), 3, 0, PLAIN)
    with pytest.warns(UserWarning, match="unreadable") as told:
        found = list(prefetch(batch, 0, 8, workers=0))
    assert {len(images) for images, _ in found} == {3}
    assert sum("unreadable picture shard" in str(one.message) for one in told) == 2
    assert "2 unreadable pictures were met" in str(told[-1].message)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (again,) = prefetch(batches(open_images(f"stream@3:{place}"), 3, 0, PLAIN), 7, 8, workers=0)
    assert again[0].equal(found[7][0])


def test_a_damaged_shard_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = write_parquet(tmp_path / "set", (9, 6))
    lazy = open_images(f"stream:{place}")
    monkeypatch.setattr(arrow, "GROUP_AT_MOST", 10)
    with pytest.raises(UserError, match=r"a group of its rows has .*, and at most .* are read at once"):
        batches(lazy, 4, 0, PLAIN)(0)
    monkeypatch.undo()
    file = place / "data" / "train-00000-of-00002.parquet"
    content = file.read_bytes()
    file.write_bytes(content[:40] + b"\xff" * 400 + content[440:])
    with pytest.raises(UserError, match=r"train-00000-of-00002.parquet' is damaged in rows 0 to 3") as caught:
        list(open_images(f"stream:{place}", size=8).parts())
    assert "\n" not in str(caught.value)


def test_what_has_no_shards_is_read_without_stream(tmp_path: Path) -> None:
    place = write_folder(tmp_path / "set", 6)
    with pytest.raises(UserError, match=rf"has no shards to be streamed; type {place} alone$"):
        open_images(f"stream:{place}")
    with pytest.raises(UserError, match="type swiss-roll alone"):
        open_images("stream:swiss-roll")
    with pytest.raises(UserError, match="does not exist"):
        open_images("stream@0:nowhere")
    assert len(load_images(f"stream:{place}")) == 6  # every other task reads the same in its own order


def test_splits_of_a_stream_are_those_of_its_files(tmp_path: Path) -> None:
    write_tars(tmp_path / "set" / "train", (2,)), write_tars(tmp_path / "set" / "val", (2,))
    assert is_split(f"stream:{tmp_path / 'set'}", "val")
    assert evaluation_split(f"stream@9:{tmp_path / 'set'}") == "val"
    assert evaluation_split("stream:hub:uoft-cs/cifar10") == "test"


# ---- the hub's files -----------------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for name in ("HF_DATASETS_CACHE", "HF_MODULES_CACHE"):
        monkeypatch.setattr(datasets.config, name, tmp_path / name)
    datasets.disable_progress_bars()
    place = write_parquet(tmp_path / "set", (9, 6))
    shutil.copy(place / "data" / "train-00000-of-00002.parquet", place / "data" / "test-00000-of-00001.parquet")
    return place


def test_a_data_set_of_the_hub_is_read_where_it_is(hub: Path, tmp_path: Path) -> None:
    wanted = load_images(hub)
    lazy = open_images(f"stream@5:hub:{hub}")
    assert isinstance(lazy, StoredSet)
    assert (lazy.classes, lazy.labels.tolist()) == (NAMES, wanted.labels.tolist())
    assert torch.cat(list(lazy.parts())).equal(wanted.images)
    assert not list((tmp_path / "HF_DATASETS_CACHE").rglob("*.arrow"))  # nothing was copied
    few = load_images(f"stream:hub:{hub}", limit=3)
    assert few.images.equal(load_images(hub, limit=3).images)
    copied = open_images(f"hub:{hub}", in_memory=0)  # without stream it is the library's copy
    assert torch.cat(list(copied.parts())).equal(wanted.images)
    assert copied.labels.equal(wanted.labels)


def test_what_the_hub_does_not_have_is_one_line(hub: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no split 'validation'; it has test, train"):
        open_images(f"stream:hub:{hub}", split="validation")
    tars = tmp_path / "tars"
    write_tar(tars / "train-000000.tar", {"0.png": png(0), "0.cls": b"1"})
    with pytest.raises(UserError, match=r"is not of parquet files \(train-000000.tar\), which alone are") as said:
        open_images(f"stream:hub:{tars}")
    assert "\n" not in str(said.value)
    with pytest.raises(UserError, match="neither in the cache"):
        open_images("stream:hub:nobody/nothing")


# ---- a training ----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("_rough_samples")
def test_a_training_on_a_stream_resumes_bit_for_bit(tmp_path: Path) -> None:
    place = f"stream@6:{write_tars(tmp_path / 'set', (9, 6, 9))}"
    options = {"net": "unet-tiny", "steps": 5, "batch": 4, "validation": 4, "save_every": 1, "workers": 0}
    whole = bothways.pretrain(place, out=tmp_path / "whole", **options)
    assert len(whole.frames) == 5
    from bothways.tasks.shelf import work_of

    work = work_of("pretrain", place, out=tmp_path / "cut", **options)
    frames = work.run()
    next(frames), next(frames)
    frames.close()
    bothways.pretrain(place, out=tmp_path / "cut", resume=True, **options)
    files = [(tmp_path / name / "flow.safetensors").read_bytes() for name in ("whole", "cut")]
    assert files[0] == files[1]
