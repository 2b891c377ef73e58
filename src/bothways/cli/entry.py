"""The entry point and the app that the commands join."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from bothways import registry
from bothways.cli.arguments import repeated
from bothways.cli.commands import command_of
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


def spread(arguments: list[str]) -> list[str]:
    """The arguments with a flag before each of its values, where the first of them is a command."""
    group: Any = get_command(app)
    command = group.get_command(None, arguments[0]) if arguments else None
    return arguments if command is None else [arguments[0], *repeated(command, arguments[1:])]


def main(arguments: list[str] | None = None) -> None:
    """The entry point: one line for a mistake or a failure, never a traceback for a user's mistake."""
    code = 0
    with warnings.catch_warnings(record=True) as caught:
        try:
            app(args=spread(sys.argv[1:] if arguments is None else arguments), prog_name="bothways")
        except (UserError, RunError) as error:
            complain(f"bothways: {error}")
            code = error.exit_code
        except SystemExit as end:  # typer ends every command by it, an interrupt too
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if code == 130:
            complain("bothways: stopped; what was drawn or trained is kept, type --resume to go on")
    for told in dict.fromkeys(str(warning.message) for warning in caught):  # data may be looked at more than once
        complain(f"note: {told}")
    sys.exit(code)
