"""Commands that say what there is: ``models`` and ``recipes``."""

from __future__ import annotations

from rich.table import Column, Table

from bothways.cli.entry import app
from bothways.cli.show import console, say
from bothways.tasks.recipes import recipes


@app.command(help="The bundled models and flows, what they reached, the sizes of U-Nets, and the kinds of address.")
def models() -> None:
    from bothways.models.listing import addresses, cards, classifier_cards, flow_addresses, flow_cards, unets

    table = Table(Column("address", no_wrap=True), "network", "parameters", Column("accuracy (95 %)", no_wrap=True))
    for facts in cards():
        low, high = facts["accuracy_interval"]
        reached = f"{facts['accuracy']:.1%} ({low:.1%}-{high:.1%})"
        row = (f"bundled:{facts['name']}", facts["network"]["name"], f"{facts['parameters']:,}", reached)
        table.add_row(*row)
        table.caption = f"{facts['accuracy_on']}; {facts['spec']['licence']}"
    console.print(table)
    made = Table(
        Column("flow made a classifier", no_wrap=True), "reads", "parameters", Column("accuracy (95 %)", no_wrap=True)
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
    sizes = Table(Column("U-Net of a flow", no_wrap=True), Column("million parameters", justify="right"), "what it is")
    for name, count, what in unets():
        sizes.add_row(name, f"{count / 1e6:.2f}", what)
    console.print(sizes)
    for title, kinds in (("model", addresses()), ("flow", flow_addresses())):
        say(f"Addresses of a {title}, by example:")
        for example, what, install in kinds:
            say(f"  {example:36}  {what}{install and f'; first type: {install}'}")


@app.command("recipes", help="The recipes for drawing and for training.")
def list_recipes() -> None:
    titles = {
        "generate": "bothways generate --recipe",
        "train": "bothways train",
        "pretrain": "bothways pretrain",
        "finetune": "bothways finetune FLOW --recipe",
    }
    for task, command in titles.items():
        table = Table("name", "what it is", title=f"{command} NAME", title_justify="left")
        for name, text in recipes(task).items():
            table.add_row(name, text)
        console.print(table)
