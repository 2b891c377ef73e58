"""Commands that measure a model on real pictures: ``scorecard`` and ``statistics``; or pictures alone: ``spectrum``."""

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


STATISTICS_HELP = """
Measure on real pictures, without labels, what drawing without a class needs, and keep it in one small file.

[bold]Examples[/bold]

  bothways statistics my.py:build --data photos/ --out my.safetensors
  bothways generate my.py:build --unconditional --data my.safetensors
"""


@app.command(help=STATISTICS_HELP)
def statistics(
    model: Model,
    data: Pictures,
    out: Annotated[Path, typer.Option(help="The .safetensors file.")] = Path("runs/statistics.safetensors"),
    limit: Annotated[int, typer.Option(help="Pictures at most, evenly spaced.")] = 5000,
    rank: Annotated[int, typer.Option(help="Directions kept.")] = 64,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            help=r"Whose statistics; repeatable. \[default: what enters the normalisations, else the convolutions]"
        ),
    ] = None,
    weights: Weights = None,
    device: Device = "cpu",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file that is there.")] = False,
) -> None:
    from bothways.tasks.statistics.run import statistics as measure

    found = measure(
        model, data, weights=weights, limit=limit, rank=rank, layers=layer or (), out=out, overwrite=overwrite,
        device=device,
    )  # fmt: skip
    layers = sum(name.endswith("/mean") for name in found.tensors)
    say(f"{layers} layers over {found.pictures} pictures, {out.stat().st_size / 1000:,.0f} kB in {out}")
    say(f"bothways generate {model} --unconditional --data {out}")


SPECTRUM_HELP = """
Measure the mean amplitude spectrum of pictures, for the recipe maco, and keep it in one small file.

It is kept by frequency in cycles per picture, so it serves drawings of every size; of larger ones it is carried on by
a power law. No model is asked.

[bold]Examples[/bold]

  bothways spectrum --data path/to/cifar10 --out cifar10.safetensors
  bothways spectrum --data photos/ --size 224 --limit 2000 --out photos.safetensors
  bothways generate my.py:build --class 0 --recipe maco --set spectrum=photos.safetensors
"""


@app.command(help=SPECTRUM_HELP)
def spectrum(
    data: Pictures,
    out: Annotated[Path, typer.Option(help="The .safetensors file.")] = Path("runs/spectrum.safetensors"),
    size: Annotated[
        int | None, typer.Option(help=r"Pixels of a side; each is resized and cut. \[default: the pictures' own]")
    ] = None,
    limit: Annotated[int | None, typer.Option(help=r"Pictures at most, evenly spaced. \[default: all]")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file that is there.")] = False,
) -> None:
    from bothways.tasks.spectrum.run import prepare_spectrum

    measuring = prepare_spectrum(data, size=size, limit=limit, out=out, overwrite=overwrite)
    follow(measuring.run(), measuring.total, "measuring")
    found = measuring.finish()
    falls = ", ".join(f"{p:.2f}" for p in found.law()[:, 1].tolist())
    say(f"{found.size} x {found.size} over {found.count} pictures, {out.stat().st_size / 1000:,.0f} kB in {out}")
    say(f"amplitudes fall with frequency to the power {falls} (lightness, red to blue, green to purple)")
    say(f"bothways generate MODEL --class NAME --recipe maco --set spectrum={out}")
