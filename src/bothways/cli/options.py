"""Options that several commands share, and those whose texts are long."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bothways.tasks.generate.config import DEFAULT_RECIPE, DEFAULT_UNCONDITIONAL, described


def tuned(name: str, *flags: str, task: str | None = None) -> Any:
    """An option that overrides one setting of the recipe, that of a task where it is one of a task's command."""
    return typer.Option(*flags, help=described(name, task).replace("[", r"\["), show_default=False)


Model = Annotated[str, typer.Argument(help="The model's address.", show_default=False)]
ModelOrNone = Annotated[
    str | None, typer.Argument(help="The model's address; left out where --score and --condition say all.")
]
Classes = Annotated[
    list[str] | None, typer.Option("--class", help="Names or numbers, one or several.", show_default=False)
]
Prompts = Annotated[
    list[str] | None,
    typer.Option(
        "--prompt",
        help="Words, for a model that reads text, with a signed weight after a colon if it is not 1; repeatable.",
        show_default=False,
    ),
]
Layer = Annotated[str | None, typer.Option(help="A layer of the model, or --channel of it, to be excited.")]
Channels = Annotated[list[int] | None, typer.Option("--channel", help="Of --layer, one or several.")]
Photo = Annotated[Path, typer.Argument(help="An image file, or a folder or parquet of them.", show_default=False)]
Mask = Annotated[
    Path | None, typer.Option(help="An image of the photo's size, white where it may change.", show_default=False)
]
BoxOption = Annotated[
    tuple[int, int, int, int] | None,
    typer.Option("--box", metavar="LEFT TOP RIGHT BOTTOM", help="Pixels in place of a mask.", show_default=False),
]
Size = Annotated[
    int | None,
    typer.Option(help=r"Pixels of the photo's shorter side. \[default: its own]", min=1, show_default=False),
]
RecipeOfTask = Annotated[
    str | None,
    typer.Option("--recipe", help=r"A recipe or a .toml file. \[default: that of the command's name]"),
]
Out = Annotated[Path, typer.Option(help="The run folder.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run that is there.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run that is there.")]
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
