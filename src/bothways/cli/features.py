"""What a flow makes of pictures, as a table: ``features``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from bothways.cli.entry import app
from bothways.cli.options import Device, Overwrite, Resume
from bothways.cli.show import console, follow, say, write_page

SKIPPED_NAMED = 5
FEATURES_HELP = """
What a flow makes of pictures: a parquet file a split, with a column for each kind, depth and layer.

"walked" is the picture walked towards noise, "activations" are those of a layer in one pass. Where the pictures have
labels and a training and a test split, a linear probe and nearest neighbours are fitted on the first and asked about
the second, beside the pixels alone.

Stopped or killed at any moment, it goes on with --resume to the same files.

[bold]Examples[/bold]

  bothways features runs/digits --data digits
  bothways features bundled:cifar10-flow --data path/to/cifar10 --kind activations --depth .1 .3 .5 --limit 2000
  bothways features runs/finetuned --data photos/ --kind walked activations --depth .5 --probe none --store float16
"""


@app.command(help=FEATURES_HELP)
def features(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="A run of bothways pretrain or finetune, or a flow's address.", show_default=False
        ),
    ],
    data: Annotated[str, typer.Option(help="Pictures (see bothways pretrain -h).", show_default=False)],
    depth: Annotated[
        list[float] | None,
        typer.Option(help=r"0 the picture, 1 noise; one or several. \[default: .1 .5 1]", show_default=False),
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option(help=r"walked, activations, pixels; one or several. \[default: walked]")
    ] = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(help=r"Of activations, one or several. \[default: the middle of a U-Net of bothways]"),
    ] = None,
    noised: Annotated[bool, typer.Option("--noised", help="Activations of pictures with the noise of the depth.")] = (
        False
    ),
    steps: Annotated[
        int, typer.Option(help="To the deepest depth; more where one walk then serves all depths, and costs less.")
    ] = 5,
    solver: Annotated[str, typer.Option(help="euler, midpoint, heun, rk4, reversible-heun; or dopri5.")] = "euler",
    split: Annotated[
        list[str] | None,
        typer.Option(help=r"One or several. \[default: train and test, or all of pictures without splits]"),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help=r"Pictures at most of each split, evenly spaced. \[default: all]")
    ] = None,
    test_limit: Annotated[int | None, typer.Option(help=r"Of the last split. \[default: --limit]")] = None,
    probe: Annotated[list[str] | None, typer.Option(help=r"linear, knn, or none. \[default: linear knn]")] = None,
    neighbours: Annotated[int, typer.Option(help="Of knn.")] = 20,
    batch: Annotated[int, typer.Option(help="Pictures at a time.")] = 128,
    store: Annotated[str, typer.Option(help="float32 or float16: in the files.")] = "float32",
    device: Device = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bf16, float16: of the network.")] = "float32",
    workers: Annotated[int, typer.Option(help="Processes that read and decode ahead.", min=0)] = 1,
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs/features"),
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    from bothways.tasks.features.plan import PROBES
    from bothways.tasks.features.run import DEPTHS, prepare_features

    work = prepare_features(
        run, data, depth or DEPTHS, kind or "walked", layers=layer or (), noised=noised, steps=steps, solver=solver,
        splits=split or (), limit=limit, test_limit=test_limit, probes=probe or PROBES, neighbours=neighbours,
        batch=batch, store=store, device=device, dtype=dtype, workers=workers, out=out, overwrite=overwrite,
        resume=resume,
    )  # fmt: skip
    with closing(work.run()) as frames:
        follow(frames, work.steps, "reading", work.done)
    _show(work.finish(), out)
    say(f"the report is {write_page([out], out / 'report.html')}")


def _show(found: dict[str, Any], out: Path) -> None:
    if found["probes"]:
        console.print(_table(found))
    else:
        say(found["unprobed"])
    for split, skipped in found["skipped"].items():
        for name, why in list(skipped.items())[:SKIPPED_NAMED]:
            say(f"left out, {name}: {why}")
        if skipped:
            say(f"{len(skipped)} pictures of {split} left out")
    for split, file in found["files"].items():
        size = (out / file).stat().st_size / 1e6
        say(f"{found['data']['pictures'][split]:,} pictures in {out / file}, {size:,.1f} MB")


def _table(found: dict[str, Any]) -> Table:
    """A row a column, with the accuracy of each probe; chance below."""
    probes = list(dict.fromkeys(row["probe"] for row in found["probes"]))
    by = {(row["column"], row["probe"]): row for row in found["probes"]}
    pictures = list(found["data"]["pictures"].values())
    title = f"fitted on {pictures[0]:,} pictures, asked about {found['probes'][0]['n']:,}"
    table = Table("features", *(f"{probe} (95 %)" for probe in probes), title=title, title_justify="left")
    for column in dict.fromkeys(row["column"] for row in found["probes"]):
        table.add_row(escape(column), *(_share(by.get((column, probe))) for probe in probes))
    table.add_row("chance", *([_share(found["chance"])] * len(probes)))
    return table


def _share(row: dict[str, Any] | None) -> str:
    return "-" if row is None else f"{row['value']:.1%} ({row['low']:.1%}-{row['high']:.1%})"
