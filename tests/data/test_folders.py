"""Folders of pictures: which class a label is, over all splits; labels in tables; what is passed over is said."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from bothways import ModelSpec, UserError, evaluate, features, finetune, predict
from bothways.data.readers.entries import in_order, numbers_of
from bothways.data.sources import load_images
from bothways.runs import to_png
from small_flow import write_small_flow

SIDE = 8


def picture(level: float) -> bytes:
    return to_png(torch.full((3, SIDE, SIDE), round(255 * level) / 255))


def write(folder: Path, pictures: Mapping[str, float]) -> Path:
    """{path: its grey} in a folder."""
    for name, level in pictures.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(picture(level))
    return folder


class Levels:
    """A perfect classifier of greys: class k is the level (k + 1/2) / K."""

    name = "levels"

    def __init__(self, classes: int | tuple[str, ...]) -> None:
        self.spec = ModelSpec(SIDE, (0.5,) * 3, (0.5,) * 3, classes)

    def outputs(self, image: torch.Tensor) -> torch.Tensor:
        levels = (torch.arange(self.spec.count) + 0.5) / self.spec.count
        return -((image.mean((1, 2, 3))[:, None] - levels) ** 2) * 1e4

    def features(self, image: torch.Tensor, layers: object) -> dict[str, torch.Tensor]:
        return {"outputs": self.outputs(image)}


def level(k: int, count: int) -> float:
    return (k + 0.5) / count


# ---- numbers as names ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", [range(12), (1, 3, 10), (7,), range(1, 12)], ids=["all", "some", "one", "from 1"])
@pytest.mark.parametrize("form", ["{}", "{:03d}"])
@pytest.mark.parametrize("named", [False, True], ids=["count", "names"])
def test_folders_of_numbers_are_the_numbers(tmp_path: Path, numbers: tuple[int, ...], form: str, named: bool) -> None:
    data = write(tmp_path, {f"{form.format(k)}/0.png": level(k, 12) for k in numbers})
    model = Levels(tuple(f"thing {k}" for k in range(12)) if named else 12)
    found = evaluate(model, data)
    assert found["clean"]["top1"]["value"] == 1.0
    assert found["data"]["matched"] == "number"


def test_a_number_beyond_the_model_is_refused(tmp_path: Path) -> None:
    data = write(tmp_path, {"0/0.png": 0.1, "12/0.png": 0.9})
    with pytest.raises(UserError, match=r"has a class 12 and model 'levels' 12, 0 to 11"):
        evaluate(Levels(12), data)


def test_names_of_the_model_that_are_numbers_go_by_name(tmp_path: Path) -> None:
    data = write(tmp_path, {"7/0.png": level(0, 2), "99/0.png": level(1, 2)})
    found = evaluate(Levels(("7", "99")), data)
    assert (found["clean"]["top1"]["value"], found["data"]["matched"]) == (1.0, "name")


def test_classes_are_counted_by_number_or_by_text() -> None:
    assert in_order(["10", "9", "0", "10"]) == ("0", "9", "10")
    assert in_order(["10", "9", "a"]) == ("10", "9", "a")
    assert in_order(["1", "01", "2"]) == ("01", "1", "2")
    assert numbers_of(["1", "01"]) is None
    assert numbers_of([]) is None
    assert numbers_of(["-1", "1.5"]) is None


def test_a_parquet_with_gaps_in_its_labels(tmp_path: Path) -> None:
    """Labels go by number, whatever the width of the column; a count needs no names."""
    for kind in (pyarrow.int64(), pyarrow.uint8(), pyarrow.uint64()):
        labels = pyarrow.array([99, 0, 7, 0, None, -3] if kind == pyarrow.int64() else [99, 0, 7, 0, None, 7], kind)
        cells = [picture(level(k, 100)) for k in (99, 0, 7, 0, 5, 7)]
        pyarrow.parquet.write_table(pyarrow.table({"image": cells, "label": labels}), tmp_path / "x.parquet")
        found = load_images(tmp_path / "x.parquet")
        assert found.classes == ("0", "7", "99")
        assert found.labels.tolist() == [2, 0, 1, 0, -1, -1 if kind == pyarrow.int64() else 1]
    cells, labels = cells[:4], [99, 0, 7, 0]
    pyarrow.parquet.write_table(pyarrow.table({"image": cells, "label": labels}), tmp_path / "x.parquet")
    assert evaluate(Levels(100), tmp_path / "x.parquet")["clean"]["top1"]["value"] == 1.0


def test_the_largest_labels_there_can_be(tmp_path: Path) -> None:
    labels = pyarrow.array([2**63, 0, 2**64 - 1], pyarrow.uint64())
    table = pyarrow.table({"image": [picture(0.2)] * 3, "label": labels})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    found = load_images(tmp_path / "x.parquet")
    assert found.labels.tolist() == [1, 0, 2]
    assert found.classes == ("0", str(2**63), str(2**64 - 1))


def test_a_label_without_a_name_beside_others(tmp_path: Path) -> None:
    names = {"info": {"features": {"image": {"_type": "Image"}, "label": {"names": ["a", "b"], "_type": "ClassLabel"}}}}
    table = pyarrow.table({"image": [{"bytes": picture(0.5), "path": ""}] * 2, "label": [0, 2]})
    pyarrow.parquet.write_table(
        table.replace_schema_metadata({"huggingface": json.dumps(names)}), tmp_path / "x.parquet"
    )
    with pytest.raises(UserError, match="has label 2 and names 2 classes, 0 to 1"):
        load_images(tmp_path / "x.parquet")


def test_a_finetuning_on_labels_with_gaps(tmp_path: Path) -> None:
    """It is of the classes there are, under their numbers, and a model asked on the same labels by name."""
    cells = [picture(k / 30) for k in range(30)]
    table = pyarrow.table({"image": cells, "label": [(0, 7, 99)[k % 3] for k in range(30)]})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    flow = write_small_flow(tmp_path / "flow", size=SIDE)
    quick = {"train_steps": 1, "batch": 4, "validation": 6, "crop": 0, "flip": False, "workers": 0, "steps": 1}
    made = finetune(flow, tmp_path / "x.parquet", out=tmp_path / "run", **quick)
    assert made.model.spec.classes == ("0", "7", "99")
    with pytest.warns(UserWarning, match="was trained on 24 of the 30"):
        assert evaluate(made.model, tmp_path / "x.parquet")["data"]["matched"] == "name"


# ---- splits --------------------------------------------------------------------------------------------------------


def test_a_label_means_the_same_in_every_split(tmp_path: Path) -> None:
    train = {f"train/{name}/{k}.png": 0.1 * k for name in "abc" for k in range(2)}
    write(tmp_path, {**train, "test/a/0.png": 0.2, "test/c/0.png": 0.7, "extra/d/0.png": 0.5, "extra/a/0.png": 0.5})
    for split, labels in (("train", [0, 0, 1, 1, 2, 2]), ("test", [0, 2]), ("extra", [0, 3])):
        found = load_images(tmp_path, split=split)
        assert found.classes == ("a", "b", "c", "d")
        assert found.labels.tolist() == labels


def test_a_label_means_the_same_in_every_file(tmp_path: Path) -> None:
    for split, names in (("train", ["c", "a", "b"]), ("test", ["a", "c"])):
        facts = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        cells = [{"bytes": picture(0.5), "path": ""}] * len(names)
        table = pyarrow.table({"image": cells, "label": list(range(len(names)))})
        pyarrow.parquet.write_table(
            table.replace_schema_metadata({"huggingface": json.dumps(facts)}), tmp_path / f"{split}.parquet"
        )
    assert load_images(tmp_path, split="train").labels.tolist() == [2, 0, 1]
    assert load_images(tmp_path, split="test").labels.tolist() == [0, 2]
    assert load_images(tmp_path, split="test").classes == ("a", "b", "c")


def test_numbers_mean_the_same_in_every_file(tmp_path: Path) -> None:
    for split, labels in (("train", [0, 7, 99]), ("test", [99, 7])):
        table = pyarrow.table({"image": [picture(0.5)] * len(labels), "label": labels})
        pyarrow.parquet.write_table(table, tmp_path / f"{split}.parquet")
    assert load_images(tmp_path, split="train").labels.tolist() == [0, 1, 2]
    assert load_images(tmp_path, split="test").labels.tolist() == [2, 1]


def test_probes_of_splits_with_different_classes(tmp_path: Path) -> None:
    """Every test picture is a training picture of its class, so that its neighbour is right."""
    for split, names in (("train", "abc"), ("test", "ac")):
        for name in names:
            folder = write(tmp_path / "data" / split / name, {"0.png": 0.5})
            colour = torch.eye(3)["abc".index(name)].view(3, 1, 1).expand(3, SIDE, SIDE)
            for k in range(2):
                (folder / f"{k}.png").write_bytes(to_png(colour * (0.8 + 0.1 * k)))
    flow = write_small_flow(tmp_path / "flow", size=SIDE)
    found = features(flow, tmp_path / "data", 0.1, "pixels", probes="knn", neighbours=1, workers=0)
    assert found.pictures["test"][1].tolist() == [0, 0, 2, 2]
    assert found.probes[0]["value"] == 1.0


def as_tiny_imagenet(folder: Path) -> Path:
    train = {f"train/{wnid}/images/{wnid}_{k}.JPEG": 0.1 * k for wnid in ("n01", "n02", "n03") for k in range(2)}
    for split in ("val", "test"):
        train |= {f"{split}/images/{split}_{k}.JPEG": 0.2 * k for k in range(4)}
    write(folder, train)
    (folder / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn01\t0\t0\t9\t9\n")
    return folder


def test_a_split_without_labels_is_said_to_be_so(tmp_path: Path) -> None:
    data = as_tiny_imagenet(tmp_path / "tiny")
    (data / "val" / "val_annotations.txt").unlink()  # without it nothing says what they are
    assert load_images(data, split="train").labels.tolist() == [0, 0, 1, 1, 2, 2]
    for split in ("val", "test"):
        with pytest.warns(UserWarning, match=f"the pictures of split '{split}' have no label"):
            found = load_images(data, split=split)
        assert found.labels.tolist() == [-1] * 4
        assert found.classes == ("n01", "n02", "n03")
    with pytest.warns(UserWarning, match="no label"), pytest.raises(UserError, match="without a label"):
        evaluate(Levels(3), data)
    flow = write_small_flow(tmp_path / "flow", size=SIDE)
    with pytest.warns(UserWarning, match="the pictures of split 'test' have no label"):
        told = features(flow, data, 0.1, "pixels", workers=0)
    assert told.facts.unprobed == "features only: the pictures have no labels"


def test_splits_that_hold_pictures_alone_are_no_classes(tmp_path: Path) -> None:
    write(tmp_path, {"train/0.png": 0.1, "train/1.png": 0.2, "test/0.png": 0.3})
    assert load_images(tmp_path, split="train").labels.tolist() == [-1, -1]
    assert load_images(tmp_path, split="test").classes == ()


# ---- tables --------------------------------------------------------------------------------------------------------

TABLES = {
    "metadata.csv": "file_name,label\n0.png,cat\n1.png,dog\nsub/2.png,cat\n",
    "labels.csv": "\ufeffid,breed\n0,cat\n1,dog\nsub/2,cat\n4,dog\n",
    "plain.csv": "0.png,cat\n1.png,dog\n2.png,cat\n",
    "wide.csv": "width,Image,Class,note\n8,0.png,cat,\n8,1.png,dog,old\n8,2.png,cat,\n",
    "found.csv": "file,label\n./0.png,cat\n./1.png,dog\n./sub/2.png,cat\n",
}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("beside", [False, True], ids=["in the folder", "beside it"])
def test_labels_from_a_table(tmp_path: Path, name: str, beside: bool) -> None:
    write(tmp_path / "data", {"0.png": 0.1, "1.png": 0.2, "sub/2.png": 0.3})
    (tmp_path / name if beside else tmp_path / "data" / name).write_text(TABLES[name], "utf-8")
    found = load_images(tmp_path / "data")
    assert found.classes == ("cat", "dog")
    assert found.labels.tolist() == [0, 1, 0]


def test_a_table_a_split_and_pictures_that_it_does_not_name(tmp_path: Path) -> None:
    write(tmp_path, {f"{split}/{k}.png": 0.1 * k for split in ("train", "test") for k in range(3)})
    (tmp_path / "train" / "metadata.csv").write_text("file_name,label\n0.png,12\n1.png,3\n2.png,3\n")
    (tmp_path / "test" / "metadata.csv").write_text("file_name,label\n0.png,12\n1.png,12\n")
    assert load_images(tmp_path, split="train").labels.tolist() == [1, 0, 0]
    with pytest.warns(UserWarning, match="1 of 3 have no label"):
        found = load_images(tmp_path, split="test")
    assert found.labels.tolist() == [1, 1, -1]
    assert found.classes == ("3", "12")


@pytest.mark.parametrize(
    "text",
    ["file_name,caption\n0.png,a cat\n1.png,a dog on a bed\n", "epoch,loss\n0,0.5\n1,0.25\n", "", "no table at all\n"],
)
def test_a_table_of_something_else_is_passed_over(tmp_path: Path, text: str) -> None:
    write(tmp_path, {"cat/0.png": 0.1, "dog/1.png": 0.2})
    (tmp_path / "table.csv").write_text(text)
    with pytest.warns(UserWarning, match=r"1 files are passed over \(1 \.csv\), the first: table\.csv"):
        assert load_images(tmp_path).classes == ("cat", "dog")


def test_a_table_beside_folders_of_classes_is_not_theirs(tmp_path: Path) -> None:
    """It may hold predictions; inside the folder it is the labels."""
    write(tmp_path / "data", {"a/0.png": 0.1, "a/1.png": 0.2, "b/0.png": 0.2, "b/1.png": 0.2})
    text = "file,label\na/0.png,cat\na/1.png,dog\nb/0.png,cat\nb/1.png,dog\n"
    (tmp_path / "predicted.csv").write_text(text)
    told = rf"labels are those of its 2 folders; {tmp_path / 'predicted.csv'} names .*: move that into the folder"
    with pytest.warns(UserWarning, match=told):
        found = load_images(tmp_path / "data")
    assert (found.classes, found.labels.tolist()) == (("a", "b"), [0, 0, 1, 1])
    (tmp_path / "predicted.csv").write_text("file,label\na/0.png,a\nb/1.png,b\n")  # nothing that the folders do not say
    assert load_images(tmp_path / "data").labels.tolist() == [0, 0, 1, 1]
    (tmp_path / "data" / "labels.csv").write_text(text)
    found = load_images(tmp_path / "data")
    assert (found.classes, found.labels.tolist()) == (("cat", "dog"), [0, 1, 0, 1])


def test_one_name_in_two_folders_is_no_label(tmp_path: Path) -> None:
    """A table that names 0.png alone does not say which."""
    write(tmp_path, {"a/0.png": 0.1, "b/0.png": 0.2, "b/1.png": 0.2})
    (tmp_path / "labels.csv").write_text("file_name,label\n0.png,cat\n1.png,dog\nb/0.png,dog\n")
    with pytest.warns(UserWarning, match="1 of 3 have no label"):
        found = load_images(tmp_path)
    assert found.labels.tolist() == [-1, 0, 0]


# ---- what is passed over -------------------------------------------------------------------------------------------


def test_files_that_are_passed_over_are_counted_and_named(tmp_path: Path) -> None:
    write(tmp_path, {"cat/0.png": 0.1, "dog/1.png": 0.2, "loose.png": 0.5})
    for name in ("cat/a.heic", "cat/b.HEIC", "dog/c.mp4", "dog/notes.txt", "dog/.hidden.heic"):
        (tmp_path / name).write_bytes(b"")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert load_images(tmp_path).labels.tolist() == [0, 1]
    said = sorted(str(warning.message).removeprefix(f"data {str(tmp_path)!r}: ") for warning in caught)
    assert said == [
        "1 pictures beside the folders of classes are passed over, the first: loose.png",
        f"3 files are passed over (2 .heic, 1 .mp4), the first: {Path('cat/a.heic')}",
    ]
    assert caught[0].filename == __file__


def test_a_folder_whose_classes_are_links(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", {"0.png": 0.1, "1.png": 0.2})
    (tmp_path / "data").mkdir()
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "cat" / "2.png").symlink_to(tmp_path / "nowhere.png")
    with pytest.warns(UserWarning, match=r"2 unreadable pictures skipped, the first: cat/2\.png"):
        assert load_images(tmp_path / "data").labels.tolist() == [0, 0, 1, 1]


def test_predict_says_which_files_it_passes_over(tmp_path: Path) -> None:
    write(tmp_path, {"0.png": 0.5})
    (tmp_path / "clip.mp4").write_bytes(b"")
    with pytest.warns(UserWarning, match=r"1 files are passed over \(1 \.mp4\), the first: clip\.mp4"):
        assert len(predict(Levels(2), tmp_path)) == 1


@pytest.mark.parametrize("suffix", [".gif", ".tif", ".TIFF", ".jpeg", ".bmp"])
def test_kinds_of_files_that_are_read(tmp_path: Path, suffix: str) -> None:
    (tmp_path / "cat").mkdir()
    Image.fromarray(np.full((4, 4, 3), 77, np.uint8)).save(tmp_path / "cat" / f"0{suffix}")
    assert abs(load_images(tmp_path).images.float() - 77).max() <= 1
