"""Files that are damaged, or lie about themselves: pictures, weights and tables, each a function of its number."""

from __future__ import annotations

import io
import json
import random
import struct
import zlib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save
from torch import Tensor

SIDE = 24
FORMATS = {  # suffix -> (format, modes, further ways to save)
    "png": ("PNG", ("RGB", "RGBA", "L", "LA", "P", "1", "I;16"), ({}, {"optimize": True})),
    "jpg": ("JPEG", ("RGB", "L", "CMYK"), ({}, {"progressive": True}, {"quality": 100, "subsampling": 0})),
    "bmp": ("BMP", ("RGB", "L", "P", "1", "RGBA"), ({},)),
    "webp": ("WEBP", ("RGB", "RGBA"), ({}, {"lossless": True})),
    "gif": ("GIF", ("P", "L"), ({},)),
    "tif": ("TIFF", ("RGB", "L", "I;16", "F", "CMYK", "1", "I", "LAB"), ({}, {"compression": "tiff_deflate"})),
}
HUGE = (0, 1, 2, 255, 8_000, 9_000, 65_535, 100_000, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
OTHERS = (  # what no picture that is read is, though Pillow would open it
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nwhile true loop\n%%EOF\n",
    b"P6 30000 30000 255 " + b"\0" * 64,
    b"SIMPLE  =                    T" + b" " * 2850,
    b"8BPS\0\1" + b"\0" * 64,
    b"",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"\xff\xd8\xff",
    b"II*\0\x08\0\0\0\0\0\0\0\0\0",
)


def picture(mode: str, seed: int = 0, side: int = SIDE) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (side, side, 4), dtype=np.uint8)
    if mode in ("I;16", "I", "F"):
        kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        return Image.fromarray((values[..., 0] / (255 if mode == "F" else 1)).astype(kind))
    whole = Image.fromarray(values[..., :3])
    if mode == "LAB":
        return Image.frombytes("LAB", whole.size, values[..., :3].tobytes())
    return whole.convert(mode)


@cache
def whole_pictures() -> tuple[tuple[str, bytes], ...]:
    """(suffix, content) of good files of every format and mode, one of several frames and one turned by EXIF."""
    found = []
    for suffix, (kind, modes, ways) in FORMATS.items():
        for mode in modes:
            for way in ways:
                out = io.BytesIO()
                picture(mode).save(out, kind, **way)
                found.append((suffix, out.getvalue()))
    for suffix, kind in (("gif", "GIF"), ("webp", "WEBP"), ("png", "PNG"), ("tif", "TIFF")):
        out = io.BytesIO()
        frames = [picture("RGB", k) for k in range(5)]
        frames[0].save(out, kind, save_all=True, append_images=frames[1:])
        found.append((suffix, out.getvalue()))
    exif = Image.Exif()
    exif[0x0112] = 6
    out = io.BytesIO()
    picture("RGB").save(out, "JPEG", exif=exif)
    return (*found, ("jpg", out.getvalue()))


def mutated_picture(number: int) -> tuple[str, bytes]:
    """(suffix, content) of a picture that is cut, changed, or lies about its size, its kind or its frames."""
    draw = random.Random(number)
    suffix, content = draw.choice(whole_pictures())
    if draw.random() < 0.05:
        return suffix, draw.choice(OTHERS)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        content = draw.choice((*BYTES, _sized, _sized))(content, draw)
    return suffix, content


def _cut(content: bytes, draw: random.Random) -> bytes:
    return content[: draw.randrange(len(content) + 1)]


def _flipped(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(draw.choice((1, 8, 64)) if changed else 0):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _header(content: bytes, draw: random.Random) -> bytes:
    """One byte among the first."""
    changed = bytearray(content)
    for _ in range(draw.randrange(1, 4) if changed else 0):
        changed[draw.randrange(min(64, len(changed)))] = draw.choice((0, 1, 127, 128, 255, draw.randrange(256)))
    return bytes(changed)


def _moved(content: bytes, draw: random.Random) -> bytes:
    """A piece put elsewhere, or left out, or repeated."""
    first, last = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    piece, place = content[first:last], draw.randrange(len(content) + 1)
    return draw.choice(
        (content[:first] + content[last:], content[:place] + piece * draw.choice((1, 3)) + content[place:])
    )


def _number(content: bytes, draw: random.Random) -> bytes:
    """Two or four bytes that become a huge number, or a small one."""
    if len(content) < 5:
        return content
    place, kind = draw.randrange(len(content) - 4), draw.choice((">I", "<I", ">H", "<H"))
    packed = struct.pack(kind, draw.choice(HUGE) % (1 << (32 if kind[1] == "I" else 16)))
    return content[:place] + packed + content[place + len(packed) :]


def _sized(content: bytes, draw: random.Random) -> bytes:
    """The width or the height of the header becomes another number; the check sum of a PNG fits."""
    number = draw.choice(HUGE)
    if content[:8] == b"\x89PNG\r\n\x1a\n" and len(content) > 33:
        body = bytearray(content[12:29])
        for place in draw.choice(((4,), (8,), (4, 8))):
            body[place : place + 4] = struct.pack(">I", number)
        return content[:12] + bytes(body) + struct.pack(">I", zlib.crc32(bytes(body))) + content[33:]
    if content[:4] == b"GIF8" and len(content) > 10:
        return content[:6] + struct.pack("<HH", number % 65536, draw.choice(HUGE) % 65536) + content[10:]
    if content[:2] == b"BM" and len(content) > 26:
        return content[:18] + struct.pack("<ii", number % 2**31, draw.choice((-5, 7_000, SIDE))) + content[26:]
    if (place := max(content.find(b"\xff\xc0"), content.find(b"\xff\xc2"))) > 0 and len(content) > place + 9:
        return (
            content[: place + 5] + struct.pack(">HH", number % 65536, draw.choice(HUGE) % 65536) + content[place + 9 :]
        )
    side = struct.pack("<H", SIDE)
    places = [k for k in range(len(content) - 4) if content[k : k + 2] == side]
    if not places:
        return _number(content, draw)
    place = draw.choice(places)
    return content[:place] + struct.pack("<I", number) + content[place + 4 :]


BYTES: tuple[Callable[[bytes, random.Random], bytes], ...] = (_cut, _flipped, _header, _moved, _number)

# ---- weights -------------------------------------------------------------------------------------------------------

KINDS = [torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int8, torch.uint8, torch.bool]
KINDS += [torch.float8_e4m3fn, torch.float8_e5m2]


def mutated_weights(number: int, good: Mapping[str, Tensor]) -> bytes:
    """A safetensors file made from good weights: of another type, not finite, cut, changed, or with another header."""
    draw = random.Random(number)
    tensors = {name: value.clone() for name, value in good.items()}
    some = draw.sample(sorted(tensors), draw.choice((1, len(tensors))))
    how = draw.choice(("kind", "value", "bytes", "header", "shape"))
    if how == "kind":
        kind = draw.choice(KINDS)
        tensors |= {name: tensors[name].to(kind) for name in some}
    if how == "value":
        for name in some:
            if tensors[name].is_floating_point():
                tensors[name].view(-1)[draw.randrange(tensors[name].numel())] = draw.choice(
                    (torch.nan, torch.inf, -torch.inf)
                )
    if how == "shape":
        tensors |= {name: draw.choice((tensors[name][None], tensors[name].flatten(), torch.zeros(0))) for name in some}
    content = save({name: value.contiguous() for name, value in tensors.items()})
    if how == "bytes":
        return draw.choice(BYTES)(content, draw)
    if how == "header":
        length = struct.unpack("<Q", content[:8])[0]
        header = json.loads(content[8 : 8 + length])
        entry = header[draw.choice([name for name in header if name != "__metadata__"])]
        entry[draw.choice(sorted(entry))] = draw.choice(
            ("F8_E4M3", "C64", "?", [0, 10**15], [-1], [], None, 1e308, "\n")
        )
        text = json.dumps(header).encode()
        return struct.pack("<Q", draw.choice((len(text), len(text), 2**62, 0))) + text + content[8 + length :]
    return content


# ---- tables --------------------------------------------------------------------------------------------------------


def mutated_parquet(number: int, file: Path) -> None:
    """Write a parquet file of pictures with something wrong in it: bytes, columns, types, nulls, or its features."""
    import pyarrow
    import pyarrow.parquet

    draw, count = random.Random(number), 6
    images = [mutated_picture(number * count + k)[1] if draw.random() < 0.3 else _png(k) for k in range(count)]
    pictures = {
        "bytes": pyarrow.array(images, pyarrow.binary()),
        "struct": pyarrow.array([{"bytes": one, "path": None} for one in images]),
        "null": pyarrow.array([None if draw.random() < 0.7 else one for one in images], pyarrow.binary()),
        "text": pyarrow.array(["a picture"] * count),
        "number": pyarrow.array(range(count)),
        "list": pyarrow.array([[1, 2, 3]] * count),
        "large": pyarrow.array(images, pyarrow.large_binary()),
        "coded": pyarrow.array(images, pyarrow.binary()).dictionary_encode(),
        "hollow": pyarrow.array([{"path": "a.png"}] * count),
        "nothing": pyarrow.nulls(count),
    }
    labels = {
        "whole": pyarrow.array([k % 3 for k in range(count)]),
        "gaps": pyarrow.array([0, 7, 99] * 2),
        "null": pyarrow.array([None, 1, 0, 1, None, 0], pyarrow.int64()),
        "negative": pyarrow.array([-1, -(2**63), 0, 1, 1, 0]),
        "huge": pyarrow.array([2**63, 0, 1, 2**64 - 1, 0, 1], pyarrow.uint64()),
        "float": pyarrow.array([0.0, float("nan"), 1.0, 2.0, 1.0, 0.0]),
        "text": pyarrow.array(["a", "b", "\n", "c", "a", "b"]),
        "bool": pyarrow.array([True, False] * 3),
        "list": pyarrow.array([[1], [2], [], [3], [4], [5]]),
        "nothing": pyarrow.nulls(count),
        "coded": pyarrow.array([0, 1, 2] * 2).dictionary_encode(),
        "time": pyarrow.array([0] * count, pyarrow.timestamp("s")),
    }
    columns = {"image": pictures[draw.choice(("bytes", *pictures))], "label": labels[draw.choice(("whole", *labels))]}
    if draw.random() < 0.15:
        columns = {draw.choice(("img", "", "i\nm", "image")): columns["image"]}
    table = pyarrow.table(columns)
    if draw.random() < 0.4:
        table = table.replace_schema_metadata({b"huggingface": draw.choice(FEATURES)})
    if draw.random() < 0.1:
        table = table.slice(0, 0)
    out = io.BytesIO()
    pyarrow.parquet.write_table(table, out, compression=draw.choice(("snappy", "none", "zstd")))
    content = out.getvalue()
    if draw.random() < 0.5:
        content = draw.choice(BYTES)(content, draw)
    file.write_bytes(content)


def _png(seed: int) -> bytes:
    out = io.BytesIO()
    picture("RGB", seed, 8).save(out, "PNG")
    return out.getvalue()


def _features(**given: object) -> bytes:
    return json.dumps({"info": {"features": given}}).encode()


FEATURES = (
    _features(image={"_type": "Image"}, label={"_type": "ClassLabel", "names": ["a", "b", "c"]}),
    _features(image={"_type": "Image"}, label={"_type": "ClassLabel", "names": ["a"]}),
    _features(image={"_type": "Image"}, label={"_type": "ClassLabel", "names": None}),
    _features(image={"_type": "Image"}, label={"_type": "ClassLabel", "names": 3}),
    _features(image={"_type": "Image"}, label={"_type": "ClassLabel", "names": [1, None, "c"]}),
    _features(image={"_type": ["Image"]}, label=[]),
    _features(image={"_type": "ClassLabel"}, label={"_type": "Image"}),
    json.dumps({"info": {"features": []}}).encode(),
    json.dumps({"info": [1]}).encode(),
    json.dumps([1, 2]).encode(),
    b"{",
    b"\xff\xfe",
    b"[" * 10_000,
)
