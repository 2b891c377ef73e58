"""Every command line and every block of Python in README, docs and help is read; what needs no network is run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import bothways
from bothways.cli.arguments import repeat_flags
from bothways.cli.entry import app
from command import run
from docs_folder import write_folder, write_runs, write_weights
from quick import fewer, quick_functions

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
GROUP: Any = get_command(app)

# What a reader's line is run with besides, so that it takes a moment; a task that is not here is run as it stands.
DRAWN = "--steps 1 --n 1 --no-verdicts"
TINY = dict.fromkeys(("generate", "edit", "inpaint", "style", "invert", "accentuate"), DRAWN) | {
    "sample": "--steps 1 --n 1",
    "likelihood": "--steps 1 --limit 2 --tolerance 0.1",
    "diagnose": "--steps 2 --n 2 --depths .5 --trip-steps 1",
    "walk": "--steps 1 --limit 2",
    "features": "--steps 1 --limit 20 --test-limit 10 --workers 0",
    "pretrain": "--steps 1 --batch 8 --workers 0 --validation 16 --save-every 1 --information 0 --given-noise 0",
    "finetune": (
        "--steps 1 --train-steps 1 --batch 8 --workers 0 --validation 16 --save-every 1 --information 0 --given-noise 0"
    ),
    "train": "--steps 1 --batch 8 --workers 0 --validation 8 --save-every 1",
    "evaluate": "--limit 2",
    "curves": "--limit 2 --limit-long 1 --steps 2",
    "explain": "--n 2 --real 10 --steps 1",
    "scorecard": "--n 2 --no-draw",
    "statistics": "--limit 8 --rank 2",
    "spectrum": "--limit 4",
    "demo": "--n 1",
}
STAND_INS = {  # what a line says -> what is said in its place: these pictures are few and small
    r"--weights my\.safetensors": "--weights weights.safetensors",
    r"--resume": "",
    r"--sweep (\S+?)=([^\s,]+)\S*": r"--sweep \1=\2",  # one run
    r"(squeezenet\.py:build) --class 24 124": r"\1 --class ostrich",  # the stand-in has few classes
    r"--size \d+": "--size 16",
    r"--labels \d+": "--labels 20",
    r"--offset-steps \d+": "--offset-steps 2",
    r"(--to torch-export) --steps \d+": r"\1 --steps 1",
    r"--probes 4": "--probes 4 --divergence hutchinson",  # of a thousand pictures the exact trace is not taken
}
RESUMED = {  # a line that resumes a run of tests/docs_folder.py -> with how much
    "bothways generate --resume": "bothways generate --resume --out runs/a",  # the newest depends on the lines before
    "bothways pretrain --resume --out runs/digits --steps 20000": (
        "bothways pretrain --resume --out runs/digits --steps 2"
    ),
    "bothways sample --resume --n 200": "bothways sample --resume --out runs/drawn-two --n 2",
}
ELSEWHERE = re.compile(
    r"\b(timm|hf|clip|open_clip|diffusers|torchcfm|sit|dit|hub):|dinov2|CIFAR-10-C"  # from the network
    r"|torchrun|cuda"  # on another machine
    r"|--tune lora"  # peft imports torchvision, which may not fit the torch of the tests
    r"|\b[A-Z]{2,}(?![\w-])|[A-Z]_[A-Z]|\.\.\."  # a word for something of the reader's
)
NOT_RUN = {
    "studio": "it serves until it is stopped",
    "serve": "it serves until it is stopped",
    "demo": "tests/tasks/test_demo.py runs it",
    "reproduce": "minutes; tests/tasks/test_reproduce.py runs a tiny one and the list",
}


# ---- reading the pages ---------------------------------------------------------------------------------------------


FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def fenced(text: str, *languages: str) -> list[str]:
    """The blocks of a page in these languages, "" for one that names none."""
    return [body for language, body in FENCED.findall(text) if language in languages]


def lines_of(text: str) -> Iterator[str]:
    """The command lines of a page: of its blocks, of what is indented, and of code in a sentence."""
    rest = FENCED.sub("", text)
    indented = re.findall(r"^    (.+)$", rest, re.MULTILINE)
    for line in (*(line for block in fenced(text, "sh", "") for line in block.splitlines()), *indented):
        typed = re.match(r"\s*(?:\.venv/bin/)?((?:torchrun .* -m bothways(?:\.cli)?|bothways) .+)", line)
        if typed:
            yield without_comment(typed[1])
    for code in re.findall(r"`((?:torchrun [^`]* -m bothways(?:\.cli)?|bothways) [^`]+)`", rest):
        yield re.sub(r"[\[\]]", "", " ".join(code.split()))


def without_comment(line: str) -> str:
    """What is typed of a line, without where its output goes."""
    return re.split(r"\s+#\s|\s+>>?\s", line)[0].strip()


def lines_of_help() -> Iterator[tuple[str, str]]:
    """(command, line) of the examples that help pages show."""
    for name in GROUP.list_commands(None):
        command = GROUP.get_command(None, name)
        for line in f"{command.help}\n{command.epilog}".splitlines():
            if re.match(r"\s*(torchrun|bothways) ", line):
                yield name, without_comment(line.strip().replace(r"\[", "["))


LINES = [(page.relative_to(ROOT).as_posix(), line) for page in PAGES for line in lines_of(page.read_text("utf-8"))]
LINES += [(f"help of {name}", line) for name, line in lines_of_help()]


def words_of(line: str) -> list[str]:
    """What is typed after ``bothways``; a letter that stands for a number is one."""
    typed = re.sub(r"^torchrun .*?-m bothways(\.cli)?|^bothways", "", line).replace("...", "")
    return ["1" if re.fullmatch("[A-Z]", word) else word for word in shlex.split(typed)]


def parse(line: str) -> None:
    """Read a line as the command line does, and run nothing. Raises SystemExit or a usage error for what is unknown."""
    name, *rest = words_of(line)
    command = GROUP.get_command(None, name)
    assert command is not None, f"bothways has no command {name}"
    if rest:  # `bothways train` in a sentence only names it
        command.make_context(name, repeat_flags(command, rest))


def run_with(line: str) -> str:
    """The line with the settings of a moment, in place of a run that may be there."""
    if line in RESUMED:
        return RESUMED[line]
    for text, other in STAND_INS.items():
        line = re.sub(text, other, line)
    name = words_of(line)[0]
    command = GROUP.get_command(None, name)
    flags = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
    flags -= {f"--{swept}" for swept in re.findall(r"--sweep (\S+?)=", line)}
    more = [part for part in re.findall(r"--\S+(?: [^-]\S*)*", TINY.get(name, "")) if part.split()[0] in flags]
    named = "--out" in line or name in ("statistics", "spectrum")
    overwrite = ["--overwrite"] if "--overwrite" in flags and named else []
    return " ".join([line, *more, *overwrite])


# ---- command lines -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("page", "line"), LINES)
def test_a_line_can_be_typed(page: str, line: str) -> None:
    parse(line)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("bothways generat m --class a", "no command generat"),
        ("bothways generate m --colour red", "No such option"),
        ("bothways sample --n 1", "Missing parameter: flow"),
        ("bothways sample f --n many", "valid integer"),
        ("bothways recipes das icons", "unexpected extra argument"),
    ],
)
def test_a_line_that_cannot_be_typed_is_found(line: str, says: str) -> None:
    with pytest.raises(Exception, match=says):
        parse(line)


def test_lines_are_found_wherever_they_stand() -> None:
    text = "`bothways edit M P [--box L T R B]` and\n\n```sh\nbothways generate m --class a  # why\n```\n"
    text += "    bothways predict m a > b\n`torchrun --n 2 -m bothways.cli pretrain ...`\n"
    text += "```python\nbothways.sample(f)\n```\n"
    found = ["bothways generate m --class a", "bothways predict m a", "bothways edit M P --box L T R B"]
    assert list(lines_of(text)) == [*found, "torchrun --n 2 -m bothways.cli pretrain ..."]
    assert words_of(found[2])[-4:] == ["1"] * 4
    assert len({page for page, _ in LINES}) > 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the docs name, small."""
    place = write_folder(tmp_path_factory.mktemp("docs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        fewer(patch)
        write_weights(place)
        write_runs(place)
    return place


def can_be_run(line: str) -> bool:
    words = words_of(line)
    return len(words) > 1 and not ELSEWHERE.search(line) and words[0] not in NOT_RUN


RUN = list(dict.fromkeys(line for _, line in LINES if can_be_run(line)))


@pytest.mark.filterwarnings("default")  # as a shell has it
@pytest.mark.parametrize("line", RUN)
@pytest.mark.slow
def test_a_line_runs(
    line: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    fewer(monkeypatch)
    ends = (0, 1) if "--fail-on" in line else (0,)
    assert run(*words_of(run_with(line))) in ends, capsys.readouterr().err


# ---- Python --------------------------------------------------------------------------------------------------------


BLOCKS = {page.relative_to(ROOT).as_posix(): fenced(page.read_text("utf-8"), "python") for page in PAGES}


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("page", [page for page, blocks in BLOCKS.items() if blocks and page != "docs/architecture.md"])
@pytest.mark.slow
def test_blocks_of_python_run(page: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    fewer(monkeypatch)
    known: dict[str, Any] = {"bothways": bothways, "model": bothways.load_model("bundled:cifar10-resnet")}
    known["images"] = bothways.load_images("digits", split="test", limit=4).images / 255
    quick_functions(monkeypatch)
    whole = bothways.sweep
    tiny = {"train_steps": 1, "batch": 8, "validation": 16, "workers": 0}
    first = lambda over: {name: values[:1] for name, values in over.items()}  # noqa: E731
    monkeypatch.setattr(bothways, "sweep", lambda *given, over: whole(*given, over=first(over), **tiny))
    for number, block in enumerate(BLOCKS[page]):
        exec(compile(block, f"{page}, block {number}", "exec"), known)
