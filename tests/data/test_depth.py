"""Pictures of more than 8 bits, of floats, and turned ones, by every way in which pictures are read."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import torch
from PIL import Image

from bothways import predict, walk
from bothways.data.readers.decoding import decode_image
from bothways.data.sources import load_images
from bothways.studio.uploads import read_upload
from bothways.tasks.generate.scene import find_scene, read_photos
from small_flow import write_small_flow
from toy_model import build

RAMP = np.arange(256 * 256, dtype=np.uint16).reshape(256, 256)
TURNED = 6  # EXIF: the stored picture is to be turned by 90 degrees clockwise


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def png_of_16_bits(values: np.ndarray, colour: int) -> bytes:
    """A PNG of (H,W) or (H,W,C) uint16, which PIL cannot write. colour: 0 grey, 2 RGB, 4 grey with alpha, 6 RGBA."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_of_grey_are_scaled_by_1_257(kind: str) -> None:
    found = decode_image(encoded(Image.fromarray(RAMP), kind))
    assert np.array_equal(found, np.stack([np.round(RAMP / 257).astype(np.uint8)] * 3, 2))


def test_sixteen_bits_with_the_larger_byte_first() -> None:
    picture = Image.frombytes("I;16B", (256, 256), RAMP.astype(">u2").tobytes())
    assert np.array_equal(decode_image(encoded(picture, "TIFF"))[..., 1], np.round(RAMP / 257))


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_sixteen_bits_of_colour_keep_their_scale(colour: int, channels: int) -> None:
    values = np.stack([RAMP, RAMP.T, RAMP[::-1], np.full_like(RAMP, 65535)], 2)
    values = values[..., [0, 3]] if channels == 2 else values[..., :channels]
    found = decode_image(png_of_16_bits(values, colour)).astype(int)
    wanted = np.stack([values[..., 0]] * 3, 2) if channels == 2 else values[..., :3]
    assert np.abs(found - wanted / 257).max() <= 1


def test_floats_in_the_unit_interval_are_read_and_others_named(tmp_path: Path) -> None:
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    assert np.array_equal(decode_image(encoded(Image.fromarray(values), "TIFF"))[..., 0], np.round(255 * values))
    for name, array in (("0.tif", values), ("1.tiff", 300 * values), ("2.tif", np.full((8, 8), np.nan, np.float32))):
        (tmp_path / name).write_bytes(encoded(Image.fromarray(array), "TIFF"))
    (tmp_path / "3.tif").write_bytes(encoded(Image.fromarray(RAMP[:8, :8].astype(np.int32)), "TIFF"))
    with pytest.warns(UserWarning, match=r"3 unreadable pictures skipped, the first: 1\.tiff: floats from 0 to 300"):
        found = load_images(tmp_path)
    assert [name.split(":")[0] for name in found.skipped] == ["1.tiff", "2.tif", "3.tif"]
    assert len(found) == 1


def test_an_eight_bit_picture_of_each_mode_is_as_before() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    for mode in ("RGB", "L", "P", "CMYK", "YCbCr", "LA", "RGBA", "1"):
        picture = Image.fromarray(rgb).convert(mode)
        kind = "JPEG" if mode in ("CMYK", "YCbCr") else "PNG"
        wanted = np.asarray(Image.open(io.BytesIO(encoded(picture, kind))).convert("RGB"))
        assert np.array_equal(decode_image(encoded(picture, kind)), wanted), mode


def test_the_first_frame_of_several_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    frames[0].save(tmp_path / "b.tif", save_all=True, append_images=frames[1:])
    assert load_images(tmp_path).images.permute(0, 2, 3, 1).reshape(-1, 3).unique(dim=0).tolist() == [[255, 0, 0]]


# ---- turned pictures -----------------------------------------------------------------------------------------------


def stored() -> Image.Image:
    """Black but for the left half, which is white: upright, by TURNED, the upper half is."""
    values = np.zeros((16, 16, 3), np.uint8)
    values[:, :8] = 255
    return Image.fromarray(values)


def turned(kind: str, orientation: int = TURNED) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(stored(), kind, exif=exif, **({"quality": 100} if kind == "JPEG" else {}))


def is_upright(picture: np.ndarray) -> bool:
    return bool((picture[:6] > 200).all() and (picture[10:] < 50).all())


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_a_turned_picture_is_upright(kind: str) -> None:
    assert is_upright(decode_image(turned(kind)))
    plain = decode_image(turned(kind, 1))
    assert plain[:, :6].min() > 200
    assert plain[:, 10:].max() < 50


def test_a_turned_picture_of_sixteen_bits_is_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = TURNED
    deep = Image.fromarray(np.asarray(stored())[..., 0].astype(np.uint16) * 257)
    assert is_upright(decode_image(encoded(deep, "PNG", exif=exif)))


def test_damaged_metadata_beside_whole_pixels_change_nothing() -> None:
    content = encoded(stored(), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff and no more")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert decode_image(content)[:, :6].min() > 200


def test_every_way_in_which_pictures_are_read_turns_them(tmp_path: Path) -> None:
    file = tmp_path / "data" / "cat" / "0.jpg"
    file.parent.mkdir(parents=True)
    file.write_bytes(turned("JPEG"))
    table = pyarrow.table({"image": [turned("JPEG")], "label": [0]})
    pyarrow.parquet.write_table(table, tmp_path / "x.parquet")
    ways = [load_images(address).images[0] / 255 for address in (tmp_path / "data", tmp_path / "x.parquet")]
    ways += [read_photos(file, "photo")[0], read_upload(file)]
    flow = write_small_flow(tmp_path / "flow", size=16)
    ways.append(walk(flow, file, steps=1).there[0])
    for found in ways:
        assert is_upright(255 * found.permute(1, 2, 0).numpy())
    module, spec = build()
    told = predict(module, file, spec=spec, top=4)[0].answers
    upright = torch.from_numpy(decode_image(turned("JPEG")).copy()).permute(2, 0, 1)[None] / 255
    assert [(a.number, a.probability) for a in told] == [
        (a.number, a.probability) for a in predict(module, upright, spec=spec, top=4)[0].answers
    ]


# ---- pictures with clear parts ---------------------------------------------------------------------------------------


def half_clear() -> Image.Image:
    """Red on the left; on the right clear, with black below it."""
    picture = Image.new("RGBA", (16, 16))
    picture.paste((255, 0, 0, 255), (0, 0, 8, 16))
    return picture


def clear_ones() -> dict[str, Image.Image]:
    """The ways in which a picture says what is clear: a channel, a palette, one colour."""
    palette = half_clear().convert("P")
    black = Image.new("RGB", (16, 16))
    black.paste((255, 0, 0), (0, 0, 8, 16))
    grey = Image.merge("LA", [half_clear().getchannel("R"), half_clear().getchannel("A")])
    return {"RGBA": half_clear(), "P": palette, "RGB": black, "LA": grey}


@pytest.mark.parametrize("mode", ["RGBA", "P", "RGB", "LA"])
def test_what_is_clear_is_white(mode: str) -> None:
    options = {"P": {"transparency": clear_ones()["P"].getpixel((12, 0))}, "RGB": {"transparency": (0, 0, 0)}}
    found = decode_image(encoded(clear_ones()[mode], "PNG", **options.get(mode, {})))
    assert (found[:, 8:] == 255).all()
    assert (found[:, :8] == ([255, 255, 255] if mode == "LA" else [255, 0, 0])).all()


def test_half_clear_is_half_white() -> None:
    for level in (0, 1, 100, 254, 255):
        found = decode_image(encoded(Image.new("RGBA", (4, 4), (10, 20, 30, level)), "PNG")).astype(float)
        wanted = (level * np.array([10, 20, 30]) + (255 - level) * 255) / 255
        assert np.abs(found - wanted).max() <= 0.51


def test_every_way_in_which_pictures_are_read_puts_them_on_white(tmp_path: Path) -> None:
    file = tmp_path / "data" / "cat" / "0.png"
    file.parent.mkdir(parents=True)
    file.write_bytes(encoded(half_clear(), "PNG"))
    pyarrow.parquet.write_table(pyarrow.table({"image": [file.read_bytes()], "label": [0]}), tmp_path / "x.parquet")
    ways = [load_images(address).images[0] / 255 for address in (tmp_path / "data", tmp_path / "x.parquet")]
    ways += [read_photos(given, "photo")[0] for given in (file, half_clear(), np.array(half_clear()))]
    ways.append(read_upload(file))
    for found in ways:
        assert (found[:, :, 8:] == 1).all()
        assert (found[:, :, :8] == torch.tensor([1.0, 0, 0])[:, None, None]).all()


def test_what_is_clear_in_a_mask_is_kept(tmp_path: Path) -> None:
    for below in ((0, 0, 0, 0), (255, 255, 255, 0)):  # what a program writes there
        mask = Image.new("RGBA", (16, 16), below)
        mask.paste((255, 255, 255, 255), (2, 3, 6, 9))
        mask.save(tmp_path / "mask.png")
        for given in (tmp_path / "mask.png", mask):
            found = find_scene(half_clear(), given).mask
            assert found is not None
            assert found[0, 0, 3:9, 2:6].all()
            assert found.sum() == 24
