"""The command that audits a classifier: ``explain``."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from bothways.cli.entry import app
from bothways.cli.options import Device, Judges, Model, Overwrite, Resume, Weights
from bothways.cli.show import console, errors, follow, say
from bothways.types import RunError

PAIRS_SHOWN = 8
EXPLAIN_HELP = """
Audit a classifier: what its portraits of a class share that real pictures do not, and what else is seen in them.

Portraits of every class are drawn from several seeds by two recipes, and held to labelled real pictures. The page shows
them with the parts that carry the evidence, the classes whose portraits agree on something the data lack (a mark, a
tint, a background), and pairs of classes that are seen in one another. The data must not hold the shortcut.

[bold]Examples[/bold]

  bothways explain bundled:cifar10-resnet --data path/to/cifar10
  bothways explain my.py:build --classes tench 'great white shark' goldfish --data photos/ --n 4 --out runs/fish
  bothways explain my.py:build --data photos/ --json --fail-on 'consistency>2' > audit.json
"""


@app.command(help=EXPLAIN_HELP)
def explain(
    model: Model,
    data: Annotated[str, typer.Option(help="Labelled real pictures; the test split, if any.", show_default=False)],
    classes: Annotated[
        list[str] | None,
        typer.Option("--classes", help=r"Names or numbers, three or more. \[default: all of a model of up to 20]"),
    ] = None,
    n: Annotated[int, typer.Option("--n", "-n", help="Portraits of each class and recipe.")] = 6,
    real: Annotated[int, typer.Option(help="Real pictures of each class at most.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the portraits.", min=0)] = 0,
    steps: Annotated[int | None, typer.Option(help=r"Of each portrait. \[default: the recipes' own]", min=1)] = None,
    judge: Judges = None,
    weights: Weights = None,
    device: Device = "cpu",
    dtype: Annotated[str, typer.Option(help="float32, bf16, float16: of the network.")] = "float32",
    hide_data: Annotated[bool, typer.Option("--hide-data", help="Leave the data's pictures out of the page.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was measured as JSON, and nothing else.")] = False,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(help="consistency>X or entanglement>X: exit code 1 where a class exceeds it; repeatable."),
    ] = None,
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs/audit"),
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    from bothways.tasks.explain.limits import beyond, read_limits
    from bothways.tasks.explain.run import prepare_audit
    from bothways.tasks.explain.section import write_audit

    limits = read_limits(fail_on or ())
    audit = prepare_audit(
        model, classes, data=data, n=n, real=real, seed=seed, steps=steps, judges=judge, weights=weights,
        device=device, dtype=dtype, out=out, overwrite=overwrite, resume=resume,
    )  # fmt: skip
    with closing(audit.run()) as frames:
        follow(frames, audit.steps, "drawing", to=errors if as_json else console)
    found = audit.finish()
    page = write_audit(out, hide_data=hide_data)
    if as_json:
        typer.echo(json.dumps(found, ensure_ascii=False, indent=1))
    else:
        _show(found)
        say(f"the page is {page}")
    exceeded = beyond(found, limits)
    if exceeded:
        raise RunError("; ".join(exceeded) + f"; see {page}")


def _show(found: dict[str, Any]) -> None:
    table = Table("class", "consistency (95 %)", "", "real pictures named right", title="worst first")
    table.title_justify = "left"
    for own in sorted(found["classes"], key=lambda own: -own["consistency"]["value"]):
        facts, right = own["consistency"], own["accuracy"]
        bounds = f" ({facts['low']:.2f}-{facts['high']:.2f})" if facts["low"] is not None else ""
        flag = "worth a look" if own["worth_a_look"] else ""
        table.add_row(escape(own["name"]), f"{facts['value']:.2f}{bounds}", flag, f"{right['value']:.0%}")
    console.print(table)
    pairs = [(viewer, pair) for viewer in found["entanglement"] for pair in viewer["pairs"]]
    for viewer, pair in sorted(pairs, key=lambda both: both[1]["p"])[:PAIRS_SHOWN]:
        by = "the model itself" if viewer["own"] else viewer["viewer"]
        share, real = pair["share"], pair["real_share"]
        say(f"{pair['seen']} in {share:.0%} of portraits of {pair['class']} ({real:.0%} of real ones), says {by}")
