"""Options that several commands share, and those whose texts are long."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[str, typer.Argument(help="The model's address.", show_default=False)]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the run that is there.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run that is there.")]
Weights = Annotated[Path | None, typer.Option(help="A safetensors file for the model.")]
Pictures = Annotated[Path, typer.Option(help="Real pictures (parquet or folder).", show_default=False)]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps.")]
Judges = Annotated[list[str] | None, typer.Option(help="A model that judges; repeatable.")]
