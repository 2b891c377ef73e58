"""The command ``demo``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from bothways.cli.entry import app
from bothways.cli.show import draw, follow, say, show_verdicts, write_page

DEMO_HELP = """
Both ways in one page: the ten classes of a bundled classifier drawn by two recipes, and ten pictures that a bundled
flow walks to noise and back, with what the flow made a classifier knows.

[bold]Examples[/bold]

  bothways demo
  bothways demo --data path/to/cifar10
"""


@app.command(help=DEMO_HELP)
def demo(
    out: Annotated[
        Path, typer.Option(help="Where the runs and report.html go; an earlier demo there is replaced.")
    ] = Path("runs/demo"),
    n: Annotated[int, typer.Option(help="Pictures of each class and recipe.", min=1)] = 10,
    seed: Annotated[int, typer.Option(help="Of the runs.", min=0)] = 0,
    data: Annotated[
        Path | None,
        typer.Option(help="CIFAR-10 (folder or parquet), whose test pictures are walked; without, drawn ones are."),
    ] = None,
) -> None:
    from bothways.tasks.demo.run import RECIPES, prepare_demo, prepare_walk, ten_pictures

    ten = None if data is None else ten_pictures(data, None)
    measures, result = {}, None
    for recipe in RECIPES:
        drawing = prepare_demo(recipe, out / recipe, n=n, seed=seed)
        result = draw(drawing, f"{recipe}: {len(drawing.asked)} pictures")
        measures[recipe] = result.measures
    ten = ten_pictures(None, result) if ten is None else ten
    walk = prepare_walk(ten, out / "walk")
    with closing(walk.run()) as frames:
        follow(frames, len(walk.parts), f"walking {len(ten.images)} pictures to noise and back")
    (trip,) = walk.finish()["flow"]["round_trip"]
    show_verdicts(measures)
    say(f"ten pictures, {ten.source}, walked to noise and back are off by {trip['rms']:.3f} (RMS, black to white is 1)")
    runs = [out / recipe for recipe in RECIPES] + [out / "walk"] + _show_classifier(ten, data, out / "classifier")
    say(f"Open {write_page(runs, out / 'report.html')}")


def _show_classifier(ten: Any, data: Path | None, out: Path) -> list[Path]:
    """Say what the bundled flow classifier knows -> the run in which it was asked, if it was."""
    from bothways.tasks.demo.run import CLASSIFIER, named_right, prepare_test, stated

    say(f"{CLASSIFIER} names {named_right(ten)} of these {len(ten.images)}")
    if data is None:
        facts = stated()
        low, high = facts["accuracy_interval"]
        say(f"its card says: right on {facts['accuracy']:.1%} ({low:.1%} to {high:.1%}), {facts['accuracy_on']}")
        return []
    test = prepare_test(data, out)
    with closing(test.run()) as frames:
        follow(frames, test.steps, "evaluating on test pictures")
    found = test.finish()["clean"]
    top = found["top1"]
    say(f"it is right on {top['value']:.1%} ({top['low']:.1%} to {top['high']:.1%}) of {found['n']:,} test pictures")
    return [out]
