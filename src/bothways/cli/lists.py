"""Commands that list what is available: ``models``, ``layers``, ``recipes`` and ``registry``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from bothways import registry
from bothways.cli.entry import app
from bothways.cli.show import console, printable, say
from bothways.types import UserError


@app.command(help="List the bundled models and flows with their accuracy, the U-Net sizes, and the kinds of address.")
def models() -> None:
    from bothways.models.cards import addresses, cards, classifier_cards, flow_addresses, flow_cards, unets

    table = Table(Column("address", no_wrap=True), "network", "parameters", Column("accuracy (95 %)", no_wrap=True))
    for facts in cards():
        low, high = facts["accuracy_interval"]
        reached = f"{facts['accuracy']:.1%} ({low:.1%}-{high:.1%})"
        row = (f"bundled:{facts['name']}", facts["network"]["name"], f"{facts['parameters']:,}", reached)
        table.add_row(*row)
        table.caption = f"{facts['accuracy_on']}; {facts['spec']['licence']}"
    console.print(table)
    made = Table(
        Column("flow classifier", no_wrap=True), "reads", "parameters", Column("accuracy (95 %)", no_wrap=True)
    )
    for facts in classifier_cards():
        low, high = facts["accuracy_interval"]
        reached = f"{facts['accuracy']:.1%} ({low:.1%}-{high:.1%})"
        made.add_row(f"bundled:{facts['name']}", facts["features"]["kind"], f"{facts['parameters']:,}", reached)
    if made.rows:
        console.print(made)
    flows = Table(Column("flow", no_wrap=True), "pictures", "path", "parameters")
    for facts in flow_cards():
        spec = facts["spec"]
        flows.add_row(f"bundled:{facts['name']}", str(spec["size"]), spec["path"], f"{facts['parameters']:,}")
    if flows.rows:
        console.print(flows)
    sizes = Table(Column("U-Net of a flow", no_wrap=True), Column("million parameters", justify="right"), "description")
    for name, count, what in unets():
        sizes.add_row(name, f"{count / 1e6:.2f}", what)
    console.print(sizes)
    for title, kinds in (("model", addresses()), ("flow", flow_addresses())):
        say(f"Addresses of a {title}, by example:")
        for example, what, install in kinds:
            say(f"  {example:36}  {what}{install and f'; first type: {install}'}")


LAYERS_HELP = """
List the layers of a model: the names that --layer takes, what each is, and the shape of what it gives for one picture.

NAME:input is what enters a layer, NAME:first the first of its tokens (CLS). A line below the table says which layer the
features of the model are.

Examples:

  bothways layers bundled:cifar10-resnet

  bothways layers my.py:build --weights my.safetensors --text block --json
"""


@app.command("layers", help=LAYERS_HELP)
def list_layers(
    model: Annotated[str, typer.Argument(help="Address of the model (see bothways models).", show_default=False)],
    weights: Annotated[str | None, typer.Option(help="Safetensors file of weights for the model.")] = None,
    text: Annotated[str, typer.Option(help="Only layers whose name or kind holds this text.")] = "",
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print the rows as JSON and nothing else.")
    ] = False,
) -> None:
    from bothways.models.layers_of import layers
    from bothways.models.loader import load_model

    loaded = load_model(model, weights=weights)
    rows = [row for row in layers(loaded) if text.casefold() in f"{row.name} {row.kind}".casefold()]
    if as_json:
        typer.echo(json.dumps([{**asdict(row), "channels": row.channels} for row in rows]))
        return
    table = Table(Column("layer", overflow="fold"), "kind", "gives", Column("channels", justify="right"), "parameters")
    for row in rows:
        shape = " x ".join(map(str, row.shape)) or "-"
        table.add_row(
            escape(printable(row.name)),
            escape(printable(row.kind)),
            shape,
            str(row.channels or "-"),
            f"{row.parameters:,}",
        )
    console.print(table)
    drawn = [row for row in rows if row.channels]
    say(f"features: {loaded.feature()}")
    if drawn:
        say(f"bothways generate {loaded.typed} --layer {drawn[len(drawn) // 2].name} --channel 0 1 2")
    else:
        say(f"no layer of {model} has {text!r} in its name or kind" if text else "no layer gives what can be drawn")


RECIPES_HELP = """
List the recipes for drawing and training, or print one of them.

Those of paper/ have the settings, the numbers and the cost of a published table (see bothways plan).
"""


@app.command("recipes", help=RECIPES_HELP)
def list_recipes(
    name: Annotated[str | None, typer.Argument(help="The recipe to print.", show_default=False)] = None,
) -> None:
    from bothways.cli.commands import config_of
    from bothways.tasks.recipes import PAPER, read_recipe, recipe_file, recipes

    tasks = {config_of(task).recipe_task: task for task in reversed(registry.names("task"))}
    if name is not None:
        other = "pretrain" if name.startswith(f"{PAPER}/") else "generate"
        task = next((task for task in tasks if task and name in recipes(task) | recipes(task, PAPER)), other)
        read_recipe(name, task)  # raises UserError with the nearest name if unknown
        for line in recipe_file(name).read_text(encoding="utf-8").rstrip().splitlines():
            say(line)
        return
    for task in (task for task in tasks if task):
        table = Table("name", "description", title=f"bothways {task}", title_justify="left")
        for recipe, text in (recipes(task) | recipes(task, PAPER)).items():
            table.add_row(recipe, text)
        console.print(table)


REGISTRY_HELP = """
List the registry: objectives, views, canvases, schedules, solvers, paths, couplings, heads, judges and tasks.

Wherever a name is accepted, PATH.py:NAME or a Python object of your own is accepted too.
"""


@app.command("registry", help=REGISTRY_HELP + "\n\nExample:\n\n  bothways registry objective")
def list_registry(
    kind: Annotated[str | None, typer.Argument(help="The kind to list; default all.", show_default=False)] = None,
) -> None:
    if kind is not None and kind not in registry.PLACES:
        raise UserError(f"unknown kind {kind!r}; {registry.nearest(kind, registry.PLACES)}")
    for one in [kind] if kind else registry.PLACES:
        names, files = Column("name", no_wrap=True), Column("declared in", overflow="fold")
        table = Table(names, "description", "paper", files, title=one, title_justify="left")
        for name, entry in registry.entries(one).items():
            table.add_row(name, escape(entry.help), escape(entry.paper), entry.module.removeprefix("bothways."))
        console.print(table)
