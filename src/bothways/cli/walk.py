"""Commands that follow a flow: ``sample``, ``likelihood`` and ``diagnose``."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer

from bothways.cli.entry import app
from bothways.cli.options import Device, Overwrite, Resume
from bothways.cli.show import follow, say, write_page

FlowRun = Annotated[
    str, typer.Argument(metavar="FLOW", help="A run of bothways pretrain, or a flow's address.", show_default=False)
]
Precision = Annotated[str, typer.Option(help="Precision of the network: float32, bf16, float16.")]

PicturesToWalk = Annotated[
    str, typer.Option(help="Pictures (see bothways pretrain -h); their test split, if any.", show_default=False)
]

LIKELIHOOD_HELP = """
How likely a flow holds pictures, in bits per dimension: lower is likelier.

The divergence is the whole trace up to 256 values a picture, else estimated with probes of random signs. Fewer than 50
steps are optimistic.

[bold]Examples[/bold]

  bothways likelihood runs/digits --data digits
  bothways likelihood bundled:cifar10-flow --data path/to/cifar10 --limit 1000 --probes 4
  bothways likelihood runs/digits --data digits --solver dopri5
"""


@app.command(help=LIKELIHOOD_HELP)
def likelihood(
    flow: FlowRun,
    data: PicturesToWalk,
    limit: Annotated[int, typer.Option(help="Pictures at most, evenly spaced.")] = 500,
    solver: Annotated[str, typer.Option(help="euler, midpoint, heun, rk4; dopri5 chooses its own steps.")] = (
        "midpoint"
    ),
    steps: Annotated[int, typer.Option(help="Steps from picture to noise.")] = 50,
    divergence: Annotated[
        str, typer.Option(help="exact, hutchinson (estimated), or auto: by the size of a picture.")
    ] = "auto",
    probes: Annotated[int, typer.Option(help="Random directions at every step, for hutchinson.")] = 1,
    draws: Annotated[
        int,
        typer.Option(
            help="How often a picture is measured, each time with other fractions for those that rounding took."
        ),
    ] = 1,
    tolerance: Annotated[float, typer.Option(help="The error that dopri5 may make.")] = 1e-5,
    seed: Annotated[int, typer.Option(help="The same seed, the same numbers.", min=0)] = 0,
    batch: Annotated[int, typer.Option(help="Pictures at a time.")] = 50,
    device: Device = "cpu",
    dtype: Precision = "float32",
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs/likelihood"),
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    from bothways.tasks.diagnose.run import prepare_likelihood

    measuring = prepare_likelihood(
        flow, data, limit=limit, solver=solver, steps=steps, divergence=divergence, probes=probes, draws=draws,
        tolerance=tolerance, seed=seed, batch=batch, device=device, dtype=dtype, out=out, overwrite=overwrite,
        resume=resume,
    )  # fmt: skip
    found = _measured(measuring)["likelihood"]
    page = write_page([out], out / "report.html")
    interval = f" ({found['low']:.3f} to {found['high']:.3f})" if found["n"] > 1 else ""
    cost = f"{found['n']} pictures, {found['calls']} network calls each"
    say(f"{found['bits_per_dim']:.3f} bits/dim{interval} over {cost}; the report in {page}")


DIAGNOSE_HELP = """
What a flow does to pictures on the way to noise: how straight its paths are, what is lost there and back, how much it
stretches, what a noisy picture still tells; and strips of pictures becoming noise.

[bold]Examples[/bold]

  bothways diagnose runs/digits --data digits
  bothways diagnose bundled:cifar10-flow --data path/to/cifar10 --n 32 --solver heun
"""


@app.command(help=DIAGNOSE_HELP)
def diagnose(
    flow: FlowRun,
    data: PicturesToWalk,
    n: Annotated[int, typer.Option("--n", "-n", help="Pictures.")] = 64,
    steps: Annotated[int, typer.Option(help="Steps of the whole way; the round trip takes 5 to 50.")] = 50,
    solver: Annotated[str, typer.Option(help="For the round trip: euler, midpoint, heun, rk4, reversible-heun.")] = (
        "euler"
    ),
    seed: Annotated[int, typer.Option(help="The same seed, the same numbers.", min=0)] = 0,
    device: Device = "cpu",
    dtype: Precision = "float32",
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs/diagnosis"),
    overwrite: Overwrite = False,
    resume: Resume = False,
) -> None:
    from bothways.tasks.diagnose.run import prepare_diagnose

    measuring = prepare_diagnose(
        flow, data, n=n, steps=steps, solver=solver, seed=seed, device=device, dtype=dtype, out=out,
        overwrite=overwrite, resume=resume,
    )  # fmt: skip
    found = _measured(measuring)
    page, straight = write_page([out], out / "report.html"), found["straightness"]
    say(f"straightness {straight['total']:.3g} in total, {straight['per_dim']:.3g} per dimension (0 is straight)")
    say(f"the report with its plots is {page}")


def _measured(measuring: Any) -> dict[str, Any]:
    done = len(measuring.parts) - len(measuring.left)
    with closing(measuring.run()) as frames:
        follow(frames, len(measuring.parts), "measuring", done)
    return measuring.finish()
