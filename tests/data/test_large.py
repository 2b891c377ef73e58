"""Pictures that are large, thin or many: only what is needed is made, and what does not fit is refused before it is."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bothways import UserError, budget, load_images
from bothways.data.readers import fit
from bothways.data.readers.decoding import decode_image
from bothways.data.readers.fit import Fit, fitted
from bothways.data.sources import ImageSet
from bothways.numerics.footprint import peak_bytes
from bothways.studio.uploads import read_upload
from command import refused
from picture_bomb import bomb

RANDOM = np.random.default_rng(0)


def thin(long: int = 100_000, wide: bool = True) -> Image.Image:
    shape = (2, long, 3) if wide else (long, 2, 3)
    # within what a filter that overshoots keeps below white, so that nothing depends on which side is resized first
    return Image.fromarray(RANDOM.integers(64, 190, shape, dtype=np.uint8))


def encoded(picture: Image.Image) -> bytes:
    out = BytesIO()
    picture.save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("wide", [True, False])
@pytest.mark.parametrize("size", [224, (64, 48), Fit(64, 64, 0.875, "bilinear"), Fit(64, 64, 1.0, "nearest")])
def test_what_is_cut_away_of_a_thin_picture_is_never_made(monkeypatch, wide: bool, size) -> None:
    picture = thin(3000, wide)
    whole = fitted(picture, size).astype(int)
    monkeypatch.setattr(fit, "WHOLE_AT_MOST", 10_000)
    cut = fitted(picture, size).astype(int)
    assert cut.shape == whole.shape
    assert np.abs(cut - whole).max() <= 2  # each side is rounded to 8 bits
    assert np.abs(cut - whole).mean() < 0.5


def test_a_thin_picture_of_many_pixels_is_read_at_a_size() -> None:
    picture = thin(1_000_000)
    found = decode_image(encoded(picture), 224)  # 224 x 112,000,000 pixels before they were cut
    middle = np.asarray(picture)[:, 499_990:500_010].mean((0, 1))
    assert found.shape == (224, 224, 3)
    assert np.abs(found.mean((0, 1)) - middle).max() < 100
    assert found.std() > 5


def pretended(monkeypatch: pytest.MonkeyPatch, free: float) -> None:
    monkeypatch.setattr(budget, "free_memory", lambda device="cpu": free)


@pytest.mark.parametrize("size", [None, 32])
def test_a_picture_that_does_not_fit_is_refused_by_its_header(monkeypatch, size: int | None) -> None:
    pretended(monkeypatch, 50e6)
    with pytest.raises(
        ValueError, match=r"^7000 x 7000 pixels would take about .* [MG]B of memory, and 50 MB are free$"
    ):
        decode_image(bomb(7000, 7000), size)
    with pytest.raises(ValueError, match=r"truncated|broken|incomplete"):  # and a small one is read
        decode_image(bomb(500, 500), size)


def test_an_upload_that_does_not_fit_is_refused_by_its_header(monkeypatch, tmp_path: Path) -> None:
    (tmp_path / "large.png").write_bytes(bomb(6000, 6000))
    pretended(monkeypatch, 50e6)
    with pytest.raises(UserError, match=r"^large.png: 6000 x 6000 pixels would take .*; choose a smaller picture$"):
        read_upload(tmp_path / "large.png")


def folder(path: Path, count: int = 3, side: int = 8) -> Path:
    path.mkdir()
    for number in range(count):
        Image.fromarray(RANDOM.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(path / f"{number}.png")
    return path


def test_pictures_that_do_not_fit_together_are_refused_before_the_first_is_read(monkeypatch, tmp_path: Path) -> None:
    place = folder(tmp_path / "data")
    pretended(monkeypatch, 1000)
    with pytest.raises(UserError, match=r"3 pictures of 16x16 pixels .* type --limit 1 \(or --n 1\)"):
        load_images(place, size=(16, 16), limit=3)
    pretended(monkeypatch, 1000 * 4)
    more = folder(tmp_path / "more", 12)
    with pytest.raises(UserError, match=r"give at most 5 of them, or type --size 10$") as told:
        load_images(more, size=16)
    assert "\n" not in str(told.value)
    pretended(monkeypatch, 3 * 3 * 64)
    assert len(load_images(place, size=8)) == 3
    pretended(monkeypatch, 3 * 3 * 64 - 1)
    with pytest.raises(UserError, match="pictures of 8x8 pixels"):  # whose size is that of the first
        load_images(place)


def test_pictures_are_held_once_while_they_are_read(tmp_path: Path) -> None:
    place = folder(tmp_path / "data", 20, 32)
    found: list[ImageSet] = []
    peak = peak_bytes(lambda: found.append(load_images(place)))
    assert found[0].images.nbytes <= peak < 1.5 * found[0].images.nbytes
    assert found[0].images.is_contiguous()


def test_floats_of_pictures_are_refused_where_bytes_still_fit(monkeypatch, tmp_path: Path) -> None:
    images = load_images(folder(tmp_path / "data"))
    assert images.floats().equal(images.images.float() / 255)
    pretended(monkeypatch, images.images.nbytes * 2)
    with pytest.raises(UserError, match="--limit 1"):
        images.floats()


def test_a_pretraining_at_a_size_that_does_not_fit(capsys, monkeypatch, tmp_path: Path) -> None:
    pretended(monkeypatch, 8e9)
    said = refused(capsys, "pretrain", "--data", "digits", "--size", 16_000, "--out", tmp_path / "out")
    assert "1,500 pictures of 16000x16000 pixels" in said
    assert "type --size 1333" in said
    assert "from 1 to 16384" in refused(capsys, "pretrain", "--data", "digits", "--size", 20_000)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("size", "says"), [(224, "--size"), (20_000, "--size")])
def test_a_thin_photo_that_would_be_scaled_beyond_memory(capsys, monkeypatch, tmp_path: Path, size, says) -> None:
    (tmp_path / "thin.png").write_bytes(encoded(thin()))
    pretended(monkeypatch, 8e9)
    given = ("edit", "bundled:cifar10-resnet", tmp_path / "thin.png", "--class", "frog", "--size", size)
    said = refused(capsys, *given, "--out", tmp_path / "out")
    assert f"{50_000 * size}x{size} pixels (the photo of 100000x2 at --size {size})" in said
    assert "type --size 66 or less" in said
