"""The run folders below one folder: listing, pictures and reports, and the form that made a run.

A requested name is looked up in the listing; no path is ever built from a request.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bothways.configs import Config
from bothways.report import render
from bothways.report.share.pages import shared_files
from bothways.runs import PHOTOS, RunFolder
from bothways.runs.files import dotted
from bothways.runs.numbered import LATEST
from bothways.studio.requests import CARDS, config_of, photo_tasks, refuse_code
from bothways.tasks.recipes import configure
from bothways.types import UserError

DEEP = 3  # levels searched for run folders, such as runs/demo/das
# Settings that have a field in the form, or are contained in the terms.
OWN_FIELDS = ("recipe", "n", "ascent.steps", "seed", "objectives")


@dataclass(frozen=True)
class Form:
    """The values of a form. task: generate or one on photos. changes: lines of NAME=VALUE."""

    task: str
    model: str
    classes: tuple[str, ...]
    prompts: tuple[str, ...]
    recipe: str
    n: int
    steps: int
    seed: int
    data: str
    changes: str
    layer: str | None = None
    channels: tuple[int, ...] = ()
    gif: bool = False
    weights: str = ""


@dataclass(frozen=True)
class Shelf:
    """The run folders below ``root``."""

    root: Path

    def runs(self) -> dict[str, RunFolder]:
        """{name: folder}, newest first, without folders that a link leads outside ``root``."""
        levels = ["*/" * depth + "recipe.toml" for depth in range(1, DEEP + 1)]
        files = [file for level in levels for file in self.root.glob(level) if self._holds(file) and file.is_file()]
        files = [file for file in files if file.relative_to(self.root).parts[0] != LATEST]  # a second name of a run
        newest = sorted(files, key=lambda file: file.stat().st_mtime, reverse=True)
        return {file.parent.relative_to(self.root).as_posix(): RunFolder(file.parent) for file in newest}

    def run(self, name: str) -> RunFolder:
        """The run of that name. Raises UserError if there is none."""
        runs = self.runs()
        if name not in runs:
            raise UserError(f"there is no run {name!r} in {self.root}; choose one of the list")
        require_plain(runs[name])
        return runs[name]

    def form(self, name: str) -> Form:
        """The form that made a run. Raises UserError as ``form_of`` does, and for Python code that may not run here."""
        folder = self.run(name)
        refuse_code(folder.settings, str(folder.path / "recipe.toml"))
        return form_of(folder.settings)

    def picture(self, name: str, folder: str, file: str) -> Path:
        """The path of a PNG of a run, from its pictures or photos. Raises UserError for any other file."""
        place = self.run(name).path / folder
        found = {path.name: path for path in place.glob("*.png")} if folder in ("images", PHOTOS) else {}
        if file not in found or not self._holds(found[file]):
            raise UserError(f"the run {name!r} has no picture {folder}/{file}")
        return found[file]

    def shared(self, name: str) -> list[Path]:
        """The files of a run to be shown to others; not the atlas, which needs the pictures beside it."""
        return [path for path in shared_files(self.run(name).path) if path.suffix != ".html" and self._holds(path)]

    def download(self, name: str, file: str) -> Path:
        """One of these files. Raises UserError for any other."""
        found = {path.name: path for path in self.shared(name)}
        if file not in found:
            raise UserError(f"the run {name!r} has no file {file} to download")
        return found[file]

    def report(self, names: list[str]) -> str:
        """The current report of one or several runs, as HTML."""
        return render([self.run(name) for name in names])

    def flows(self) -> list[str]:
        """The paths of the runs that hold a flow."""
        runs = self.runs().values()
        return [str(run.path) for run in runs if any((run.path / name).is_file() for name in CARDS)]

    def _holds(self, path: Path) -> bool:
        with suppress(OSError, ValueError, RuntimeError):  # links that lead in a circle
            return path.resolve().is_relative_to(self.root.resolve())
        return False


def require_plain(folder: RunFolder) -> None:
    """Raise UserError where a run folder holds a pipe or a device: to read one might never end."""
    for path in folder.path.rglob("*"):
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UserError(f"{path} is no plain file, so nothing of its folder is read; remove it")


def form_of(recipe: Mapping[str, Any]) -> Form:
    """The form values of a run, from its recipe.toml. Raises UserError for a run that is not a drawing."""
    settings, drawn, task = recipe.get("settings", {}), recipe.get("drawn"), str(recipe.get("task"))
    if drawn is None or "recipe" not in settings:
        raise UserError("this run is not a drawing, so no form fits it; choose a run that drew pictures")
    usual, own = dotted(_usual(task, settings["recipe"]).model_dump(exclude={"photo", "style"})), dotted(settings)
    fields = (*OWN_FIELDS, "share.gif") if task == "generate" else OWN_FIELDS
    changes = {key: value for key, value in own.items() if key not in fields and usual.get(key) != value}
    return Form(
        task=task,
        model=recipe.get("model", {}).get("address", ""),
        classes=tuple(drawn.get("classes", ())),
        prompts=tuple(drawn.get("prompts", ())),
        recipe=settings["recipe"],
        n=settings["n"],
        steps=own["ascent.steps"],
        seed=settings["seed"],
        data=drawn.get("data", ""),
        changes="\n".join(f"{key}={_spoken(value)}" for key, value in changes.items()),
        layer=drawn.get("layer"),
        channels=tuple(drawn.get("channels", ())),
        gif=bool(own.get("share.gif")),
        weights=drawn.get("weights", ""),
    )


def _usual(task: str, recipe: str) -> Config:
    """The unchanged settings of a recipe."""
    given = {"model": "", "photo": "", "style": ""} if task in photo_tasks().values() else {}
    needed = {name: text for name, text in given.items() if config_of(task).model_fields[name].is_required()}
    return configure(config_of(task), recipe=recipe, **needed)


def _spoken(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
