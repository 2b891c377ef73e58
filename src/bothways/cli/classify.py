"""Commands that make a flow a classifier: ``finetune``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from bothways.cli.entry import app
from bothways.cli.flow import first_alone_speaks
from bothways.cli.options import Device, Overwrite, Resume
from bothways.cli.show import console, follow, say, write_page
from bothways.tasks.finetune.config import DEFAULT_FINETUNING, described_finetuning

FINETUNE_HELP = """
Make a flow a classifier: pictures are walked towards noise, or the flow's own activations are read, and a head says
which class they are of.

It leaves classifier.json and classifier.safetensors, the loss of every step, the accuracy on pictures held out, and
report.html. In Python bothways.load_classifier(RUN) is a model like any other.

[bold]Examples[/bold]

  bothways finetune runs/digits --data digits --depth 0.5 --steps 5
  bothways finetune runs/flow --data path/to/pictures --kind activations --labels 500 --batch 50
  bothways finetune runs/flow --data path/to/pictures --fresh --out runs/control
"""


def _setting(name: str, *flags: str) -> Any:
    return typer.Option(*flags, help=described_finetuning(name).replace("[", r"\["), show_default=False)


Run = Annotated[
    str, typer.Argument(metavar="FLOW", help="A run of bothways pretrain, or a flow's address.", show_default=False)
]
Recipe = Annotated[str, typer.Option(help="prg-small, prg-activations, prg-paper, or a .toml file.")]
Workers = Annotated[int, typer.Option(help="Processes that make batches ahead of the steps.", min=0)]
SaveEvery = Annotated[int, typer.Option(help="Steps between two checkpoints.", min=1)]
Board = Annotated[bool, typer.Option("--tensorboard", help="Write RUN/tensorboard too.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, print the settings, train nothing.")]


@app.command(help=FINETUNE_HELP)
def finetune(
    flow: Run,
    data: Annotated[str, typer.Option(help="Labelled pictures (see bothways pretrain).", show_default=False)],
    recipe: Recipe = DEFAULT_FINETUNING,
    kind: Annotated[str | None, _setting("kind")] = None,
    depth: Annotated[float | None, _setting("depth")] = None,
    steps: Annotated[int | None, _setting("steps")] = None,
    solver: Annotated[str | None, _setting("solver")] = None,
    gradient: Annotated[str | None, _setting("gradient")] = None,
    layer: Annotated[str | None, _setting("layer")] = None,
    activation_depth: Annotated[float | None, _setting("activation_depth")] = None,
    noised: Annotated[bool | None, _setting("noised", "--noised/--clean")] = None,
    beta: Annotated[float | None, _setting("beta")] = None,
    flow_batch: Annotated[int | None, _setting("flow_batch")] = None,
    frozen: Annotated[bool | None, _setting("frozen", "--frozen/--no-frozen")] = None,
    fresh: Annotated[bool | None, _setting("fresh", "--fresh/--no-fresh")] = None,
    labels: Annotated[int | None, _setting("labels")] = None,
    validation: Annotated[int | None, _setting("validation")] = None,
    information: Annotated[int | None, _setting("information")] = None,
    epochs: Annotated[int | None, _setting("epochs")] = None,
    train_steps: Annotated[int | None, _setting("train_steps")] = None,
    batch: Annotated[int | None, _setting("batch")] = None,
    rate: Annotated[float | None, _setting("rate")] = None,
    layer_decay: Annotated[float | None, _setting("layer_decay")] = None,
    label_smoothing: Annotated[float | None, _setting("label_smoothing")] = None,
    bf16: Annotated[bool | None, _setting("bf16", "--bf16/--no-bf16")] = None,
    half: Annotated[bool | None, _setting("half", "--half/--no-half")] = None,
    seed: Annotated[int | None, _setting("seed")] = None,
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs/classifier"),
    resume: Resume = False,
    overwrite: Overwrite = False,
    device: Device = "cpu",
    workers: Workers = 1,
    save_every: SaveEvery = 500,
    tensorboard: Board = False,
    dry_run: DryRun = False,
) -> None:
    from bothways.tasks.finetune.run import begin_finetuning, prepare_finetuning

    with first_alone_speaks():
        plan = prepare_finetuning(
            flow, data, recipe, device=device, kind=kind, depth=depth, steps=steps, solver=solver, gradient=gradient,
            layer=layer, activation_depth=activation_depth, noised=noised, beta=beta, flow_batch=flow_batch,
            frozen=frozen, fresh=fresh, labels=labels, validation=validation, epochs=epochs, train_steps=train_steps,
            batch=batch, rate=rate, layer_decay=layer_decay, label_smoothing=label_smoothing, bf16=bf16, half=half,
            seed=seed, information=information,
        )  # fmt: skip
        if dry_run:
            console.print_json(data=plan.settings.model_dump())
            say(f"{plan.trained:,} parameters would be trained on {len(plan.train)} pictures; {out} is not touched")
            return
        training = begin_finetuning(
            plan, out, overwrite=overwrite, resume=resume, workers=workers, save_every=save_every,
            tensorboard=tensorboard,
        )  # fmt: skip
    _trained(plan, training, out)


def _trained(plan: Any, training: Any, out: Path) -> None:
    from bothways.tasks.finetune.run import conclude_finetuning

    with closing(training.run()) as frames:
        follow(frames, training.settings.steps, plan.before.name, training.state.step)
    done = conclude_finetuning(plan, training)
    if plan.processes.first:
        page, facts = write_page([out], out / "report.html"), done.folder.measures["classifier"]
        reached = f"{facts['accuracy']:.1%} ({facts['low']:.1%} to {facts['high']:.1%})"
        say(f"accuracy {reached} on {facts['n']} pictures held out")
        say(f"the flow's own loss on them is {facts['flow_matching']:.4g}; before, {facts['flow_matching_before']:.4g}")
        say(f"the classifier is {out / 'classifier.json'}, the report {page}")
