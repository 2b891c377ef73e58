"""The command that measures a model on real pictures: ``scorecard``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bothways.cli.entry import app
from bothways.cli.options import Device, Model, Pictures, Weights
from bothways.cli.show import follow, say, show_scorecard

SCORECARD_HELP = """
Ask which label-free quantities of a model tell real pictures from damaged ones, and what it draws.

Each quantity (every form of the discriminative score function, channel statistics, energy, confidence, total
variation) is asked whether it grows with noise, tells real from damaged pictures, and points back to the clean one.

[bold]Examples[/bold]

  bothways scorecard bundled:cifar10-resnet --data path/to/cifar10
  bothways scorecard my.py:build --data photos/ --n 50 --no-draw --out runs/my-scorecard
"""


@app.command(help=SCORECARD_HELP)
def scorecard(
    model: Model,
    data: Pictures,
    n: Annotated[int, typer.Option("--n", "-n", help="Pictures that are scored.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the run.", min=0)] = 0,
    draw: Annotated[bool, typer.Option("--draw/--no-draw", help="Draw some pictures by each recipe too.")] = True,
    drawings: Annotated[
        int | None, typer.Option(help=r"Pictures of each recipe. \[default: 50, or 4 large ones]", min=1)
    ] = None,
    weights: Weights = None,
    device: Device = "cpu",
    out: Annotated[Path, typer.Option(help="A folder for scorecard.json and scorecard.html.")] = Path("runs/scorecard"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the scorecard that is there.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the scorecard that is there.")] = False,
) -> None:
    from bothways.tasks.scorecard.run import prepare_scorecard
    from bothways.tasks.scorecard.section import write_scorecard

    scoring = prepare_scorecard(
        model, data, weights=weights, device=device, n=n, seed=seed, out=out, draw=draw, drawings=drawings,
        overwrite=overwrite, resume=resume,
    )  # fmt: skip
    follow(scoring.run(), scoring.steps, "measuring")
    follow(scoring.draw(), len(scoring.undrawn()), "drawing")
    show_scorecard(scoring.card().quantities)
    say(f"Open {write_scorecard(out)}")
