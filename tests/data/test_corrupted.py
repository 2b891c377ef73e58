"""Corrupted sets in a folder: the official layouts made small, what they hold in order, and what is refused."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bothways.data import corrupted
from bothways.data.corrupted import batched, clean_pictures, find_corrupted
from bothways.data.readers.entries import evenly_spaced
from bothways.types import UserError

PER_SEVERITY = 4


def arrays(folder: Path, kinds: tuple[str, ...] = ("fog", "snow"), classes: int = 10) -> dict[str, np.ndarray]:
    """The layout of CIFAR-10-C with four pictures a severity."""
    folder.mkdir(parents=True, exist_ok=True)
    source = np.random.default_rng(3)
    held = {kind: source.integers(0, 256, (5 * PER_SEVERITY, 32, 32, 3), dtype=np.uint8) for kind in kinds}
    held["labels"] = np.tile(source.integers(0, classes, PER_SEVERITY), 5)
    held["labels"][0] = classes - 1
    for name, array in held.items():
        np.save(folder / f"{name}.npy", array)
    return held


def folders(folder: Path, kinds: tuple[str, ...] = ("fog", "snow")) -> None:
    """The layout of Tiny-ImageNet-C with two classes of two pictures; the grey level tells them apart."""
    for number, (kind, severity) in enumerate((kind, level) for kind in kinds for level in range(1, 6)):
        for label, name in enumerate(("n01443537", "n01629819")):
            place = folder / kind / str(severity) / name
            place.mkdir(parents=True)
            for k in range(2):
                grey = np.full((64, 64, 3), 20 * number + 10 * label + 5 * k, np.uint8)
                Image.fromarray(grey).save(place / f"val_{k}.JPEG", quality=100)


def test_arrays_are_read_by_severity_and_row(tmp_path: Path) -> None:
    held = arrays(tmp_path)
    found = find_corrupted(tmp_path)
    assert (found.kinds, found.count, found.classes) == (("fog", "snow"), PER_SEVERITY, corrupted.CIFAR10_CLASSES)
    for kind in found.kinds:
        for severity in (1, 3, 5):
            rows = slice((severity - 1) * PER_SEVERITY, severity * PER_SEVERITY)
            (batch,) = batched(found.pictures(kind, severity), (32, 32), 10, {})
            wanted = torch.from_numpy(held[kind][rows]).permute(0, 3, 1, 2).double() / 255
            assert (batch.images.double() - wanted).abs().max() < 1e-7
            assert batch.labels.tolist() == held["labels"][rows].tolist()
            assert batch.places.tolist() == [0, 1, 2, 3]


def test_a_limit_takes_the_same_pictures_of_every_corruption(tmp_path: Path) -> None:
    held = arrays(tmp_path)
    rows = evenly_spaced(PER_SEVERITY, 2)
    for kind in ("fog", "snow"):
        found = list(find_corrupted(tmp_path).pictures(kind, 2, 2))
        assert [picture.place for picture in found] == [0, 1]
        for row, picture in zip(rows, found, strict=True):
            assert np.array_equal(picture.content, held[kind][PER_SEVERITY + row])


def test_what_is_not_the_published_set_says_so_and_what_is_says_so_too(tmp_path: Path, monkeypatch) -> None:
    import hashlib

    arrays(tmp_path)
    found = find_corrupted(tmp_path)
    assert "not the published CIFAR-10-C" in found.name
    assert "3 of 3 files have not the MD5" in found.checked
    sums = {
        name: hashlib.md5((tmp_path / f"{name}.npy").read_bytes()).hexdigest() for name in ("fog", "snow", "labels")
    }
    monkeypatch.setattr(corrupted, "CIFAR10_C_MD5", sums)
    monkeypatch.setattr(corrupted, "CIFAR10_C_BYTES", (tmp_path / "fog.npy").stat().st_size)
    assert find_corrupted(tmp_path).name == "CIFAR-10-C"
    changed = np.load(tmp_path / "snow.npy")
    changed[7, 5, 5, 1] ^= 1
    np.save(tmp_path / "snow.npy", changed)
    found = find_corrupted(tmp_path)
    assert "1 of 3 files have not the MD5 of CIFAR-10-C (snow)" in found.checked
    assert "not the published" in found.name


def test_a_hundred_classes_have_numbers_only(tmp_path: Path) -> None:
    arrays(tmp_path, classes=100)
    assert find_corrupted(tmp_path).classes == ()


def test_folders_are_read_by_severity_and_class(tmp_path: Path) -> None:
    folders(tmp_path)
    found = find_corrupted(tmp_path)
    assert (found.kinds, found.count, found.classes) == (("fog", "snow"), 4, ("n01443537", "n01629819"))
    assert "not the whole Tiny-ImageNet-C" in found.name
    (batch,) = batched(found.pictures("snow", 2), (64, 64), 10, {})
    wanted = torch.tensor([120, 125, 130, 135]) / 255
    assert (batch.images.mean((1, 2, 3)) - wanted).abs().max() < 1.01 / 255
    assert batch.labels.tolist() == [0, 0, 1, 1]


def test_a_broken_picture_is_named_left_out_and_keeps_its_place(tmp_path: Path) -> None:
    folders(tmp_path)
    (tmp_path / "fog" / "4" / "n01443537" / "val_1.JPEG").write_bytes(b"torn")
    skipped: dict[str, str] = {}
    parts = list(batched(find_corrupted(tmp_path).pictures("fog", 4), (64, 64), 2, skipped))
    assert [place for part in parts for place in part.places.tolist()] == [0, 2, 3]
    assert skipped == {"fog/4/n01443537/val_1.JPEG": "no image that can be read"}


def test_pictures_fit_the_model(tmp_path: Path) -> None:
    held = arrays(tmp_path)
    (batch,) = batched(find_corrupted(tmp_path).pictures("fog", 1), (48, 48), 10, {})
    wanted = np.asarray(Image.fromarray(held["fog"][2]).resize((48, 48), Image.Resampling.BICUBIC))
    assert torch.equal((255 * batch.images[2]).round().byte(), torch.tensor(wanted).permute(2, 0, 1))


def test_clean_pictures_come_one_by_one(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        Image.fromarray(np.full((8, 8, 3), 9, np.uint8)).save(tmp_path / name / "0.png")
    classes, count, pictures = clean_pictures(tmp_path, "train", None)
    assert (classes, count) == (("ant", "bee"), 2)
    assert [(p.place, p.name, p.label) for p in pictures] == [(0, "ant/0.png", 0), (1, "bee/0.png", 1)]


class Bomb:
    """Would leave a mark if it were ever unpickled."""

    def __reduce__(self):
        return exec, ("import pathlib; pathlib.Path('unpickled').touch()",)


@pytest.mark.parametrize("name", ["fog", "labels"])
@pytest.mark.parametrize("how", ["objects", "pickle", "torn", "empty", "archive"])
def test_nothing_is_unpickled(tmp_path: Path, monkeypatch, name: str, how: str) -> None:
    import pickle

    monkeypatch.chdir(tmp_path)
    held = arrays(tmp_path / "set")
    path, buffer = tmp_path / "set" / f"{name}.npy", io.BytesIO()
    if how == "objects":
        np.save(buffer, np.array([Bomb()], dtype=object), allow_pickle=True)
    elif how == "pickle":
        pickle.dump(Bomb(), buffer)
    elif how == "archive":
        np.savez(buffer, held[name])
    else:
        buffer.write(path.read_bytes()[: 200 if how == "torn" else 0])
    path.write_bytes(buffer.getvalue())
    with pytest.raises(UserError) as said:
        find_corrupted(tmp_path / "set")
    assert str(path) in str(said.value)
    assert "\n" not in str(said.value)
    assert not (tmp_path / "unpickled").exists()


def test_other_layouts_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    arrays(tmp_path / "shape")
    np.save(tmp_path / "shape" / "fog.npy", np.zeros((7, 32, 32, 3), np.uint8))
    arrays(tmp_path / "kind")
    np.save(tmp_path / "kind" / "fog.npy", np.zeros((20, 32, 32, 3), np.float32))
    arrays(tmp_path / "alone", kinds=())
    arrays(tmp_path / "odd")
    np.save(tmp_path / "odd" / "labels.npy", np.zeros(21, np.int64))
    folders(tmp_path / "short")
    (tmp_path / "short" / "fog" / "3" / "n01443537" / "val_0.JPEG").unlink()
    for name, says in [
        ("nowhere", "is not a folder"),
        ("empty", "neither labels.npy"),
        ("shape", "holds uint8 (7, 32, 32, 3) beside 20 labels"),
        ("kind", "holds float32"),
        ("alone", "no other array"),
        ("odd", "holds int64 (21,)"),
        ("short", "holds 3 pictures"),
    ]:
        with pytest.raises(UserError) as said:
            find_corrupted(tmp_path / name)
        assert says in str(said.value), name
        assert "\n" not in str(said.value)
