"""The film of a drawing: its pictures at a few steps, which become a GIF or a video of the drawing as it unfolds.

    steps kept: 0 and round(S (k / (FRAMES - 1))^2), k = 1 .. FRAMES - 1, of S

so that the frames stand close where much changes, which is early. A frame shows one tile a picture. What is kept is an
8-bit PNG of the size of its tile, in the folder ``film`` of the run, or in memory where nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

import torch
from PIL import Image
from torch import Tensor

from bothways.progress import counted
from bothways.reading import read_bytes
from bothways.runs import RunFolder
from bothways.runs.files import from_png, replace_file, to_png
from bothways.types import UserError

FRAMES = 32  # at most
TILES = 64  # pictures of a film, the first of the run
SIDE = 512  # pixels of a frame, at most
ENLARGED = 256  # pixels up to which a small picture is enlarged, by a whole factor
GAP = 2  # pixels between tiles
ROWS = 8  # targets that have a row of their own, at most
FOLDER = "film"


def kept_steps(steps: int) -> tuple[int, ...]:
    """The steps of a drawing that its film keeps, 0 and the last among them, at most FRAMES."""
    if steps < FRAMES:
        return tuple(range(steps + 1))
    return tuple(sorted({round(steps * (k / (FRAMES - 1)) ** 2) for k in range(FRAMES)}))


@final
@dataclass
class Film:
    """The pictures of a drawing at some steps.

    pictures: their numbers, in the order of the tiles, at most TILES. columns: tiles side by side. steps: of a picture.
    kinds: "gif", "mp4", what is made of it. folder: of the run; None to keep all in memory.
    """

    pictures: Sequence[int]
    columns: int
    steps: int
    kinds: tuple[str, ...] = ()
    folder: Path | None = None
    memory: dict[tuple[int, int], bytes] = field(default_factory=dict)

    @classmethod
    def of(
        cls, targets: Mapping[int, object], steps: int, kinds: tuple[str, ...] = (), folder: RunFolder | None = None
    ) -> Film:
        """The film of a run. targets: {number of a picture: its target}; each has a row if they fit, else a square."""
        first = dict(sorted(targets.items())[:TILES])
        groups: dict[object, list[int]] = {}
        for number, target in first.items():
            groups.setdefault(target, []).append(number)
        many = max(map(len, groups.values()), default=1)
        in_rows = 1 < many <= ROWS and 1 < len(groups) <= ROWS and all(len(own) == many for own in groups.values())
        square = int(max(1, len(first) - 1) ** 0.5) + (len(first) > 1)
        order = [number for own in groups.values() for number in own]
        return cls(order, many if in_rows else square, steps, kinds, None if folder is None else folder.path)

    @property
    def rows(self) -> int:
        return -(-len(self.pictures) // self.columns)

    @property
    def tile(self) -> int:
        """Pixels of the longer side of a tile, at most."""
        across = max(self.columns, self.rows)
        return (SIDE - GAP * (across - 1)) // across

    def keep(self, step: int, pictures: Sequence[int], images: Tensor | None) -> None:
        """Keep the pictures of a step that the film shows. images: (B,3,H,W) in [0,1].

        Raises RunError where they cannot be written.
        """
        if images is None or step not in kept_steps(self.steps):
            return
        shown = set(self.pictures)
        for number, image in zip(pictures, images, strict=True):
            if number in shown:
                self._write(number, step, to_png(_reduced(image, self.tile)))

    def frames(self) -> Iterator[Image.Image]:
        """The frames in order, all of one even size, at most SIDE pixels a side. A picture missing at a step stands.

        Raises UserError for a film without pictures, or a file that cannot be read.
        """
        last: dict[int, Image.Image] = {}
        for step in counted(kept_steps(self.steps), "the film"):
            for number in self.pictures:
                if (content := self._read(number, step)) is not None:
                    last[number] = self._tile(content)
            if last:
                yield self._composed(last)
        if not last:
            raise UserError("the film of this drawing has no pictures; draw it again with --gif or --mp4")

    # ---- files -----------------------------------------------------------------------------------------------------

    def _path(self, number: int, step: int) -> Path:
        assert self.folder is not None
        return self.folder / FOLDER / f"{number:04d}-{step:06d}.png"

    def _write(self, number: int, step: int, content: bytes) -> None:
        if self.folder is None:
            self.memory[number, step] = content
            return
        path = self._path(number, step)
        path.parent.mkdir(exist_ok=True)
        replace_file(path, content)

    def _read(self, number: int, step: int) -> bytes | None:
        if self.folder is None:
            return self.memory.get((number, step))
        path = self._path(number, step)
        try:
            return read_bytes(path)
        except FileNotFoundError:
            return None

    # ---- tiles -----------------------------------------------------------------------------------------------------

    def _tile(self, content: bytes) -> Image.Image:
        """A picture at the size of its tile: reduced, or enlarged by a whole factor."""
        image = _as_image(_reduced(from_png(content), self.tile))
        factor = max(1, min(self.tile, ENLARGED) // max(image.size))
        return image.resize((factor * image.width, factor * image.height), Image.Resampling.NEAREST)

    def _composed(self, tiles: dict[int, Image.Image]) -> Image.Image:
        wide, high = (max(size) for size in zip(*(tile.size for tile in tiles.values()), strict=True))
        size = (self.columns * (wide + GAP) - GAP, self.rows * (high + GAP) - GAP)
        frame = Image.new("RGB", (size[0] + size[0] % 2, size[1] + size[1] % 2), "white")  # a video needs even sizes
        for place, number in enumerate(self.pictures):
            if number in tiles:
                row, column = divmod(place, self.columns)
                frame.paste(tiles[number], (column * (wide + GAP), row * (high + GAP)))
        return frame


def _as_image(image: Tensor) -> Image.Image:
    return Image.fromarray((255 * image).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy())


def _reduced(image: Tensor, side: int) -> Tensor:
    """A picture (3,H,W) of at most ``side`` pixels a side, unchanged where it fits."""
    if max(image.shape[-2:]) <= side:
        return image
    picture = _as_image(image.detach().cpu().float().clamp(0, 1))
    picture.thumbnail((side, side), Image.Resampling.LANCZOS)
    return torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).view(
        picture.height, picture.width, 3
    ).permute(2, 0, 1).float() / 255  # fmt: skip
