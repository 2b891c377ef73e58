"""The entry point and the Typer app."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import warnings
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from bothways import registry
from bothways.budget import no_memory_left
from bothways.cli.arguments import repeat_flags
from bothways.cli.code import typed_code_alone
from bothways.cli.show import console, errors, print_error
from bothways.faults import users_code
from bothways.processes.allocator import keep_freed_memory
from bothways.processes.launched import world_size
from bothways.reading import reason
from bothways.types import RunError, UserError
from bothways.version import __version__

# In the order of the help and of the site.
GROUPS: dict[str, tuple[str, ...]] = {
    "Look around": ("demo", "models", "layers", "recipes", "registry"),
    "Draw": ("generate", "edit", "inpaint", "style", "invert", "accentuate", "statistics", "spectrum"),
    "Audit and evaluate": ("explain", "scorecard", "evaluate", "predict", "train"),
    "Flows": ("pretrain", "sample", "walk", "diagnose", "likelihood", "plan"),
    "Flows as classifiers and feature extractors": ("finetune", "curves", "features", "latents", "export"),
    "Runs and papers": ("report", "cite", "reproduce"),
    "Servers": ("studio", "serve"),
}
OTHERS = "Other commands"


def group_of(command: str) -> str:
    """The group of a command; OTHERS for one that stands in none."""
    return next((title for title, names in GROUPS.items() if command in names), OTHERS)


def grouped(commands: Iterable[str]) -> dict[str, list[str]]:
    """{title: the commands of the group}, in the order of GROUPS, without empty groups; OTHERS last, by name."""
    left = set(commands)
    found = {title: [name for name in names if name in left] for title, names in GROUPS.items()}
    found[OTHERS] = sorted(left - {name for names in found.values() for name in names})
    return {title: names for title, names in found.items() if names}


class Commands(TyperGroup):
    """The command group: the commands of the tasks, built from their Configs on demand, then the others.

    The list of commands needs a line of each alone, which the registry has: no Config is imported for it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._made: dict[str, Any] = {}  # each is looked up twice: for its flags, and to be run
        self._listed = False

    def list_commands(self, ctx: Any) -> list[str]:
        groups = grouped([*registry.names("task"), *super().list_commands(ctx)])
        return [name for names in groups.values() for name in names]

    def format_help(self, ctx: Any, formatter: Any) -> None:
        self._listed = True
        try:
            super().format_help(ctx, formatter)
        finally:
            self._listed = False

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        try:
            return super().resolve_command(ctx, args)
        except Exception as error:  # click's own, or the copy of click within typer
            refused: Any = error
            near = [*self._told_by(args[0]), *get_close_matches(args[0], self.list_commands(ctx), n=2)]
            if "No such command" in str(getattr(error, "message", "")):
                advice = " or ".join(dict.fromkeys(near)) or "bothways --help for the list"
                refused.message = f"{str(refused.message).rstrip('.')}; type {advice}"
            raise

    def _told_by(self, word: str) -> list[str]:
        """The tasks whose line of help begins with a word, such as "draw", else those that have it; two at most."""
        if len(word) < 4:
            return []
        words = {name: re.findall(r"\w+", task.help.lower()) for name, task in registry.entries("task").items()}
        first = [name for name, said in words.items() if said[0] == word.lower()]
        return (first or [name for name, said in words.items() if word.lower() in said])[:2]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in registry.entries("task"):
            command: Any = super().get_command(ctx, cmd_name)
            if command is not None:
                command.rich_help_panel = group_of(cmd_name)
            return command
        if self._listed:
            short = registry.entries("task")[cmd_name].help
            return TyperCommand(cmd_name, short_help=short, rich_help_panel=group_of(cmd_name))
        if cmd_name not in self._made:
            from bothways.cli.commands import command_of

            self._made[cmd_name] = command_of(cmd_name)
        return self._made[cmd_name]


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Draw pictures from discriminative vision models; use generative flows as feature extractors and classifiers.",
)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", metavar="", help="Print the version and exit.")] = False,
) -> None:
    if show:
        typer.echo(f"bothways {__version__}")
        raise typer.Exit


def expand_flags(group: Any, arguments: list[str]) -> list[str]:
    """The arguments with a flag before each of its values; unchanged if the first is not a command of the group."""
    command = group.get_command(None, arguments[0]) if arguments else None
    return arguments if command is None else [arguments[0], *repeat_flags(command, arguments[1:])]


def main(arguments: list[str] | None = None) -> None:
    """Run a command and exit. UserError and RunError are printed as one line, without a traceback."""
    code = 0
    console.quiet = errors.quiet = False  # the command before in this process may have been of a rank that is silent
    keep_freed_memory()
    if world_size() > 1:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # else torch tells of a lost process by a hundred lines
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: the run is left whole, to be resumed
    typed = sys.argv[1:] if arguments is None else arguments
    with warnings.catch_warnings(record=True) as caught, typed_code_alone(typed):
        try:
            group: Any = get_command(app)
            with users_code():
                group(args=expand_flags(group, typed), prog_name="bothways")
        except (UserError, RunError) as error:
            print_error(f"bothways: {error}")
            code = error.exit_code
        except KeyboardInterrupt:  # before Typer heeds it
            code = 130
        except OSError as error:  # of a file that was named: a name too long, a folder that may not be read
            if error.filename is None:
                raise
            print_error(f"bothways: {os.fsdecode(error.filename)}: {reason(error)}")
            code = UserError.exit_code
        except (MemoryError, RuntimeError) as error:
            if not no_memory_left(error):
                raise
            print_error("bothways: no memory is left, and what was finished is kept; type a smaller --batch or --size")
            code = RunError.exit_code
        except SystemExit as end:  # Typer raises it at the end of every command and after an interrupt
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if code == 130:
            print_error("bothways: stopped")
    for message in dict.fromkeys(str(warning.message) for warning in caught):  # data may be read more than once
        print_error(f"note: {message}")
    sys.exit(code)
