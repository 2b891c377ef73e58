"""Who is asked what: models that say the class, models that say what is real, and what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bothways import ModelSpec, UserError, generate, load_model
from bothways.models.adapter import Adapter
from bothways.tasks.generate.config import GenerateConfig
from bothways.tasks.generate.problem import objective_of
from bothways.tasks.generate.roles import find_classes, find_models
from bothways.tasks.recipes import configure

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"
OTHER = TOY.replace(":build", ":other")


@pytest.fixture(scope="module")
def toy() -> Adapter:
    return load_model(TOY)


def refused(call, *arguments, **keywords) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments, **keywords)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("model", "classes", "roles", "says"),
    [
        (None, None, {}, "no model was given"),
        (None, ["anchor"], {"score": [TOY]}, "no model was given"),
        (None, None, {"score": [TOY], "weights": "some.safetensors"}, "--weights needs MODEL"),
        (TOY, None, {"score": [OTHER]}, "has no role"),
        (TOY, ["anchor"], {"score": [OTHER], "condition": [OTHER]}, "has no role"),
        (TOY, None, {"condition": [OTHER]}, "type --class NAME too"),
        (TOY, ["anchor"], {"score": [OTHER], "recipe": "das"}, "needs a prior term"),
        (TOY, ["anchor"], {"score": [nn.Flatten()]}, "ModelSpec(size="),
        (None, None, {"score": [TOY, OTHER], "recipe": "sampled"}, "needs statistics on the same pictures"),
        (
            None,
            None,
            {"score": [TOY, OTHER], "recipe": "sampled", "terms.statistics.weight": 0},
            "needs statistics on the same",
        ),
    ],
)
def test_roles_that_cannot_be(model, classes, roles: dict[str, Any], says: str, tmp_path: Path) -> None:
    settings = {"recipe": "dsf", "steps": 1, "out": tmp_path / "run", **roles}
    assert says in refused(generate, model, classes, 1, **settings)
    assert not (tmp_path / "run").exists()


def test_weights_and_facts_are_of_the_model_wherever_its_address_stands(toy: Adapter, tmp_path: Path) -> None:
    file = tmp_path / "other.safetensors"
    save_file({k: v.contiguous() for k, v in load_model(OTHER).module.state_dict().items()}, file)
    wanted = load_model(OTHER).parameters()["head.weight"]
    same = str(Path(TOY))  # equal, but another object, as a command line hands it over
    config = configure(GenerateConfig, recipe="dsf", model=TOY, condition=[same], weights=file)
    says, real = find_models(config, objective_of(config), True)
    assert says[0] is real[0]
    assert torch.equal(real[0].parameters()["head.weight"], wanted)
    alike = [load_model(address).module for address in (TOY, OTHER)]
    assert "ModelSpec(size=" in refused(generate, alike[0], [0], 1, "dsf", spec=toy.spec, score=[alike[1]])


def test_pictures_with_one_gradient_norm_are_drawn_in_whole_groups(toy: Adapter) -> None:
    settings = {"recipe": "dsf", "terms.dsf.per": "batch", "group": 3, "steps": 2, "judges": []}
    whole = generate(toy, None, 6, **settings)
    some = generate(toy, None, 6, only=[4], **settings)
    assert [record["index"] for record in some.records] == [3, 4, 5]
    assert torch.equal(some.images, whole.images[3:])


def test_the_score_function_sees_the_picture_without_its_border(toy: Adapter) -> None:
    drawn = generate(toy, None, 2, "dsf", steps=2, border=4, judges=[])
    assert drawn.images.shape[-2:] == (toy.spec.height, toy.spec.width)


def test_one_word_of_a_class_with_several_will_do_where_no_other_has_it() -> None:
    names = ("tench, Tinca tinca", "crane, wading bird", "crane, lifter", "drake", "drake, duck")
    net = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, len(names)))
    model = load_model(net, ModelSpec(8, (0, 0, 0), (1, 1, 1), names))
    asked = ["Tench", "tinca tinca", "crane, lifter", "drake", "duck", "2"]
    assert [find_classes(model, [name])[0] for name in asked] == [0, 0, 2, 3, 4, 2]
    assert "has no class 'crane'" in refused(find_classes, model, ["crane"])
    assert "nearest are tench" in refused(find_classes, model, ["tensh"])
