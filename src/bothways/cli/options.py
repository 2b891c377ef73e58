"""Options that several commands share, and those whose texts are long."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bothways.recipe.settings import DEFAULT_RECIPE, DEFAULT_UNCONDITIONAL, described


def tuned(name: str, *flags: str) -> Any:
    """An option that overrides one setting of the recipe."""
    return typer.Option(*flags, help=described(name).replace("[", r"\["), show_default=False)


Model = Annotated[str, typer.Argument(help="The model's address.", show_default=False)]
ModelOrNone = Annotated[
    str | None, typer.Argument(help="The model's address; left out where --score and --condition say all.")
]
Classes = Annotated[
    list[str] | None, typer.Option("--class", help="Names or numbers, one or several.", show_default=False)
]
Unconditional = Annotated[bool, typer.Option("--unconditional", help="Draw pictures of no class.")]
Score = Annotated[list[str] | None, typer.Option(help=r"A model that says what is real; repeatable. \[default: MODEL]")]
Condition = Annotated[
    list[str] | None, typer.Option(help=r"A model that says which class; repeatable. \[default: MODEL]")
]
Recipe = Annotated[
    str | None,
    typer.Option(
        help="A recipe's name (see bothways recipes) or a .toml file. "
        rf"\[default: {DEFAULT_RECIPE}; {DEFAULT_UNCONDITIONAL} with --unconditional]"
    ),
]
Change = Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE: any other setting; --dry-run shows all.")]
Judges = Annotated[
    list[str] | None,
    typer.Option(
        help=r"A model that says what it sees; repeatable. \[default: the bundled ones with the same classes]"
    ),
]
Weights = Annotated[Path | None, typer.Option(help="A safetensors file for the model.")]
Pictures = Annotated[Path, typer.Option(help="Real pictures (parquet or folder).", show_default=False)]
PicturesOrStatistics = Annotated[
    Path | None,
    typer.Option(
        help="Real pictures (parquet or folder), for statistics and to compare with; or the file that "
        "bothways statistics wrote."
    ),
]
Only = Annotated[list[int] | None, typer.Option(help="Draw only this picture number of the run; repeatable.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, print the settings, draw nothing.")]
