"""The rules of the house: who imports whom, how long a page is, what stands in one place, which words no page says.

Each rule takes {path below src/bothways: source text} and returns what breaks it, one line each. The second half shows
on small bad pages that every rule can fail, and on good ones that it does not fail without cause.
"""

from __future__ import annotations

import ast
import re
import subprocess
import typing
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path, PurePosixPath

import pytest
from typer.main import get_command

import bothways
from bothways import registry
from bothways.cli.entry import app
from bothways.tasks.measures import Measures
from bothways.tasks.work import Work

ROOT = Path(__file__).resolve().parents[1]
Pages = Mapping[str, str]

LONGEST_FILE = 300  # lines
LONGEST_FUNCTION = 60  # lines, from def to the last, docstring included
FULLEST_FOLDER = 12  # files of Python, __init__ aside; a folder of entries of the registry may grow

# From the ground of the house to its doors: a room may import those before it, but for those that it does not know.
ROOMS = ["brief", "types", "version", "processes", "faults", "budget", "opening", "reading", "registry", "progress"]
ROOMS += ["configs", "numerics", "synthesis"]
ROOMS += ["representation", "data", "models", "runs", "training", "judging", "report", "tasks", "studio", "serve"]
ROOMS += ["cli"]
ROOMS += ["__main__"]
KNOWS_NOT: dict[str, set[str]] = {
    "representation": {"synthesis"},
    "data": {"synthesis", "representation"},
    "models": {"synthesis"},
    "runs": {"numerics", "synthesis", "representation", "data", "models"},
    "report": {
        "numerics",
        "synthesis",
        "representation",
        "data",
        "models",
        "training",
        "judging",
    },  # it sees runs alone
}
MAY_IMPORT = {room: set(ROOMS[:place]) - KNOWS_NOT.get(room, set()) for place, room in enumerate(ROOMS)}
MAY_IMPORT["__init__"] = set(MAY_IMPORT)  # the public shelf

# The tasks that a task may import. What two of them share stands in ``tasks/`` or below it; here is what is left.
ALLOWED: dict[str, set[str]] = {
    "curves": {"evaluate"},  # an evaluation whose conditions have their own models
    "demo": {"diagnose", "generate"},  # a page of several tasks
    "explain": {"generate"},  # portraits are drawn
    "features": {"latents"},  # which latents are a flow's own
    "finetune": {"latents"},  # the same
    "generate": {"spectrum", "statistics"},  # files that these write are read
    "latents": {"features"},  # files of rows, and the splits of data
    "photos": {"generate"},  # a drawing with a recipe of its own
    "plan": {"finetune", "pretrain"},  # their settings
    "sample": {"generate"},  # the section of pictures
    "scorecard": {"generate", "statistics"},
    "train": {"statistics"},  # kept beside the weights
}
BY_HAND = {"layers", "models", "recipes", "registry", "report", "cite", "serve", "studio"}  # commands that are no task
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


def imports_of_other_tasks(pages: Pages) -> list[str]:
    """A task imports another along ``ALLOWED`` alone; that list is no longer than what is used."""
    tasks = {path.split("/")[1] for path in pages if re.fullmatch(r"tasks/\w+/\w+\.py", path)}
    found, used = [], set()
    for path, text in pages.items():
        own = path.split("/")[1] if path.startswith("tasks/") else ""
        for line, name in imported(path, ast.walk(ast.parse(text))) if own in tasks else ():
            other = name.removeprefix("bothways.tasks.").split(".")[0] if name.startswith("bothways.tasks.") else own
            used.add((own, other))
            if other in tasks and other != own and other not in ALLOWED.get(own, set()):
                found.append(f"{path}:{line}: task {own} imports task {other} ({name})")
    idle = [(own, other) for own, others in ALLOWED.items() for other in others if own in tasks]
    return found + [f"ALLOWED: task {own} does not import {other}" for own, other in idle if (own, other) not in used]


def tasks_without_parts(pages: Pages) -> list[str]:
    folders = {"/".join(path.split("/")[:2]) for path in pages if re.fullmatch(r"tasks/\w+/\w+\.py", path)}
    return [f"{folder}: {part} is missing" for folder in sorted(folders) for part in ("config.py", "run.py")
            if f"{folder}/{part}" not in pages]  # fmt: skip


def configs_that_wait_for_torch(pages: Pages) -> list[str]:
    """A config.py imports no room that needs torch, so that a help page does not wait for it."""
    light = re.compile(r"bothways\.(brief|types|version|registry|configs|tasks\.recipes|[\w.]*config)\b")
    return [
        f"{path}:{line}: imports {name}"
        for path, text in pages.items()
        for line, name in (imported(path, ast.walk(ast.parse(text))) if path.endswith("/config.py") else ())
        if name.split(".")[0] in ("torch", "bothways") and not light.match(name)
    ]


def literals_of_the_registry(pages: Pages) -> list[str]:
    """A Literal whose values are all names of one kind repeats what the registry holds; ``chosen(kind)`` does not."""
    kinds = {kind: set(registry.names(kind)) for kind in registry.PLACES}
    found = []
    for path, text in pages.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Subscript) and dotted(node.value).split(".")[-1] == "Literal":
                values = {value.value for value in ast.walk(node.slice) if isinstance(value, ast.Constant)}
                same = [kind for kind, names in kinds.items() if len(values) > 1 and values <= names]
                found += [f"{path}:{node.lineno}: {ast.unparse(node)} repeats names of kind {kind}" for kind in same]
    return found


def facts_in_two_places(pages: Pages) -> list[str]:
    """What one place alone may do: define FitConfig, write how a run stands, bring a run folder about."""
    found = []
    for path, text in pages.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef) and node.name == "FitConfig" and path != "training/config.py":
                found.append(f"{path}:{node.lineno}: FitConfig is defined in training/config.py")
            name = dotted(node.func).split(".")[-1] if isinstance(node, ast.Call) else ""
            if name == "write_status" and path not in ("runs/experiment.py", "runs/folder.py"):
                found.append(f"{path}:{node.lineno}: only runs/experiment.py writes how a run stands")
    return found


def full_folders(pages: Pages) -> list[str]:
    held = {place.rpartition("/")[0] for place in registry.PLACES.values()}
    files = [PurePosixPath(path) for path in pages if not path.endswith("__init__.py")]
    count = Counter(str(file.parent) for file in files)
    full = {folder: n for folder, n in count.items() if n > FULLEST_FOLDER and folder not in held}
    return [f"{folder}: {n} files, at most {FULLEST_FOLDER}" for folder, n in full.items()]


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


def pages_that_are_not_there(pages: Pages) -> list[str]:
    """Pages of a room that another names, as "room/page.py", and that were moved or removed."""
    named = re.compile(rf"(?<![\w./])(?:{'|'.join(ROOMS)})/[\w/]+\.py")
    return [
        f"{path}:{number}: {name} is not there"
        for path, text in pages.items()
        for number, line in enumerate(text.splitlines(), start=1)
        for name in named.findall(line)
        if name not in pages
    ]


def words_of_a_workplace(texts: Pages) -> list[str]:
    """Paths of one machine and hosts of one registry: a clone elsewhere has neither."""
    return [
        f"{path}:{number}: {hit.group()}"
        for path, text in texts.items()
        for number, line in enumerate(text.splitlines(), start=1)
        if (hit := WORKPLACE.search(line))
    ]


# ---- the house as it stands ---------------------------------------------------------------------------------------

RULES = [imports_that_point_up, imports_of_other_tasks, import_circles, long_pages, full_folders, forbidden_constructs]
RULES += [definitions_on_the_shelf, tasks_without_parts, configs_that_wait_for_torch, literals_of_the_registry]
RULES += [facts_in_two_places, pages_that_are_not_there]


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    package = ROOT / "src" / "bothways"
    return {p.relative_to(package).as_posix(): p.read_text("utf-8") for p in sorted(package.rglob("*.py"))}


@pytest.mark.parametrize("rule", RULES)
def test_the_house_keeps(rule, pages) -> None:
    assert "types.py" in pages
    assert rule(pages) == []


def commands_by_hand(commands: Iterable[str]) -> list[str]:
    """Commands that are written by hand and stand in no list, and those of the list that are not there."""
    return sorted(BY_HAND ^ set(commands))


def tasks_that_are_missing(tasks: Iterable[str], places: Mapping[str, Iterable[str]]) -> list[str]:
    """places: {a list of tasks: the names in it}."""
    held = {place: set(names) for place, names in places.items()}
    return [f"{task}: not in {place}" for task in tasks for place, names in held.items() if task not in names]


def test_what_is_no_task_is_all_that_is_typed_by_hand() -> None:
    assert commands_by_hand(command.name or command.callback.__name__ for command in app.registered_commands) == []
    assert commands_by_hand([*BY_HAND, "draw"]) == ["draw"]
    assert commands_by_hand(BY_HAND - {"cite"}) == ["cite"]


def test_a_task_is_everywhere(pages) -> None:
    """A command, a function of its name, a section of the report, and a place in the docs."""
    docs = "".join(page.read_text("utf-8") for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")))
    entries = registry.entries("task")
    sections = [
        task
        for task, entry in entries.items()
        if f"tasks/{entry.module.split('.')[2]}/section.py" in pages or not registry.find("task", task).factory.reports
    ]
    places = {
        "the commands": get_command(app).list_commands(None),
        "the public shelf": bothways.__all__,
        "the docstring of the package": bothways.__doc__.replace(",", " ").split(),
        "the report": sections,
        "the docs": re.findall(r"bothways (\w+)", docs),
        "the help": [task for task, entry in entries.items() if entry.help],
    }
    assert tasks_that_are_missing(registry.names("task"), places) == []
    without = {**places, "the docs": set(places["the docs"]) - {"walk"}}
    assert tasks_that_are_missing(registry.names("task"), without) == ["walk: not in the docs"]


WRITES_NO_RUN = {"demo", "export", "plan", "predict", "spectrum", "statistics"}  # demo: a run a part


def work_of(task: str) -> type[Work]:
    """The class of a task's runs."""
    module = import_module(registry.entries("task")[task].module.removesuffix(".config") + ".run")
    returned = typing.get_type_hints(module.prepare)["return"]
    assert issubclass(returned, Work)
    return returned


@pytest.mark.parametrize("task", registry.names("task"))
def test_measures_have_a_schema(task: str) -> None:
    """A run's measures.json is validated before it is written (see tests/tasks/test_work.py)."""
    schema = work_of(task).schema
    assert (schema is None) == (task in WRITES_NO_RUN)
    assert schema is None or issubclass(schema, Measures)


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
    (imports_that_point_up, {"training/__init__.py": "from ..judging import judges"}),
    (imports_that_point_up, {"report/a.py": "import importlib\nimportlib.import_module('bothways.tasks')"}),
    (imports_that_point_up, {"tasks/a/run.py": "from bothways.cli import show"}),
    (imports_that_point_up, {"runs/a.py": "from bothways import __version__"}),
    (imports_that_point_up, {"attic/a.py": "import math"}),
    (imports_that_point_up, {"synthesis/a.py": "from bothways.representation import encode"}),
    (imports_that_point_up, {"representation/a.py": "from bothways.synthesis import ascent"}),
    (imports_that_point_up, {"representation/a.py": "from bothways.models.loader import load_flow"}),
    (imports_that_point_up, {"data/a.py": "from bothways.representation import encode"}),
    (imports_that_point_up, {"runs/a.py": "from bothways.tasks.generate.config import checked"}),
    (imports_that_point_up, {"report/a.py": "from bothways.models import loader"}),
    (imports_that_point_up, {"registry.py": "from bothways.configs import Config"}),
    (imports_of_other_tasks, {"tasks/a/run.py": "from bothways.tasks.b.run import x", "tasks/b/run.py": ""}),
    (imports_of_other_tasks, {"tasks/a/run.py": "from ..b import run", "tasks/b/run.py": ""}),
    (imports_of_other_tasks, {"tasks/train/run.py": "", "tasks/statistics/run.py": ""}),
    (full_folders, {f"data/{n}.py": "" for n in range(13)}),
    (tasks_without_parts, {"tasks/a/run.py": ""}),
    (tasks_without_parts, {"tasks/a/config.py": "", "tasks/a/section.py": ""}),
    (configs_that_wait_for_torch, {"tasks/a/config.py": "import torch"}),
    (configs_that_wait_for_torch, {"tasks/a/config.py": "from bothways.numerics.solvers import euler"}),
    (literals_of_the_registry, {"data/a.py": "x: Literal['euler', 'heun']"}),
    (literals_of_the_registry, {"data/a.py": "def f(x: typing.Literal['ot', 'independent', 'sinkhorn'] | None): ..."}),
    (facts_in_two_places, {"tasks/a/config.py": "class FitConfig(Config): ..."}),
    (facts_in_two_places, {"tasks/a/run.py": "folder.write_status('complete')"}),
    (facts_in_two_places, {"runs/files.py": "def f():\n    write_status('complete')"}),
    (import_circles, {"data/a.py": "if X:\n    from . import b", "data/b.py": "from bothways.data.a import x"}),
    (import_circles, {"data/__init__.py": "from .a import x", "data/a.py": "from bothways.data import y"}),
    (long_pages, {"data/a.py": "\n" * 301}),
    (long_pages, {"data/a.py": "class A:\n    async def f(self):\n" + "        x = 1\n" * 60}),
    (forbidden_constructs, {"training/fit.py": "print('step')"}),
    (forbidden_constructs, {"report/cli.py": "print('a room, not a name')"}),
    (forbidden_constructs, {"training/fit.py": "torch.manual_seed(0)"}),
    (forbidden_constructs, {"training/fit.py": "frame = locals()"}),
    (forbidden_constructs, {"runs/a.py": "torch.load(p, weights_only=False)"}),
    (forbidden_constructs, {"runs/a.py": "def f():\n    from pickle import load"}),
    (forbidden_constructs, {"data/a.py": "np.load(p, allow_pickle=True)"}),
    (forbidden_constructs, {"training/a.py": "with torch.random.fork_rng():\n    np.random.seed(0)"}),
    (forbidden_constructs, {"data/_utils.py": ""}),
    (forbidden_constructs, {"training/a.py": "class Trainer: ..."}),
    (definitions_on_the_shelf, {SHELF: "'''Shelf.'''\ndef draw(): ..."}),
    (definitions_on_the_shelf, {SHELF: "SIZE = 3"}),
    (words_of_a_workplace, {"a.toml": "out = '/" + "tmp/run'"}),
    (words_of_a_workplace, {"a.txt": "https://pypi" + ".org/simple"}),
    (pages_that_are_not_there, {"data/a.py": "# see data/b.py"}),
]
GOOD = [
    (imports_that_point_up, {"tasks/a.py": "from ..synthesis.dsf import dsf\nimport bothways.synthesis.ascent"}),
    (imports_that_point_up, {"cli/draw.py": "from bothways import tasks\nfrom bothways.runs import read"}),
    (imports_that_point_up, {"data/a.py": "from .images import x\nfrom ..types import Frame\nimport typing"}),
    (import_circles, {"data/a.py": "from .b import x", "data/b.py": "def f():\n    from .a import y"}),
    (long_pages, {"data/a.py": "def f():\n" + "    x = 1\n" * 59 + "\n" * 240}),
    (forbidden_constructs, {"cli/show.py": "print('done')"}),
    (forbidden_constructs, {"runs/a.py": "torch.load(p, weights_only=True)"}),
    (forbidden_constructs, {"numerics/a.py": "torch.Generator().manual_seed(3)\ngenerator.manual_seed(3)"}),
    (forbidden_constructs, {"tasks/a.py": "with torch.random.fork_rng():\n    torch.random.manual_seed(3)"}),
    (definitions_on_the_shelf, {SHELF: "'''Shelf.'''\nfrom .types import Frame\n__all__ = ['Frame']\n"}),
    (definitions_on_the_shelf, {SHELF: "_ROOM = {'dsf': 'synthesis'}\ndef __getattr__(name): ..."}),
    (imports_that_point_up, {"models/a.py": "from bothways.representation.readings import walks"}),
    (
        imports_of_other_tasks,
        {"tasks/train/run.py": "from bothways.tasks.statistics.run import x", "tasks/statistics/run.py": ""},
    ),
    (imports_of_other_tasks, {"tasks/a/run.py": "from bothways.tasks.work import Work\nfrom .config import AConfig"}),
    (full_folders, {f"synthesis/objectives/{n}.py": "" for n in range(20)}),
    (full_folders, {f"data/{n}.py": "" for n in range(12)} | {"data/__init__.py": ""}),
    (tasks_without_parts, {"tasks/a/run.py": "", "tasks/a/config.py": "", "tasks/work.py": ""}),
    (configs_that_wait_for_torch, {"tasks/a/config.py": "from bothways.configs import Config\nimport pydantic"}),
    (configs_that_wait_for_torch, {"tasks/a/config.py": "from bothways.training.config import FitConfig"}),
    (literals_of_the_registry, {"data/a.py": "x: Literal['euler', 'none']\ny: Literal['noise']"}),
    (facts_in_two_places, {"training/config.py": "class FitConfig(Config): ..."}),
    (facts_in_two_places, {"runs/experiment.py": "folder.write_status('complete')"}),
    (words_of_a_workplace, {"a.md": "https://example.org/work/page and ../shared/tmp/x"}),
    (pages_that_are_not_there, {"data/a.py": "# see data/b.py, and hub/models/c.py of others", "data/b.py": ""}),
]


@pytest.mark.parametrize(("rule", "bad"), BAD)
def test_a_bad_page_is_found(rule, bad) -> None:
    assert rule(bad) != []


@pytest.mark.parametrize(("rule", "good"), GOOD)
def test_a_good_page_is_left_alone(rule, good) -> None:
    assert rule(good) == []
