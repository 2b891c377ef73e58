"""What is done to a photo: outside a mask it stays itself, inside it becomes what was asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bothways import Result, accentuate, edit, generate, inpaint, invert, load_model, style
from bothways.cli import main
from bothways.models.adapter import Adapter
from bothways.numerics.fill import harmonic_fill, tension_fill
from bothways.numerics.pyramid import resize
from bothways.runs import RunFolder, from_png, to_png
from bothways.synthesis.inpainting import boundary_consistency, predict_statistics
from bothways.synthesis.objectives.likeness import Style, layer_at, style_statistics
from bothways.synthesis.objectives.likeness import style as measured_style
from bothways.synthesis.objectives.terms import vectors
from bothways.synthesis.statistics import channel_statistics
from bothways.tasks.generate.request import read_prompts
from bothways.tasks.generate.scene import find_scene
from bothways.tasks.photos.run import of_missed
from bothways.tasks.recipes import recipes
from bothways.tasks.shelf import work_of
from bothways.types import UserError

pytestmark = pytest.mark.filterwarnings("ignore:--steps 0")  # here the start is what is looked at
TOY = f"{Path(__file__).parents[1] / 'toy_model.py'}:build"
BOX = (3, 4, 11, 13)
TASKS = ("accentuate", "edit", "inpaint", "invert", "style")
QUICK = {"steps": 3, "judges": []}


@pytest.fixture(scope="module")
def toy() -> Adapter:
    return load_model(TOY)


def photos_of(count: int, high: int = 16, wide: int = 16) -> Tensor:
    """Smooth and different, in whole bytes."""
    rows, columns = torch.linspace(0, 1, high)[:, None], torch.linspace(0, 1, wide)
    waves = [
        0.5 + 0.4 * torch.sin(3 * rows + (2 + i) * columns + torch.arange(3.0)[:, None, None]) for i in range(count)
    ]
    return (255 * torch.stack(waves)).round() / 255


def inside(high: int = 16, wide: int = 16) -> Tensor:
    mask = torch.zeros(high, wide, dtype=torch.bool)
    mask[BOX[1] : BOX[3], BOX[0] : BOX[2]] = True
    return mask


@pytest.mark.filterwarnings("ignore:no real pictures", "ignore:no mean of the features")
@pytest.mark.parametrize("recipe", [*recipes("generate")])
def test_what_is_masked_out_is_the_photo_bit_for_bit_by_every_recipe(toy: Adapter, recipe: str) -> None:
    photo, mask = photos_of(2), inside()
    measured = ("icons", "statistics-tv", "sampled", "sampled-photographs", "from-features")
    statistics = {"statistics": "batch"} if recipe in measured else {}
    style = {"style": photos_of(1)} if recipe.startswith("style") else {}
    result = generate(toy, "dragon", 1, recipe, photo=photo, box=BOX, start="photo", **statistics, **style, **QUICK)
    assert torch.equal(result.images[..., ~mask], photo[..., ~mask])
    if (
        result.tables["settings"]["ascent"]["rate"] is None and result.tables["settings"]["ascent"]["steps"]
    ):  # rates of papers move little
        assert not torch.equal(result.images, photo)


def test_the_null_of_the_spectrum_is_as_large_as_the_photo(toy: Adapter) -> None:
    images = edit(toy, photos_of(1, 40, 56), "dragon", recipe="das", **QUICK).measures["images"]
    assert images["spectrum_null"]["frequency"] == images["spectrum"]["frequency"]
    assert len(images["spectrum"]["frequency"]) > 8  # of the model's input


@pytest.mark.parametrize("border", [0, 3])
def test_the_boundary_condition_is_a_term_of_every_recipe(toy: Adapter, border: int) -> None:
    photo, mask = photos_of(2), inside().float()[None, None]
    more = {"recipe": "dsf", "fill": "noise", "border": border, "steps": 12, "judges": []}
    alone = {"terms.dsf.weight": 0.0, "terms.variation.weight": 0.0}
    term = boundary_consistency(photo, mask)
    values = []
    for weight in (0.0, 0.5):
        drawn = generate(toy, "dragon", 1, photo=photo, box=BOX, **more, **alone, **{"terms.boundary.weight": weight})
        assert torch.equal(drawn.images[..., ~inside()], photo[..., ~inside()])
        values.append(term(drawn.images))
    assert bool((values[1] > values[0]).all())
    for given in ({}, {"photo": photo}):
        with pytest.raises(UserError, match=r"^objective 'boundary' needs a photo with a hole; type --mask"):
            generate(toy, "dragon", 1, **given, **more, **{"terms.boundary.weight": 0.5})


@pytest.mark.parametrize("held", ["stack", "fourier", "pixels", "maco"])
@pytest.mark.parametrize("border", [0, 4])
@pytest.mark.parametrize("squash", ["tanh", "clamp"])
def test_what_is_masked_out_is_the_photo_bit_for_bit_in_every_parameterisation(
    toy: Adapter, held: str, border: int, squash: str
) -> None:
    photo, mask = photos_of(1), inside()
    chosen = {"canvas.kind": held, "border": border, "squash": squash, "rms": 0.3}
    result = edit(toy, photo, 1, mask=mask, **chosen, **QUICK)
    assert torch.equal(result.images[..., ~mask], photo[..., ~mask])
    assert (result.images[..., mask] - photo[..., mask]).abs().max() > 0.02


def test_an_edit_moves_towards_the_class_and_stronger_ones_move_further(toy: Adapter) -> None:
    photo = photos_of(3)
    before = toy.outputs(photo).softmax(1)[:, 2]
    far = []
    for strength in (0.3, 1.0, 3.0):
        result = edit(toy, photo, "candle", strength=strength, steps=10, judges=[])
        assert (toy.outputs(result.images).softmax(1)[:, 2] > before).all()
        far.append((result.images - photo).square().mean((1, 2, 3)))
    assert (far[0] < far[1]).all()
    assert (far[1] < far[2]).all()


def test_nearness_and_the_start_are_of_the_photo_of_the_same_number(toy: Adapter) -> None:
    photo = photos_of(3)
    still = edit(toy, photo, ["anchor", "dragon"], steps=0, n=2, judges=[], squash="clamp")
    assert torch.equal(still.images, photo.repeat(4, 1, 1, 1))
    assert [r["class"] for r in still.records] == (["anchor"] * 3 + ["dragon"] * 3) * 2
    free, held = (
        edit(
            toy,
            photo,
            1,
            terms__class__weight=0.5,
            terms__nearness__weight=weight,
            normalize=False,
            rate=400.0,
            steps=8,
            judges=[],
            canvas__kind="pixels",
        )
        for weight in (0.0, 0.01)
    )
    distance = [(r.images - photo).square().mean((1, 2, 3)) for r in (free, held)]
    assert (distance[1] < 0.8 * distance[0]).all()


def test_a_photo_keeps_its_own_size_and_the_model_sees_it_at_its_own(toy: Adapter) -> None:
    photo = photos_of(1, 20, 30)
    seen: list[tuple[int, ...]] = []
    handle = toy.module.register_forward_pre_hook(lambda _m, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    result = edit(toy, photo, 0, box=BOX, **QUICK)
    handle.remove()
    assert result.images.shape == (1, 3, 20, 30)
    assert set(seen) == {(16, 16)}
    assert torch.equal(result.images[..., ~inside(20, 30)], photo[..., ~inside(20, 30)])
    small = edit(toy, photo, 0, box=BOX, size=10, **QUICK)
    assert small.images.shape == (1, 3, 10, 15)
    scaled = (255 * resize(photo, (10, 15))).round() / 255
    kept = torch.ones(10, 15, dtype=torch.bool)
    kept[1:8, 1:7] = False  # a pixel that the hole touches is drawn
    assert (small.images[..., kept] - scaled[..., kept]).abs().max() < 1e-6


def test_photos_of_a_folder_are_scaled_as_one_is_and_their_box_with_them(tmp_path: Path) -> None:
    for k, image in enumerate(photos_of(2, 20, 30)):
        (tmp_path / f"{k}.png").write_bytes(to_png(image))
    mask = tmp_path.with_suffix(".png")
    mask.write_bytes(to_png(inside(20, 30).float().expand(3, -1, -1)))
    one = find_scene(tmp_path / "0.png", box=BOX, size=10)
    for scene in (find_scene(tmp_path, box=BOX, size=10), find_scene(tmp_path, mask=mask, size=10)):
        assert scene.size == one.size == (10, 15)
        assert scene.mask is not None
        assert one.mask is not None
        assert torch.equal(scene.mask, one.mask)
    (tmp_path / "2.png").write_bytes(to_png(photos_of(1, 40, 30)[0]))
    assert find_scene(tmp_path, size=10).size == (10, 10)  # of several sizes: the middle of each


def test_a_class_that_the_recipe_of_a_hole_does_not_draw_is_told(toy: Adapter) -> None:
    with pytest.warns(UserWarning, match="with --recipe edit by what was asked for"):
        result = inpaint(toy, photos_of(1), None, box=BOX, classes="dragon", judges=[])
    assert any("--recipe edit" in note for note in result.measures["notes"])


def test_a_mask_for_each_photo_is_refused_as_such() -> None:
    with pytest.raises(UserError, match="2 masks were given; give one"):
        find_scene(photos_of(2), torch.ones(2, 1, 16, 16))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    for i, image in enumerate(photos_of(40)):
        (folder / f"{i}.png").write_bytes(to_png(image))
    return folder


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
@pytest.mark.parametrize("canvas", ["stack", "pixels", "fourier", "maco", "photographs"])
def test_a_photo_of_a_pixels_width_is_drawn_in_every_canvas(toy: Adapter, canvas: str, size: tuple[int, int]) -> None:
    photo = photos_of(1, *size)
    result = edit(toy, photo, "anchor", canvas=canvas, start="photo", steps=2, rms=0.2, verdicts=False)
    assert result.images.shape == photo.shape
    assert result.images.isfinite().all()
    if canvas != "maco":  # which keeps the mean colour, all that one pixel has
        assert not torch.equal(result.images, photo)


def test_inpaint_fills_smoothly_without_pictures_and_says_so(toy: Adapter) -> None:
    photo, mask = photos_of(2), inside()[None, None]

    def fill(image: Tensor = photo, **settings: object) -> Tensor:
        with pytest.warns(UserWarning, match="filled smoothly"):
            return inpaint(toy, image, box=BOX, judges=[], **settings).images

    assert (fill() - tension_fill(photo, mask)).abs().max() <= 0.51 / 255
    assert (fill(fill="harmonic") - harmonic_fill(photo, mask)).abs().max() <= 0.51 / 255
    assert torch.equal(fill(torch.where(mask, torch.zeros(()), photo)), fill())  # the hole is not looked at
    mean = fill(fill="mean")[..., 6, 6]
    assert (mean - photo[..., ~mask[0, 0]].mean(2)).abs().max() <= 0.51 / 255
    noise = [fill(fill="noise", seed=seed) for seed in (1, 1, 2)]
    assert torch.equal(noise[0], noise[1])
    assert not torch.equal(noise[0], noise[2])


def test_inpaint_moves_towards_what_the_model_expects_in_this_hole(toy: Adapter, data: Path) -> None:
    photo, mask = photos_of(2), inside()[None, None]
    result = inpaint(toy, photo, mask[0, 0], data=data, steps=12, judges=[])
    assert torch.equal(result.images[..., ~mask[0, 0]], photo[..., ~mask[0, 0]])
    real = torch.stack([from_png(path.read_bytes()) for path in sorted(data.iterdir(), key=lambda p: int(p.stem))])
    start = tension_fill(photo, mask)
    term = predict_statistics(toy, real, tension_fill(real, mask), toy.statistics_layers()).term(toy, start)
    assert (term(result.images) > term(start)).all()
    spoilt = torch.where(mask, torch.ones(()), photo)
    assert torch.equal(inpaint(toy, spoilt, box=BOX, data=data, steps=12, judges=[]).images, result.images)
    wide = inpaint(toy, photos_of(1, 20, 30), box=BOX, data=data, steps=2, judges=[])
    assert torch.equal(wide.images[..., ~inside(20, 30)], photos_of(1, 20, 30)[..., ~inside(20, 30)])


def test_style_comes_near_to_the_styles_statistics_and_keeps_the_content(toy: Adapter) -> None:
    photo, painting = photos_of(1), 1 - photos_of(2, 24, 24)[1:]
    layers = toy.statistics_layers()

    def far(images: Tensor) -> float:
        found, wanted = (toy.features(resize(x, (16, 16)), layers) for x in (images, painting))
        pairs = [(channel_statistics(found[layer]), channel_statistics(wanted[layer])) for layer in layers]
        return sum(float((a - b).square().mean().detach()) for one, two in pairs for a, b in zip(one, two, strict=True))

    result = style(toy, photo, painting, steps=30, judges=[])
    assert far(result.images) < 0.5 * far(photo)
    layer = layers[len(layers) // 2]
    moved = [
        (toy.features(images, [layer])[layer] - toy.features(photo, [layer])[layer]).square().mean()
        for images in (
            result.images,
            style(toy, photo, painting, steps=30, terms__content__weight=0.0, judges=[]).images,
        )
    ]
    assert moved[0] < moved[1]
    many = style(toy, photos_of(2), photos_of(3), steps=0, squash="clamp", judges=[])
    assert torch.equal(many.images, photos_of(2).repeat(3, 1, 1, 1))


def test_invert_finds_the_embedding_from_grey(toy: Adapter) -> None:
    photo = photos_of(2)
    result = invert(toy, photo, steps=60, n=2, seed=4, judges=[], terms__embedding__layer="body")
    found, wanted = (
        vectors(toy.features(x, ["body"])["body"], "body") for x in (result.images, photo.repeat(2, 1, 1, 1))
    )
    grey = vectors(toy.features(torch.full_like(photo, 0.5), ["body"])["body"], "body").repeat(2, 1)
    cosine = torch.cosine_similarity
    assert (1 - cosine(found, wanted) < 0.3 * (1 - cosine(grey, wanted))).all()
    assert not torch.equal(result.images[:2], result.images[2:])  # each number draws its own start


def test_accentuate_takes_the_class_that_the_model_finds_in_each_photo(toy: Adapter) -> None:
    photo = torch.cat([photos_of(2), 1 - photos_of(2)])
    top = toy.outputs(photo).argmax(1)
    assert len(top.unique()) > 1
    result = accentuate(toy, photo, steps=8, judges=[])
    assert result.labels.tolist() == top.tolist()
    index = torch.arange(4)
    assert (toy.outputs(result.images)[index, top] > toy.outputs(photo)[index, top]).all()
    loose = accentuate(toy, photo, steps=8, terms__content__weight=0.0, judges=[])
    layer = toy.statistics_layers()[1]
    held = [
        (toy.features(r.images, [layer])[layer] - toy.features(photo, [layer])[layer]).square().flatten(1).mean(1)
        for r in (result, loose)
    ]
    assert held[0].mean() < held[1].mean()


# ---- networks of photographs ---------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:no real pictures", "ignore:no mean of the features", "ignore:no statistics of real")
def test_the_default_recipe_of_a_task_follows_the_size_of_the_network(toy: Adapter) -> None:
    large, photo, painting = Adapter(toy.module, replace(toy.spec, size=96), name="large"), photos_of(1), photos_of(1)

    def recipe(model: Adapter, task: str, *given: object, **settings: object) -> str:
        return str(work_of(task, model, photo, *given, **settings).config.recipe)

    tasks = {"edit": ("dragon",), "style": (painting,), "invert": (), "accentuate": ()}
    assert {task: recipe(toy, task, *given) for task, given in tasks.items()} == {task: task for task in tasks}
    assert {task: recipe(large, task, *given) for task, given in tasks.items()} == {
        "edit": "edit-photographs",
        "style": "style-photographs",
        "invert": "from-features",
        "accentuate": "accentuate-photographs",
    }
    assert recipe(large, "inpaint", box=BOX) == "inpaint"
    assert recipe(large, "style", painting, recipe="style") == "style"
    assert recipe(large, "style", painting, **{"terms.content.weight": 0.5, "steps": 5}) == "style-photographs"
    for own in ({"rms": 0.05}, {"canvas.kind": "stack"}):  # settings that the other recipe has no use for
        assert recipe(large, "style", painting, **own) == "style"
    assert recipe(large, "edit", "dragon", strength=2.0, size=32) == "edit-photographs"
    assert recipe(large, "edit", "dragon", **{"terms.class.weight": 2.0}) == "edit"
    probabilities = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 96), torch.nn.Flatten(), torch.nn.Softmax(1))
    with pytest.warns(UserWarning, match="sum to 1, as those of a softmax"):
        headless = Adapter(probabilities, replace(large.spec, feature_layer=None), name="headless")
    assert recipe(headless, "edit", "dragon") == "edit"


def test_style_in_the_canvas_of_photographs_comes_near_to_the_products_of_channels(toy: Adapter) -> None:
    photo, painting = photos_of(1), 1 - photos_of(2, 24, 24)[1:]
    shown, layers = {"form": "gram"}, Style(depth=0.6, every=3).layers_of(toy)
    term = measured_style(toy, style_statistics(toy, resize(painting, (16, 16)), layers, **shown), **shown)
    still = style(toy, photo, painting, recipe="style-photographs", steps=0, judges=[])
    result = style(toy, photo, painting, recipe="style-photographs", steps=30, judges=[])
    assert (still.images - photo).abs().max() < 0.02  # the canvas begins at the photo
    assert -term(result.images) < 0.3 * -term(photo)
    loose = style(toy, photo, painting, recipe="style-photographs", steps=30, terms__content__weight=0.0, judges=[])
    layer = layer_at(toy, 0.5)
    moved = [
        (toy.features(r.images, [layer])[layer] - toy.features(photo, [layer])[layer]).square().mean()
        for r in (result, loose)
    ]
    assert moved[0] < moved[1]


def test_edit_and_accentuate_in_the_canvas_of_photographs_move_towards_the_class(toy: Adapter) -> None:
    photo = photos_of(2)
    before = toy.outputs(photo).softmax(1)[:, 2]
    near, far = (
        edit(toy, photo, "candle", recipe="edit-photographs", steps=20, terms__nearness__weight=weight, judges=[])
        for weight in (4.0, 0.25)
    )
    assert (toy.outputs(far.images).softmax(1)[:, 2] > before).all()
    assert (near.images - photo).square().mean() < 0.5 * (far.images - photo).square().mean()
    top = toy.outputs(photo).argmax(1)
    raised = accentuate(toy, photo, recipe="accentuate-photographs", steps=20, judges=[])
    index = torch.arange(2)
    assert (toy.outputs(raised.images)[index, top] > toy.outputs(photo)[index, top]).all()


def test_prompts_are_signed_and_the_weighted_cosines_of_the_models_own_text(toy: Adapter) -> None:
    assert read_prompts(["a jellyfish", "multiple exposure:-0.3", "ratio 3:4 picture", ("sea", 0.5)]) == (
        ("a jellyfish", 1.0), ("multiple exposure", -0.3), ("ratio 3:4 picture", 1.0), ("sea", 0.5),
    )  # fmt: skip
    with pytest.raises(UserError, match="has the weight nan"):
        read_prompts(["a jellyfish:nan"])
    assert read_prompts(["a clock at 10:30", "a clock at 10:30:0.5", "number 7:2"]) == (
        ("a clock at 10:30", 1.0),
        ("a clock at 10:30", 0.5),
        ("number 7", 2.0),
    )
    said = torch.nn.functional.normalize(torch.tensor([[1.0, 2, 0, -1], [0, 1, 1, 0]]), dim=1)
    reader = Adapter(toy.module, toy.spec, text=lambda prompts: said[: len(prompts)])
    result = generate(reader, prompts=["one", "two:-0.5"], n=2, steps=10, judges=[])
    assert [r["class"] for r in result.records] == ["one, two"] * 2
    assert result.tables["drawn"]["prompts"] == ["one:1", "two:-0.5"]

    def value(images: Tensor) -> Tensor:
        return torch.cosine_similarity(toy.outputs(images)[:, None], said, dim=2) @ torch.tensor([1.0, -0.5])

    assert (value(result.images) > value(torch.full((1, 3, 16, 16), 0.5)) + 0.05).all()
    with pytest.raises(UserError, match="reads no text"):
        generate(toy, prompts="a jellyfish", steps=1, judges=[])


def test_channels_and_layers_are_excited(toy: Adapter) -> None:
    def drawn(steps: int, **asked: object) -> Result:
        return generate(toy, layer="body.3", n=1, steps=steps, judges=[], **asked)

    start, result = (drawn(steps, channels=[0, 5]) for steps in (0, 20))
    assert [r["class"] for r in result.records] == ["body.3 0", "body.3 5"]
    before, after = (toy.features(r.images, ["body.3"])["body.3"].mean((2, 3)) for r in (start, result))
    index, channels = torch.arange(2), torch.tensor([0, 5])
    assert (after[index, channels] > before[index, channels] + 0.05).all()
    energy = [toy.features(drawn(steps).images, ["body.3"])["body.3"].square().mean() for steps in (0, 20)]
    assert energy[1] > 1.1 * energy[0]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"box": (0, 0, 17, 4)}, "does not lie in the photo"),
        ({"box": (0, 0, 4)}, "LEFT TOP RIGHT BOTTOM"),
        ({"box": BOX, "mask": inside()}, "type one of them"),
        ({"mask": torch.ones(8, 8)}, "8x8 pixels and the photo 16x16"),
        ({"mask": torch.zeros(16, 16)}, "the mask is empty"),
        ({"mask": torch.full((16, 16), 0.5)}, "0 \\(kept\\) and 1 \\(drawn\\)"),
        ({"photo": torch.zeros(2, 16, 16)}, "give \\(3,H,W\\)"),
        ({"photo": 2 * photos_of(1)}, "in \\[0, 1\\]"),
        ({"photo": torch.zeros(1, 3, 8, 2000)}, "type --size"),
        ({"photo": "nowhere.png"}, "does not exist"),
        ({"terms.content.weight": 1.0}, "which roll, shift and flip would change"),
        ({"terms.style.weight": 1.0}, "needs a style to compare with; type bothways style MODEL PHOTO STYLE"),
        ({"terms.prediction.weight": 1.0}, "needs a photo with a hole; type bothways inpaint MODEL PHOTO --mask FILE"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(toy: Adapter, options: dict, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        edit(toy, **{"photo": photos_of(1), "classes": 0, **QUICK, **options})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("term", "said"),
    [
        ("nearness", "needs a photo to compare with; type bothways invert MODEL PHOTO, or another task on a photo"),
        ("prediction", "needs a photo with a hole; type bothways inpaint MODEL PHOTO --mask FILE"),
    ],
)
def test_a_drawing_without_a_photo_has_no_term_of_one(toy: Adapter, term: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        generate(toy, "anchor", 1, "das", **{f"terms.{term}.weight": 1.0}, **QUICK)


def test_tasks_ask_for_what_they_need(toy: Adapter) -> None:
    photo = photos_of(1)
    for refused, said in (
        (lambda: edit(toy, photo), "type --class"),
        (lambda: inpaint(toy, photo), "type --mask"),
        (lambda: invert(toy, None), "photo is required"),
        (lambda: generate(toy, 0, box=BOX), "no PHOTO was given"),
        (lambda: generate(toy, channels=[1], classes=0), "type --layer"),
    ):
        with pytest.raises(UserError, match=said):
            refused()


def test_a_photo_that_is_no_picture_is_named(toy: Adapter, tmp_path: Path) -> None:
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "notes.txt").write_text("no picture")
    for name, said in (("text.png", "cannot be read"), ("notes.txt", "is no picture that can be read")):
        with pytest.raises(UserError, match=said):
            edit(toy, tmp_path / name, 0, **QUICK)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.slow
def test_every_task_is_a_command_that_resumes_to_the_same_end(task: str, data: Path, tmp_path: Path) -> None:
    photo, style = tmp_path / "photo.png", tmp_path / "style.png"
    photo.write_bytes(to_png(photos_of(1)[0]))
    style.write_bytes(to_png(photos_of(2)[1]))
    own = {
        "edit": ["--class", "1", "3", "--box", *map(str, BOX)],
        "inpaint": ["--box", *map(str, BOX), "--data", str(data)],
        "style": [str(style)],
        "invert": ["--n", "2"],
        "accentuate": [],
    }[task]

    def run(out: str, *more: str) -> list[Tensor]:
        with pytest.raises(SystemExit) as ended:
            main([task, TOY, str(photo), *own, "--out", str(tmp_path / out), "--batch", "1", *more])
        assert ended.value.code == 0
        folder = RunFolder.open(tmp_path / out)
        return [folder.read_picture(record) for record in folder.pictures]

    whole = run("whole")
    assert (tmp_path / "whole" / "report.html").is_file()
    if len(whole) > 1:
        run("part", "--only", "0")
    else:
        run("part")
    resumed = run("part", "--resume")
    assert all(torch.equal(a, b) for a, b in zip(whole, resumed, strict=True))
    told = RunFolder.open(tmp_path / "whole").settings["drawn"]
    assert told["photo"] == str(photo)
    kept = {file.name: from_png(file.read_bytes()) for file in (tmp_path / "whole" / "photos").iterdir()}
    assert torch.equal(kept["photo-0000.png"], from_png(photo.read_bytes()))
    assert set(kept) == {"photo-0000.png"} | {
        "style": {"style-0000.png"}, "edit": {"mask-0000.png"}, "inpaint": {"mask-0000.png"}
    }.get(task, set())  # fmt: skip
    page = (tmp_path / "whole" / "report.html").read_text()
    assert all(f'data-title="{Path(name).stem}"' in page for name in kept)
    if task in ("edit", "inpaint"):
        mask = inside()
        assert all(torch.equal(i[..., ~mask], from_png(photo.read_bytes())[..., ~mask]) for i in whole)


ADVICE = {
    "box": (["--box", *map(str, BOX)], "type a larger --box or --mask, or raise --strength"),
    "mask": (["--mask", "mask.png"], "type a larger --box or --mask, or raise --strength"),
    "all": ([], "raise --strength"),
}


@pytest.mark.parametrize("where", ADVICE)
def test_an_edit_that_the_judges_do_not_recognise_says_what_to_raise(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photo.png").write_bytes(to_png(photos_of(1)[0]))
    (tmp_path / "mask.png").write_bytes(to_png(inside().float().expand(3, -1, -1)))
    options, told = ADVICE[where]
    toy = load_model(TOY)
    seen = toy.outputs(photos_of(1))[0].argsort()
    least, most = (toy.spec.class_name(int(k)) for k in (seen[0], seen[-1]))

    def lines(target: str) -> str:
        with pytest.raises(SystemExit) as ended:
            main(["edit", TOY, "photo.png", "--class", target, "--steps", "1", "--strength", "0.01", *options])
        assert ended.value.code == 0
        return " ".join(capsys.readouterr().out.split())

    missed = lines(least)
    assert f"recognised in 0 of 1 ({toy.name}): {told}" in missed
    assert ("--box" in missed.partition("recognised in")[2]) == (where != "all")
    assert "recognised in" not in lines(most)


def test_the_judges_that_gave_no_gradient_decide_whether_an_edit_missed() -> None:
    def verdict(name: str, hits: int, n: int, own: bool) -> dict[str, object]:
        return {"judge": name, "n": n, "hit_rate": hits / n if n else None, "gave_gradient": own}

    def advice(*verdicts: dict[str, object]) -> list[str]:
        empty = torch.zeros(0, dtype=torch.int64)
        return [*of_missed(Result(torch.zeros(0, 3, 1, 1), empty, [], measures={"judges": [*verdicts]}), boxed=False)]

    own, other, weak = verdict("own", 4, 4, True), verdict("bundled:a", 2, 4, False), verdict("b", 1, 4, False)
    assert advice(own, weak) == ["recognised in 1 of 4 (b): raise --strength"]
    assert advice(own, other, weak) == ["recognised in 2 of 4 (a), 1 of 4 (b): raise --strength"]
    assert advice(own, other) == advice(own, verdict("encoder", 0, 0, False)) == advice() == []
