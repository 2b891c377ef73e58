"""What the library returns is taken where its file or run folder is, and what Python holds where a file is."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import bothways
import toy_model
from bothways import ModelSpec, UserError
from bothways.synthesis.parameterizations.stack import StackCanvas
from bothways.types import PathWeights
from golden_cases import soft, write_place
from small_flow import small_unet

pytestmark = pytest.mark.usefixtures("_rough_samples")
QUICK: dict[str, Any] = {"steps": 2, "n": 1, "judges": []}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("objects")
    write_place(folder)
    return folder


@pytest.fixture(scope="module")
def model() -> Any:
    return bothways.load_model(toy_model.seeded(), toy_model.spec())


def recipe_of(run: Path) -> dict[str, Any]:
    return tomllib.loads((run / "recipe.toml").read_text())


# ---- statistics and spectra ------------------------------------------------------------------------------------------


def test_statistics_are_taken_where_their_file_is(model: Any, place: Path, tmp_path: Path) -> None:
    file = tmp_path / "kept.safetensors"
    held = bothways.statistics(model, place / "photos")
    stored = bothways.statistics(model, place / "photos", out=file)
    by_file = bothways.generate(model, data=file, **QUICK)
    assert torch.equal(bothways.generate(model, data=held, out=tmp_path / "held", **QUICK).images, by_file.images)
    assert torch.equal(bothways.generate(model, data=stored, out=tmp_path / "stored", **QUICK).images, by_file.images)
    assert recipe_of(tmp_path / "stored")["drawn"]["data"] == str(file)
    assert recipe_of(tmp_path / "held")["drawn"]["data"] == held.name
    assert held.name.startswith("statistics of 10 pictures from Python (")
    again = bothways.generate(model, out=tmp_path / "stored", resume=True)  # nothing is given again
    assert torch.equal(again.images, by_file.images)
    with pytest.raises(UserError, match="data was a Python object when this run began; give it again to resume"):
        bothways.generate(model, out=tmp_path / "held", resume=True)
    assert torch.equal(bothways.generate(model, out=tmp_path / "held", resume=True, data=held).images, by_file.images)
    other = bothways.statistics(model, place / "photos", limit=5)
    with pytest.raises(UserError, match=r"drawn\.data was 'statistics of 10 .* and is 'statistics of 5 "):
        bothways.generate(model, out=tmp_path / "held", resume=True, data=other)


def test_statistics_of_another_model_are_refused_as_their_file_is(model: Any, place: Path) -> None:
    held = bothways.statistics(model, place / "photos")
    other = bothways.load_model(toy_model.seeded(seed=12), toy_model.spec())
    with pytest.raises(UserError, match="was measured with other weights"):
        bothways.generate(other, data=held, **QUICK)
    with pytest.raises(UserError, match="holds statistics, not pictures"):
        bothways.evaluate(model, held)
    with pytest.raises(UserError, match="holds statistics, not real pictures"):
        bothways.statistics(model, held)


@pytest.mark.parametrize(("recipe", "setting"), [("maco", "canvas.spectrum"), ("das", "canvas.colours")])
def test_a_spectrum_is_taken_where_its_file_is(
    model: Any, place: Path, tmp_path: Path, recipe: str, setting: str
) -> None:
    file, name = tmp_path / "kept.safetensors", setting.partition(".")[2]
    held, stored = (bothways.spectrum(place / "photos", out=out) for out in (None, file))
    quick = {**QUICK, "recipe": recipe}

    def drawn(value: Any, **options: Any) -> Tensor:
        return bothways.generate(model, "dragon", **{setting: value}, **quick, **options).images

    by_file = drawn(str(file))
    assert torch.equal(drawn(file), by_file)
    assert torch.equal(drawn(stored, out=tmp_path / "stored"), by_file)
    near = drawn(held, out=tmp_path / "held")  # the file holds half precision
    assert (near - by_file).abs().max() < 0.02
    assert not torch.equal(by_file, bothways.generate(model, "dragon", **quick).images)
    assert recipe_of(tmp_path / "stored")["settings"]["canvas"][name] == str(file)
    assert recipe_of(tmp_path / "held")["settings"]["canvas"][name] == held.name
    assert torch.equal(bothways.generate(model, "dragon", out=tmp_path / "stored", resume=True).images, by_file)
    again = bothways.generate(model, "dragon", out=tmp_path / "held", resume=True, **{setting: held})
    assert torch.equal(again.images, near)
    with pytest.raises(UserError, match="spectrum 3: type a file of bothways spectrum or a name, or give a Spectrum"):
        drawn(3)


# ---- runs ------------------------------------------------------------------------------------------------------------


def test_what_a_training_returns_is_taken_where_its_folder_is(place: Path, tmp_path: Path) -> None:
    small = {"workers": 0, "batch": 4, "validation": 4, "information": 0, "given_noise": 0}
    flow = bothways.pretrain(place / "small", net="unet-tiny", **{"fit.steps": 1}, **small, out=tmp_path / "flow")
    assert torch.equal(bothways.sample(flow, 1, steps=1).images, bothways.sample(flow.flow, 1, steps=1).images)
    assert bothways.load_flow(flow).name == str(tmp_path / "flow")
    tuned = {"train_steps": 1, "steps": 1, "kind": "walked", **small}
    classifier = bothways.finetune(flow, place / "split", **tuned, out=tmp_path / "classifier")
    assert str(tmp_path / "flow") in (tmp_path / "classifier" / "given.json").read_text()
    photo = place / "photo.png"
    assert bothways.predict(classifier, photo) == bothways.predict(tmp_path / "classifier", photo)
    assert bothways.load_classifier(classifier).spec.count == 4
    assert bothways.curves(classifier, place / "split", limit=4, limit_long=2, steps=1)["model"] == str(
        tmp_path / "classifier"
    )


def own_head(width: int, classes: int) -> torch.nn.Module:
    return torch.nn.Linear(width, classes)


def own_path(t: Tensor) -> PathWeights:
    return PathWeights(t, 1 - t, torch.ones_like(t), -torch.ones_like(t))


def test_a_result_with_parts_of_python_stands_for_what_it_holds(place: Path, tmp_path: Path) -> None:
    small = {"workers": 0, "batch": 4, "validation": 4, "information": 0, "given_noise": 0}
    flow = bothways.pretrain(
        place / "small", net="unet-tiny", path=own_path, **{"fit.steps": 1}, **small, out=tmp_path / "flow"
    )
    with pytest.raises(UserError, match="if it was a Python function, give path=own_path"):
        bothways.sample(tmp_path / "flow", 1, steps=1)
    assert torch.equal(bothways.sample(flow, 1, steps=1).images, bothways.sample(flow.flow, 1, steps=1).images)
    tuned = {"train_steps": 1, "steps": 1, "kind": "walked", **small}
    classifier = bothways.finetune(flow, place / "split", head=own_head, **tuned, out=tmp_path / "classifier")
    held = bothways.predict(classifier, place / "photo.png")
    assert held == bothways.predict(classifier.model, place / "photo.png")


def test_a_trained_classifier_is_taken_and_its_folder_brings_the_card(place: Path, tmp_path: Path) -> None:
    trained = bothways.train(place / "training.toml", place / "cifar", epochs=1, workers=0, out=tmp_path / "trained")
    facts = bothways.evaluate(trained, place / "cifar", limit=4)
    assert facts["model"] == str(tmp_path / "trained" / "training.json")
    with pytest.raises(UserError, match=r"is a folder with the card of a model; type .*training\.json"):
        bothways.evaluate(tmp_path / "trained", place / "cifar", limit=4)


# ---- pictures --------------------------------------------------------------------------------------------------------


def test_a_drawing_and_a_set_are_pictures(model: Any, place: Path) -> None:
    drawn = bothways.generate(model, "dragon", **QUICK)
    held = bothways.load_images(place / "photos")
    assert bothways.predict(model, drawn) == bothways.predict(model, drawn.images)
    assert len(bothways.predict(model, held)) == len(held)
    edited = bothways.edit(model, drawn, "anchor", **QUICK).images
    assert torch.equal(edited, bothways.edit(model, drawn.images, "anchor", **QUICK).images)


@pytest.mark.filterwarnings("ignore:no real pictures were given")
def test_a_mask_of_bytes_is_the_mask_of_its_file(model: Any, place: Path) -> None:
    bytes_of = np.array(Image.open(place / "mask.png").convert("L"))
    assert set(np.unique(bytes_of)) == {0, 255}
    given = {"model": model, "photo": place / "photo.png", **QUICK}
    by_file = bothways.inpaint(mask=place / "mask.png", **given).images
    assert torch.equal(bothways.inpaint(mask=bytes_of, **given).images, by_file)
    assert torch.equal(bothways.inpaint(mask=torch.from_numpy(bytes_of), **given).images, by_file)
    with pytest.raises(UserError, match=r"give \(H,W\) of 0 \(kept\) and 1 \(drawn\), or bytes of 0 and 255"):
        bothways.inpaint(mask=np.full((16, 16), 7, np.uint8), **given)


def test_a_start_is_taken_in_every_form_of_a_photo(model: Any, place: Path) -> None:
    file = place / "photo.png"

    def started(photo: Any) -> Tensor:
        return bothways.generate(model, "dragon", start="photo", start_photo=photo, recipe="das", **QUICK).images

    by_file = started(str(file))
    pixels = torch.from_numpy(np.array(Image.open(file).convert("RGB"))).permute(2, 0, 1) / 255
    assert torch.equal(started(file), by_file)
    assert torch.equal(started(Image.open(file)), by_file)
    assert torch.equal(started(pixels), by_file)


def test_labels_that_are_no_numbers_are_refused_in_a_line(model: Any) -> None:
    with pytest.raises(
        UserError, match=r"data: labels of \['a', 'b'\] are no numbers; give \(pictures, labels\), a whole number"
    ):
        bothways.evaluate(model, (soft(2, 16, 1), ["a", "b"]))


# ---- functions and parts that Python holds ---------------------------------------------------------------------------


def test_a_function_that_builds_is_a_model_a_judge_and_a_flow(model: Any, place: Path) -> None:
    by_address = bothways.generate(f"{place / 'toy.py'}:build", "dragon", **QUICK)
    assert torch.equal(bothways.generate(toy_model.build, "dragon", **QUICK).images, by_address.images)
    judged = bothways.generate(model, "dragon", **{**QUICK, "judges": [toy_model.other]})
    assert [verdict["judge"] for verdict in judged.measures["judges"]] == ["other", "Toy"]

    def flow() -> tuple[torch.nn.Module, ModelSpec]:
        return small_unet(), ModelSpec(8, (0.5,) * 3, (0.5,) * 3, 0, path="linear", time_scale=1000.0)

    assert bothways.sample(flow, 1, steps=1).images.shape == (1, 3, 8, 8)
    with pytest.raises(UserError, match="without_spec must return"):
        bothways.load_model(toy_model.without_spec)
    with pytest.raises(UserError, match="fails fails: KeyError: 'a mistake of mine'"):
        bothways.load_model(toy_model.fails)


def brightness(images: Tensor) -> float:
    return float(images.mean())


def test_one_judge_of_a_flow_needs_no_list() -> None:
    spec = ModelSpec(8, (0.5,) * 3, (0.5,) * 3, 0, path="linear", time_scale=1000.0)
    flow = bothways.load_flow(small_unet(), spec)
    found = bothways.sample(flow, 1, steps=1, judges=brightness).measures["images"]
    assert (
        found["brightness"] == bothways.sample(flow, 1, steps=1, judges=[brightness]).measures["images"]["brightness"]
    )


def test_a_table_in_place_of_a_list_is_refused(model: Any) -> None:
    for setting in ("prompts", "classes", "channels"):
        with pytest.raises(UserError, match=rf"{setting}=\{{'a': 1.0\}}: Input should be a valid list"):
            bothways.generate(model, **{setting: {"a": 1.0}}, **QUICK)


def test_a_path_given_with_a_flow_is_checked() -> None:
    spec = ModelSpec(8, (0.5,) * 3, (0.5,) * 3, 0, path="linear", time_scale=1000.0)
    assert bothways.load_flow(small_unet(), spec, path="gvp").path(torch.ones(1)).a.item() == pytest.approx(1.0)
    with pytest.raises(UserError, match=r"path 'nothing' gives a NoneType for t \(B,\)"):
        bothways.load_flow(small_unet(), spec, path=nothing)
    with pytest.raises(UserError, match="path 'two' fails: TypeError"):
        bothways.load_flow(small_unet(), spec, path=two)


def nothing(t: Tensor) -> None:
    return None


def two(t: Tensor, x: Tensor) -> None:
    return None


@dataclass(frozen=True)
class Dim:
    by: float = 0.5

    def __call__(self, seen: Tensor, draws: Any, t: float) -> Tensor:
        return self.by * seen


def mirrored(seen: Tensor, draws: Any, t: float) -> Tensor:
    return seen.flip(-1)


@pytest.mark.parametrize(
    ("views", "recorded"),
    [
        ([Dim(0.2)], {"view 0": {"kind": "Dim", "by": 0.2}}),
        ([mirrored, Dim], {"view 0": {"kind": "mirrored"}, "view 1": {"kind": "Dim"}}),
        (mirrored, {"view 0": {"kind": "mirrored"}}),
    ],
)
def test_views_of_python_are_recorded_and_resumed(model: Any, tmp_path: Path, views: Any, recorded: Any) -> None:
    quick = {**QUICK, "recipe": "pixels"}
    drawn = bothways.generate(model, "dragon", views=views, out=tmp_path / "run", **quick).images
    found = recipe_of(tmp_path / "run")["settings"]["views"]
    assert {name: table for name, table in found.items() if name != "copies"} == recorded
    assert torch.equal(bothways.generate(model, "dragon", out=tmp_path / "run", resume=True, views=views).images, drawn)
    with pytest.raises(UserError, match="views was a Python object when this run began; give it again"):
        bothways.generate(model, "dragon", out=tmp_path / "run", resume=True)
    with pytest.raises(UserError, match=r"views\.view 0\."):
        bothways.generate(model, "dragon", out=tmp_path / "run", resume=True, views=[Dim(0.9)])


def test_a_canvas_with_its_settings_is_taken_as_it_is(model: Any, tmp_path: Path) -> None:
    quick = {**QUICK, "recipe": "das"}
    by_name = bothways.generate(model, "dragon", **{"canvas.kind": "stack", "canvas.levels": "all"}, **quick)
    held = bothways.generate(model, "dragon", canvas=StackCanvas(levels="all"), out=tmp_path / "run", **quick)
    assert torch.equal(held.images, by_name.images)
    assert recipe_of(tmp_path / "run")["settings"]["canvas"]["levels"] == "all"


def redder(images: Tensor) -> Tensor:
    return images[:, 0].mean((1, 2))


def test_functions_are_further_objectives(model: Any, tmp_path: Path) -> None:
    def variation(images: Tensor) -> Tensor:  # has the name of a term of the recipe, which it does not replace
        return -images.square().mean((1, 2, 3))

    for given, names in (
        (redder, {"redder"}),
        ([redder, lambda images: images.mean((1, 2, 3)), lambda images: images.amax((1, 2, 3))], {"redder"}),
        ([bothways.objectives.Symmetry()], {"symmetry"}),
        ([variation], {"variation"}),
    ):
        drawn = bothways.generate(model, "dragon", objectives=given, **{**QUICK, "recipe": "das"})
        stats = drawn.frames[0].stats
        assert names <= set(stats)
    quick = {**QUICK, "recipe": "icons", "data": soft(6, 16, 3)}
    both = bothways.generate(model, "dragon", objectives=[variation], out=tmp_path / "run", **quick)
    terms = recipe_of(tmp_path / "run")["settings"]["terms"]
    assert terms["variation 2"] == {"kind": "variation", "weight": 1.0}
    assert "kind" not in terms["variation"] or terms["variation"]["kind"] == "variation"
    assert {"total variation", "variation"} <= set(both.frames[0].stats)


def test_two_functions_of_one_name_are_two_terms(model: Any, tmp_path: Path) -> None:
    for name, sign in (("one", ""), ("two", "-")):
        (tmp_path / f"{name}.py").write_text(f"def own(images):\n    return {sign}images.mean((1, 2, 3))\n")
    given = [f"{tmp_path}/one.py:own:0.5", f"{tmp_path}/two.py:own:0.25"]
    bothways.generate(model, "dragon", objectives=given, out=tmp_path / "run", **{**QUICK, "recipe": "pixels"})
    terms = recipe_of(tmp_path / "run")["settings"]["terms"]
    assert [terms[name]["weight"] for name in ("own", "own 2")] == [0.5, 0.25]


# ---- the files of a run ----------------------------------------------------------------------------------------------


def test_a_file_that_has_changed_since_a_run_began_is_told(model: Any, tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text("def own(images):\n    return images.mean((1, 2, 3))\n")

    def stop(frame: Any) -> None:
        raise KeyboardInterrupt

    given = {**QUICK, "recipe": "pixels", "objectives": [f"{own}:own"]}
    with pytest.raises(KeyboardInterrupt):
        bothways.generate(model, "dragon", out=tmp_path / "run", on_frame=stop, **given)
    bothways.generate(model, "dragon", out=tmp_path / "run", resume=True)  # as it was: no word of it
    with pytest.raises(KeyboardInterrupt):
        bothways.generate(model, "dragon", out=tmp_path / "run", overwrite=True, on_frame=stop, **given)
    own.write_text("def own(images):\n    return -images.mean((1, 2, 3))\n")
    with pytest.warns(UserWarning, match=r"own\.py has changed since the run in .* began"):
        bothways.generate(model, "dragon", out=tmp_path / "run", resume=True)


def test_the_record_of_a_run_is_no_recipe_and_says_what_to_type(model: Any, tmp_path: Path) -> None:
    bothways.generate(model, "dragon", out=tmp_path / "run", **QUICK, recipe="pixels")
    with pytest.raises(UserError, match=r"is the record of a run; bothways generate --resume --out .*run goes on"):
        bothways.generate(model, "dragon", recipe=tmp_path / "run" / "recipe.toml")
