"""The recipes of papers: they are valid, start, differ in what they say, and state what their plan says."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

import bothways
from bothways import UserError
from bothways.models.catalogue import BUILDERS
from bothways.runs import to_png
from bothways.tasks.finetune.config import FinetuneConfig
from bothways.tasks.plan.config import PlanConfig
from bothways.tasks.plan.subject import Subject, subject_of
from bothways.tasks.pretrain.config import PretrainConfig
from bothways.tasks.recipes import PAPER, configure, expectation, read_recipe, recipe_file, recipes
from bothways.training.fit import FitState, build_optimizers, fit
from command import refused, run
from latent_flows import FACTOR, save_sit

FLOWS, CLASSIFIERS = recipes("pretrain", PAPER), recipes("finetune", PAPER)
PATHS = {"gvp": ("gvp", "independent"), "icfm": ("linear", "independent"), "otcfm": ("linear", "ot")}
FAMILIES = [f"cifar10-{{}}-{size}" for size in ("b", "s", "l", "xl")] + ["tiny-imagenet-{}", "imagenet64-{}"]
PARAMETERS = {"cifar10-icfm-s": 42_375_939, "cifar10-icfm-b": 52_542_979, "imagenet64-icfm": 121_060_483}
STEPS = {"cifar10": 20, "tiny-imagenet": 32, "imagenet64": 64}  # of the whole way, in the paper


def test_every_recipe_of_the_tables_is_there() -> None:
    assert set(FLOWS) == {f"paper/{family.format(path)}" for family in FAMILIES for path in PATHS}
    heads = {f"paper/{data}-finetune" for data in STEPS} | {"paper/sit-xl2-cifar10", "paper/sit-xl2-tiny"}
    assert set(CLASSIFIERS) == heads
    assert not set(FLOWS) & set(recipes("pretrain"))


@pytest.mark.parametrize("family", FAMILIES)
def test_the_three_of_a_family_differ_in_path_and_coupling_alone(family: str) -> None:
    found = {path: configure(PretrainConfig, data="d", recipe=f"paper/{family.format(path)}") for path in PATHS}
    assert {path: (one.path, one.coupling) for path, one in found.items()} == PATHS
    rest = [one.model_dump(exclude={"path", "coupling", "recipe"}) for one in found.values()]
    assert rest[0] == rest[1] == rest[2]
    fit = found["icfm"].fit
    assert (fit.optimizer, fit.rate, fit.epochs, fit.weight_decay, fit.average) == ("adamw", 1e-4, 1000, 0, 0)
    assert fit.batch == (256 if family.startswith("cifar10") else 128)
    assert found["icfm"].size == (None if family.startswith("cifar10") else 64)
    finetune = str(expectation(found["icfm"].recipe)["finetune"])
    walk = configure(FinetuneConfig, flow="f", data="d", recipe=finetune)
    assert (walk.features.walk_depth, walk.fit.epochs, walk.fit.rate) == (0.5, 200, 1.25e-4)
    assert walk.features.steps == STEPS[finetune.removeprefix("paper/").removesuffix("-finetune")] / 2


@cache
def subject(command: str, flow: str = "") -> Subject:
    return subject_of(PlanConfig(command=command, given={"flow": flow} if flow else {}))


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_networks_have_the_parameters_of_the_paper(name: str) -> None:
    network = subject(f"paper/{name}").network()
    assert sum(p.numel() for p in network.parameters()) == PARAMETERS[name]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.slow
def test_every_network_makes_two_steps(family: str) -> None:
    """On tensors without numbers; forward, backward and the optimiser of the recipe."""
    planned = subject(f"paper/{family.format('icfm')}")
    network = planned.network()
    (optimizer,) = build_optimizers(network, planned.config.fit)
    for _ in range(2):
        value, _ = planned.loss(network, planned.example(1))
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert value.shape == ()
    assert all(int(state["step"]) == 2 for state in optimizer.state.values())


def test_the_smallest_makes_two_steps_with_numbers() -> None:
    planned = subject("paper/cifar10-icfm-s")
    state = FitState(planned.network("cpu"), planned.config.fit)
    before = [p.detach().clone() for p in state.network.parameters()][-2:]  # of the last layer, the first to move
    source = torch.Generator().manual_seed(0)
    batch = tuple(torch.rand(part.shape, generator=source) for part in planned.example(1, "cpu"))
    assert batch[0].shape == (1, 3, 32, 32)
    frames = fit(state, planned.loss, lambda step: batch, planned.config.fit)
    losses = [next(frames).stats["loss"] for _ in range(2)]
    assert losses[1] != losses[0]
    assert any(bool((a != b).any()) for a, b in zip(before, list(state.network.parameters())[-2:], strict=True))


def generated(folder: Path, size: int) -> Path:
    """16 pictures of noise in two classes."""
    pictures = torch.rand(16, 3, size, size, generator=torch.Generator().manual_seed(0))
    for number, picture in enumerate(pictures):
        place = folder / f"class {number % 2}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.png").write_bytes(to_png(picture))
    return folder


FEW: dict[str, Any] = {"validation": 4, "batch": 4, "workers": 0}


@pytest.mark.parametrize(
    ("flow", "classifier", "side"),
    [
        ("cifar10-otcfm-xl", "cifar10-finetune", 32),
        ("tiny-imagenet-gvp", "tiny-imagenet-finetune", 64),
        ("imagenet64-icfm", "imagenet64-finetune", 80),  # pictures of another size, of which the recipe makes its own
    ],
)
@pytest.mark.slow
def test_a_flow_and_its_classifier_are_trained_by_these_recipes(
    flow: str, classifier: str, side: int, tmp_path: Path
) -> None:
    """All of the recipes but the network: generated pictures, two steps each, through all steps of the walk."""
    data = generated(tmp_path / "data", side)
    small = {"builder": "unet", "width": 8, "multiples": [1], "blocks": 1, "attention": [], "patch": 4}
    made = bothways.pretrain(recipe=f"paper/{flow}", network=small, steps=2, data=data, **FEW, out=tmp_path / "flow")
    done = bothways.finetune(
        tmp_path / "flow", recipe=f"paper/{classifier}", train_steps=2, data=data, **FEW, out=tmp_path / "classifier"
    )
    assert len(made.frames) == len(done.frames) == 2
    assert bothways.load_flow(tmp_path / "flow").spec.size == expectation(f"paper/{flow}")["size"]
    settings = done.folder.settings["settings"]
    assert settings["recipe"] == f"paper/{classifier}"
    assert settings["features"]["steps"] == STEPS[classifier.removesuffix("-finetune")] / 2
    assert settings["loss"]["coupling"] == ("ot" if "otcfm" in flow else "independent")  # that of the flow


@pytest.mark.parametrize("name", ["paper/sit-xl2-cifar10", "paper/sit-xl2-tiny"])
@pytest.mark.slow
def test_a_classifier_of_sit_is_trained_by_its_recipe(name: str, tmp_path: Path) -> None:
    """All of the recipe but the width and the depth: latents of the stated shape, encoded once; two steps."""
    stated_of = expectation(name)
    file, _ = save_sit(tmp_path / "sit", depth=1, patch=2, side=stated_of["size"])
    data = generated(tmp_path / "data", stated_of["size"] * FACTOR)
    kept = bothways.latents(f"sit:{file}", data=data, out=tmp_path / "latents", batch=4, workers=0)
    with pytest.warns(UserWarning, match="latents are taken as they are"):
        done = bothways.finetune(
            f"sit:{file}", data=kept.folder, recipe=name, train_steps=2, **FEW, out=tmp_path / "out"
        )
    assert len(done.frames) == 2
    shape = bothways.load_flow(tmp_path / "out").shape
    assert shape == (stated_of["channels"], stated_of["size"], stated_of["size"])
    settings = done.folder.settings["settings"]
    assert (settings["recipe"], settings["features"]["steps"]) == (name, 10)


# ---- what they state of their cost ---------------------------------------------------------------------------------


def stated(name: str) -> dict[str, Any]:
    return expectation(name).get("cost", {})


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.slow
def test_the_cost_in_a_recipe_is_what_the_plan_says(family: str) -> None:
    name = f"paper/{family.format('icfm')}"
    assert set(stated(name)) == {"pretrain", "finetune"}
    assert stated(name) == stated(f"paper/{family.format('gvp')}") == stated(f"paper/{family.format('otcfm')}")
    check(stated(name)["pretrain"], bothways.plan(name, device=stated(name)["pretrain"]["device"]).facts)
    if family.endswith("{}-s"):  # the walk of the larger ones is counted by the same code, and takes long
        cost = stated(name)["finetune"]
        check(cost, bothways.plan("finetune", {"flow": name}, device=cost["device"]).facts)


@pytest.mark.parametrize("name", ["paper/sit-xl2-cifar10", "paper/sit-xl2-tiny"])
@pytest.mark.slow
def test_the_cost_of_sit_is_what_the_plan_says(name: str) -> None:
    if "sit" not in BUILDERS:
        pytest.skip("this tree has no network sit")
    check(stated(name)["finetune"], bothways.plan(name, device=stated(name)["finetune"]["device"]).facts)


def check(cost: dict[str, Any], facts: dict[str, Any]) -> None:
    assert cost["parameters"] == facts["network"]["parameters"]
    assert cost["operations_of_a_step"] == pytest.approx(facts["operations"]["step"], rel=1e-3)
    assert cost["memory_of_a_device"] == pytest.approx(facts["memory"]["total"], rel=1e-3)
    assert cost["hours"] == pytest.approx(facts["time"]["hours"], rel=1e-2)


# ---- names, lists and bases ----------------------------------------------------------------------------------------


def test_they_are_listed_and_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from bothways.cli.show import console

    monkeypatch.setattr(console, "width", 200)
    assert run("recipes") == 0
    listed = capsys.readouterr().out
    assert all(f" {name} " in listed and text in listed for name, text in (FLOWS | CLASSIFIERS).items())
    assert run("recipes", "paper/cifar10-gvp-l") == 0
    assert tomllib.loads(capsys.readouterr().out)["path"] == "gvp"
    assert "type paper/cifar10-gvp-l" in refused(capsys, "pretrain", "paper/cifar10-gvpl", "--data", "digits")
    assert "type paper/cifar10-otcfm-l" in refused(capsys, "recipes", "paper/cifar10-otcfml")
    assert run("pretrain", "--help") == 0
    assert "paper/" not in capsys.readouterr().out.partition("Examples")[0]  # a setting names no twenty recipes


def test_a_recipe_is_laid_on_its_base(tmp_path: Path) -> None:
    below, above = tmp_path / "below.toml", tmp_path / "above.toml"
    below.write_text('task = "pretrain"\nnet = "unet-s"\n[fit]\nepochs = 3\nbatch = 7\n[expect]\npictures = 9\n')
    above.write_text(f'task = "pretrain"\nbase = "{below}"\n[network]\nbuilder = "unet"\n[fit]\nsteps = 5\n')
    assert read_recipe(str(above), "pretrain") == {"network": {"builder": "unet"}, "fit": {"batch": 7, "steps": 5}}
    assert expectation(str(above)) == {"task": "pretrain"}
    assert expectation(str(below)) == {"pictures": 9, "task": "pretrain"}
    assert expectation("no such recipe") == {}
    config = configure(PretrainConfig, data="d", recipe=str(above), batch=3)
    assert (config.fit.batch, config.fit.steps, config.fit.epochs, config.net) == (3, 5, None, None)


@pytest.mark.parametrize(
    ("base", "says"),
    [
        ('"nowhere"', "no recipe 'nowhere'"),
        ("3", "base = 3"),
        ('"das"', "no recipe 'das'"),
        ("SELF", "give the name"),
    ],
)
def test_a_base_that_cannot_be_is_one_line(tmp_path: Path, base: str, says: str) -> None:
    file = tmp_path / "own.toml"
    file.write_text(f'task = "pretrain"\nbase = {base.replace("SELF", repr(str(file)))}\n')
    with pytest.raises(UserError, match=says) as error:
        read_recipe(str(file), "pretrain")
    assert "\n" not in str(error.value)


def test_the_package_holds_them() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"] == {"recipes": "bothways/recipes"}
    assert all(recipe_file(name).is_file() for name in FLOWS | CLASSIFIERS)
