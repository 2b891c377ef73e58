"""Commands that draw: ``generate`` and ``demo``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from bothways.cli.entry import app
from bothways.cli.options import (
    Change,
    Channels,
    Classes,
    Condition,
    DryRun,
    Judges,
    Layer,
    ModelOrNone,
    Only,
    Out,
    Overwrite,
    PicturesOrStatistics,
    Prompts,
    Recipe,
    Resume,
    Score,
    Unconditional,
    Weights,
    tuned,
)
from bothways.cli.show import draw, finish, follow, say, show_verdicts, write_page
from bothways.tasks.generate.config import spoken_changes
from bothways.types import UserError

GENERATE_HELP = r"""
Draw what a model knows: of its classes, or of pictures as such.

MODEL is bundled:NAME, timm:NAME, hf:REPO_OR_FOLDER or another kind (see [bold]bothways models[/bold]), the card that
[bold]bothways train[/bold] wrote, or PATH.py:FUNCTION: your own file, whose function returns the module and its
bothways.ModelSpec.

Models learn from what the web shows: words and pictures may draw what not everyone wants to see.

[bold]Examples[/bold]

  bothways generate bundled:cifar10-resnet --class frog ship --n 8
  bothways generate bundled:cifar10-resnet --class 3 --recipe das --steps 200 --seed 7
  bothways generate bundled:cifar10-resnet --unconditional --n 50
  bothways generate bundled:cifar10-resnet --unconditional --recipe dsf-paper --set clip_by=norm
  bothways generate --score bundled:cifar10-resnet --condition bundled:cifar10-attention --class deer
  bothways generate examples/squeezenet.py:build --class 107 1 130 --recipe das --n 1
  bothways generate timm:convnext_tiny.fb_in1k --class goldfish --recipe das
  bothways generate clip:ViT-B/32 --prompt "a jellyfish" --prompt "multiple exposure:-0.3"
  bothways generate bundled:cifar10-resnet --layer stages.2 --channel 3 17
  bothways generate my.py:build --weights my.safetensors --class 0 --data photos/ --judge other.py:build
"""


@app.command(help=GENERATE_HELP)
def generate(
    model: ModelOrNone = None,
    classes: Classes = None,
    prompt: Prompts = None,
    layer: Layer = None,
    channel: Channels = None,
    unconditional: Unconditional = False,
    score: Score = None,
    condition: Condition = None,
    recipe: Recipe = None,
    n: Annotated[int | None, tuned("n", "--n", "-n")] = None,
    steps: Annotated[int | None, tuned("steps", "--steps")] = None,
    size: Annotated[int | None, tuned("size", "--size")] = None,
    copies: Annotated[int | None, tuned("copies", "--copies")] = None,
    jitter: Annotated[float | None, tuned("jitter", "--jitter")] = None,
    noise: Annotated[float | None, tuned("noise", "--noise")] = None,
    seed: Annotated[int | None, tuned("seed", "--seed")] = None,
    start: Annotated[str | None, tuned("start", "--start")] = None,
    schedule: Annotated[str | None, tuned("schedule", "--schedule")] = None,
    statistics: Annotated[str | None, tuned("statistics", "--statistics")] = None,
    group: Annotated[int | None, tuned("group", "--group")] = None,
    batch: Annotated[int | None, tuned("batch", "--batch")] = None,
    dtype: Annotated[str | None, tuned("dtype", "--dtype")] = None,
    device: Annotated[str | None, tuned("device", "--device")] = None,
    change: Change = None,
    judge: Judges = None,
    weights: Weights = None,
    data: PicturesOrStatistics = None,
    only: Only = None,
    out: Out = Path("runs/latest"),
    overwrite: Overwrite = False,
    resume: Resume = False,
    dry_run: DryRun = False,
) -> None:
    from bothways.tasks.generate.run import prepare

    if bool(classes or prompt or layer) == unconditional:
        raise UserError(
            "type --class NAME (one or several), --prompt TEXT or --layer NAME for pictures of these, "
            "or --unconditional for any; not both"
        )
    given: dict[str, Any] = {"n": n, "steps": steps, "size": size, "copies": copies, "jitter": jitter, "noise": noise}
    given |= {"seed": seed, "statistics": statistics, "group": group, "batch": batch, "dtype": dtype, "device": device}
    given |= {"start": start, "schedule": schedule}
    drawing = prepare(
        model, classes or None, recipe, prompts=prompt, layer=layer, channels=channel, score=score or (),
        condition=condition or (), weights=weights, judges=judge,
        data=data, only=only, overwrite=overwrite, resume=resume, out=None if dry_run else out,
        **given | spoken_changes(change or []),
    )  # fmt: skip
    finish(drawing, out, dry_run)


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
    (trip,) = walk.finish()["round_trip"]
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
        follow(frames, test.steps(test.conditions), "asking about test pictures")
    found = test.finish()["clean"]
    top = found["top1"]
    say(f"it is right on {top['value']:.1%} ({top['low']:.1%} to {top['high']:.1%}) of {found['n']:,} test pictures")
    return [out]
