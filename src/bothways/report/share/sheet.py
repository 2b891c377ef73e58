"""Contact sheets: all pictures of a run on white, a row a class, with their names and what the judges make of them.

A sheet is at most WIDTH x HEIGHT pixels; more pictures take several, and smaller tiles.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw

from bothways.report.pictures import shown_size
from bothways.report.share.lettering import fitted

WIDTH, HEIGHT = 2048, 2400  # pixels, at most
NARROWEST = 460  # pixels, so that the head can be read
SHEETS_AT_MOST = 20
MARGIN, GAP = 24, 10
SMALL_TILE = 112  # pixels of a side where the pictures would fill more than one sheet
INK, SOFT = "#1b1f23", "#5d666e"
JUDGES = 3  # under a tile, as many of the first as fit
LETTERS = "ABC"
FIXED = "\u00a0"  # a space at which no line is broken
HEAD, NOTE, LEADING = 18, 13, 6  # sizes of letters, and pixels between lines
LINES_OF_HEAD = 8  # that room is kept for


@dataclass(frozen=True)
class Tile:
    """A picture of a sheet.

    read: gives it. size: in pixels. name: of its class. otherwise: written where no font has the letters of the name.
    chances: of each judge, {"share": probability of the class or of what it names, "name": that, "" for the class}.
    """

    read: Callable[[], Image.Image]
    size: tuple[int, int]
    name: str
    otherwise: str
    group: Hashable = None
    chances: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Plan:
    """How the tiles lie. lines: rows of tiles, None for an empty place. cell: of a tile. caption: pixels below it."""

    lines: Sequence[Sequence[Tile | None]]
    cell: tuple[int, int]
    caption: int
    letters: int
    rows: int  # of a sheet

    @property
    def sheets(self) -> int:
        return min(SHEETS_AT_MOST, -(-len(self.lines) // self.rows))


def sheets(tiles: Sequence[Tile], title: str, judges: Sequence[str]) -> Iterator[Image.Image]:
    """The sheets of some pictures. title: of all; judges: the names behind the chances of the tiles."""
    plan = planned(tiles)
    for number in range(plan.sheets):
        lines = plan.lines[number * plan.rows : (number + 1) * plan.rows]
        place = f"sheet {number + 1} of {plan.sheets}" if plan.sheets > 1 else ""
        left = sum(tile is not None for line in plan.lines[plan.sheets * plan.rows :] for tile in line)
        more = f"{left:,} more pictures are in the folder images" if left and number + 1 == plan.sheets else ""
        yield _painted(plan, lines, title, [*_legend(judges, tiles), *filter(None, [place, more])])


def as_png(sheet: Image.Image) -> bytes:
    """A sheet as PNG."""
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    return buffer.getvalue()


# ---- where the tiles lie -------------------------------------------------------------------------------------------


def planned(tiles: Sequence[Tile]) -> Plan:
    """A row a class while that fits one sheet; else several classes in a row, then smaller tiles, then more sheets."""
    whole = _plan(tiles, None)
    return whole if len(whole.lines) <= whole.rows else _plan(tiles, SMALL_TILE)


def _plan(tiles: Sequence[Tile], side: int | None) -> Plan:
    sizes = [shown(tile.size, side) for tile in tiles]
    cell = max(wide for wide, _ in sizes), max(high for _, high in sizes)
    letters = 13 if cell[0] >= 160 else 11
    caption = 6 + (letters + 5) * (1 + any(tile.chances for tile in tiles))
    columns = max(1, (WIDTH - 2 * MARGIN + GAP) // (cell[0] + GAP))
    rows = max(1, (HEIGHT - 2 * MARGIN - LINES_OF_HEAD * (HEAD + LEADING)) // (cell[1] + caption + GAP))
    groups = [[tiles[place] for place in places] for places in grouped(tiles)]
    return Plan(in_lines(groups, columns, rows), cell, caption, letters, rows)


def grouped(tiles: Sequence[Tile]) -> list[list[int]]:
    """The places of the tiles of each class, in the order in which the classes come."""
    groups: dict[Hashable, list[int]] = {}
    for place, tile in enumerate(tiles):
        groups.setdefault((tile.group, tile.name), []).append(place)
    return list(groups.values())


def in_lines(groups: Sequence[Sequence[Tile]], columns: int, rows: int) -> list[list[Tile | None]]:
    """The rows of the sheet: one a class or more, several classes in one where they would not fit otherwise."""
    many = max(map(len, groups))
    if many == 1 or len(groups) == 1:
        every = [tile for group in groups for tile in group]
        wide = -(-len(every) // -(-len(every) // columns))  # rows of equal length
        return [list(every[k : k + wide]) for k in range(0, len(every), wide)]
    wide = min(many, columns)
    blocks = [list(group[k : k + wide]) for group in groups for k in range(0, len(group), wide)]
    beside = 1 if len(blocks) <= rows else max(1, columns // wide)
    padded = [[*block, *[None] * (wide - len(block))] for block in blocks]
    return [[tile for block in padded[k : k + beside] for tile in block] for k in range(0, len(padded), beside)]


def shown(size: tuple[int, int], side: int | None) -> tuple[int, int]:
    """The size of a picture on the sheet: as in the report, or with the longer side of ``side`` pixels at most."""
    wide, high = shown_size(*size)
    scale = 1.0 if side is None else min(1.0, side / max(wide, high))
    return max(1, round(scale * wide)), max(1, round(scale * high))


# ---- painting ------------------------------------------------------------------------------------------------------


def _legend(judges: Sequence[str], tiles: Sequence[Tile]) -> list[str]:
    """What stands under the tiles, by whom."""
    if not judges:
        return []
    predicted = any(chance.get("name") for tile in tiles for chance in tile.chances)
    what = "the predicted class and its probability" if predicted else "the probability of the class"
    names = judges[:1] if len(judges) == 1 else [f"{k}{FIXED}{name}" for k, name in zip(LETTERS, judges, strict=False)]
    return [f"Below each picture: {what}, by {', '.join(names)}"]


def _wrapped(text: str, size: int, width: float) -> list[str]:
    """The text in lines of at most ``width`` pixels, broken at spaces but for FIXED ones."""
    lines = [""]
    for word in filter(None, text.split(" ")):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and not _fits(longer, size, width):
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _painted(plan: Plan, lines: Sequence[Sequence[Tile | None]], title: str, notes: Sequence[str]) -> Image.Image:
    (wide, high), below = plan.cell, plan.caption
    across = max(map(len, lines)) * (wide + GAP) - GAP
    width = max(NARROWEST, across + 2 * MARGIN)
    words = [(line, HEAD, INK) for line in _wrapped(title, HEAD, width - 2 * MARGIN)]
    words += [(line, NOTE, SOFT) for note in notes for line in _wrapped(note, NOTE, width - 2 * MARGIN)]
    top = MARGIN + sum(size + LEADING for _, size, _ in words) + GAP
    sheet = Image.new("RGB", (width, top + len(lines) * (high + below + GAP) - GAP + MARGIN), "white")
    pen, y = ImageDraw.Draw(sheet), MARGIN
    for line, size, colour in words:
        text, font = fitted(line, size, width - 2 * MARGIN)
        pen.text((MARGIN, y), text, colour, font)
        y += size + LEADING
    for row, own in enumerate(lines):
        for column, tile in enumerate(own):
            if tile is not None:
                x, y = MARGIN + column * (wide + GAP), top + row * (high + below + GAP)
                _paint(sheet, pen, tile, (x, y), plan)
    return sheet


def _paint(sheet: Image.Image, pen: ImageDraw.ImageDraw, tile: Tile, at: tuple[int, int], plan: Plan) -> None:
    (wide, high), (x, y) = plan.cell, at
    own = shown(tile.size, max(plan.cell))
    picture = tile.read()
    whole = own[0] % picture.width == 0 and own[1] % picture.height == 0
    how = Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS
    sheet.paste(picture.resize(own, how), (x, y + high - own[1]))
    y += high + 5
    text, font = fitted(tile.name, plan.letters, wide, tile.otherwise)
    pen.text((x, y), text, INK, font)
    if words := _chances(tile.chances, plan.letters, wide):
        text, font = fitted(words, plan.letters, wide)
        pen.text((x, y + plan.letters + 5), text, SOFT, font)


def _chances(chances: Sequence[Mapping[str, Any]], size: int, wide: float) -> str:
    """ "A 93 %, B 71 %", of as many judges as fit; of one judge without a letter."""
    told = [_chance(chance) for chance in chances[:JUDGES]]
    if len(chances) > 1:
        told = [f"{letter} {words}" for letter, words in zip(LETTERS, told, strict=False)]
    while len(told) > 1 and not _fits(", ".join(told), size, wide):
        told.pop()
    return ", ".join(told)


def _fits(text: str, size: int, wide: float) -> bool:
    _, font = fitted(text, size, float("inf"))
    return font.getlength(text) <= wide


def _chance(chance: Mapping[str, Any]) -> str:
    share = chance.get("share")
    percent = "" if share is None else f"{100 * share:.0f} %"
    return " ".join(filter(None, [str(chance.get("name") or ""), percent])) or "-"
