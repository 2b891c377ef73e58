"""Data sets as they are distributed: CIFAR's binary files, Tiny-ImageNet, ImageNet, and corrupted sets as data."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import bothways
from bothways import UserError, load_images
from bothways.data.splits import evaluation_split, is_split
from bothways.models.class_names import matches
from bothways.types import imagenet_names
from small_flow import write_small_flow
from stored_pictures import pixels, png, write_cifar


def refused(address: object, **options: object) -> str:
    with pytest.raises(UserError) as caught:
        load_images(address, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- CIFAR ---------------------------------------------------------------------------------------------------------


def test_cifar_10_is_read_in_the_order_of_its_files(tmp_path: Path) -> None:
    place = write_cifar(tmp_path / "cifar-10-batches-bin", (3, 2, 2, 2, 3), test=4)
    found, test = load_images(place), load_images(place, split="test")
    assert found.images.permute(0, 2, 3, 1).equal(torch.stack([torch.tensor(pixels(k, 32)) for k in range(12)]))
    assert found.labels.tolist() == [k % 10 for k in range(12)]
    assert found.classes[:2] == ("airplane", "automobile")
    assert found.names[3] == "data_batch_2.bin row 0"
    assert test.labels.tolist() == [0, 1, 2, 3]
    assert test.images[1].permute(1, 2, 0).equal(torch.tensor(pixels(101, 32)))
    assert is_split(place, "test")
    assert evaluation_split(place) == "test"
    assert "has no split 'val'; it has test, train" in refused(place, split="val")


def write_cifar_100(place: Path) -> Path:
    """Two pictures to train and one to test, of coarse classes 1 and 0 and fine classes 2, 0 and 1."""
    place.mkdir()
    rows = [
        bytes([c, f]) + pixels(k, 32).transpose(2, 0, 1).tobytes() for k, (c, f) in enumerate([(1, 2), (0, 0), (1, 1)])
    ]
    (place / "train.bin").write_bytes(rows[0] + rows[1])
    (place / "test.bin").write_bytes(rows[2])
    (place / "fine_label_names.txt").write_text("apple\nbaby\nbear\n\n")
    (place / "coarse_label_names.txt").write_text("fruit\npeople\n")
    return place


def test_cifar_100_has_its_fine_classes_or_its_coarse_ones(tmp_path: Path) -> None:
    place = write_cifar_100(tmp_path / "cifar-100-binary")
    fine, coarse, test = (
        load_images(place),
        load_images(f"{place}:coarse"),
        load_images(f"{place}:coarse", split="test"),
    )
    assert (fine.labels.tolist(), fine.classes) == ([2, 0], ("apple", "baby", "bear"))
    assert (coarse.labels.tolist(), coarse.classes) == ([1, 0], ("fruit", "people"))
    assert (test.labels.tolist(), evaluation_split(f"{place}:coarse")) == ([1], "test")
    assert coarse.images.equal(fine.images)
    assert fine.images[1].permute(1, 2, 0).equal(torch.tensor(pixels(1, 32)))
    assert load_images(f"{place}:fine").labels.equal(fine.labels)
    assert "type fine or coarse" in refused(f"{place}:other")
    ten = write_cifar(tmp_path / "ten")
    assert "CIFAR-10 has one kind of label" in refused(f"{ten}:coarse")


class Bomb:
    def __reduce__(self):
        return exec, ("import pathlib; pathlib.Path('unpickled').touch()",)


@pytest.mark.parametrize(
    ("names", "archive"),
    [
        (("batches.meta", "data_batch_1", "test_batch"), "cifar-10-binary.tar.gz"),
        (("meta", "train", "test"), "cifar-100-binary.tar.gz"),
    ],
)
def test_the_pickled_version_is_refused_unread(
    tmp_path: Path, monkeypatch, names: tuple[str, ...], archive: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "set").mkdir()
    for name in names:
        (tmp_path / "set" / name).write_bytes(pickle.dumps(Bomb()))
    said = refused(tmp_path / "set")
    assert "whose pickles can run code and are not read" in said
    assert f"download {archive} in its place" in said
    assert not (tmp_path / "unpickled").exists()


def test_damaged_binary_files_are_named(tmp_path: Path) -> None:
    place = write_cifar(tmp_path / "set")
    file = place / "data_batch_3.bin"
    content = file.read_bytes()
    for changed, says in [
        (content[:-1], "data_batch_3.bin' has 6,145 bytes, which are no whole number of pictures of 3,073"),
        (b"", "data_batch_3.bin' has 0 bytes"),
        (content[:3073] + b"\x0a" + content[3074:], "data_batch_3.bin': row 1 is of class 10, and 10 are named"),
    ]:
        file.write_bytes(changed)
        assert says in refused(place)
    file.unlink()
    assert "data_batch_3.bin' is missing; unpack the archive again" in refused(place)
    file.write_bytes(content)
    (place / "batches.meta.txt").write_text("cat\ncat\n")
    assert "names 1 classes in 2 lines" in refused(place)
    (place / "batches.meta.txt").unlink()
    assert "batches.meta.txt' is missing, which names the classes" in refused(place)


# ---- WordNet numbers -----------------------------------------------------------------------------------------------


GOLDFISH, ALBATROSS, OTHER = "n01443537", "n02058221", "n99999999"


def write_tiny(place: Path) -> Path:
    """The layout of Tiny-ImageNet with three classes, of which words.txt names two otherwise than ImageNet does."""
    for k, wnid in enumerate((ALBATROSS, GOLDFISH, OTHER)):
        images = place / "train" / wnid / "images"
        images.mkdir(parents=True)
        for j in range(2):
            (images / f"{wnid}_{j}.JPEG").write_bytes(png(10 * k + j))
        (place / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t63\t63\n")
    for split, count in (("val", 3), ("test", 2)):
        (place / split / "images").mkdir(parents=True)
        for j in range(count):
            (place / split / "images" / f"{split}_{j}.JPEG").write_bytes(png(100 + j))
    lines = [f"val_{j}.JPEG\t{wnid}\t0\t32\t44\t62\n" for j, wnid in enumerate((OTHER, GOLDFISH, GOLDFISH))]
    (place / "val" / "val_annotations.txt").write_text("".join(lines))
    (place / "wnids.txt").write_text(f"{ALBATROSS}\n{GOLDFISH}\n{OTHER}\n")
    (place / "words.txt").write_text(f"n00000001\tentity\n{GOLDFISH}\tgold fish, Carassius\n{OTHER}\tsomething\n")
    return place


def test_tiny_imagenet_is_read_as_it_ships(tmp_path: Path) -> None:
    place = write_tiny(tmp_path / "tiny-imagenet-200")
    train, val = load_images(place), load_images(place, split="val")
    names = (f"gold fish, Carassius, {GOLDFISH}", f"albatross, mollymawk, {ALBATROSS}", f"something, {OTHER}")
    assert train.classes == val.classes == names
    assert train.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert train.images[0].permute(1, 2, 0).equal(torch.tensor(pixels(10)))
    assert val.labels.tolist() == [2, 0, 0]
    with pytest.warns(UserWarning, match="the pictures of split 'test' have no label"):
        assert load_images(place, split="test").labels.tolist() == [-1, -1]
    assert is_split(place, "val")
    assert evaluation_split(place) == "val"  # those of test have no labels


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("val_1.JPEG n01443537", "line 2: 'val_1.JPEG n01443537' is not NAME, a tab, a number such as n01443537"),
        ("val_1.JPEG\tgoldfish\t0", "line 2:"),
        ("val_7.JPEG\tn01443537", "line 2: picture 'val_7.JPEG' is not below"),
        ("val_0.JPEG\tn01443537", "line 2: picture 'val_0.JPEG' has two classes"),
    ],
)
def test_a_line_of_the_annotations_that_is_odd_is_named(tmp_path: Path, line: str, says: str) -> None:
    place = write_tiny(tmp_path / "set")
    file = place / "val" / "val_annotations.txt"
    file.write_text(f"{file.read_text().splitlines()[0]}\n{line}\n")
    said = refused(place, split="val")
    assert says in said
    assert str(file) in said


def test_a_line_of_the_words_that_is_odd_is_named(tmp_path: Path) -> None:
    place = write_tiny(tmp_path / "set")
    (place / "words.txt").write_text(f"n00000001 entity\n{GOLDFISH}\n")
    assert f"words.txt line 2: '{GOLDFISH}' has no words behind the number" in refused(place)


def test_folders_of_imagenet_have_its_names(tmp_path: Path) -> None:
    numbers = (Path(bothways.__file__).parent / "data" / "readers" / "wnids.txt").read_text().split()
    assert len(set(numbers)) == 1000
    assert numbers == sorted(numbers)
    for wnid in (numbers[0], numbers[517], numbers[134]):
        (tmp_path / "some" / "train" / wnid).mkdir(parents=True)
        (tmp_path / "some" / "train" / wnid / "0.JPEG").write_bytes(png(0))
    some = load_images(tmp_path / "some").classes
    assert some == ("tench, Tinca tinca, n01440764", "crane, n02012849", "crane, n03126707")
    assert [matches(imagenet_names(), name) for name in (some[0], some[1])] == [(0,), (134, 517)]
    assert matches(some, "n03126707") == (2,)
    assert matches([f"gold fish, {GOLDFISH}", "crane"], f"goldfish, Carassius auratus, {GOLDFISH}") == (0,)
    for wnid in numbers:
        (tmp_path / "all" / "val" / wnid).mkdir(parents=True)
        (tmp_path / "all" / "train" / wnid).mkdir(parents=True)
    (tmp_path / "all" / "train" / numbers[7] / "0.JPEG").write_bytes(png(0))
    found = load_images(tmp_path / "all")
    assert found.classes == imagenet_names()
    assert found.labels.tolist() == [7]


def test_a_mapping_beside_the_splits_names_them(tmp_path: Path) -> None:
    (tmp_path / "set" / GOLDFISH).mkdir(parents=True)
    (tmp_path / "set" / GOLDFISH / "0.png").write_bytes(png(0))
    (tmp_path / "LOC_synset_mapping.txt").write_text(f"{OTHER} else\n{GOLDFISH} my fish, yours\n")
    assert load_images(tmp_path / "set").classes == (f"my fish, yours, {GOLDFISH}",)


# ---- corrupted sets as data ----------------------------------------------------------------------------------------


def write_arrays(folder: Path, count: int = 4, side: int = 8) -> dict[str, np.ndarray]:
    folder.mkdir()
    source = np.random.default_rng(3)
    held = {kind: source.integers(0, 256, (5 * count, side, side, 3), dtype=np.uint8) for kind in ("fog", "snow")}
    held["labels"] = np.tile(np.arange(count) % 3, 5).astype(np.uint8)
    for name, array in held.items():
        np.save(folder / f"{name}.npy", array)
    return held


def test_one_corruption_is_data(tmp_path: Path) -> None:
    held = write_arrays(tmp_path / "CIFAR-10-C")
    found = load_images(f"{tmp_path / 'CIFAR-10-C'}:snow@3")
    assert found.images.permute(0, 2, 3, 1).equal(torch.from_numpy(held["snow"][8:12]))
    assert found.labels.tolist() == [0, 1, 2, 0]
    assert found.names[0] == "snow.npy row 8"
    assert (
        load_images(f"{tmp_path / 'CIFAR-10-C'}:fog@5", limit=2)
        .images[1]
        .permute(1, 2, 0)
        .equal(torch.from_numpy(held["fog"][19]))
    )
    assert not is_split(f"{tmp_path / 'CIFAR-10-C'}:snow@3", "test")
    for chosen, says in [
        ("rain@3", "it holds no 'rain'; type one of fog, snow"),
        ("fog@6", "type a severity from 1 to 5"),
        ("fog@0", "type a severity from 1 to 5"),
        ("fog", "type FOLDER:KIND@SEVERITY"),
    ]:
        assert says in refused(f"{tmp_path / 'CIFAR-10-C'}:{chosen}")
    (tmp_path / "other").mkdir()
    assert "neither labels.npy" in refused(f"{tmp_path / 'other'}:fog@1")
    assert "does not exist" in refused(f"{tmp_path / 'nowhere'}:fog@1")


def test_folders_of_a_corruption_are_data(tmp_path: Path) -> None:
    for kind in ("fog", "snow"):
        for severity in range(1, 6):
            for label, wnid in enumerate((GOLDFISH, ALBATROSS)):
                place = tmp_path / "C" / kind / str(severity) / wnid
                place.mkdir(parents=True)
                Image.fromarray(np.full((8, 8, 3), 20 * severity + label, np.uint8)).save(place / "val_0.png")
    shutil.copy(
        tmp_path / "C" / "fog" / "1" / GOLDFISH / "val_0.png", tmp_path / "C" / "fog" / "1" / GOLDFISH / "x.txt"
    )
    found = load_images(f"{tmp_path / 'C'}:fog@4")
    assert found.images[:, 0, 0, 0].tolist() == [80, 81]
    assert found.labels.tolist() == [0, 1]


def test_objects_are_never_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_arrays(tmp_path / "set")
    np.save(tmp_path / "set" / "fog.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    assert "a pickle is never read" in refused(f"{tmp_path / 'set'}:fog@1")
    assert not (tmp_path / "unpickled").exists()


def test_features_and_evaluate_take_one_corruption(tmp_path: Path) -> None:
    held = write_arrays(tmp_path / "set")
    place = f"{tmp_path / 'set'}:fog@2"
    flow = write_small_flow(tmp_path / "flow")
    tables = bothways.features(flow, place, kind="pixels", probes="none", workers=0)
    wanted = torch.from_numpy(held["fog"][4:8]).permute(0, 3, 1, 2).double() / 255
    (split,) = tables.pictures
    found = torch.as_tensor(np.asarray(tables.array(tables.columns[0], split))).double()
    assert (found - wanted.flatten(1)).abs().max() < 1e-6 or (found - (2 * wanted - 1).flatten(1)).abs().max() < 1e-6

    class Right:
        """A classifier that is right of the first two pictures."""

        name = "right"
        spec = bothways.ModelSpec(8, (0.5,) * 3, (0.5,) * 3, classes=10)

        def outputs(self, image: torch.Tensor) -> torch.Tensor:
            same = [int((wanted.float() - one).abs().flatten(1).amax(1).argmin()) for one in image]
            return torch.eye(10)[[place % 3 if place < 2 else 9 for place in same]]

        def features(self, image, layers): ...

    facts = bothways.evaluate(Right(), place)
    assert (facts["clean"]["top1"]["value"], facts["clean"]["n"]) == (0.5, 4)
    assert facts["data"]["pictures"] == 4
