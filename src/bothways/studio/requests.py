"""The requests of the forms: a task with values of its Config."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bothways import registry
from bothways.configs import Config, leaves, nested, option_of
from bothways.numerics.draws import picture_seed
from bothways.reading import at_home, read_table, read_toml
from bothways.studio.files.places import refuse_files
from bothways.tasks.explain.config import REAL_AT_LEAST
from bothways.tasks.explain.run import AuditWork
from bothways.tasks.generate.drawing import Drawing
from bothways.tasks.photos.config import PhotoConfig
from bothways.tasks.photos.run import check as check_photo
from bothways.tasks.recipes import configure, parsed_changes
from bothways.tasks.resume import WORDS, prepare
from bothways.tasks.work import Where, Work
from bothways.types import UserError

MODELS = ("model", "flow")  # settings that are the address of one
COUNT_AT_MOST = 200  # pictures per target, each of which a page shows while it is drawn
CARDS = ("flow.json", "classifier.json")  # what bothways pretrain and finetune leave


@dataclass(frozen=True)
class Request:
    """A task and its settings by name. kind: the tab that shows it, and the prefix of its run folders."""

    kind: str
    task: str
    values: Mapping[str, Any]

    def __getstate__(self) -> dict[str, Any]:
        """Sent to the process that does it, with photos as arrays: tensors would go through memory that both share."""
        sent = {name: value.numpy() if isinstance(value, Tensor) else value for name, value in self.values.items()}
        return {**self.__dict__, "values": sent}

    def __setstate__(self, sent: dict[str, Any]) -> None:
        read = {n: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for n, v in sent["values"].items()}
        self.__dict__.update({**sent, "values": read})

    def config(self) -> Config:
        """The validated Config. Raises UserError for invalid settings, before a model is loaded."""
        found = configure(config_of(self.task), **self.values)
        if isinstance(found, PhotoConfig):
            check_photo(found)
        return found

    def check(self) -> None:
        """Raise UserError for what can be refused at once; what runs a user's own file is left to the process."""
        refuse_foreign(self.values)
        chosen = {name: value for name, value in self.values.items() if name not in MODELS}  # these are not read yet
        own = list(_read_files({"recipe": chosen.get("recipe")}))
        for file, tables in own:
            refuse_files(tables, str(file))
        read = [chosen, *(tables for _, tables in own)]
        if not any(registry.addresses_in(read, without=WORDS)):
            self.config()

    def prepare(self, out: Path) -> Work:
        """Prepare the run. Raises UserError if the task cannot run with these settings."""
        return prepare(self.config(), Where(out), nested(config_of(self.task), self.values))

    def captions(self, work: Any) -> list[dict[int, str]]:
        """For each batch, {picture number: caption}."""
        if isinstance(work, AuditWork):
            return list(_portraits(work))
        if not isinstance(work, Drawing):
            return [{0: "walking"}] * 2
        seed = work.config.seed
        return [{number: _caption(work, number, seed) for number in batch} for batch in work.batches()]

    def again(self) -> Request:
        """The same request with the next seed."""
        return replace(self, values={**self.values, "seed": self.values["seed"] + 1})


def _portraits(work: AuditWork) -> Iterator[dict[int, str]]:
    """The batches of the portraits, the recipes one after the other."""
    first = 0
    for recipe, drawing in work.drawings.items():
        for batch in drawing.batches():
            yield {first + number: f"{_caption(drawing, number, work.config.seed)}, {recipe}" for number in batch}
        first += len(drawing.request)


def _caption(work: Drawing, number: int, seed: int) -> str:
    name = work.request.name(number, work.model)
    return f"{name + ', ' if name else ''}seed {picture_seed(seed, number)}"


def config_of(task: str) -> type[Config]:
    """The Config of a task."""
    return registry.find("task", task).factory


def description(task: str, name: str) -> str:
    """The description of a setting in the Config of a task, as help in a form. name: dotted."""
    text = next(field.description or "" for place, field in leaves(config_of(task)) if ".".join(place) == name)
    return text[:1].upper() + text[1:]


def photo_tasks() -> dict[str, str]:
    """{label in the form: task} of all tasks on a photo."""
    room = PhotoConfig.__module__
    return {name.capitalize(): name for name, entry in registry.entries("task").items() if entry.module == room}


def takes(task: str, name: str) -> bool:
    """Whether a task on a photo takes this setting."""
    config = config_of(task)
    typed = not option_of(config.model_fields[name], "live")
    return typed and (name != "classes" or "classes" in config.positional or takes(task, "mask"))


def draw_request(
    model: str | None, classes: Sequence[str], prompts: str | None, recipe: str | None, n: float | None,
    steps: float | None, seed: float | None, data: str | None, changes: str | None, weights: str | None = None,
    layer: str | None = None, channels: str | None = None, *, gif: bool = False,
) -> Request:  # fmt: skip
    """A drawing of classes, prompts or channels of a layer, or an unconditional one.

    recipe: None for the default of the subject. channels: "3 17"; none for the layer as a whole.
    """
    values = {
        "recipe": recipe,
        **_subject(classes, prompts),
        **_layer(layer, channels),
        **({"gif": True} if gif else {}),
    }
    return _checked(Request("generate", "generate", values), model, n, steps, seed, data, changes, weights)


def photo_request(
    task: str, photo: Any, mask: Any, box: Sequence[int] | None, style: Any, model: str | None,
    classes: Sequence[str], prompts: str | None, n: float | None, steps: float | None, seed: float | None,
    data: str | None, changes: str | None, weights: str | None = None,
) -> Request:  # fmt: skip
    """A task on a photo (3,H,W) in [0,1]. mask: (H,W) of 0 and 1.

    Settings that the task does not take are dropped, since their fields are hidden; a mask is seen, and refused.
    """
    if mask is not None and not takes(task, "mask"):
        raise UserError(f"{task} may change the whole photo; clear the mask, or choose Edit or Inpaint")
    values: dict[str, Any] = {"photo": photo, "mask": mask, "box": box, "style": style, **_subject(classes, prompts)}
    values = {name: value for name, value in values.items() if takes(task, "classes" if name == "prompts" else name)}
    if task == "inpaint" and (values["classes"] or values["prompts"]):
        values["recipe"] = "edit"
    if task == "style" and style is None:
        raise UserError("no style picture was given; choose one")
    return _checked(Request("photo", task, values), model, n, steps, seed, data, changes, weights)


def _subject(classes: Sequence[str], prompts: str | None) -> dict[str, Any]:
    return {"classes": list(classes) or None, "prompts": list(read_lines(prompts)) or None}


def _layer(layer: str | None, channels: str | None) -> dict[str, Any]:
    """Left out where there is none: the other settings may name one."""
    name, numbers = (layer or "").strip(), (channels or "").replace(",", " ").split()
    if numbers and not name:
        raise UserError("a channel is one of a layer; fill in Layer, or clear Channel")
    if not all(re.fullmatch(r"\d+(-\d+)?|all", number) for number in numbers):
        raise UserError(f"channel {channels!r}: type whole numbers, such as 3 17, a range such as 0-15, or all")
    return {"layer": name, **({"channels": numbers} if numbers else {})} if name else {}


def explain_request(
    model: str | None, data: str | None, classes: Sequence[str], n: float | None, real: float | None,
    steps: float | None, seed: float | None, weights: str | None = None,
) -> Request:  # fmt: skip
    """An audit of a classifier, by portraits of its classes beside labelled real pictures. Raises UserError."""
    if not (model or "").strip():
        raise UserError("no model was chosen; choose one, such as bundled:cifar10-resnet")
    if not (data or "").strip():
        raise UserError("no real pictures were given; fill in the path of a labelled folder or parquet file")
    values = {"model": model, "data": str(data).strip(), "classes": list(classes) or None}
    values |= {"n": number("Portraits", n, 2), "real": number("Maximum real pictures", real, REAL_AT_LEAST)}
    values |= {"steps": number("Steps", steps, 0) or None, "seed": number("Seed", seed, 0, unset=0)}
    values |= {"weights": (weights or "").strip() or None}
    found = Request("explain", "explain", {name: value for name, value in values.items() if value is not None})
    found.check()
    return found


def _checked(
    request: Request, model: str | None, n: float | None, steps: float | None, seed: float | None, data: str | None,
    changes: str | None, weights: str | None,
) -> Request:  # fmt: skip
    """The request with the settings common to all drawings, validated. Raises UserError for invalid settings."""
    if not (model or "").strip():
        raise UserError("no model was chosen; choose one, such as bundled:cifar10-resnet")
    numbers = {"n": number("Count", n, 1, COUNT_AT_MOST, unset=1), "seed": number("Seed", seed, 0, unset=0)}
    numbers |= {"steps": number("Steps", steps, 0) or None}
    files = {"data": (data or "").strip() or None, "weights": (weights or "").strip() or None}
    common = {"model": model, **files, **numbers}
    values = {**request.values, **common, **read_changes(request.task, changes)}
    found = replace(request, values=values)
    found.check()
    return found


def refuse_foreign(settings: Mapping[str, Any]) -> None:
    """Raise UserError for a file or Python code in the settings of a form that was not allowed at the start."""
    refuse_files(settings, "the form")  # first: the files that settings name are read for the code in them
    refuse_code(settings, "the form")


def refuse_code(settings: Mapping[str, Any], named_by: str) -> None:
    """Raise UserError for Python code in settings, or in the files that they name, that may not run here."""
    for who, tables in [(named_by, settings), *_read_files(settings)]:
        for address in registry.addresses_in(tables, without=WORDS):
            registry.refuse_code(address, str(who))


def _read_files(settings: Mapping[str, Any]) -> Iterator[tuple[Path, Any]]:
    """What stands in the files that settings name: the cards of models of ours, a recipe.

    One that cannot be read is left out: who reads it for its own sake says what is wrong with it.
    """
    model = settings.get("model")
    for named in (model.get("address") if isinstance(model, Mapping) else model, settings.get("flow")):
        path = at_home(named) if isinstance(named, str) else Path()
        for card in (path, *(path / name for name in CARDS)):
            with suppress(OSError, UserError):
                if card.suffix == ".json":
                    yield card, read_table(card)
    own = settings.get("settings")
    recipe = Path(str((own if isinstance(own, Mapping) else settings).get("recipe")))
    with suppress(OSError, UserError):
        if recipe.suffix == ".toml":
            yield recipe, read_toml(recipe)


def number(label: str, given: float | None, least: int, most: int | None = None, *, unset: int | None = None) -> Any:
    """The whole number of a field. unset: of an empty field. Raises UserError for one outside of its bounds."""
    if given is None:
        return unset
    if not float(given).is_integer() or given < least or (most is not None and given > most):
        bounds = f"{least} or more" if most is None else f"{least} to {most}"
        raise UserError(f'"{label}" is {given:g}; fill in a whole number, {bounds}')
    return int(given)


def read_changes(task: str, text: str | None) -> dict[str, Any]:
    """Parse lines of NAME=VALUE to settings by name. Raises UserError."""
    pairs = [[part.strip() for part in line.partition("=")] for line in read_lines(text)]
    spoken = parsed_changes(config_of(task), ["".join(pair) for pair in pairs])
    if "seed" in spoken:
        raise UserError("the seed has its own field; remove it from the other settings")
    return spoken


def read_lines(text: str | None) -> tuple[str, ...]:
    """The non-empty lines of a text."""
    return tuple(line.strip() for line in (text or "").splitlines() if line.strip())


def read_box(text: str | None) -> tuple[int, ...] | None:
    """Parse "8 8 20 20" to (8, 8, 20, 20); None for no text. Raises UserError unless it is four whole numbers."""
    parts = (text or "").replace(",", " ").split()
    if not parts:
        return None
    if len(parts) != 4 or not all(part.isdecimal() for part in parts):
        raise UserError(f"box {text!r}: type left, top, right and bottom in pixels, such as 8 8 20 20")
    return tuple(map(int, parts))
