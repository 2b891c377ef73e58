"""Commands that make something of data or of runs: ``train``, ``report`` and ``cite``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from bothways.cli.entry import app
from bothways.cli.show import follow, say, write_page
from bothways.types import RunError


@app.command(
    help="Train a network of the catalogue.\n\nExample:\n\n  bothways train cifar10-resnet --data path/to/cifar10"
)
def train(
    recipe: Annotated[str, typer.Argument(help="A training recipe (see bothways recipes) or a .toml file.")],
    data: Annotated[Path, typer.Option(help="A folder with train.parquet and test.parquet.")],
    out: Annotated[Path, typer.Option(help="Where weights, card and checkpoints go.")] = Path("runs/training"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the training that is there.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the training that is there.")] = False,
) -> None:
    from bothways.tasks.train.run import prepare_training

    work = prepare_training(recipe, str(data), out, resume=resume, overwrite=overwrite)
    with closing(work.run()) as steps:
        follow(steps, work.training.settings.steps, work.name, work.state.step)
    facts = work.finish()
    say(f"accuracy {facts['accuracy']:.2%} on {facts['accuracy_on']}; files in {out}")


@app.command(
    help="One self-contained HTML page from one or several runs.\n\nExample:\n\n  bothways report runs/a runs/b"
)
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders.", show_default=False)],
    out: Annotated[Path | None, typer.Option(help=r"The page. \[default: report.html in the first folder]")] = None,
) -> None:
    say(f"Open {write_page(runs, out or runs[0] / 'report.html')}")


@app.command(help="BibTeX for the parts that a run used.\n\nExample:\n\n  bothways cite runs/latest >> references.bib")
def cite(run: Annotated[Path, typer.Argument(help="A run folder.", show_default=False)]) -> None:
    from bothways.runs import RunFolder

    folder = RunFolder.open(run)
    state = folder.status["state"]
    if state != "complete":
        raise RunError(f"{run} is {state}, and the papers are noted at the end; type the same command with --resume")
    for entry in folder.measures.get("citations", ()):
        typer.echo(entry + "\n")
