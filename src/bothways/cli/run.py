"""Run the command of a task: show progress, print the results, write the report."""

from __future__ import annotations

import json
import shlex
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext, redirect_stdout
from pathlib import Path
from typing import Any

import typer

from bothways.cli.commands import ParsedCommand, config_of
from bothways.cli.show import console, errors, print_error, print_grid, printable_json, progress_shown, say
from bothways.configs import Config
from bothways.processes.launched import own_rank
from bothways.progress import Beforehand, stage
from bothways.runs.files import plain
from bothways.tasks.resume import begin
from bothways.tasks.sweep.config import parsed_axes
from bothways.tasks.work import Grid, Where, Work
from bothways.types import RunError, UserError

SECONDS_TO_PRINT = 3.0


class StoppedError(RunError):
    """A run that was interrupted and can go on."""

    exit_code = 130


def run_task(given: ParsedCommand) -> None:
    """Validate the Config, run the task and print its results."""
    with only_one_prints():
        _run(given)


def _run(given: ParsedCommand) -> None:
    kind = config_of(given.task)
    if not given.resume:
        kind.check_typed(given.values)
    where = Where(None if given.dry_run else given.out, given.overwrite, given.resume)
    # stdout is for other programs where it is no log of a run, so progress then goes to stderr
    aside = given.as_json or given.dry_run or (given.out is None and not kind.has_folder())
    to = errors if aside else console
    # what a user's code prints is no part of what another program reads
    with progress_shown(given.task, to, quiet=console.quiet), redirect_stdout(sys.stderr) if aside else nullcontext():
        with _told_first():
            config, work = _begun(given, where, default=kind.has_folder() and not given.dry_run)
        if not given.dry_run:
            with _stops(work):
                if line := work.opening():
                    say(line, to)
                with closing(work.run()) as frames:
                    for _ in frames:
                        pass
                result = work.finish()
                with stage("writing the report"):
                    page = None if console.quiet else _page_of(work)
    if given.dry_run:
        console.print_json(data=plain(getattr(work, "config", config).model_dump()))  # its model may call for a recipe
        say(f"{work.plan()}; nothing is written")
    elif not console.quiet:
        print_result(work, result, page, given)


def _begun(given: ParsedCommand, where: Where, *, default: bool) -> tuple[Config, Work]:
    """The Config and the work of a command: a sweep where one is typed or goes on, else a run."""
    if given.sweep or given.resume:
        from bothways.tasks.sweep.run import begin_sweep, is_sweep

        if given.sweep or is_sweep(given.out):
            over = parsed_axes(config_of(given.task), given.sweep)
            return begin_sweep(given.task, given.values, over, where, default=default)
    return begin(given.task, given.values, where, default=default)


@contextmanager
def _told_first() -> Iterator[None]:
    """Print each ``Beforehand`` at once; the other warnings are printed after the run, where they stay to be read."""
    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            yield
    finally:
        for message in dict.fromkeys(str(one.message) for one in caught if issubclass(one.category, Beforehand)):
            print_error(f"note: {message}")
        for one in caught:
            if not issubclass(one.category, Beforehand):
                warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


@contextmanager
def _stops(work: Work) -> Iterator[None]:
    """The context in which an interrupt says how to go on, where there is a run to go on with."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if work.experiment.folder is None:
            raise
        raise StoppedError("stopped; work so far is saved, type --resume to continue") from stop


def _page_of(work: Work) -> Path | None:
    """Write the report. Raises RunError where it cannot be written, since the run before it is complete."""
    try:
        return work.page(work.place)
    except UserError as error:
        if (folder := work.experiment.folder) is None:
            raise
        cure = f"the run itself is complete: mend this and type bothways report {shlex.quote(str(folder.path))}"
        raise RunError(f"{str(error).split(';')[0]}; {cure}") from error


def print_result(work: Work, result: Any, page: Path | None, given: ParsedCommand) -> None:
    """Print the summary and the path of the report, or the measures as JSON."""
    if given.as_json:
        typer.echo(printable_json(json.dumps(plain(work.as_json(result)), ensure_ascii=False, indent=1)))
    else:
        show(work.summary(result, work.place), page)
    work.check(result, page)


def show(lines: Iterator[str | Grid], page: Path | None) -> None:
    """Print lines and tables as they come, the path of the report last."""
    for line in lines:
        if isinstance(line, Grid):
            print_grid(line, console)
        else:
            say(line)
    if page is not None:
        say(f"the report is {page}")


@contextmanager
def only_one_prints() -> Iterator[None]:
    """Of several processes only the first prints, since every one raises the same error; or who speaks for it."""
    console.quiet = errors.quiet = own_rank() != 0
    try:
        yield
    except UserError:
        if errors.quiet:
            time.sleep(SECONDS_TO_PRINT)  # torchrun kills rank 0 as soon as another process exits
        raise
    except RunError as error:
        errors.quiet = errors.quiet and not getattr(error, "speaks", False)  # of a LostError
        raise
