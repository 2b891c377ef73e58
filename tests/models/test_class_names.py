"""One rule for class names: of a user, of the labels of data, and of judges."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bothways import ModelSpec, UserError, load_model
from bothways.judging.classes import outputs_of_labels
from bothways.judging.verdicts import judge
from bothways.models.adapter import Adapter
from bothways.models.class_names import matches, resolve, same
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
