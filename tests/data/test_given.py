"""What a Python user hands in: pictures of PIL, numpy and torch, paths and lists of them, in their shapes and units."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import bothways
from bothways import ModelSpec, UserError
from bothways.data.given import pictures_of
from bothways.data.readers.live import tensor_of
from bothways.data.sources import as_set, find_images, load_images
from bothways.data.splits import evaluation_split, is_split, training_split
from small_flow import write_small_flow
from toy_model import build

pytestmark = pytest.mark.usefixtures("_rough_samples")

BYTES = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
UNIT = torch.from_numpy(BYTES).permute(2, 0, 1)[None].float() / 255  # (1,3,6,8), the same picture
GREY = BYTES[..., 0]
GREY_UNIT = UNIT[:, :1].expand(-1, 3, -1, -1)


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (Image.fromarray(BYTES), UNIT),
        (Image.fromarray(GREY), GREY_UNIT),
        (Image.fromarray(BYTES).convert("RGBA"), UNIT),
        (BYTES, UNIT),
        (GREY, GREY_UNIT),
        (GREY[..., None], GREY_UNIT),
        (np.dstack([BYTES, GREY]), UNIT * GREY_UNIT + 1 - GREY_UNIT),
        (np.dstack([BYTES, np.full_like(GREY, 255)]), UNIT),
        (torch.cat([UNIT, GREY_UNIT[:, :1]], 1), UNIT * GREY_UNIT + 1 - GREY_UNIT),
        (BYTES[None], UNIT),
        (BYTES.transpose(2, 0, 1), UNIT),
        (BYTES / 255, UNIT),
        (UNIT.double(), UNIT),
        (BYTES.astype(np.uint16) * 257, UNIT),
        (BYTES.astype(">f4") / 255, UNIT),
        (GREY > 99, (GREY_UNIT > 99.5 / 255).float()),
        (UNIT, UNIT),
        (UNIT[0], UNIT),
        (UNIT[0, :1], GREY_UNIT),
        (UNIT[0, 0], GREY_UNIT),
        (UNIT[0].permute(1, 2, 0), UNIT),
        (torch.from_numpy(BYTES).permute(2, 0, 1), UNIT),
        (UNIT.half(), UNIT),
        (UNIT.clamp(0, 1) * (1 + 1e-6), UNIT),
        ([Image.fromarray(BYTES), BYTES, UNIT[0]], UNIT.expand(3, -1, -1, -1)),
        ((UNIT[0], UNIT), UNIT.expand(2, -1, -1, -1)),
    ],
)
def test_every_form_of_a_picture_is_the_picture(given: Any, wanted: torch.Tensor) -> None:
    found = tensor_of(given, "photo")
    assert found.shape == wanted.shape
    assert (found.float() - wanted).abs().max() < 1e-3
    assert 0 <= found.min() <= found.max() <= 1


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (255 * UNIT, r"from 0 to 2\d\d; pictures are in \[0, 1\], so give x / 255"),
        (2 * UNIT - 1, r"so give \(x \+ 1\) / 2"),
        ((UNIT - 0.45) / 0.22, "undo what was subtracted and divided"),
        (UNIT * float("nan"), "from nan to nan"),
        (torch.full((1, 3, 4, 4), 256), "whole numbers from 256 to 256"),
        (torch.zeros(2, 16, 16), r"photo of shape \(2, 16, 16\) and torch.float32; give \(3,H,W\)"),
        (torch.zeros(0, 3, 4, 4), "photo of shape"),
        (torch.zeros(1, 3, 4, 4, dtype=torch.complex64), "of torch.complex64"),
        (np.array(["a"]), "an array of <U1"),
        ({"a": 1}, "photo is a dict"),
        ([], "photo is an empty list"),
        ([UNIT, UNIT[..., :4]], r"pictures of 2 sizes \(6x8, 6x4\)"),
        (Image.fromarray(300 * np.ones((4, 4), np.float32)), "floats from 300 to 300"),
    ],
)
def test_what_is_no_picture_is_refused_in_one_line(given: Any, says: str) -> None:
    with pytest.raises(UserError, match=says) as said:
        tensor_of(given, "photo")
    assert "\n" not in str(said.value)


def test_other_whole_numbers_are_taken_with_a_line() -> None:
    with pytest.warns(UserWarning, match=r"photo: whole numbers \(torch.int64\) are taken as 0 to 255"):
        assert torch.equal(tensor_of(torch.from_numpy(BYTES).long(), "photo"), UNIT)


def test_a_gradient_and_a_transform_go_through() -> None:
    image = UNIT.clone().requires_grad_(True)
    tensor_of(image, "photo").sum().backward()
    assert torch.equal(image.grad, torch.ones_like(UNIT))
    mapped = torch.func.vmap(lambda x: tensor_of(x, "photo", unclamped=True))(UNIT)
    assert mapped.shape == (1, 1, 3, 6, 8)


def test_paths_and_lists_with_paths(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(BYTES).save(tmp_path / name)
    assert torch.equal(pictures_of(tmp_path / "a.png", "photo"), UNIT)
    assert torch.equal(pictures_of(str(tmp_path), "photo"), UNIT.expand(2, -1, -1, -1))
    assert torch.equal(pictures_of([tmp_path / "a.png", BYTES], "photo"), UNIT.expand(2, -1, -1, -1))
    with pytest.raises(UserError, match="does not exist"):
        pictures_of([tmp_path / "c.png"], "photo")


# ---- as data -------------------------------------------------------------------------------------------------------


def test_pictures_as_data(tmp_path: Path) -> None:
    images = torch.rand(4, 3, 5, 5, generator=torch.Generator().manual_seed(1))
    wanted = (255 * images).round().byte()
    for given in (images, wanted, wanted.permute(0, 2, 3, 1).numpy(), list(images)):
        assert torch.equal(load_images(given).images, wanted)
        assert load_images(given).labels.tolist() == [-1] * 4
    labelled = as_set((images, [0, 7, 99, -1]))
    assert (labelled.labels.tolist(), labelled.classes) == ([0, 1, 2, -1], ("0", "7", "99"))
    assert as_set((images, np.array([1, 0, 2, 1]))).classes == ()
    assert [entry[2] for entry in find_images(labelled, limit=2).entries] == [0, -1]
    assert (evaluation_split(labelled), training_split(labelled), is_split(labelled, "train")) == (
        "train",
        "train",
        False,
    )
    assert str(labelled).startswith("4 pictures of 5x5 from Python (")
    assert str(labelled) != str(as_set(images))
    for labels in (
        [0, 1],
        [0.0, 1.0, 2.0, 3.0],
        ["cat", "dog", "cat", "dog"],
        np.array(["a", "b", "a", "b"]),
        [[0], 1, 2],
    ):
        with pytest.raises(UserError, match="a whole number a picture"):
            as_set((images, labels))


def test_tasks_take_pictures_as_data(tmp_path: Path) -> None:
    """What they find is what they find in the same pictures in files."""
    module, spec = build()
    images = torch.rand(12, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    images = (255 * images).round() / 255
    labels = torch.arange(12) % 4
    for label, image in zip(labels.tolist(), images, strict=True):
        folder = tmp_path / "data" / ["anchor", "barrel", "candle", "dragon"][label]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray((255 * image).round().byte().permute(1, 2, 0).numpy()).save(
            folder / f"{len(list(folder.iterdir()))}.png"
        )
    model = bothways.load_model(module, spec)
    given, filed = (bothways.evaluate(model, data)["clean"] for data in ((images, labels), tmp_path / "data"))
    assert (given["n"], given["top1"]) == (filed["n"], filed["top1"])
    assert abs(given["nll"] - filed["nll"]) < 1e-6
    flow = write_small_flow(tmp_path / "flow", size=16)
    found = bothways.features(flow, (images, labels), 0.1, "pixels", probes="none", workers=1)
    assert found.pictures["train"][1].tolist() == labels.tolist()
    assert bothways.likelihood(flow, images, limit=2, steps=1, divergence="hutchinson").n == 2
    made = bothways.pretrain(images, out=tmp_path / "run", steps=1, batch=4, validation=4, workers=0)
    assert "12 pictures of 16x16 from Python" in (tmp_path / "run" / "recipe.toml").read_text()
    again = {"out": tmp_path / "run", "steps": 1, "batch": 4, "validation": 4, "workers": 0, "resume": True}
    with pytest.raises(UserError):
        bothways.pretrain(images.flip(0), **again)
    assert made.flow.spec.size == 16


# ---- as photos -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A photo of 16 x 16 in every form."""
    pixels = np.random.default_rng(3).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    file = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(pixels).save(file)
    unit = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
    kinds = {"path": file, "text": str(file), "PIL": Image.fromarray(pixels), "numpy": pixels, "floats": pixels / 255}
    kinds["doubles"] = unit.double()
    return kinds | {"tensor": unit, "batch": unit[None], "bytes": (255 * unit).round().byte(), "list": [pixels]}


MASKS: list[Any] = [
    np.pad(np.ones((4, 4), bool), 6),
    np.pad(np.ones((4, 4), np.int64), 6),
    Image.fromarray(np.pad(np.full((4, 4), 255, np.uint8), 6)),
    torch.nn.functional.pad(torch.ones(4, 4), (6,) * 4),
]


@pytest.mark.parametrize("task", ["edit", "inpaint", "style", "invert", "accentuate"])
def test_every_task_on_a_photo_takes_every_form(task: str, forms: dict[str, Any]) -> None:
    module, spec = build()
    model = bothways.load_model(module, spec)
    how: dict[str, Any] = {"steps": 1, "n": 1, "verdicts": False}
    how |= {"edit": {"classes": "dragon"}, "inpaint": {"box": (6, 6, 10, 10)}}.get(task, {})
    run = getattr(bothways, task)
    made = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "no real pictures")
        warnings.filterwarnings("ignore", "no statistics of real")
        for form in forms.values():
            made.append(run(model, form, **(how | ({"style": form} if task == "style" else {}))).images)
    assert all(torch.equal(one, made[0]) for one in made)


@pytest.mark.parametrize("mask", MASKS, ids=["bool", "int", "PIL", "tensor"])
def test_a_mask_in_every_form(mask: Any, forms: dict[str, Any]) -> None:
    module, spec = build()
    found = bothways.edit(module, forms["numpy"], "dragon", spec=spec, steps=2, n=1, verdicts=False, mask=mask)
    changed = (found.images[0] != forms["tensor"]).any(0)
    assert changed[6:10, 6:10].any()
    assert not changed[:6].any()
    assert not changed[:, :6].any()


def test_predict_and_walk_and_encode_take_every_form(tmp_path: Path, forms: dict[str, Any]) -> None:
    model = bothways.load_model(*build())
    flow = bothways.load_flow(write_small_flow(tmp_path / "flow", size=16))
    told = [bothways.predict(model, form)[0].answers for form in forms.values()]
    walked = [bothways.walk(flow, form, steps=1).there for form in forms.values()]
    codes = [bothways.encode(flow, form, steps=1) for form in forms.values()]
    for found in (walked, codes):
        assert all((one - found[0]).abs().max() < 1e-6 for one in found)
    shares = [[(answer.number, round(answer.probability, 6)) for answer in answers] for answers in told]
    assert all(one == shares[0] for one in shares)


def test_predict_names_pictures_of_several_kinds_and_sizes(forms: dict[str, Any]) -> None:
    model = bothways.load_model(*build())
    larger = Image.fromarray(forms["numpy"]).resize((40, 24))
    found = bothways.predict(model, [forms["path"], larger, forms["tensor"]], batch=2)
    assert [one.image for one in found] == [str(forms["path"]), "1", "2"]
    first, last = found[0].answers, found[2].answers  # of a batch of two and of one, which may be rounded otherwise
    assert [(one.name, one.number) for one in first] == [(one.name, one.number) for one in last]
    assert [one.probability for one in first] == pytest.approx([one.probability for one in last], abs=1e-6)


def test_pictures_of_another_size_are_fitted_to_the_flow(tmp_path: Path, forms: dict[str, Any]) -> None:
    flow = bothways.load_flow(write_small_flow(tmp_path / "flow", size=8))
    assert bothways.encode(flow, forms["PIL"], steps=1).shape == (1, 3, 8, 8)
    assert bothways.encode(flow, forms["tensor"], steps=1).shape == (1, 3, 16, 16)


def test_encode_takes_what_decode_gave_and_no_other_units(tmp_path: Path) -> None:
    flow = bothways.load_flow(write_small_flow(tmp_path / "flow", size=16))
    beyond = torch.linspace(-0.2, 1.2, 3 * 16 * 16).view(1, 3, 16, 16)
    assert bothways.encode(flow, beyond, steps=1).shape == beyond.shape
    for wrong in (255 * beyond.clamp(0, 1), 2 * beyond.clamp(0, 1) - 1):
        with pytest.raises(UserError, match="pictures are in"):
            bothways.encode(flow, wrong, steps=1)
    velocity = lambda x, t: x  # noqa: E731 - any callable is a velocity, whose x has any range
    assert bothways.encode(velocity, 100 * beyond, steps=1).shape == beyond.shape


# ---- facts of a model ----------------------------------------------------------------------------------------------


def test_one_number_stands_for_three_and_numpy_counts() -> None:
    spec = ModelSpec(np.int64(8), 0.5, torch.tensor(0.25), np.int32(3))
    assert (spec.size, spec.mean, spec.std, spec.count) == (8, (0.5,) * 3, (0.25,) * 3, 3)
    assert ModelSpec([4, 6], np.array([0.1, 0.2, 0.3]), [1, 1, 1], ["a"]).size == (4, 6)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mean": None}, "mean=None; type three finite numbers"),
        ({"std": "wide"}, "std='wide'; type three finite numbers"),
        ({"size": "8"}, "size='8'; type an int"),
        ({"size": 8.5}, "size=8.5; type an int"),
        ({"size": (3, 8, 8)}, r"size=\(3, 8, 8\); type an int"),
        ({"classes": "cat"}, "classes='cat'; type how many"),
        ({"classes": None}, "classes=None; type how many"),
        ({"classes": -1}, "classes=-1; type how many"),
    ],
)
def test_facts_that_cannot_be_are_one_line(change: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        ModelSpec(**({"size": 8, "mean": 0.5, "std": 0.5, "classes": 2} | change))


def test_facts_of_0_to_255_are_warned_of() -> None:
    with pytest.warns(UserWarning, match="divide numbers of 0..255 by 255"):
        ModelSpec(8, (123.7, 116.3, 103.5), (58.4, 57.1, 57.4), 2)
    ModelSpec(8, 104 / 255, 1 / 255, 2)  # weights trained on 0..255
    ModelSpec(8, 0, 1, 2)


def test_facts_as_a_dict(tmp_path: Path) -> None:
    module, spec = build()
    facts = {"size": 16, "mean": spec.mean, "std": spec.std, "classes": spec.classes}
    given, wanted = bothways.load_model(module, facts), bothways.load_model(module, spec)
    assert given.spec.classes == wanted.spec.classes
    assert bothways.predict(module, UNIT, spec=facts)[0] == bothways.predict(module, UNIT, spec=spec)[0]
    network = bothways.load_flow(write_small_flow(tmp_path / "flow", size=16)).network
    flow = bothways.load_flow(network, {"size": 16, "mean": 0.5, "std": 0.5, "classes": 0, "path": "linear"})
    assert flow.spec.path == "linear"
    for wrong, says in (
        ({**facts, "sise": 3}, "spec has a field 'sise'; the fields"),
        ({"size": 16}, "spec has no field 'mean'"),
        ((16, 0.5), "spec is a tuple; give a ModelSpec"),
    ):
        with pytest.raises(UserError, match=says):
            bothways.load_model(module, wrong)


def test_a_list_of_paths_is_refused_as_data_with_what_to_give() -> None:
    for paths in (["a.png", "b.png"], [Path("a.png")]):
        with pytest.raises(UserError, match="is a list of paths; give the folder that holds them"):
            as_set(paths)
    with pytest.raises(UserError, match="is a NoneType"):
        as_set([None])
