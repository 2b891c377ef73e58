"""Labels of a table, weights of classes and mixed batches: by hand, and wrong rows by their row and column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bothways import UserError
from bothways.data.sources import ImageSet
from bothways.data.targets.labels import class_weights, labelled, numbers_of_classes, read_labels
from bothways.data.targets.mixing import mixed
from bothways.numerics.draws import generator


def table(folder: Path, text: str) -> Path:
    (folder / "labels.csv").write_text(text)
    return folder / "labels.csv"


def pictures(*names: str) -> ImageSet:
    images = torch.arange(len(names), dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 3, 2, 2).contiguous()
    return ImageSet(images, torch.full((len(names),), -1), (), names=names)


def test_classes_several_labels_and_numbers(tmp_path: Path) -> None:
    data = pictures("a/x.png", "a/y.png", "b/z.png")
    found = labelled(data, read_labels(table(tmp_path, "file,label\nz.png,cat\n./a/x.png,dog\na/y,10\n")))
    assert (found.classes, found.labels.tolist()) == (("10", "cat", "dog"), [2, 0, 1])
    found = labelled(data, read_labels(table(tmp_path, "FILE,tags\nx,red; round\ny,\nz,round\n"), "multi-label"))
    assert (found.classes, found.labels.tolist()) == (("red", "round"), [[1, 1], [0, 0], [0, 1]])
    found = labelled(data, read_labels(table(tmp_path, "red,file,big\n1,x,0\n0,y,1\n1,z,1\n"), "multi-label"))
    assert (found.classes, found.labels.tolist()) == (("red", "big"), [[1, 0], [0, 1], [1, 1]])
    found = labelled(data, read_labels(table(tmp_path, "file,red\nx,1\ny,0\nz,1\n"), "multi-label"))
    assert (found.classes, found.labels.tolist()) == (("red",), [[1], [0], [1]])
    found = labelled(data, read_labels(table(tmp_path, "file,age,size\nx,3,1e2\n\ny,-1,0\nz,2.5,7\n"), "regression"))
    assert (found.classes, found.labels.tolist()) == (("age", "size"), [[3, 100], [-1, 0], [2.5, 7]])


def test_pictures_without_a_row_are_left_out_with_a_warning(tmp_path: Path) -> None:
    read = read_labels(table(tmp_path, "file,label\nz.png,cat\nx.png,dog\nother.png,dog\n"))
    with pytest.warns(UserWarning, match="1 of 3 pictures are not in it"):
        found = labelled(pictures("x.png", "y.png", "z.png"), read)
    assert (found.names, found.labels.tolist(), found.images[:, 0, 0, 0].tolist()) == (
        ("x.png", "z.png"),
        [1, 0],
        [0, 2],
    )


@pytest.mark.parametrize(
    ("text", "target", "says"),
    [
        ("name of it,label\nx,1\n", "class", "row 1 has no column 'file'"),
        ("file\nx\n", "class", "row 1 has no column beside 'file'"),
        ("file,label\n", "class", "has no row of labels"),
        ("file,label\nx,cat\ny,\n", "class", "row 3, column 'label': no label is named"),
        ("file,label\nx,cat;dog\n", "class", "row 2, column 'label': 'cat;dog' is several labels; type --target multi"),
        ("file,a,b\nx,1,0\n", "class", "row 1 has 2 columns of labels; type --target multi-label, or --target regr"),
        ("file,a,b\nx,1,0\ny,1,2\n", "multi-label", "row 3, column 'b': '2' is neither 0 nor 1"),
        ("file,age\nx,3\ny,old\n", "regression", "row 3, column 'age': 'old' is no finite number"),
        ("file,age\nx,inf\n", "regression", "row 2, column 'age': 'inf' is no finite number"),
        ("file,age\nx,1e39\n", "regression", "row 2, column 'age': '1e39' is no finite number"),  # in single precision
        ("file,age\nx,3\nx,4\n", "regression", "row 3: file 'x' is in row 2 too"),
        (
            "file,one,when\nx,0.1,1.7e9\ny,0.1,1700000001\n",
            "regression",
            "column 'when': single precision at 1.7e+09 keeps less",
        ),
        ("file,age,age\nx,3,4\n", "regression", "row 1 has column 'age' twice; leave one of them out"),
        ("file,age\n,3\n", "regression", "row 2, column 'file': no file is named"),
        ("file,age\nx,3,4\n", "regression", "row 2 has 3 columns, and row 1 has 2"),
        ("file,tags\nx,\n", "multi-label", "column 'tags' names no label"),
    ],
)
def test_what_is_wrong_is_named_by_row_and_column(tmp_path: Path, text: str, target: str, says: str) -> None:
    with pytest.raises(UserError) as said:
        read_labels(table(tmp_path, text), target)
    assert says in str(said.value)
    assert "\n" not in str(said.value)


def test_a_table_of_other_pictures_and_one_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"row 2 has 'q', and the first picture is 'x\.png'"):
        labelled(pictures("x.png"), read_labels(table(tmp_path, "file,label\nq,cat\n")))
    with pytest.raises(UserError, match="type the path of a CSV"):
        read_labels(tmp_path / "none.csv")


def test_a_name_stands_for_one_picture_and_once(tmp_path: Path) -> None:
    """Of pictures that are divided, a name that two of all have would stand for one in each part."""
    read = read_labels(table(tmp_path, "file,label\nx.png,cat\na/y,dog\n"))
    names = ("a/x.png", "a/y.png", "b/x.png")
    assert labelled(pictures("a/x.png", "a/y.png"), read).labels.tolist() == [0, 1]
    with pytest.warns(UserWarning, match="1 of 2 pictures held out are not in it"):
        assert labelled(pictures("a/x.png", "a/y.png"), read, "held out", names).names == ("a/y.png",)
    read = read_labels(table(tmp_path, "file,label\na/y,cat\na/x,dog\n"))
    with pytest.warns(UserWarning, match="2 of 3 pictures are not in it"):
        assert labelled(pictures("a/x.jpg", "a/x.png", "a/y.png"), read).names == ("a/y.png",)
    read = read_labels(table(tmp_path, "file,label\nx.png,cat\na/x,dog\n"))
    with pytest.raises(UserError, match=r"row 3: 'a/x' is picture 'a/x\.png', which row 2 names too; leave one"):
        labelled(pictures("a/x.png", "y.png"), read)


def test_folders_called_by_numbers_are_numbers() -> None:
    data = ImageSet(torch.zeros(3, 3, 2, 2, dtype=torch.uint8), torch.tensor([2, 0, 1]), ("1", "2.5", "10"))
    found = numbers_of_classes(data, "here")
    assert found.labels.tolist() == [[10], [1], [2.5]]
    with pytest.raises(UserError, match="type --labels-csv FILE"):
        numbers_of_classes(ImageSet(data.images, data.labels, ("1", "two", "3")), "here")


def test_balanced_weights_have_mean_one_and_undo_the_frequencies(tmp_path: Path) -> None:
    labels = torch.tensor([0] * 6 + [1] * 3 + [2])
    found = class_weights("balanced", ("a", "b", "c"), labels)
    assert (found * labels.bincount() - 10 / 3).abs().max() < 1e-6
    file = tmp_path / "weights.csv"
    file.write_text("class,weight\nb,1\na,2\nc,4\n")
    found = class_weights(str(file), ("a", "b", "c"), labels)
    assert (found - torch.tensor([2, 1, 4]) * 10 / 19).abs().max() < 1e-6
    for text, says in (
        ("class,weight\na,1\nq,2\n", "row 3, column 'class': 'q' is none of a, b, c"),
        ("class,weight\na,1\nb,-2\n", "row 3, column 'weight': -2 is negative"),
        ("class,weight\na,1\nb,x\n", "row 3, column 'weight': 'x' is no finite number"),
        ("class,weight\na,1\nb,2\n", "class 'c' has no row"),
        ("class,weight\na,1\nb,2\na,3\n", "row 4, column 'class': 'a' is in an earlier row too"),
        ("class,heavy\na,1\n", "type class,weight"),
        ("class,weight\n", "has no row of class weights; type a CSV with a header, such as class,weight"),
    ):
        file.write_text(text)
        with pytest.raises(UserError) as said:
            class_weights(str(file), ("a", "b", "c"), labels)
        assert says in str(said.value)
    with pytest.raises(UserError, match=r"class weights '.*' do not exist; .*such as class,weight"):
        class_weights("balance", ("a", "b", "c"), labels)


def batch() -> tuple[Tensor, Tensor]:
    """Pictures whose every value is their number, so that a mixed one says of which it is made."""
    return torch.arange(6.0).view(-1, 1, 1, 1).expand(-1, 3, 8, 8).contiguous() / 10, torch.tensor([0, 1, 2, 0, 1, 2])


@pytest.mark.parametrize("chosen", [{"mixup": 0.4, "cutmix": 0.0}, {"mixup": 0.0, "cutmix": 1.0}])
def test_a_target_is_the_share_of_each_picture(chosen: dict[str, float]) -> None:
    images, labels = batch()
    hot = torch.nn.functional.one_hot(labels, 3).float()
    seen = set()
    for step in range(12):
        made, targets = mixed(images, labels, 5, step, classes=3, **chosen)
        order = torch.randperm(6, generator=generator(5, step, "mix"))
        share = (made.mean((1, 2, 3)) - images[order].mean((1, 2, 3))) / (images - images[order]).mean((1, 2, 3))
        share = share[~share.isnan()].mean()  # a picture may be mixed with itself
        assert (targets - (share * hot + (1 - share) * hot[order])).abs().max() < 1e-5
        assert (targets.sum(1) - 1).abs().max() < 1e-6
        if chosen["cutmix"]:
            assert {round(v, 4) for v in made.unique().tolist()} <= {round(v, 4) for v in images.unique().tolist()}
        seen.add(round(float(share), 4))
        assert all(torch.equal(a, b) for a, b in zip(mixed(images, labels, 5, step, classes=3, **chosen),
                                                     (made, targets), strict=True))  # fmt: skip
    assert len(seen) > 3
    assert all(0 <= one <= 1 for one in seen)


def test_without_mixing_a_batch_stays_as_it_is_and_numbers_are_mixed_as_they_are() -> None:
    images, labels = batch()
    given: Any = mixed(images, labels, 1, 2, 0.0, 0.0, 3)
    assert given[0] is images
    assert given[1] is labels
    _, targets = mixed(images, 10 * images[:, :1, 0, 0], 1, 2, 0.3, 0.0, 1)
    made, _ = mixed(images, labels, 1, 2, 0.3, 0.0, 3)
    assert (targets[:, 0] - 10 * made[:, 0, 0, 0]).abs().max() < 1e-5
