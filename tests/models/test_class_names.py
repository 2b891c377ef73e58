"""One rule for class names: of a user, of the labels of data, and of judges."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bothways import ModelSpec, UserError, load_model
from bothways.judging.classes import outputs_of_labels
from bothways.judging.verdicts import judge
from bothways.models.adapter import Adapter
from bothways.models.class_names import matches, resolve, resolve_all, same
from bothways.tasks.generate.roles import find_classes

IMAGENET = ("tench, Tinca tinca", "great white shark, white shark, man-eater", "crane", "crane", "drake, duck", "drake")


class Surest(nn.Module):
    """Calls every picture by one class."""

    def __init__(self, label: int) -> None:
        super().__init__()
        self.label = label

    def forward(self, image: Tensor) -> Tensor:
        outputs = torch.zeros(len(image), len(IMAGENET))
        outputs[:, self.label] = 5.0
        return outputs


def model(label: int = 1) -> Adapter:
    return load_model(Surest(label), ModelSpec(8, (0.0,) * 3, (1.0,) * 3, IMAGENET))


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        (["all"], [0, 1, 2, 3, 4, 5]),
        (["0-2"], [0, 1, 2]),
        (["4-5", "tench", "4"], [4, 5, 0]),
        (range(2), [0, 1]),
        (["ALL", 3], [0, 1, 2, 3, 4, 5]),
    ],
)
def test_ranges_and_all_are_classes(given: list[str], labels: list[int]) -> None:
    assert find_classes(model(), given) == labels


def test_a_class_that_is_called_all_or_like_a_range_is_that_class() -> None:
    assert resolve_all(("all", "7-8", "b"), ["all"]) == [0]
    assert resolve_all(("all", "7-8", "b"), ["7-8"]) == [1]
    assert resolve_all(("all", "7-8", "b"), ["0-1"]) == [0, 1]


def test_a_number_of_python_is_that_class_where_classes_are_called_by_numbers() -> None:
    known = ("1", "2", "3")
    assert resolve_all(known, [0, 1, 2]) == [0, 1, 2]
    assert resolve_all(known, ["1", "3", "0"]) == [0, 2]
    assert resolve_all(known, [3]) == [2]  # there is no fourth, and one has that name


@pytest.mark.parametrize(("given", "says"), [("3-9", "type a range within 0-5"), ("4-2", "type a range within 0-5")])
def test_a_range_that_leaves_the_classes_is_refused(given: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        find_classes(model(), [given])


def test_imagenet_has_its_names() -> None:
    spec = ModelSpec(8, 0.5, 0.5, "imagenet")
    assert spec.count == 1000
    assert (spec.class_name(0), spec.class_name(1), spec.class_name(999)) == (
        "tench, Tinca tinca",
        "goldfish, Carassius auratus",
        "toilet tissue, toilet paper, bathroom tissue",
    )
    names = [spec.class_name(label) for label in range(1000)]
    assert [resolve(names, name) for name in ("ostrich", "macaw", "daisy", "pizza")] == [9, 88, 985, 963]


def test_a_thousand_classes_without_names_say_how_to_state_them() -> None:
    with pytest.raises(UserError) as said:
        resolve([str(label) for label in range(1000)], "ostrich")
    assert 'type a number from 0 to 999, or state the names: ModelSpec(classes="imagenet")' in str(said.value)
    with pytest.raises(UserError, match=r"type a number from 0 to 6$"):
        resolve([str(label) for label in range(7)], "ostrich")


@pytest.mark.parametrize("name", ["great_white_shark", "Great White  Shark", "man-eater", "white_shark, man-eater"])
def test_a_name_is_one_class_to_a_user_to_data_and_to_judges(name: str) -> None:
    assert find_classes(model(), [name]) == [1]
    assert outputs_of_labels(model().spec, "m", (name, "tench"), "d")[0].tolist() == [1, 0]
    right, wrong = (judge(torch.rand(2, 3, 8, 8), [name] * 2, [model(label)])[0] for label in (1, 0))
    assert (right.n, right.hit_rate, wrong.hit_rate) == (2, 1.0, 0.0)
    assert right.wanted_probability is not None
    assert torch.equal(right.wanted_probability, right.confidence)


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("Tinca_Tinca", (0,)),
        ("tench,tinca tinca", (0,)),
        ("crane", (2, 3)),  # as one to judges
        ("duck", (4,)),
        ("drake", (5,)),  # the whole name comes before a word
        ("drake, duck", (4,)),
        ("shark", ()),
        ("", ()),
        ("1", ()),  # a number is a user's alone
    ],
)
def test_the_whole_name_comes_first_then_a_word_that_no_other_class_has(name: str, places: tuple[int, ...]) -> None:
    assert matches(IMAGENET, name) == places


def test_a_word_of_two_classes_is_none_of_them() -> None:
    assert matches(("crane, bird", "crane, lifter", "maillot,"), "crane") == ()
    assert matches(("maillot,", "b"), "") == ()


def test_a_user_may_type_a_number_and_is_told_the_nearest() -> None:
    assert [resolve(IMAGENET, given) for given in (1, "1", " 05 ", "crane")] == [1, 1, 5, 3]
    with pytest.raises(UserError, match="no class 'tensh'; the nearest are tench"):
        resolve(IMAGENET, "tensh")
    for number in ("6", "-1", "²"):
        with pytest.raises(UserError, match="type a name or 0 to 5"):
            resolve(IMAGENET, number)


def test_two_names_are_the_same_by_the_whole_or_before_the_comma() -> None:
    assert same("great_white_shark", "Great white shark, man-eater")
    assert not same("white shark", "great white shark, white shark")
