"""Plug-in registry: (kind, name) -> factory, a line of help and a reference.

An entry is declared where it is defined, and nowhere else:

    @register("path", "cosine", help="a = 1 - cos(pi t / 2), s = cos(pi t / 2)", reference="nichol2021improved")
    def cosine(t): ...

``PLACES`` lists the files of each kind. Names and help are parsed from the source of these files, so that a help page
imports none of them and does not wait for torch; ``find`` imports the one that is needed. A user's own file provides
an entry of any kind by its address, ``my.py:cosine``, and a Python object can be passed directly.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

from bothways.brief import shown
from bothways.faults import MODULES, Uncompiled, told
from bothways.reading import SETTINGS_AT_MOST, at_home, check_file, is_there
from bothways.types import UserError

Made = TypeVar("Made", bound=Callable[..., Any])
PACKAGE = Path(__file__).parent
PLACES: dict[str, str] = {  # kind -> the files that may hold entries of it, below the package
    "objective": "synthesis/objectives/*.py",
    "view": "synthesis/views/*.py",
    "canvas": "synthesis/parameterizations/*.py",
    "schedule": "numerics/schedules.py",
    "solver": "numerics/solvers/*.py",
    "path": "representation/paths/*.py",
    "coupling": "representation/couplings/*.py",
    "head": "representation/heads/*.py",
    "judge": "judging/measures/*.py",
    "task": "tasks/*/config.py",
}
OWN_ALONE = ("task",)  # kinds of which only the package's own are taken


@dataclass(frozen=True)
class Entry:
    """A registry entry.

    factory: the registered object; the kind's package documents its signature. help: one line.
    reference: the key of a paper in ``runs/citations.py``, or a BibTeX entry, "" for none. module: its dotted path.
    """

    kind: str
    name: str
    help: str
    reference: str = ""
    module: str = ""
    factory: Any = None

    @property
    def paper(self) -> str:
        """The key of the reference, of a BibTeX entry too; "" for none."""
        return self.reference.partition("{")[2].partition(",")[0].strip() or self.reference


_DECLARED: dict[tuple[str, str], Entry] = {}


def register(kind: str, name: str, *, help: str, reference: str = "") -> Callable[[Made], Made]:
    """Decorator that registers an object under (kind, name). All arguments are literals: the source is parsed.

    Raises UserError for an unknown kind, and outside of the package for one of the package's names.
    """
    if kind not in PLACES:
        raise UserError(f"there is no kind {kind!r}; {nearest(kind, PLACES)}")

    def declare(made: Made) -> Made:
        place = str(sys._getframe(1).f_globals.get("__name__"))  # an object may be of a class of the package
        if not place.startswith(f"{PACKAGE.name}.") and name in entries(kind):
            raise UserError(f"{kind} {name!r} is the package's own; give yours another name")
        _DECLARED[kind, name] = Entry(kind, name, help, reference, getattr(made, "__module__", ""), made)
        return made

    return declare


@cache
def entries(kind: str) -> dict[str, Entry]:
    """{name: entry} of the package's entries of a kind, in the order of files and lines; nothing is imported."""
    found: dict[str, Entry] = {}
    for file in sorted(PACKAGE.glob(PLACES[kind])):
        module = ".".join(("bothways", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        found |= {entry.name: replace(entry, module=module) for entry in declared_in(file) if entry.kind == kind}
    return found


def names(kind: str) -> list[str]:
    """Names of the package's entries of a kind."""
    return list(entries(kind))


def declared_in(file: Path) -> Iterator[Entry]:
    """Entries declared in a file, parsed from its source."""
    text = file.read_text(encoding="utf-8")
    if "register(" not in text:
        return
    for statement in ast.parse(text).body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "register":
                words = {str(word.arg): ast.literal_eval(word.value) for word in node.keywords}
                yield Entry(*(ast.literal_eval(value) for value in node.args), **words)


def find(kind: str, given: Any) -> Entry:
    """The entry for a name, an address in a user's file (``PATH.py:NAME``), or a Python object.

    Raises UserError for an unknown name, with the nearest ones, for an address that cannot be loaded, and for an object
    that cannot be called.
    """
    if isinstance(given, Entry):
        return given
    if kind in OWN_ALONE:
        check(kind, given)
    if not isinstance(given, str):
        check(kind, given)
        return _declared_as(kind, given) or Entry(kind, _name_of(given), _first_line(given), factory=given)
    if is_address(given):
        made = load_attribute(given, kind)
        return replace(_declared_as(kind, made) or Entry(kind, given, _first_line(made), factory=made), name=given)
    check(kind, given)
    import_module(entries(kind)[given].module)
    return _DECLARED[kind, given]


def _declared_as(kind: str, made: Any) -> Entry | None:
    """The registered entry whose factory is ``made``, or None."""
    return next((e for e in _DECLARED.values() if e.kind == kind and e.factory is made), None)


def check(kind: str, given: Any) -> Any:
    """Validate a choice of a kind and return it; nothing is imported. Raises UserError for an unknown name."""
    if kind in OWN_ALONE and given not in names(kind):
        known = nearest(name_of(given).rpartition(":")[2], names(kind))
        raise UserError(f"{kind} {name_of(given)!r} is not known, and none is taken from outside; {known}")
    if callable(given) or isinstance(given, Entry):
        return given
    if not isinstance(given, str):
        raise UserError(f"{kind} {shown(given)}: type a name, PATH.py:NAME, or give a callable")
    if is_address(given):
        if not is_there(at_home(address_parts(given)[0])):
            raise UserError(f"{kind} file {address_parts(given)[0]!r} does not exist; type PATH.py:NAME")
        return given
    if given not in entries(kind):
        raise UserError(f"{kind} {given!r} is not known; {nearest(given, names(kind))}, or PATH.py:NAME for your own")
    return given


def name_of(given: Any) -> str:
    """The string that stands for a choice in a recipe: its name, its address, or the object's name."""
    return given if isinstance(given, str) else _name_of(given)


def nearest(word: str, known: Iterable[str]) -> str:
    """Advice for an error message: "type" and the nearest names, or all."""
    near = get_close_matches(word, list(known), n=3, cutoff=0.4) or list(known)
    return f"type {', '.join(near)}" if near else "there is none"


# ---- a user's own file ---------------------------------------------------------------------------------------------


def is_address(given: str) -> bool:
    """Whether a string has the form ``PATH.py:NAME``."""
    return ".py:" in given


def address_parts(address: str) -> tuple[str, str]:
    """Split ``PATH.py:NAME`` into PATH.py and NAME, which may have a suffix behind a colon."""
    place, mark, name = address.rpartition(".py:")
    return (f"{place}.py", name) if mark else (address.rpartition(":")[0], address.rpartition(":")[2])


ADVICE = "bothways studio --allow {address}"
# Of this process: at most one (addresses, advice); where there is none, any file runs.
_ALLOWED: list[tuple[frozenset[str], str]] = []


def allow_only(addresses: Iterable[str] | None, advice: str = ADVICE) -> None:
    """From here on this process runs no Python file but those of these ``PATH.py:NAME`` or PATH.py; None lifts it.

    advice: what to type for another one, with {address} and {file}.
    """
    _ALLOWED[:] = [] if addresses is None else [(frozenset(map(_absolute, addresses)), advice)]


def allowed_addresses() -> frozenset[str] | None:
    """What ``allow_only`` was given, each with its whole path; None where any file may run."""
    return _ALLOWED[0][0] if _ALLOWED else None


def is_allowed(address: str) -> bool:
    """Whether this process may run the file of ``PATH.py:NAME``, reached by whatever links."""
    names = {_absolute(address), _absolute(address_parts(address)[0])}
    return not _ALLOWED or not names.isdisjoint(_ALLOWED[0][0])


def refuse_code(address: str, named_by: str) -> None:
    """Raise UserError where ``PATH.py:NAME`` may not run. named_by: who names it, such as "model" or a file."""
    if not is_allowed(address):
        raise UserError(
            f"{named_by} names Python code that was not allowed at the start, {address}; "
            f"where it is yours, type {_ALLOWED[0][1].format(address=address, file=address_parts(address)[0])}"
        )


def addresses_in(value: Any, without: Sequence[str] = ()) -> Iterator[str]:
    """The ``PATH.py:NAME`` in nested tables and lists. without: keys whose values are words, such as class names."""
    if isinstance(value, str):
        if is_address(value):
            yield value
    elif isinstance(value, Mapping):
        yield from addresses_in([part for key, part in value.items() if key not in without], without)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from addresses_in(part, without)


def with_addresses(value: Any, change: Callable[[str], str], without: Sequence[str] = ()) -> Any:
    """Nested tables and lists with every ``PATH.py:NAME`` changed. without: as of ``addresses_in``."""
    if isinstance(value, str):
        return change(value) if is_address(value) else value
    if isinstance(value, Mapping):
        return {k: v if k in without else with_addresses(v, change, without) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [with_addresses(part, change, without) for part in value]
    return value


def absolute_address(address: str) -> str:
    """``PATH.py:NAME`` with the whole path, which means the same from every folder."""
    place, name = address_parts(address)
    return f"{at_home(place).absolute()}:{name}"


def _absolute(address: str) -> str:
    place, name = address_parts(address) if is_address(address) else (address, "")
    return f"{at_home(place).resolve()}:{name}"


def load_attribute(address: str, what: str) -> Any:
    """Import the object at ``PATH.py:NAME``. what: the noun in error messages. Raises UserError if it fails."""
    refuse_code(address, what)
    place, name = address_parts(address)
    path = at_home(place)
    if not is_there(path):
        raise UserError(f"{what} file {str(path)!r} does not exist; type PATH.py:NAME")
    check_file(path, SETTINGS_AT_MOST)
    module = _load_file(path, what)
    found = getattr(module, name, None)
    if not callable(found):
        own = [n for n, v in vars(module).items() if callable(v) and getattr(v, "__module__", "") == module.__name__]
        raise UserError(f"{what} file {str(path)!r} has no function {name!r}; {nearest(name, own)}")
    return found


_LOADED: dict[tuple[str, int], Any] = {}


def _load_file(path: Path, what: str) -> Any:
    """Run a user's file as a module, anew where it has changed since: a session may be long."""
    key = str(path.resolve()), path.stat().st_mtime_ns
    if key in _LOADED:
        return _LOADED[key]
    loader = Uncompiled(f"{MODULES}{path.stem}", str(path))
    described = importlib.util.spec_from_file_location(loader.name, path, loader=loader)
    assert described is not None
    module = importlib.util.module_from_spec(described)
    sys.modules[described.name] = module  # dataclasses and pickling of the user's classes look it up
    try:
        loader.exec_module(module)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{what} file {str(path)!r} fails when it is read: {told(error)}") from error
    _LOADED[key] = module
    return module


def _name_of(made: Any) -> str:
    return getattr(made, "__name__", type(made).__name__)


def _first_line(made: Any) -> str:
    return (getattr(made, "__doc__", None) or "").strip().split("\n")[0]
