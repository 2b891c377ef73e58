"""A command built from a Config: its flags, their help, what reaches the Config, and what a shell completes."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import pytest

from bothways import UserError, registry
from bothways.cli import run as running
from bothways.cli.commands import ParsedCommand, command_of
from bothways.cli.entry import app
from bothways.configs import Config, Live, chosen, setting
from bothways.tasks.recipes import configure, read_recipe
from bothways.tasks.work import Grid
from command import refused, run


class InnerConfig(Config):
    """How it is held."""

    kind: chosen("canvas") = setting("stack", "how it is held")  # type: ignore[valid-type]
    squash: Literal["tanh", "clamp"] = setting("tanh", "what keeps it")
    rate: float | None = setting(None, "plain rate", gt=0)
    steps: int = setting(5, "steps of the part", ge=1)
    smooth: bool = setting(False, "make it smooth")


class OuterConfig(Config):
    """What is done, in [brackets].

    A second paragraph.

    Examples
    bothways toy runs/x --names a b
    bothways toy runs/x --box 1 2 3 4
    """

    listed_kinds: ClassVar[dict[str, str]] = {"canvas": "Canvases (--held NAME)"}

    run: Live = setting(..., "A run.", argument=True, metavar="RUN")
    extra: Live = setting(None, "another", argument=True, unless=("names",))
    data: Live = setting(..., "pictures")
    n: int = setting(4, "pictures", ge=1, flags=("--n", "-n"), common=True)
    names: list[str] = setting([], "names, one or several", common=True)
    depths: tuple[float, ...] = setting((0.1, 0.5), "of the walk")
    box: tuple[int, int, int, int] | None = setting(None, "in pixels", metavar="LEFT TOP RIGHT BOTTOM")
    verdicts: bool = setting(True, "judge them")
    quick: bool = setting(False, "less of it")
    solver: chosen("solver") = setting("midpoint", "of the walk")  # type: ignore[valid-type]
    device: str = setting("cpu", "cpu, cuda, mps")
    module: Live = setting(None, "a live module", live=True)
    steps: int = setting(50, "steps of the whole", ge=1, common=True)
    options: dict[str, Any] = setting({}, "by --set alone")
    held: InnerConfig = InnerConfig()


class ToyWork:
    """What a work is, to the command line."""

    steps, done, doing = 2, 0, "toying"

    def __init__(self, config: OuterConfig, given: ParsedCommand) -> None:
        self.config, self.given = config, given

    def run(self) -> Iterator[Any]:
        yield from ()

    def finish(self) -> dict[str, Any]:
        return {"n": self.config.n}

    def opening(self) -> str:
        return ""

    def plan(self) -> str:
        return "2 steps would be made"

    def page(self, out: Path | None) -> None:
        return None

    def summary(self, result: dict[str, Any], out: Path | None) -> Iterator[str | Grid]:
        yield f"{result['n']} toys"
        yield Grid(("name", "value"), [("[a]", "1")], title="a table")

    def as_json(self, result: dict[str, Any]) -> dict[str, Any]:
        return result

    def check(self, result: Any, page: Path | None) -> None: ...


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[OuterConfig]:
    """The Configs with which the task ``toy`` was begun; inside, bothways has that task."""
    configs: list[OuterConfig] = []
    own = registry.Entry("task", "toy", "Toys with it.", module=__name__, factory=OuterConfig)
    entries, find = registry.entries, registry.find

    def begin(task: str, given: Any, where: Any, *, default: bool) -> tuple[OuterConfig, ToyWork]:
        configs.append(configure(own.factory, **given))
        work = ToyWork(configs[-1], where)
        work.place = where.out or (Path("runs/toy-001") if default else None)
        return configs[-1], work

    monkeypatch.setattr(registry, "entries", lambda kind: entries(kind) | ({"toy": own} if kind == "task" else {}))
    monkeypatch.setattr(registry, "find", lambda kind, given: own if given == "toy" else find(kind, given))
    monkeypatch.setattr(running, "begin", begin)
    return configs


def toy(*arguments: object) -> int:
    return run("toy", "runs/x", "--data", "d", *arguments)


def test_what_is_typed_reaches_the_config(made: list[OuterConfig], tmp_path: Path) -> None:
    more = ["--names", "a", "b", "-n", 2, "--depths", 0, ".5", "--box", 1, 2, 3, 4, "--no-verdicts", "--quick"]
    parts = [
        "--held",
        "pixels",
        "--rate",
        ".5",
        "--smooth",
        "--steps",
        7,
        "--held-steps",
        9,
        "--set",
        "held.squash=clamp",
    ]
    assert toy(*more, *parts, "--set", "options.width=8", "--out", tmp_path / "x") == 0
    (config,) = made
    held = InnerConfig(kind="pixels", squash="clamp", rate=0.5, steps=9, smooth=True)
    assert config.held == held
    told = {"n": 2, "names": ["a", "b"], "depths": (0.0, 0.5), "box": (1, 2, 3, 4), "verdicts": False, "quick": True}
    told |= {"run": "runs/x", "data": "d", "steps": 7, "options": {"width": 8}, "extra": None, "module": None}
    assert {key: getattr(config, key) for key in told} == told


def test_what_is_not_typed_is_the_configs_own(made: list[OuterConfig]) -> None:
    assert toy() == 0
    assert made == [OuterConfig(run="runs/x", data="d")]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--n", "0"], "n=0"),
        (["--solver", "eulr"], "type euler"),
        (["--held", "pixls"], "type pixels"),
        (["--set", "held.squash=round"], "'tanh' or 'clamp'"),
        (["--set", "held.sqash=clamp"], "type one of held.squash"),
        (["--set", "n"], "NAME=VALUE"),
    ],
)
def test_what_cannot_be_is_one_line(
    made: list[OuterConfig], capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    assert says in refused(capsys, "toy", "runs/x", "--data", "d", *arguments)
    assert made == []


def test_usage_that_is_not_known(made: list[OuterConfig], capsys: pytest.CaptureFixture[str]) -> None:
    for wrong in (["--module", "x"], ["--options", "x"], ["--box", "1", "2"], ["--n", "many"], ["--colour", "red"]):
        assert toy(*wrong) == 2
        assert wrong[0] in capsys.readouterr().err
    assert run("toy", "runs/x") == 2
    assert "--data" in capsys.readouterr().err


def test_a_run_tells_what_it_made(made: list[OuterConfig], capsys: pytest.CaptureFixture[str]) -> None:
    assert toy() == 0
    said = capsys.readouterr().out
    assert "4 toys" in said
    assert "a table" in said
    assert "[a]" in said
    assert toy("--json") == 0
    assert json.loads(capsys.readouterr().out) == {"n": 4}


def test_a_dry_run_prints_the_settings(made: list[OuterConfig], capsys: pytest.CaptureFixture[str]) -> None:
    assert toy("--dry-run", "--n", 3) == 0
    said = capsys.readouterr().out
    assert json.loads(said[: said.rindex("}") + 1])["n"] == 3
    assert said.strip().endswith("2 steps would be made; nothing is written")


def test_several_processes_are_refused(
    made: list[OuterConfig], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "without torchrun" in refused(capsys, "toy", "runs/x", "--data", "d")
    monkeypatch.setenv("RANK", "1")  # the first has told it
    monkeypatch.setattr("bothways.cli.run.SECONDS_TO_PRINT", 0)
    assert run("toy", "runs/x", "--data", "d") == 2
    assert capsys.readouterr().err == ""
    monkeypatch.delenv("RANK")
    assert run("registry", "solver") == 0
    assert "rk4" in capsys.readouterr().out


# ---- help ----------------------------------------------------------------------------------------------------------


def panels(said: str) -> dict[str, str]:
    """{heading: what stands below it} of a help page."""
    parts = re.split(r"^╭─ (.+?) ─+╮$", said, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_help_has_what_is_common_first(made: list[OuterConfig], capsys: pytest.CaptureFixture[str]) -> None:
    assert run("toy", "-h") == 0
    said = capsys.readouterr().out
    assert "What is done, in [brackets]." in said
    found = panels(said)
    assert list(found) == ["Arguments", "Options", "Other settings", "Held", "Run"]
    flags = {panel: re.findall(r"(?<= )--(?!no-)[\w-]+", text) for panel, text in found.items()}
    assert flags["Options"][:4] == ["--data", "--n", "--names", "--steps"]
    other = ["--depths", "--box", "--verdicts", "--quick", "--solver", "--device"]
    assert flags["Other settings"] == other
    held = found["Held"].partition("Canvases")[0]
    assert re.findall(r"(?<= )--[\w-]+", held) == ["--held", "--squash", "--rate", "--held-steps", "--smooth"]
    assert "Pictures. [default: 4]" in said
    assert "LEFT TOP RIGHT BOTTOM" in said
    assert "--no-verdicts" in said
    assert "--no-quick" not in said
    assert "cpu, cuda, mps. [default: cpu]" in said
    assert "What keeps it: tanh, clamp. [default: tanh]" in said
    assert "Of the walk. [default: 0.1 0.5]" in said
    assert "euler, heun, midpoint" in said  # a kind that no table lists
    assert "module" not in said


def test_help_lists_entries_and_examples_line_by_line(
    made: list[OuterConfig], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = registry.entries
    more = {"own": replace(entries("canvas")["stack"], name="own", help="declared elsewhere")}
    monkeypatch.setattr(registry, "entries", lambda kind: entries(kind) | (more if kind == "canvas" else {}))
    assert run("toy", "-h") == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "Canvases (--held NAME)" in lines
    for name, entry in registry.entries("canvas").items():
        assert f"{name:14} {entry.help}" in lines
    assert "bothways toy runs/x --names a b" in lines
    assert "bothways toy runs/x --box 1 2 3 4" in lines


@pytest.mark.parametrize("columns", [80, 100])
def test_what_is_common_fits_a_screen(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert run("generate", "-h") == 0
    common = panels(capsys.readouterr().out)["Options"].split("╰")[0]
    assert len(common.strip().splitlines()) <= 24
    assert "--unconditional" in common


@pytest.mark.parametrize("task", registry.names("task"))
def test_every_task_has_help_with_an_example(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(task, "-h") == 0
    said = capsys.readouterr().out
    assert f"bothways {task} " in said.partition("Examples")[2]
    assert panels(said)["Options"]


@pytest.mark.parametrize("task", registry.names("task"))
def test_no_two_settings_have_one_flag(task: str) -> None:
    flags = [flag for option in command_of(task).params for flag in (*option.opts, *option.secondary_opts)]
    assert len(set(flags)) == len(flags)


@pytest.mark.parametrize("task", ["generate", "edit", "inpaint", "accentuate"])
def test_what_a_recipe_turns_on_can_be_turned_off(task: str) -> None:
    option = next(option for option in command_of(task).params if option.name == "ascent__normalize")
    assert option.secondary_opts == ["--no-normalize"]


def test_help_names_no_recipe_as_the_default_where_it_depends_on_the_target(capsys: pytest.CaptureFixture[str]) -> None:
    for task, default in (
        ("generate", "by model"),
        ("edit", "edit, from 96 px on edit-photographs"),
        ("inpaint", "inpaint"),
        ("finetune", "prg-small"),
    ):
        assert run(task, "--help") == 0
        words = " ".join(capsys.readouterr().out.replace("│", " ").split())
        assert f"[default: {default}]" in words


def test_a_flag_overrides_a_recipe() -> None:
    config: Any = registry.find("task", "generate").factory
    assert read_recipe("icons")["ascent"]["normalize"] is True
    changed = configure(config, model="M", classes="0", recipe="icons", **{"ascent.normalize": False})
    assert changed.ascent.normalize is False


# ---- completion ----------------------------------------------------------------------------------------------------


def completed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str) -> list[str]:
    """What a shell is offered after ``bothways TYPED``."""
    monkeypatch.setenv("_BOTHWAYS_COMPLETE", "complete_fish")
    monkeypatch.setenv("_TYPER_COMPLETE_ARGS", f"bothways {typed}")
    monkeypatch.setenv("_TYPER_COMPLETE_FISH_ACTION", "get-args")
    with pytest.raises(SystemExit):
        app(args=[], prog_name="bothways")
    return [line.split("\t")[0] for line in capsys.readouterr().out.split("\n") if line]


def test_a_shell_completes_names_of_the_registry(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert completed(monkeypatch, capsys, "sample runs/x --solver r") == ["reversible-heun", "rk4"]
    assert completed(monkeypatch, capsys, "generate --canvas p") == ["photographs", "pixels"]
    assert {"das", "das-paper"} <= set(completed(monkeypatch, capsys, "generate --recipe d"))
    assert completed(monkeypatch, capsys, "generate --squash c") == ["clamp"]
    assert "sample" in completed(monkeypatch, capsys, "sam")


def test_an_unknown_task_has_no_command() -> None:
    with pytest.raises(UserError, match="type sample"):
        command_of("sampl")
