"""How a run begins: where it goes, by which processes, and what it was given when it is resumed.

    given.json     what the caller set when the run began, without recipe and defaults; names of Python objects apart,
                   and digests of the Python files that the settings name

With ``resume`` the run's own settings are taken, and what is repeated must be the same; what the task can prolong, such
as the steps of a training, may be greater.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from bothways import registry
from bothways.brief import stand_in
from bothways.configs import Config, merged, nested
from bothways.faults import users_code
from bothways.processes.group import join_processes
from bothways.processes.launched import world_size
from bothways.progress import Ledger, listening, stage
from bothways.reading import at_home, used
from bothways.runs.files import dotted, plain, read_json, write_json
from bothways.runs.folder import RunFolder
from bothways.runs.inventory import check_place
from bothways.runs.numbered import RUNS, behind_latest, link_latest, newest_folder, next_folder
from bothways.runs.recipe import differences, require_equal
from bothways.runs.schema import Given
from bothways.tasks.recipes import configure
from bothways.tasks.work import Where, Work
from bothways.types import UserError

Begun = TypeVar("Begun")

GIVEN = "given.json"
MISSING = ("does not exist", "is not known")  # how the line ends of what is at no address
WORDS = ("prompts", "classes")  # settings that are words for a model, whatever stands in them


class Resumed(NamedTuple):
    """config: of the run that goes on. given: the tables of what was set, by now.

    prolongs: the settings that may differ from those recorded, where one of them grew.
    """

    config: Config
    given: dict[str, Any]
    prolongs: tuple[str, ...] = ()


def begin(task: str, given: Mapping[str, Any], where: Where, *, default: bool) -> tuple[Config, Work]:
    """The Config and the work of a task from what a caller sets by name; with ``resume``, from what its run was given.

    default: whether a run without ``out`` gets the task's default folder, which is runs/TASK-NNN of the next number; a
    resume takes up the greatest.
    """
    kind: type[Config] = registry.find("task", task).factory
    given = {name: behind_latest(stand_in(value)) for name, value in given.items()}
    if where.overwrite and where.resume:
        raise UserError("--overwrite and --resume contradict each other; type one of them")
    numbered = default and where.out is None and not kind.folder
    if numbered and where.overwrite:
        raise UserError("--overwrite replaces the run of a folder; type --out FOLDER, or leave it out for a new one")
    if default and kind.folder:
        where = replace(where, out=where.out or kind.folder)
    if numbered and where.resume:
        if (newest := newest_folder(RUNS, task)) is None:
            raise UserError(f"no run of bothways {task} is in {RUNS}; type --out FOLDER, or leave --resume out")
        where = replace(where, out=newest)
    if numbered and not where.resume and world_size() > 1:
        raise UserError(f"several processes write one folder; type bothways {task} --out FOLDER")
    if kind.processes and where.out is not None:
        where = replace(where, processes=join_processes())
    with where.processes.told():
        return _begun(kind, task, given, where, numbered=numbered and not where.resume)


def _begun(
    kind: type[Config], task: str, given: Mapping[str, Any], where: Where, *, numbered: bool
) -> tuple[Config, Work]:
    if where.resume and where.out is not None and not kind.folder:
        where.processes.on_first(partial(check_place, Path(where.out), resume=True))
        config, saved, prolongs = resumed(kind, task, given, Path(where.out))
        with _named_from_elsewhere(Path(where.out), saved):
            return config, prepare(config, replace(where, prolongs=prolongs), saved)
    config, tables = configure(kind, **given), nested(kind, given)
    if not numbered:
        return config, prepare(config, where, tables)
    return in_next_folder(task, where, lambda where: (config, prepare(config, where, tables)))


@contextmanager
def _named_from_elsewhere(folder: Path, given: Mapping[str, Any]) -> Iterator[None]:
    """The context in which what a run was given by a relative path, and is not here, is said to lie where it began."""
    try:
        yield
    except UserError as error:
        fault = str(error).split(";")[0]
        values = [text for value in dotted(given).values() for text in (value if isinstance(value, list) else [value])]
        relative = [text for text in values if isinstance(text, str) and not at_home(text).is_absolute()]
        if not (fault.endswith(MISSING) and any(repr(text) in fault for text in relative)):
            raise
        raise UserError(
            f"{fault} here; the run in {folder} named it from the folder in which it was begun: type the same there"
        ) from error


def in_next_folder(name: str, where: Where, begun: Callable[[Where], Begun]) -> Begun:
    """What begins in runs/NAME-NNN of the next number; no folder is left where it does not begin."""
    folder = next_folder(RUNS, name)
    try:
        return begun(replace(where, out=folder))
    except BaseException:
        with suppress(OSError):  # not empty: the run had begun
            folder.rmdir()
        raise


def prepare(config: Config, where: Where, given: Mapping[str, Any] | None = None) -> Work:
    """The work of a Config, by its task's own ``prepare``. A place that cannot be used is refused before that.

    given: the tables of what the caller set, which the run folder keeps for a resume.
    """
    place = None if where.out is None else Path(where.out)
    folder = None if config.file or config.folder else place
    if folder is not None:  # looked at by the first process alone, since it tries the lock
        where.processes.on_first(partial(check_place, folder, overwrite=where.overwrite, resume=where.resume))
    module = import_module(f"{type(config).__module__.rpartition('.')[0]}.run")
    ledger = Ledger()
    with listening(ledger), stage("preparing"), users_code():
        work: Work = module.prepare(config, where)
    work.experiment.prepared(ledger.seconds)
    work.choices = tuple(config.choices())
    work.place = place
    if folder is not None and not work.experiment.silent:
        remember(folder, config, given or {})
        link_latest(folder)
    return work


def remember(folder: Path, config: Config, given: Mapping[str, Any]) -> None:
    """Write what the caller set, as tables, for a resume; of a Python object, such as a module, its setting's name."""
    given = {name: value for name, value in given.items() if name not in config.once}
    found = {"settings": plain(_as_text(_of(given, plain=True))), "objects": plain(_names(_of(given, plain=False)))}
    if code := _code_of(config):
        found["code"] = code
    if read_json(folder / GIVEN) != found:
        write_json(folder / GIVEN, found)


def address_of(folder: RunFolder) -> str | None:
    """A run folder as an address; None for a run that was given Python objects, which no file brings back."""
    return None if read_json(folder.path / GIVEN, Given).get("objects") else str(folder.path)


def resumed(config: type[Config], task: str, given: Mapping[str, Any], folder: Path) -> Resumed:
    """The Config of a run that is resumed.

    given: what the caller sets now, by name. Raises UserError where there is no run, where it is one of another task,
    where a Python object is missing, and where a recorded setting differs that cannot be prolonged.
    """
    made_by = RunFolder.open(folder).settings["task"]
    if made_by != task:
        raise UserError(f"{folder}: a run of bothways {made_by}, not of {task}; type bothways {made_by} --resume")
    changes, saved = nested(config, given), read_json(folder / GIVEN, Given)
    if not saved:  # of an earlier version: everything is typed again, and compared when the run is opened
        return Resumed(configure(config, **given), changes)
    objects = _of(changes, plain=False)
    if missing := [name for name in saved["objects"] if name not in _names(objects)]:
        raise UserError(f"{folder}: {missing[0]} was a Python object when this run began; give it again to resume")
    before: dict[str, Any] = saved["settings"]
    for address in registry.addresses_in(before, without=WORDS):
        registry.refuse_code(address, str(folder / GIVEN))
    with used(folder / GIVEN, named=True):
        own, together = configure(config, **merged(before, objects)), config.given_again(before, changes)
    now = configure(config, **together)
    changed = differences(own.model_dump(), now.model_dump())
    recorded = RunFolder.open(folder).settings.get("settings", {})
    prolonged = [name for name, values in changed.items() if name in config.prolongs and not _is_less(*values)]
    values = {name: value for name, value in dotted(now.model_dump()).items() if name in changed.keys() - prolonged}
    # What the recipe does not hold may differ, such as the number of workers; a task may add to a list, or sort it, so
    # that these are compared when the run is opened.
    known = {n: value for n, value in dotted(recorded).items() if n in values and not isinstance(value, list)}
    require_equal(folder, {"settings": known}, {"settings": {name: values[name] for name in known}})
    _tell_of_code(saved.get("code", {}), now, folder)
    return Resumed(now, together, config.prolongs if prolonged else ())


def _code_of(config: Config) -> dict[str, str]:
    """{Python file that the settings name: the digest of what it holds}."""
    addresses = registry.addresses_in(config.model_dump(), without=WORDS)
    files = {file: at_home(file) for file in sorted({registry.address_parts(one)[0] for one in addresses})}
    return {file: hashlib.sha256(path.read_bytes()).hexdigest() for file, path in files.items() if path.is_file()}


def _tell_of_code(code: Mapping[str, str], now: Config, folder: Path) -> None:
    """Warn of Python files that are not what they were when the run began."""
    for file, digest in _code_of(now).items():
        if code.get(file, digest) != digest:
            warnings.warn(
                f"{file} has changed since the run in {folder} began: what is left of it follows the new one; type "
                "--overwrite to begin it again",
                stacklevel=2,
            )


def _is_less(than: str, text: str) -> bool:
    """Whether the second of two whole numbers is less."""
    return text.isdecimal() and than.isdecimal() and int(text) < int(than)


def _of(given: Mapping[str, Any], *, plain: bool) -> dict[str, Any]:
    """The tables of those values that can be written down, or of the others: Python objects, such as a module."""
    found = {}
    for name, value in given.items():
        if isinstance(value, Mapping):
            if inner := _of(value, plain=plain):
                found[name] = inner
        elif _is_plain(value) == plain:
            found[name] = value
    return found


def _names(tables: Mapping[str, Any]) -> list[str]:
    return sorted(dotted(tables))


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple | range):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | bool | Path)


def _as_text(value: Any) -> Any:
    """Paths as text and ranges as lists, whose values JSON can hold."""
    if isinstance(value, Mapping):
        return {name: _as_text(item) for name, item in value.items()}
    if isinstance(value, list | tuple | range):
        return [_as_text(item) for item in value]
    return str(value) if isinstance(value, Path) else value
