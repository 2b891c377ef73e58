"""The entry point and the app that the commands join."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from bothways import registry
from bothways.cli.commands import command_of, list_flags, needed_positionals, single_flags
from bothways.cli.show import complain
from bothways.types import RunError, UserError
from bothways.version import __version__


class Commands(TyperGroup):
    """The commands of the tasks, each built from its Config when it is asked for, before the others."""

    def list_commands(self, ctx: Any) -> list[str]:
        return [*registry.names("task"), *super().list_commands(ctx)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in registry.entries("task"):
            return super().get_command(ctx, cmd_name)
        return command_of(cmd_name)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Read a vision model both ways: a classifier draws what it knows, a flow walks pictures to noise and back.",
)


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if show:
        typer.echo(f"bothways {__version__}")
        raise typer.Exit


def repeated(arguments: list[str]) -> list[str]:
    """``--class a b c`` -> ``--class a --class b --class c``, as people type it.

    Values follow a flag that takes several up to the next flag. Where a positional argument is then missing, the last
    of those values is it: ``generate --class frog MODEL`` draws frogs with MODEL. ``--`` ends the values of a flag.
    """
    task = arguments[0] if arguments else ""
    if task not in registry.entries("task"):
        return arguments
    lists, single = list_flags(task), single_flags(task)
    spread, taken, many, positional = [task], [], "", 0
    words = iter(arguments[1:])
    for word in words:
        if word == "--":
            many = ""
        elif word.startswith("-") and not _is_number(word):
            many = word if word in lists else ""
            if not many:
                spread.append(word)
            if word in single:
                spread += [value for value in [next(words, None)] if value is not None]
        elif many:
            taken.append(len(spread))
            spread += [many, word]
        else:
            positional += 1
            spread.append(word)
    if taken and positional < needed_positionals(task, spread):
        place = taken[-1]  # a flag and its value
        spread[place : place + 2] = spread[place + 1 : place + 2]
    return spread


def _is_number(argument: str) -> bool:
    try:
        float(argument)
    except ValueError:
        return False
    return True


def main(arguments: list[str] | None = None) -> None:
    """The entry point: one line for a mistake or a failure, never a traceback for a user's mistake."""
    code = 0
    with warnings.catch_warnings(record=True) as caught:
        try:
            app(args=repeated(sys.argv[1:] if arguments is None else arguments))
        except (UserError, RunError) as error:
            complain(f"bothways: {error}")
            code = error.exit_code
        except SystemExit as end:  # typer ends every command by it, an interrupt too
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if code == 130:
            complain("bothways: stopped; what was drawn or trained is kept, type --resume to go on")
    for warning in caught:
        complain(f"note: {warning.message}")
    sys.exit(code)
