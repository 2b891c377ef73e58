"""The rules of the house: who imports whom, how long a page is, which words no page says.

Each rule takes {path below src/bothways: source text} and returns what breaks it, one line each. The second half shows
on small bad pages that every rule can fail, and on good ones that it does not fail without cause.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath

import pytest

ROOT = Path(__file__).resolve().parents[1]
Pages = Mapping[str, str]

LONGEST_FILE = 300  # lines
LONGEST_FUNCTION = 60  # lines, from def to the last, docstring included

# Room -> the rooms it may import besides itself, from the bottom of the house to its doors.
MAY_IMPORT: dict[str, set[str]] = {
    "types": set(),
    "version": set(),
    "numerics": {"types"},
    "data": {"types", "numerics"},
    "models": {"types", "numerics"},
    "synthesis": {"types", "numerics"},
    "representation": {"types", "numerics"},
    "loops": {"types", "numerics"},  # handed fields, losses and models
    "runs": {"types"},
}
MAY_IMPORT["recipe"] = set(MAY_IMPORT)  # the one room that knows every room below it
MAY_IMPORT |= {
    "report": {"runs", "types", "version"},
    "studio": {"recipe", "runs", "report", "types", "version"},
    "cli": {"recipe", "runs", "report", "studio", "types", "version"},
    "__main__": {"cli"},
}
MAY_IMPORT["__init__"] = set(MAY_IMPORT)  # the public shelf
SHELF = "__init__.py"

ROOMS_WITHOUT_A_SUBJECT = re.compile(r"_*(utils?|misc|helpers?|commons?)")
CLASSES_OF_EVERYTHING = re.compile(r"(Abstract|Base)?(Method|Trainer|Pipeline)(Base)?")
CARRIERS_OF_CODE = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
GLOBAL_SEEDS = re.compile(r"((torch|np|numpy)\.((random|cuda|mps)\.)?|random\.)(manual_)?seed(_all)?")

# The expressions are written so that they do not find themselves.
WORKPLACE = re.compile(
    r"(?<![\w.~-])/(?:work|tmp|root|home|Users)/"
    r"|pypi\.org|pythonhosted\.org|download\.pytorch\.org|npmjs\.(?:org|com)|anaconda\.org"
    r"|--(?:extra-)?index-url|\bPIP_(?:EXTRA_)?INDEX_URL|\bUV_(?:DEFAULT_)?INDEX|artifactor(?:y)|\.pkg\.dev",
    re.IGNORECASE,
)


# ---- reading a page -----------------------------------------------------------------------------------------------


def room_of(path: str) -> str:
    return path.split("/")[0].removesuffix(".py")


def module_name(path: str) -> str:
    return ".".join(("bothways", *PurePosixPath(path).with_suffix("").parts)).removesuffix(".__init__")


def dotted(node: ast.expr) -> str:
    """`torch.cuda.seed` for the expression of that name; "" for anything that is not a plain chain of names."""
    name = ast.unparse(node)
    return name if re.fullmatch(r"\w+(\.\w+)*", name) else ""


def run_at_import(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those inside functions."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield child
            yield from run_at_import(child)


def absolute(path: str, level: int, module: str) -> str:
    """`from ..a import b` seen from a page, as bothways.x.a; level counts the dots, 0 leaves the name as it is."""
    if level == 0:
        return module
    parts = ("bothways", *PurePosixPath(path).parent.parts)
    return ".".join((*parts[: len(parts) - level + 1], *filter(None, [module])))


def imported(path: str, nodes: Iterable[ast.AST]) -> Iterator[tuple[int, str]]:
    """(line, full name) of everything imported, by statement or by `import_module("...")`."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = absolute(path, node.level, node.module or "")
            yield from ((node.lineno, f"{origin}.{alias.name}".removesuffix(".*")) for alias in node.names)
        elif isinstance(node, ast.Call) and dotted(node.func).split(".")[-1] in ("import_module", "__import__"):
            name = getattr(node.args[0], "value", None) if node.args else None
            if isinstance(name, str):
                yield node.lineno, absolute(path, len(name) - len(name.lstrip(".")), name.lstrip("."))


# ---- the rules ----------------------------------------------------------------------------------------------------


def imports_that_point_up(pages: Pages) -> list[str]:
    found = []
    for path, text in pages.items():
        room = room_of(path)
        if room not in MAY_IMPORT:
            found.append(f"{path}: the house has no room {room}; give it a row in MAY_IMPORT and in the architecture")
            continue
        for line, name in imported(path, ast.walk(ast.parse(text))):
            top, *below = name.split(".")
            target = below[0] if below and below[0] in MAY_IMPORT else "the public shelf"
            if top == "bothways" and target != room and target not in MAY_IMPORT[room]:
                found.append(f"{path}:{line}: {room} imports {target} ({name})")
    return found


def import_circles(pages: Pages) -> list[str]:
    modules = {module_name(path) for path in pages}
    graph: dict[str, set[str]] = {}
    for path, text in pages.items():
        targets = set()
        for _, name in imported(path, run_at_import(ast.parse(text))):
            while name and name not in modules:  # a name in a module -> the module
                name = name.rpartition(".")[0]
            targets.add(name)
        # Python itself imports the shelf before any room; a room that asks for its names already points up.
        graph[module_name(path)] = targets - {"", "bothways", module_name(path)}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        return [" <- ".join(circle.args[1])]
    return []


def long_pages(pages: Pages) -> list[str]:
    found = []
    for path, text in pages.items():
        if (length := len(text.splitlines())) > LONGEST_FILE:
            found.append(f"{path}: {length} lines, at most {LONGEST_FILE}")
        functions = (n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef))
        for node in functions:
            if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > LONGEST_FUNCTION:
                found.append(f"{path}:{node.lineno}: {node.name} has {length} lines, at most {LONGEST_FUNCTION}")
    return found


def fault_of_call(room: str, call: ast.Call) -> str:
    name = dotted(call.func)
    said_true = {k.arg for k in call.keywords if isinstance(k.value, ast.Constant) and k.value.value is True}
    if name == "print" and room != "cli":
        return "prints; only cli may"
    if name == "locals":
        return "uses locals() as data; name the values"
    if name == "torch.load" and "weights_only" not in said_true:
        return "torch.load without weights_only=True runs code from the file"
    if "allow_pickle" in said_true:
        return "allow_pickle=True runs code from the file"
    if GLOBAL_SEEDS.fullmatch(name):
        return f"{name} seeds the whole process; pass a generator, or stay inside torch.random.fork_rng()"
    return ""


def forbidden_constructs(pages: Pages) -> list[str]:
    found = []
    for path, text in pages.items():
        if any(ROOMS_WITHOUT_A_SUBJECT.fullmatch(part.removesuffix(".py")) for part in path.split("/")):
            found.append(f"{path}: a room is named after its subject")
        nodes = list(ast.walk(ast.parse(text)))
        # Initial weights can only be drawn from torch's own state; inside fork_rng the caller's is put back after.
        forks = [n for n in nodes if isinstance(n, ast.With) and "fork_rng(" in ast.unparse(n.items[0])]
        forked = {id(call) for fork in forks for call in ast.walk(fork)}
        for node in nodes:
            fault = fault_of_call(room_of(path), node) if isinstance(node, ast.Call) else ""
            fault = "" if id(node) in forked and re.match(r"torch\S+ seeds", fault) else fault
            if isinstance(node, ast.ClassDef) and CLASSES_OF_EVERYTHING.fullmatch(node.name):
                fault = f"class {node.name}; a method is a function or a frozen dataclass"
            if fault:
                found.append(f"{path}:{getattr(node, 'lineno', 0)}: {fault}")
        for line, name in imported(path, nodes):
            if name.split(".")[0] in CARRIERS_OF_CODE or name == "torch.load" or GLOBAL_SEEDS.fullmatch(name):
                found.append(f"{path}:{line}: imports {name}")
    return found


def definitions_on_the_shelf(pages: Pages) -> list[str]:
    """The public shelf holds imports, `__all__`, `__version__`, and for lazy names `__getattr__` with its table."""

    def belongs(node: ast.stmt) -> bool:
        if isinstance(node, ast.If):
            return dotted(node.test).endswith("TYPE_CHECKING") and all(map(belongs, node.body + node.orelse))
        if isinstance(node, ast.FunctionDef):
            return node.name in ("__getattr__", "__dir__")
        if isinstance(node, ast.Assign | ast.AnnAssign):
            return ast.unparse(node).startswith("_")
        return isinstance(node, ast.Import | ast.ImportFrom)

    body = ast.parse(pages.get(SHELF, "")).body
    if body and isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    return [f"{SHELF}:{node.lineno}: {ast.unparse(node).splitlines()[0]}" for node in body if not belongs(node)]


def words_of_a_workplace(texts: Pages) -> list[str]:
    """Paths of one machine and hosts of one registry: a clone elsewhere has neither."""
    return [
        f"{path}:{number}: {hit.group()}"
        for path, text in texts.items()
        for number, line in enumerate(text.splitlines(), start=1)
        if (hit := WORKPLACE.search(line))
    ]


# ---- the house as it stands ---------------------------------------------------------------------------------------

RULES = [imports_that_point_up, import_circles, long_pages, forbidden_constructs, definitions_on_the_shelf]


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    package = ROOT / "src" / "bothways"
    return {p.relative_to(package).as_posix(): p.read_text("utf-8") for p in sorted(package.rglob("*.py"))}


@pytest.mark.parametrize("rule", RULES)
def test_the_house_keeps(rule, pages) -> None:
    assert "types.py" in pages
    assert rule(pages) == []


def test_no_file_speaks_of_a_workplace() -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout: the list of tracked files is not here")
    files = [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]
    texts = {str(f.relative_to(ROOT)): f.read_bytes().decode("utf-8", "replace") for f in files}
    texts = {path: text for path, text in texts.items() if "\0" not in text}  # a picture or weights have no words
    assert "pyproject.toml" in texts
    assert words_of_a_workplace(texts) == []


# ---- each rule can fail, and does not fail without cause -----------------------------------------------------------

BAD = [
    (imports_that_point_up, {"synthesis/a.py": "def f():\n    import bothways.representation.encode"}),
    (imports_that_point_up, {"loops/__init__.py": "from ..data import sources"}),
    (imports_that_point_up, {"report/a.py": "import importlib\nimportlib.import_module('bothways.recipe')"}),
    (imports_that_point_up, {"cli/draw.py": "from bothways.models import catalogue"}),
    (imports_that_point_up, {"runs/a.py": "from bothways import __version__"}),
    (imports_that_point_up, {"attic/a.py": "import math"}),
    (import_circles, {"data/a.py": "if X:\n    from . import b", "data/b.py": "from bothways.data.a import x"}),
    (import_circles, {"data/__init__.py": "from .a import x", "data/a.py": "from bothways.data import y"}),
    (long_pages, {"data/a.py": "\n" * 301}),
    (long_pages, {"data/a.py": "class A:\n    async def f(self):\n" + "        x = 1\n" * 60}),
    (forbidden_constructs, {"loops/fit.py": "print('step')"}),
    (forbidden_constructs, {"report/cli.py": "print('a room, not a name')"}),
    (forbidden_constructs, {"loops/fit.py": "torch.manual_seed(0)"}),
    (forbidden_constructs, {"loops/fit.py": "frame = locals()"}),
    (forbidden_constructs, {"runs/a.py": "torch.load(p, weights_only=False)"}),
    (forbidden_constructs, {"runs/a.py": "def f():\n    from pickle import load"}),
    (forbidden_constructs, {"data/a.py": "np.load(p, allow_pickle=True)"}),
    (forbidden_constructs, {"loops/a.py": "with torch.random.fork_rng():\n    np.random.seed(0)"}),
    (forbidden_constructs, {"data/_utils.py": ""}),
    (forbidden_constructs, {"loops/a.py": "class Trainer: ..."}),
    (definitions_on_the_shelf, {SHELF: "'''Shelf.'''\ndef draw(): ..."}),
    (definitions_on_the_shelf, {SHELF: "SIZE = 3"}),
    (words_of_a_workplace, {"a.toml": "out = '/" + "tmp/run'"}),
    (words_of_a_workplace, {"a.txt": "https://pypi" + ".org/simple"}),
]
GOOD = [
    (imports_that_point_up, {"recipe/a.py": "from ..synthesis.dsf import dsf\nimport bothways.synthesis.ascent"}),
    (imports_that_point_up, {"cli/draw.py": "from bothways import recipe\nfrom bothways.runs import read"}),
    (imports_that_point_up, {"data/a.py": "from .images import x\nfrom ..types import Frame\nimport typing"}),
    (import_circles, {"data/a.py": "from .b import x", "data/b.py": "def f():\n    from .a import y"}),
    (long_pages, {"data/a.py": "def f():\n" + "    x = 1\n" * 59 + "\n" * 240}),
    (forbidden_constructs, {"cli/show.py": "print('done')"}),
    (forbidden_constructs, {"runs/a.py": "torch.load(p, weights_only=True)"}),
    (forbidden_constructs, {"numerics/a.py": "torch.Generator().manual_seed(3)\ngenerator.manual_seed(3)"}),
    (forbidden_constructs, {"recipe/a.py": "with torch.random.fork_rng():\n    torch.random.manual_seed(3)"}),
    (definitions_on_the_shelf, {SHELF: "'''Shelf.'''\nfrom .types import Frame\n__all__ = ['Frame']\n"}),
    (definitions_on_the_shelf, {SHELF: "_ROOM = {'dsf': 'synthesis'}\ndef __getattr__(name): ..."}),
    (words_of_a_workplace, {"a.md": "https://example.org/work/page and ../shared/tmp/x"}),
]


@pytest.mark.parametrize(("rule", "bad"), BAD)
def test_a_bad_page_is_found(rule, bad) -> None:
    assert rule(bad) != []


@pytest.mark.parametrize(("rule", "good"), GOOD)
def test_a_good_page_is_left_alone(rule, good) -> None:
    assert rule(good) == []
