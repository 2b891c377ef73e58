"""A network with one output: two classes told apart by a sigmoid, never a share of one."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import bothways
from bothways import ModelSpec, UserError, load_model
from bothways.judging.classes import load_with_classes


class Bright(nn.Module):
    """(B,3,H,W) -> (B,1): the logit 4 (mean - 1/2) of "light"."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 1)
        self.head.weight.data.fill_(4 / 3)
        self.head.bias.data.fill_(-2.0)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.mean((2, 3)))


def spec(classes: object) -> ModelSpec:
    return ModelSpec(8, (0.0,) * 3, (1.0,) * 3, classes)  # type: ignore[arg-type]


def grey(*levels: float) -> Tensor:
    return torch.tensor(levels).view(-1, 1, 1, 1).expand(-1, 3, 8, 8).contiguous()


def test_one_output_is_the_logit_of_the_second_class() -> None:
    images = grey(0.25, 0.5, 1.0)
    said = bothways.predict(Bright(), images, spec=spec(("dark", "light")), top=2)
    shares = [{answer.name: answer.probability for answer in picture.answers} for picture in said]
    for picture, z in zip(shares, (-1.0, 0.0, 2.0), strict=True):
        assert picture["light"] == pytest.approx(torch.sigmoid(torch.tensor(z)).item(), abs=1e-6)
        assert picture["dark"] + picture["light"] == pytest.approx(1.0)
    assert [picture.answers[0].name for picture in (said[0], said[2])] == ["dark", "light"]


def test_a_class_is_drawn_and_is_not_certain_before_it_is() -> None:
    model = load_model(Bright(), spec(2))
    drawn = bothways.generate(model, classes=[1, 0], n=1, recipe="pixels", steps=20, seed=0)
    light, dark = model.outputs(drawn.images).softmax(1)[:, 1].tolist()
    middle = torch.sigmoid(torch.tensor(0.0)).item()
    assert light > middle + 0.01
    assert dark < middle - 0.01


def test_the_logit_of_either_class_can_be_ascended() -> None:
    image = grey(0.5).requires_grad_()
    dark, light = load_model(Bright(), spec(2)).outputs(image)[0]
    (down,) = torch.autograd.grad(dark, image, retain_graph=True)
    (up,) = torch.autograd.grad(light, image)
    assert up.sum() == pytest.approx(2.0)  # half of the logit's 4
    assert torch.equal(down, -up)


def test_the_rows_of_its_head_are_those_of_two_classes() -> None:
    model = load_model(Bright(), spec(2))
    found = model.head()
    assert found is not None
    layer, rows = found
    entering = model.features(grey(0.25, 1.0), [layer, "outputs"])
    logits = entering[layer] @ rows.T
    assert rows.shape == (2, 3)
    assert (logits.diff(dim=1) - 2 - entering["outputs"].diff(dim=1)).abs().max() < 1e-6  # but for the bias


@pytest.mark.parametrize(
    ("classes", "said"), [(1, "1 classes of 1 outputs"), (["frog"], "classes=2"), (5, "classes=2")]
)
def test_a_share_of_one_is_refused(classes: object, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        load_model(Bright(), spec(classes))
    assert "\n" not in str(caught.value)


def test_a_model_of_ones_own_that_states_one_class_is_refused_where_classes_are_told_apart() -> None:
    class Own:
        spec, name = spec(1), "own"

        def outputs(self, image: Tensor) -> Tensor:
            return image.mean((1, 2, 3))[:, None]

        def features(self, image: Tensor, layers: object) -> dict[str, Tensor]:
            return {"outputs": self.outputs(image)}

    with pytest.raises(UserError, match="has one class, and there is nothing to tell apart"):
        load_with_classes(Own())


def test_an_encoder_may_have_one_output() -> None:
    assert load_model(Bright(), spec(0)).outputs(grey(1.0)).shape == (1, 1)


def test_training_on_one_class_is_refused(tmp_path: Path) -> None:
    from bothways.tasks.train.plan import check_classes

    with pytest.raises(UserError, match="one class"):
        check_classes(("frog",), str(tmp_path))
