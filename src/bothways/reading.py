"""The reader of files that somebody else may have written or changed: settings, measures, cards, tables, pictures.

    its kind     a folder, a pipe, a socket or a device is refused before it is opened, through links too
    its size     bounded before anything is read
    its form     JSON or TOML without NaN, nested no deeper than DEEPEST
    its keys     those of a pydantic model, with their types

What does not hold is a UserError of one line: the file, the key, what was expected.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from bothways.budget import no_memory_left
from bothways.types import RunError, UserError

Schema = TypeVar("Schema", bound=BaseModel)

FACTS_AT_MOST = 256 * 2**20  # bytes of a file of JSON
SETTINGS_AT_MOST = 16 * 2**20  # of TOML, a card, a file of Python
LINES_AT_MOST = 2 * 2**30  # of a file of lines
PICTURE_AT_MOST = 512 * 2**20  # of an encoded picture
DEEPEST = 100  # tables and lists within each other; a run of ours has six
AT_ONCE = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # does not wait for a writer
CHUNK = 2**20  # bytes of a read beyond what a file says
SHOWN = 40  # characters of a value in a message

WITHOUT = "restore the file, or remove it to go without"
UNFIT = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, AssertionError, RuntimeError)
LACKING = ("missing", "extra_forbidden")

RESTORE = "restore the file, or make it again"
KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class Checked(BaseModel):
    """The base of what a file holds: types as they stand, finite numbers, and keys besides those named."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


# ---- bytes ---------------------------------------------------------------------------------------------------------


def at_home(path: str | Path) -> Path:
    """The path with the user's home in place of ~; that of a user who is not there stays as it is, as in a shell."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises for such a user


def reason(error: OSError) -> str:
    """The message of the operating system, starting in lower case."""
    return (error.strerror or str(error)).lower()


def as_text(name: str | Path) -> str:
    r"""The name of a file as text that can be written anywhere: bytes that are no UTF-8 as \xff."""
    text = str(name)
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a pair, which no file has in its name
        return text.encode("utf-8", "backslashreplace").decode("utf-8")


def check_file(path: Path, at_most: float = float("inf")) -> None:
    """Raise UserError for what is no ordinary file, for more than ``at_most`` bytes, and for a name that cannot be.

    Raises FileNotFoundError where nothing is there. Nothing is opened.
    """
    try:
        facts = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(error.errno, error.strerror, str(path)) from error
    except OSError as error:
        raise UserError(f"{path}: {reason(error)}") from error
    except ValueError as error:  # a NUL in the name
        raise UserError(f"{path}: a file cannot have this name") from error
    _check(path, facts, at_most)


def is_there(path: Path) -> bool:
    """Whether an ordinary file is there. Raises UserError for something else in its place."""
    try:
        check_file(path)
    except FileNotFoundError:
        return False
    return True


def is_folder(path: Path) -> bool:
    """Whether a folder is there. Raises UserError for a name that cannot be."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise UserError(f"{path}: {reason(error)}") from error
    except ValueError as error:
        raise UserError(f"{path}: a folder cannot have this name") from error


def _check(path: Path, facts: os.stat_result, at_most: float) -> None:
    if not stat.S_ISREG(facts.st_mode):
        kind = next((name for test, name in KINDS if test(facts.st_mode)), "of an unknown kind")
        raise UserError(f"{path}: is {kind}, not an ordinary file")
    if facts.st_size > at_most:
        raise UserError(f"{path}: has {facts.st_size:,} bytes, and at most {at_most:,.0f} are read")


def read_bytes(path: Path, at_most: float = PICTURE_AT_MOST) -> bytes:
    """The content of an ordinary file. Raises UserError as ``check_file`` does, FileNotFoundError where none is."""
    check_file(path, at_most)
    try:  # what is put there meanwhile is opened without waiting, and its kind looked up again
        with os.fdopen(os.open(path, AT_ONCE), "rb") as file:
            facts = os.fstat(file.fileno())
            _check(path, facts, at_most)
            content = file.read(facts.st_size + 1)  # a read takes the memory of what it may give, whatever is there
            while len(content) <= at_most and (more := file.read(CHUNK)):  # of a file that says less than it has
                content += more
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path}: {reason(error)}") from error
    if len(content) > at_most:
        raise UserError(f"{path}: has more than {at_most:,.0f} bytes, which are not read")
    return content


def read_text(path: Path, at_most: float = SETTINGS_AT_MOST) -> str:
    """The text of an ordinary file in UTF-8. Raises UserError, and FileNotFoundError where none is."""
    try:
        return read_bytes(path, at_most).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not text in UTF-8") from error


# ---- JSON and TOML -------------------------------------------------------------------------------------------------


def parsed(content: bytes, where: str, cure: str = RESTORE) -> Any:
    """The value of JSON. where: its file, for the message. Raises UserError."""
    try:
        return from_json(content.removeprefix(b"\xef\xbb\xbf"), allow_inf_nan=False)
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({error}); {cure}") from error


def checked(
    value: Any, where: str, schema: type[BaseModel] | None = None, cure: str = RESTORE, *, partly: bool = False
) -> dict[str, Any]:
    """The value, a table that is as the schema says. Raises UserError. partly: as for ``check``."""
    if not isinstance(value, dict):
        raise UserError(f"{where}: holds {_kind(value)}, not a table; {cure}")
    if schema is not None:
        check(value, schema, where, cure, partly=partly)
    return value


def table_of(
    content: bytes, where: str, schema: type[BaseModel] | None = None, cure: str = RESTORE, *, partly: bool = False
) -> dict[str, Any]:
    """The table that JSON holds, as the schema says. Raises UserError. partly: as for ``check``."""
    return checked(parsed(content, where, cure), where, schema, cure, partly=partly)


def read_table(
    path: Path, schema: type[BaseModel] | None = None, at_most: float = FACTS_AT_MOST, cure: str = RESTORE
) -> dict[str, Any]:
    """The table of a JSON file. Raises UserError, and FileNotFoundError where no file is."""
    return table_of(read_bytes(path, at_most), str(path), schema, cure)


def read_toml(path: Path, schema: type[BaseModel] | None = None) -> dict[str, Any]:
    """The tables of a TOML file. Raises UserError, and FileNotFoundError where no file is."""
    return toml_of(read_text(path), str(path), schema)


def toml_of(text: str, where: str, schema: type[BaseModel] | None = None) -> dict[str, Any]:
    """The tables of a TOML text. Raises UserError."""
    try:
        tables = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        why = "nested too deep" if isinstance(error, RecursionError) else error
        raise UserError(f"{where}: not TOML ({why})") from error
    if _depth(tables) > DEEPEST:  # a dotted key nests without a bracket
        raise UserError(f"{where}: not TOML (nested too deep)")
    if schema is not None:
        check(tables, schema, where)
    return tables


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level and depth <= DEEPEST:
        inner = [
            part.values() if isinstance(part, Mapping) else part for part in level if isinstance(part, dict | list)
        ]
        depth, level = depth + 1, [one for part in inner for one in part]
    return depth


# ---- keys and types ------------------------------------------------------------------------------------------------


def check(value: Any, schema: type[BaseModel], where: str, cure: str = RESTORE, *, partly: bool = False) -> None:
    """Raise UserError where a value is not what a schema says. where: its file, for the message.

    partly: whether keys may be missing, null or unknown, as in measures of an earlier or a later version.
    """
    try:
        schema.model_validate(value)
    except ValidationError as error:
        wrong = error.errors(include_url=False)
        if partly:
            wrong = [one for one in wrong if one["type"] not in LACKING and one["input"] is not None]
        if wrong:
            raise UserError(f"{where}: {_told(wrong[0])}; {cure}") from error


@contextmanager
def used(*files: Path, named: bool = False) -> Iterator[None]:
    """The context in which what files hold is used.

    Raises UserError that names them where it does not fit together, such as two lists of different lengths or a name
    that is not in another list, which no schema of keys and types says. named: whether they are put before a UserError
    that does not name the first.
    """
    which = ", ".join(map(str, files))
    try:
        yield
    except UserError as error:
        if named and str(files[0]) not in str(error):
            raise UserError(f"{which}: {error}") from error
        raise
    except UNFIT as error:
        if isinstance(error, RunError) or no_memory_left(error):
            raise
        why = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise UserError(f"{which}: what is in it does not fit together ({why}); {RESTORE}") from error


def _told(error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"]) or "the whole"
    if error["type"] == "missing":
        return f"{place} is missing"
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, UserError):
        return f"{place}: {cause}"
    return (
        f"{place} is {_kind(error['input'])}, and {error['msg'].replace('Input ', '')[:1].lower()}"
        + (error["msg"].replace("Input ", "")[1:])
    )


def _kind(value: Any) -> str:
    """A value for a message: its kind, or itself where it is short."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "null"
    text = f"{value!r}" if not isinstance(value, int) or abs(value) < 10**SHOWN else "a large number"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."
