"""The loop of an evaluation adds up what plain float64 finds over all pictures at once."""

from __future__ import annotations

import pytest
import torch

from bothways.judging.tally import UNSEEN, Tally, evaluate
from bothways.numerics.draws import generator
from bothways.types import ModelSpec, RunError

CLASSES, PICTURES = 8, 53


class Linear:
    """Outputs are a fixed linear map of the pixels."""

    name = "linear"
    spec = ModelSpec(size=4, mean=(0.5,) * 3, std=(0.5,) * 3, classes=CLASSES)
    weight = 2 * torch.randn(48, CLASSES, generator=generator(1), dtype=torch.float64)

    def outputs(self, image):
        return (image.double() - 0.5).flatten(1) @ self.weight

    def features(self, image, layers):
        return {"outputs": self.outputs(image)}


def data() -> tuple[torch.Tensor, torch.Tensor]:
    source = generator(2)
    images = torch.rand(PICTURES, 3, 4, 4, generator=source, dtype=torch.float64)
    noisy = Linear().outputs(images) + 2 * torch.randn(PICTURES, CLASSES, generator=source, dtype=torch.float64)
    return images, noisy.argmax(1)


def test_batches_add_up_to_the_whole() -> None:
    images, labels = data()
    tally, places = Tally(PICTURES), torch.arange(PICTURES)
    parts = zip(images.split(10), labels.split(10), places.split(10), strict=True)
    frames = list(evaluate(Linear(), parts, tally))
    outputs = Linear().outputs(images)
    answers, log_p = outputs.argmax(1), outputs - outputs.logsumexp(1, keepdim=True)
    right = answers == labels
    rank = (outputs > outputs.gather(1, labels[:, None])).sum(1)
    assert 5 < tally.right < PICTURES - 5  # else the rest says little
    assert (tally.n, tally.right, tally.top) == (PICTURES, int(right.sum()), int((rank < 5).sum()))
    assert abs(tally.nll + float(log_p[places, labels].sum())) < 1e-11
    matrix = torch.zeros(CLASSES, CLASSES)
    for label, answer in zip(labels.tolist(), answers.tolist(), strict=True):
        matrix[label, answer] += 1
    found = torch.zeros(CLASSES, CLASSES)
    for (label, answer), count in tally.confusion.items():
        found[label, answer] = count
    assert torch.equal(found, matrix)
    assert torch.equal(tally.hits.bool(), right)
    assert abs(float(tally.sums[:, 1].sum() - log_p.max(1).values.exp().sum())) < 1e-12
    assert [frame.step for frame in frames] == list(range(1, 7))
    assert frames[-1].t == 1.0
    assert abs(frames[-1].stats["accuracy"] - tally.right / PICTURES) < 1e-15


def test_a_picture_that_was_not_seen_is_neither_right_nor_wrong() -> None:
    images, labels = data()
    tally = Tally(5)
    list(evaluate(Linear(), [(images[:2], labels[:2], torch.tensor([4, 1]))], tally))
    assert (tally.hits == UNSEEN).tolist() == [True, False, True, True, False]
    assert tally.n == 2


def test_outputs_that_are_not_finite_are_an_error_in_words() -> None:
    class Broken(Linear):
        def outputs(self, image):
            return super().outputs(image) * torch.nan

    images, labels = data()
    with pytest.raises(RunError, match="not finite"):
        list(evaluate(Broken(), [(images, labels, torch.arange(PICTURES))], Tally(PICTURES)))


def test_what_is_right_is_among_the_five_largest_where_outputs_are_equal() -> None:
    """As of a network in half precision, or of one that gives the same for every class."""
    outputs = torch.cat([torch.zeros(40, 10), torch.randint(0, 3, (160, 10), generator=generator(4)).float()])
    labels, tally = outputs.argmax(1), Tally(len(outputs))
    tally.add(outputs, labels, torch.arange(len(outputs)))
    assert tally.right == tally.top == len(outputs)
    of_zeros = Tally(10)
    of_zeros.add(torch.zeros(10, 10), torch.arange(10), torch.arange(10))
    assert (of_zeros.right, of_zeros.top) == (1, 5)
