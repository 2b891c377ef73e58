"""Run the command of a task: show progress, print the results, write the report."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape

from bothways.cli.commands import ParsedCommand, config_of
from bothways.cli.show import console, errors, follow, print_grid, say
from bothways.runs.files import plain
from bothways.tasks.work import Grid, Where, Work, begin
from bothways.types import UserError

SECONDS_TO_PRINT = 3.0


def run_task(given: ParsedCommand) -> None:
    """Validate the Config, run the task and print its results."""
    with only_rank_zero_prints():
        kind = config_of(given.task)
        if not given.resume:
            kind.check_typed(given.values)
        where = Where(None if given.dry_run else given.out, given.overwrite, given.resume)
        config, work = begin(given.task, given.values, where, default=kind.has_folder() and not given.dry_run)
    if given.dry_run:
        console.print_json(data=plain(config.model_dump()))
        say(f"{work.plan()}; nothing is written")
        return
    aside = given.as_json or work.place is None  # stdout is then for other programs, so progress goes to stderr
    if line := work.opening():
        (errors if aside else console).print(escape(line), soft_wrap=True)
    with closing(work.run()) as frames:
        follow(frames, work.steps, work.doing, work.done, errors if aside else console)
    result = work.finish()
    if not console.quiet:
        print_result(work, result, given)


def print_result(work: Work, result: Any, given: ParsedCommand) -> None:
    """Print the summary and the path of the report, or the measures as JSON."""
    page = work.page(work.place)
    if given.as_json:
        typer.echo(json.dumps(plain(work.as_json(result)), ensure_ascii=False, indent=1))
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
def only_rank_zero_prints() -> Iterator[None]:
    """Under torchrun, print output and errors from rank 0 alone, since every process raises the same UserError."""
    console.quiet = errors.quiet = os.environ.get("RANK", "0") != "0"
    try:
        yield
    except UserError:
        if errors.quiet:
            time.sleep(SECONDS_TO_PRINT)  # torchrun kills rank 0 as soon as another process exits
        raise
    errors.quiet = False
