"""Rows of tar files: an index of the members, and pictures read where they lie.

Nothing is ever written to the disk. What an archive can state about itself is bounded: the number of members, their
sizes, and the length of extended headers. A member that leads out of the archive is refused; links, devices and sparse
files are passed over and never followed.
"""

from __future__ import annotations

import tarfile
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np

from bothways.data.rows.held import read_at
from bothways.reading import PICTURE_AT_MOST, as_text, check_file
from bothways.types import UserError

MEMBERS_AT_MOST = 20_000_000
EXTENDED_AT_MOST = 2**20  # bytes of a header that holds a long name or attributes
EXTENDED = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.SOLARIS_XHDTYPE,
)
FORGET = 1000  # members after which tarfile's own list of them is emptied
PACKED = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # gzip, bzip2, xz, zstd


class Member(NamedTuple):
    """A file in an archive, at an offset. name: as it stands there."""

    name: str
    offset: int
    size: int


class Bounded(tarfile.TarInfo):
    """A header whose extended parts are bounded before they are read."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Any:
        found = super().frombuf(buf, encoding, errors)
        if found.size < 0 or (found.type in EXTENDED and found.size > EXTENDED_AT_MOST):
            raise UserError(
                f"an extended header states {found.size:,} bytes, and at most {EXTENDED_AT_MOST:,} are read"
            )
        return found


@dataclass(frozen=True)
class MemberRows:
    """Rows of archives. files: in order; shard, offset, size: (N,) of each picture; names: of the members."""

    files: tuple[Path, ...]
    begins: tuple[int, ...]
    offset: np.ndarray
    size: np.ndarray
    names: tuple[str, ...]
    labels: np.ndarray

    def read(self, rows: Sequence[int], near: int = 0) -> Iterator[tuple[str, bytes]]:
        for row in rows:
            path = self.files[bisect_right(self.begins, row) - 1]
            content = read_at(path, int(self.offset[row]), int(self.size[row]))
            if len(content) < int(self.size[row]):
                raise UserError(f"data {str(path)!r} is damaged: it ends within {self.names[row]}; download it again")
            yield f"{path.name} {self.names[row]}", content


def members_of(path: Path) -> Iterator[Member]:
    """The ordinary files of a tar, in order; a link or a special file has the offset -1, so that it can be counted.

    Raises UserError, with the file and the place, for one that is damaged or compressed.
    """
    check_file(path)
    size, head = path.stat().st_size, read_at(path, 0, 6)
    if head.startswith(PACKED):
        raise UserError(
            f"data {str(path)!r} is compressed, so that no picture in it can be reached; unpack it, to a "
            "folder or to a plain .tar"
        )
    seen = 0
    try:
        with tarfile.open(path, "r:", tarinfo=Bounded) as archive:
            for member in archive:
                seen += 1
                yield _checked(path, member, size)
                if seen > MEMBERS_AT_MOST:
                    raise UserError(
                        f"data {str(path)!r} has more than {MEMBERS_AT_MOST:,} members; split it into shards"
                    )
                if seen % FORGET == 0:
                    archive.members = []  # type: ignore[attr-defined]
            end = archive.offset
    except UserError as error:
        if str(path) in str(error):
            raise
        raise UserError(f"data {str(path)!r}, after {seen} members: {error}") from error
    except (tarfile.TarError, OSError, ValueError, EOFError, OverflowError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(f"data {str(path)!r} is no whole tar file, after {seen} members: {reason}") from error
    block = read_at(path, end, tarfile.BLOCKSIZE)
    if len(block) < tarfile.BLOCKSIZE or any(block):  # tarfile ends there without a word
        raise UserError(f"data {str(path)!r} is damaged at byte {end:,}, after {seen} members; download it again")


def _checked(path: Path, member: tarfile.TarInfo, size: int) -> Member:
    name = as_text(member.name)
    parts = PurePosixPath(name)
    if parts.is_absolute() or ".." in parts.parts or "\0" in name or "\n" in name:
        raise UserError(f"data {str(path)!r}: member {name!r} leads out of the archive; make it anew with plain names")
    if not member.isreg() or member.issparse():
        return Member(name, 0 if member.isdir() else -1, 0)
    if member.offset_data + member.size > size:
        raise UserError(f"data {str(path)!r} is damaged: it ends within {name}; download it again")
    if member.size > PICTURE_AT_MOST:
        raise UserError(
            f"data {str(path)!r}: member {name} has {member.size:,} bytes, and at most {PICTURE_AT_MOST:,} are read"
        )
    return Member(name, member.offset_data, member.size)
