"""Splits of a data set; the holdout of a training: drawn at random, and fair to classes of few pictures."""

from __future__ import annotations

from collections import Counter
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image

from bothways import UserError
from bothways.data.sources import ImageSet, load_images
from bothways.data.splits import evaluation_split, holdout, is_split, training_split
from bothways.numerics.draws import generator
from hub_parquet import write_hub_parquet


def labelled(*sizes: int, unknown: int = 0) -> ImageSet:
    """Pictures of classes of these sizes, each with its number as its value."""
    labels = torch.tensor([k for k, size in enumerate(sizes) for _ in range(size)] + [-1] * unknown)
    return ImageSet(torch.arange(len(labels)).view(-1, 1, 1, 1).expand(-1, 3, 1, 1), labels, ())


def numbers(data: ImageSet) -> list[int]:
    return data.images[:, 0, 0, 0].tolist()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    ("sizes", "count", "left"),
    [((27, 27, 3), 10, 2), ((27, 27, 1), 10, 1), ((40, 2, 2, 2), 10, 1), ((6, 6, 6), 9, 3), ((20, 20, 4), 33, 1)],
)
def test_a_class_of_few_pictures_keeps_its_share(sizes: tuple[int, ...], count: int, left: int, seed: int) -> None:
    data = labelled(*sizes)
    held, train = holdout(data, count, seed)
    assert len(held) == count
    assert sorted(numbers(held) + numbers(train)) == list(range(len(data)))
    kept = Counter(train.labels.tolist())
    assert all(kept[k] >= left for k in range(len(sizes)))


@pytest.mark.parametrize("seed", range(8))
def test_no_class_is_emptied_while_that_can_be(seed: int) -> None:
    """Three pictures for three classes are left of twelve: one of each."""
    _, train = holdout(labelled(4, 7, 1), 9, seed)
    assert sorted(train.labels.tolist()) == [0, 1, 2]
    held, train = holdout(labelled(4, 7, 1), 10, seed)
    assert (len(held), len(train)) == (10, 2)


@pytest.mark.parametrize("data", [labelled(500, 480, 520), labelled(unknown=60), labelled(30, unknown=30)])
def test_where_no_class_is_small_it_is_the_draw(data: ImageSet) -> None:
    order = torch.randperm(len(data), generator=generator(3, 0, "validation")).tolist()
    held, train = holdout(data, 12, 3)
    assert (numbers(held), numbers(train)) == (order[:12], order[12:])


def test_nothing_and_everything_can_be_held_out() -> None:
    data = labelled(3, 2)
    assert [len(part) for part in holdout(data, 0, 0)] == [0, 5]
    assert [len(part) for part in holdout(data, 5, 0)] == [5, 0]


def write_parquet(path: Path, count: int) -> None:
    path.parent.mkdir(exist_ok=True)
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    write_hub_parquet(path, [file.getvalue()] * count, [0] * count, ["none"])


@pytest.mark.parametrize("name", ["samples.parquet", "data/pictures-00000-of-00001.parquet"])
def test_a_folder_with_one_parquet_file_that_is_no_split_is_read_whole(tmp_path: Path, name: str) -> None:
    write_parquet(tmp_path / name, count=5)
    for split in (training_split(tmp_path), evaluation_split(tmp_path), "test"):
        assert len(load_images(tmp_path, split=split)) == 5
    assert not is_split(tmp_path, "train")


@pytest.mark.parametrize("name", ["test.parquet", "data/validation-00000-of-00001.parquet"])
def test_one_parquet_file_that_is_a_split_is_no_other(tmp_path: Path, name: str) -> None:
    write_parquet(tmp_path / name, count=5)
    with pytest.raises(UserError, match="has no split 'train'"):
        load_images(tmp_path, split="train")
    for other in (training_split(tmp_path), evaluation_split(tmp_path)):
        assert len(load_images(tmp_path, split=other)) == 5
