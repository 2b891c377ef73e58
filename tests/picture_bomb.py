"""A PNG of a few bytes that claims to be of any size."""

from __future__ import annotations

import struct
import zlib


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def bomb(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    """Its header states the size; hardly any pixels follow. depth, colour: bits a channel, and 0 for grey."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(b"\0" * 64)) + _chunk(b"IEND", b"")
