"""The step from eq. 9 to eq. 10: closed forms, gradients written out, and a model that satisfies it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bothways import ModelSpec, load_images, load_model, scorecard
from bothways.models.adapter import Adapter
from bothways.numerics.draws import Draws
from bothways.numerics.intervals import jackknife_interval, mean_interval
from bothways.runs import to_png
from bothways.tasks.scorecard.run import real_pictures, step_line
from bothways.tasks.scorecard.stationarity import AUGMENTED, LABELLED, PREDICTED, step_rows
from bothways.tasks.scorecard.tables import step_table
from toy_model import NAMES, build

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"
SPEC = ModelSpec(6, (0.5, 0.4, 0.6), (0.25, 0.3, 0.2), 4)


def linear() -> Adapter:
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        return Adapter(nn.Sequential(nn.Flatten(), nn.Linear(108, 4)).double(), SPEC)


def pictures(count: int) -> Tensor:
    return Draws(range(count)).uniform((3, 6, 6)).double()


def rows_of(model: Adapter, images: Tensor, labels: Tensor | None) -> dict[str, dict]:
    return {row["loss"]: row for row in step_rows(model, images, labels)}


def test_it_is_the_cosine_of_the_gradients_written_out() -> None:
    """Of a linear map z = W u + b: cross-entropy (p - y) u^T, l_aug (z' - z) u'^T, and the same without u for b."""
    model, images, labels = linear(), pictures(5), torch.tensor([0, 3, 1, 1, 2])
    weight, bias = (value.detach() for value in model.module.parameters())
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (SPEC.mean, SPEC.std))
    u, mirrored = ((seen - mean).div(std).flatten(1) for seen in (images, images.flip(-1)))
    z, other = (seen @ weight.T + bias for seen in (u, mirrored))
    theta = torch.cat([weight.flatten(), bias])

    def cosine(errors: Tensor, seen: Tensor) -> float:
        g = torch.cat([(errors.T @ seen).flatten(), errors.sum(0)])
        return float(-(g @ theta) / (g.norm() * theta.norm()))

    p = z.softmax(1)
    found = rows_of(model, images, labels)
    assert list(found) == [LABELLED, AUGMENTED]
    assert abs(found[LABELLED]["cosine"].value - cosine(p - F.one_hot(labels, 4), u)) < 1e-12
    assert abs(found[AUGMENTED]["cosine"].value - cosine(other - z, mirrored)) < 1e-12
    assert math.isclose(found[AUGMENTED]["chance"], 1 / math.sqrt(4 * 108 + 4))
    left_out = [
        cosine((other - z)[[j for j in range(5) if j != i]], mirrored[[j for j in range(5) if j != i]])
        for i in range(5)
    ]
    assert (
        np.abs(
            np.subtract(found[AUGMENTED]["cosine"], jackknife_interval(found[AUGMENTED]["cosine"].value, left_out))
        ).max()
        < 1e-12
    )
    guessed = rows_of(model, images, None)
    assert list(guessed) == [PREDICTED, AUGMENTED]
    assert abs(guessed[PREDICTED]["cosine"].value - cosine(p - F.one_hot(z.argmax(1), 4), u)) < 1e-12


def test_it_is_one_where_weight_decay_has_come_to_rest() -> None:
    """At the minimum of sum l + lambda/2 ||theta||^2, found by Newton's steps."""
    model, images, labels = linear(), pictures(12), torch.arange(12) % 4
    parameters = list(model.module.parameters())
    optimizer = torch.optim.LBFGS(
        parameters, max_iter=500, tolerance_grad=1e-11, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        decay = sum(value.square().sum() for value in parameters)
        loss = F.cross_entropy(model.outputs(images), labels, reduction="sum") + 0.05 * decay
        loss.backward()
        return loss

    optimizer.step(closure)
    assert rows_of(model, images, labels)[LABELLED]["cosine"].value > 1 - 1e-9
    assert abs(rows_of(linear(), images, labels)[LABELLED]["cosine"].value) < 0.9


def test_the_jackknife_of_a_mean_is_students_interval() -> None:
    values = np.random.default_rng(3).normal(size=9)
    left_out = [np.delete(values, k).mean() for k in range(9)]
    assert np.abs(np.subtract(jackknife_interval(values.mean(), left_out), mean_interval(values))).max() < 1e-12
    assert math.isnan(jackknife_interval(1.0, [2.0]).low)
    assert math.isnan(jackknife_interval(1.0, [2.0, math.nan]).value)


def test_labels_are_taken_where_they_are_classes_of_the_model(tmp_path: Path) -> None:
    model = load_model(TOY)
    for names, known in ((NAMES, True), (("cat", "dog"), False)):
        folder = tmp_path / str(known)
        for number, name in enumerate(names):
            (folder / name).mkdir(parents=True)
            for k, image in enumerate(Draws(range(10 * number, 10 * number + 3)).uniform((3, 16, 16))):
                (folder / name / f"{k}.png").write_bytes(to_png(image))
        found = real_pictures(folder, (16, 16), 4, seed=0)
        outputs = found.outputs_of(model)
        if not known:
            assert outputs is None
            continue
        data = load_images(folder, size=(16, 16))
        for image, output in zip(found.images, outputs, strict=True):
            place = next(k for k, other in enumerate(data.images) if torch.equal(other.float() / 255, image))
            assert NAMES[output] == data.classes[data.labels[place]]
    card = scorecard(TOY, tmp_path / "True", n=4, draw=False)
    assert [row["loss"] for row in card.step] == [LABELLED, AUGMENTED]
    line = step_line(card.step[0])
    assert f"{card.step[0]['cosine'][0]:.4f}" in line
    table = step_table(card.step)
    assert [row[0].text for row in table.rows] == [LABELLED, AUGMENTED]


def test_a_model_without_classes_has_the_augmented_loss_alone() -> None:
    module, spec = build()
    model = Adapter(module, ModelSpec(16, spec.mean, spec.std, 0))
    found = step_rows(model, Draws(range(2)).uniform((3, 16, 16)), None)
    assert [row["loss"] for row in found] == [AUGMENTED]
