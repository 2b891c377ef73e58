"""Commands that ask a classifier about pictures: ``evaluate`` and ``predict``."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from bothways.cli.entry import app
from bothways.cli.options import Device, Model, Overwrite, Resume, Weights
from bothways.cli.show import console, follow, say, write_page
from bothways.types import RunError

Precision = Annotated[str, typer.Option(help="float32, bf16, float16: of the network.")]

EVALUATE_HELP = """
How often a classifier is right, and how far its confidence can be believed, on clean and on corrupted pictures.

Labels are matched to the model's classes by name where both have names. "offline" corrupts the test pictures on the
fly and is NOT CIFAR-10-C; a folder is the published CIFAR-10-C or Tiny-ImageNet-C.

[bold]Examples[/bold]

  bothways evaluate bundled:cifar10-resnet --data path/to/cifar10
  bothways evaluate bundled:cifar10-resnet --data path/to/cifar10 --corruptions offline --limit 1000
  bothways evaluate runs/finetuned --data path/to/cifar10 --corruptions path/to/CIFAR-10-C --out runs/corrupted
"""


@app.command(help=EVALUATE_HELP)
def evaluate(
    model: Model,
    data: Annotated[
        str, typer.Option(help="Labelled pictures (see bothways pretrain); the test split, if any.", show_default=False)
    ],
    corruptions: Annotated[str | None, typer.Option(help="offline, or a folder.", show_default=False)] = None,
    limit: Annotated[int | None, typer.Option(help=r"Pictures at most, evenly spaced. \[default: all]")] = None,
    seed: Annotated[int, typer.Option(help="Of the noise of offline.", min=0)] = 0,
    batch: Annotated[int, typer.Option(help="Pictures at a time.")] = 100,
    weights: Weights = None,
    device: Device = "cpu",
    dtype: Precision = "float32",
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs/evaluation"),
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    from bothways.tasks.evaluate.run import prepare_evaluation

    work = prepare_evaluation(
        model, data, corruptions=corruptions, limit=limit, seed=seed, batch=batch, weights=weights, device=device,
        dtype=dtype, out=out, overwrite=overwrite, resume=resume,
    )  # fmt: skip
    total = work.steps(work.conditions)
    with closing(work.run()) as frames:
        follow(frames, total, "asking", total - work.steps(work.left))
    found = work.finish()
    _show(found)
    for name, why in list(found["skipped"].items())[:5]:
        say(f"left out, {name}: {why}")
    if found["skipped"]:
        say(f"{len(found['skipped'])} pictures left out")
    say(f"the report is {write_page([out], out / 'report.html')}")


def _show(found: dict[str, Any]) -> None:
    clean, corrupted = found["clean"], found.get("corruptions")
    title = f"corrupted: {escape(corrupted['set'])}" if corrupted else None
    table = Table("pictures", "accuracy (95 %)", "n", title=title, title_justify="left")
    table.add_row("clean", _share(clean["top1"]), f"{clean['n']:,}")
    if clean["top5"]:
        table.add_row("clean, top 5", _share(clean["top5"]), f"{clean['n']:,}")
    for row in corrupted["by_corruption"] if corrupted else []:
        table.add_row(escape(row["corruption"]), _share(row), f"{row['n']:,}")
    if corrupted:
        table.add_row("all corruptions", _share(corrupted["mean"]), f"{corrupted['mean']['n']:,}")
    console.print(table)
    say(f"calibration error {clean['ece']:.3f} (at most {clean['mce']:.3f}), NLL {clean['nll']:.3f}, on clean pictures")


def _share(row: dict[str, Any]) -> str:
    return f"{row['value']:.1%} ({row['low']:.1%}-{row['high']:.1%})"


PREDICT_HELP = """
The most probable classes of pictures, a line each.

[bold]Examples[/bold]

  bothways predict bundled:cifar10-resnet photo.png
  bothways predict timm:convnext_tiny.fb_in1k photos/ --top 3 --json > found.json
"""


@app.command(help=PREDICT_HELP)
def predict(
    model: Model,
    images: Annotated[list[Path], typer.Argument(help="Image files, or folders of them.", show_default=False)],
    top: Annotated[int, typer.Option(help="Classes of each.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list in place of lines.")] = False,
    batch: Annotated[int, typer.Option(help="Pictures at a time.")] = 32,
    weights: Weights = None,
    device: Device = "cpu",
    dtype: Precision = "float32",
) -> None:
    from bothways.tasks.predict.run import predictions

    found = []
    for each in predictions(model, images, top=top, batch=batch, weights=weights, device=device, dtype=dtype):
        found.append(each.as_dict())
        if not as_json:
            said = "; ".join(f"{answer.name} {answer.probability:.1%}" for answer in each.answers)
            say(f"{each.image}: {said or each.error}")
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False, indent=1))
    if all(each["error"] for each in found):
        raise RunError(f"none of {len(found)} pictures can be read; type image files, or a folder of them")
