"""Every kind of model draws: of its classes where it has some, and of none after its statistics were measured."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from bothways import Result, UserError, generate, load_model, statistics
from bothways.data.readers.fit import size_of
from bothways.data.sources import load_images
from bothways.models.adapter import Adapter
from bothways.numerics.draws import Draws
from bothways.runs import to_png
from bothways.tasks.statistics.files import read_spread
from zoo import CLASSIFIERS, SIZE, ZOO

Zoo = Callable[[str], str]
GREY = 0.5


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    soft = F.interpolate(Draws(range(8)).uniform((3, 5, 5)), size=(SIZE, SIZE), mode="bilinear")
    for i, image in enumerate(soft):
        (folder / f"{i}.png").write_bytes(to_png(image))
    return folder


def moved(result: Result) -> bool:
    images = result.images
    return bool(torch.isfinite(images).all()) and float((images - GREY).abs().max()) > 2 / 255


def layer_by_hand(model: Adapter, layer: str, images: torch.Tensor) -> torch.Tensor:
    """(C,): the mean over pictures and positions of what enters a normalisation, by a hook of the test's own."""
    module, seen = model.module.get_submodule(layer.removesuffix(":input")), []
    handle = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (model.spec.mean, model.spec.std))
    with torch.no_grad():
        model.module((images - mean) / std)
    handle.remove()
    value = seen[-1]
    channels = len(module.weight)
    turned = getattr(module, "data_format", "channels_last") == "channels_last" and isinstance(
        module, torch.nn.LayerNorm
    )
    value = value.movedim(-1, 1) if turned else value
    assert value.shape[1] == channels
    return value.flatten(2).mean((0, 2)) if value.ndim > 2 else value.mean(0)


@pytest.mark.parametrize("kind", list(ZOO))
def test_statistics_are_of_channels(zoo: Zoo, photos: Path, kind: str) -> None:
    model = load_model(zoo(kind))
    images = load_images(photos, size=size_of(model.spec)).images.float() / 255  # as the model's own files state
    spread = read_spread(statistics(model, photos).tensors)
    assert set(spread) == set(model.statistics_layers())
    assert len(spread) >= (1 if kind == "user" else 5)
    for layer, facts in spread.items():
        expected = layer_by_hand(model, layer, images)
        assert facts.mean.shape == expected.shape
        assert (facts.mean.float() - expected).abs().max() < 2e-3 * max(1, float(expected.abs().max()))  # kept in half


@pytest.mark.parametrize("kind", list(ZOO))
def test_each_kind_draws_without_a_class(zoo: Zoo, photos: Path, tmp_path: Path, kind: str) -> None:
    model = load_model(zoo(kind))
    file = tmp_path / "statistics.safetensors"
    statistics(model, photos, out=file)
    assert moved(generate(zoo(kind), n=1, data=file, steps=2, judges=[]))
    assert moved(generate(model, n=1, recipe="statistics-tv", statistics="spread", data=photos, steps=2, judges=[]))


def test_the_frozen_normalisation_of_a_detector_is_known(zoo: Zoo) -> None:
    model = load_model(zoo("detr"))
    state, stored = model.module.state_dict(), model.batch_norm_statistics()
    assert len(stored) == sum(name.endswith("running_mean") for name in state) > 0
    for layer, (mean, variance) in stored.items():
        name = layer.removesuffix(":input")
        assert torch.equal(mean, state[f"{name}.running_mean"])
        assert torch.equal(variance, state[f"{name}.running_var"])
        assert float(mean.std()) > 0
    assert moved(generate(model, n=1, recipe="statistics-tv", statistics="batch", steps=2, judges=[]))


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_classifiers_draw_their_classes(zoo: Zoo, photos: Path, kind: str) -> None:
    model = load_model(zoo(kind))
    das = generate(model, "badger", n=1, recipe="das", steps=2, judges=[])
    assert moved(das)
    assert das.labels.tolist() == [1]
    assert moved(generate(model, 1, n=1, recipe="icons", statistics="spread", data=photos, steps=1, judges=[]))
    assert moved(generate(model, 1, n=1, recipe="dsf", steps=1, judges=[]))


@pytest.mark.parametrize("kind", ["dinov2", "detr", "clip"])
def test_the_others_have_no_class_to_draw(zoo: Zoo, kind: str) -> None:
    with pytest.raises(UserError, match="has no classes in its spec"):
        generate(zoo(kind), 0, n=1, recipe="das", steps=1)
    with pytest.raises(UserError, match=r"has no statistics of real pictures .*--data"):
        generate(zoo(kind), n=1, steps=1)
