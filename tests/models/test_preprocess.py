"""A model's own preprocessing, from its library's files or its spec, is used wherever pictures are read for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import bothways
from bothways import ModelSpec, UserError, load_model
from bothways.data.readers.fit import Fit, fitted, size_of
from bothways.data.sources import load_images
from bothways.models.libraries.transformers_models import _resized
from bothways.numerics.draws import generator
from bothways.tasks.explain.real import real_pictures
from command import refused
from zoo import need

NAMES = ("anchor", "barrel")
BICUBIC, BILINEAR, LANCZOS = Image.Resampling.BICUBIC, Image.Resampling.BILINEAR, Image.Resampling.LANCZOS


def photo(width: int = 60, height: int = 40, seed: int = 0) -> Image.Image:
    """Noise that is smooth, with a bright edge to the left and to the top."""
    small = torch.rand(3, 5, 7, generator=generator(seed))
    image = torch.nn.functional.interpolate(small[None], (height, width), mode="bilinear")[0]
    image[:, :, : width // 8] = 1.0
    image[:, : height // 8] = 0.0
    return Image.fromarray((255 * image).round().byte().permute(1, 2, 0).numpy())


def resized(picture: Image.Image, wide: int, high: int, kind: Image.Resampling, size: tuple[int, int]) -> np.ndarray:
    """(height, width, 3): resized to wide x high, then the centre."""
    picture, (height, width) = picture.resize((wide, high), kind), size
    left, top = round((wide - width) / 2), round((high - height) / 2)
    return np.asarray(picture.crop((left, top, left + width, top + height)))


SPEC = ModelSpec((16, 16), (0.0,) * 3, (1.0,) * 3, NAMES)
WAYS: list[tuple[dict[str, Any], Callable[[Image.Image], np.ndarray]]] = [
    ({}, lambda p: resized(p, 24, 16, BICUBIC, (16, 16))),
    ({"interpolation": "bilinear"}, lambda p: resized(p, 24, 16, BILINEAR, (16, 16))),
    ({"crop": 0.8}, lambda p: resized(p, 30, 20, BICUBIC, (16, 16))),
    ({"crop": 16 / 23}, lambda p: resized(p, 34, 23, BICUBIC, (16, 16))),
    ({"squash": True, "interpolation": "lanczos"}, lambda p: resized(p, 16, 16, LANCZOS, (16, 16))),
    ({"squash": True, "crop": 0.5, "size": (16, 12)}, lambda p: resized(p, 24, 32, BICUBIC, (16, 12))),
    ({"crop": 0.8, "size": (12, 24)}, lambda p: resized(p, 30, 20, BICUBIC, (12, 24))),
]


@pytest.mark.parametrize(("facts", "wanted"), WAYS)
def test_each_fact_is_what_pillow_does_by_hand(
    facts: dict[str, Any], wanted: Callable[[Image.Image], np.ndarray]
) -> None:
    spec, picture = replace(SPEC, **facts), photo()
    found = fitted(picture, size_of(spec))
    assert np.array_equal(found, wanted(picture))
    plain = (spec.height, spec.width)
    assert np.array_equal(fitted(picture, size_of(spec, "ours")), fitted(picture, plain))


def test_a_spec_that_states_nothing_is_read_as_ever() -> None:
    assert size_of(SPEC) == (16, 16)
    assert size_of(SPEC, "ours") == (16, 16)
    assert isinstance(size_of(replace(SPEC, crop=0.9)), Fit)


@pytest.mark.parametrize("facts", [{"crop": 0.0}, {"crop": 1.5}, {"interpolation": "cubic"}])
def test_other_facts_are_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(UserError, match="type a share above 0 and up to 1, and one of nearest, box") as caught:
        replace(SPEC, **facts)
    assert "\n" not in str(caught.value)


# ---- where pictures are read ---------------------------------------------------------------------------------------


class Means(nn.Module):
    """(B,3,H,W) -> (B,2): what the pixels are, so that a picture that is read otherwise says otherwise."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 4, 3, padding=1)
        self.head = nn.Linear(3 * 256, 2)
        with torch.no_grad():
            self.head.weight.copy_(torch.randn(2, 3 * 256, generator=generator(3)) / 8)
            self.body.weight.copy_(torch.randn(4, 3, 3, 3, generator=generator(4)))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.flatten(1)) + 0 * self.body(x).mean()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for label, name in enumerate(NAMES):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for k in range(12):
            photo(60 - k, 40 + k, seed=20 * label + k).save(tmp_path / "photos" / name / f"{k:02d}.png")
    return tmp_path / "photos"


SQUASHED = replace(SPEC, squash=True, interpolation="bilinear", crop=0.8)


def seen_by(spec: ModelSpec, photos: Path, preprocess: str) -> Tensor:
    """(24,3,16,16) in [0,1], as it has to be."""
    files = sorted(photos.rglob("*.png"))
    if preprocess == "ours":
        return load_images(photos, size=(16, 16)).images.float() / 255
    pictures = [resized(Image.open(file), 20, 20, BILINEAR, (16, 16)) for file in files]
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255


@pytest.mark.parametrize("preprocess", ["model", "ours"])
@pytest.mark.filterwarnings("ignore")
def test_every_task_reads_pictures_so(preprocess: Any, photos: Path) -> None:
    module = Means().eval()
    model, shown = load_model(module, SQUASHED), seen_by(SQUASHED, photos, preprocess)
    logits = model.outputs(shown).detach()
    shares = logits.softmax(1)
    said = bothways.predict(model, [photos], preprocess=preprocess)
    for prediction, share in zip(said, shares, strict=True):
        assert prediction.answers[0].probability == pytest.approx(share.max().item(), abs=1e-5)
    labels = torch.arange(2).repeat_interleave(12)
    found = bothways.evaluate(model, data=photos, preprocess=preprocess)
    assert found["clean"]["nll"] == pytest.approx(nn.functional.cross_entropy(logits, labels).item(), abs=1e-5)
    tensors = bothways.statistics(model, data=photos, preprocess=preprocess).tensors
    maps = model.features(shown, ["body"])["body"].detach().flatten(2)
    assert (tensors["spread/body/mean"].float() - maps.mean(2).mean(0)).abs().max() < 1e-3


def test_so_does_an_audit(photos: Path) -> None:
    model = load_model(Means().eval(), SQUASHED)
    for preprocess in ("model", "ours"):
        shown, _ = real_pictures(model, [0, 1], photos, "train", 12, preprocess)
        assert torch.equal(shown.images, seen_by(SQUASHED, photos, preprocess))


class Velocity(nn.Module):
    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return 0 * x


@pytest.mark.filterwarnings("ignore")
def test_so_are_features_of_a_flow(photos: Path) -> None:
    spec = ModelSpec(16, (0.0,) * 3, (1.0,) * 3, 0, path="linear", squash=True, interpolation="bilinear", crop=0.8)
    for preprocess in ("model", "ours"):
        options = {"kind": ["pixels"], "probes": ["none"], "workers": 0, "preprocess": preprocess}
        made = bothways.features(bothways.load_flow(Velocity(), spec), data=photos, **options)
        pixels = torch.from_numpy(np.asarray(made.array("pixels", "train")))
        assert (pixels - seen_by(spec, photos, preprocess).flatten(1)).abs().max() < 1e-6


def test_the_command_line_takes_it(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:

    assert "preprocess" in refused(
        capsys, "evaluate", "bundled:cifar10-resnet", "--data", photos, "--preprocess", "theirs"
    )


# ---- what libraries state ------------------------------------------------------------------------------------------


STATED = [
    ({"size": {"height": 16, "width": 16}, "resample": 2}, (16, 16), {"squash": True, "interpolation": "bilinear"}),
    (
        {"size": {"shortest_edge": 256}, "crop_size": 224, "do_center_crop": True, "resample": 3},
        (224, 224),
        {"squash": False, "crop": 0.875, "interpolation": "bicubic"},
    ),
    ({"size": {"shortest_edge": 224}, "crop_pct": 0.875}, (224, 224), {"squash": False, "crop": 0.875}),
    ({"size": {"shortest_edge": 384}, "crop_pct": 0.875}, (384, 384), {"squash": True}),
    ({"size": 224}, (224, 224), {"squash": False}),
]


@pytest.mark.parametrize(("facts", "size", "wanted"), STATED)
def test_what_a_preprocessor_file_states_is_read(facts: dict[str, Any], size: Any, wanted: dict[str, Any]) -> None:
    assert _resized(facts, size) == wanted


@pytest.mark.parametrize(
    "changes",
    [
        {"size": {"height": 32, "width": 32}, "resample": 2},
        {"size": {"height": 40, "width": 40}, "crop_size": {"height": 32, "width": 32}, "do_center_crop": True},
        {"size": {"height": 32, "width": 32}, "resample": 3},
    ],
)
def test_a_picture_reaches_a_transformers_model_as_its_own_processor_sends_it(
    zoo: Callable[[str], str], tmp_path: Path, changes: dict[str, Any]
) -> None:
    need("vit")
    folder = Path(zoo("vit").removeprefix("hf:"))
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    model, picture = load_model(f"hf:{tmp_path}"), photo(90, 64)
    wide, high = changes["size"]["width"], changes["size"]["height"]
    kind = {2: BILINEAR, 3: BICUBIC}.get(changes.get("resample", 3), BICUBIC)
    wanted = resized(picture, wide, high, kind, (32, 32))
    assert np.array_equal(fitted(picture, size_of(model.spec)), wanted)
