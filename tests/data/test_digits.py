"""The digits of scikit-learn, in one fixed division, in the convention of every other picture."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from bothways import UserError, load_images

sklearn = pytest.importorskip("sklearn.datasets")


def test_all_digits_are_there_once_as_bytes() -> None:
    held = sklearn.load_digits()
    train, test = (load_images("digits", split=split) for split in ("train", "test"))
    assert (len(train), len(test)) == (1500, 297)
    assert train.images.shape == (1500, 3, 8, 8)
    assert train.images.dtype == torch.uint8
    assert train.classes == test.classes == tuple("0123456789")
    assert (train.levels, train.channels) == (17, 1)
    found = torch.cat([train.images, test.images]).numpy()
    labels = torch.cat([train.labels, test.labels]).numpy()
    wanted = np.rint(held.images * 255 / 16).astype(np.uint8)
    assert all(np.array_equal(found[:, channel], found[:, 0]) for channel in (1, 2))
    ours = sorted((label, picture.tobytes()) for label, picture in zip(labels, found[:, 0], strict=True))
    assert ours == sorted((label, picture.tobytes()) for label, picture in zip(held.target, wanted, strict=True))
    sixteenths = np.rint(found[:, 0].astype(float) * 16 / 255)  # what was rounded can be said exactly
    assert np.array_equal(np.rint(sixteenths * 255 / 16), found[:, 0])
    assert set(np.unique(sixteenths)) == set(range(17))


def test_the_division_is_fixed_and_mixes_the_classes() -> None:
    first, again = load_images("digits", limit=5), load_images("digits", limit=5)
    assert torch.equal(first.images, again.images)
    counts = torch.bincount(load_images("digits", split="test").labels, minlength=10)
    assert counts.min() >= 15
    with pytest.raises(UserError, match="no split 'valid'; it has test, train"):
        load_images("digits", split="valid")


def test_resized_digits_have_all_levels() -> None:
    assert load_images("digits", size=8, limit=3).levels == 17
    larger = load_images("digits", size=32, limit=3)
    assert (larger.levels, larger.images.shape) == (256, (3, 3, 32, 32))
    assert larger.subset(torch.tensor([0])).levels == 256
    assert load_images("digits", limit=3).subset(torch.tensor([0])).levels == 17


def test_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(UserError) as caught:
        load_images("digits")
    assert str(caught.value).endswith('needs scikit-learn, which is not installed; type pip install "bothways[digits]"')
