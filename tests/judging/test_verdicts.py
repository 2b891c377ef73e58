"""The judge on a model whose calls are known by construction: it names the channel that is brightest."""

from __future__ import annotations

import json
import math

import pytest
import scipy.stats
import torch
from torch import Tensor, nn

from bothways import load_model
from bothways.judging.measures import image_measures
from bothways.judging.verdicts import Reference, judge, mean_blur, penultimate
from bothways.models.adapter import Adapter
from bothways.numerics.measures import frechet_distance, kernel_distance, mean_pairwise_distance
from bothways.synthesis.objectives.terms import features_layer
from bothways.tasks.explain.measures import audit_layers
from bothways.tasks.scorecard.quantities import label_free_quantities
from bothways.types import ModelSpec, UserError, VisionModel

COLOURS = ("red", "green", "blue")


class Colours(nn.Module):
    """Logits are ten times the mean of each channel; BatchNorm, in training mode at first, would couple a batch."""

    def __init__(self, classes=COLOURS, layer: str | None = "block", shape: str = "map", name: str = "colours") -> None:
        super().__init__()
        self.spec = ModelSpec(size=8, mean=(0, 0, 0), std=(1, 1, 1), classes=classes, feature_layer=layer)
        self.name, self.shape = name, shape
        self.norm = nn.BatchNorm2d(3)

    def features(self, image: Tensor, layers) -> dict[str, Tensor]:
        assert image.shape[-2:] == (8, 8)
        seen = self.norm(image) * math.sqrt(1 + self.norm.eps)
        block = {"map": seen, "tokens": seen.flatten(2).mT, "vector": seen.flatten(1), "odd": seen[0, 0, 0]}[self.shape]
        return {layer: {"outputs": 10 * seen.mean((2, 3)), "block": block}[layer] for layer in layers}

    def outputs(self, image: Tensor) -> Tensor:
        return self.features(image, ["outputs"])["outputs"]


def _pictures(count: int, seed: int = 0, size: int = 8) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


def _flat(*colours: str) -> Tensor:
    rows = torch.eye(3)[[COLOURS.index(colour) for colour in colours]]
    return (0.2 + 0.6 * rows)[:, :, None, None].expand(-1, -1, 8, 8).contiguous()


def _reference(model: VisionModel, images: Tensor) -> Reference:
    features, logits = penultimate(model, images)
    return Reference(features, logits.argmax(1), "uniform noise")


def test_features_are_what_enters_the_linear_head_or_an_encoder_gives_where_none_are_stated() -> None:
    body, head = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), nn.Linear(5, 4)
    facts, images = ((0.0,) * 3, (1.0,) * 3), _pictures(3)
    found, _ = penultimate(load_model(nn.Sequential(body, head), ModelSpec(8, *facts, 4)), images)
    assert found is not None
    assert (found - body(images)).abs().max() < 1e-6
    encoder = load_model(nn.Sequential(body, head), ModelSpec(8, *facts, 0))
    assert (penultimate(encoder, images)[0] - head(body(images))).abs().max() < 1e-6  # what it gives


def test_hits_are_those_built_in():
    model = Colours()
    assert isinstance(model, VisionModel)
    (verdict,) = judge(_flat("red", "red", "blue", "green"), ["red", "green", "blue", "purple"], [model])
    assert verdict.called_names == ("red", "red", "blue", "green")
    assert verdict.called.tolist() == [0, 0, 2, 1]
    assert (verdict.n, verdict.hit_rate) == (3, pytest.approx(2 / 3))
    truth = scipy.stats.binomtest(2, 3).proportion_ci(method="wilson")
    assert verdict.hit_interval == pytest.approx((truth.low, truth.high), abs=1e-12)
    high, low = (math.exp(x) / (math.exp(8) + 2 * math.exp(2)) for x in (8, 2))
    expected = torch.tensor([high, low, high], dtype=torch.float64)
    assert float((verdict.wanted_probability[:3] - expected).abs().max()) < 1e-6
    assert verdict.wanted_probability[3].isnan()
    assert abs(verdict.mean_confidence - high) < 1e-6


def test_judges_without_the_wanted_names_have_no_hit_rate():
    models = [Colours(classes=3), Colours(classes=0), Colours(("red", "red", "blue"))]
    pictures, wanted = _flat("green", "blue"), ["red", "red"]
    number, encoder, twice = judge(pictures, wanted, models)
    assert (number.n, number.hit_rate, number.hit_interval) == (0, None, (0.0, 1.0))
    assert number.wanted_probability is None
    assert number.called_names == ("1", "2")
    assert (encoder.called, encoder.confidence, encoder.n, encoder.hit_rate) == (None, None, 0, None)
    assert encoder.diversity > 0
    assert twice.hit_rate == 0.5  # two classes of one name count as one
    assert float(twice.wanted_probability[0]) > 0.99
    assert judge(pictures, ["1", "1"], models[:1])[0].hit_rate == 0.5
    assert judge(pictures, None, models[:1])[0].hit_rate is None


def test_gradient_models_are_said():
    verdicts = judge(_flat("red"), ["red"], [Colours(name="a"), Colours(name="b")], gradient_models=["a"])
    assert [(v.judge, v.gave_gradient) for v in verdicts] == [("a", True), ("b", False)]


@pytest.mark.parametrize("shape", ["map", "tokens", "vector"])
def test_features_of_each_shape(shape):
    pictures = _pictures(5)
    features, logits = penultimate(Colours(shape=shape), pictures)
    truth = pictures.flatten(1) if shape == "vector" else pictures.mean((2, 3))
    assert float((features - truth).abs().max()) < 1e-6
    assert float((logits - 10 * pictures.mean((2, 3))).abs().max()) < 1e-5
    with pytest.raises(UserError, match="feature_layer"):
        penultimate(Colours(shape="odd"), pictures)


def test_a_picture_does_not_depend_on_its_batch_and_the_mode_is_put_back():
    model, pictures = Colours(), _pictures(7)
    assert model.training
    whole = penultimate(model, pictures)
    for batch in (1, 3):
        for found, truth in zip(penultimate(model, pictures, batch), whole, strict=True):
            assert float((found - truth).abs().max()) < 1e-5
    assert model.training
    assert model.norm.training
    assert not whole[0].requires_grad
    assert int(model.norm.num_batches_tracked) == 0


def test_pictures_of_another_size_are_resized():
    pictures = _flat("red", "blue").repeat_interleave(2, -1).repeat_interleave(2, -2)
    (verdict,) = judge(pictures, ["red", "blue"], [Colours()])
    assert verdict.hit_rate == 1


def test_absent_distances_say_what_enables_them():
    model, pictures, wanted = Colours(), _pictures(4), ["red"] * 4
    (bare,) = judge(pictures, wanted, [Colours(layer=None)])
    assert (bare.frechet, bare.diversity, bare.n) == (None, None, 4)
    assert "feature_layer" in bare.absent
    (unreferenced,) = judge(pictures, wanted, [model])
    assert unreferenced.frechet is None
    assert unreferenced.diversity == pytest.approx(mean_pairwise_distance(penultimate(model, pictures)[0]))
    assert unreferenced.absent == "colours: no real images to compare with; type --data FOLDER_OR_PARQUET"
    (single,) = judge(pictures[:1], ["red"], [model], {"colours": _reference(model, _pictures(9))})
    assert "two or more" in single.absent
    (short,) = judge(pictures, wanted, [model], {"colours": _reference(model, _pictures(3))})
    assert "4 or more" in short.absent


def test_a_judge_without_any_of_the_classes_says_so():
    pictures, told = _flat("red", "blue"), "type --data FOLDER_OR_PARQUET"
    (other,) = judge(pictures, ["purple", "red wine"], [Colours()])
    assert other.hit_rate is None
    assert other.absent == f"colours: no class is called 'purple'; no real images to compare with; {told}"
    (unnamed,) = judge(pictures, ["red", "blue"], [Colours(classes=3)])
    assert "state ModelSpec(classes=[...])" in unnamed.absent
    for names in (["red", "purple"], None):
        assert "no class" not in judge(pictures, names, [Colours()])[0].absent


def test_real_pictures_score_as_real_ones_and_others_do_not():
    model = Colours(shape="vector")
    references = {"colours": _reference(model, _pictures(300))}
    (real,) = judge(_pictures(60, seed=1), None, [model], references)
    (drawn,) = judge(_pictures(60, seed=1) ** 2, None, [model], references)
    assert real.n_real == drawn.n_real == 60
    assert abs(real.frechet / real.frechet_real - 1) < 0.05
    assert abs(real.kernel) < 2e-3
    assert abs(real.kernel_real) < 2e-3
    assert abs(real.diversity / real.diversity_real - 1) < 0.02
    assert drawn.frechet_real == real.frechet_real
    assert drawn.frechet > 1.2 * drawn.frechet_real
    assert drawn.kernel > 0.1
    assert real.reference == "uniform noise"


def test_a_small_reference_is_halved_for_both_sides():
    model = Colours()
    reference = _reference(model, _pictures(11))
    (verdict,) = judge(_pictures(8, seed=1), None, [model], {"colours": reference})
    assert verdict.n_real == 5
    (again,) = judge(_pictures(8, seed=1), None, [model], {"colours": reference})
    assert again.as_dict() == verdict.as_dict()
    (other,) = judge(_pictures(8, seed=1), None, [model], {"colours": reference}, seed=1)
    assert other.kernel_real != verdict.kernel_real


@pytest.mark.parametrize(
    ("drawn", "real", "held", "words"),
    [
        (2, 20, (False, False), "no distances of 2 pictures; the kernel distance needs 5"),
        (4, 300, (False, False), "no distances of 4 pictures"),
        (8, 300, (False, True), "no Fréchet distance, which needs 50 pictures"),
        (49, 300, (False, True), "needs 50"),
        (60, 90, (False, True), "needs 50"),  # half of the reference is 45
        (50, 100, (True, True), ""),
    ],
)
def test_few_pictures_have_no_frechet_distance_and_fewer_none(drawn, real, held, words):
    model = Colours()
    (verdict,) = judge(_pictures(drawn, seed=1), None, [model], {"colours": _reference(model, _pictures(real))})
    assert (verdict.frechet is not None, verdict.kernel is not None) == held
    assert (verdict.frechet_real is not None, verdict.kernel_real is not None) == held
    assert verdict.diversity is not None
    assert words in verdict.absent
    assert bool(verdict.absent) == bool(words)
    if verdict.kernel is None:
        assert verdict.kernel_interval is None
    else:
        low, high = verdict.kernel_interval
        assert low < verdict.kernel < high


def test_distances_are_those_of_one_split_when_every_split_is_alike():
    model = Colours()
    same = Reference(torch.tensor([[0.1, 0.2, 0.3]]).expand(105, 3), torch.zeros(105), "one picture")
    drawn = _pictures(52)
    (verdict,) = judge(drawn, None, [model], {"colours": same})
    features = penultimate(model, drawn)[0]
    assert abs(verdict.frechet - frechet_distance(features, same.features)) < 1e-9
    assert abs(verdict.kernel - kernel_distance(features, same.features)) < 1e-9
    assert (verdict.n_real, verdict.frechet_real, verdict.diversity_real) == (52, pytest.approx(0, abs=1e-9), 0)


def test_as_dict_is_json():
    (verdict,) = judge(_flat("red", "blue"), ["red", "purple"], [Colours()], gradient_models=["colours"])
    line = json.loads(json.dumps(verdict.as_dict(), allow_nan=False))
    assert line["called_names"] == ["red", "blue"]
    assert line["called"] == [0, 2]
    assert line["gave_gradient"] is True
    assert line["wanted_probability"][1] is None
    assert line["hit_interval"] == list(verdict.hit_interval)


def test_mistakes_are_named():
    model, pictures = Colours(), _pictures(3)
    with pytest.raises(UserError, match="one class name per image"):
        judge(pictures, ["red"], [model])
    with pytest.raises(UserError, match="one class name per image"):
        judge(pictures, "red", [model])
    with pytest.raises(UserError, match="finite"):
        judge(pictures * math.nan, None, [model])
    with pytest.raises(UserError, match="4 classes"):
        judge(pictures, None, [Colours(classes=4)])
    with pytest.raises(UserError, match="do not match"):
        Reference(torch.zeros(3, 2), torch.zeros(2), "")
    wrong = Reference(torch.zeros(9, 2), torch.zeros(9), "another layer")
    with pytest.raises(UserError, match="penultimate\\(colours"):
        judge(pictures, None, [model], {"colours": wrong})


def test_image_measures():
    found = image_measures(torch.cat([_pictures(2, size=32), torch.full((2, 3, 32, 32), 0.5)]))
    assert abs(found["spectrum_slope"]) < 0.3
    assert found["collapsed"] == 0.5
    assert abs(found["pixel_std"] - 0.5 / math.sqrt(12)) < 0.01
    assert abs(found["flip_symmetry"] - 0.5) < 0.05
    assert len(found["spectrum"]["frequency"]) == len(found["spectrum"]["power"]) == 16
    flat = image_measures(torch.zeros(1, 3, 8, 8))
    assert (flat["spectrum_slope"], flat["spectrum"]) == (None, None)


def test_mean_blur():
    pictures = _pictures(2, size=5)
    blurred = mean_blur(pictures)
    assert blurred.shape == pictures.shape
    assert float((blurred[:, :, 2, 2] - pictures[:, :, 1:4, 1:4].mean((-2, -1))).abs().max()) < 1e-6
    corner = (4 * pictures[..., 0, 0] + 2 * pictures[..., 0, 1] + 2 * pictures[..., 1, 0] + pictures[..., 1, 1]) / 9
    assert float((blurred[..., 0, 0] - corner).abs().max()) < 1e-6
    assert torch.equal(mean_blur(pictures, 1), pictures)
    with pytest.raises(UserError, match="odd"):
        mean_blur(pictures, 2)


def test_one_layer_of_the_features_wherever_they_are_read() -> None:
    """A judge, an audit, a scorecard and the score take the same features of a network that states no layer."""
    body = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    facts = {"size": (8, 8), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    classifier = Adapter(nn.Sequential(body, nn.Linear(5, 4)), ModelSpec(**facts, classes=4))
    encoder = Adapter(body, ModelSpec(**facts, classes=0))
    headless = Adapter(nn.Sequential(body, nn.ConstantPad1d((0, 1), 0.0)), ModelSpec(**facts, classes=6))
    images = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    own = body((images - 0.5) / 0.5).detach()
    for model in (classifier, encoder):
        seen, _ = penultimate(model, images)
        assert seen is not None
        assert float((seen - own).abs().max()) < 1e-6
    assert features_layer(headless) is None
    assert headless.feature() == "outputs"
    assert penultimate(headless, images)[0] is None
    assert audit_layers(headless)[-1] == headless.statistics_layers()[-1]
    assert audit_layers(classifier)[-1] == "1:input"
    assert "DSF, features" in [quantity.name for quantity in label_free_quantities(classifier)]
    assert "DSF, features" not in [quantity.name for quantity in label_free_quantities(encoder)]  # the logits are they
