"""Commands that change a photo or start from one: ``edit``, ``inpaint``, ``style``, ``invert`` and ``accentuate``."""

from __future__ import annotations

from collections.abc import Callable
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from bothways.cli.entry import app
from bothways.cli.options import (
    BoxOption,
    Change,
    Classes,
    Condition,
    DryRun,
    Judges,
    Mask,
    Model,
    Only,
    Overwrite,
    Photo,
    PicturesOrStatistics,
    Prompts,
    RecipeOfTask,
    Resume,
    Score,
    Size,
    Weights,
    tuned,
)
from bothways.cli.show import finish
from bothways.tasks.generate.config import spoken_changes

KEPT = (
    "What a mask or a box keeps comes back bit for bit. A photo keeps its own size; the model sees it at the model's."
)
SETTINGS = {"n": int, "steps": int, "seed": int, "batch": int, "dtype": str, "device": str}  # as options, with defaults
COMMON: dict[str, Any] = {
    "recipe": RecipeOfTask,
    "size": Size,
    "change": Change,
    "score": Score,
    "condition": Condition,
    "judge": Judges,
    "weights": Weights,
    "data": PicturesOrStatistics,
    "only": Only,
}
SWITCHES = {"overwrite": Overwrite, "resume": Resume, "dry_run": DryRun}


def task(name: str, text: str, *examples: str) -> Callable[[Callable[..., dict[str, Any]]], None]:
    """Make a command of a function that says, from its own options, what ``prepare`` is given beside the common."""

    def add(function: Callable[..., dict[str, Any]]) -> None:
        hints = get_type_hints(function, include_extras=True)
        own = [p.replace(annotation=hints[p.name]) for p in signature(function).parameters.values()]
        flags = {key: (f"--{key}", "-n") if key == "n" else (f"--{key}",) for key in SETTINGS}
        kinds = {key: Annotated[kind | None, tuned(key, *flags[key], task=name)] for key, kind in SETTINGS.items()}
        place = Annotated[Path, typer.Option(help="The run folder.")]
        shared: list[tuple[str, Any, Any]] = [(key, kind, None) for key, kind in (kinds | COMMON).items()]
        shared += [("out", place, Path(f"runs/{name}")), *((key, kind, False) for key, kind in SWITCHES.items())]
        rest = [
            Parameter(key, Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=kind)
            for key, kind, default in shared
        ]

        def command(**given: Any) -> None:
            from bothways.tasks.generate.run import prepare

            common = {key: given.pop(key) for key, _, _ in shared}
            out, dry_run, change = (common.pop(key) for key in ("out", "dry_run", "change"))
            common |= {
                "recipe": common["recipe"] or name,
                "judges": common.pop("judge"),
                "score": common["score"] or (),
                "condition": common["condition"] or (),
            }
            asked = function(**given) | spoken_changes(change or [])
            finish(prepare(**common | asked, out=None if dry_run else out), out, dry_run)

        command.__signature__ = Signature([*own, *rest])  # type: ignore[attr-defined]
        command.__annotations__ = {p.name: p.annotation for p in (*own, *rest)}
        lines = "\n\n".join(f"  bothways {name} {example}" for example in examples)
        app.command(name, help=f"{text}\n\n[bold]Examples[/bold]\n\n{lines}")(command)

    return add


@task(
    "edit",
    f"Change a photo towards a class or words.\n\n{KEPT} Words may draw what not everyone wants to see.",
    "bundled:cifar10-resnet photo.png --class frog --strength 1.5",
    "clip:ViT-B/32 photo.jpg --prompt 'a cat with sunglasses' --box 40 20 180 90",
)
def edit(
    model: Model,
    photo: Photo,
    classes: Classes = None,
    prompt: Prompts = None,
    mask: Mask = None,
    box: BoxOption = None,
    strength: Annotated[float | None, tuned("strength", "--strength", task="edit")] = None,
) -> dict[str, Any]:
    from bothways.tasks.photos.run import needs_subject

    needs_subject(classes, prompt)
    asked = {"classes": classes or None, "prompts": prompt, "strength": strength}
    return {"model": model, "photo": photo, "mask": mask, "box": box, **asked}


@task(
    "inpaint",
    f"Fill a hole in a photo.\n\n{KEPT} With --recipe edit, --class or --prompt say what is to be in the hole.",
    "bundled:cifar10-resnet photo.png --box 8 8 20 20",
    "bundled:cifar10-resnet photos/ --mask hole.png --recipe edit --class ship",
)
def inpaint(
    model: Model,
    photo: Photo,
    mask: Mask = None,
    box: BoxOption = None,
    classes: Classes = None,
    prompt: Prompts = None,
) -> dict[str, Any]:
    from bothways.tasks.photos.run import needs_hole

    needs_hole(mask, box)
    return {"model": model, "photo": photo, "mask": mask, "box": box, "classes": classes or None, "prompts": prompt}


@task(
    "style",
    "A photo in the style of another picture: the channel statistics of one, the content of the other.",
    "examples/squeezenet.py:build photo.jpg painting.jpg --size 224",
)
def style(
    model: Model,
    photo: Photo,
    painting: Annotated[Path, typer.Argument(metavar="STYLE", help="The picture whose style is taken.")],
) -> dict[str, Any]:
    return {"model": model, "photo": photo, "style": painting}


@task(
    "invert",
    "What a model keeps of a photo: a picture, from grey, with the same embedding.",
    "bundled:cifar10-attention photo.png --n 4",
    "examples/squeezenet.py:build photo.jpg --size 224 --set embedding_layer=outputs",
)
def invert(model: Model, photo: Photo) -> dict[str, Any]:
    return {"model": model, "photo": photo}


@task(
    "accentuate",
    "A photo with more of what speaks for a class; its own early activations are held.",
    "bundled:cifar10-resnet photo.png",
    "examples/squeezenet.py:build photo.jpg --class 107 --size 224",
)
def accentuate(
    model: Model,
    photo: Photo,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", help=r"Names or numbers. \[default: what the model finds]", show_default=False),
    ] = None,
    prompt: Prompts = None,
    strength: Annotated[float | None, tuned("strength", "--strength", task="accentuate")] = None,
) -> dict[str, Any]:
    from bothways.tasks.generate.asked import TOP_CLASS

    asked = {"classes": classes or (None if prompt else TOP_CLASS), "prompts": prompt, "strength": strength}
    return {"model": model, "photo": photo, **asked}
