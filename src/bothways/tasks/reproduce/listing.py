"""What --list shows: the tables and figures, and what each form needs and takes."""

from __future__ import annotations

from typing import Any

from bothways.tasks.reproduce import recipe as recipes


def listed(only: str | None = None) -> list[dict[str, Any]]:
    """A row a recipe and form, for --list: name, form, title, paper, where, needs, takes. only: one recipe's."""
    found = []
    for name in recipes.names() if only is None else [only]:
        recipe = recipes.read(name)
        for form in ("small", "full"):
            own = recipe.form(form)
            inputs = [f"--with {key}=..." for key in recipes.inputs_of(recipe, form)]
            needs = ", ".join([own.needs, *inputs] if own.needs else inputs) or "nothing more"
            row = {"name": name, "form": form, "title": recipe.title, "paper": recipe.paper, "where": recipe.where}
            found.append(
                row | ({"needs": "", "takes": own.absent} if own.absent else {"needs": needs, "takes": own.takes})
            )
    return found
