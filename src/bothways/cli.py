"""The command line: parses, calls ``recipe``, shows progress. Exit code 2 for a mistake, 1 for a failure."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Column, Table

from bothways.recipe.settings import DEFAULT_RECIPE, described, recipes, spoken_changes
from bothways.types import RunError, UserError
from bothways.version import __version__

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Read a vision model both ways: a classifier draws what it knows.",
)
console = Console()
errors = Console(stderr=True)


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


@app.command(help="The bundled models, what they reached, and the kinds of address.")
def models() -> None:
    from bothways.recipe.demo import cards

    table = Table(Column("address", no_wrap=True), "network", "parameters", Column("accuracy (95 %)", no_wrap=True))
    for facts in cards():
        low, high = facts["accuracy_interval"]
        reached = f"{facts['accuracy']:.1%} ({low:.1%}-{high:.1%})"
        row = (f"bundled:{facts['name']}", facts["network"]["name"], f"{facts['parameters']:,}", reached)
        table.add_row(*row)
        table.caption = f"{facts['accuracy_on']}; {facts['spec']['licence']}"
    console.print(table)
    say("PATH.py:FUNCTION  your own file; the function returns (nn.Module, bothways.ModelSpec(...))")
    say("PATH/NAME.json    the card that bothways train wrote")


@app.command("recipes", help="The recipes for drawing and for training.")
def list_recipes() -> None:
    for task, title in (("draw", "bothways generate --recipe NAME"), ("train", "bothways train NAME")):
        table = Table("name", "what it is", title=title, title_justify="left")
        for name, text in recipes(task).items():
            table.add_row(name, text)
        console.print(table)


@app.command(
    help="Train a network of the catalogue.\n\nExample:\n\n  bothways train cifar10-resnet --data path/to/cifar10"
)
def train(
    recipe: Annotated[str, typer.Argument(help="A training recipe (see bothways recipes) or a .toml file.")],
    data: Annotated[Path, typer.Option(help="A folder with train.parquet and test.parquet.")],
    out: Annotated[Path, typer.Option(help="Where weights, card and checkpoints go.")] = Path("runs/training"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the training that is there.")] = False,
) -> None:
    from bothways.recipe.train import prepare_training

    training = prepare_training(recipe, str(data), out, resume=resume)
    with closing(training.run()) as steps:
        follow(steps, training.settings.steps, training.name, training.state.step)
    facts = training.finish()
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
    from bothways.recipe.cite import citations
    from bothways.recipe.settings import checked
    from bothways.runs import RunFolder

    for entry in citations(checked(RunFolder.open(run).settings.get("settings", {}))):
        typer.echo(entry + "\n")


@app.callback(invoke_without_command=True)
def version(show: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if show:
        typer.echo(f"bothways {__version__}")
        raise typer.Exit


def say(text: str) -> None:
    """One line as it is: a path in it is neither broken nor read as markup."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def draw(drawing: Any, title: str = "drawing") -> Any:
    """Run a drawing with a progress bar, then ask the judges."""
    from bothways.recipe.generate import conclude

    with closing(drawing.run()) as steps:
        follow((frame for _, frame in steps), drawing.settings.steps * len(drawing.batches()), title)
    return conclude(drawing)


def follow(frames: Iterable[Any], total: int, title: str, done: int = 0) -> None:
    """A progress bar with time left and the last measured values."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, TimeRemainingColumn(), TextColumn("{task.fields[values]}"), console=console) as bar:
        task = bar.add_task(title, total=total, completed=done, values="")
        for frame in frames:
            values = "  ".join(f"{name} {value:.3g}" for name, value in frame.stats.items())
            bar.update(task, advance=1, values=values)


def write_page(runs: list[Path], out: Path) -> Path:
    from bothways.report import write_report

    return write_report(runs, out)


def show_verdicts(measures: dict[str, dict[str, Any]]) -> None:
    forms = ("%.1f", "(%.1f)")
    caption = "* gave the gradient: proves nothing. In brackets: as many real pictures."
    table = Table("run", Column("judge", overflow="fold"), "recognised (95 %)", "Frechet", "diversity", caption=caption)
    for run, measured in measures.items():
        for verdict in measured["judges"]:
            low, high = verdict["hit_interval"]
            rate = "-" if verdict["hit_rate"] is None else f"{verdict['hit_rate']:.2f} ({low:.2f}-{high:.2f})"
            name = verdict["judge"].removeprefix("bundled:") + "*" * verdict["gave_gradient"]
            pairs = [(verdict[key], verdict[f"{key}_real"]) for key in ("frechet", "diversity")]
            shown = [" ".join(f % v for f, v in zip(forms, p, strict=True) if v is not None) for p in pairs]
            table.add_row(escape(run), escape(name), rate, *shown)
    console.print(table)


def repeated(arguments: list[str]) -> list[str]:
    """``--class a b c`` -> ``--class a --class b --class c``, as people type it."""
    spread, many = [], ""
    for argument in arguments:
        if argument.startswith("-"):
            many = argument if argument in ("--class", "--judge", "--only") else ""
            spread.append(argument)
        elif many and spread[-1] != many:
            spread += [many, argument]
        else:
            spread.append(argument)
    return spread


def main(arguments: list[str] | None = None) -> None:
    """The entry point: one line for a mistake or a failure, never a traceback for a user's mistake."""
    code = 0
    with warnings.catch_warnings(record=True) as caught:
        try:
            app(args=repeated(sys.argv[1:] if arguments is None else arguments))
        except (UserError, RunError) as error:
            complain(f"bothways: {error}")
            code = error.exit_code
        except SystemExit as end:  # typer ends every command by it, an interrupt too
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if code == 130:
            complain("bothways: stopped; what was drawn or trained is kept, type --resume to go on")
    for warning in caught:
        complain(f"note: {warning.message}")
    sys.exit(code)


def complain(text: str) -> None:
    errors.print(text, highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
