"""Commands that train and use flows: ``pretrain``."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from bothways.cli.entry import app
from bothways.cli.options import Device, Overwrite, Resume
from bothways.cli.show import console, errors, follow, say, write_page
from bothways.tasks.pretrain.config import DEFAULT_PRETRAINING, described_pretraining
from bothways.types import UserError

SECONDS_TO_SPEAK = 3.0
PRETRAIN_HELP = """
Train a flow between noise and pictures: the network learns the velocity of the paths from one to the other.

It leaves flow.json and flow.safetensors, pictures made of noise, the loss of every step, and report.html.

Pictures are digits or swiss-roll, for which nothing is downloaded; a folder of image files; a parquet file or a
folder of them; or hub:OWNER/NAME.

Stopped or killed at any moment, it goes on with --resume to the same weights.

[bold]Examples[/bold]

  bothways pretrain --data digits --out runs/digits
  bothways pretrain gvp --data photos/ --size 32 --steps 20000 --out runs/gvp
  bothways pretrain --data path/to/pictures --path linear --coupling sinkhorn --net unet-small --resume
  torchrun --nproc_per_node 2 -m bothways.cli pretrain --data path/to/pictures --device cuda --bf16
"""


def _setting(name: str, *flags: str) -> Any:
    return typer.Option(*flags, help=described_pretraining(name).replace("[", r"\["), show_default=False)


@contextmanager
def first_alone_speaks() -> Iterator[None]:
    """Of the processes that torchrun started only the first prints, and tells of a mistake, which all of them find."""
    console.quiet = errors.quiet = os.environ.get("RANK", "0") != "0"
    try:
        yield
    except UserError:
        if errors.quiet:
            time.sleep(SECONDS_TO_SPEAK)  # torchrun ends the first as soon as another has ended
        raise
    errors.quiet = False


@app.command(help=PRETRAIN_HELP)
def pretrain(
    data: Annotated[
        str, typer.Option(help="Pictures to learn from: digits, swiss-roll, a path, hub:NAME.", show_default=False)
    ],
    recipe: Annotated[
        str, typer.Argument(help="icfm, otcfm, gvp, cifar10-flow, or a .toml file (see bothways recipes).")
    ] = DEFAULT_PRETRAINING,
    path: Annotated[str | None, _setting("path")] = None,
    coupling: Annotated[str | None, _setting("coupling")] = None,
    net: Annotated[
        str | None,
        typer.Option(
            help="A U-Net: unet-tiny, unet-small, or a size of the papers: unet-s, unet-m, unet-64, unet-torchcfm. "
            r"\[default: unet-tiny up to 16 pixels, else unet-small]"
        ),
    ] = None,
    steps: Annotated[int | None, _setting("steps")] = None,
    epochs: Annotated[int | None, _setting("epochs")] = None,
    batch: Annotated[int | None, _setting("batch")] = None,
    rate: Annotated[float | None, _setting("rate")] = None,
    size: Annotated[int | None, _setting("size")] = None,
    validation: Annotated[int | None, _setting("validation")] = None,
    information: Annotated[int | None, _setting("information")] = None,
    seed: Annotated[int | None, _setting("seed")] = None,
    bf16: Annotated[bool | None, _setting("bf16", "--bf16/--no-bf16")] = None,
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs/flow"),
    resume: Resume = False,
    overwrite: Overwrite = False,
    device: Device = "cpu",
    workers: Annotated[int, typer.Option(help="Processes that make batches ahead of the steps.", min=0)] = 1,
    save_every: Annotated[int, typer.Option(help="Steps between two checkpoints.", min=1)] = 500,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write RUN/tensorboard too.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the settings, train nothing.")
    ] = False,
) -> None:
    from bothways.tasks.pretrain.run import begin, conclude, prepare_pretraining

    with first_alone_speaks():
        plan = prepare_pretraining(
            data, recipe, device=device, path=path, coupling=coupling, net=net, steps=steps, epochs=epochs, batch=batch,
            rate=rate, size=size, validation=validation, seed=seed, bf16=bf16, information=information,
        )  # fmt: skip
        if dry_run:
            console.print_json(data=plan.settings.model_dump())
            say(f"{plan.parameters:,} parameters would be trained on {len(plan.train)} pictures; {out} is not touched")
            return
        training = begin(
            plan, out, overwrite=overwrite, resume=resume, workers=workers, save_every=save_every,
            tensorboard=tensorboard,
        )  # fmt: skip
    with closing(training.run()) as frames:
        follow(frames, training.settings.steps, plan.flow.name, training.state.step)
    done = conclude(plan, training)
    if plan.processes.first:
        page, facts = write_page([out], out / "report.html"), done.folder.measures["flow"]
        loss, error = facts["validation_loss"], facts["validation_error"]
        say(f"loss {loss:.4g} +- {error:.2g} on {facts['validation_pictures']} pictures held out")
        say(f"the flow is {out / 'flow.json'}, what it makes of noise is in {out / 'images'}, the report in {page}")
