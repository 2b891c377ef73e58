"""Commands that draw: ``generate`` and ``demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bothways.cli.entry import app
from bothways.cli.show import console, draw, say, show_verdicts, write_page
from bothways.recipe.settings import DEFAULT_RECIPE, described, spoken_changes


def tuned(name: str, *flags: str) -> Any:
    """An option that overrides one setting of the recipe."""
    return typer.Option(*flags, help=described(name).replace("[", r"\["), show_default=False)


GENERATE_HELP = r"""
Draw what a model knows of its classes.

MODEL is bundled:NAME (see [bold]bothways models[/bold]), PATH.py:FUNCTION (your own file, whose function returns the
module and its bothways.ModelSpec), or the card that [bold]bothways train[/bold] wrote.

[bold]Examples[/bold]

  bothways generate bundled:cifar10-resnet --class frog ship --n 8
  bothways generate bundled:cifar10-resnet --class 3 --recipe das --steps 200 --seed 7
  bothways generate examples/squeezenet.py:build --class 107 1 130 --recipe das --n 1
  bothways generate my.py:build --weights my.safetensors --class 0 --data photos/ --judge other.py:build
"""


@app.command(help=GENERATE_HELP)
def generate(
    model: Annotated[str, typer.Argument(help="The model's address.", show_default=False)],
    classes: Annotated[
        list[str], typer.Option("--class", help="Names or numbers, one or several.", show_default=False)
    ],
    recipe: Annotated[
        str, typer.Option(help="A recipe's name (see bothways recipes) or a .toml file.")
    ] = DEFAULT_RECIPE,
    n: Annotated[int | None, tuned("n", "--n", "-n")] = None,
    steps: Annotated[int | None, tuned("steps", "--steps")] = None,
    size: Annotated[int | None, tuned("size", "--size")] = None,
    copies: Annotated[int | None, tuned("copies", "--copies")] = None,
    jitter: Annotated[float | None, tuned("jitter", "--jitter")] = None,
    noise: Annotated[float | None, tuned("noise", "--noise")] = None,
    seed: Annotated[int | None, tuned("seed", "--seed")] = None,
    statistics: Annotated[str | None, tuned("statistics", "--statistics")] = None,
    group: Annotated[int | None, tuned("group", "--group")] = None,
    batch: Annotated[int | None, tuned("batch", "--batch")] = None,
    dtype: Annotated[str | None, tuned("dtype", "--dtype")] = None,
    device: Annotated[str | None, tuned("device", "--device")] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="NAME=VALUE: any other setting; --dry-run shows all.")
    ] = None,
    judge: Annotated[
        list[str] | None,
        typer.Option(
            help=r"A model that says what it sees; repeatable. \[default: the bundled ones with the same classes]"
        ),
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="A safetensors file for the model.")] = None,
    data: Annotated[
        Path | None, typer.Option(help="Real pictures (parquet or folder): for statistics and to compare with.")
    ] = None,
    only: Annotated[
        list[int] | None, typer.Option(help="Draw only this picture number of the run; repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs/latest"),
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run that is there.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that is there.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the settings, draw nothing.")
    ] = False,
) -> None:
    from bothways.recipe.generate import prepare

    given: dict[str, Any] = {"n": n, "steps": steps, "size": size, "copies": copies, "jitter": jitter, "noise": noise}
    given |= {"seed": seed, "statistics": statistics, "group": group, "batch": batch, "dtype": dtype, "device": device}
    drawing = prepare(
        model, classes, recipe, weights=weights, judges=judge, data=data, only=only, overwrite=overwrite,
        resume=resume, out=None if dry_run else out, **given | spoken_changes(change or []),
    )  # fmt: skip
    if dry_run:
        parts = drawing.batches()
        console.print_json(data=drawing.settings.model_dump())
        say(f"{sum(map(len, parts))} pictures in {len(parts)} batches would be written to {out}")
        return
    result = draw(drawing)
    page = write_page([out], out / "report.html")
    show_verdicts({out.name: result.measures})
    say(f"{len(result)} pictures in {out}/images, the report in {page}")


@app.command(help="Draw the ten classes of a bundled classifier by DAS and by the icons recipe, and write the report.")
def demo(
    out: Annotated[
        Path, typer.Option(help="Where the two runs and report.html go; an earlier demo there is replaced.")
    ] = Path("runs/demo"),
    n: Annotated[int, typer.Option(help="Pictures of each class and recipe.", min=1)] = 10,
    seed: Annotated[int, typer.Option(help="Of the runs.", min=0)] = 0,
) -> None:
    from bothways.recipe.demo import RECIPES, prepare_demo

    measures = {}
    for recipe in RECIPES:
        drawing = prepare_demo(recipe, out / recipe, n=n, seed=seed)
        measures[recipe] = draw(drawing, f"{recipe}: {len(drawing.labels)} pictures").measures
    page = write_page([out / recipe for recipe in RECIPES], out / "report.html")
    show_verdicts(measures)
    say(f"Open {page}")
