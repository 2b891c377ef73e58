"""Run what was typed for a task: a progress bar while it goes on, then what it found, then its report."""

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
from rich.table import Table

from bothways.cli.commands import Given, config_of
from bothways.cli.show import console, errors, follow, say
from bothways.runs.files import plain
from bothways.tasks.recipes import configure
from bothways.tasks.work import Grid, Where, Work, prepare
from bothways.types import UserError

SECONDS_TO_SPEAK = 3.0


def run_task(given: Given) -> None:
    """Everything from the Config to the last line."""
    with first_alone_speaks():
        kind = config_of(given.task)
        kind.check_typed(given.values)
        config = configure(kind, **given.values)
        work = prepare(config, Where(None if given.dry_run else given.out, given.overwrite, given.resume))
    if given.dry_run:
        console.print_json(data=plain(config.model_dump()))
        say(f"{work.plan()}; {given.out} is not touched")
        return
    with closing(work.run()) as frames:
        aside = given.as_json or given.out is None  # what is told is then for another program to read
        follow(frames, work.steps, work.doing, work.done, errors if aside else console)
    result = work.finish()
    if not console.quiet:
        tell(work, result, given)


def tell(work: Work, result: Any, given: Given) -> None:
    """What was found, and where its page is; or all of it as JSON."""
    page = work.page(given.out)
    if given.as_json:
        typer.echo(json.dumps(plain(work.as_json(result)), ensure_ascii=False, indent=1))
    else:
        show(work.summary(result, given.out), page)
    work.check(result, page)


def show(lines: Iterator[str | Grid], page: Path | None) -> None:
    """Lines and tables as they come, the place of the page last."""
    for line in lines:
        if isinstance(line, Grid):
            table = Table(*line.columns, title=line.title or None, caption=line.caption or None, title_justify="left")
            for row in line.rows:
                table.add_row(*map(escape, row))
            console.print(table)
        else:
            say(line)
    if page is not None:
        say(f"the report is {page}")


@contextmanager
def first_alone_speaks() -> Iterator[None]:
    """Of the processes that torchrun started only the first prints, and tells of a mistake, which all of them find."""
    console.quiet = errors.quiet = os.environ.get("RANK", "0") != "0"
    try:
        yield
    except UserError:
        if errors.quiet:
            time.sleep(SECONDS_TO_SPEAK)  # torchrun ends the first as soon as another has ended
        raise
    errors.quiet = False
