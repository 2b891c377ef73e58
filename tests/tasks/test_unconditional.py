"""Drawing without a class: every recipe, what sampling reaches, and who is asked what."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bothways import ModelSpec, Result, UserError, generate, load_model
from bothways.models.adapter import Adapter
from bothways.numerics.draws import Draws, picture_seed
from bothways.report import write_report
from bothways.runs import RunFolder
from bothways.synthesis.ascent import ascend
from bothways.synthesis.dsf.score import dsf_score
from bothways.synthesis.objectives.classes import class_log_probability
from bothways.synthesis.objectives.terms import vectors
from bothways.synthesis.resized import Resized
from bothways.synthesis.sampling import Space
from bothways.synthesis.statistics import channel_statistics
from bothways.tasks.generate.request import Batch
from bothways.tasks.generate.roles import find_labels, labels_of
from bothways.tasks.shelf import work_of

TOY = f"{Path(__file__).resolve().parents[1] / 'toy_model.py'}:build"
OTHER = TOY.replace(":build", ":other")
MEASURED = {"statistics-tv": "statistics", "sampled": "features", "dsf": "dsf norm", "dsf-paper": "dsf norm"}
EIGHT_BIT = 1 / 255


@pytest.fixture(scope="module")
def toy() -> Adapter:
    return load_model(TOY)


@pytest.fixture(scope="module")
def other() -> Adapter:
    return load_model(OTHER)


@pytest.fixture(scope="module")
def big(other: Adapter) -> Adapter:
    """The same classes, seen at 24 pixels."""
    return Adapter(other.module, replace(other.spec, size=24), name="big")


@pytest.fixture(scope="module")
def data(soft_pictures: Callable[[int], Path]) -> Path:
    return soft_pictures(40)


def choices(recipe: str, data: Path) -> dict[str, Any]:
    """Real pictures for those that match statistics; the paper's has a norm a picture, or a group is coupled."""
    own: dict[str, Any] = {"dsf": {}, "dsf-paper": {"terms.dsf.per": "image"}}
    return own.get(recipe, {"data": data})


def refused(call, *arguments, **keywords) -> str:
    with pytest.raises(UserError) as error:
        call(*arguments, **keywords)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_the_paper_s_recipe_is_its_text(toy: Adapter) -> None:
    drawing = work_of("generate", toy, None, 6, "dsf-paper", group=3, steps=2)
    assert drawing.coupled
    parts = {type(part).__name__: (weight, part.model_dump()) for weight, part in drawing.setup.objective.parts}
    weight, score = parts["DiscriminativeScore"]
    assert (weight, score["per"], score["residual"], score["distance"]) == (10, "batch", "held", "norm")
    weight, smooth = parts["TotalVariation"]
    assert (weight, smooth["power"], smooth["reduce"]) == (20, 2.0, "sum")
    batch = drawing.request.batch([0, 1, 2], [picture_seed(0, i) for i in range(3)])
    problem = drawing.setup.problem(drawing.request, batch)
    image = problem.ascent.parameterization.image().detach()
    score = dsf_score(toy, image, per="batch", residual="held", draws=problem.draws)[0]
    down, right = image[..., 1:, :-1] - image[..., :-1, :-1], image[..., :-1, 1:] - image[..., :-1, :-1]
    wanted = 10 * score
    # the slope of the sum of squares: each difference pulls at both of its pixels
    wanted[..., 1:, :-1] -= 40 * down
    wanted[..., :-1, 1:] -= 40 * right
    wanted[..., :-1, :-1] += 40 * (down + right)
    found = problem.field(image, torch.zeros(3))
    assert (found - wanted.clamp(-1e-5, 1e-5)).abs().max() < 1e-9


# ---- every recipe --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=MEASURED)
def whole(request, toy: Adapter, data: Path, tmp_path_factory) -> tuple[str, Result, Path]:
    """(recipe, five pictures in three batches, their run folder)"""
    out = tmp_path_factory.mktemp(request.param) / "run"
    more = choices(request.param, data)
    return request.param, generate(toy, None, 5, request.param, steps=4, batch=2, seed=3, out=out, **more), out


def test_pictures_of_no_class(toy: Adapter, data: Path, whole: tuple[str, Result, Path]) -> None:
    recipe, result, out = whole
    assert [(r["index"], r["label"], r["class"], r["seed"]) for r in result.records] == [
        (i, None, None, picture_seed(3, i)) for i in range(5)
    ]
    assert all("own_probability" not in record for record in result.records)
    assert result.labels.tolist() == [-1] * 5
    assert len({image.numpy().tobytes() for image in result.images}) == 5
    assert all(MEASURED[recipe] in frame.stats for frame in result.frames)
    start = generate(toy, None, 5, recipe, steps=0, seed=3, judges=[], **choices(recipe, data))
    if recipe != "dsf-paper":  # which moves a number by 2e-5 at most
        assert (result.images - start.images).abs().mean() > EIGHT_BIT
    judges = result.measures["judges"]
    assert [(v["judge"], v["gave_gradient"], v["hit_rate"], v["n"]) for v in judges] == [(TOY, True, None, 0)]
    folder = RunFolder.open(out)
    assert folder.settings["drawn"]["classes"] == []
    assert folder.pictures == result.records
    assert result.grid().shape[-1] == 10 * 100
    assert write_report([out], out / "page.html").read_text().count("data:image/png;base64,") >= 5


def test_a_stopped_run_goes_on_to_the_same_end(
    toy: Adapter, data: Path, whole: tuple[str, Result, Path], tmp_path: Path
) -> None:
    recipe, result, out = whole
    again = {"steps": 4, "batch": 2, "seed": 3, **choices(recipe, data)}

    def enough(frame: Any) -> None:
        if (frame.batch, frame.step) == (1, 2):
            raise LookupError("enough")

    with pytest.raises(LookupError):
        generate(toy, None, 5, recipe, out=tmp_path / "run", on_frame=enough, **again)
    left = RunFolder.open(tmp_path / "run")
    assert (left.status["state"], left.status["of"]) == ("stopped", 5)
    assert [(r["class"], r.get("unfinished", False)) for r in left.pictures] == [(None, i > 1) for i in range(4)]
    end = generate(toy, None, 5, recipe, out=tmp_path / "run", resume=True, **again)
    assert torch.equal(end.images, result.images)
    for name in ("frames.jsonl", "pictures.jsonl", "recipe.toml"):
        assert (tmp_path / "run" / name).read_text() == (out / name).read_text()


def test_a_picture_alone_is_the_picture_in_its_batch(toy: Adapter, data: Path, whole: tuple[str, Result, Path]) -> None:
    recipe, result, _ = whole
    drawing = work_of("generate", toy, None, recipe=recipe, n=5, steps=4, seed=3, **choices(recipe, data))

    def followed(pictures: list[int]) -> Tensor:
        batch = drawing.request.batch(pictures, [picture_seed(3, i) for i in pictures])
        problem = drawing.setup.problem(drawing.request, batch)
        return [frame.image for frame in ascend(problem.field, problem.ascent, problem.draws)][-1]

    together = followed(list(range(5)))
    for some in ([0], [3], [4, 1]):
        assert (followed(some) - together[some]).abs().max() < 1e-3
    alone = generate(toy, None, 5, recipe, steps=4, seed=3, only=[3], **choices(recipe, data))
    assert (alone.images[0] - result.images[3]).abs().max() <= EIGHT_BIT + 1e-6
    assert (alone.images[0] - result.images[3]).abs().mean() < 1e-3


@pytest.mark.parametrize("recipe", ["das", "das-paper", "pixels"])
def test_a_recipe_that_wants_only_a_class_is_refused(toy: Adapter, recipe: str, tmp_path: Path) -> None:
    assert "has no objective for a picture" in refused(generate, toy, None, 1, recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# ---- what sampling reaches -----------------------------------------------------------------------------------------


def distances(model: Adapter, space: Space, images: Tensor, targets: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """(pictures, targets) each: mean squared standardised distance of statistics, and cosine of features."""
    layers = {name: name.split("/")[2] for name in space.parts}
    with torch.no_grad():
        seen = model.features(images, sorted(set(layers.values())))
    statistics = []
    for name, part in space.parts.items():
        if "/statistics/" in name:
            found = torch.cat(channel_statistics(seen[layers[name]]), 1)
            statistics.append(((found[:, None] - targets[name][None]) / part.std).square().mean(2))
    centre = space.parts["0/features/body"].mean
    found, wanted = vectors(seen["body"], "body") - centre, targets["0/features/body"] - centre
    return torch.stack(statistics).mean(0), F.cosine_similarity(found[:, None], wanted[None], dim=2)


def test_what_is_measured_of_a_picture_comes_near_to_what_was_drawn_for_it(toy: Adapter, data: Path) -> None:
    drawing = work_of("generate", toy, None, recipe="sampled", n=6, data=data)
    space, settings = drawing.setup.roles.priors.space, drawing.config.sampling
    assert space is not None
    targets = space.sample(Draws([picture_seed(0, i) for i in range(6)]), settings.temperature, settings.shrinkage)
    chosen = {"data": data, "rms": 0.2, "terms.decision.weight": 0.0}
    start, end = (
        distances(toy, space, generate(toy, None, 6, "sampled", steps=steps, **chosen).images, targets)
        for steps in (0, 30)
    )
    own, others = end[0].diag(), end[0][~torch.eye(6, dtype=torch.bool)].view(6, 5)
    assert own.max() < 0.1 * start[0].diag().min()
    assert (own < 0.4 * others.mean(1)).all()
    assert torch.equal(end[0].argmin(1), torch.arange(6))
    assert end[1].diag().mean() > 0.8 > start[1].diag().mean() + 0.3


def test_temperature_zero_asks_every_picture_for_the_mean(toy: Adapter, data: Path) -> None:
    alone = {"terms.features.weight": 0.0, "terms.decision.weight": 0.0, "n": 3, "data": data}
    image = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    found = []
    for recipe, change in (("sampled", {"temperature": 0.0}), ("sampled", {}), ("sampled", {"statistics": "spread"})):
        drawing = work_of("generate", toy, None, recipe=recipe, **alone, **change)
        problem = drawing.setup.problem(drawing.request, Batch(torch.full((3,), -1), [0, 1, 2]))
        found.append(problem.field(image, torch.zeros(3)))
    assert (found[0] - found[2]).abs().max() < 1e-4
    assert (found[1] - found[2]).abs().max() > 1e-2


def test_for_want_of_real_pictures_the_rows_of_the_head_are_sampled_and_it_is_said(toy: Adapter) -> None:
    with pytest.warns(
        UserWarning, match="rows of its head are sampled, and its BatchNorm's own statistics are matched"
    ):
        result = generate(toy, None, 2, "sampled", steps=2)
    assert "form='batch'" in result.tables["drawn"]["objective"]
    assert {"features", "batch statistics"} <= set(result.frames[0].stats)
    with pytest.warns(UserWarning, match="sampled, and no statistics are matched; --data FOLDER_OR_PARQUET"):
        result = generate(TOY.replace(":build", ":flat"), None, 2, "sampled", steps=2)
    assert "Statistics" not in result.tables["drawn"]["objective"]
    headless, encoder = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), ModelSpec(16, (0.5,) * 3, (0.25,) * 3, 0)
    assert "--data FOLDER_OR_PARQUET" in refused(generate, headless, None, 1, "sampled", spec=encoder)


def test_without_real_pictures_the_statistics_are_those_of_batch_norm_or_none_and_a_line_says_so(toy: Adapter) -> None:
    with pytest.warns(UserWarning, match="BatchNorm's running statistics are matched instead; --data"):
        result = generate(toy, "anchor", 2, recipe="icons", steps=2)
    assert "batch statistics" in result.frames[0].stats
    with pytest.warns(UserWarning, match="no statistics are matched; --data"):
        result = generate(TOY.replace(":build", ":flat"), "anchor", 2, recipe="icons", steps=2)
    assert set(result.frames[0].stats) == {"log probability", "total variation"}


# ---- who is asked what ---------------------------------------------------------------------------------------------


def test_eq_13_several_models_of_two_sizes_each_by_its_share(toy: Adapter, other: Adapter, big: Adapter) -> None:
    """x <- x + w mean_k score_k(x) + c grad mean_j log p_j(y|x), each model at its own size."""
    change = {"shift": 0.0, "views.flip.chance": 0.0, "noise": 0.0, "normalize": False, "terms.variation.weight": 0.0}
    weights = {"terms.dsf.weight": 3.0, "terms.class.weight": 2.0}
    roles = {"score": [big, other], "condition": [toy, big]}
    drawing = work_of("generate", None, [1, 3], 1, "dsf", **roles, **change, **weights)
    problem = drawing.setup.problem(drawing.request, Batch(torch.tensor([1, 3]), [0, 1]))
    field, ascent = problem.field, problem.ascent
    image = ascent.parameterization.image().detach()
    assert image.shape == (2, 3, 16, 16)
    wanted = 1.5 * sum(dsf_score(model, image)[0] for model in (Resized(big), other))
    leaf = image.clone().requires_grad_()
    labels = torch.tensor([1, 3])
    value = sum(class_log_probability(model, labels)(leaf).sum() for model in (toy, Resized(big)))
    wanted = wanted + torch.autograd.grad(value, leaf)[0]
    assert (field(image, torch.zeros(2)) - wanted).abs().max() < 1e-5 * wanted.abs().max()
    assert set(field.stats) == {"dsf norm", "log probability"}


@pytest.mark.parametrize("recipe", ["dsf", "dsf-paper", "icons", "sampled"])
def test_models_of_several_sizes_draw_one_picture(
    toy: Adapter, other: Adapter, big: Adapter, data: Path, recipe: str
) -> None:
    more = choices(recipe, data)
    score = [big] if recipe == "sampled" else [big, other]
    result = generate(None, ["dragon"], 2, recipe, score=score, condition=[toy, big], steps=2, judges=[other], **more)
    assert result.images.shape == (2, 3, 16, 16)
    assert [r["class"] for r in result.records] == ["dragon"] * 2
    assert result.tables["model"]["address"] == TOY
    drawn = {key: value for key, value in result.tables["drawn"].items() if key != "objective"}
    assert drawn == {
        "classes": ["dragon"], "score": [m.name for m in score], "condition": [TOY, "big"],
        **{key: str(value) for key, value in more.items() if key == "data"},
    }  # fmt: skip
    gave = {v["judge"]: v["gave_gradient"] for v in result.measures["judges"]}
    assert gave == {OTHER: True, TOY: True}  # "big" has the weights of the judge
    if recipe == "sampled":
        assert "of different sizes" in refused(generate, None, None, 1, recipe, score=[toy, big], **more)
    free = generate(None, None, 2, recipe, score=score, steps=2, judges=[], **more)
    assert free.images.shape == (2, 3, 24, 24)
    assert free.tables["model"]["address"] == "big"


def test_one_model_may_say_what_is_real_and_another_which_class(toy: Adapter, other: Adapter) -> None:
    one = generate(toy, [2], 2, "dsf", steps=2)
    assert torch.equal(generate(None, [2], 2, "dsf", steps=2, score=[toy], condition=[toy]).images, one.images)
    for roles in ({"score": [other]}, {"condition": [other]}):
        mixed = generate(toy, [2], 2, "dsf", steps=2, **roles)
        assert not torch.equal(mixed.images, one.images)
        names = [other.name, toy.name] if "score" in roles else [toy.name, other.name]
        assert [mixed.tables["drawn"][role] for role in ("score", "condition")] == [[name] for name in names]


def test_classes_are_matched_by_name(toy: Adapter, other: Adapter) -> None:
    turned = Adapter(other.module, replace(other.spec, classes=toy.spec.classes[::-1]), name="turned")
    assert labels_of(turned, toy, torch.tensor([0, 3, 1])).tolist() == [3, 0, 2]
    assert find_labels([toy, turned], ["candle", 0]) == [2, 0]
    head = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    few = Adapter(head, replace(toy.spec, classes=("dragon", "eagle"), feature_layer=None), name="few")
    assert len(generate(None, ["dragon"], 1, "dsf", score=[toy], condition=[toy, few], steps=1)) == 1
    said = refused(generate, None, ["anchor"], 1, "dsf", score=[toy], condition=[toy, few])
    assert "'few' has no class 'anchor'" in said
