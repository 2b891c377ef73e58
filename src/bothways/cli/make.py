"""Commands on finished runs: ``report`` and ``cite``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bothways.cli.entry import app
from bothways.cli.show import printable, say, write_page
from bothways.types import RunError

PAGE = r"The page. \[default: report.html in the folder; of several, comparison-NAMES.html beside the first]"
LONGEST_NAME = 100  # bytes


@app.command(
    help="Write a self-contained HTML report of one or several runs; of one, its contact sheet and atlas too."
    "\n\nExample:\n\n  bothways report runs/a runs/b"
)
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help=PAGE)] = None,
) -> None:
    say(f"Open {write_page(runs, out or _page_of(runs))}")


def _page_of(runs: list[Path]) -> Path:
    """Of one run, beside it; of several a page of its own, since each has its own already."""
    if len(runs) == 1:
        return runs[0] / "report.html"
    names = "-".join(run.resolve().name for run in runs)
    short = names.encode()[:LONGEST_NAME].decode(errors="ignore")
    return runs[0].resolve().parent / f"comparison-{short}.html"


CITE_HELP = "Print the BibTeX entries of the methods that a run used."


@app.command(help=f"{CITE_HELP}\n\nExample:\n\n  bothways cite runs/latest >> references.bib")
def cite(run: Annotated[Path, typer.Argument(help="Run folder.", show_default=False)]) -> None:
    from bothways.runs import RunFolder

    folder = RunFolder.open(run)
    state = folder.status["state"]
    if state != "complete":
        raise RunError(
            f"{run} is {state}, and citations are written when a run completes; type the same command with --resume"
        )
    measures = folder.measures
    if "citations" not in measures:
        raise RunError(f"{run}: measures.json is missing; type the command of the run again with --resume")
    for entry in measures["citations"]:
        typer.echo("\n".join(map(printable, entry.split("\n"))) + "\n")
