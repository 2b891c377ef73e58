"""Labels of pictures in a table of the user's: a class, several of them, or numbers for each file.

    file,label        file,label           file,round,red,large      file,age,height
    a.png,cat         a.png,round;red      a.png,1,1,0               a.png,34,1.80

A file goes by its path from the folder of the split, with or without the suffix, or by its name where that is unique.
"""

from __future__ import annotations

import csv
import io
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath, PurePosixPath

import torch
from torch import Tensor

from bothways.data.readers.entries import in_order
from bothways.data.readers.tables import FILES, TABLE_AT_MOST, named_pictures
from bothways.data.sources import ImageSet
from bothways.reading import at_home, read_text
from bothways.types import UserError

CLASS, SEVERAL, NUMBERS = "class", "multi-label", "regression"
SEPARATOR = ";"
COARSE = 0.05  # of the range of numbers: what single precision may lose
MARKS = ("0", "1")  # of a label in a column of its own
LARGEST = torch.finfo(torch.float32).max  # numbers are kept in single precision


@dataclass(frozen=True)
class LabelTable:
    """names: of the classes, or of the columns of numbers. values: (R,) int64 of classes, else (R,K) float32.

    rows: {file as it is named: (its place in values, its row of the file)}.
    """

    file: Path
    names: tuple[str, ...]
    values: Tensor
    rows: dict[str, tuple[int, int]]


def read_labels(file: str | Path, target: str = CLASS) -> LabelTable:
    """The labels of a CSV with a header. target: class, multi-label or regression.

    Raises UserError with the row and the column of what cannot be read; the header is row 1.
    """
    path = at_home(file)
    header, lines = _lines(path)
    known = [name for name in FILES if name in [cell.lower() for cell in header]]
    if not known:
        raise UserError(f"{path}: row 1 has no column 'file'; it has {', '.join(header)}")
    if twice := [name for name in header if header.count(name) > 1]:
        raise UserError(f"{path}: row 1 has column {twice[0]!r} twice; leave one of them out")
    place = [cell.lower() for cell in header].index(known[0])
    others = [column for column in range(len(header)) if column != place]
    if not others:
        raise UserError(f"{path}: row 1 has no column beside {header[place]!r}; add one, such as label")
    rows: dict[str, tuple[int, int]] = {}
    for number, row in lines:
        if len(row) != len(header):
            raise UserError(f"{path}: row {number} has {len(row)} columns, and row 1 has {len(header)}")
        if not row[place]:
            raise UserError(f"{path}: row {number}, column {header[place]!r}: no file is named")
        if row[place] in rows:
            raise UserError(f"{path}: row {number}: file {row[place]!r} is in row {rows[row[place]][1]} too")
        rows[row[place]] = (len(rows), number)
    cells = [(number, [row[column] for column in others]) for number, row in lines]
    names, values = _values(path, [header[column] for column in others], cells, target)
    return LabelTable(path, names, values, rows)


def _lines(
    path: Path, what: str = "labels", columns: str = "file,label"
) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The header, and (its number, its cells) of every other row that is not empty. what, columns: for messages."""
    try:
        text = read_text(path, TABLE_AT_MOST).removeprefix("\ufeff")
    except FileNotFoundError as error:
        cure = f"type the path of a CSV with a header, such as {columns}"
        raise UserError(f"{what} {str(path)!r} do not exist; {cure}") from error
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        rows = [
            (reader.line_num, [cell.strip() for cell in row]) for row in reader if any(cell.strip() for cell in row)
        ]
    except csv.Error as error:
        raise UserError(f"{path}: row {reader.line_num} is no CSV ({error})") from error
    if len(rows) < 2:
        each = columns.split(",")[0]
        raise UserError(
            f"{path}: has no row of {what}; type a CSV with a header, such as {columns}, and a row a {each}"
        )
    return rows[0][1], rows[1:]


def _values(
    path: Path, columns: list[str], cells: Sequence[tuple[int, list[str]]], target: str
) -> tuple[tuple[str, ...], Tensor]:
    if target == NUMBERS:
        exact = torch.tensor([_numbers(path, columns, *row) for row in cells], dtype=torch.float64)
        lost, spread = (exact.float() - exact).abs().amax(0), exact.amax(0) - exact.amin(0)
        if coarse := ((lost > COARSE * spread) & (spread > 0)).nonzero().flatten().tolist():
            largest = float(exact[:, coarse[0]].abs().max())
            raise UserError(
                f"{path}: column {columns[coarse[0]]!r}: single precision at {largest:.3g} keeps less than its numbers "
                "differ by; subtract an offset from them"
            )
        return tuple(columns), exact.float()
    if target == SEVERAL and (len(columns) > 1 or all(row[0] in MARKS for _, row in cells)):
        return tuple(columns), torch.tensor([_marks(path, columns, *row) for row in cells])
    if len(columns) > 1:
        raise UserError(
            f"{path}: row 1 has {len(columns)} columns of labels; type --target multi-label, or --target regression"
        )
    if target == SEVERAL:
        sets = [{name.strip() for name in row[0].split(SEPARATOR)} - {""} for _, row in cells]
        names = in_order(name for own in sets for name in own)
        if not names:
            raise UserError(f"{path}: column {columns[0]!r} names no label")
        return names, torch.tensor([[float(name in own) for name in names] for own in sets])
    for number, row in cells:
        if not row[0] or SEPARATOR in row[0]:
            what = f"{row[0]!r} is several labels; type --target multi-label" if row[0] else "no label is named"
            raise UserError(f"{path}: row {number}, column {columns[0]!r}: {what}")
    names = in_order(row[0] for _, row in cells)
    place = {name: number for number, name in enumerate(names)}
    return names, torch.tensor([place[row[0]] for _, row in cells])


def _numbers(path: Path, columns: Sequence[str], number: int, row: Sequence[str]) -> list[float]:
    found = []
    for column, cell in zip(columns, row, strict=True):
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if not abs(value) <= LARGEST:
            raise UserError(f"{path}: row {number}, column {column!r}: {cell!r} is no finite number")
        found.append(value)
    return found


def _marks(path: Path, columns: Sequence[str], number: int, row: Sequence[str]) -> list[float]:
    for column, cell in zip(columns, row, strict=True):
        if cell not in MARKS:
            raise UserError(f"{path}: row {number}, column {column!r}: {cell!r} is neither 0 nor 1")
    return [float(cell) for cell in row]


def labelled(data: ImageSet, table: LabelTable, which: str = "", among: Sequence[str] = ()) -> ImageSet:
    """The pictures that the table names, with its labels, (N,) or (N,K). Warns of how many it does not name.

    which: of the pictures these are, for messages, such as "held out". among: the names of all pictures of which these
    are some, among which a name has to be unique.

    Raises UserError where it names none of them, or one twice, and where the pictures have no names.
    """
    if not data.names:
        raise UserError(f"{table.file}: the pictures have no file names; give a folder or a parquet file as the data")
    of_these = f"{len(data)} pictures {which}".rstrip()
    pictures = [PurePosixPath(name) for name in data.names]
    place: dict[PurePath, int] = {picture: number for number, picture in enumerate(pictures)}
    known = named_pictures([PurePosixPath(name) for name in among or data.names])
    rows: dict[int, tuple[int, int]] = {}
    for typed, row in table.rows.items():
        file = PurePosixPath(typed).as_posix()  # "./a.png" is a.png
        if file not in known or (at := place.get(known[file])) is None:
            continue
        if at in rows:
            told = f"{typed!r} is picture {data.names[at]!r}, which row {rows[at][1]} names too; leave one of them out"
            raise UserError(f"{table.file}: row {row[1]}: {told}")
        rows[at] = row
    found = {at: value for at, (value, _) in rows.items()}
    if not found:
        first, (_, number) = next(iter(table.rows.items()))
        raise UserError(
            f"{table.file}: none of its files is among the {of_these}; row {number} has {first!r}, and the "
            f"first picture is {data.names[0]!r}"
        )
    if left := len(data) - len(found):
        warnings.warn(f"{table.file}: {left} of {of_these} are not in it and are left out", stacklevel=2)
    chosen = sorted(found)
    own = data.subset(torch.tensor(chosen))
    return replace(own, labels=table.values[torch.tensor([found[one] for one in chosen])], classes=table.names)


def numbers_of_classes(data: ImageSet, address: str) -> ImageSet:
    """Pictures in folders that are called by numbers, with these as labels, (N,1). Raises UserError for other names."""
    try:
        values = [float(name) for name in data.classes]
    except ValueError:
        values = []
    if not values or not all(map(math.isfinite, values)) or int(data.labels.min()) < 0:
        raise UserError(
            f"data {address!r} has no numbers as labels; type --labels-csv FILE with columns such as file,age"
        )
    return replace(data, labels=torch.tensor(values)[data.labels][:, None], classes=("number",))


def class_weights(given: str, names: Sequence[str] | int, labels: Tensor) -> Tensor:
    """The weight of each class, (K,), of mean 1 over the labels (N,).

    given: balanced, w_k = N / (K n_k), or a CSV with columns class,weight. Raises UserError with row and column.
    """
    known = [str(name) for name in (range(names) if isinstance(names, int) else names)]
    counts = labels.bincount(minlength=len(known)).float()
    if given == "balanced":
        return len(labels) / (counts.clamp_min(1) * int((counts > 0).sum()))
    path = at_home(given)
    header, lines = _lines(path, "class weights", "class,weight")
    if [cell.lower() for cell in header] != ["class", "weight"]:
        raise UserError(f"{path}: row 1 is {','.join(header)!r}; type class,weight")
    found: dict[str, float] = {}
    for number, row in lines:
        if len(row) != 2 or row[0] not in known:
            raise UserError(f"{path}: row {number}, column 'class': {row[0]!r} is none of {', '.join(known[:6])}")
        if row[0] in found:
            raise UserError(f"{path}: row {number}, column 'class': {row[0]!r} is in an earlier row too")
        (value,) = _numbers(path, ["weight"], number, row[1:])
        if value < 0:
            raise UserError(f"{path}: row {number}, column 'weight': {row[1]} is negative")
        found[row[0]] = value
    if missing := [name for name in known if name not in found]:
        raise UserError(f"{path}: class {missing[0]!r} has no row")
    weights = torch.tensor([found[name] for name in known])
    mean = float((weights * counts).sum() / counts.sum())
    if mean <= 0:
        raise UserError(f"{path}: every class of the training pictures has weight 0")
    return weights / mean
