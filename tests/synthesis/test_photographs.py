"""The canvas in units of photographs' magnitudes, the warped view and the head's row, against closed forms."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bothways import ModelSpec, UserError, generate, load_images, load_model, statistics
from bothways.numerics.draws import Draws
from bothways.numerics.spectra import amplitudes
from bothways.runs import to_png
from bothways.synthesis.objectives.base import Binding, Priors, as_sum
from bothways.synthesis.objectives.head import HeadRow
from bothways.synthesis.objectives.likeness import Embedding
from bothways.synthesis.parameterizations.photographs import REACH, Photographs
from bothways.synthesis.views.warp import Warp
from bothways.tasks.generate.priors import find_priors
from bothways.tasks.spectrum.files import read_spectrum
from bothways.tasks.statistics.files import features_mean
from toy_model import build

SPECTRUM = read_spectrum("bundled:photographs")
GREY = torch.full((2, 3, 24, 32), 0.5)


def canvas(start: torch.Tensor, spread: float = 0.0, bound: float = 1.2) -> Photographs:
    return Photographs(start, SPECTRUM, Draws(range(len(start))), bound, spread, "clamp", 24)


def test_a_grey_start_is_the_mean_colour_of_photographs() -> None:
    found = canvas(GREY).image()
    assert torch.allclose(found, SPECTRUM.mean.float().view(1, 3, 1, 1).expand_as(found), atol=1e-6)


def test_no_wave_exceeds_the_bound_times_its_magnitude() -> None:
    held = canvas(GREY, bound=0.7)
    held.coefficients.data.normal_(0, 50, generator=torch.Generator().manual_seed(0))
    drawn = held._drawn(held.coefficients)
    assert (amplitudes(drawn) <= 0.7 * held.magnitude * (1 + 1e-4) + 1e-6).all()
    inner = amplitudes(drawn)[..., 3:7, 3:7] / held.magnitude[..., 3:7, 3:7]
    assert inner.median() > 0.65  # and large coefficients reach it


def test_a_small_start_comes_back_and_a_large_one_is_cut() -> None:
    waves = torch.cos(2 * math.pi * 3 * torch.arange(32) / 32).expand(2, 3, 24, 32)
    start = SPECTRUM.mean.float().view(1, 3, 1, 1) + 1e-3 * waves
    assert (canvas(start).image() - start).abs().max() < 1e-6
    far = canvas(SPECTRUM.mean.float().view(1, 3, 1, 1) + 0.3 * waves, bound=0.05)
    length = far.coefficients.detach().square().sum(-1).sqrt()
    assert length.max() <= 0.05 * math.atanh(REACH) * (1 + 1e-4)


def test_the_differential_is_that_of_finite_differences() -> None:
    held = Photographs(GREY.double(), SPECTRUM, Draws([0, 1]), 1.2, 0.3, "tanh", 24)
    step = torch.randn(held.coefficients.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    (differential, h) = held.canvas([step]), 1e-6
    ends = [held._drawn(held.coefficients.detach() + sign * h * step) for sign in (1, -1)]
    assert (differential - (ends[0] - ends[1]) / (2 * h)).abs().max() < 1e-6


def test_a_tilt_is_a_power_of_the_frequency_counted_per_side() -> None:
    plain, tilted = (
        Photographs(GREY.double(), SPECTRUM, Draws([0, 1]), 1.2, 0.0, "clamp", 24, tilt=p) for p in (0.0, 0.5)
    )
    ratio = tilted.magnitude / plain.magnitude
    assert (ratio[:, 0, 12] - (8 / (12 * 24 / 32)) ** 0.5).abs().max() < 1e-12  # 12 cycles in 32 of a side of 24
    assert (ratio[:, 3, 4] - (8 / math.hypot(3, 4 * 24 / 32)) ** 0.5).abs().max() < 1e-12
    assert (ratio[:, 0, 0] - 8**0.5).abs().max() < 1e-12


def test_the_fine_part_of_a_wave_fades_away_from_the_middle() -> None:
    plain, faded = (
        Photographs(GREY.double(), SPECTRUM, Draws([0, 1]), 1.2, 0.3, "clamp", 24, focus) for focus in (0.0, 0.25)
    )
    for held in (plain, faded):
        held.coefficients.data.zero_()
        held.coefficients.data[:, 0, 0, 12, 0] = 1.0  # one wave of lightness, along the longer side
    y, x = ((torch.arange(n, dtype=torch.float64) + 0.5 - n / 2) / 24 for n in (24, 32))
    share = math.exp(-((12 * 24 / 32 / 8) ** 2) / 2)  # of this wave that counts as coarse
    strength = 0.3 + 0.7 * torch.exp(-(y[:, None].square() + x.square()) / (2 * 0.25**2))
    before, after = (held._drawn(held.coefficients) for held in (plain, faded))
    assert (after - before * (share + (1 - share) * strength)).abs().max() < 1e-12
    step = torch.randn(faded.coefficients.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ends = [faded._drawn(faded.coefficients.detach() + sign * 1e-6 * step) for sign in (1, -1)]
    assert (faded.canvas([step]) - (ends[0] - ends[1]) / 2e-6).abs().max() < 1e-6


def test_a_picture_is_the_same_in_any_batch() -> None:
    whole = Photographs(GREY, SPECTRUM, Draws([3, 4]), spread=0.2).image()
    alone = Photographs(GREY[:1], SPECTRUM, Draws([4]), spread=0.2).image()
    assert torch.equal(whole[1:], alone)
    assert (whole[0] - whole[1]).abs().max() > 0.01


def test_a_warp_without_reach_is_the_picture_and_a_zoom_is_its_centre() -> None:
    seen = torch.rand(2, 3, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    still = Warp(1.0, 1.0, 0.0, 0.0)
    assert still.idle
    assert (still(seen, Draws([0, 1]), 0.0) - seen).abs().max() < 1e-5
    ramp = torch.linspace(-1, 1, 16).expand(1, 1, 3, 16, 16)
    zoomed = Warp(2.0, 2.0, 0.0, 0.0)(ramp, Draws([0]), 0.0)
    assert (zoomed - ramp / 2).abs().max() < 1e-5
    assert Warp().moves
    assert not Warp().idle


@pytest.mark.parametrize("padding", ["mean", "reflect"])
def test_outside_the_picture_a_copy_shows_its_mean_colour_or_its_reflection(padding: Any) -> None:
    ramp = torch.linspace(0, 1, 16).expand(1, 1, 3, 16, 16) ** 2
    half = Warp(0.5, 0.5, 0.0, 0.0, padding)(ramp, Draws([0]), 0.0)[0, 0, 0]
    inside = (ramp[0, 0, 0, 0, ::2] + ramp[0, 0, 0, 0, 1::2]) / 2  # a bilinear sample midway between two pixels
    assert (half[8, 4:12] - inside).abs().max() < 1e-6
    outside = inside[:4].flip(0) if padding == "reflect" else ramp.mean().expand(4)
    assert (half[8, :4] - outside).abs().max() < 1e-6


def test_a_warp_belongs_to_its_picture_and_time() -> None:
    seen = torch.rand(2, 2, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    whole = Warp()(seen, Draws([5, 6]), 0.25)
    assert torch.equal(whole[1:], Warp()(seen[1:], Draws([6]), 0.25))
    assert not torch.equal(whole, Warp()(seen, Draws([5, 6]), 0.5))
    assert not torch.equal(whole[0, 0], whole[0, 1])


@pytest.mark.parametrize(
    "wrong", [{"smallest": 0.0}, {"smallest": 2.0}, {"reach": 1.5}, {"degrees": -1.0}, {"padding": "wrap"}]
)
def test_a_warp_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"smallest|degrees|padding"):
        Warp(**wrong)


def test_the_heads_row_is_the_cosine_by_hand() -> None:
    module, spec = build()
    model = load_model(module.eval(), spec=spec)
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    labels = torch.tensor([2, 0])
    (term,) = HeadRow().terms(Binding(model=model, seen=model, main=model, draws=Draws([0, 1]), labels=labels))
    features = module.body((images - torch.tensor(spec.mean).view(3, 1, 1)) / torch.tensor(spec.std).view(3, 1, 1))
    rows = module.head.weight - module.head.weight.mean(0)
    expected = torch.cosine_similarity(features.mean((2, 3)), rows[labels], dim=1)
    assert (term(images) - expected).abs().max() < 1e-5


def test_the_mean_over_real_pictures_is_the_centre_of_the_heads_row(tmp_path: Path) -> None:
    for i, image in enumerate(Draws(range(12)).uniform((3, 16, 16))):
        (tmp_path / f"{i:02}.png").write_bytes(to_png(image))
    module, spec = build()
    model = load_model(module.eval(), spec=spec)
    shift, scale = (torch.tensor(v).view(3, 1, 1) for v in (spec.mean, spec.std))
    real = load_images(tmp_path).images / 255
    mean = module.body((real - shift) / scale).mean((0, 2, 3)).detach()
    objective = HeadRow(centre=True) + Embedding(layer="body.2", centred=True)
    means = find_priors([model], objective, tmp_path, condition=[model]).means
    assert set(means) == {(model.name, "head:input"), (model.name, "body.2")}
    assert (means[model.name, "head:input"] - mean).abs().max() < 1e-5
    early = module.body[:3]((real - shift) / scale).mean((0, 2, 3)).detach()
    assert (means[model.name, "body.2"] - early).abs().max() < 1e-5
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    bound = Binding(model, model, model, Draws([0, 1]), torch.tensor([2, 0]), priors=Priors(means=means))
    (term,) = HeadRow(centre=True).terms(bound)
    features = module.body((images - shift) / scale).mean((2, 3)) - mean
    rows = module.head.weight - module.head.weight.mean(0)
    assert (term(images) - torch.cosine_similarity(features, rows[[2, 0]], dim=1)).abs().max() < 1e-5


def test_the_mean_that_is_kept_with_a_network_is_its_centre() -> None:
    model = load_model("bundled:cifar10-resnet")
    (mean,) = find_priors([model], as_sum(HeadRow(centre=True)), None, condition=[model]).means.values()
    kept = features_mean(model)
    assert kept is not None
    assert torch.equal(mean, kept)


@pytest.mark.parametrize("layer", ["body.2", "body.4"])
def test_a_mean_of_another_layer_than_the_heads_input_is_refused(tmp_path: Path, layer: str) -> None:
    """body.2 has another width, body.4 the same width and other values; body is what enters the head."""
    (real := tmp_path / "real").mkdir()
    for i, image in enumerate(Draws(range(3)).uniform((3, 16, 16))):
        (real / f"{i}.png").write_bytes(to_png(image))
    module, spec = build()
    model = load_model(module, spec=replace(spec, feature_layer=layer))
    file = tmp_path / "kept.safetensors"
    statistics(model, real, out=file)
    chosen = {"recipe": "photographs", "terms.head-row.centre": True, "steps": 1, "verdicts": False}
    with pytest.raises(UserError) as error:
        generate(model, "anchor", 1, data=file, **chosen)
    assert str(error.value) == (
        "terms.head-row.centre: no mean over real pictures of 'head:input', the input of the head of model "
        f"{model.name!r}, is known; type --data FOLDER_OR_PARQUET, or --set terms.head-row.centre=false"
    )
    generate(model, "anchor", 1, data=real, **chosen)
    for stated in (spec.feature_layer, None):  # without one, the features are what enters the head
        inner = load_model(module, spec=replace(spec, feature_layer=stated))
        statistics(inner, real, out=file, overwrite=True)
        assert len(generate(inner, "anchor", 1, data=file, **chosen).images) == 1


@pytest.mark.filterwarnings("ignore:model 'Sequential'.* as those of a softmax")
def test_a_network_without_a_head_says_what_to_take_instead() -> None:
    flat = nn.Sequential(nn.Conv2d(3, 4, 16), nn.Flatten(), nn.Softmax(1))
    spec = ModelSpec(16, 0.5, 0.5, 4)
    with pytest.raises(UserError, match="no linear head") as error:
        generate(flat, 1, spec=spec, recipe="photographs", steps=1, verdicts=False)
    assert "type --recipe icons, or --set terms.class.weight=1 terms.head-row.weight=0" in str(error.value)
    by_class = {"terms.class.weight": 1.0, "terms.head-row.weight": 0.0}
    generate(flat, 1, spec=spec, recipe="photographs", steps=1, verdicts=False, **by_class)


def test_the_recipe_draws(capsys: pytest.CaptureFixture[str]) -> None:
    module, spec = build()
    result = generate(module, ["anchor", "dragon"], 1, spec=spec, recipe="photographs", steps=24, verdicts=False)
    assert result.images.shape == (2, 3, 16, 16)
    values = [frame.stats["features"] for frame in result.frames]
    assert values[-1] > values[0] + 0.02
