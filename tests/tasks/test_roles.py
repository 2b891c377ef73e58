"""Who is asked what: models that say the class, models that say what is real, and what cannot be."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from bothways import ModelSpec, UserError, generate, load_model, predict
from bothways.models.adapter import Adapter
from bothways.numerics.pyramid import resize
from bothways.tasks.generate.config import GenerateConfig
from bothways.tasks.generate.problem import objective_of
from bothways.tasks.generate.request import Batch
from bothways.tasks.generate.roles import find_classes, find_labels, find_models, labels_of
from bothways.tasks.recipes import configure
from bothways.tasks.shelf import work_of

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
        (TOY, ["anchor"], {"condition": [OTHER], "recipe": "das"}, "has no role, since recipe 'das' has no prior term"),
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


def headed_by_a_convolution() -> tuple[nn.Module, ModelSpec]:
    """The toy's classes from 20 pixels, by a 1x1 convolution and a mean."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        net = nn.Sequential(nn.Conv2d(3, 7, 3), nn.SiLU(), nn.Conv2d(7, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return net, ModelSpec(20, 0.5, 0.25, load_model(TOY).spec.classes)


def test_several_networks_draw_by_the_row_of_each_ones_own_head(toy: Adapter) -> None:
    conv = load_model(*headed_by_a_convolution())
    still = {"views.warp.smallest": 1.0, "views.warp.largest": 1.0, "views.warp.degrees": 0.0, "views.warp.reach": 0.0}
    still |= {"views.flip.chance": 0.0, "views.noise.level": 0.0, "views.cutout.share": 0.0}
    drawing = work_of("generate", None, ["candle", "anchor"], 1, condition=[toy, conv], judges=[], **still)
    assert drawing.config.recipe == "photographs"
    problem = drawing.setup.problem(drawing.request, Batch(torch.tensor([2, 0]), [0, 1]))
    image = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(4))
    leaf = image.clone().requires_grad_()
    value = torch.zeros(())
    for model, layer, rows, seen in (
        (toy, "head:input", toy.module.head.weight, leaf),
        (conv, "2:input", conv.module[2].weight.flatten(1), resize(leaf, (20, 20))),
    ):
        features = model.features(seen, [layer])[layer]
        features = features.mean((2, 3)) if features.ndim == 4 else features
        target = (rows - rows.mean(0))[[2, 0]]
        value = value + 6 * torch.cosine_similarity(features, target, dim=1).sum() / 2
    (wanted,) = torch.autograd.grad(value, leaf)
    assert (problem.field(image, torch.zeros(2)) - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_without_another_model_those_of_the_target_give_the_prior_too(toy: Adapter) -> None:
    two = [toy, load_model(OTHER)]
    drawn = generate(None, ["anchor"], 1, "dsf", steps=2, condition=two, judges=[])
    same = generate(None, ["anchor"], 1, "dsf", steps=2, condition=two, score=two, judges=[])
    assert torch.equal(drawn.images, same.images)
    with pytest.warns(UserWarning, match="BatchNorm's running statistics"):  # a model beside them gives the prior
        beside = generate(TOY, ["anchor"], 1, steps=1, condition=[OTHER], judges=[])
    assert beside.tables["settings"]["recipe"] == "icons"


def test_a_batch_of_two_networks_is_half_as_large(toy: Adapter) -> None:
    conv = load_model(*headed_by_a_convolution())
    sizes = {16 * 16: [toy], 16 * 16 + 20 * 20: [toy, conv]}
    for pixels, models in sizes.items():
        drawing = work_of("generate", None, [0], 50, condition=models, judges=[], copies=100)
        assert drawing.batch == 1_000_000 // (100 * pixels)


def test_two_classes_of_one_name_stay_apart_between_networks_of_the_same_classes() -> None:
    spec = ModelSpec(8, 0.0, 1.0, ("tench", "crane", "drake", "crane"))
    one, two = (load_model(nn.Sequential(nn.Flatten(), nn.Linear(192, 4)), spec) for _ in range(2))
    assert labels_of(two, one, torch.tensor([1, 3, 0])).tolist() == [1, 3, 0]


def test_classes_without_names_are_the_same_in_order_where_there_are_as_many() -> None:
    five, named, four = (
        load_model(nn.Sequential(nn.Flatten(), nn.Linear(192, count)), ModelSpec(8, 0.0, 1.0, classes))
        for count, classes in ((5, 5), (5, ("1", "0", "a", "b", "c")), (4, 4))
    )
    assert labels_of(named, five, torch.tensor([0, 1])).tolist() == [0, 1]
    assert find_labels([five, named], [0, 1]) == [0, 1]
    said = refused(find_labels, [five, four], [0])
    assert "has 5 classes without names and 'Sequential' has 4" in said
    assert "state the names" in said


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


def test_weights_and_facts_of_a_model_that_is_loaded_are_not_left_out_in_silence(toy: Adapter, tmp_path: Path) -> None:
    assert load_model(toy) is toy
    save_file(toy.module.state_dict(), tmp_path / "toy.safetensors")
    for given in ({"weights": tmp_path / "toy.safetensors"}, {"spec": toy.spec}):
        assert "is loaded already" in refused(generate, toy, "anchor", n=1, steps=1, **given)
        assert "is loaded already" in refused(predict, toy, torch.rand(3, 16, 16), **given)


def test_the_precision_of_a_model_that_is_loaded_is_its_own_and_is_recorded() -> None:
    half = load_model(TOY, dtype="bf16")
    result = generate(half, "anchor", n=1, steps=1, verdicts=False)
    assert result.tables["settings"]["models"] == {"dtype": "bf16", "device": "cpu"}
    assert generate(half, "anchor", n=1, steps=1, verdicts=False, dtype="bf16").images.equal(result.images)
    assert "dtype bf16; give dtype=" in refused(generate, half, "anchor", n=1, steps=1, dtype="float16")


def test_a_name_that_two_classes_have_is_told_with_their_numbers(toy: Adapter) -> None:
    twins = Adapter(toy.module, replace(toy.spec, classes=("crane", "barrel", "crane", "dragon")))
    with pytest.warns(UserWarning, match="2 classes of model 'model' are called 'crane', 0 and 2: 2 is drawn"):
        assert find_labels([twins], ["crane"]) == [2]
    assert find_labels([twins], [0, "barrel"]) == [0, 1]
    result = generate(twins, [0, 1, 2], n=1, steps=1, verdicts=False)
    assert result.tables["drawn"]["classes"] == ["0", "barrel", "crane"]  # what draws the same again
