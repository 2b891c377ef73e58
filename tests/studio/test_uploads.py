"""Uploads: what a header says is believed before anything is decoded; a refusal is one sentence."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bothways.runs import to_png
from bothways.studio import uploads
from bothways.studio.uploads import read_mask, read_upload
from bothways.types import UserError
from picture_bomb import bomb


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("bomb.png", bomb(40_000, 40_000), "pixels"),
        ("large.png", bomb(8_000, 8_000), "8000 x 8000 pixels"),
        ("words.png", b"these are words", "cannot be read as a picture"),
        ("cut.png", to_png(torch.rand(3, 40, 40))[:300], "cannot be read as a picture"),
        ("empty.jpg", b"", "cannot be read as a picture"),
        ("script.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "cannot be read as a picture"),
    ],
)
def test_what_is_no_picture_is_refused_in_a_sentence(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=says) as refusal:
        read_upload(tmp_path / name)
    said = str(refusal.value)
    assert said.startswith(name)
    assert "\n" not in said
    assert str(tmp_path) not in said


def test_too_many_bytes_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "heavy.png"
    with file.open("wb") as out:
        out.truncate(uploads.BYTES_AT_MOST + 1)
    monkeypatch.setattr(Path, "read_bytes", lambda _: pytest.fail("the file was read"))
    with pytest.raises(UserError, match="more than 20 MB"):
        read_upload(file)


def test_a_picture_comes_as_it_is(tmp_path: Path) -> None:
    image = (255 * torch.rand(3, 20, 31, generator=torch.Generator().manual_seed(0))).round() / 255
    (tmp_path / "a.png").write_bytes(to_png(image))
    assert (read_upload(tmp_path / "a.png") - image).abs().max() == 0


def test_a_large_one_is_made_smaller_and_keeps_its_shape(tmp_path: Path) -> None:
    Image.new("RGB", (3000, 1500), (10, 20, 30)).save(tmp_path / "a.jpg")
    found = read_upload(tmp_path / "a.jpg")
    assert found.shape == (3, 256, 512)
    assert (found - torch.tensor([10, 20, 30]).view(3, 1, 1) / 255).abs().max() < 2 / 255


def test_a_turned_photo_is_upright_and_what_is_clear_is_white(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    Image.new("RGB", (40, 20)).save(tmp_path / "turned.jpg", exif=exif)
    assert read_upload(tmp_path / "turned.jpg").shape == (3, 40, 20)
    Image.new("RGBA", (4, 4), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert read_upload(tmp_path / "clear.png").min() == 1


def canvas(alpha: np.ndarray) -> str:
    pixels = np.zeros((*alpha.shape, 4), np.uint8)
    pixels[..., 3] = alpha
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def test_the_mask_is_where_the_canvas_is_painted() -> None:
    alpha = np.zeros((5, 7), np.uint8)
    alpha[1:3, 2:6] = 255
    found = read_mask(canvas(alpha), (5, 7))
    assert found is not None
    assert (found - torch.from_numpy(alpha / 255)).abs().max() == 0
    assert read_mask(canvas(np.zeros((5, 7), np.uint8)), (5, 7)) is None


@pytest.mark.parametrize(
    "sent",
    ["data:image/png;base64,AAAA", "data:text/html;base64,AAAA", "words", canvas(np.ones((9, 7), np.uint8)),
     "data:image/png;base64," + base64.b64encode(bomb(40_000, 40_000)).decode()],
)  # fmt: skip
def test_what_is_no_mask_is_refused(sent: str) -> None:
    with pytest.raises(UserError, match="does not fit the photo"):
        read_mask(sent, (5, 7))
