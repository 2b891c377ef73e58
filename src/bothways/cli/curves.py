"""The command that asks a classifier made of a flow otherwise than it was trained: ``curves``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from bothways.cli.entry import app
from bothways.cli.evaluate import Precision
from bothways.cli.options import Device, Overwrite, Resume
from bothways.cli.show import console, follow, say, write_page

CURVES_HELP = """
The accuracy of a classifier made of a flow when its walk takes other steps than in training, or goes to another depth.

The trained point stands among both. Every point is kept when it is done, so that a run that was stopped goes on with
the next. A classifier that does not walk has the curve over depth alone.

[bold]Examples[/bold]

  bothways curves runs/classifier --data digits
  bothways curves runs/classifier --data path/to/pictures --steps 5 10 20 50 --limit 1000
  bothways curves runs/classifier --data digits --depth-offsets -0.4 -0.2 0.2 0.4 --out runs/depths
"""


@app.command(help=CURVES_HELP)
def curves(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run of bothways finetune.", show_default=False)],
    data: Annotated[
        str, typer.Option(help="Labelled pictures (see bothways pretrain); the test split, if any.", show_default=False)
    ],
    steps: Annotated[
        list[int] | None,
        typer.Option(help=r"Of the walk, one or several. \[default: 2 5 10 20 50 100 1000]", show_default=False),
    ] = None,
    depth_offsets: Annotated[
        list[float] | None,
        typer.Option(help=r"Shares by which its depth is moved. \[default: -.2 -.1 0 .1 .2]", show_default=False),
    ] = None,
    limit: Annotated[int | None, typer.Option(help=r"Pictures at most, evenly spaced. \[default: all]")] = None,
    limit_long: Annotated[int, typer.Option(help="The same for walks of more than 100 steps.")] = 200,
    batch: Annotated[int, typer.Option(help="Pictures at a time.")] = 100,
    device: Device = "cpu",
    dtype: Precision = "float32",
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs/curves"),
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    from bothways.tasks.curves.run import conclude_curves, prepare_curves

    work = prepare_curves(
        run, data, steps=steps, depth_offsets=depth_offsets, limit=limit, limit_long=limit_long, batch=batch,
        device=device, dtype=dtype, out=out, overwrite=overwrite, resume=resume,
    )  # fmt: skip
    if not work.facts["steps"]:
        say("this classifier does not walk, so there is no curve over steps")
    total = work.steps(work.conditions)
    with closing(work.run()) as frames:
        follow(frames, total, "asking", total - work.steps(work.left))
    found = conclude_curves(work)
    _show(found)
    if found["skipped"]:
        say(f"{len(found['skipped'])} pictures that cannot be read are left out")
    say(f"the report is {write_page([out], out / 'report.html')}")


def _show(found: dict[str, Any]) -> None:
    table = Table("point", "accuracy (95 %)", "NLL", "n", "network calls", caption="* as it was trained")
    for row in found["steps"]:
        table.add_row(f"{row['steps']:,} steps{'*' * row['trained']}", *_cells(row))
    for row in found["depth"]:
        table.add_row(f"depth {100 * row['offset']:+.4g} %{'*' * row['trained']}", *_cells(row))
    console.print(table)


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    share = f"{row['value']:.1%} ({row['low']:.1%}-{row['high']:.1%})"
    return share, f"{row['nll']:.3f}", f"{row['n']:,}", f"{row['calls']:,}"
