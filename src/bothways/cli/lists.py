"""Commands that say what there is: ``models`` and ``recipes``."""

from __future__ import annotations

from rich.table import Column, Table

from bothways.cli.entry import app
from bothways.cli.show import console, say
from bothways.recipe.settings import recipes


@app.command(help="The bundled models, what they reached, and the kinds of address.")
def models() -> None:
    from bothways.recipe.demo import addresses, cards

    table = Table(Column("address", no_wrap=True), "network", "parameters", Column("accuracy (95 %)", no_wrap=True))
    for facts in cards():
        low, high = facts["accuracy_interval"]
        reached = f"{facts['accuracy']:.1%} ({low:.1%}-{high:.1%})"
        row = (f"bundled:{facts['name']}", facts["network"]["name"], f"{facts['parameters']:,}", reached)
        table.add_row(*row)
        table.caption = f"{facts['accuracy_on']}; {facts['spec']['licence']}"
    console.print(table)
    say("Kinds of address, by example:")
    for example, what, install in addresses():
        say(f"  {example:36}  {what}{install and f'; first type: {install}'}")


@app.command("recipes", help="The recipes for drawing and for training.")
def list_recipes() -> None:
    for task, title in (("draw", "bothways generate --recipe NAME"), ("train", "bothways train NAME")):
        table = Table("name", "what it is", title=title, title_justify="left")
        for name, text in recipes(task).items():
            table.add_row(name, text)
        console.print(table)
